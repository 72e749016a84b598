import numpy as np
import pytest

from extender.policies.heuristics import HEURISTICS
from tests.clusters import GIB, Node
from tests.training.small_workloads import Pod, openb_like, workload_of
from training.evaluation.periods import evaluate_periods, judged_on
from training.evaluation.report import html_report, json_report, markdown_report, terminal_tables
from training.evaluation.runner import Contender, rules
from training.workloads.periods import Period


def busy(seed: int, carried: int = 0) -> Period:
    workload = openb_like(nodes=8, pods=150, load=0.9, seed=seed)
    return Period(0.0, float(workload.arrival[-1]) + 1.0, carried, workload)


def test_contenders_are_paired_by_period() -> None:
    found = evaluate_periods(rules(["random"]), rules(["best-fit"]), [busy(1), busy(2), busy(3)], "three")
    assert found.seeds == [0, 1, 2]
    [entry] = [each for each in found.comparisons if each.metric == "mean_wait_seconds"]
    assert entry.pairs == 3
    waits = {name: found.mean(name, "mean_wait_seconds") for name in found.policies}
    assert entry.difference == pytest.approx(waits["random"] - waits["best-fit"])


def test_a_policy_does_as_well_as_itself() -> None:
    twice = [Contender("one", HEURISTICS["best-fit"]), Contender("other", HEURISTICS["best-fit"])]
    found = evaluate_periods(twice[:1], twice[1:], [busy(1), busy(2)], "two")
    assert all(entry.difference == 0.0 for entry in found.comparisons if not np.isnan(entry.difference))


def test_pods_that_were_there_before_are_not_counted() -> None:
    # Room for one pod at a time: the first holds it, the second waits for 10 s, and would for 0 s without the first.
    waiting = workload_of([Node(1000, GIB)], [Pod(0.0, 10.0, 1000), Pod(0.0, 10.0, 1000)])
    counted = {
        carried: evaluate_periods(rules(["best-fit"]), [], [Period(0.0, 20.0, carried, waiting)], "one").results[0]
        for carried in (0, 1)
    }
    assert counted[0].waits.tolist() == [0.0, 10.0]
    assert counted[1].waits.tolist() == [10.0]


def test_the_reports_of_any_evaluation_can_be_made() -> None:
    periods = [busy(1, carried=5), busy(2)]
    found = evaluate_periods(rules(["best-fit"]), rules(["random"]), periods, "two")
    facts = {"Judged on": judged_on(periods)}
    assert "2 recorded periods" in markdown_report("periods", found, facts)
    assert "5 that were running" in html_report("periods", found, facts)
    assert '"carried": 5' in json_report(found)


def test_reports_call_periods_what_they_are() -> None:
    periods = [busy(1), busy(2)]
    found = evaluate_periods(rules(["best-fit"]), rules(["random"]), periods, "two")
    facts = {"Judged on": judged_on(periods)}
    means, differences = terminal_tables(found)
    assert str(means.title).endswith("means of 2 periods")
    assert str(differences.title).endswith("paired by period")
    for report in (markdown_report("periods", found, facts), html_report("periods", found, facts)):
        assert "seed" not in report
        assert "eans over the periods" in report


def test_no_period_is_refused() -> None:
    with pytest.raises(ValueError, match="no period"):
        evaluate_periods(rules(["best-fit"]), [], [], "none")


def test_played_throughout_what_waits_goes_on_waiting_into_the_next_period() -> None:
    # Room for one pod at a time: the second period's pod waits for what is left of the first period's.
    arriving = [Pod(0.0, 30.0, 1000), Pod(5.0, 30.0, 1000), Pod(12.0, 1.0, 1000)]
    whole = Period(100.0, 120.0, 0, workload_of([Node(1000, GIB)], arriving))
    parts = [
        Period(100.0, 110.0, 0, workload_of([Node(1000, GIB)], arriving[:2])),
        Period(110.0, 120.0, 0, workload_of([Node(1000, GIB)], [Pod(2.0, 1.0, 1000)])),
    ]
    found = evaluate_periods(rules(["best-fit"]), rules(["first-fit"]), parts, "two", whole=whole)
    assert [result.waits.tolist() for result in found.of("best-fit")] == [[0.0, 25.0], [48.0]]
    [entry] = [each for each in found.comparisons if each.metric == "mean_wait_seconds"]
    assert (entry.pairs, entry.difference) == (2, 0.0)
    alone = evaluate_periods(rules(["best-fit"]), [], parts[1:], "one", whole=whole)
    assert alone.results[0].waits.tolist() == [48.0]


def test_one_period_is_the_same_either_way() -> None:
    period = busy(1)
    one = evaluate_periods(rules(["best-fit"]), [], [period], "one").results[0]
    other = evaluate_periods(rules(["best-fit"]), [], [period], "one", whole=period).results[0]
    assert {key: value for key, value in other.metrics.items() if not np.isnan(value)} == pytest.approx(
        {key: value for key, value in one.metrics.items() if not np.isnan(value)}
    )
