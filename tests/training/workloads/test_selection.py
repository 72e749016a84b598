from pathlib import Path

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from training.workloads.assembly import NodePrices
from training.workloads.openb import TRACES_VARIABLE, TraceError
from training.workloads.selection import GeneratorArguments, WorkloadArguments, draw, load_population


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


def test_what_is_generated_is_as_the_settings_say() -> None:
    arguments = WorkloadArguments(source="generated", generator=GeneratorArguments(nodes=7, pods=50))
    population = load_population(arguments, 6)
    assert len(population.devices) == 7
    assert len(population.shape) == 50
    assert len(population.resources) == 6


@pytest.mark.parametrize("source", ["csv", "kubectl", "decisions"])
def test_a_recorded_source_needs_a_path(source: str) -> None:
    with pytest.raises(TraceError, match=rf"workload\.source={source} reads from a folder, but none is named"):
        load_population(WorkloadArguments(source=source), 3)


def test_a_path_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"workload\.path=.*nowhere: there is no such folder"):
        load_population(WorkloadArguments(source="csv", path=str(tmp_path / "nowhere")), 3)


@pytest.fixture
def csv_trace(tmp_path: Path) -> Path:
    """Two nodes and two pods with a resource of their own."""
    (tmp_path / "nodes.csv").write_text("name,cpu,memory,gpus,x/licence\na,8,32Gi,1,4\nb,8,32Gi,0,0\n")
    (tmp_path / "pods.csv").write_text(
        "name,arrival,duration,cpu,memory,gpus,x/licence\np,0,60,1,1Gi,1,1\nq,60,60,1,1Gi,0,0\n"
    )
    return tmp_path


def test_recorded_resources_are_kept_as_far_as_they_are_wanted(csv_trace: Path) -> None:
    arguments = WorkloadArguments(source="csv", path=str(csv_trace))
    assert load_population(arguments, 4).resources == ("cpu", "memory", "gpu", "x/licence")
    assert load_population(arguments, 3).resources == ("cpu", "memory", "gpu")


def test_no_resource_is_invented_for_what_was_recorded(csv_trace: Path) -> None:
    with pytest.raises(TraceError, match=r"there are 4 resources in it \(cpu, memory, gpu, x/licence\), not 5"):
        load_population(WorkloadArguments(source="csv", path=str(csv_trace)), 5)


def test_a_recorded_cluster_can_be_taken_without_its_gpus(csv_trace: Path) -> None:
    population = load_population(WorkloadArguments(source="csv", path=str(csv_trace)), 2)
    assert population.resources == ("cpu", "memory", "gpu")
    assert len(population.shape) == 1
    assert not population.devices.any()


@pytest.mark.parametrize("source", ["synthetic", "generated", "csv"])
def test_prices_are_those_of_the_settings(source: str, csv_trace: Path) -> None:
    free = NodePrices(core_hour=0.0, gib_hour=0.0, gpu_hour=2.0)
    population = load_population(WorkloadArguments(source=source, path=str(csv_trace), prices=free), 3)
    np.testing.assert_array_equal(population.price, 2.0 * population.devices)


def test_a_workload_is_drawn_as_the_settings_say(csv_trace: Path) -> None:
    arguments = WorkloadArguments(
        source="csv", path=str(csv_trace), process="trace", shortest_seconds=90.0, durations_known="exact"
    )
    population = load_population(arguments, 3)
    workload = draw(population, arguments, nodes=2, pods=10, load=0.5, generator=np.random.default_rng(0))
    assert workload.duration.tolist() == workload.expected.tolist() == [90.0] * 10


@pytest.mark.parametrize(
    "setting",
    [{"source": "alibaba"}, {"process": "often"}, {"durations_known": "all"}, {"generator": {"pods": 0}}],
)
def test_impossible_settings_are_refused(setting: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(WorkloadArguments).validate_python(setting)


@pytest.mark.parametrize("source", ["synthetic", "generated"])
def test_a_generator_has_no_recorded_arrivals(source: str) -> None:
    with pytest.raises(TraceError, match=r"workload\.process=trace needs recorded arrivals"):
        load_population(WorkloadArguments(source=source, process="trace"), 3)
