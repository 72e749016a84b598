"""The pages in a real Chromium, which may talk to this machine only."""

import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, expect, sync_playwright

from training.processes import stop

NAMES = ("chromium", "chromium-browser", "google-chrome")
START_SECONDS = 240.0
APPEARS_MS = 120_000  # a chart is drawn after its text; Playwright's 5 s are too few on a machine that does other work
# As root there is no sandbox; without the others a browser looks for updates at every start.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def find_chromium() -> str | None:
    """The machine's Chromium; None if it has none."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


@contextmanager
def chromium(executable: str) -> Iterator[Browser]:
    """A headless Chromium; what a test expects of its pages may take two minutes to appear."""
    expect.set_options(timeout=APPEARS_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=list(FLAGS), timeout=APPEARS_MS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def demo(runs: Path, log: Path) -> Iterator[str]:
    """`python -m training.demo` on a free port; yields its address once it answers.

    Raises:
        TimeoutError: it did not answer in time; the message holds what it printed.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "training.demo", "--port", str(port), "--runs", str(runs)]
    with log.open("w") as output, subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT) as process:
        try:
            _wait(f"http://127.0.0.1:{port}", process, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            stop(process)


def _wait(address: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback needs no proxy
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        try:
            with direct.open(f"{address}/_stcore/health", timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    raise TimeoutError(f"the demo did not answer within {START_SECONDS:.0f} s; it printed:\n{log.read_text()}")
