"""What is looked at is what is evaluated: the same decisions, and the parts that the extender would tell of them."""

import numpy as np
import pytest

from extender.placement import WHOLE_DEVICE_MILLI
from extender.policies.base import Policy
from extender.policies.bundled import policy_path
from extender.policies.heuristics import HEURISTICS
from extender.policies.onnx import load_policy
from tests.training.small_workloads import openb_like
from training.demo import cells, figures
from training.demo.live import LiveCluster
from training.simulator.scheduling import SchedulerArguments, play
from training.workloads.base import Workload

NODES = 8


def workload(pods: int = 150) -> Workload:
    return openb_like(NODES, pods, 1.1, 5)


@pytest.fixture
def live() -> LiveCluster:
    cluster = LiveCluster(workload(), load_policy(policy_path("bundled:latency")), seed=1)
    cluster.advance(40)
    return cluster


@pytest.mark.parametrize("policy", [HEURISTICS["best-fit"], load_policy(policy_path("bundled:packing"))])
def test_an_episode_ends_as_its_evaluation_does(policy: Policy) -> None:
    drawn = workload()
    live = LiveCluster(drawn, policy, seed=1)
    live.advance(10 * len(drawn))
    outcome = play(drawn, policy, SchedulerArguments(), seed=1)
    assert live.decision is None
    assert live.started == len(drawn)
    assert live.mean_wait_seconds == pytest.approx(outcome.waited.mean())


def test_the_parts_of_a_weighing_policys_score_add_up_to_it(live: LiveCluster) -> None:
    assert live.decision is not None
    explanation = live.decision.explanation
    assert explanation["manner"] == "weights"
    for node in explanation["nodes"]:
        assert sum(feature["contribution"] for feature in node["features"]) == pytest.approx(node["score"], abs=1e-3)


def test_the_best_node_is_told_the_highest_priority_and_gets_the_pod(live: LiveCluster) -> None:
    decision = live.decision
    assert decision is not None
    before = live.pods_on_nodes().copy()
    best = int(decision.ranking.rows[0])
    live.advance(1)
    assert decision.ranking.priorities[0] == 10
    assert decision.explanation["nodes"][0]["name"].endswith(f"{best:05d}")
    assert live.pods_on_nodes()[best] >= before[best]  # others may have left by then


def test_a_rule_has_scores_and_no_features() -> None:
    live = LiveCluster(workload(), "kube-scheduler-default", seed=1)
    assert live.decision is not None
    assert live.decision.explanation["manner"] is None
    assert live.decision.usual_row == live.decision.ranking.rows[0]


def test_the_queue_is_sorted_by_wait_and_as_long_as_the_history_says() -> None:
    live = LiveCluster(workload(400), "kube-scheduler-default", seed=1)
    while not live.queue():
        live.advance(1)
    waits = [each.seconds for each in live.queue()]
    assert waits == sorted(waits, reverse=True)
    assert len(waits) == live.history[-1].waiting


def test_every_node_is_a_cell_and_the_chosen_one_shows_what_it_would_get(live: LiveCluster) -> None:
    html = cells.cluster(live)
    assert html.count('class="sw-node') == NODES
    assert html.count("sw-best") == 2  # the style, and the cell
    free = live.device_free_milli()
    assert html.count("<i style") == int(np.sum(free >= 0))
    assert np.all(free <= WHOLE_DEVICE_MILLI)


def test_a_decision_reads_as_text(live: LiveCluster) -> None:
    decision = live.decision
    assert decision is not None
    assert cells.headline(decision).startswith(f"Pod {decision.pod} asks for ")
    assert decision.explanation["nodes"][0]["name"] in cells.ranking(decision)
    first = decision.explanation["nodes"][0]
    assert first["features"][0]["name"] in cells.contributions(first)


def test_axes_have_units(live: LiveCluster) -> None:
    for figure in (figures.over_time(live.course()), figures.waiting_over_time(live.course())):
        assert figure.layout.xaxis.title.text == "simulated time, h"
        assert figure.layout.yaxis.title.text in ("in use, %", "pods that wait")


def test_the_course_agrees_with_what_was_seen_at_the_last_decision(live: LiveCluster) -> None:
    course, last = live.course(), live.history[-1]
    assert (course.gpu_in_use[-1], course.cpu_in_use[-1]) == pytest.approx((last.gpu_in_use, last.cpu_in_use))
    assert course.waiting[-1] == last.waiting + 1  # and the pod that is being decided on
    assert course.seconds[-1] == last.seconds


def test_the_course_goes_on_where_there_is_nothing_to_decide() -> None:
    drawn = openb_like(NODES, 400, 1.3, 5)
    live = LiveCluster(drawn, "kube-scheduler-default", seed=1)
    live.advance(10 * len(drawn))
    course = live.course()
    waited = np.trapezoid(course.waiting, course.seconds)
    assert waited == pytest.approx(live.mean_wait_seconds * live.arrived, rel=0.02)
    assert np.diff(course.waiting).min() > -0.1 * course.waiting.max()  # the queue does not vanish at once


def test_a_cluster_is_filled_and_leaves_something_to_decide() -> None:
    drawn = openb_like(NODES, 400, 1.3, 5)
    live = LiveCluster(drawn, "kube-scheduler-default", seed=1)
    live.fill(10 * len(drawn))
    assert live.decision is not None
    assert len(drawn) / 2 <= live.arrived < len(drawn)
    few = LiveCluster(drawn, "kube-scheduler-default", seed=1)
    few.fill(5)
    assert len(few.history) == 6
