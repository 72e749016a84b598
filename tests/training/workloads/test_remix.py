import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extender.placement import CPU, GPU
from tests.training.populations import population_of
from training.workloads.arrivals import ArrivalProcess
from training.workloads.base import Population, draw_workload, typical_pods, with_resources
from training.workloads.generated import GeneratorArguments
from training.workloads.generated import generate_population as generate_to_order
from training.workloads.recipe import CLASSES, Recipe, RemixArguments
from training.workloads.remix import remix, remix_by
from training.workloads.synthetic import generate_population

OPENB_LIKE = generate_population(np.random.default_rng(0))
CONSTRAINED = generate_to_order(GeneratorArguments(nodes=60, pods=2000, templates=60, gpu_nodes_tainted=True), 4)
WITHOUT_GPUS, WITH_MORE_RESOURCES = (with_resources(OPENB_LIKE, count, np.random.default_rng(0)) for count in (2, 5))
SMALL = population_of(
    [(8000, 64, 0), (8000, 64, 2), (16000, 64, 4), (16000, 64, 2)],
    [(1000, 1, 0, 0)] * 4 + [(2000, 1, 1, 250)] * 8 + [(3000, 1, 1, 500)] * 2 + [(4000, 1, 1, 1000)] * 4
    + [(6000, 1, 2, 1000)] * 2,
    models=["", "A", "A", "B"],
)  # fmt: skip
OFF = RemixArguments(
    bootstrap=False, class_shift=0, absent_chance=0, cpu_only_factor=1, size_sigma=0, shape_sigma=0, size_jitter=0,
    cpu_factor=1, spec_share=0, node_sigma=0, relabel_chance=0,
)  # fmt: skip


def demand_shares(population: Population) -> np.ndarray:
    classes = population.shapes.classes[population.shape]
    demand = np.bincount(classes, weights=population.shapes.request[population.shape, GPU], minlength=CLASSES)
    return demand[1:] / demand.sum()


def class_sizes(population: Population) -> np.ndarray:
    return np.bincount(population.shapes.classes[population.shape], minlength=CLASSES)


def of(population: Population, seed: int = 0, **changes: object) -> Population:
    return remix_by(population, Recipe(**changes), np.random.default_rng(seed))


def same(one: Population, other: Population) -> bool:
    fields = ("allocatable", "devices", "model", "pod_limit", "price", "admits", "shape", "duration", "priority")
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in fields) and all(
        np.array_equal(*pair) for pair in zip(vars(one.shapes).values(), vars(other.shapes).values(), strict=True)
    )


def named_share(population: Population) -> float:
    with_gpu = population.devices > 0
    restricted = ~population.admits[:, with_gpu].all(axis=1)[population.shape]
    return float(restricted[population.shapes.gpu_count[population.shape] > 0].mean())


@given(st.integers(0, 999))
@settings(max_examples=10)
def test_nothing_changes_where_all_is_switched_off(seed):
    assert remix(OPENB_LIKE, OFF, np.random.default_rng(seed)) is OPENB_LIKE


@given(st.integers(0, 999))
@settings(max_examples=10, deadline=None)
def test_the_same_seed_gives_the_same_remix(seed):
    first, second = (remix(CONSTRAINED, RemixArguments(), np.random.default_rng(seed)) for _ in range(2))
    assert same(first, second)


def test_another_seed_gives_another_remix():
    first, second = (remix(OPENB_LIKE, RemixArguments(), np.random.default_rng(seed)) for seed in (1, 2))
    assert not same(first, second)


@pytest.mark.parametrize("mix", [(0.2, 0.4, 0.4), (1.0, 0.0, 0.0), (0.1, 0.9, 0.0)])
@pytest.mark.parametrize("changes", [{}, {"size_sigma": 1.0, "shape_sigma": 0.5, "size_jitter": 0.3}])
def test_pod_classes_have_the_drawn_shares_of_the_gpu_demand(mix, changes):
    remixed = of(OPENB_LIKE, class_shift=1.0, class_mix=mix, **changes)
    assert demand_shares(remixed) == pytest.approx(mix, abs=0.02)  # whole pods only, of up to 8 GPUs


def test_a_shift_by_half_ends_half_way():
    remixed = of(OPENB_LIKE, class_shift=0.5, class_mix=(1.0, 0.0, 0.0))
    expected = 0.5 * demand_shares(OPENB_LIKE) + [0.5, 0, 0]
    assert demand_shares(remixed) == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("factor", [0.3, 2.5])
def test_pods_without_gpu_are_counted_against_those_with_one(factor):
    before, after = class_sizes(OPENB_LIKE), class_sizes(of(OPENB_LIKE, cpu_only=factor))
    assert after[0] / after[1:].sum() == pytest.approx(factor * before[0] / before[1:].sum(), rel=0.01)
    assert after.sum() == before.sum()


def test_a_class_that_is_left_out_has_no_pods_and_the_others_keep_their_proportions():
    before, after = class_sizes(OPENB_LIKE), class_sizes(of(OPENB_LIKE, absent=(True, False, False, False)))
    assert after[0] == 0
    assert after[1:] / after.sum() == pytest.approx(before[1:] / before[1:].sum(), abs=0.01)


def test_sizes_of_shared_pods_change_together_and_stay_below_a_device():
    remixed = of(SMALL, size_jitter=1.0, size_step=125, seed=3)
    milli = remixed.shapes.gpu_milli[remixed.shapes.classes == 1]
    assert len(milli) == 2
    assert np.all((milli > 0) & (milli < 1000) & (milli % 125 == 0))
    assert not set(milli) <= {250, 500}


def test_popular_sizes_change_where_sizes_are_weighed_anew():
    def most_frequent(population: Population) -> int:
        shared = population.shapes.classes[population.shape] == 1
        return int(np.bincount(population.shapes.gpu_milli[population.shape][shared]).argmax())

    assert {most_frequent(of(SMALL, seed, size_sigma=2.0)) for seed in range(20)} == {250, 500}


def test_pods_with_gpu_ask_for_other_amounts_of_cpu_but_never_more_than_fits():
    remixed = of(SMALL, cpu=3.0)
    cpu = {(int(row[GPU]), int(row[CPU])) for row in remixed.shapes.request}
    # Two whole GPUs: 18,000 would fit on no node, 16,000 is the largest.
    assert cpu == {(0, 1000), (250, 6000), (500, 9000), (1000, 12000), (2000, 16000)}
    assert np.array_equal(remixed.shapes.nonzero[:, CPU], remixed.shapes.request[:, CPU])


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_as_many_gpu_pods_name_models_as_drawn(share):
    models = GeneratorArguments(nodes=60, pods=2000, templates=60, pool_selector_share=0.0)
    remixed = of(generate_to_order(models), spec_share=share)
    assert named_share(remixed) == pytest.approx(share, abs=0.01)


def test_models_are_named_anew_where_they_were_named_before():
    population = population_of(
        [(8000, 64, 2), (8000, 64, 2)],
        [(1000, 1, 1, 1000)] * 10,
        models=["A", "B"],
        constraints=np.repeat([0, 1], 5),
        admitted=np.array([[True, False], [True, True]]),
    )
    assert named_share(of(population, spec_share=0.0)) == 0.0
    assert named_share(of(population, cpu_only=2.0)) == 0.5  # left alone
    assert named_share(of(population, spec_share=0.2)) <= 0.2  # a set of both models restricts nothing


def test_kinds_of_nodes_are_weighed_anew():
    def share_of_largest(population: Population) -> float:
        return float((population.devices == 4).mean())

    shares = [share_of_largest(of(SMALL, seed, node_sigma=2.0)) for seed in range(20)]
    assert min(shares) == 0.0
    assert max(shares) > 0.25


def test_models_are_dealt_to_kinds_of_nodes_and_pods_follow_the_models_they_name():
    population = population_of(
        [(8000, 64, 2)] * 3 + [(16000, 64, 2)] * 3,
        [(1000, 1, 1, 1000)] * 5 + [(1000, 1, 2, 1000)] * 5,
        models=["A"] * 3 + ["B"] * 3,
        constraints=np.repeat([0, 1], 5),
        admitted=np.array([[True] * 3 + [False] * 3, [True] * 6]),
    )
    for seed in range(10):
        remixed = of(population, seed, relabel=True)
        picky = np.flatnonzero(remixed.shapes.gpu_count == 1)
        assert len(set(zip(remixed.allocatable[:, CPU], remixed.model, strict=True))) == 2  # one model a kind
        for shape in picky:
            assert np.array_equal(remixed.admits[shape], np.array(remixed.models)[remixed.model] == "A")


def test_nothing_that_fits_is_an_error():
    with pytest.raises(ValueError, match="none of the 1 pods of by hand fits"):
        of(population_of([(1000, 1, 0)], [(2000, 1, 0, 0)]), cpu_only=2.0)


@given(
    st.sampled_from([SMALL, CONSTRAINED, OPENB_LIKE, WITHOUT_GPUS, WITH_MORE_RESOURCES]),
    st.integers(0, 9999),
    st.sampled_from([RemixArguments(), RemixArguments(as_is_chance=0.0, absent_chance=0.5, cpu_factor=10.0)]),
)
@settings(max_examples=60, deadline=None)
def test_a_remix_is_a_population_in_which_everything_fits_somewhere(population, seed, arguments):
    remixed = remix(population, arguments, np.random.default_rng(seed))
    shapes = remixed.shapes
    assert len(remixed.shape) == len(population.shape) == len(remixed.duration) == len(remixed.priority)
    assert len(remixed.devices) == len(population.devices)
    assert shapes.fitting_somewhere(remixed.allocatable, remixed.devices, remixed.admits)[remixed.shape].all()
    assert np.array_equal(shapes.request[:, GPU], shapes.gpu_count * shapes.gpu_milli)
    assert np.all((shapes.gpu_count > 0) == (shapes.gpu_milli > 0))
    assert np.all((shapes.nonzero > 0) & (shapes.nonzero >= shapes.request[:, :2]))
    assert set(np.unique(remixed.shape)) == set(range(len(shapes)))
    typical = typical_pods(shapes, remixed.shape)
    assert typical.share.sum() == pytest.approx(1.0)
    workload = draw_workload(
        remixed, nodes=len(remixed.devices), pods=50, load=0.9, process=ArrivalProcess.POISSON,
        shortest_seconds=1.0, longest_seconds=1e4, generator=np.random.default_rng(seed),
    )  # fmt: skip
    assert np.all(np.diff(workload.arrival) >= 0)
