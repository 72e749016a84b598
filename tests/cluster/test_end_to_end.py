"""A policy that training exported places pods through a real kube-scheduler, and nothing is lost on the way."""

import math

import numpy as np
import pytest

from tests.cluster.api import NODES, PODS
from tests.cluster.checks import (
    assert_bound_where_ranked_first,
    assert_no_fallback,
    assert_nothing_assumed,
    assert_view_agrees,
    assert_watches_held,
)
from tests.cluster.extender_process import ExtenderProcess
from tests.cluster.kwok import make_node
from tests.cluster.processes import wait_for
from tests.cluster.replay import Replay
from tests.cluster.scheduler import EXTENDER_FAILURES
from tests.cluster.testbed import Testbed
from tests.cluster.workload import arrivals, make_pod

pytestmark = pytest.mark.cluster

SEED = 20261121
NOBODY = "nobody"  # a scheduler that does not exist: the test binds such pods itself


def assert_whole(testbed: Testbed, extender: ExtenderProcess) -> None:
    """The end check of every test: both sides know the same, nothing is assumed, the policy decided what was asked."""
    assert_view_agrees(testbed.api, testbed.scheduler, extender)
    assert_watches_held(extender)
    assert_nothing_assumed(extender)
    assert_no_fallback(extender)


def test_a_workload_is_placed_where_the_policy_ranks_first(testbed: Testbed, extender: ExtenderProcess) -> None:
    failures_before = len(testbed.scheduler.extender_failures())
    replay = Replay(testbed.api, arrivals(500, 12.0, np.random.default_rng(SEED), longest_seconds=30.0))

    replay.run_until(lambda: len(replay.created) >= 250, limit_seconds=240)
    assert_view_agrees(testbed.api, testbed.scheduler, extender, least_pods=20)
    replay.run_until(replay.all_left, limit_seconds=240)

    assert len(replay.placements) == 500
    assert_bound_where_ranked_first(replay, extender.decisions(), replay.created)
    assert max(decision.candidates for decision in extender.decisions()) >= 200, (
        "only a sample of nodes was asked about"
    )
    assert testbed.scheduler.extender_failures()[failures_before:] == []
    assert_whole(testbed, extender)


def test_a_burst_is_placed_where_the_policy_ranks_first(testbed: Testbed, extender: ExtenderProcess) -> None:
    replay = Replay(testbed.api, arrivals(100, math.inf, np.random.default_rng(SEED + 1)))

    replay.run_until(replay.all_arrived_and_bound, limit_seconds=180)
    assert_view_agrees(testbed.api, testbed.scheduler, extender, least_pods=20)
    replay.run_until(replay.all_left, limit_seconds=240)

    assert_bound_where_ranked_first(replay, extender.decisions(), replay.created)
    assert_whole(testbed, extender)


def test_pods_bound_by_others_are_counted(testbed: Testbed, extender: ExtenderProcess) -> None:
    api = testbed.api
    foreign = {f"foreign-{number}": make_pod(f"foreign-{number}", {"cpu": "3", "memory": "2Gi"}) for number in range(4)}
    for pod in foreign.values():
        pod["spec"]["schedulerName"] = NOBODY
    foreign["foreign-2"] = make_pod("foreign-2", {"stowage.dev/gpu-milli": "3000"}, scheduler=NOBODY)
    foreign["foreign-3"] = make_pod("foreign-3", {"stowage.dev/gpu-milli": "2000"}, scheduler=NOBODY)
    foreign["foreign-1"]["spec"]["nodeName"] = "general-1"  # as a DaemonSet of old or a static pod
    for pod in foreign.values():
        api.create(pod)
    api.bind("foreign-0", "general-0")
    for overbooked in ("foreign-2", "foreign-3"):  # 5 devices of 4: nobody but kube-scheduler checks
        api.bind(overbooked, "gpu-shared-0")

    assert_view_agrees(api, testbed.scheduler, extender, least_pods=4)
    nodes = extender.nodes()
    assert nodes["general-0"].requested["cpu"] == nodes["general-1"].requested["cpu"] == 3000
    assert nodes["gpu-shared-0"].requested["gpu"] == 5000

    replay = Replay(api, arrivals(20, math.inf, np.random.default_rng(SEED + 2)))
    replay.run_until(replay.all_left, limit_seconds=240)
    assert_bound_where_ranked_first(replay, extender.decisions(), replay.created)
    for name in foreign:
        api.delete(f"{PODS}/{name}")
    assert_whole(testbed, extender)


def test_a_pod_that_has_succeeded_takes_nothing(testbed: Testbed, extender: ExtenderProcess) -> None:
    testbed.api.create(make_pod("brief", {"cpu": "2"}, seconds=1.0))
    path = f"{PODS}/brief"

    wait_for(lambda: testbed.api.get(path)["status"]["phase"] == "Succeeded", 120.0, "the pod to succeed")

    assert "nodeName" in testbed.api.get(path)["spec"]
    assert_whole(testbed, extender)
    testbed.api.delete(path)


def test_a_choice_is_counted_until_another_scheduler_overrules_it(testbed: Testbed, extender: ExtenderProcess) -> None:
    pod = testbed.api.create(make_pod("overruled", {"cpu": "2", "memory": "1Gi"}, scheduler=NOBODY))
    best, second, *_ = extender.prioritize(pod, [f"general-{number}" for number in range(20)])

    assert extender.nodes()[best["Host"]].requested["cpu"] == 2000
    assert extender.assumed() == 1
    testbed.api.bind("overruled", second["Host"])
    assert_view_agrees(testbed.api, testbed.scheduler, extender, least_pods=1)
    assert_nothing_assumed(extender)

    assert extender.nodes()[second["Host"]].requested["cpu"] == 2000
    testbed.api.delete(f"{PODS}/overruled")
    assert_whole(testbed, extender)


def test_a_choice_for_a_pod_that_is_deleted_is_taken_back(testbed: Testbed, extender: ExtenderProcess) -> None:
    pod = testbed.api.create(make_pod("deleted", {"cpu": "2", "memory": "1Gi"}, scheduler=NOBODY))
    extender.prioritize(pod, [f"general-{number}" for number in range(20)])
    assert extender.assumed() == 1

    testbed.api.delete(f"{PODS}/deleted")

    assert_nothing_assumed(extender)
    assert_whole(testbed, extender)


def test_a_pod_that_had_no_choice_is_in_the_log_though_nobody_was_asked(
    testbed: Testbed, extender: ExtenderProcess
) -> None:
    asked = testbed.api.create(make_pod("asked", {"cpu": "1"}, scheduler=NOBODY))
    extender.prioritize(asked, ["general-0", "general-1"])
    testbed.api.delete(f"{PODS}/asked")
    forced = make_pod("forced", {"cpu": "1"})
    forced["spec"]["nodeSelector"] = {"kubernetes.io/hostname": "general-3"}
    testbed.api.create(forced)
    wait_for(lambda: extender.unasked() == ["forced"], 120.0, "the pod to be in the decision log", 0.2)

    assert "forced" not in [each.pod for each in extender.decisions()]
    testbed.api.delete(f"{PODS}/forced")
    assert_nothing_assumed(extender)


def test_pods_without_a_choice_that_are_tried_at_once_share_no_device_too_often(
    testbed: Testbed, extender: ExtenderProcess
) -> None:
    """Four devices with 300 thousandths left hold four pods of 200, though the node's sum would do for six."""
    api = testbed.api
    asked = {f"large-{number}": {"cpu": "1", "stowage.dev/gpu-milli": "700"} for number in range(4)}
    asked |= {"blocks": {"cpu": "55"}}
    asked |= {f"small-{number}": {"cpu": "10", "stowage.dev/gpu-milli": "200"} for number in range(6)}

    def bound(prefix: str) -> int:
        return sum("nodeName" in api.get(f"{PODS}/{name}")["spec"] for name in asked if name.startswith(prefix))

    def tried() -> bool:
        return all(api.get(f"{PODS}/small-{number}")["status"].get("conditions") for number in range(6))

    def settled() -> bool:
        small = [api.get(f"{PODS}/small-{number}") for number in range(6)]
        return all("nodeName" in pod["spec"] or "no GPU has" in str(pod["status"]["conditions"]) for pod in small)

    for name, requests in asked.items():
        if name == "small-0":
            wait_for(lambda: bound("large") == 4 and bound("blocks") == 1, 120.0, "the others to be there")
        pod = make_pod(name, requests)
        pod["spec"]["nodeSelector"] = {"kubernetes.io/hostname": "gpu-shared-1"}
        api.create(pod)
    wait_for(tried, 120.0, "kube-scheduler to have tried every small pod")
    assert bound("small") == 0
    api.delete(f"{PODS}/blocks")
    wait_for(settled, 120.0, "every small pod to be bound or refused for want of a device")

    assert bound("small") == 4
    for name in asked.keys() - {"blocks"}:
        api.delete(f"{PODS}/{name}")
    assert_nothing_assumed(extender)
    assert_view_agrees(api, testbed.scheduler, extender)


def test_deleted_nodes_are_forgotten_and_come_back(testbed: Testbed, extender: ExtenderProcess) -> None:
    api = testbed.api
    replay = Replay(api, arrivals(80, 8.0, np.random.default_rng(SEED + 3)))
    replay.run_until(lambda: len(replay.placements) >= 40, limit_seconds=180)
    occupied = sorted(replay.running_on())[:3]
    empty = next(node for node in extender.nodes() if node not in replay.running_on())
    shapes = {node["metadata"]["name"]: node for node in api.list_nodes()}
    deleted = {name: shapes[name] for name in (*occupied, empty)}

    for name in deleted:
        api.delete(f"{NODES}/{name}")
    assert_view_agrees(api, testbed.scheduler, extender, least_pods=10)
    assert not deleted.keys() & extender.nodes().keys()

    # Two come back while the pods that were on them are still there, one after they have been cleared away.
    for name in occupied[:2]:
        api.create(make_node(testbed.shapes[instance_type(deleted[name])], name))
    assert_view_agrees(api, testbed.scheduler, extender, least_pods=10)
    assert any(extender.nodes()[name].requested["cpu"] for name in occupied[:2])
    replay.collect_orphans(occupied[2])
    for name in (occupied[2], empty):
        api.create(make_node(testbed.shapes[instance_type(deleted[name])], name))
    assert_view_agrees(api, testbed.scheduler, extender)

    replay.run_until(replay.all_left, limit_seconds=240)
    assert_bound_where_ranked_first(replay, extender.decisions(), replay.created)
    assert_whole(testbed, extender)


def test_a_killed_extender_picks_up_where_the_cluster_is(testbed: Testbed, extender: ExtenderProcess) -> None:
    replay = Replay(testbed.api, arrivals(150, 8.0, np.random.default_rng(SEED + 4)))
    replay.run_until(lambda: len(replay.placements) >= 50, limit_seconds=180)
    extender.kill()
    before = set(replay.placements)
    failures_before = len(testbed.scheduler.extender_failures())
    replay.run_until(lambda: len(replay.placements) >= 75, limit_seconds=180)  # kube-scheduler goes on alone
    failures = testbed.scheduler.extender_failures()[failures_before:]
    for failure in EXTENDER_FAILURES:  # that they are absent elsewhere means something only if they appear here
        assert any(failure in line for line in failures), f"kube-scheduler did not log {failure!r}"

    extender.start()
    extender.wait_ready()
    assert_view_agrees(testbed.api, testbed.scheduler, extender, least_pods=20)
    blind = set(replay.created) - before
    replay.run_until(replay.all_left, limit_seconds=240)

    assert len(replay.placements) == 150
    assert_bound_where_ranked_first(replay, extender.decisions(), replay.created.keys() - blind)
    assert_whole(testbed, extender)


def instance_type(node: dict[str, dict[str, dict[str, str]]]) -> str:
    """The name of the node's shape."""
    return node["metadata"]["labels"]["node.kubernetes.io/instance-type"]
