"""A pod that needs a whole node gets one through a real kube-scheduler: reserved, told on the pod, kept from others."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.api import PODS, Document
from tests.cluster.extender_process import ExtenderProcess
from tests.cluster.processes import wait_for
from tests.cluster.testbed import MANIFESTS, Testbed
from tests.cluster.workload import make_pod

pytestmark = pytest.mark.cluster

LIMIT_SECONDS = 120.0
SOONEST = "gpu-whole-5"
EVENTS = "/api/v1/namespaces/default/events"


@pytest.fixture
def reserving(testbed: Testbed, tmp_path: Path) -> Iterator[ExtenderProcess]:
    """The extender with reservations and events on, and the right to write these."""
    testbed.api.create_all(MANIFESTS / "extender" / "rbac-events.yaml")
    flags = ("--reserve-after", "1", "--reservation-events", "true")
    policy = Path("bundled:packing")
    process = ExtenderProcess(tmp_path, testbed.extender_kubeconfig, policy, testbed.extender_port, flags)
    try:
        process.wait_ready()
        yield process
    finally:
        process.stop()


def occupant(node: str, expected_seconds: int) -> Document:
    """A pod with all devices of a node, put there by somebody else."""
    made = make_pod(f"on-{node}", {"cpu": "1", "nvidia.com/gpu": "8"}, scheduler="nobody")
    made["metadata"]["annotations"] = {"stowage.dev/expected-seconds": str(expected_seconds)}
    made["spec"]["nodeName"] = node
    return made


def is_unschedulable(testbed: Testbed, pod: str) -> bool:
    conditions = testbed.api.get(f"{PODS}/{pod}")["status"].get("conditions", [])
    return any(each.get("reason") == "Unschedulable" for each in conditions)


def test_a_pod_that_needs_a_whole_node_is_not_overtaken(testbed: Testbed, reserving: ExtenderProcess) -> None:
    api = testbed.api
    nodes = [name for name in reserving.nodes() if name.startswith("gpu-whole-")]
    for node in nodes:
        api.create(occupant(node, 600 if node == SOONEST else 90000))
    pods = {"patient": "8", "small": "1"}
    for name, gpus in pods.items():
        api.create(make_pod(name, {"cpu": "1", "nvidia.com/gpu": gpus}))

    wait_for(lambda: reserving.reserved() == {"patient": SOONEST}, LIMIT_SECONDS, "the node to be reserved", 0.2)
    wait_for(lambda: is_unschedulable(testbed, "small"), LIMIT_SECONDS, "the small pod to be turned away", 0.2)
    told = [each for each in api.get(EVENTS)["items"] if each["reason"] == "NodeReserved"]
    assert [each["involvedObject"]["name"] for each in told] == ["patient"]
    assert SOONEST in told[0]["message"]

    kept = reserving.explain("patient")
    assert (kept["rung"], kept["reservation"]["node"], kept["reservation"]["gpus"]) == ("not_asked", SOONEST, 8)

    api.delete(f"{PODS}/on-{SOONEST}")
    wait_for(lambda: api.node_of("patient") == SOONEST, LIMIT_SECONDS, "the patient pod to be bound", 0.2)
    assert api.node_of("small") == ""
    wait_for(lambda: reserving.reserved() == {}, LIMIT_SECONDS, "the reservation to end", 0.2)
    assert reserving.counted("stowage_reservations_total") == [{"outcome": "made"}, {"outcome": "used"}]

    for name in (*pods, *(f"on-{node}" for node in nodes if node != SOONEST)):
        api.delete(f"{PODS}/{name}")
