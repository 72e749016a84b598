"""The chart with the values that the pages for people give it."""

from itertools import pairwise
from pathlib import Path

import pytest

from tests.chart.rendering import ROOT, run_helm
from tests.documentation.pages import pages, statements

pytestmark = pytest.mark.cluster

SETTERS = {"--set", "--set-json"}
COMMANDS = [
    call
    for page in pages()
    for statement in statements(page)
    for call in statement.calls
    if call[:2] in (["helm", "install"], ["helm", "upgrade"])
]


def test_a_command_in_a_page_is_taken_by_the_chart_which_warns_of_nothing(helm: Path) -> None:
    told = {}
    for command in COMMANDS:
        given = [word for pair in pairwise(command) if pair[0] in SETTERS for word in pair]
        told[" ".join(command)] = run_helm(helm, "install", "stowage", ROOT, "--dry-run=client", *given)
    assert [command for command, said in told.items() if "WARNING" in said.partition("\nNOTES:\n")[2]] == []
