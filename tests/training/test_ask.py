from pathlib import Path

import pytest

from extender.policies.heuristics import HEURISTICS
from tests.training.small_workloads import openb_like
from training.ask import AskError, ask_extender, half_full_cluster
from training.workloads.base import Workload


def workload(pods: int = 200) -> Workload:
    return openb_like(10, pods, 0.8, 3)


def test_the_cluster_is_half_full_and_the_offered_nodes_have_room() -> None:
    objects, pending, names = half_full_cluster(workload(), HEURISTICS["best-fit"])
    nodes = [entry for entry in objects if entry["kind"] == "Node"]
    pods = [entry for entry in objects if entry["kind"] == "Pod"]
    assert len(nodes) == 10
    assert len(pods) > 0
    assert all("nodeName" in pod["spec"] for pod in pods)
    assert "nodeName" not in pending["spec"]
    assert 2 <= len(names) <= 10


def test_an_extender_that_does_not_start_is_reported_with_what_it_printed(tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a graph")
    with pytest.raises(AskError, match=r"broken"):
        ask_extender(broken, HEURISTICS["best-fit"], workload())
