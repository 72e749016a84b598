import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from extender.cluster.state import UNKNOWN_ROW, ClusterState
from extender.decision import (
    MAX_PRIORITY,
    RANKED_AT_MOST,
    Deadline,
    Decision,
    FailureKind,
    PolicyOutputError,
    Rung,
    Step,
    decide,
    describe_lack,
    lacking_devices,
    rank,
)
from extender.placement import ANY_DEVICE, Candidates, IntArray, NodeArrays, PodRequest
from extender.policies.base import NodeView, PolicyError, ScoreArray
from extender.policies.breaker import Breaker
from extender.policies.heuristics import HEURISTICS
from extender.policies.raters import DirectRater
from tests.extender.objects import request

LEAST_ALLOCATED = Step(Rung.HEURISTIC, DirectRater(HEURISTICS["least-allocated"]))
IN_TIME = Deadline(0.0, 1.0, lambda: 0.0)


class Given:
    """A policy that gives these scores, or raises this error."""

    name = "given"

    def __init__(self, outcome: ScoreArray | Exception) -> None:
        self.outcome = outcome

    def scores(self, nodes: NodeArrays, pod: PodRequest, candidates: Candidates) -> ScoreArray:
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


def given_step(outcome: ScoreArray | Exception, breaker: Breaker | None = None, share: float = 1.0) -> Step:
    return Step(Rung.POLICY, DirectRater(Given(outcome)), breaker, share)


def decided(state: ClusterState, ladder: list[Step], pod: PodRequest, rows: IntArray) -> Decision:
    """Decide with all the time there is."""
    return decide(view_of(state), ladder, pod, rows, IN_TIME)


def view_of(state: ClusterState) -> NodeView:
    return NodeView(state.nodes, state.generation)


def on_rows(*rows: int) -> Candidates:
    return Candidates(np.array(rows, dtype=np.int64), np.full(len(rows), ANY_DEVICE))


def state_of(*devices: int) -> ClusterState:
    """A node for each number of devices, named n0, n1, …; row is place."""
    state = ClusterState(("cpu", "memory", "gpu"))
    for number, count in enumerate(devices):
        state.put_node(f"n{number}", np.array([8000, 2**35, 1000 * count]), count)
    return state


def test_the_best_is_alone_at_the_top() -> None:
    ranking = rank(np.array([0.2, 0.9, 0.5]), on_rows(4, 7, 9))

    assert ranking.rows.tolist() == [7, 9, 4]
    assert ranking.priorities.tolist() == [10, 9, 8]


def test_ties_get_different_priorities_in_the_order_of_the_rows() -> None:
    ranking = rank(np.zeros(12), on_rows(*range(20, 8, -1)))

    assert ranking.rows.tolist() == list(range(9, 19))
    assert len(set(ranking.priorities.tolist())) == RANKED_AT_MOST


def test_a_node_counts_with_its_best_device() -> None:
    candidates = Candidates(np.array([3, 5, 3, 5]), np.array([0, 0, 1, 2]))
    ranking = rank(np.array([0.1, 0.5, 0.9, 0.2]), candidates)

    assert ranking.rows.tolist() == [3, 5]
    assert ranking.devices.tolist() == [1, 0]


def test_of_equally_good_devices_the_one_listed_first_is_taken() -> None:
    ranking = rank(np.zeros(4), Candidates(np.array([5, 3, 3, 5]), np.array([2, 1, 0, 0])))

    assert ranking.rows.tolist() == [3, 5]
    assert ranking.devices.tolist() == [1, 2]


@given(
    hnp.arrays(np.float32, st.integers(1, 400), elements=st.integers(-20, 20).map(float)),
    st.integers(1, 8),
    st.integers(0, 2**32 - 1),
)
def test_any_ranking_is_that_of_a_full_sort(scores: ScoreArray, devices: int, seed: int) -> None:
    # Row and device of each candidate in some order, as different nodes have different devices with room.
    places = np.random.default_rng(seed).permutation(scores.shape[0])
    candidates = Candidates(places // devices, places % devices)

    ranking = rank(scores, candidates)

    best: dict[int, tuple[float, int]] = {}
    for score, row, device in zip(scores.tolist(), candidates.rows.tolist(), candidates.devices.tolist(), strict=True):
        if row not in best or -score < best[row][0]:
            best[row] = (-score, device)
    expected = sorted(best, key=lambda row: (best[row][0], row))[:RANKED_AT_MOST]
    assert ranking.rows.tolist() == expected
    assert ranking.devices.tolist() == [best[row][1] for row in expected]
    assert ranking.scores.tolist() == [-best[row][0] for row in expected]
    assert ranking.priorities.tolist() == list(range(MAX_PRIORITY, MAX_PRIORITY - len(expected), -1))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_an_error_that_names_the_first(bad: float) -> None:
    with pytest.raises(PolicyOutputError, match="1 of 3 scores are not finite; the first is number 1"):
        rank(np.array([0.0, bad, 1.0]), on_rows(0, 1, 2))


def test_a_wrong_number_of_scores_is_an_error() -> None:
    with pytest.raises(PolicyOutputError, match=r"shape \(2,\): expected \(3,\)"):
        rank(np.zeros(2), on_rows(0, 1, 2))


def test_the_policy_answers_as_long_as_it_can() -> None:
    decision = decided(
        state_of(0, 0), [given_step(np.array([1.0, 2.0])), LEAST_ALLOCATED], request(1), on_rows(0, 1).rows
    )

    assert (decision.rung, decision.candidates, decision.failures) == (Rung.POLICY, 2, ())
    assert decision.ranking.rows.tolist() == [1, 0]


@pytest.mark.parametrize(
    "outcome",
    [
        PolicyError("broken"),
        RuntimeError("broken"),
        IndexError("broken"),
        np.array([np.nan, 1.0]),
        np.zeros(5),
    ],
)
def test_the_heuristic_answers_when_the_policy_cannot(outcome: ScoreArray | Exception) -> None:
    decision = decided(state_of(0, 0), [given_step(outcome), LEAST_ALLOCATED], request(1), on_rows(0, 1).rows)

    assert decision.rung == Rung.HEURISTIC
    assert decision.ranking.rows.tolist() == [0, 1]
    assert [(failure.kind, failure.reason.startswith("given: ")) for failure in decision.failures] == [
        (FailureKind.ERROR, True)
    ]


def test_without_any_usable_scores_there_is_no_opinion() -> None:
    broken = given_step(PolicyError("broken"))
    decision = decided(state_of(0), [broken, broken._replace(rung=Rung.HEURISTIC)], request(1), on_rows(0).rows)

    assert decision.rung == Rung.NEUTRAL
    assert decision.ranking.rows.tolist() == []
    assert len(decision.failures) == 2


def test_a_policy_for_which_no_time_is_left_is_not_asked_and_the_next_one_answers() -> None:
    late = Deadline(started=10.0, seconds=1.0, clock=lambda: 10.9)
    breaker = Breaker(1, 10.0, lambda: 0.0)

    decision = decide(
        view_of(state_of(0, 0)),
        [given_step(PolicyError("never asked"), breaker, share=0.8), LEAST_ALLOCATED],
        request(1),
        on_rows(0, 1).rows,
        late,
    )

    assert decision.rung == Rung.HEURISTIC
    assert [failure.kind for failure in decision.failures] == [FailureKind.DEADLINE]
    assert not breaker.open  # the time was lost elsewhere


def test_after_the_deadline_the_answer_is_neutral() -> None:
    late = Deadline(started=10.0, seconds=1.0, clock=lambda: 11.0)

    decision = decide(view_of(state_of(0)), [LEAST_ALLOCATED], request(1), on_rows(0).rows, late)

    assert (decision.rung, decision.ranking.rows.tolist()) == (Rung.NEUTRAL, [])


def test_a_policy_that_fails_again_and_again_is_left_alone_until_it_succeeds() -> None:
    now = [0.0]
    step = given_step(np.array([np.nan, 0.0]), Breaker(2, 10.0, lambda: now[0]))
    policy = step.rater._policy  # type: ignore[attr-defined]

    def kinds() -> list[FailureKind]:
        made = decided(state_of(0, 0), [step, LEAST_ALLOCATED], request(1), on_rows(0, 1).rows)
        return [failure.kind for failure in made.failures]

    assert [kinds() for _ in range(3)] == [[FailureKind.ERROR], [FailureKind.ERROR], [FailureKind.BREAKER]]
    now[0] = 10.0
    assert [kinds() for _ in range(2)] == [[FailureKind.ERROR], [FailureKind.BREAKER]]  # one trial
    policy.outcome = np.zeros(2)
    now[0] = 20.0
    assert kinds() == []
    policy.outcome = PolicyError("once")
    assert [kinds() for _ in range(2)] == [[FailureKind.ERROR], [FailureKind.ERROR]]


def test_nodes_on_which_the_pod_does_not_fit_are_not_ranked() -> None:
    state = state_of(0, 0, 0)
    state.put_pod("u", "n1", request(7500))

    decision = decided(state, [LEAST_ALLOCATED], request(1000), on_rows(0, 1, 2).rows)

    assert decision.ranking.rows.tolist() == [0, 2]


def test_a_pod_that_fits_nowhere_is_no_failure_of_the_policy() -> None:
    decision = decided(state_of(0), [given_step(PolicyError("never asked"))], request(9000), on_rows(0).rows)

    assert (decision.rung, decision.candidates, decision.failures) == (Rung.NONE_FEASIBLE, 0, ())


def test_every_device_of_a_shared_node_is_a_candidate() -> None:
    state = state_of(3)
    state.put_pod("u", "n0", request(0, 0, 1, 400), device=0)

    decision = decided(state, [given_step(np.array([0.0, 1.0]))], request(0, 0, 1, 200), on_rows(0).rows)

    assert decision.candidates == 2  # the two empty devices are alike
    assert decision.ranking.devices.tolist() == [1]


def test_a_rule_that_ignores_devices_takes_the_tightest() -> None:
    state = state_of(2)
    state.put_pod("u", "n0", request(0, 0, 1, 700), device=1)

    decision = decided(state, [given_step(np.zeros(2))], request(0, 0, 1, 200), on_rows(0).rows)

    assert state.nodes.device_free[0].tolist() == [1000, 300]
    assert decision.ranking.devices.tolist() == [1]


@pytest.mark.parametrize(
    ("pod", "lacking"),
    [
        (request(99999), [False, False, False, False]),
        (request(0, 0, 1, 1000), [True, False, False, False]),
        (request(0, 0, 2, 1000), [True, True, False, False]),
        (request(0, 0, 1, 700), [True, False, False, False]),
    ],
)
def test_nodes_lack_devices_when_no_device_has_room_and_never_when_unknown(
    pod: PodRequest, lacking: list[bool]
) -> None:
    rows = np.array([0, 1, 2, UNKNOWN_ROW])

    assert lacking_devices(state_of(0, 1, 2), pod, rows).tolist() == lacking


def test_free_parts_of_different_devices_do_not_add_up() -> None:
    state = state_of(2)
    state.put_pod("u", "n0", request(0, 0, 1, 600), device=0)
    state.put_pod("v", "n0", request(0, 0, 1, 600), device=1)
    pod = request(0, 0, 1, 500)

    assert lacking_devices(state, pod, np.array([0])).tolist() == [True]
    assert describe_lack(state, pod, 0) == "no GPU has 500 thousandths free: the freest of 2 has 400"


def test_lacking_whole_devices_is_described_by_their_number() -> None:
    state = state_of(0, 3)
    state.put_pod("u", "n1", request(0, 0, 1, 100))

    assert describe_lack(state, request(0, 0, 4, 1000), 1) == "4 whole GPUs wanted: 2 of 3 are free"
    assert describe_lack(state, request(0, 0, 4, 1000), 0) == "the node has no GPU"
