"""Who reserves which node, and what is withheld for it."""

import numpy as np
import pytest

from extender.admission import Constraint, Place, Requirement
from extender.cluster.reservations import NODES_PER_TURN, SECONDS_BETWEEN_SEARCHES, Ending, Reservations, WaitingPod
from extender.cluster.state import ClusterState
from extender.placement import PodRequest, pod_request
from extender.reservations import ReservationRule

NOW = 1_000_000.0
AFTER, TTL = 60.0, 600.0


def gpus(count: int, expected: float = 0.0) -> PodRequest:
    return pod_request(np.array([1000, 1, 1000 * count]), count, 1000, expected_seconds=expected)


class Bench:
    """Nodes of four devices each."""

    def __init__(self, *nodes: str, least: int = 2) -> None:
        self.now = NOW
        self.reported: list[tuple[Ending, str]] = []
        self.state = ClusterState(("cpu", "memory", "gpu"))
        self.reservations = self.keeper(least)
        for name in nodes:
            self.state.put_node(name, np.array([64000, 64, 4000]), 4)
            self.reservations.node_seen(Place(name, labels={"name": name}))

    def keeper(self, least: int = 2) -> Reservations:
        return Reservations(
            self.state,
            ReservationRule(AFTER, least, TTL),
            "stowage",
            lambda: self.now,
            lambda ending, reservation: self.reported.append((ending, reservation.node)),
        )

    def run(self, uid: str, node: str, request: PodRequest, ran: float = 0.0) -> None:
        self.state.put_pod(uid, node, request, began=self.now - ran)

    def wait(
        self,
        uid: str,
        request: PodRequest,
        waited: float = AFTER,
        constraint: Constraint = Constraint(),  # noqa: B008
        scheduler: str = "stowage",
    ) -> None:
        pod = WaitingPod(uid, "default", uid, request, constraint, self.now - waited, scheduler)
        self.reservations.pod_waits(pod)

    def review(self) -> dict[str, str]:
        while self.reservations.review():
            pass
        return {each.uid: each.node for each in self.reservations.held()}

    def withheld(self, uid: str, request: PodRequest) -> set[str]:
        return self.reservations.withheld(uid, request, self.state.node_names()).keys()


def full(*nodes: str, **expected: float) -> Bench:
    """Nodes on which one pod has all devices, and has run for 10 of so many seconds."""
    bench = Bench(*nodes)
    for name in nodes:
        bench.run(f"on-{name}", name, gpus(4, expected[name]), ran=10.0)
    return bench


def test_the_node_that_is_believed_to_be_free_first_is_reserved() -> None:
    bench = full("a", "b", "c", a=300.0, b=100.0, c=200.0)
    bench.wait("w", gpus(2))

    assert bench.review() == {"w": "b"}
    (made,) = bench.reservations.held()
    assert (made.made, made.until, made.expires, made.gpus) == (NOW, NOW + 90, NOW + TTL, 2)
    assert bench.reported == [(Ending.MADE, "b")]


@pytest.mark.parametrize(
    ("request_", "waited", "scheduler"),
    [
        pytest.param(gpus(2), AFTER - 1, "stowage", id="too short a wait"),
        pytest.param(gpus(1), AFTER, "stowage", id="too few GPUs"),
        pytest.param(gpus(2), AFTER, "another", id="another scheduler's pod"),
        pytest.param(gpus(5), AFTER, "stowage", id="more than any node has"),
        pytest.param(pod_request(np.array([1, 1, 500]), 1, 500), AFTER, "stowage", id="a share of a GPU"),
    ],
)
def test_who_does_not_reserve(request_: PodRequest, waited: float, scheduler: str) -> None:
    bench = full("a", a=100.0)
    bench.wait("w", request_, waited, scheduler=scheduler)

    assert bench.review() == {}


def test_those_who_wait_longest_choose_first_and_no_node_is_reserved_twice() -> None:
    bench = full("a", "b", a=100.0, b=200.0)
    bench.wait("later", gpus(2), AFTER + 1)
    bench.wait("earlier", gpus(2), AFTER + 2)
    bench.wait("latest", gpus(2), AFTER)

    assert bench.review() == {"earlier": "a", "later": "b"}


def test_only_nodes_that_admit_the_pod_are_reserved() -> None:
    bench = full("a", "b", a=100.0, b=200.0)
    bench.wait("w", gpus(2), constraint=Constraint(required=(Requirement("name", "In", ("b",)),)))

    assert bench.review() == {"w": "b"}


def test_others_are_kept_off_unless_they_are_believed_to_end_before() -> None:
    bench = full("a", "b", a=100.0, b=200.0)
    bench.wait("w", gpus(2))
    bench.review()

    assert bench.withheld("other", gpus(1)) == {"a"}  # of unknown duration
    assert bench.withheld("other", gpus(1, 91.0)) == {"a"}
    assert bench.withheld("other", gpus(1, 90.0)) == set()
    assert bench.withheld("w", gpus(2)) == set()
    reason = bench.reservations.withheld("other", gpus(1), ["a"])["a"]
    assert reason == "the node is reserved for pod default/w, which waits for 2 GPUs"


@pytest.mark.parametrize(("node", "ending"), [("a", Ending.USED), ("b", Ending.ELSEWHERE), ("", Ending.GONE)])
def test_a_reservation_ends_when_its_pod_starts_or_goes(node: str, ending: Ending) -> None:
    bench = full("a", "b", a=100.0, b=200.0)
    bench.wait("w", gpus(2))
    bench.review()
    bench.reservations.pod_left("w", node)

    assert bench.review() == {}
    assert bench.withheld("other", gpus(1)) == set()
    assert bench.reported[-1] == (ending, "a")


def test_a_list_that_does_not_name_the_pod_or_the_node_ends_the_reservation() -> None:
    bench = full("a", "b", a=100.0, b=200.0)
    for name in ("v", "w"):
        bench.wait(name, gpus(2))
    bench.review()
    bench.reservations.keep_only(frozenset({"w"}))
    bench.reservations.keep_only_nodes(frozenset({"a"}))

    assert [ending for ending, _ in bench.reported[2:]] == [Ending.GONE, Ending.NODE_GONE]


def test_a_reservation_lapses_and_its_pod_waits_anew() -> None:
    bench = full("a", a=100.0)
    bench.wait("w", gpus(2))
    bench.review()
    bench.now += TTL
    assert bench.withheld("other", gpus(1)) == set()  # also before anybody has looked

    assert bench.review() == {}
    assert bench.reported[-1] == (Ending.EXPIRED, "a")
    bench.now += AFTER - 1
    assert bench.review() == {}
    bench.now += 1
    assert bench.review() == {"w": "a"}


def test_a_pod_for_which_there_is_no_node_is_looked_at_again_later() -> None:
    bench = Bench()
    bench.wait("w", gpus(2))
    bench.review()
    bench.state.put_node("a", np.array([64000, 64, 4000]), 4)
    bench.reservations.node_seen(Place("a"))
    assert bench.review() == {}

    bench.now += SECONDS_BETWEEN_SEARCHES
    assert bench.review() == {"w": "a"}


def test_reservations_survive_a_restart_but_for_those_that_have_lapsed() -> None:
    bench = full("a", "b", a=100.0, b=200.0)
    bench.wait("v", gpus(2), AFTER + 1)
    bench.review()
    bench.now += TTL / 2
    bench.wait("w", gpus(2))
    bench.review()
    before = bench.reservations.held()
    bench.now += TTL / 2

    bench.reservations = bench.keeper()
    bench.reservations.restore(before)

    assert [each.uid for each in bench.reservations.held()] == ["w"]
    assert bench.withheld("other", gpus(1)) == {"b"}


def test_a_large_cluster_is_looked_through_in_turns() -> None:
    names = [f"n{number:04d}" for number in range(3 * NODES_PER_TURN)]
    bench = full(*names, **{name: 100.0 for name in names[:-1]}, **{names[-1]: 50.0})
    bench.wait("w", gpus(2))

    assert [bench.reservations.review() for _ in range(4)] == [True, True, True, False]
    assert bench.review() == {"w": names[-1]}


def test_a_node_that_goes_while_it_is_looked_for_is_not_reserved() -> None:
    names = [f"n{number:04d}" for number in range(2 * NODES_PER_TURN)]
    bench = full(*names, **{name: 100.0 for name in names[1:]}, **{names[0]: 50.0})
    bench.wait("w", gpus(2))
    bench.reservations.review()
    bench.state.remove_node(names[0])
    bench.reservations.node_left(names[0])

    assert bench.review() == {}
    bench.now += SECONDS_BETWEEN_SEARCHES
    assert bench.review() == {"w": names[1]}
