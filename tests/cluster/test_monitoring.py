"""The dashboard and the alert rules, as Prometheus itself reads them."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.cluster.tools.build import BuildError, Tool, ToolchainError, build, go_version
from tests.conftest import unavailable
from tests.monitoring.expressions import ALERTS, alerts, dashboard

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]  # what it is built from takes minutes the first time


@pytest.fixture(scope="module")
def rulecheck(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, built from Go's own cache where it can."""
    folder = tmp_path_factory.mktemp("rulecheck")
    try:
        go_version("1.36")
        build(Tool("rulecheck", "rulecheck", "."), folder)
    except (ToolchainError, BuildError) as error:
        unavailable(str(error))
    return folder / "rulecheck"


def test_rules_and_panels_are_expressions_of_prometheus(rulecheck: Path, tmp_path: Path) -> None:
    panels = [{"record": f"panel:{number}", "expr": each} for number, each in enumerate(dashboard().values())]
    (tmp_path / "panels").write_text(json.dumps({"groups": [{"name": "dashboard", "rules": panels}]}))
    done = subprocess.run([rulecheck, ALERTS, tmp_path / "panels"], capture_output=True, text=True, timeout=180.0)

    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(len(alerts())), str(len(panels))]


def test_what_is_no_expression_is_noticed(rulecheck: Path, tmp_path: Path) -> None:
    rules = [{"record": "r", "expr": "sum(rate(stowage_nodes[5m])"}]
    (tmp_path / "rules").write_text(json.dumps({"groups": [{"name": "g", "rules": rules}]}))

    assert subprocess.run([rulecheck, tmp_path / "rules"], capture_output=True, timeout=180.0).returncode == 1
