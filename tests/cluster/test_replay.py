"""A replay leaves results and nothing else behind, whatever happens to it, with the rights that its ClusterRole has."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from extender.placement import CPU
from tests.cluster.api import NODES, PODS
from tests.cluster.kwok import is_ready, make_node, node_shapes
from tests.cluster.processes import wait_for
from tests.cluster.replay_cluster import ReplayCluster, run_replay_cluster
from tests.cluster.testbed import MANIFESTS
from tests.cluster.workload import make_pod
from training.replay.api import connect
from training.replay.real_nodes import find_real_nodes
from training.workloads.base import BASE_RESOURCES

pytestmark = pytest.mark.cluster

MARKED = "labelSelector=stowage.dev%2Freplay"
COLLECTIONS = (
    "/api/v1/nodes",
    "/api/v1/pods",
    "/apis/scheduling.k8s.io/v1/priorityclasses",
    "/apis/coordination.k8s.io/v1/leases",
)
LEASE = "/apis/coordination.k8s.io/v1/namespaces/default/leases/stowage-replay"
LONG_AGO = {"spec": {"renewTime": "2026-01-01T00:00:00.000000Z"}}
LIMIT_SECONDS = 300
CORDONED = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
SMALL = ("--workload", "synthetic", "--nodes", "12", "--pods", "120", "--load", "0.7", "--speed", "200", "--seeds", "1")
PATIENT = (*SMALL, "--drain", "60000")  # a busy machine is slow to end pods, and some wait for that
LONG = (*SMALL, "--speed", "20")  # of which nobody waits for the end


@pytest.fixture(scope="module")
def cluster(tools: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplayCluster]:
    """A control plane with KWOK, kube-scheduler as it is shipped, and the one with the extender."""
    with run_replay_cluster(tools, tmp_path_factory.mktemp("replay")) as cluster:
        yield cluster


def start(cluster: ReplayCluster, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "training.replay", "--namespace", "default", *arguments],
        env=os.environ | {"KUBECONFIG": str(cluster.replayer)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(cluster: ReplayCluster, *arguments: str) -> tuple[int, str, str]:
    """Its exit code, output and errors."""
    process = start(cluster, *arguments)
    try:
        output, errors = process.communicate(timeout=LIMIT_SECONDS)
    finally:
        process.kill()
    return process.returncode, output, errors


def left_behind(cluster: ReplayCluster) -> list[str]:
    return [item["metadata"]["name"] for path in COLLECTIONS for item in cluster.api.get(f"{path}?{MARKED}")["items"]]


def wait_for_pods(cluster: ReplayCluster) -> None:
    wait_for(lambda: len(cluster.api.get(f"{PODS}?{MARKED}")["items"]) > 5, LIMIT_SECONDS, "the first pods", 0.2)


def test_both_schedulers_are_replayed_measured_and_compared_with_the_simulator(
    cluster: ReplayCluster, tmp_path: Path
) -> None:
    arguments = (*PATIENT, "--compare-simulator", "--out", str(tmp_path))

    code, output, errors = run(cluster, *arguments)

    assert code == 0, errors
    assert left_behind(cluster) == []
    found = json.loads((tmp_path / "evaluation.json").read_text())
    assert set(found["policies"]) == {"default-scheduler", "stowage"}
    assert all(metrics["success_rate"] == 1.0 for metrics in found["policies"].values())
    assert found["policies"]["stowage"]["gpu_allocation"] > 0.1
    for each in found["replay"]:
        assert each["limits"]["failed"] == 0
        assert each["limits"]["placing_median"] < 5
        assert abs(each["limits"]["skew_low"]) < 5  # one machine, one clock
        assert abs(each["limits"]["watch_lag_median"]) < 5
    (kept,) = (tmp_path / "runs").glob("stowage-*.json")
    compared, agreed, *_ = json.loads(kept.read_text())["compared"]["decisions"]
    assert compared >= 40
    assert agreed >= 0.8 * compared  # on however busy a machine; docs/results/replay.md has what a quieter one gives
    for report in ("evaluation.md", "report.html"):
        text = (tmp_path / report).read_text()
        assert "The harness&#39;s own limits" in text or "The harness's own limits" in text
        assert "The simulator beside the cluster" in text

    code, output, errors = run(cluster, *arguments)

    assert code == 0, errors
    assert "2 runs, 2 of them played before" in output
    code, _, errors = run(cluster, *arguments, "--speed", "100")
    assert (code, "played with other settings" in errors) == (2, True), errors


@pytest.fixture
def batch_nodes(cluster: ReplayCluster) -> Iterator[list[str]]:
    """Nodes that are there without a replay, as real ones are, and one that a replay is not given."""
    shapes = node_shapes(MANIFESTS / "kwok" / "nodes.yaml")
    made = [(shapes["general"], "batch-2"), (shapes["general"], "batch-0"), (shapes["gpu-shared"], "batch-1")]
    for shape, name in (*made, (shapes["general"], "reserved-0")):
        node = make_node(shape, name)
        node["metadata"]["labels"]["pool"] = name.partition("-")[0]
        cluster.api.create(node)
    wait_for(lambda: all(map(is_ready, cluster.api.list_nodes())), LIMIT_SECONDS, "nodes to be ready", 0.2)
    yield ["batch-0", "batch-1", "batch-2"]
    for node in cluster.api.list_nodes():
        cluster.api.delete(f"{NODES}/{node['metadata']['name']}")


def test_real_nodes_are_used_as_far_as_they_are_free_and_left_as_they_were(
    cluster: ReplayCluster, batch_nodes: list[str], tmp_path: Path
) -> None:
    daemon = make_pod("daemon", {"cpu": "850m"}, scheduler="nobody")
    daemon["metadata"]["namespace"] = "kube-system"
    cluster.api.create(daemon | {"spec": daemon["spec"] | {"nodeName": "batch-2"}})
    before = {node["metadata"]["name"]: (node["metadata"]["labels"], node["spec"]) for node in cluster.api.list_nodes()}

    found = find_real_nodes(connect(cluster.replayer, None), "pool=batch", BASE_RESOURCES, "sleeper")
    code, output, errors = run(
        *(cluster, "--real-nodes", "pool=batch", "--workload", "synthetic", "--pods", "60", "--load", "0.5"),
        *("--speed", "600", "--drain", "60000", "--seeds", "1", "--schedulers", "stowage", "--out", str(tmp_path)),
    )

    assert list(found.names) == batch_nodes
    assert found.columns.allocatable[:, CPU].tolist() == [31850, 64000, 31000]
    assert found.columns.devices.tolist() == [0, 4, 0]
    assert code == 0, errors
    assert "using 3 nodes" in output
    evaluated = json.loads((tmp_path / "evaluation.json").read_text())
    assert all(metrics["success_rate"] == 1.0 for metrics in evaluated["policies"].values())
    for kept in (tmp_path / "runs").iterdir():
        placed = json.loads(kept.read_text())["records"]["node"]
        assert set(placed) <= {0, 1, 2}  # -1: on none of these nodes
        assert 1 in placed
    after = {node["metadata"]["name"]: (node["metadata"]["labels"], node["spec"]) for node in cluster.api.list_nodes()}
    assert after == before
    assert left_behind(cluster) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--real-nodes", "pool=none"), "no node of the cluster has the labels 'pool=none'"),
        (("--real-nodes", "pool==="), "--real-nodes pool===: GET /api/v1/nodes was answered 400"),
        (("--real-nodes", "pool=batch", "--nodes", "3"), "leave --nodes out"),
        (("--real-nodes", "pool=reserved"), "reserved-0"),
    ],
)
def test_nodes_that_cannot_be_used_are_refused(
    cluster: ReplayCluster, batch_nodes: list[str], tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    cluster.api.patch(f"{NODES}/reserved-0", {"spec": {"unschedulable": True, "taints": [CORDONED]}})

    code, _, errors = run(cluster, *arguments, "--workload", "synthetic", "--out", str(tmp_path))

    assert (code, message in errors) == (2, True), errors
    assert left_behind(cluster) == []


def test_an_interrupted_replay_removes_what_it_made(cluster: ReplayCluster, tmp_path: Path) -> None:
    process = start(cluster, *LONG, "--out", str(tmp_path))
    try:
        wait_for_pods(cluster)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=LIMIT_SECONDS)
    finally:
        process.kill()

    assert process.returncode == 130, errors
    assert "interrupted" in errors
    assert left_behind(cluster) == []
    assert not (tmp_path / "evaluation.json").exists()


def test_what_a_killed_replay_left_is_removed_once_it_is_known_to_be_dead(
    cluster: ReplayCluster, tmp_path: Path
) -> None:
    process = start(cluster, *LONG, "--out", str(tmp_path))
    try:
        wait_for_pods(cluster)
    finally:
        process.kill()
        process.communicate(timeout=LIMIT_SECONDS)

    for elsewhere in ((*PATIENT, "--namespace", "elsewhere", "--out", str(tmp_path / "next")), ("--clean-up",)):
        code, _, errors = run(cluster, *elsewhere)
        assert (code, "works in namespace default" in errors) == (2, True), errors
    assert len(left_behind(cluster)) > 12

    cluster.api.patch(LEASE, LONG_AGO)
    code, output, errors = run(cluster, *PATIENT, "--schedulers", "stowage", "--out", str(tmp_path / "next"))

    assert code == 0, errors
    assert "an earlier replay left" in output
    assert left_behind(cluster) == []


def test_clean_up_removes_what_is_left(cluster: ReplayCluster, tmp_path: Path) -> None:
    process = start(cluster, *LONG, "--out", str(tmp_path))
    try:
        wait_for_pods(cluster)
    finally:
        process.kill()
        process.communicate(timeout=LIMIT_SECONDS)

    cluster.api.patch(LEASE, LONG_AGO)
    code, _, errors = run(cluster, "--clean-up")

    assert code == 0, errors
    assert left_behind(cluster) == []


def test_a_cluster_with_pods_of_others_is_refused_unless_told_otherwise(cluster: ReplayCluster, tmp_path: Path) -> None:
    cluster.api.create(make_pod("somebody-elses", {"cpu": "1"}, scheduler="nobody"))
    try:
        code, _, errors = run(cluster, *PATIENT, "--out", str(tmp_path))
        assert (code, "default/somebody-elses" in errors) == (2, True), errors
        assert left_behind(cluster) == []

        code, _, errors = run(cluster, *PATIENT, "--among-foreign", "--schedulers", "stowage", "--out", str(tmp_path))
        assert code == 0, errors
        assert cluster.api.get(f"{PODS}/somebody-elses")
        assert left_behind(cluster) == []
    finally:
        cluster.api.delete(f"{PODS}/somebody-elses")
