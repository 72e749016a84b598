import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from extender.telemetry.decision_records import BoundRecord, EndedRecord
from tests.training.workloads.test_recorded import MIDNIGHT, line, read
from training.workloads.base import Population
from training.workloads.periods import cut, read_periods, select, stretch
from training.workloads.synthetic import generate_population

HOUR = 3600.0


def came(*arrivals: float, duration: float = 10.0) -> Population:
    """Pods of the built-in generator that came then."""
    known = generate_population(np.random.default_rng(0))
    few = {name: np.resize(getattr(known, name), len(arrivals)) for name in ("shape", "priority", "expected")}
    return replace(known, **few, arrival=np.array(arrivals), duration=np.full(len(arrivals), duration))


def test_every_pod_is_in_the_period_in_which_it_came() -> None:
    periods = cut(came(0.0, 99.0, 100.0, 250.0), 100.0)
    assert [period.came for period in periods] == [2, 1, 1]
    assert [period.begin for period in periods] == [0.0, 100.0, 200.0]
    assert [period.workload.arrival[period.carried :].tolist() for period in periods] == [[0.0, 99.0], [0.0], [50.0]]


def test_pods_keep_their_shapes_durations_and_priorities() -> None:
    population = came(*np.arange(40.0))
    [period] = cut(population, 100.0)
    assert period.workload.shape.tolist() == population.shape.tolist()
    assert period.workload.priority.tolist() == population.priority.tolist()
    assert period.workload.duration.tolist() == population.duration.tolist()


def test_what_was_running_comes_along_with_what_was_left_of_it() -> None:
    _, second = cut(came(0.0, 95.0, 130.0, duration=20.0), 100.0)
    assert second.carried == 1
    assert second.workload.arrival.tolist() == [0.0, 30.0]
    assert second.workload.duration.tolist() == [15.0, 20.0]


def test_times_without_pods_are_left_out() -> None:
    assert [period.begin for period in cut(came(0.0, 1000.0), 100.0)] == [0.0, 1000.0]


def test_bounds_stay_where_they_are_told_to_be() -> None:
    assert [period.begin for period in cut(came(130.0, 250.0), 100.0, begin=0.0)] == [100.0, 200.0]


def test_pods_from_before_the_first_period_are_not_counted() -> None:
    [period] = cut(came(10.0, 130.0), 100.0, begin=100.0)
    assert (period.came, period.carried) == (1, 0)


def test_the_typical_pods_are_of_those_that_had_come() -> None:
    population = came(*np.arange(50.0), 200.0)
    first, second = cut(population, 100.0)
    of_all = second.workload.typical
    assert len(first.workload.typical.cpu) <= len(of_all.cpu)
    assert cut(replace(population, arrival=population.arrival + 7.0), 100.0)[0].workload.typical.cpu.tolist() == (
        first.workload.typical.cpu.tolist()
    )


def test_the_load_is_what_ran_within_the_period() -> None:
    population = came(0.0, duration=1000.0)
    [period] = cut(population, 100.0)
    request = population.shapes.request[population.shape[0]]
    assert period.load == pytest.approx(float(np.max(request / population.allocatable.sum(axis=0))))


def test_only_the_pods_of_the_chosen_times_are_selected() -> None:
    population = came(0.0, 50.0, 100.0, 150.0)
    assert select(population, [(0.0, 50.0), (100.0, 200.0)]).arrival.tolist() == [0.0, 100.0, 150.0]
    with pytest.raises(ValueError, match="no pod came"):
        select(population, [(1000.0, 2000.0)])


def test_a_replay_at_speed_is_stretched_to_the_time_that_it_stands_for() -> None:
    stretched = stretch(came(1.0, 2.0, duration=3.0), 100.0)
    assert stretched.arrival.tolist() == [100.0, 200.0]
    assert stretched.duration.tolist() == [300.0, 300.0]


def test_the_rhythm_of_a_selection_is_that_of_its_spans_by_how_long_they_cover_each_hour() -> None:
    often = np.arange(8 * HOUR, 12 * HOUR, 6.0)  # in what is not selected
    population = came(*np.arange(0.0, 32 * HOUR, 60.0), *often)
    found = select(population, [(0.0, 8 * HOUR), (12 * HOUR, 24 * HOUR + 10.0), (25 * HOUR, 32 * HOUR)])
    assert found.rhythm.hour_weights == pytest.approx(np.full(24, 60.0), rel=0.02)
    assert found.rhythm.gap_variation == pytest.approx(1.0)  # that of gaps that are all alike


def test_the_hours_of_a_replay_at_speed_are_those_that_it_stands_for() -> None:
    stretched = stretch(came(*np.arange(0.0, 0.5 * HOUR, 0.6)), 100.0)
    assert stretched.rhythm.hour_weights == pytest.approx(np.full(24, 60.0), rel=0.02)


def test_a_recorded_folder_is_read(tmp_path: Path) -> None:
    bound = BoundRecord(MIDNIGHT + 60.5, "uid-p", "a", 0.5)
    ended = EndedRecord(MIDNIGHT + 90.75, "uid-p", "a", 31.0)
    lines = [json.dumps({"kind": "bound", **_fields(bound)}), json.dumps({"kind": "ended", **_fields(ended)})]
    read(tmp_path, line(), line(uid="uid-q", time=MIDNIGHT + 130.0), *lines)
    first, second = read_periods(tmp_path, 60.0, assumed_seconds=600.0)
    assert first.workload.duration.tolist() == [30.25]  # from the news of the binding to the news of the end
    assert second.workload.duration.tolist() == [600.0]


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_a_length_that_is_none_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        cut(came(0.0), seconds)


def test_a_population_without_arrivals_is_refused() -> None:
    with pytest.raises(ValueError, match="when pods came"):
        cut(generate_population(np.random.default_rng(0)), 100.0)


def _fields(record: BoundRecord | EndedRecord) -> dict[str, object]:
    return {name: getattr(record, name) for name in record.__struct_fields__}
