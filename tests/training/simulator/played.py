"""Episodes that were played with a rule up to some time."""

import numpy as np

from extender.profile import weights_of
from training.simulator.scheduling import RANDOM_TIES, SchedulerArguments, play_rule, prepare
from training.simulator.scoring import RULE_NUMBERS, ScoreCache, empty_cache
from training.simulator.state import HORIZON, Episode
from training.workloads.base import Workload


def until(
    workload: Workload,
    horizon: float,
    arguments: SchedulerArguments,
    rule: str = "first-fit",
    seed: int = 0,
    cache: ScoreCache | None = None,
) -> Episode:
    """The episode as it is when an instant is over.

    Args:
        cache: an empty one, for tests that look at it afterwards.
    """
    episode = prepare(workload, arguments)
    episode.settings[HORIZON] = horizon
    if cache is None:
        cache = empty_cache(len(workload.shapes), len(workload.allocatable))
    weights, generator = weights_of(arguments.scoring, workload.resources), np.random.default_rng(seed)
    play_rule(episode, RULE_NUMBERS[rule], cache, workload.typical, RANDOM_TIES, generator, weights)
    return episode
