"""What a free part of a device is worth, by Monte-Carlo estimation: how much of it is wasted in the end.

Clusters are filled; each time another step of fullness is reached, all free parts of devices are noted, with the CPU
beside them, and once no more fits, what is left of each. The mean of that, by level and CPU, is what such a part will
waste. The policy that fills follows the estimate so far, so a few rounds are needed; it also keeps to a fixed order of
the nodes, without which the rounds do not settle. `fit` makes one function of the workload's profile from the estimates
for many workloads. The result is where `es` starts from (`value_network.ValueNetwork.estimated`).

Source: Monte-Carlo policy evaluation (Sutton and Barto, Reinforcement Learning, 5.1), every visit, on afterstates.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch

from extender.fragmentation import FloatArray
from extender.placement import CPU, WHOLE_DEVICE_MILLI
from extender.valuation import (
    FULLNESS_STEPS,
    LEVEL_TERMS,
    NODE_TERMS,
    TERMS,
    WorkloadProfile,
    count_level,
    cpu_share,
    workload_profile,
)
from training.simulator.scheduling import SchedulerArguments, prepare
from training.simulator.state import Episode
from training.simulator.valued import ValuedPlay, weight_table
from training.value_network import WASTE_WEIGHT, ValueNetwork, scores_of
from training.workloads.base import Workload

ENOUGH_SEEN = 3.0  # free parts of a kind, before their mean is better than that of the step before
SEEN_AT_MOST = 50.0  # … and beyond this, one workload does not count more than another
SHRINKAGE = 3.0  # of the profile's influence, relative to the variation of the profiles
LEVELS_AT = slice(len(NODE_TERMS), len(NODE_TERMS) + len(LEVEL_TERMS))


class NodeValues(NamedTuple):
    """Estimates for one workload.

    Attributes:
        wasted: (FULLNESS_STEPS, len(LEVEL_TERMS)) float64, devices that are finally wasted.
        seen: the same shape, on how many free parts that rests.
        profile: of the workload on its cluster.
        allocated: (rounds,) float64, share of the GPUs allocated in the end, round by round.
    """

    wasted: FloatArray
    seen: FloatArray
    profile: WorkloadProfile
    allocated: FloatArray


def estimate(
    source: Callable[[np.random.Generator], Workload], generator: np.random.Generator, rounds: int, episodes: int
) -> NodeValues:
    """Estimate by filling clusters again and again.

    Args:
        source: draws workloads that fill a cluster, see `workloads.filling`.
        generator: the only source of randomness.
        rounds: how often the policy is improved.
        episodes: clusters filled a round.
    """
    wasted = np.zeros((FULLNESS_STEPS, len(LEVEL_TERMS)))
    seen = wasted
    allocated = np.zeros(rounds)
    for round_ in range(rounds):
        sums, seen = np.zeros_like(wasted), np.zeros_like(wasted)
        for _ in range(episodes):
            share, profile = _fill(source(generator), wasted, sums, seen, generator)
            allocated[round_] += share / episodes
        found = sums / np.maximum(seen, 1e-9)
        for step in range(FULLNESS_STEPS):
            rare = seen[step] < ENOUGH_SEEN
            found[step, rare] = found[step - 1, rare] if step else 0.0
        wasted = found if round_ == 0 else (wasted + found) / 2.0
    return NodeValues(wasted, seen, profile, allocated)


def fit(estimates: Sequence[NodeValues], network: ValueNetwork) -> None:
    """Set the network's `estimated`: weights of the levels, linear in the profile, by least squares with shrinkage."""
    shares = np.array([estimate.profile.shares for estimate in estimates], np.float32)
    basis = network.basis(network.scaled(torch.from_numpy(shares))).numpy().astype(np.float64)
    wasted = np.stack([estimate.wasted for estimate in estimates])
    weights = np.minimum(np.stack([estimate.seen for estimate in estimates]), SEEN_AT_MOST) / SEEN_AT_MOST + 1e-3
    shrink = SHRINKAGE * len(estimates) / SEEN_AT_MOST * np.eye(basis.shape[1])
    shrink[0, 0] = 1e-9
    if len(estimates) == 1:  # one workload says nothing of the profile's influence
        basis = basis * np.eye(1, basis.shape[1])
    gram = np.einsum("esl,eb,ec->slbc", weights, basis, basis) + shrink
    target = np.einsum("esl,eb->slb", weights * wasted, basis)
    solved = np.linalg.solve(gram, target[..., None])[..., 0]
    network.estimated.copy_(torch.from_numpy(WASTE_WEIGHT * solved.transpose(0, 2, 1)))


def _fill(
    workload: Workload, wasted: FloatArray, sums: FloatArray, seen: FloatArray, generator: np.random.Generator
) -> tuple[float, WorkloadProfile]:
    """Fill a cluster, and add what is wasted of each free part, and how many there are, to `sums` and `seen`."""
    episode = prepare(workload, SchedulerArguments(ordering="fifo"))
    profile = workload_profile(workload.typical, episode.cluster.nodes)
    weights = weight_table(scores_of(ValueNetwork()), profile)
    assert weights is not None
    weights[:, :, LEVELS_AT] += WASTE_WEIGHT * wasted[:, None]
    play = ValuedPlay(episode, weights, profile)
    passed: list[tuple[int, FloatArray]] = []
    over = False
    while not over:
        passed.append((play.fullness, _levels(episode, profile)))
        over = play.play(generator, play.fullness + 1)
    left = np.maximum(episode.cluster.nodes.device_free, 0).ravel() / WHOLE_DEVICE_MILLI
    for step, levels in passed:
        sums[step] += levels @ left
        seen[step] += levels.sum(axis=1)
    devices = np.count_nonzero(episode.cluster.nodes.device_free >= 0)
    return 1.0 - float(left.sum()) / devices, profile


def _levels(episode: Episode, profile: WorkloadProfile) -> FloatArray:
    """How much each device counts at each level; (len(LEVEL_TERMS), N D)."""
    nodes = episode.cluster.nodes
    free = nodes.device_free.ravel()
    cpu_free = nodes.allocatable[:, CPU] - nodes.requested[:, CPU]
    share = cpu_share(cpu_free, np.maximum(nodes.device_free, 0).sum(axis=1), profile.cpu_per_device[0])
    columns = np.zeros((len(TERMS), len(free)))
    count_level(columns, free, np.repeat(share, nodes.device_free.shape[1]), 1.0)
    return columns[LEVELS_AT]
