"""A replay on the cluster's real node: containers run there, and are gone afterwards."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.api import NODES, Api
from tests.cluster.kind.application_image import NAME as IMAGE
from tests.cluster.kind.cluster import KindCluster

pytestmark = [pytest.mark.kind, pytest.mark.timeout(900)]

SELECTOR = "node-role.kubernetes.io/control-plane"
PODS = 50


def test_pods_run_on_the_real_node_as_long_as_they_are_to(cluster: KindCluster, api: Api, tmp_path: Path) -> None:
    (tmp_path / "nodes.csv").write_text("name,cpu,memory\nelsewhere,4,8Gi\n")
    pods = "".join(f"pod-{number},{number},{60 + number},{100 + number}m,16Mi\n" for number in range(PODS))
    (tmp_path / "pods.csv").write_text("name,arrival,duration,cpu,memory\n" + pods)
    (before,) = api.get(f"{NODES}?labelSelector={SELECTOR}")["items"]
    replay = subprocess.run(
        [
            *(sys.executable, "-m", "training.replay", f"--kubeconfig={cluster.kubeconfig}", "--among-foreign"),
            *(f"--real-nodes={SELECTOR}", f"--image={IMAGE}", "--schedulers=default-scheduler"),
            *("--workload=csv", f"--path={tmp_path}", f"--pods={PODS}", "--seeds=1", "--load=0.5", "--speed=20"),
            f"--out={tmp_path / 'results'}",
        ],
        env=os.environ | {"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=600,
    )

    assert replay.returncode == 0, replay.stdout + replay.stderr
    evaluated = json.loads((tmp_path / "results" / "evaluation.json").read_text())
    assert evaluated["policies"]["default-scheduler"]["success_rate"] == 1.0
    (run,) = evaluated["replay"]
    assert run["limits"]["failed"] == 0
    assert run["limits"]["overrun_mean"] > 0  # containers take their time to start
    (kept,) = (tmp_path / "results" / "runs").iterdir()
    assert json.loads(kept.read_text())["records"]["node"] == [0] * PODS
    (after,) = api.get(f"{NODES}?labelSelector={SELECTOR}")["items"]
    assert (after["metadata"]["labels"], after["spec"]) == (before["metadata"]["labels"], before["spec"])
    assert "stowage.dev/replay" not in json.dumps(api.list_pods())
