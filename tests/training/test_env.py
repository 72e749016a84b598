import warnings
from dataclasses import replace

import gymnasium.utils.env_checker
import numpy as np
import pytest
import stable_baselines3.common.env_checker
from hypothesis import assume, given
from hypothesis import strategies as st

from extender.features import feature_count
from extender.placement import GPU
from tests.clusters import GIB, Node, typical_of
from tests.training.populations import population_of
from tests.training.simulator.schedulers import schedulers
from tests.training.small_workloads import Pod, slots, workload_of, workloads
from training.env import EnvArguments, PlacementEnv, SimulatorBatch, WorkloadSource, workload_source
from training.randomisation import EpisodeSource
from training.rewards import RewardWeights
from training.service_levels import promised_waits
from training.simulator.episodes import Sizes, sizes_of
from training.simulator.scheduling import SchedulerArguments, outcome_of
from training.simulator.state import ARRIVED, NODES
from training.simulator.views import view
from training.workloads.base import Workload, with_resources
from training.workloads.selection import WorkloadArguments
from training.workloads.synthetic import generate_population

DISCOUNT = 0.97
POPULATION = generate_population(np.random.default_rng(0))
SMALL = EnvArguments(nodes=8, pods=40)
# Two nodes with two devices; four pods of every kind, the last of which has to wait.
TWO_NODES = [Node(8000, 8 * GIB, (1000, 1000))] * 2
CROWD = [
    Pod(0, 50, 2000, GIB, 1, 400),
    Pod(1, 60, 2000, GIB, 1, 700),
    Pod(2, 70, 1000, GIB),
    Pod(3, 80, 4000, GIB, 1, 1000),
    Pod(4, 90, 4000, GIB, 2, 1000),
    Pod(5, 20, 1000, GIB),
]
TYPICAL = typical_of((1000, 1, 400, 0.5), (1000, 2, 1000, 0.5))


def source_of(arguments: EnvArguments = SMALL) -> WorkloadSource:
    population = with_resources(POPULATION, arguments.num_resources, np.random.default_rng(0))
    return workload_source(arguments, population, WorkloadArguments())


def environment(arguments: EnvArguments = SMALL) -> PlacementEnv:
    return PlacementEnv(arguments, source_of(arguments), DISCOUNT)


def crowded(fragmentation_weight: float = 0.0, waiting_unit_seconds: float = 100.0) -> PlacementEnv:
    """An environment whose every episode is the same crowd on two nodes."""
    arguments = EnvArguments(
        nodes=len(TWO_NODES),
        pods=len(CROWD),
        fragmentation_weight=fragmentation_weight,
        waiting_unit_seconds=waiting_unit_seconds,
    )
    return PlacementEnv(arguments, lambda generator: workload_of(TWO_NODES, CROWD, TYPICAL), DISCOUNT)


def play(env: PlacementEnv, seed: int) -> tuple[dict, list[float], list[int], dict]:
    """Play one episode with random actions; returns the first observation, rewards, actions, and the last info."""
    first, _ = env.reset(seed=seed)
    generator = np.random.default_rng(seed)
    rewards, actions, finished = [], [], False
    while not finished:
        actions.append(int(generator.choice(np.flatnonzero(env.action_masks()))))
        _, reward, finished, _, info = env.step(np.int64(actions[-1]))
        rewards.append(reward)
    return first, rewards, actions, info


def discounted(rewards: list[float]) -> float:
    return float(np.sum(np.array(rewards) * DISCOUNT ** np.arange(len(rewards))))


def test_gymnasiums_checker_has_no_complaint():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*(infinity|not within the environment registry|spec).*")
        gymnasium.utils.env_checker.check_env(environment(), skip_render_check=True)


def test_stable_baselines3s_checker_has_no_complaint():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*candidates has an unconventional shape.*")  # we bring a policy
        stable_baselines3.common.env_checker.check_env(environment())


@pytest.mark.parametrize("resources", [3, 5, 16])
def test_observations_have_the_shapes_of_the_cluster(resources):
    arguments = EnvArguments(nodes=6, pods=40, num_resources=resources)
    observation, _ = environment(arguments).reset(seed=0)
    assert observation["candidates"].shape == (12, feature_count(resources))
    assert observation["mask"].shape == (12,)
    assert observation["cluster"].shape == (resources + 6,)


def test_the_mask_names_the_candidates_and_the_rest_is_empty():
    env = environment()
    observation, _ = env.reset(seed=0)
    for _ in range(30):
        mask = env.action_masks()
        count = mask.sum()
        assert count >= 2  # fewer are no decision
        assert mask.tolist() == [True] * count + [False] * (len(mask) - count)
        assert observation["mask"].tolist() == mask.tolist()
        assert not np.any(observation["candidates"][count:])
        assert np.all(np.any(observation["candidates"][:count], axis=1))
        observation, _, finished, _, _ = env.step(np.int64(0))
        if finished:
            observation, _ = env.reset()


def test_the_first_observation_of_an_empty_cluster_says_so():
    env = crowded()
    observation, _ = env.reset()
    # Free shares; useless devices, queued behind this one, parked, parked GPUs, pods to come, whole devices.
    wanted = [1, 1, 1, 0, 0, 0, 0, 5 / 6, 1]
    assert observation["cluster"] == pytest.approx(wanted, abs=1e-6)


def test_the_chosen_candidate_is_where_the_pod_goes():
    for action, free in ((0, (0.75, 1.0)), (1, (1.0, 0.75))):
        env = PlacementEnv(
            EnvArguments(nodes=2, pods=2),
            lambda generator: workload_of([Node(4000, 4 * GIB)] * 2, [Pod(0, 100, 1000, GIB), Pod(1, 100, 1000, GIB)]),
        )
        env.reset()
        observation, *_ = env.step(np.int64(action))
        assert tuple(observation["candidates"][:2, 0]) == free  # cpu/free-before of both nodes


def test_an_action_that_names_no_candidate_leaves_the_pod_waiting_until_something_happens():
    arguments = EnvArguments(nodes=2, pods=3, waiting_unit_seconds=1.0, fragmentation_weight=0.0)
    arriving = [Pod(0, 10, 1000), Pod(1, 10, 500), Pod(5, 10, 500)]
    env = PlacementEnv(arguments, lambda generator: workload_of([*slots(1), Node(2000, GIB)], arriving))
    env.reset()
    env.step(np.int64(1))  # the first pod on the larger node
    observation, reward, *_ = env.step(np.int64(3))  # nobody's candidate: the second pod waits for the third, at 5
    assert reward == -4
    assert observation["cluster"][4] == pytest.approx(np.log1p(1))  # it is queued again
    _, _, finished, _, info = env.step(np.int64(0))
    while not finished:
        _, _, finished, _, info = env.step(np.int64(0))
    assert info["unfinished"] == 0
    assert info["mean_wait_seconds"] == pytest.approx(4 / 3)


def test_the_critic_sees_who_waits_for_room():
    arguments = EnvArguments(nodes=2, pods=4)
    arriving = [Pod(0, 100, 0, 0, 2, 1000), Pod(0, 100, 0, 0, 1, 1000), Pod(1, 9, 0, 0, 2, 1000), Pod(2, 9, 0, 0)]
    env = PlacementEnv(arguments, lambda generator: workload_of(TWO_NODES, arriving, TYPICAL))
    env.reset()
    observation, *_ = env.step(np.int64(0))
    queued, parked, parked_gpu = observation["cluster"][4:7]
    assert (queued, parked, parked_gpu) == (0, pytest.approx(np.log1p(1)), 0.5)


def test_an_episode_can_begin_later_with_random_decisions_before():
    batch = SimulatorBatch(2, SMALL, source_of(), DISCOUNT, seed=0)
    batch.reset(0)
    batch.reset(1, skip=5)
    assert batch.partial.tolist() == [False, True]
    # Five or more have been placed: one at each decision, and those that had no choice.
    to_come = batch.cluster[:, SMALL.num_resources + 4]
    assert to_come[1] <= 1 - 6 / SMALL.pods < to_come[0]
    assert np.all(batch.counts >= 2)


@pytest.mark.parametrize(("ordering", "wanted"), [("fifo", 9 + 13), ("smallest-first", 19 + 8)])
def test_the_queue_is_in_the_order_of_the_schedulers_settings(ordering, wanted):
    arguments = EnvArguments(nodes=2, pods=4)
    arriving = [Pod(0, 10, 1000), Pod(0, 20, 1000), Pod(1, 5, 1000), Pod(2, 100, 500)]
    scheduler = SchedulerArguments(ordering=ordering)
    batch = SimulatorBatch(1, arguments, lambda generator: workload_of(slots(2), arriving), DISCOUNT, 0, scheduler)
    batch.reset(0)
    _, finished = batch.step(np.array([0]))  # the others have no choice
    assert finished[0]
    assert batch.summary(0)["mean_wait_seconds"] == pytest.approx(wanted / 4)


@pytest.mark.parametrize("seed", range(5))
def test_rewards_sum_to_the_waiting_of_all_pods(seed):
    _, rewards, _, info = play(crowded(waiting_unit_seconds=100.0), seed)
    assert info["unfinished"] == 0
    assert info["mean_wait_seconds"] > 0
    assert sum(rewards) == pytest.approx(-info["mean_wait_seconds"] * len(CROWD) / 100.0)


def courses(env: PlacementEnv) -> dict[tuple[int, ...], list[float]]:
    """The rewards of every course that an episode can take, by its actions."""
    found: dict[tuple[int, ...], list[float]] = {}
    open_ones: list[tuple[int, ...]] = [()]
    while open_ones:
        actions = open_ones.pop()
        env.reset()
        rewards, finished = [], False
        for action in actions:
            _, reward, finished, _, _ = env.step(np.int64(action))
            rewards.append(reward)
        if finished:
            found[actions] = rewards
        else:
            open_ones += [(*actions, int(action)) for action in np.flatnonzero(env.action_masks())]
    return found


@pytest.mark.parametrize("discount", [1.0, DISCOUNT])
def test_shaped_and_sparse_rewards_rank_every_course_of_an_episode_alike(discount):
    def returns(reward: str, fragmentation_weight: float) -> np.ndarray:
        arguments = EnvArguments(
            nodes=2, pods=len(CROWD), waiting_unit_seconds=50.0, reward=reward, service_levels={0: 50.0},
            fragmentation_weight=fragmentation_weight,
            weights=RewardWeights(waiting=1.0, allocation=0.7, cost=0.3, violations=2.0, fragmentation=0.4),
        )  # fmt: skip
        too_large_for_any = typical_of((1000, 1, 400, 0.5), (99_000, 1, 1000, 0.5))  # half of what is free is useless
        env = PlacementEnv(arguments, lambda generator: workload_of(TWO_NODES, CROWD, too_large_for_any), discount)
        found = courses(env).values()
        assert reward == "shaped" or not any(any(rewards[:-1]) for rewards in found)
        return np.array([np.dot(rewards, discount ** np.arange(len(rewards))) for rewards in found])

    unshaped, shaped, sparse = returns("shaped", 0.0), returns("shaped", 1.5), returns("sparse", 1.5)
    assert len(sparse) > 20
    assert np.ptp(sparse) > 2.0  # it matters what is done
    # The potential adds its start to every course, whatever the discount; the rest is the sparse return, paid early.
    assert np.ptp(shaped - unshaped) == pytest.approx(0.0, abs=1e-9)
    assert (shaped - unshaped)[0] == pytest.approx(1.5 * 2.0)
    if discount == 1.0:
        np.testing.assert_allclose(unshaped, sparse, atol=1e-9)


@pytest.mark.parametrize(
    ("weights", "per_course"),
    [
        (RewardWeights(waiting=0.0, violations=1.0), lambda info: info["violations"] * len(CROWD)),
        (RewardWeights(waiting=3.0), lambda info: 3.0 * info["mean_wait_seconds"] * len(CROWD) / 100.0),
    ],
    ids=["violations", "waiting"],
)
def test_a_terms_weight_scales_what_the_episode_came_to(weights, per_course):
    arguments = EnvArguments(
        nodes=2, pods=len(CROWD), waiting_unit_seconds=100.0, fragmentation_weight=0.0, weights=weights,
        service_levels={0: 50.0},
    )  # fmt: skip
    env = PlacementEnv(arguments, lambda generator: workload_of(TWO_NODES, CROWD, TYPICAL))
    came_to = set()
    for seed in range(8):
        _, rewards, _, info = play(env, seed)
        came_to.add(info["violations"])
        assert sum(rewards) == pytest.approx(-per_course(info))
    assert len(came_to) > 1  # what is done decides


def test_cost_idle_devices_and_useless_devices_are_paid_for_as_long_as_they_last():
    # The first pod takes one of two nodes of two devices each for 100 s; the last arrives at 50 s, and nobody waits.
    arriving = [Pod(0, 100, 0, 0, 1, 1000), Pod(50, 100, 0, 0, 1, 1000), Pod(50, 100, 0, 0)]
    pairs = [Node(1000, GIB, (1000, 1000))] * 2
    workload = workload_of(pairs, arriving, typical_of((0, 2, 1000, 1.0)))

    def paid(**weights: float) -> float:
        arguments = EnvArguments(
            nodes=2, pods=3, waiting_unit_seconds=50.0, fragmentation_weight=0.0,
            weights=RewardWeights(**{"waiting": 0.0, **weights}),
        )  # fmt: skip
        env = PlacementEnv(arguments, lambda generator: workload)
        env.reset()
        return -env.step(np.int64(0))[1]

    assert paid(allocation=1.0) == pytest.approx(0.75)  # three of four devices
    assert paid(fragmentation=1.0) == pytest.approx(1.0)  # the device beside the pod, of no use to pairs
    assert paid(cost=1.0) == pytest.approx(workload.price[0] * 50 / 3600)


def test_idle_cpu_counts_where_there_are_no_devices():
    arriving = [Pod(0, 100, 500), Pod(50, 100, 500), Pod(50, 100, 500)]
    arguments = EnvArguments(
        nodes=2, pods=3, waiting_unit_seconds=50.0, weights=RewardWeights(waiting=0.0, allocation=1.0)
    )
    env = PlacementEnv(arguments, lambda generator: workload_of(slots(2), arriving))
    env.reset()
    assert env.step(np.int64(0))[1] == pytest.approx(-0.75)


@given(workloads(), schedulers(), st.integers(0, 99))
def test_late_pods_are_those_that_waited_longer_than_promised(workload, scheduler, seed):
    levels = {0: 1.0, 1000: 0.25}
    arguments = EnvArguments(
        nodes=len(workload.allocatable), pods=len(workload), fragmentation_weight=0.0, service_levels=levels,
        weights=RewardWeights(waiting=0.0, violations=1.0),
    )  # fmt: skip
    assume(len(workload) > 1 and len(workload.allocatable) > 1)
    batch = SimulatorBatch(1, arguments, lambda generator: workload, 1.0, seed, scheduler)
    try:
        batch.reset(0)
    except ValueError:
        assume(False)
    generator, paid = np.random.default_rng(seed), 0.0
    late_before = late(batch, workload, levels)
    finished = np.array([False])
    while not finished[0]:
        rewards, finished = batch.step(generator.integers(batch.counts))
        paid -= rewards[0]
    assert paid == late(batch, workload, levels) - late_before


def late(batch: SimulatorBatch, workload: Workload, levels: dict[int, float]) -> int:
    """How many pods have waited longer than promised by now, as evaluation counts them."""
    episode = view(batch._episodes, 0)
    late_ones = outcome_of(episode).waited > promised_waits(workload.priority, levels)
    return int(np.sum(late_ones[: episode.counters[ARRIVED]]))


@given(workloads(), schedulers(), st.integers(0, 4), st.integers(0, 99), st.sampled_from((0, 20, 100)))
def test_nodes_that_are_not_there_are_never_seen(workload, scheduler, more, seed, percentage):
    assume(len(workload) > 1 and len(workload.allocatable) > 1)
    scheduler = replace(scheduler, percentage_of_nodes_to_score=percentage)
    exact = sizes_of(workload)
    room = exact._replace(nodes=exact.nodes + more, shapes=exact.shapes + more, groups=exact.groups + more)
    weights = RewardWeights(1.0, 1.0, 1.0, 1.0, 1.0)
    batches = [
        SimulatorBatch(
            1,
            EnvArguments(nodes=sizes.nodes, pods=sizes.pods, weights=weights),
            Given(workload, sizes),
            0.9,
            0,
            scheduler,
        )
        for sizes in (exact, room)
    ]
    try:
        for batch in batches:
            batch.reset(0)
    except ValueError:
        assume(False)
    generator, finished = np.random.default_rng(seed), np.array([False])
    while not finished[0]:
        one, other = batches
        limit = 2 * exact.nodes
        np.testing.assert_array_equal(one.features[0], other.features[0, :limit])
        np.testing.assert_array_equal(one.cluster, other.cluster)
        assert one.counts == other.counts
        assert not other.mask[0, limit:].any()
        actions = generator.integers(one.counts + 1)
        (rewards, finished), (other_rewards, other_finished) = one.step(actions), other.step(actions)
        assert (rewards, finished) == (other_rewards, other_finished)
    assert one.summary(0) == other.summary(0)


class Given(EpisodeSource):
    """One workload, in arrays of a given size."""

    def __init__(self, workload: Workload, sizes: Sizes) -> None:
        self._given, self.sizes = workload, sizes

    def __call__(self, generator: np.random.Generator) -> Workload:
        return self._given


def test_a_finished_episode_stays_as_it_is_until_it_is_replaced():
    env = crowded(fragmentation_weight=1.0)
    play(env, 0)
    _, reward, finished, _, info = env.step(np.int64(0))
    assert (reward, finished) == (0.0, True)
    assert info == env.step(np.int64(1))[4]


@pytest.mark.parametrize("weight", [0.1, 2.0])
def test_shaping_adds_the_same_to_every_course_of_an_episode(weight):
    # Potential-based: the discounted sum telescopes to minus the potential of the first state, whatever was done.
    for seed in range(5):
        first, shaped, actions, _ = play(crowded(weight), seed)
        _, plain, same_actions, _ = play(crowded(0.0), seed)
        assert actions == same_actions
        devices = 2 * len(TWO_NODES)
        useless_devices = first["cluster"][GPU + 1] * devices
        assert discounted(shaped) - discounted(plain) == pytest.approx(weight * useless_devices, abs=1e-6)


def test_shaping_rewards_a_placement_that_saves_a_device_from_uselessness():
    # What usually comes wants two devices: sharing the broken one keeps the other node's pair whole.
    arriving = [Pod(0, 100, 0, 0, 1, 400), Pod(1, 100, 0, 0, 1, 400), Pod(2, 1, 0, 0)]
    pairs = [Node(1000, GIB, (1000, 1000))] * 2
    arguments = EnvArguments(nodes=2, pods=3, fragmentation_weight=1.0)
    typical = typical_of((0, 2, 1000, 1.0))
    env = PlacementEnv(arguments, lambda generator: workload_of(pairs, arriving, typical), discount=1.0)
    gained = []
    for together in (True, False):
        env.reset()
        env.step(np.int64(0))
        rows_before = env.action_masks().sum()
        assert rows_before == 3  # the broken device, the other node, the whole device beside the broken one
        gained.append(env.step(np.int64(0 if together else 1))[1])
    assert gained[0] == pytest.approx(0.4)  # 0.4 of the useless 1.6 are in use now
    assert gained[1] == pytest.approx(-1.6)  # the second pair is useless too


def test_the_same_seed_is_the_same_episode():
    first, second = play(environment(), 5), play(environment(), 5)
    np.testing.assert_array_equal(first[0]["candidates"], second[0]["candidates"])
    assert first[1:] == second[1:]
    assert play(environment(), 6)[1] != first[1]


def test_the_load_of_an_episode_lies_between_the_bounds():
    arguments = EnvArguments(nodes=8, pods=4000, lowest_load=0.5, highest_load=0.7)
    for seed in range(5):
        workload = source_of(arguments)(np.random.default_rng(seed))
        work = (workload.shapes.request[workload.shape] * workload.duration[:, None]).sum(axis=0)
        load = (work / (np.maximum(workload.allocatable.sum(axis=0), 1) * workload.arrival[-1])).max()
        assert 0.49 < load < 0.71


def test_a_finished_episode_sums_itself_up():
    _, _, actions, info = play(crowded(), 0)
    assert info["placed"] == len(CROWD)
    assert info["forced"] == len(CROWD) - len(actions)
    assert info["seconds"] > 0


def test_a_cluster_that_leaves_nothing_to_decide_is_an_error():
    only_one_fits = population_of([(1000, 64, 0), (4000, 64, 0)], [(2000, 1, 0, 0)])
    arguments = EnvArguments(nodes=2, pods=5)
    source = workload_source(arguments, only_one_fits, WorkloadArguments())
    with pytest.raises(ValueError, match=r"5 pods on 2 nodes had no placement to decide: raise env\.nodes"):
        PlacementEnv(arguments, source).reset(seed=0)


def test_each_place_in_a_batch_draws_for_itself():
    few, many = (SimulatorBatch(size, SMALL, source_of(), DISCOUNT, seed=3) for size in (2, 5))
    for batch in (many, few):
        for index in reversed(range(batch.size)):
            batch.reset(index)
    for name in ("features", "mask", "cluster"):
        np.testing.assert_array_equal(getattr(few, name), getattr(many, name)[:2])


@pytest.mark.parametrize("reward", ["shaped", "sparse"])
def test_a_restored_batch_goes_on_exactly_where_it_was(reward):
    arguments = replace(
        SMALL, nodes_lowest=3, reward=reward, violation_limit=0.001, service_levels={0: 0.0}, violation_step=50.0
    )
    batch = SimulatorBatch(6, arguments, source_of(arguments), DISCOUNT, seed=0)
    other = SimulatorBatch(6, arguments, source_of(arguments), DISCOUNT, seed=99)
    for index in range(6):
        batch.reset(index)
        other.reset(index)

    def course(of: SimulatorBatch, steps: int) -> list:
        generator, seen = np.random.default_rng(1), []
        for step in range(steps):
            rewards, finished = of.step(generator.integers(of.counts))
            for index in np.flatnonzero(finished):
                seen.append(of.summary(index))
                of.reset(index)
            if step % 7 == 0:  # as between two rollouts
                of.adapt_multiplier()
            seen.append((rewards.tolist(), finished.tolist(), of.features.tobytes(), of.cluster.tobytes()))
        return [*seen, of.returns.tolist(), of.lengths.tolist()]

    course(batch, 40)
    assert batch.multiplier[0] > 0
    state = batch.state()
    wanted = course(batch, 60)  # far beyond the end of the episodes under way
    batch.restore(state)
    assert course(batch, 60) == wanted
    other.restore(state)
    assert course(other, 60) == wanted


def test_the_price_of_a_broken_promise_rises_until_the_limit_is_kept():
    # Whatever is done, the third pod waits: on nodes for one pod each, one of three promises is always broken.
    arriving = [Pod(0, 10, 1000), Pod(0, 20, 1000), Pod(1, 5, 1000)]
    arguments = EnvArguments(
        nodes=2, pods=3, service_levels={0: 1.0}, violation_limit=0.1, violation_step=3.0, fragmentation_weight=0.0,
        weights=RewardWeights(waiting=0.0),
    )  # fmt: skip
    batch = SimulatorBatch(1, arguments, lambda generator: workload_of(slots(2), arriving), 1.0, 0)
    rewards = []
    for _ in range(3):
        batch.reset(0)
        batch.adapt_multiplier()  # of what was finished before
        batch.adapt_multiplier()  # nothing has been since
        rewards.append(float(batch.step(np.array([0]))[0][0]))
    steps = 3.0 * (1 / 3 - 0.1)
    assert rewards == pytest.approx([0.0, -steps, -2 * steps])
    assert batch.summary(0)["violation_multiplier"] == pytest.approx(2 * steps)
    assert batch.summary(0)["violations"] == pytest.approx(1 / 3)


def test_without_a_limit_broken_promises_have_no_price():
    batch = SimulatorBatch(1, SMALL, source_of(), DISCOUNT, seed=0)
    for _ in range(3):
        batch.reset(0)
        while not batch.step(np.zeros(1, np.int64))[1][0]:
            pass
        batch.adapt_multiplier()
    assert batch.multiplier.tolist() == [0.0]


def test_random_draws_of_cluster_and_population_play_to_their_end():
    arguments = EnvArguments(nodes=16, nodes_lowest=3, pods=60, remixes=5, parallel=4)
    source = source_of(arguments)
    batch = SimulatorBatch(4, arguments, source, DISCOUNT, seed=0)
    for index in range(4):
        batch.reset(index)
    sizes = set()
    for _ in range(400):
        _, finished = batch.step(np.random.default_rng(0).integers(batch.counts))
        assert np.all(np.isfinite(batch.features))
        for index in np.flatnonzero(finished):
            batch.reset(index)
            sizes.add(int(batch._episodes.sizes[index, NODES]))
    assert len(sizes) > 3
    assert min(sizes) >= 3
    assert max(sizes) <= 16
