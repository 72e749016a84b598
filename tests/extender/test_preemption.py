import json

import numpy as np
import pytest

from extender.cluster.state import ClusterState
from extender.placement import PodRequest, pod_request
from extender.preemption import PreemptionMode, choose_nodes
from extender.wire import WireError
from extender.wire_preempt import Victims, decode_preemption, encode_preemption

NOW = 1000.0
WHOLE = pod_request(np.array([1000, 1, 1000]), 1, 1000)


def share(milli: int, priority: int = 0) -> PodRequest:
    return pod_request(np.array([1000, 1, milli]), 1, milli, priority)


@pytest.fixture
def state() -> ClusterState:
    made = ClusterState(("cpu", "memory", "gpu"))
    for name in "abc":
        made.put_node(name, np.array([8000, 64, 2000]), 2)
    return made


def chosen(state: ClusterState, victims: dict[str, Victims], pod: PodRequest = WHOLE) -> list[str]:
    return list(choose_nodes(PreemptionMode.FEWEST, state, pod, victims, (), NOW))


def test_by_default_every_node_passes_but_those_without_victims_and_those_kept_for_others(state: ClusterState) -> None:
    victims = {"a": Victims(["u"], 1), "b": Victims([], 0), "c": Victims(["v"], 0), "unheard-of": Victims(["w"], 0)}
    passed = choose_nodes(PreemptionMode.PASS_THROUGH, state, WHOLE, victims, {"c"}, NOW)

    assert passed == {"a": Victims(["u"], 1), "unheard-of": Victims(["w"], 0)}


def test_disruption_budgets_come_first_then_priorities_then_the_number_then_the_work_lost(state: ClusterState) -> None:
    for number, (uid, priority, began) in enumerate(
        [("low", 1, 900.0), ("low-2", 1, 950.0), ("young", 1, 990.0), ("high", 9, 999.0)]
    ):
        state.put_pod(uid, "abc"[number % 3], share(400, priority), began=began)

    assert chosen(state, {"a": Victims(["low"], 1), "b": Victims(["high"], 0)}) == ["b"]
    assert chosen(state, {"a": Victims(["low", "low-2"], 0), "b": Victims(["high"], 0)}) == ["a"]
    assert chosen(state, {"a": Victims(["low", "low-2"], 0), "b": Victims(["young"], 0)}) == ["b"]
    assert chosen(state, {"a": Victims(["low"], 0), "b": Victims(["low-2"], 0), "c": Victims(["young"], 0)}) == ["c"]
    assert chosen(state, {"c": Victims(["?"], 0), "a": Victims(["?"], 0)}) == ["a"]


def test_nobody_is_sent_away_where_no_device_would_be_free_for_it(state: ClusterState) -> None:
    # 600 thousandths are free in sum on both devices and 400 more with the victim, but on no single one.
    state.put_pod("one", "a", share(700), device=0)
    state.put_pod("two", "a", share(600), device=1)
    state.put_pod("victim", "a", share(300), device=0)

    assert chosen(state, {"a": Victims(["victim"], 0)}) == []
    assert chosen(state, {"a": Victims(["one", "victim"], 0)}) == ["a"]
    assert chosen(state, {"a": Victims(["victim"], 0)}, share(300)) == ["a"]


def test_no_victims_anywhere_is_no_node(state: ClusterState) -> None:
    assert chosen(state, {}) == chosen(state, {"a": Victims([], 0)}) == []


def test_the_question_is_read_in_both_forms_and_answered_by_uid() -> None:
    pod = {"metadata": {"name": "p", "uid": "u"}}
    by_uid = {"Pod": pod, "NodeNameToMetaVictims": {"a": {"Pods": [{"UID": "v"}], "NumPDBViolations": 2}, "b": None}}
    whole = {"Pod": pod, "NodeNameToVictims": {"a": {"Pods": [{"metadata": {"uid": "v"}}], "NumPDBViolations": 2}}}
    empty = {"Pod": pod, "NodeNameToMetaVictims": {"a": {"Pods": None}}}

    for question in (by_uid, whole):
        assert decode_preemption(json.dumps(question).encode()).victims == {"a": Victims(["v"], 2)}
    assert decode_preemption(json.dumps(empty).encode()).victims == {"a": Victims([], 0)}
    assert json.loads(encode_preemption({"a": Victims(["v"], 2)})) == {
        "NodeNameToMetaVictims": {"a": {"Pods": [{"UID": "v"}], "NumPDBViolations": 2}}
    }


@pytest.mark.parametrize(
    ("body", "reason"),
    [(b"{", "expected an"), (b"{}", 'without "Pod"'), (b'{"Pod": {}}', "with neither"), (b"\xff", "expected an")],
)
def test_what_is_no_question_is_refused(body: bytes, reason: str) -> None:
    with pytest.raises(WireError, match=reason):
        decode_preemption(body)
