import json
import math
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import pytest

from extender.policies.base import PolicyError
from extender.policies.heuristics import HEURISTICS
from tests.policy_files import policy_file
from tests.training.evaluation.small_evaluations import BASELINES, POPULATION, SYNTHETIC, small_evaluation
from training.evaluation import runner
from training.evaluation.metrics import catalogue
from training.evaluation.report import json_report
from training.evaluation.runner import Contender, Evaluation, EvaluationArguments, Stage, evaluate, rules
from training.evaluation.statistics import Comparison, holm
from training.simulator.scheduling import SchedulerArguments


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    return small_evaluation()


@pytest.fixture
def processes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other processes play from the first episode on, however short all is."""
    monkeypatch.setattr(runner, "PROCESSES_PAY_SECONDS", 0.0)


def test_every_policy_is_played_at_every_load_and_seed(evaluation: Evaluation) -> None:
    played = {(result.policy, result.load, result.seed) for result in evaluation.results}
    assert len(played) == len(evaluation.results) == 3 * 2 * 3


def test_policies_keep_the_order_in_which_they_were_given(evaluation: Evaluation) -> None:
    assert evaluation.policies == ["trained", *BASELINES]


def test_the_same_rule_compiled_and_asked_decision_by_decision_places_alike() -> None:
    arguments = EvaluationArguments(nodes=12, pods=300, loads=[0.9], seeds=2, processes=1)
    asked = Contender("asked", HEURISTICS["best-fit"])
    result = evaluate([asked], rules(["best-fit"]), arguments, POPULATION, SYNTHETIC)
    # Ties are broken at random by the one and by order by the other, so single waits may differ.
    ours, theirs = (result.mean(policy, "gpu_allocation") for policy in ("asked", "best-fit"))
    assert ours == pytest.approx(theirs, rel=0.05)


@pytest.mark.usefixtures("processes_at_once")
def test_the_result_is_the_same_whatever_the_number_of_processes(evaluation: Evaluation) -> None:
    assert json_report(small_evaluation(processes=3)) == json_report(evaluation)


def test_the_result_is_the_same_if_other_processes_join_later(
    evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "PROCESSES_PAY_SECONDS", 1e-9)
    assert json_report(small_evaluation(processes=2)) == json_report(evaluation)


def test_a_policy_file_that_was_played_here_is_played_on_by_other_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "policy.onnx"
    path.write_bytes(policy_file())

    def played(processes: int) -> str:
        arguments = EvaluationArguments(nodes=8, pods=60, loads=[0.7], seeds=3, processes=processes)
        return json_report(evaluate([Contender("filed", path)], rules(["random"]), arguments, POPULATION, SYNTHETIC))

    monkeypatch.setattr(runner, "PROCESSES_PAY_SECONDS", 1e-9)
    assert played(processes=2) == played(processes=1)


@pytest.mark.usefixtures("processes_at_once")
def test_many_games_are_handed_out_whole_and_few_singly() -> None:
    # 2 loads x 8 seeds are 16 games, enough for 2 processes but not for 5.
    assert json_report(small_evaluation(processes=2, seeds=8)) == json_report(small_evaluation(processes=5, seeds=8))


def test_the_json_form_holds_means_over_all_loads_and_by_load(evaluation: Evaluation) -> None:
    content = json.loads(json_report(evaluation))
    waits = [result.metrics["mean_wait_seconds"] for result in evaluation.of("most-allocated")]
    late = [result.metrics["mean_wait_seconds"] for result in evaluation.of("most-allocated", 0.95)]
    assert content["policies"]["most-allocated"]["mean_wait_seconds"] == pytest.approx(np.mean(waits))
    assert content["policies_by_load"]["0.95"]["most-allocated"]["mean_wait_seconds"] == pytest.approx(np.mean(late))


def test_the_json_form_says_what_each_metric_is(evaluation: Evaluation) -> None:
    described = json.loads(json_report(evaluation))["metrics"]
    assert list(described) == list(catalogue())
    assert described["p95_wait_seconds"]["unit"] == "s"


def test_the_json_form_compares_every_metric_with_every_baseline_at_every_load(evaluation: Evaluation) -> None:
    comparisons = json.loads(json_report(evaluation))["comparisons"]
    assert len(comparisons) == len(BASELINES) * 2 * len(catalogue())
    assert all(set(entry) == {entry.name for entry in fields(Comparison)} for entry in comparisons)


def test_the_json_form_holds_every_episode(evaluation: Evaluation) -> None:
    episodes = json.loads(json_report(evaluation))["episodes"]
    assert len(episodes) == len(evaluation.results)
    assert episodes[0]["metrics"]["mean_wait_seconds"] == evaluation.results[0].metrics["mean_wait_seconds"]


def test_the_json_form_holds_means_with_intervals(evaluation: Evaluation) -> None:
    entry = json.loads(json_report(evaluation))["statistics_by_load"]["0.7"]["trained"]["mean_slowdown"]
    assert set(entry) == {"mean", "low", "high", "interquartile_mean"}
    assert entry["low"] <= entry["mean"] <= entry["high"]


def test_the_json_form_says_what_was_played(evaluation: Evaluation) -> None:
    settings = json.loads(json_report(evaluation))["settings"]
    assert (settings["nodes"], settings["pods"], settings["loads"]) == (12, 300, [0.7, 0.95])
    assert set(settings["scheduler"]) == set(asdict(SchedulerArguments()))


def test_a_comparison_pairs_the_same_seeds(evaluation: Evaluation) -> None:
    entry = next(
        entry
        for entry in evaluation.comparisons
        if (entry.baseline, entry.metric, entry.load) == ("kube-scheduler-default", "mean_slowdown", 0.95)
    )
    ours = np.mean([result.metrics["mean_slowdown"] for result in evaluation.of("trained", 0.95)])
    theirs = np.mean([result.metrics["mean_slowdown"] for result in evaluation.of("kube-scheduler-default", 0.95)])
    assert entry.difference == pytest.approx(ours - theirs)
    assert entry.relative_difference == pytest.approx((ours - theirs) / theirs)


def test_p_values_are_corrected_over_policies_baselines_and_loads_of_one_metric(evaluation: Evaluation) -> None:
    entries = [entry for entry in evaluation.comparisons if entry.metric == "mean_wait_seconds"]
    assert len(entries) == 4
    adjusted = [entry.p_value_holm for entry in entries]
    assert adjusted == holm(np.array([entry.p_value for entry in entries])).tolist()


def test_progress_counts_the_episodes() -> None:
    told: list[tuple[int, int]] = []
    arguments = EvaluationArguments(nodes=8, pods=60, loads=[0.7], seeds=2, processes=1)
    everyone = rules(["best-fit", "random"])
    report = lambda done, total, what: told.append((done, total))  # noqa: E731
    evaluate(everyone[:1], everyone[1:], arguments, POPULATION, SYNTHETIC, report=report)
    assert told == [(0, 4), (2, 4), (4, 4)]


def test_the_scheduler_s_horizon_reaches_the_measurement() -> None:
    arguments = EvaluationArguments(nodes=8, pods=100, loads=[0.9], seeds=1, warm_up=0.0, processes=1)
    scheduler = SchedulerArguments(horizon_seconds=50.0)
    stage = Stage(rules(["best-fit"]), arguments, POPULATION, SYNTHETIC, scheduler)
    (result,) = stage.play(0.9, 1_000_000, [0])
    assert len(result.waits) < 100


def test_an_unknown_rule_is_refused_with_what_there_is() -> None:
    with pytest.raises(ValueError, match=r"worst-fit; there are random, .*best-fit"):
        rules(["random", "worst-fit"])


def test_two_contenders_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="best-fit: more than one contender has this name"):
        evaluate(rules(["best-fit"]), rules(["best-fit"]), EvaluationArguments(), POPULATION, SYNTHETIC)


class Stubborn:
    """A policy that fails when it is asked."""

    name = "stubborn"

    def scores(self, nodes: object, pod: object, candidates: object) -> np.ndarray:
        raise PolicyError("stubborn: does not answer")


@pytest.mark.usefixtures("processes_at_once")
@pytest.mark.parametrize("processes", [1, 2])
def test_a_policy_that_fails_ends_the_evaluation_with_its_message(processes: int) -> None:
    arguments = EvaluationArguments(nodes=8, pods=60, loads=[0.7], seeds=2, processes=processes)
    with pytest.raises(PolicyError, match="stubborn: does not answer"):
        evaluate([Contender("stubborn", Stubborn())], rules(["random"]), arguments, POPULATION, SYNTHETIC)


def test_a_metric_that_no_episode_has_is_null_in_json(evaluation: Evaluation) -> None:
    metric = "violations_priority_0"
    results = [
        type(result)(**{**asdict(result), "metrics": {**result.metrics, metric: math.nan}})
        for result in evaluation.results
    ]
    emptied = Evaluation("by hand", evaluation.settings, evaluation.metrics, results, [])
    assert emptied.to_json()["policies"]["trained"][metric] is None
