"""Side by side: the same pods for all, and sentences that say no more than the interval."""

from dataclasses import fields

import numpy as np
import pytest

from training.demo import figures
from training.demo.paired import SHOWN_METRICS, Game, differences, rows, side_by_side, verdict
from training.evaluation.metrics import catalogue
from training.evaluation.runner import Evaluation
from training.evaluation.statistics import Comparison
from training.workloads.selection import WorkloadArguments
from training.workloads.synthetic import generate_population

BASELINE = "rule random"


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    policies = {"rule best-fit": "best-fit", BASELINE: "random", "rule fgd": "fgd"}
    population = generate_population(np.random.default_rng(0))
    return side_by_side(policies, BASELINE, Game(8, 200, 1.0, 5), population, WorkloadArguments())


def comparison(difference: float, low: float, high: float) -> Comparison:
    values = dict.fromkeys((field.name for field in fields(Comparison)), 0.0)
    values |= {"difference": difference, "difference_low": low, "difference_high": high}
    return Comparison(**(values | {"policy": "mine", "baseline": "theirs"}))


def test_everybody_meets_the_same_pods(evaluation: Evaluation) -> None:
    spans = {
        seed: {result.metrics["rejected"] for result in evaluation.results if result.seed == seed}
        for seed in evaluation.seeds
    }
    assert len(evaluation.results) == 15
    assert all(len(values) == 1 for values in spans.values())


def test_each_policy_is_compared_with_the_baseline_alone(evaluation: Evaluation) -> None:
    for key in SHOWN_METRICS:
        found = differences(evaluation, key)
        assert [(entry.policy, entry.baseline) for entry in found] == [
            ("rule best-fit", BASELINE),
            ("rule fgd", BASELINE),
        ]


def test_tables_have_a_row_per_policy_and_intervals(evaluation: Evaluation) -> None:
    table = rows(evaluation, evaluation.metrics["mean_wait_seconds"])
    assert [row[0] for row in table] == evaluation.policies
    assert all("[" in row[1] for row in table)
    assert table[-1][2] == "\N{EN DASH}"


@pytest.mark.parametrize(
    ("key", "entry", "said"),
    [
        ("mean_wait_seconds", comparison(-3, -5, -1), "mine: mean wait is better than theirs's"),
        ("mean_wait_seconds", comparison(3, 1, 5), "mine: mean wait is worse than theirs's"),
        ("mean_wait_seconds", comparison(-3, -5, 1), "mine: no certain difference in mean wait from theirs"),
        ("mean_wait_seconds", comparison(np.nan, np.nan, np.nan), "no certain difference"),
        (
            "gpu_allocation",
            comparison(0.03, 0.01, 0.05),
            "GPU allocation is better than theirs's, +3.0 [+1.0, +5.0] po",
        ),
    ],
)
def test_a_sentence_says_no_more_than_the_interval(key: str, entry: Comparison, said: str) -> None:
    assert said in verdict(entry, catalogue()[key])


def test_the_picture_shows_every_interval_and_names_its_unit(evaluation: Evaluation) -> None:
    metric = evaluation.metrics["gpu_allocation"]
    figure = figures.paired_differences(differences(evaluation, metric.key), metric)
    assert len(figure.data) == 2
    assert figure.layout.xaxis.title.text == "difference in GPU allocation, points"
