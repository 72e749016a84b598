import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from extender import wire
from extender.cluster.assume import Assumptions, Outcome
from extender.cluster.feed import (
    REMEMBERED_DELETIONS,
    ClusterFeed,
    Event,
    Gone,
    Kind,
    Listed,
    NodeSeen,
    PodSeen,
    seen_node,
    seen_pod,
)
from extender.cluster.requests import BASE_RESOURCES
from extender.cluster.state import ClusterState
from extender.placement import ANY_DEVICE
from tests.extender.objects import node, pod, request


class Bench:
    def __init__(self) -> None:
        self.state = ClusterState(BASE_RESOURCES)
        self.outcomes: list[Outcome] = []
        self.assumptions = Assumptions(self.state, 30.0, lambda: 0.0, self.outcomes.append)
        self.feed = ClusterFeed(self.state, self.assumptions)

    def take(self, *events: Event) -> None:
        self.feed.apply(events)

    def cpu(self) -> dict[str, int]:
        rows = {name: self.state.row_of(name) for name in self.state.node_names()}
        return {name: int(self.state.arrays.requested[row, 0]) for name, row in rows.items()}


def a_node(name: str, version: int | None = None, listed: bool = False, cpu: str = "8") -> NodeSeen:
    made = node(name, cpu=cpu, version=version)
    return seen_node(wire.decode_node(json.dumps(made).encode()), BASE_RESOURCES, listed)


def a_pod(name: str, on: str | None, version: int | None = None, listed: bool = False, **more: Any) -> PodSeen:
    made = pod(name, more.pop("requests", {"cpu": "1"}), on, version=version, **more)
    return seen_pod(wire.decode_pod(json.dumps(made).encode()), BASE_RESOURCES, listed)


def pod_gone(name: str, version: int | None = None) -> Gone:
    return Gone(Kind.PODS, f"uid-{name}", version)


def test_it_is_ready_when_nodes_and_pods_have_been_listed() -> None:
    bench = Bench()
    assert not bench.feed.ready
    bench.take(Listed(Kind.NODES, frozenset()))
    assert not bench.feed.ready
    bench.take(Listed(Kind.PODS, frozenset()))
    assert bench.feed.ready


def test_pending_pods_take_nothing() -> None:
    bench = Bench()
    bench.take(a_node("n"), a_pod("p", None))
    assert bench.cpu() == {"n": 0}


def test_ended_pods_take_nothing_any_more() -> None:
    bench = Bench()
    bench.take(a_node("n"), a_pod("p", "n"))
    assert bench.cpu() == {"n": 1000}
    bench.take(a_pod("p", "n", phase="Succeeded"))
    assert bench.cpu() == {"n": 0}


def test_a_list_removes_what_it_does_not_name() -> None:
    bench = Bench()
    bench.take(a_node("n"), a_node("m"), a_pod("p", "n"), a_pod("q", "n"))
    bench.take(a_node("n", listed=True), Listed(Kind.NODES, frozenset(["n"])))
    bench.take(a_pod("q", "n", listed=True), Listed(Kind.PODS, frozenset(["uid-q"])))
    assert bench.cpu() == {"n": 1000}
    assert list(bench.state.pods) == ["uid-q"]


def test_a_list_keeps_what_was_assumed_after_it_was_made() -> None:
    bench = Bench()
    bench.take(a_node("n"))
    bench.assumptions.assume("uid-p", "n", request(1000), ANY_DEVICE)
    bench.take(Listed(Kind.PODS, frozenset()))
    assert bench.cpu() == {"n": 1000}


def test_a_pending_event_leaves_an_assumption_alone() -> None:
    bench = Bench()
    bench.take(a_node("n"))
    bench.assumptions.assume("uid-p", "n", request(1000), ANY_DEVICE)
    bench.take(a_pod("p", None))
    assert bench.cpu() == {"n": 1000}


def test_the_watch_confirms_moves_and_drops_assumptions() -> None:
    bench = Bench()
    bench.take(a_node("n"), a_node("m"))
    for name in ("stays", "moves", "goes", "ends"):
        bench.assumptions.assume(f"uid-{name}", "n", request(1000), ANY_DEVICE)
    bench.take(a_pod("stays", "n"), a_pod("moves", "m"), pod_gone("goes"), a_pod("ends", "n", phase="Failed"))
    assert bench.outcomes == [Outcome.CONFIRMED, Outcome.MOVED, Outcome.DROPPED, Outcome.DROPPED]
    assert bench.cpu() == {"n": 1000, "m": 1000}
    assert len(bench.assumptions) == 0


def test_a_late_event_does_not_bring_a_deleted_pod_back() -> None:
    bench = Bench()
    bench.take(a_node("n"), a_pod("p", "n", 5), pod_gone("p", 9), a_pod("p", "n", 7))
    assert bench.cpu() == {"n": 0}


def test_a_late_event_does_not_undo_a_newer_one() -> None:
    bench = Bench()
    bench.take(a_node("n"), a_pod("p", "n", 9, requests={"cpu": "3"}), a_pod("p", "n", 5))
    assert bench.cpu() == {"n": 3000}


def test_a_late_deletion_does_not_remove_a_node_that_came_back() -> None:
    bench = Bench()
    bench.take(a_node("n", 5), Gone(Kind.NODES, "n", 7), a_node("n", 9), Gone(Kind.NODES, "n", 7))
    assert bench.cpu() == {"n": 0}


def test_a_list_is_believed_whatever_its_versions_are() -> None:
    # An etcd restored from a backup counts from an earlier number again.
    bench = Bench()
    bench.take(a_node("n", 900), a_pod("p", "n", 901))
    bench.take(a_node("n", 3, True, "4"), Listed(Kind.NODES, frozenset(["n"])))
    bench.take(a_pod("p", "n", 2, True, requests={"cpu": "2"}), Listed(Kind.PODS, frozenset(["uid-p"])))
    bench.take(a_pod("p", "n", 4, requests={"cpu": "3"}))
    assert bench.cpu() == {"n": 3000}
    assert bench.state.arrays.allocatable[bench.state.row_of("n"), 0] == 4000


def test_pods_whose_deletion_was_missed_are_not_remembered_either() -> None:
    bench = Bench()
    for number in range(50):
        bench.take(a_pod(f"p{number}", None, number))
    bench.take(a_pod("p7", None, 99, listed=True), Listed(Kind.PODS, frozenset(["uid-p7"])))
    assert list(bench.feed._versions[Kind.PODS]._newest) == ["uid-p7"]


def test_deletions_are_not_remembered_for_ever() -> None:
    bench = Bench()
    for number in range(REMEMBERED_DELETIONS + 50):
        bench.take(a_pod(f"p{number}", None, number), pod_gone(f"p{number}", number + 1))
    assert len(bench.feed._versions[Kind.PODS]._newest) == REMEMBERED_DELETIONS


# A history is what happened at the API server: each pod is created, bound, perhaps resized, and deleted, each change
# with a version of its own. What is delivered has duplicates, and late copies, in between.
steps = st.lists(
    st.tuples(
        st.sampled_from("pqr"), st.sampled_from(["create", "bind", "grow", "end", "delete"]), st.sampled_from("mn")
    ),
    max_size=30,
)


def history(taken: list[tuple[str, str, str]]) -> tuple[list[Event], dict[str, tuple[str, int]]]:
    """Events with increasing versions, and the pods on nodes at the end as name -> (node, cpu)."""
    events: list[Event] = []
    alive: dict[str, tuple[str | None, int]] = {}
    births = 0
    names: dict[str, str] = {}
    for version, (name, step, where) in enumerate(taken, start=10):
        if step == "create" and name not in names:
            births += 1
            names[name] = f"{name}{births}"  # a pod of the same name has another uid
            alive[names[name]] = (None, 1)
        elif name not in names:
            continue
        uid_name = names[name]
        on, cpu = alive.get(uid_name, (None, 0))
        if step == "bind" and on is None and cpu:
            alive[uid_name] = (where, cpu)
        elif step == "grow" and cpu:
            alive[uid_name] = (on, cpu + 1)
        elif step == "end" and cpu:
            del alive[uid_name]
            events.append(a_pod(uid_name, on, version, phase="Succeeded"))
            continue
        elif step == "delete":
            alive.pop(uid_name, None)
            del names[name]
            events.append(pod_gone(uid_name, version))
            continue
        if uid_name in alive:
            on, cpu = alive[uid_name]
            events.append(a_pod(uid_name, on, version, requests={"cpu": str(cpu)}))
    placed = {name: (on, cpu) for name, (on, cpu) in alive.items() if on is not None}
    return events, placed


@given(steps, st.data())
def test_duplicated_and_late_events_lead_to_the_same_state(
    taken: list[tuple[str, str, str]], data: st.DataObject
) -> None:
    events, placed = history(taken)
    bench = Bench()
    bench.take(a_node("m", 1), a_node("n", 2))
    for index, event in enumerate(events):
        bench.take(event)
        for repeated in data.draw(st.lists(st.integers(0, index), max_size=3)):
            bench.take(events[repeated])

    recount = dict.fromkeys("mn", 0)
    for on, cpu in placed.values():
        recount[on] += 1000 * cpu
    assert bench.cpu() == recount


@given(steps, steps, st.sampled_from("pqr"))
def test_a_fresh_list_after_missed_events_gives_the_truth(
    seen: list[tuple[str, str, str]], missed: list[tuple[str, str, str]], assumed: str
) -> None:
    bench = Bench()
    bench.take(a_node("m", 1), a_node("n", 2))
    bench.take(*history(seen)[0])
    bench.assumptions.assume(f"uid-{assumed}1", "n", request(500), ANY_DEVICE)

    _, placed = history(seen + missed)
    relisted = [a_pod(name, on, 99, True, requests={"cpu": str(cpu)}) for name, (on, cpu) in placed.items()]
    bench.take(*relisted, Listed(Kind.PODS, frozenset(f"uid-{name}" for name in placed)))

    recount = dict.fromkeys("mn", 0)
    for on, cpu in placed.values():
        recount[on] += 1000 * cpu
    if f"uid-{assumed}1" in bench.assumptions:
        recount["n"] += 500
    assert bench.cpu() == recount


def test_a_nodes_label_says_its_gpu_model_until_another_label_does() -> None:
    bench = Bench()

    def labelled(version: int, **labels: str) -> NodeSeen:
        made = node("n", gpus="1", version=version)
        made["metadata"]["labels"] = {"zone": "a", **labels}
        return seen_node(wire.decode_node(json.dumps(made).encode()), BASE_RESOURCES, False)

    for version, labels, model in (
        (1, {"nvidia.com/gpu.product": "Tesla-T4"}, "Tesla-T4"),
        (2, {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-40GB"}, "NVIDIA-A100-SXM4-40GB"),
        (3, {}, ""),
    ):
        bench.take(labelled(version, **labels))
        assert bench.state.models[bench.state.arrays.model[bench.state.row_of("n")]] == model
