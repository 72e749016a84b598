"""A short soak: 42 seconds in which everything around the extender changes, and no request fails."""

from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.soak.__main__ import parse, soak

pytestmark = pytest.mark.cluster


def test_no_request_fails_while_nodes_pods_policies_and_the_api_server_change(tools: Path, tmp_path: Path) -> None:
    arguments = "--minutes 0.7 --rate 100 --nodes 200 --candidates 130 --backlog 300 --pods 5 --swap-seconds 3"
    given = parse(
        [*arguments.split(), "--restarts", "1", "--down-seconds", "3", "--assume-ttl", "5", "--answer-seconds", "30"]
    )

    seen = soak(given, tools, tmp_path, Console(quiet=True))

    assert seen.failures == []
    assert len(seen.answers) == 4200
    assert seen.disturbances["API server kills"] == 1
    assert min(seen.disturbances[f"nodes {what}"] for what in ("changed", "joined", "left")) > 5
    assert min(seen.disturbances[f"pods {what}"] for what in ("created", "bound")) > 20
    assert min(seen.swaps[what] for what in ("served", "refused", "rolled_back")) > 0
    assert {"candidates seen shadow", "candidates seen canary"} & seen.disturbances.keys()
    assert seen.rungs["policy"] > 0
    assert seen.differences == []
