"""A placement problem that is small enough to be solved exactly, observed as the real one is.

Pods come one after the other, a few in all, each of a kind drawn at random, and none leaves: CPU and GPUs of a few
nodes that differ. A pod that fits nowhere is lost; one that fits is placed by the policy and brings its kind's reward.
All states are enumerated: `optimum` solves the problem by dynamic programming, `value_of` sums up exactly what a policy
comes to, and `ExactVecEnv` plays it from tables.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv
from torch import nn

from training.algorithms.approximators import ActionScores, best_action, valid_actions

Nodes = tuple[tuple[int, int], ...]  # per node what is free: CPU, GPUs
Observation = dict[str, np.ndarray]
LARGEST = 4.0  # of a node's resources: features are shares of it
END = -1


class Kind(NamedTuple):
    request: tuple[int, int]
    reward: float
    share: float  # of the pods


class Problem:
    """The tables of a problem.

    A state is (pods still to come, nodes) with a number, a decision is a state and a kind of pod that fits somewhere.

    Attributes:
        decisions: (D,) of (state, kind).
        decision_of: (S, kinds) int, the decision when a pod of this kind comes, END where it fits nowhere.
        lost: (S,) int, the state after a pod that fits nowhere.
        start: the state in which an episode begins.
        left: (S,) int, pods still to come; 0: the episode is over.
        after: (D, K) int, the state after placing on a candidate.
        rewards: (D,).
        observations: of every decision, (D, …) each.
    """

    def __init__(self, nodes: Nodes, kinds: tuple[Kind, ...], pods: int) -> None:
        self.nodes, self.kinds, self.pods = nodes, kinds, pods
        self.places = len(nodes) + 2  # some are always padding
        self.states = self._reachable()
        number = {state: index for index, state in enumerate(self.states)}
        self.start = number[pods, nodes]
        self.left = np.array([left for left, _ in self.states])
        self.lost = np.array([number.get((left - 1, nodes), END) for left, nodes in self.states])
        self.decision_of = np.full((len(self.states), len(kinds)), END)
        self.decisions: list[tuple[int, int]] = []
        after = []
        for index, (left, free) in enumerate(self.states):
            for kind in range(len(kinds)):
                feasible = self._feasible(free, kind)
                if left and feasible:
                    self.decision_of[index, kind] = len(self.decisions)
                    self.decisions.append((index, kind))
                    reached = [number[left - 1, self._placed(free, kind, node)] for node in feasible]
                    after.append(reached + [END] * (self.places - len(reached)))
        self.after = np.array(after)
        self.rewards = np.array([kinds[kind].reward for _, kind in self.decisions])
        self.shares = np.array([kind.share for kind in kinds])
        observed = [self._observe(*self.states[state], kind) for state, kind in self.decisions]
        self.observations = {name: np.stack([each[name] for each in observed]) for name in observed[0]}

    def optimum(self) -> float:
        """What the best policy expects."""
        return self._expected(lambda worth, _: worth.max())

    def at_random(self) -> float:
        """What choosing among the candidates at random expects."""
        return self._expected(lambda worth, _: worth.mean())

    def value_of(self, scores: ActionScores) -> float:
        """What always taking the highest score expects."""
        chosen = self.choices(scores)
        return self._expected(lambda worth, decision: worth[chosen[decision]])

    def choices(self, scores: ActionScores) -> np.ndarray:
        """The candidate with the highest score at every decision, (D,)."""
        observed = {name: torch.from_numpy(array) for name, array in self.observations.items()}
        with torch.no_grad():
            given = scores(observed)
            return best_action(given, valid_actions(observed, given)).numpy()

    def mean_return(self, chosen: np.ndarray, seeds: Sequence[int], episodes: int) -> float:
        """What these choices came to in episodes of these seeds."""
        kinds = np.concatenate(
            [
                np.random.default_rng(seed).choice(len(self.shares), size=(self.pods, episodes), p=self.shares)
                for seed in seeds
            ],
            axis=1,
        )
        state, total = np.full(kinds.shape[1], self.start), 0.0
        for arrived in kinds:
            decision = self.decision_of[state, arrived]
            fits = decision != END
            total += self.rewards[decision[fits]].sum()
            state = np.where(fits, self.after[decision, chosen[decision]], self.lost[state])
        return total / kinds.shape[1]

    def _expected(self, choose: Callable[[np.ndarray, int], float]) -> float:
        value = np.zeros(len(self.states))
        for state in np.argsort(self.left, kind="stable"):
            if self.left[state] == 0:
                continue
            for kind, share in enumerate(self.shares):
                decision = self.decision_of[state, kind]
                if decision == END:
                    value[state] += share * value[self.lost[state]]
                    continue
                reached = self.after[decision]
                worth = self.rewards[decision] + value[reached[reached != END]]
                value[state] += share * choose(worth, decision)
        return float(value[self.start])

    def _reachable(self) -> list[tuple[int, Nodes]]:
        found, layer = [], {self.nodes}
        for left in range(self.pods, -1, -1):
            found += [(left, nodes) for nodes in sorted(layer)]
            layer |= {
                self._placed(nodes, kind, node)
                for nodes in layer
                for kind in range(len(self.kinds))
                for node in self._feasible(nodes, kind)
            }
        return found

    def _feasible(self, nodes: Nodes, kind: int) -> list[int]:
        cpu, gpus = self.kinds[kind].request
        return [index for index, free in enumerate(nodes) if free[0] >= cpu and free[1] >= gpus]

    def _placed(self, nodes: Nodes, kind: int, node: int) -> Nodes:
        cpu, gpus = self.kinds[kind].request
        return (*nodes[:node], (nodes[node][0] - cpu, nodes[node][1] - gpus), *nodes[node + 1 :])

    def _observe(self, left: int, nodes: Nodes, kind: int) -> Observation:
        """Per candidate: its node before and after, the pod, and all nodes, so that the state can be told from it."""
        request = self.kinds[kind].request
        everywhere = [amount for free in nodes for amount in free]
        rows = []
        for node in self._feasible(nodes, kind):
            after = self._placed(nodes, kind, node)[node]
            rows.append([*nodes[node], *after, *self.nodes[node], *request, *everywhere])
        width = 8 + 2 * len(nodes)
        candidates = np.zeros((self.places, width + 1), np.float32)
        candidates[: len(rows), :width] = np.array(rows).reshape(-1, width) / LARGEST
        candidates[: len(rows), width] = left / self.pods
        mask = (np.arange(self.places) < len(rows)).astype(np.float32)
        cluster = np.array([*everywhere, *request], np.float32) / LARGEST
        return {"candidates": candidates, "mask": mask, "cluster": np.append(cluster, np.float32(left / self.pods))}


class ExactVecEnv(VecEnv):
    """Plays a problem; a pod that fits nowhere is passed over, as the real environment does."""

    render_mode = None

    def __init__(self, problem: Problem, parallel: int, seed: int) -> None:
        self._problem, self._generator = problem, np.random.default_rng(seed)
        observed = {
            name: spaces.Box(-np.inf, np.inf, array.shape[1:], np.float32)
            for name, array in problem.observations.items()
        }
        super().__init__(parallel, spaces.Dict(observed), spaces.Discrete(problem.places))
        self._decision = np.zeros(parallel, np.int64)

    def reset(self) -> Observation:
        self._begin(np.ones(self.num_envs, np.bool_))
        return self._observations()

    def step_async(self, actions: np.ndarray) -> None:
        self._actions = actions

    def step_wait(self) -> tuple[Observation, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        reached, rewards = self._problem.after[self._decision, self._actions], self._problem.rewards[self._decision]
        assert (reached != END).all(), f"actions {self._actions} name no candidates"
        self._go_on(np.ones(self.num_envs, np.bool_), reached)
        finished = self._decision == END
        self._begin(finished)
        return self._observations(), rewards, finished, [{} for _ in range(self.num_envs)]

    def _begin(self, which: np.ndarray) -> None:
        while which.any():
            self._go_on(which, np.full(self.num_envs, self._problem.start))
            which = which & (self._decision == END)

    def _go_on(self, which: np.ndarray, states: np.ndarray) -> None:
        """Draw pods until one fits somewhere, or none is left."""
        problem, states, which = self._problem, states.copy(), which.copy()
        self._decision[which] = END
        which &= problem.left[states] > 0
        while which.any():
            kinds = self._generator.choice(len(problem.shares), size=self.num_envs, p=problem.shares)
            found = problem.decision_of[states, kinds]
            self._decision[which] = found[which]
            which &= found == END
            states[which] = problem.lost[states[which]]
            which &= problem.left[states] > 0

    def _observations(self) -> Observation:
        return {name: array[self._decision] for name, array in self._problem.observations.items()}

    def close(self) -> None:
        pass

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [getattr(self, attr_name)] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        setattr(self, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **options: Any) -> list[Any]:
        raise NotImplementedError(method_name)

    def env_is_wrapped(self, wrapper_class: type, indices: Any = None) -> Sequence[bool]:
        return [False] * self.num_envs


class SampledObjective:
    """What evolution strategies climb here: the mean return of episodes that are played, as for any other objective.

    A seed stands for `episodes` episodes, so that a generation's fitness is as noisy as that of long real episodes.
    """

    def __init__(self, problem: Problem, scores: ActionScores, episodes: int = 128) -> None:
        self._problem, self._scores, self._episodes = problem, scores, episodes

    def __call__(self, parameters: np.ndarray, seeds: Sequence[int]) -> np.ndarray:
        return np.array([self._mean_return(each, seeds) for each in parameters])

    def _mean_return(self, parameters: np.ndarray, seeds: Sequence[int]) -> float:
        nn.utils.vector_to_parameters(torch.from_numpy(parameters), self._scores.parameters())
        return self._problem.mean_return(self._problem.choices(self._scores), seeds, self._episodes)


# Pods of one core, pods of two with a GPU, and pods of a whole large node: choosing at random comes to 81 %, spreading
# to 70 %, and filling the fullest node to 99.5 % of the optimum.
SPREAD = Problem(
    nodes=((4, 2), (4, 0), (2, 0)),
    kinds=(Kind((1, 0), 0.1, 0.5), Kind((2, 1), 1.0, 0.3), Kind((4, 0), 1.5, 0.2)),
    pods=7,
)

# Here filling the fullest node comes to 96 %: the GPU has to be kept for those who want it, but not at any price.
TRADE = Problem(
    nodes=((3, 0), (3, 0), (3, 1)),
    kinds=(Kind((1, 0), 0.2, 0.5), Kind((3, 0), 1.0, 0.3), Kind((1, 1), 0.5, 0.2)),
    pods=6,
)
