import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from extender.placement import CPU, GPU, MEMORY
from training.workloads.base import BASE_RESOURCES, ArrivalProcess, Population, draw_workload
from training.workloads.generated import GeneratorArguments, fill_classes, generate_population, hour_weights

MANY_TEMPLATES = {"templates": 4000, "pods": 40_000}


def generate(resources: int = 3, **arguments: object) -> Population:
    return generate_population(GeneratorArguments(**arguments), resources)


def requests(population: Population) -> np.ndarray:
    return population.shapes.request[population.shape]


@given(
    st.integers(2, 16),
    st.integers(1, 60),
    st.booleans(),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.sampled_from([0.0, 1.0]),
    st.integers(0, 99),
)
def test_every_generated_pod_fits_on_some_node(resources, nodes, tainted, gpu_pods, gpu_nodes, selecting, seed):
    population = generate(
        resources,
        nodes=nodes,
        pods=200,
        templates=40,
        gpu_nodes_tainted=tainted,
        gpu_pod_share=gpu_pods,
        gpu_node_share=gpu_nodes,
        model_selector_share=selecting,
        pool_selector_share=selecting,
        request_sigma=2.0,
        seed=seed,
    )
    shapes = population.shapes
    fitting = shapes.fitting_somewhere(population.allocatable, population.devices, population.admits)
    assert np.all(fitting[population.shape])
    np.testing.assert_array_equal(shapes.request[:, GPU], shapes.gpu_count * shapes.gpu_milli)


@pytest.mark.parametrize("resources", [3, 4, 16])
def test_there_are_as_many_resources_as_asked_for(resources):
    population = generate(resources)
    assert len(set(population.resources)) == resources
    assert population.resources[:3] == BASE_RESOURCES
    assert population.allocatable.shape[1] == population.shapes.request.shape[1] == resources


def test_two_resources_are_a_cluster_without_gpus():
    population = generate(2)
    assert population.resources == BASE_RESOURCES
    assert not population.allocatable[:, GPU].any()
    assert not population.shapes.gpu_count.any()


@pytest.mark.parametrize("resources", [1, 17])
def test_other_numbers_of_resources_are_refused(resources):
    with pytest.raises(ValueError, match=f"2 to 16 resources, not {resources}"):
        generate(resources)


def test_the_same_seed_generates_the_same_population():
    first, same, other = generate(seed=1), generate(seed=1), generate(seed=2)
    np.testing.assert_array_equal(first.duration, same.duration)
    np.testing.assert_array_equal(requests(first), requests(same))
    assert not np.array_equal(first.duration, other.duration)


def test_log_normal_durations_are_log_normal():
    population = generate(duration_median_seconds=300.0, duration_sigma=1.2, duration_similarity=0.0, **MANY_TEMPLATES)
    normal = np.log(population.duration / 300.0) / 1.2
    assert stats.kstest(normal, "norm").pvalue > 0.01


def test_pareto_durations_are_pareto():
    population = generate(
        duration_law="pareto", duration_median_seconds=300.0, duration_tail=1.5, duration_similarity=0.0
    )
    least = 300.0 / 2 ** (1 / 1.5)
    assert stats.kstest(population.duration, stats.pareto(1.5, scale=least).cdf).pvalue > 0.01


def test_similar_durations_keep_median_and_spread():
    population = generate(duration_median_seconds=300.0, duration_sigma=1.0, duration_similarity=0.7)
    logarithm = np.log(population.duration / 300.0)
    assert logarithm.mean() == pytest.approx(0.0, abs=0.05)
    assert logarithm.std() == pytest.approx(1.0, abs=0.05)


def test_pods_of_a_template_run_for_similar_times():
    def within(similarity: float) -> float:
        population = generate(duration_similarity=similarity, templates=50)
        logarithm = np.log(population.duration)
        return np.mean([logarithm[population.shape == shape].std() for shape in range(10)])

    assert within(0.9) < 0.5 * within(0.0)


@pytest.mark.parametrize("correlation", [0.0, 0.7])
def test_requests_are_correlated_as_asked_for(correlation):
    population = generate(4, request_correlation=correlation, gpu_pod_share=0.0, cores_median=8.0, **MANY_TEMPLATES)
    logarithms = np.log(population.shapes.request[:, [CPU, MEMORY, 3]])
    assert np.corrcoef(logarithms.T)[np.triu_indices(3, 1)] == pytest.approx(correlation, abs=0.08)


def test_a_pod_with_more_cpu_takes_a_larger_part_of_a_gpu():
    population = generate(request_correlation=0.8, shared_gpu_share=1.0, several_gpus_share=0.0, **MANY_TEMPLATES)
    parts = population.shapes.classes == 1
    assert stats.spearmanr(population.shapes.request[parts][:, [CPU, GPU]]).statistic > 0.6


def test_classes_of_pods_have_the_asked_for_shares():
    population = generate(gpu_pod_share=0.6, shared_gpu_share=0.5, several_gpus_share=0.1)
    shares = np.bincount(population.shapes.classes[population.shape], minlength=4) / len(population.shape)
    assert shares == pytest.approx([0.4, 0.3, 0.24, 0.06], abs=0.02)


def test_classes_are_filled_to_their_shares_whatever_the_frequencies():
    frequency = 1.0 / np.arange(1, 101)
    frequency /= frequency.sum()
    chosen = fill_classes(np.array([0.7, 0.0, 0.25, 0.05]), frequency, np.random.default_rng(0))
    assert np.bincount(chosen, frequency, minlength=4) == pytest.approx([0.7, 0.0, 0.25, 0.05], abs=0.01)


def test_priorities_have_the_asked_for_shares():
    population = generate(priorities=[-10, 0, 1000], priority_shares=[1.0, 2.0, 1.0])
    values, counts = np.unique(population.priority, return_counts=True)
    assert values.tolist() == [-10, 0, 1000]
    assert counts / 10_000 == pytest.approx([0.25, 0.5, 0.25], abs=0.02)


def test_some_gpu_pods_admit_some_models_only():
    population = generate(model_selector_share=0.3)
    with_gpu = population.shapes.gpu_count[population.shape] > 0
    some_only = ~population.shapes.models.all(axis=1)[population.shape]
    assert np.mean(some_only[with_gpu]) == pytest.approx(0.3, abs=0.05)
    assert not some_only[~with_gpu].any()


def test_taints_keep_pods_without_gpu_off_the_nodes_with():
    population = generate(gpu_nodes_tainted=True)
    without = population.shapes.gpu_count == 0
    assert not population.admits[without][:, population.devices > 0].any()
    assert population.admits[~without][:, population.devices > 0].any(axis=1).all()


def test_a_pool_is_selected_by_some_pods():
    population = generate(pools=4, pool_selector_share=0.5, model_selector_share=0.0)
    share_of_nodes = population.admits.mean(axis=1)[population.shape]
    assert np.mean(share_of_nodes < 0.5) == pytest.approx(0.5, abs=0.03)


def test_the_busiest_hour_has_the_asked_for_contrast():
    weights = hour_weights(GeneratorArguments(busiest_hour=15.5, day_contrast=4.0))
    assert np.argmax(weights) == 15
    assert weights.max() / weights.min() == pytest.approx(4.0)


@pytest.mark.parametrize("process", [ArrivalProcess.POISSON, ArrivalProcess.BURSTY, ArrivalProcess.DIURNAL])
def test_workloads_are_drawn_with_any_process(process):
    workload = draw_workload(
        generate(5),
        nodes=16,
        pods=100,
        load=0.9,
        process=process,
        shortest_seconds=1.0,
        longest_seconds=1e6,
        generator=np.random.default_rng(0),
    )
    assert np.all(np.diff(workload.arrival) >= 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"priorities": [0, 1, 2]}, "priority_shares has 2 numbers for the 3 of workload.generator.priorities"),
        ({"priority_shares": [0.0, 0.0]}, "expected shares above 0"),
        ({"shared_gpu_share": 0.9, "several_gpus_share": 0.2}, "more than all GPU pods"),
        ({"node_cores": [0]}, "expected numbers from 1 on"),
        ({"gpus_per_node": [63]}, "expected numbers from 1 on"),
        ({"gpu_models": ["T4", "T4"]}, "expected different names"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        generate(**arguments)


def test_sizes_of_shared_and_of_several_gpus_can_be_given():
    population = generate(
        gpu_pod_share=1.0,
        shared_gpu_share=0.5,
        several_gpus_share=0.4,
        shared_gpu_milli=[100, 100, 300],
        several_gpus=[2, 4],
        **MANY_TEMPLATES,
    )
    shape = population.shape
    count, milli = population.shapes.gpu_count[shape], population.shapes.gpu_milli[shape]
    assert set(milli[milli < 1000]) == {100, 300}
    assert (milli[milli < 1000] == 100).mean() == pytest.approx(2 / 3, abs=0.05)
    assert set(count[count > 1]) == {2, 4}


def test_pods_may_have_more_memory_by_core_than_nodes():
    population = generate(gib_per_core=8.0, pod_gib_per_core=2.0, request_correlation=1.0, **MANY_TEMPLATES)
    asked = requests(population)
    assert np.median(asked[:, MEMORY] / 1024**3 / (asked[:, CPU] / 1000)) == pytest.approx(2.0, rel=0.1)
    assert np.median(population.allocatable[:, MEMORY] / 1024**3 / (population.allocatable[:, CPU] / 1000)) == 8.0


@pytest.mark.parametrize("wrong", [{"shared_gpu_milli": [1000]}, {"shared_gpu_milli": [0]}, {"several_gpus": [1]}])
def test_sizes_that_are_none_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        generate(**wrong)
