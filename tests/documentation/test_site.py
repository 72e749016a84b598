"""The site of all pages is built without a warning, has the API reference, and fetches nothing from elsewhere."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.documentation.pages import ROOT

FETCHED = re.compile(r'<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)="(?:https?:)?//[^"]+"')


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [str(Path(sys.executable).parent / "mkdocs"), "build", "--quiet", "--strict", "--site-dir", str(folder)]
    answer = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, timeout=600
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return folder


def test_the_reference_has_docstrings_with_their_examples(site: Path) -> None:
    page = (site / "reference" / "extender.html").read_text()
    assert 'id="extender.decision.rank"' in page
    assert "Order the nodes by their best candidate" in page
    assert "extender.decision._" not in page


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        canonical = page.read_text().replace('<link rel="canonical"', "")
        assert FETCHED.findall(canonical) == [], page
