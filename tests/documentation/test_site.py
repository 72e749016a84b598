"""The site of all pages is built without a warning, has the API reference, and fetches nothing from elsewhere."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.documentation.pages import ROOT

FETCHED = re.compile(r'<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)="(?:https?:)?//[^"]+"')


def build(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    """Run mkdocs as `make docs` does, with further arguments."""
    shown = subprocess.run(["make", "--dry-run", "docs"], cwd=ROOT, capture_output=True, text=True, check=True)
    [line] = [line for line in shown.stdout.splitlines() if "mkdocs build" in line]
    command = ["env", *shlex.split(line), *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    answer = build("--site-dir", folder)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return folder


@pytest.mark.parametrize(
    ("page", "complaint"),
    [
        ("# Title\n\n[there](#title)\n", None),
        ("# Title\n\n[nowhere](#subtitle)\n", "no such anchor"),
        ("# Title\n\n[nowhere](elsewhere.md)\n", "not found among documentation files"),
    ],
)
def test_a_link_that_leads_nowhere_fails_the_build(tmp_path: Path, page: str, complaint: str | None) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text(page)
    inherited = f"INHERIT: {os.path.relpath(ROOT / 'mkdocs.yml', tmp_path)}\n"
    (tmp_path / "mkdocs.yml").write_text(f"{inherited}docs_dir: docs\nplugins: []\nnav: [index.md]\n")
    answer = build("--config-file", tmp_path / "mkdocs.yml", "--site-dir", tmp_path / "site")
    assert (answer.returncode == 0) is (complaint is None), answer.stdout + answer.stderr
    assert complaint is None or complaint in answer.stderr


def test_the_reference_has_docstrings_with_their_examples(site: Path) -> None:
    page = (site / "reference" / "extender.html").read_text()
    assert 'id="extender.decision.rank"' in page
    assert "Order the nodes by their best candidate" in page
    assert "extender.decision._" not in page


def test_the_reference_has_every_module_that_a_page_names_for_its_fields(site: Path) -> None:
    shown = "".join((site / "reference" / f"{name}.html").read_text() for name in ("extender", "training"))
    named = {
        found.removesuffix(".py").replace("/", ".")
        for page in (ROOT / "docs").rglob("*.md")
        for found in re.findall(r"\bextender/telemetry/\w+\.py\b", page.read_text())
    } | {f"training.algorithms.{name}" for name in ("es", "ppo", "dqn", "sac")}
    assert {"extender.telemetry.verdict", "extender.telemetry.decision_records"} <= named
    assert [name for name in sorted(named) if f'id="{name}"' not in shown] == []
    assert 'id="training.cycle.' in shown
    assert 'id="training.monitor.' in shown


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        canonical = page.read_text().replace('<link rel="canonical"', "")
        assert FETCHED.findall(canonical) == [], page
