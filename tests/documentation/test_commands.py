"""Every command in the pages for people works: it is run as it stands, or named with the test that does the same."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.documentation.elsewhere import ELSEWHERE, Elsewhere
from tests.documentation.flags import check_call
from tests.documentation.pages import ROOT, Statement, blocks, pages, statements

STATEMENTS = [statement for page in pages() for statement in statements(page)]
LIMIT_SECONDS = 800.0  # where nothing is compiled yet, on a busy machine
SHELL_WORDS = {"cat", "mkdir", "cd", "source"}  # they need no check of their own
PATCHED = "extender/features.py"


def elsewhere(statement: Statement) -> Elsewhere | None:
    """What stands for the statement, if it is not run as it stands."""
    for call in statement.calls:
        for entry in ELSEWHERE:
            if re.search(entry.pattern, " ".join(call)):
                return entry
    return None


RUN = {
    page: [each for each in STATEMENTS if each.page == page and elsewhere(each) is None]
    for page in dict.fromkeys(each.page for each in STATEMENTS)
}


@pytest.mark.parametrize("statement", STATEMENTS, ids=lambda each: f"{each.page}: {each.text.splitlines()[0][:70]}")
def test_a_command_line_is_one_that_its_program_takes(statement: Statement) -> None:
    for call in statement.calls:
        known = check_call(call)
        assert known or call[0] in SHELL_WORDS or elsewhere(statement) or call[0] == "python"


@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", [page for page, runnable in RUN.items() if runnable])
def test_a_page_can_be_followed_literally(page: str, tmp_path: Path) -> None:
    script = "\n".join(["set -euo pipefail", *(statement.text for statement in RUN[page])])
    binaries = Path(sys.executable).parent
    (tmp_path / ".venv").symlink_to(binaries.parent)
    environment = os.environ | {"PATH": f"{binaries}:{os.environ['PATH']}", "PYTHONPATH": ""}
    answer = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
    )
    assert answer.returncode == 0, f"{answer.stdout[-3000:]}\n{answer.stderr[-3000:]}"


@pytest.mark.parametrize("entry", ELSEWHERE, ids=lambda entry: entry.pattern)
def test_what_is_not_run_as_it_stands_is_tested_where_the_table_says(entry: Elsewhere) -> None:
    if entry.proof.startswith("make "):
        target = entry.proof.removeprefix("make ")
        assert re.search(rf"\bstep {target}( |$)", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
        return
    file, _, name = entry.proof.partition("::")
    assert (ROOT / file).exists()
    assert not name or f"def {name}(" in (ROOT / file).read_text()


def test_commands_are_for_a_shell_that_the_first_pages_have_activated() -> None:
    active = "source .venv/bin/activate"
    assert [page.name for page in pages() if ".venv/bin/" in page.read_text().replace(active, "")] == []
    for name in ("README.md", "CONTRIBUTING.md", "docs/index.md"):
        assert active in [statement.text for statement in statements(ROOT / name)]


def test_no_line_of_the_table_is_dead() -> None:
    calls = [" ".join(call) for statement in STATEMENTS for call in statement.calls]
    dead = [entry.pattern for entry in ELSEWHERE if not any(re.search(entry.pattern, call) for call in calls)]
    assert dead == []


def test_the_guides_own_feature_is_computed_and_named(tmp_path: Path) -> None:
    [patch] = blocks(ROOT / "docs" / "researchers.md", "diff")
    source = (ROOT / PATCHED).read_text()
    for hunk in patch.split("@@\n")[1:]:
        lines = hunk.splitlines()
        before = "\n".join(line[1:] for line in lines if line[0] == " " or line[0] == "-")
        after = "\n".join(line[1:] for line in lines if line[0] == " " or line[0] == "+")
        assert source.count(before) == 1, before
        source = source.replace(before, after)
    (tmp_path / "patched_features.py").write_text(source)
    check = (
        "import numpy as np; import patched_features as features\n"
        "from extender.fragmentation import fragmentation_tables\n"
        "from extender.placement import Candidates, empty_nodes, pod_request\n"
        "from extender.policies.heuristics import NO_TYPICAL_PODS\n"
        "names = features.feature_names(('cpu', 'memory', 'gpu'))\n"
        "nodes = empty_nodes(np.array([[8000, 64 * 1024**3, 0]]), np.array([0]))\n"
        "pod = pod_request(np.array([1000, 8 * 1024**3, 0]))\n"
        "candidates = Candidates(np.array([0]), np.array([-1]))\n"
        "row = features.placement_features(nodes, pod, candidates, fragmentation_tables(NO_TYPICAL_PODS))[0]\n"
        "assert len(row) == len(names) and names[-1] == 'pod/memory-per-core' and row[-1] == 0.5, (names, row)\n"
    )
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    subprocess.run([sys.executable, "-c", check], check=True, env=environment, timeout=LIMIT_SECONDS)
