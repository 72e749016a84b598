"""Who makes way for a pod of high priority: a real kube-scheduler asks the extender on which node that shall be."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from tests.cluster.api import NODES, PODS, load_documents
from tests.cluster.extender_process import ExtenderProcess
from tests.cluster.kwok import is_ready, make_node
from tests.cluster.processes import free_port, wait_for
from tests.cluster.scheduler import run_scheduler
from tests.cluster.testbed import MANIFESTS, Testbed
from tests.cluster.workload import make_pod

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

LIMIT_SECONDS = 120.0
PROFILE = "preempting"
ROOM = {"for": "preemption"}  # label of the two nodes that are to be had
WITHOUT_GPUS, WITH_GPUS = "costs-little", "costs-much"
HELD = {WITHOUT_GPUS: {"cpu": "90"}, WITH_GPUS: {"cpu": "90", "nvidia.com/gpu": "8"}}
PRIORITY_CLASSES = "/apis/scheduling.k8s.io/v1/priorityclasses"
URGENT = "urgent"


@pytest.fixture
def configuration(tmp_path: Path) -> Path:
    """The committed configuration under another name and with `preemptVerb`: a kube-scheduler beside the first."""
    (document,) = load_documents(MANIFESTS / "kube-scheduler" / "configuration.yaml")
    document["leaderElection"] = {"leaderElect": False}  # its role knows one lease, which the first has
    document["profiles"][0]["schedulerName"] = PROFILE
    document["extenders"][0]["preemptVerb"] = "preempt"
    path = tmp_path / "preempting.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.fixture
def occupied(testbed: Testbed) -> Iterator[None]:
    """Two full nodes; the pod that has all GPUs of its node started later than the pod that has none."""
    api = testbed.api
    api.apply(PRIORITY_CLASSES, {"metadata": {"name": URGENT}, "value": 1000})
    for node in HELD:
        made = make_node(testbed.shapes["gpu-whole"], node)
        made["metadata"]["labels"] |= ROOM
        api.create(made)
    wait_for(lambda: all(map(is_ready, api.list_nodes())), LIMIT_SECONDS, "the nodes to be ready", 0.1)
    last = ""
    for node, requests in HELD.items():
        before = last
        wait_for(lambda before=before: second() > before, LIMIT_SECONDS, "the next second", 0.1)
        made = make_pod(f"on-{node}", requests, scheduler="nobody")
        made["spec"]["nodeName"] = node
        api.create(made)
        wait_for(lambda node=node: start_of(testbed, f"on-{node}") != "", LIMIT_SECONDS, f"the pod on {node}", 0.1)
        last = start_of(testbed, f"on-{node}")
    yield
    for pod in pods(testbed) & {URGENT, *(f"on-{node}" for node in HELD)}:
        api.delete(f"{PODS}/{pod}")
    for node in HELD:
        api.delete(f"{NODES}/{node}")
    api.delete(f"{PRIORITY_CLASSES}/{URGENT}")


def second() -> str:
    """The time as Kubernetes writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def start_of(testbed: Testbed, pod: str) -> str:
    start: str = testbed.api.get(f"{PODS}/{pod}")["status"].get("startTime", "")
    return start


def pods(testbed: Testbed) -> set[str]:
    return {pod["metadata"]["name"] for pod in testbed.api.get(PODS)["items"]}


# Left to itself kube-scheduler lets the pod go that started last (pickOneNodeForPreemption, among equals before).
@pytest.mark.parametrize(("mode", "node"), [("pass-through", WITH_GPUS), ("fewest", WITHOUT_GPUS)])
@pytest.mark.usefixtures("occupied")
def test_the_node_is_the_one_that_the_extender_leaves(
    testbed: Testbed, tools: Path, configuration: Path, tmp_path: Path, mode: str, node: str
) -> None:
    port = free_port()
    flags = ("--preempt", mode, "--scheduler-name", PROFILE)
    extender = ExtenderProcess(tmp_path, testbed.extender_kubeconfig, Path("bundled:latency"), port, flags)
    kubeconfig = testbed.scheduler_kubeconfig
    try:
        extender.wait_ready()
        with run_scheduler(tools, tmp_path, kubeconfig, configuration, f"http://127.0.0.1:{port}") as scheduler:
            urgent = make_pod(URGENT, {"cpu": "90"}, scheduler=PROFILE)
            urgent["spec"] |= {"nodeSelector": ROOM, "priorityClassName": URGENT}
            testbed.api.create(urgent)
            wait_for(lambda: testbed.api.node_of(URGENT) == node, LIMIT_SECONDS, f"the urgent pod to be on {node}", 0.1)
            assert scheduler.extender_failures() == []
        assert f"on-{node}" not in pods(testbed)
        assert pods(testbed) >= {f"on-{other}" for other in HELD if other != node}
        assert {"verb": "preempt", "code": "200"} in extender.counted("stowage_requests_total")
    finally:
        extender.stop()
