import json
from pathlib import Path

import numpy as np
import pytest

from extender.policies.heuristics import HEURISTICS
from training.evaluation.metrics import METRICS
from training.evaluation.plots import CurvePoint
from training.evaluation.report import terminal_table, write_report
from training.evaluation.runner import Evaluation, EvaluationArguments, evaluate
from training.workloads.selection import WorkloadArguments
from training.workloads.synthetic import generate_population

BASELINES = ["kube-scheduler-default", "most-allocated"]


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    arguments = EvaluationArguments(nodes=12, pods=300, loads=[0.7, 0.95], seeds=3, baselines=BASELINES)
    population = generate_population(np.random.default_rng(0))
    return evaluate([HEURISTICS["best-fit"]], arguments, population, WorkloadArguments(source="synthetic"))


def test_every_policy_is_played_at_every_load_and_seed(evaluation: Evaluation) -> None:
    played = {(result.policy, result.load, result.seed) for result in evaluation.results}
    assert len(played) == len(evaluation.results) == 3 * 2 * 3
    assert evaluation.policies == ["best-fit", *BASELINES]


def test_a_rule_scores_the_same_as_a_policy_and_as_compiled_baseline() -> None:
    arguments = EvaluationArguments(nodes=12, pods=300, loads=[0.9], seeds=2, baselines=["best-fit"])
    population = generate_population(np.random.default_rng(0))
    result = evaluate([HEURISTICS["best-fit"]], arguments, population, WorkloadArguments(source="synthetic"))
    ours, theirs = result.results[0], result.results[1]
    # Ties are broken at random by the one and by order by the other, so single waits may differ.
    assert ours.metrics["gpu_allocation"] == pytest.approx(theirs.metrics["gpu_allocation"], rel=0.05)


def test_the_json_form_holds_means_and_comparisons(evaluation: Evaluation, tmp_path: Path) -> None:
    evaluation.write(tmp_path / "evaluation.json")
    content = json.loads((tmp_path / "evaluation.json").read_text())
    assert set(content["policies"]) == set(evaluation.policies)
    assert set(content["policies"]["best-fit"]) == set(METRICS)
    assert len(content["comparisons"]) == len(BASELINES) * 2 * len(METRICS)
    keys = {"policy", "baseline", "metric", "load", "relative_difference", "low", "high"}
    assert all(set(entry) == keys for entry in content["comparisons"])
    waits = [result.metrics["mean_wait_seconds"] for result in evaluation.of("most-allocated")]
    assert content["policies"]["most-allocated"]["mean_wait_seconds"] == pytest.approx(np.mean(waits))


def test_a_comparison_pairs_the_same_seeds(evaluation: Evaluation) -> None:
    entry = next(
        entry
        for entry in evaluation.comparisons
        if (entry.baseline, entry.metric, entry.load) == ("kube-scheduler-default", "mean_slowdown", 0.95)
    )
    ours = np.mean([result.metrics["mean_slowdown"] for result in evaluation.of("best-fit", 0.95)])
    theirs = np.mean([result.metrics["mean_slowdown"] for result in evaluation.of("kube-scheduler-default", 0.95)])
    assert entry.relative_difference == pytest.approx((ours - theirs) / theirs)
    assert entry.low <= entry.relative_difference <= entry.high


def test_an_unknown_baseline_is_refused_with_what_there_is() -> None:
    arguments = EvaluationArguments(baselines=["worst-fit"])
    population = generate_population(np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"worst-fit; there are random, .*best-fit"):
        evaluate([], arguments, population, WorkloadArguments(source="synthetic"))


def test_the_report_needs_nothing_but_itself(evaluation: Evaluation, tmp_path: Path) -> None:
    curve = [CurvePoint(1000, 1.0, -5.0, 30.0), CurvePoint(2000, 2.0, -3.0, 20.0)]
    write_report(
        tmp_path / "report.html", name="trial", evaluation=evaluation, curve=curve, facts={"Trained with": "<x>"}
    )
    page = (tmp_path / "report.html").read_text()
    assert page.count("<svg") == 2 * len(evaluation.loads) + 2
    assert "Learning curve" in page
    assert "<script" not in page
    assert "src=" not in page
    assert "&lt;x&gt;" in page
    assert all(label in page for label in METRICS.values())


def test_the_terminal_table_has_a_row_per_load_and_policy(evaluation: Evaluation) -> None:
    assert terminal_table(evaluation).row_count == 2 * 3
