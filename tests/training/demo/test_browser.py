"""The pages as people meet them: on a desk and on a phone, in light and in dark, with a policy of their own.

With STOWAGE_PICTURES=DIR the pictures of docs/ are taken on the way (`make pictures`).
"""

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from extender.policies.bundled import policy_path
from tests.conftest import unavailable
from tests.training.demo.browser import chromium, demo, find_chromium
from training.evaluation.curve import CurvePoint
from training.recorder import CURVE_FILE, write_curve

COMPILING_MS = 600_000  # the first cluster compiles the simulator, where no test did before
DESK, PHONE = (1280, 1120), (390, 844)
COLOURS = 160  # of the pictures in docs/: few, so that they are small


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "runs"
    (folder / "first").mkdir(parents=True)
    curve = [CurvePoint(1000 * step, step, -50.0 + step, 60.0 - step) for step in range(1, 30)]
    write_curve(folder / "first" / CURVE_FILE, curve)
    return folder


@pytest.fixture(scope="module")
def address(runs: Path) -> Iterator[str]:
    with demo(runs, runs.with_name("log")) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    executable = find_chromium()
    if executable is None:
        unavailable("no Chromium on the PATH; `make browser` installs Debian's")
    with chromium(executable) as found:
        yield found


def opened(browser: Browser, size: tuple[int, int], scheme: Any = "light") -> tuple[Page, set[str]]:
    """A page, and the hosts that it ever asks for anything."""
    page = browser.new_page(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
    page.set_default_timeout(COMPILING_MS)
    hosts: set[str] = set()
    page.on("request", lambda request: hosts.add(urlsplit(request.url).hostname or ""))
    return page, hosts


def take_picture(page: Page, name: str) -> None:
    folder = os.environ.get("STOWAGE_PICTURES")
    if folder:
        page.wait_for_timeout(800)  # until charts have been drawn
        picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB").quantize(COLOURS, Image.Quantize.FASTOCTREE)
        picture.save(Path(folder) / f"demo-{name}.png", optimize=True)


def assert_nothing_sticks_out(page: Page) -> None:
    width = page.evaluate("innerWidth")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    beyond = """width => [...document.querySelectorAll('[data-testid=stMain] *')]
        .filter(each => each.getBoundingClientRect().right > width + 1).map(each => each.outerHTML.slice(0, 200))"""
    assert page.evaluate(beyond, width) == []


@pytest.mark.parametrize(("path", "title"), [("runs", "Runs"), ("side-by-side", "Side by side")])
def test_any_page_may_be_the_first_one_of_a_new_server(
    browser: Browser, runs: Path, tmp_path: Path, path: str, title: str
) -> None:
    with demo(runs, tmp_path / "log") as cold:
        page, _ = opened(browser, DESK)
        page.goto(f"{cold}/{path}")
        page.get_by_role("heading", name=title, level=1).wait_for()  # nothing has been imported yet, that takes long
        assert page.get_by_test_id("stTopNavLink").all_inner_texts()[-1].endswith("Runs")
        page.close()


def test_a_decision_is_explained_and_the_cluster_goes_on(browser: Browser, address: str) -> None:
    page, hosts = opened(browser, DESK)
    page.goto(address)
    page.locator(".sw-grid").wait_for()
    assert page.locator(".sw-node").count() == 32
    assert page.locator(".sw-best").count() == 1
    before = page.get_by_text("It fits on").inner_text()
    page.get_by_role("tab", name="Why").click()
    expect(page.get_by_text("add up to the score")).to_be_visible()
    take_picture(page, "cluster")
    page.get_by_role("button", name="10 on").click()
    expect(page.get_by_text("It fits on")).not_to_have_text(before)
    assert_nothing_sticks_out(page)
    assert hosts == {"127.0.0.1"}
    page.close()


def test_an_upload_is_verified_by_the_extender(browser: Browser, address: str) -> None:
    page, _ = opened(browser, DESK)
    page.goto(address)
    field = page.locator("input[type=file]")
    field.wait_for(state="attached")
    name = "we *ird* [a](http://x).onnx"  # no emphasis, no link
    field.set_input_files({"name": name, "mimeType": "application/octet-stream", "buffer": b"no graph"})
    expect(page.get_by_text(f"The extender refuses {name}: not a graph in an ONNX file")).to_be_visible()
    good = policy_path("bundled:packing").read_bytes()
    field.set_input_files({"name": "mine.onnx", "mimeType": "application/octet-stream", "buffer": good})
    expect(page.get_by_text("mine.onnx is a policy that the extender serves")).to_be_visible()
    page.close()


def test_policies_meet_side_by_side(browser: Browser, address: str) -> None:
    page, _ = opened(browser, PHONE, "dark")
    page.goto(f"{address}/side-by-side")
    page.get_by_role("button", name="Play").click()
    page.get_by_text("brackets are 95 % intervals").wait_for()
    expect(page.locator(".js-plotly-plot")).to_be_visible()
    assert_nothing_sticks_out(page)
    take_picture(page, "side-by-side-phone")
    page.close()


@pytest.mark.parametrize("path", ["", "runs"])
def test_a_phone_is_wide_enough(browser: Browser, address: str, path: str) -> None:
    page, hosts = opened(browser, PHONE)
    page.goto(f"{address}/{path}")
    page.locator(".js-plotly-plot").first.wait_for()
    assert_nothing_sticks_out(page)
    assert hosts == {"127.0.0.1"}
    page.close()
