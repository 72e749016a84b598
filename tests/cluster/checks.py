"""What has to hold of the extender in a running cluster, whatever a test did before."""

import time
from collections.abc import Iterable

from tests.cluster.api import Api
from tests.cluster.extender_process import Decision, ExtenderProcess
from tests.cluster.ledger import account, base_units_of_scheduler, differences, has_ended
from tests.cluster.replay import Replay
from tests.cluster.scheduler import Scheduler

AGREE_LIMIT_SECONDS = 90.0
FIRST_RANKED_SHARE = 0.99
SCHEDULER_VERBS = ("filter", "prioritize")


def assert_view_agrees(api: Api, scheduler: Scheduler, extender: ExtenderProcess, least_pods: int = 0) -> None:
    """The extender's allocatable and requested amounts become the API server's, and so do kube-scheduler's.

    Watches lag, so it is looked at again for a while; what is counted wrong stays wrong.

    Args:
        least_pods: so many pods hold resources at that moment, or the agreement would prove little.
    """
    deadline = time.monotonic() + AGREE_LIMIT_SECONDS
    last_found: list[str] = []
    while True:
        pods = api.list_pods()
        expected = account(api.list_nodes(), pods)
        by_scheduler = base_units_of_scheduler(scheduler.requested())
        found = differences(extender.nodes(), expected)
        found += [
            f"{name}: kube-scheduler has {by_scheduler[name]}, the API server {view.requested}"
            for name, view in expected.items()
            if by_scheduler.get(name, view.requested) != view.requested
        ]
        holding = sum("nodeName" in pod["spec"] and not has_ended(pod) for pod in pods)
        if holding >= least_pods:
            last_found = found
            if not found:
                return
        assert time.monotonic() < deadline, "\n".join(
            [f"no agreement while at least {least_pods} pods held resources; differences:", *last_found[:10]]
        )
        time.sleep(0.1)


def assert_nothing_assumed(extender: ExtenderProcess) -> None:
    """No reservation is left over once every choice was confirmed or corrected by the watch."""
    deadline = time.monotonic() + AGREE_LIMIT_SECONDS
    while extender.assumed():
        assert time.monotonic() < deadline, f"{extender.assumed()} choices are still only assumed"
        time.sleep(0.1)


def assert_bound_where_ranked_first(replay: Replay, decisions: Iterable[Decision], uids: Iterable[str]) -> None:
    """Nearly every pod was asked about and is on the node that was ranked first.

    kube-scheduler does not ask where only one node is feasible. Such a pod is a miss like any other that was not
    decided: the workloads leave room on many nodes.

    Args:
        uids: the pods that count.
    """
    first = {decision.uid: decision.chosen for decision in decisions}
    pods = list(uids)
    misses = [
        f"{replay.created[uid]}: {first.get(uid, 'nothing')} was ranked first, bound to {replay.placements[uid]}"
        for uid in pods
        if uid not in first or first[uid] != replay.placements[uid]
    ]
    matched = len(pods) - len(misses)
    assert matched >= FIRST_RANKED_SHARE * len(pods), "\n".join(
        [f"{matched} of {len(pods)} pods are on the node that was ranked first", *misses[:10]]
    )


def assert_no_fallback(extender: ExtenderProcess) -> None:
    """The policy decided everything, and every request was answered as it should be."""
    rungs = {labels["rung"] for labels in extender.counted("stowage_decisions_total")}
    assert rungs == {"policy"}, f"decided by {rungs}: expected the policy alone"
    asked = [labels for labels in extender.counted("stowage_requests_total") if labels["verb"] in SCHEDULER_VERBS]
    assert {labels["code"] for labels in asked} == {"200"}, f"answered {asked}: expected 200 alone"
    assert {decision.rung for decision in extender.decisions()} == {"policy"}


def assert_watches_held(extender: ExtenderProcess) -> None:
    """What it knows came by the watches that its role allows, and not by listing everything again and again."""
    failures = extender.counted("stowage_reflector_failures_total")
    assert failures == [], f"requests to the API server failed: {failures}"
