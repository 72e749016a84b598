"""How a network that is being trained does on episodes that it never learns from.

From time to time the network plays the same few episodes greedily, as it would be served. That is the learning curve
that counts, and by it the best network of a run is kept. The episodes are of the kind that is trained on; those that a
finished policy is judged by are others (seeds from 1,000,000 on). Nothing of the training is touched, neither its
random numbers nor its episodes, so a run comes to the same weights however often it looks.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from training.algorithms.approximators import without_padding
from training.algorithms.es import held_out_seeds
from training.env import EnvArguments, SimulatorBatch, WorkloadSource
from training.simulator.scheduling import SchedulerArguments


@dataclass(frozen=True)
class Look:
    """What the held-out episodes came to, their means.

    Attributes:
        gain: return at the prices of `env.weights`, undiscounted and without a learned price.
        mean_wait_seconds: of a pod.
        violations: share of the promises that were broken.
    """

    gain: float
    mean_wait_seconds: float
    violations: float

    def rank(self, violation_limit: float | None) -> tuple[float, float]:
        """Higher is better: what is above the limit counts before everything else, then the return."""
        above = 0.0 if violation_limit is None else max(0.0, self.violations - violation_limit)
        return -above, self.gain


class HeldOut:
    """The held-out episodes of a run.

    Args:
        env: what episodes are like, and their prices.
        source: draws them.
        scheduler: kube-scheduler's settings.
        seed: of the run; runs of the same seed are looked at in the same episodes.
        episodes: how many.
    """

    def __init__(
        self, env: EnvArguments, source: WorkloadSource, scheduler: SchedulerArguments, seed: int, episodes: int
    ) -> None:
        self._batch = SimulatorBatch(episodes, env, source, discount=1.0, seed=0, scheduler=scheduler)
        self._seeds = held_out_seeds(seed, episodes)

    @torch.no_grad()
    def look(self, network: nn.Module) -> Look:
        """Let the network play all episodes to their end."""
        batch = self._batch
        for index, seed in enumerate(self._seeds):
            batch.reseed(index, seed)
            batch.reset(index)
        going = True
        while going:
            seen = {name: torch.from_numpy(array) for name, array in batch.observations().items()}
            candidates, mask = without_padding(seen)
            scores = network(candidates, mask).masked_fill(mask == 0, -torch.inf)
            _, finished = batch.step(scores.argmax(dim=1).numpy())
            going = not finished.all()
        ended: list[dict[str, Any]] = [batch.summary(index) for index in range(batch.size)]
        return Look(
            gain=float(np.mean(batch.returns)),
            mean_wait_seconds=float(np.mean([each["mean_wait_seconds"] for each in ended])),
            violations=float(np.mean([each["violations"] for each in ended])),
        )
