from pathlib import Path

import pytest

from training.workloads.openb import TRACES_VARIABLE, TraceError
from training.workloads.selection import WorkloadArguments, load_population


def test_the_trace_is_used_where_it_is_found(openb_traces: Path) -> None:
    population = load_population(WorkloadArguments(traces=str(openb_traces)), 3)
    assert population.name.startswith("openb (default), 1213 nodes and 8152 pods")


def test_without_a_trace_the_generator_is_used_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TRACES_VARIABLE, raising=False)
    monkeypatch.setattr("training.workloads.openb.find_traces", lambda setting: None)
    assert load_population(WorkloadArguments(), 3).name.startswith("built-in generator")
    with pytest.raises(TraceError, match=r"workload\.source=openb, but no trace was found"):
        load_population(WorkloadArguments(source="openb"), 3)


def test_a_folder_that_was_named_must_hold_the_trace(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="expected a folder with"):
        load_population(WorkloadArguments(traces=str(tmp_path)), 3)


def test_the_generator_makes_the_same_population_every_time() -> None:
    first, second = (load_population(WorkloadArguments(source="synthetic"), 5) for _ in range(2))
    assert first.resources == second.resources
    assert len(first.resources) == 5
    assert (first.duration == second.duration).all()
    assert (first.shapes.request == second.shapes.request).all()
