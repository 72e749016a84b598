"""Evolution strategies: whole episodes, no gradient, and only the order of what came out matters.

Each generation perturbs the network's parameters in pairs, once forwards and once backwards along the same random
direction, plays every perturbed network on the same episodes, and moves the parameters along the directions that ranked
higher. Ranks make the step independent of the returns' scale and of outliers; common episodes and mirrored directions
take out most of the noise. From time to time the parameters themselves play episodes that no generation learns from;
the best so far are what is exported. Source: Salimans et al. 2017.

What is climbed is an `Objective`: any function from parameters and seeds to fitness. It is evaluated pair by pair, here
or in other processes, so that its numbers do not depend on how many there are.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

import numpy as np
import scipy
import torch
from numpy.typing import NDArray
from pydantic import Field
from stable_baselines3.common.logger import Logger
from torch import nn

from training.algorithms.learner import Episode, Follower
from training.env import EnvArguments
from training.launcher import crew

FIRST_HELD_OUT, SEEDS = (
    900_000,
    1_000_000,
)  # seeds of episodes: to learn from, to choose by; those above are for judging

Parameters = NDArray[np.float32]
Fitness = NDArray[np.float64]


class Objective(Protocol):
    """What is climbed; for several workers it has to be possible to pickle it."""

    def __call__(self, parameters: Parameters, seeds: Sequence[int]) -> Fitness:
        """Mean fitness over the episodes of these seeds, higher is better; (n, D) -> (n,)."""


Evaluate = Callable[[Sequence[Parameters], Sequence[Sequence[int]]], Fitness]
"""Parameter vectors, a few together, and the seeds that each few play, to the fitness of all, one after the other."""


@dataclass
class ESArguments:
    """Arguments of evolution strategies."""

    name: str = "es"
    learning_rate: Annotated[float, Field(gt=0, lt=1, description="Adam's step")] = 0.02
    sigma: Annotated[float, Field(gt=0, description="standard deviation of the perturbations")] = 0.05
    pairs: Annotated[int, Field(ge=1, description="mirrored pairs of a generation")] = 16
    episodes: Annotated[int, Field(ge=1, description="that each perturbed network plays")] = 1
    common_episodes: Annotated[
        bool,
        Field(description="all networks of a generation play the same; else each pair its own, to see more of them"),
    ] = True
    final_learning_rate: Annotated[
        float, Field(gt=0, le=1, description="what remains of the step at the end, which it declines to linearly")
    ] = 1.0
    wait_floor_seconds: Annotated[
        float,
        Field(
            ge=0,
            description="goal=waiting: climb minus the logarithm of the mean wait and so many seconds, so that quiet "
            "and busy episodes count alike; 0: climb minus the mean wait",
        ),
    ] = 0.0
    weight_decay: Annotated[float, Field(ge=0, lt=1, description="shrinks the parameters, as part of a step")] = 0.0
    held_out_interval: Annotated[int, Field(ge=1, description="generations between two looks for the best")] = 5
    held_out_episodes: Annotated[int, Field(ge=1, description="episodes by which the best is chosen")] = 4
    workers: Annotated[int, Field(ge=1, le=1024, description="processes that play; 1: this one alone")] = 1

    def timesteps_between_updates(self, env: EnvArguments) -> int:
        """Decisions of a generation: one for each pod that its networks place."""
        return 2 * self.pairs * self.episodes * env.pods

    def contradictions(self, env: EnvArguments) -> Iterator[str]:
        """There are none."""
        yield from ()


class EvolutionStrategy:
    """The search itself: `ask` for a population, play it, `tell` how it did.

    Attributes:
        generation: how many have been told.
    """

    def __init__(self, start: Parameters, arguments: ESArguments, seed: int) -> None:
        self._arguments, self._seed = arguments, seed
        self._mean = nn.Parameter(torch.from_numpy(start.copy()))
        self._optimizer = torch.optim.AdamW(
            [self._mean], lr=arguments.learning_rate, weight_decay=arguments.weight_decay, maximize=True
        )
        self.generation = 0

    @property
    def learning_rate(self) -> float:
        """Adam's step."""
        return float(self._optimizer.param_groups[0]["lr"])

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        self._optimizer.param_groups[0]["lr"] = value

    @property
    def mean(self) -> Parameters:
        """The parameters around which the next generation lies; (D,)."""
        return self._mean.detach().numpy().copy()

    def ask(self) -> Parameters:
        """The population of this generation, (2 P, D): two mirror images after each other."""
        steps = self._arguments.sigma * self._directions()
        return (self.mean + np.stack([steps, -steps], axis=1)).reshape(-1, steps.shape[1])

    def tell(self, fitness: Fitness) -> None:
        """Step along the directions that did better; fitness (2 P,), in the order of `ask`."""
        forwards, backwards = centred_ranks(fitness).reshape(-1, 2).T
        slope = (forwards - backwards) @ self._directions() / (len(fitness) * self._arguments.sigma)
        self._mean.grad = torch.from_numpy(slope.astype(np.float32))
        self._optimizer.step()
        self.generation += 1

    def _directions(self) -> Parameters:
        # Drawn from the number of the generation: nothing about randomness has to be remembered.
        generator = np.random.default_rng([self._seed, self.generation])
        return generator.standard_normal((self._arguments.pairs, self._mean.numel()), np.float32)

    def state(self) -> dict[str, Any]:
        """What `restore` needs."""
        return {
            "mean": self._mean.detach().clone(),
            "optimizer": self._optimizer.state_dict(),
            "generation": self.generation,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken."""
        with torch.no_grad():
            self._mean.copy_(state["mean"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.generation = state["generation"]


def centred_ranks(fitness: Fitness) -> Fitness:
    """Ranks from -0.5 for the worst to 0.5 for the best; equals share the mean of theirs.

    Example:
        >>> centred_ranks(np.array([3.0, -100.0, 7.0, 3.0, 9.0])).tolist()
        [-0.125, -0.5, 0.25, -0.125, 0.5]
    """
    return (scipy.stats.rankdata(fitness) - 1) / max(len(fitness) - 1, 1) - 0.5


class EvolutionLearner:
    """Trains a network by evolution strategies (`learner.Learner`).

    Args:
        arguments: of the search.
        network: where it starts; what is exported.
        objective: what is climbed.
        timesteps: decisions that a generation takes.
        seed: of all random draws.
        mean_wait_seconds: what a fitness means in seconds of waiting, for those who follow.
        launcher: who plays (`training.launcher`).
        keeps_start: whether the network that it starts with may be the best; else it is not looked at.

    Attributes:
        best: the parameters that did best on the held-out episodes, (D,).
        best_fitness: how well they did.
        held_out: how well the present ones did, if they were looked at in this generation.
    """

    logger: Logger

    def __init__(
        self,
        arguments: ESArguments,
        network: nn.Module,
        objective: Objective,
        timesteps: int,
        seed: int,
        mean_wait_seconds: Callable[[float], float] = lambda fitness: np.nan,
        launcher: str = "processes",
        keeps_start: bool = False,
    ) -> None:
        self.logger = Logger(folder=None, output_formats=[])
        self._arguments, self._objective, self._seed = arguments, objective, seed
        self._network, self._per_generation, self._mean_wait_seconds = network, timesteps, mean_wait_seconds
        self._launcher, self._keeps_start = launcher, keeps_start
        start = nn.utils.parameters_to_vector(network.parameters()).detach().numpy().copy()
        self.strategy = EvolutionStrategy(start, arguments, seed)
        self.best, self.best_fitness = start, -np.inf
        self.held_out: Episode | None = None
        self._judged = -1  # the generation that was last compared with the best

    @property
    def timesteps(self) -> int:
        """Decisions taken so far, without those by which the best is chosen."""
        return self.strategy.generation * self._per_generation

    @property
    def network(self) -> nn.Module:
        """The network with the best parameters."""
        nn.utils.vector_to_parameters(torch.from_numpy(self.best), self._network.parameters())
        return self._network

    def train(self, total_timesteps: int, follower: Follower) -> None:
        """Search until so many decisions have been taken in all."""
        with evaluation(self._objective, self._arguments.workers, self._launcher) as evaluate:
            if self._keeps_start and self.strategy.generation == 0:
                self._look_for_the_best(evaluate)
            while self.timesteps < total_timesteps:
                follower.between_updates()
                self.held_out = None
                pairs = np.array_split(self.strategy.ask(), self._arguments.pairs)
                fitness = evaluate(pairs, self._seeds_of_generation())
                self.strategy.learning_rate = self._arguments.learning_rate * (
                    1.0 - (1.0 - self._arguments.final_learning_rate) * self.timesteps / total_timesteps
                )
                self.strategy.tell(fitness if self._arguments.common_episodes else _without_the_pairs_means(fitness))
                follower.stepped([Episode(each, self._mean_wait_seconds(each)) for each in fitness.tolist()])
                self.logger.record("train/fitness_spread", float(fitness.std()))
                if self.strategy.generation % self._arguments.held_out_interval == 0:
                    self._look_for_the_best(evaluate)
                follower.collected()
            self._look_for_the_best(evaluate)

    def _seeds_of_generation(self) -> list[list[int]]:
        """The episodes that each pair plays."""
        generator = np.random.default_rng([self._seed, self.strategy.generation, 1])
        pairs, episodes = self._arguments.pairs, self._arguments.episodes
        if self._arguments.common_episodes:
            return [generator.integers(FIRST_HELD_OUT, size=episodes).tolist()] * pairs
        return generator.integers(FIRST_HELD_OUT, size=(pairs, episodes)).tolist()

    def _look_for_the_best(self, evaluate: Evaluate) -> None:
        if self._judged == self.strategy.generation:
            return
        seeds = held_out_seeds(self._seed, self._arguments.held_out_episodes)
        fitness = float(evaluate([self.strategy.mean[None]] * len(seeds), [[seed] for seed in seeds]).mean())
        if fitness >= self.best_fitness:
            self.best, self.best_fitness = self.strategy.mean, fitness
        self._judged = self.strategy.generation
        self.held_out = Episode(fitness, self._mean_wait_seconds(fitness))
        self.logger.record("rollout/held_out_fitness", fitness)

    def state(self) -> dict[str, Any]:
        """The search, the last parameters and the best."""
        return {
            "strategy": self.strategy.state(),
            "best": torch.from_numpy(self.best.copy()),
            "best_fitness": self.best_fitness,
            "judged": self._judged,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken."""
        self.strategy.restore(state["strategy"])
        self.best, self.best_fitness = state["best"].numpy().copy(), state["best_fitness"]
        self._judged = state["judged"]


def held_out_seeds(seed: int, episodes: int) -> list[int]:
    """The episodes by which the best network of a run is chosen; the first ones are the same for any number."""
    return np.random.default_rng([seed, 2]).integers(FIRST_HELD_OUT, SEEDS, size=episodes).tolist()


@contextmanager
def evaluation(objective: Objective, workers: int, launcher: str = "processes") -> Iterator[Evaluate]:
    """Evaluates an objective, a few parameter vectors at a time, here or by a crew (`training.launcher`)."""
    if workers == 1 and launcher == "processes":
        yield lambda parameters, seeds: np.concatenate(list(map(objective, parameters, seeds)))
        return
    with crew(launcher, workers, objective) as submit:

        def evaluate(parameters: Sequence[Parameters], seeds: Sequence[Sequence[int]]) -> Fitness:
            played = [submit(_play, *each) for each in zip(parameters, seeds, strict=True)]
            return np.concatenate([future.result() for future in played])

        yield evaluate


def _without_the_pairs_means(fitness: Fitness) -> Fitness:
    """How much better each network did than its mirror image on the same episodes; (2 P,)."""
    forwards, backwards = fitness.reshape(-1, 2).T
    return np.stack([forwards - backwards, backwards - forwards], axis=1).ravel()


def _play(objective: Objective, parameters: Parameters, seeds: Sequence[int]) -> Fitness:
    torch.set_num_threads(1)  # those who play share the cores already
    return objective(parameters, seeds)
