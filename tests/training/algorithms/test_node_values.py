import numpy as np
import pytest
import torch

from extender.placement import GPU
from extender.valuation import FULLNESS_STEPS, LEVEL_TERMS, workload_profile
from tests.clusters import GIB, Node
from tests.training.profiles import profile_of
from tests.training.small_workloads import Pod, workload_of
from training.algorithms.node_values import NodeValues, estimate, fit
from training.simulator.scheduling import RANDOM_TIES, SchedulerArguments, play_rule, prepare
from training.simulator.scoring import RULE_NUMBERS, empty_cache
from training.simulator.valued import ValuedPlay, weight_table
from training.value_network import WASTE_WEIGHT, ValueNetwork, scores_of
from training.workloads.filling import filling_workload
from training.workloads.synthetic import generate_population

FOREVER = float("inf")


def parts(*milli: int):
    """Two devices that fit CPU-wise, and pods that share them and never leave."""
    return workload_of(
        [Node(64000, 64 * GIB, (1000,)), Node(64000, 64 * GIB, (1000,))],
        [Pod(float(index), FOREVER, 1000, GIB, 1, size) for index, size in enumerate(milli)],
    )


def test_what_no_pod_fits_is_wasted():
    # Every 800 leaves 200 that nobody wants.
    values = estimate(lambda generator: parts(800, 800, 800), np.random.default_rng(0), rounds=2, episodes=2)
    wasted = dict(zip(LEVEL_TERMS, values.wasted[-1], strict=True))
    assert values.allocated.tolist() == pytest.approx([0.8, 0.8])
    assert max(wasted[name] for name in LEVEL_TERMS if name.startswith("level-20%")) == pytest.approx(0.2)
    first = dict(zip(LEVEL_TERMS, values.wasted[0], strict=True))  # an empty device ends with 200 left
    assert {round(value, 6) for name, value in first.items() if name.startswith("level-100%")} <= {0.0, 0.2}


def test_what_is_filled_is_not_wasted():
    values = estimate(lambda generator: parts(500, 500, 500, 500), np.random.default_rng(0), rounds=1, episodes=1)
    assert values.allocated.tolist() == pytest.approx([1.0])
    assert values.wasted.max() == 0.0


def test_the_fit_gives_back_one_workloads_estimates():
    generator = np.random.default_rng(0)
    wasted = generator.random((FULLNESS_STEPS, len(LEVEL_TERMS)))
    profile = profile_of(np.full(5, 0.4))
    network = ValueNetwork()
    fit([NodeValues(wasted, np.full_like(wasted, 100.0), profile, np.ones(1))], network)
    torch.testing.assert_close(
        network.estimated[:, 0], torch.from_numpy(WASTE_WEIGHT * wasted).float(), rtol=1e-4, atol=1e-4
    )
    assert not network.estimated[:, 1:].any()


def test_the_fit_follows_the_profile():
    shares = np.random.default_rng(1).uniform(0.3, 0.7, (40, 5))
    estimates = [
        NodeValues(
            np.full((FULLNESS_STEPS, len(LEVEL_TERMS)), 0.2 + 0.5 * (own[0] - 0.5)),
            np.full((FULLNESS_STEPS, len(LEVEL_TERMS)), 1000.0),
            profile_of(own),
            np.ones(1),
        )
        for own in shares
    ]
    network = ValueNetwork()
    fit(estimates, network)
    slope = network.estimated[:, 1] / (WASTE_WEIGHT * 0.5 / 4.0)  # the profile is scaled by 4
    assert float(slope.min()) > 0.5
    assert float(slope.max()) < 1.01
    assert float(network.estimated[:, 2:].abs().max()) < 0.1


def test_values_pack_better_than_fragmentation_alone(synthetic_fill):
    source, judged = synthetic_fill
    network = ValueNetwork()
    fit([estimate(source, np.random.default_rng(0), rounds=4, episodes=6)], network)
    gains = []
    for workload in judged:
        with_values, with_rule = prepare(workload, SchedulerArguments()), prepare(workload, SchedulerArguments())
        profile = workload_profile(workload.typical, with_values.cluster.nodes)
        ValuedPlay(with_values, weight_table(scores_of(network), profile), profile).play(np.random.default_rng(0))
        play_rule_named(with_rule, "fgd", workload)
        gains.append(int(with_values.cluster.in_use[GPU] - with_rule.cluster.in_use[GPU]))
    assert np.mean(gains) > 0


def play_rule_named(episode, name, workload):
    cache = empty_cache(len(workload.shapes), len(workload.allocatable))
    play_rule(episode, RULE_NUMBERS[name], cache, workload.typical, RANDOM_TIES, np.random.default_rng(0))


@pytest.fixture
def synthetic_fill():
    """Draws clusters to fill, and ten that are not drawn by it."""
    population = generate_population(np.random.default_rng(0))
    judged = [filling_workload(population, 60, np.random.default_rng(1000 + seed)) for seed in range(10)]
    return lambda generator: filling_workload(population, 60, generator), judged
