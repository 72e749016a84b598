"""The comparison with kube-scheduler on decisions worked out by hand: it must notice what differs."""

from tests.cluster.decision_replay import Comparison, compare
from tests.cluster.scheduler_log import Attempt, Departure
from tests.cluster.scored_workload import make_node
from tests.cluster.workload import make_pod

FIT = "NodeResourcesFit"
NODES = [make_node(name, {"cpu": cpu, "memory": "10Gi", "pods": "2"}) for name, cpu in (("small", "4"), ("large", "8"))]
PODS = {name: make_pod(name, {"cpu": "2", "memory": "5Gi"}, scheduler="least-allocated") for name in ("a", "b", "c")}


def decide(pod: str, node: str, **scores: int) -> Attempt:
    return Attempt(pod, {FIT: scores}, scores, node)


def compared(*events: Attempt | Departure) -> list[Comparison]:
    return compare(NODES, PODS, events)


def test_pods_occupy_their_nodes_until_they_leave() -> None:
    comparisons = compared(
        decide("a", "large", small=50, large=62),
        decide("b", "small", small=50, large=25),
        Departure("a"),
        decide("c", "large", small=0, large=62),
    )

    assert [comparison.differences for comparison in comparisons] == [(), (), ()]
    assert all(comparison.chosen_is_best for comparison in comparisons)


def test_another_score_is_a_difference() -> None:
    (comparison,) = compared(decide("a", "large", small=50, large=63))

    assert comparison.differences == ("a by least-allocated on large: 63 to kube-scheduler, 62 to us",)


def test_a_node_that_was_not_scored_is_a_difference() -> None:
    (comparison,) = compared(decide("a", "large", large=62))

    assert comparison.differences == ("a by least-allocated on small: infeasible to kube-scheduler, 50 to us",)


def test_a_node_without_room_is_a_difference() -> None:
    *_, last = compared(
        decide("a", "small", small=50, large=62),
        decide("b", "small", small=0, large=62),
        decide("c", "large", small=0, large=62),
    )

    assert last.differences == ("c by least-allocated on small: 0 to kube-scheduler, infeasible to us",)


def test_a_worse_node_is_not_the_best() -> None:
    (comparison,) = compared(decide("a", "small", small=50, large=62))

    assert not comparison.chosen_is_best
