"""What off-policy learning remembers: transitions of parallel episodes, drawn uniformly or by priority, n steps long.

Steps lie in a ring, (T, E): what was observed, what was done, what it brought, and whether the episode ended there.
The next observation is not stored again: it lies one step further on. A window of n steps that starts at (t, e) runs

- to t + n, if the episode goes on, and the value of the observation there stands for the rest;
- to a terminal step, which is counted and after which nothing comes;
- up to a step at which the episode was cut off (a time limit). What follows it was never seen, so the observation
  before it stands for the rest, and no window starts there.

Rewards along a window are those of the behaviour at the time (uncorrected n-step returns, as in Hessel et al. 2018).
Candidates are kept in half precision: features are shares, and three digits of them suffice. Sources: Mnih et al. 2015
(replay), Sutton and Barto, chapter 7 (n-step returns), Schaul et al. 2016 (priorities).
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from training.algorithms.approximators import Observation

GOES_ON, TERMINATED, CUT_OFF = range(3)
LARGEST_HALF = float(np.finfo(np.float16).max)
SOLE = "observation"  # the name of an observation that has no parts
HALF, FLAGS = "candidates", "mask"  # parts that are kept as float16 and as bool

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


class Batch(NamedTuple):
    """Windows to learn from."""

    observations: Observation
    actions: Tensor  # (B,) int64
    returns: Tensor  # (B,) float32, discounted rewards along the window
    discounts: Tensor  # (B,) float32, of the value at the window's end; 0 where the episode ended
    next_observations: Observation
    weights: Tensor  # (B,) float32, importance of each window in the loss
    starts: IntArray  # (B,), for `update_priorities`


class ReplayBuffer:
    """Uniform replay.

    Args:
        capacity: transitions that are remembered, of all episodes together; the oldest are forgotten.
        observations: space of the observations.
        episodes: E, stepped in parallel.
        n_steps: length of a window.
        discount: gamma.
        seed: of the draws.
    """

    def __init__(
        self, capacity: int, observations: spaces.Space, episodes: int, n_steps: int, discount: float, seed: int
    ) -> None:
        self.length = max(capacity // episodes, n_steps + 1)
        self.episodes = episodes
        self.n_steps = n_steps
        self.discount = discount
        self._generator = np.random.default_rng(seed)
        parts = observations.spaces if isinstance(observations, spaces.Dict) else {SOLE: observations}
        kinds = {HALF: np.float16, FLAGS: np.bool_} if isinstance(observations, spaces.Dict) else {}
        self._observed = {
            name: np.zeros((self.length, episodes, *part.shape), kinds.get(name, np.float32))
            for name, part in parts.items()
        }
        self._actions = np.zeros((self.length, episodes), np.int32)
        self._rewards = np.zeros((self.length, episodes), np.float32)
        self._ends = np.zeros((self.length, episodes), np.int8)
        self._starts = np.zeros((self.length, episodes), np.bool_)  # whether a complete window starts here
        self._position = 0
        self._steps = 0  # that are remembered

    def __len__(self) -> int:
        """Windows that can be drawn."""
        return int(self._starts.sum())

    def add(
        self,
        observed: NDArray[np.float32] | Mapping[str, NDArray[np.float32]],
        actions: NDArray[Any],
        rewards: NDArray[Any],
        terminated: NDArray[np.bool_],
        cut_off: NDArray[np.bool_],
    ) -> None:
        """Remember one step of every episode.

        Args:
            observed: before the actions, (E, …).
            actions: (E,).
            rewards: (E,).
            terminated: (E,), the episode ended by itself.
            cut_off: (E,), the episode was stopped there; it would have gone on.
        """
        now = self._position
        for name, part in observed.items() if isinstance(observed, Mapping) else [(SOLE, observed)]:
            kept = self._observed[name]
            kept[now] = np.clip(part, -LARGEST_HALF, LARGEST_HALF) if kept.dtype == np.float16 else part
        self._actions[now], self._rewards[now] = actions, rewards
        self._ends[now] = np.where(cut_off, CUT_OFF, np.where(terminated, TERMINATED, GOES_ON))
        self._steps = min(self._steps + 1, self.length)
        self._position = (now + 1) % self.length
        self._set_starts(now, np.zeros(self.episodes, np.bool_))
        if self._steps > self.n_steps:
            begin = (now - self.n_steps) % self.length  # its window ends with what has just been observed
            self._set_starts(begin, self._ends[begin] != CUT_OFF)

    def sample(self, size: int, beta: float = 0.0) -> Batch:
        """Draw windows with replacement.

        Args:
            size: B.
            beta: how far the weights correct for what is drawn too often, 0 … 1; a uniform draw needs no correction.

        Raises:
            ValueError: no window is complete yet.
        """
        starts, weights = self._draw(size, beta)
        step, episode = np.divmod(starts, self.episodes)
        returns, discounts, ends = self._along(step, episode)
        return Batch(
            self._observation(step, episode),
            torch.from_numpy(self._actions[step, episode].astype(np.int64)),
            torch.from_numpy(returns.astype(np.float32)),
            torch.from_numpy(discounts.astype(np.float32)),
            self._observation(ends, episode),
            torch.from_numpy(weights.astype(np.float32)),
            starts,
        )

    def update_priorities(self, starts: IntArray, errors: FloatArray) -> None:
        """Tell how wrong the values of drawn windows were; a uniform draw does not care."""

    def _draw(self, size: int, beta: float) -> tuple[IntArray, FloatArray]:
        """Starts of windows, (B,) as positions in (T, E), and their weights (B,)."""
        complete = np.flatnonzero(self._starts)
        if not len(complete):
            raise ValueError(f"nothing to draw from: {self._steps} steps, a window has {self.n_steps}")
        return complete[self._generator.integers(len(complete), size=size)], np.ones(size)

    def _set_starts(self, step: int, possible: NDArray[np.bool_]) -> None:
        self._starts[step] = possible

    def _along(self, step: IntArray, episode: IntArray) -> tuple[FloatArray, FloatArray, IntArray]:
        """Follow windows: discounted rewards, discount of what comes after, and the step it is at; (B,) each."""
        returns, discounts, ends = np.zeros(len(step)), np.ones(len(step)), step.copy()
        going = np.ones(len(step), np.bool_)
        for ahead in range(self.n_steps):
            at = (step + ahead) % self.length
            end = self._ends[at, episode]
            going &= end != CUT_OFF
            returns += np.where(going, discounts * self._rewards[at, episode], 0.0)
            discounts *= np.where(going, self.discount, 1.0)
            ends = np.where(going, (at + 1) % self.length, ends)
            discounts[going & (end == TERMINATED)] = 0.0
            going &= end == GOES_ON
        return returns, discounts, ends

    def _observation(self, step: IntArray, episode: IntArray) -> Observation:
        parts = {
            name: torch.from_numpy(part[step, episode].astype(np.float32)) for name, part in self._observed.items()
        }
        return parts.get(SOLE, parts)

    def state(self) -> dict[str, Any]:
        """A copy of what `restore` needs; only what has been filled."""
        return {
            "arrays": {name: torch.from_numpy(array[: self._steps].copy()) for name, array in self._arrays().items()},
            "position": self._position,
            "generator": self._generator.bit_generator.state,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Remember what was remembered when `state` was taken."""
        for name, array in self._arrays().items():
            self._steps = len(state["arrays"][name])
            array[: self._steps] = state["arrays"][name].numpy()
        self._position = state["position"]
        self._generator.bit_generator.state = state["generator"]

    def _arrays(self) -> dict[str, NDArray[Any]]:
        others = {"actions": self._actions, "rewards": self._rewards, "ends": self._ends, "starts": self._starts}
        return {f"observed/{name}": array for name, array in self._observed.items()} | others


class PrioritizedReplayBuffer(ReplayBuffer):
    """Proportional prioritized replay: a window is drawn in proportion to (|error| + epsilon) ^ alpha.

    A new window has the highest priority so far, so that each is seen soon. The weights (N p) ^ -beta, divided by the
    greatest possible one, take back the bias that drawing by priority brings. Source: Schaul et al. 2016, section 3.

    Args:
        alpha: 0 draws uniformly, 1 in proportion to the errors.
        further: of `ReplayBuffer`, in its order.
    """

    EPSILON = 1e-3

    def __init__(self, *further: Any, alpha: float) -> None:
        super().__init__(*further)
        self._alpha = alpha
        self._tree = SumTree(self.length * self.episodes)
        self._highest = 1.0

    def update_priorities(self, starts: IntArray, errors: FloatArray) -> None:
        """Tell how wrong the values of drawn windows were."""
        priorities = (np.abs(errors) + self.EPSILON) ** self._alpha
        self._highest = max(self._highest, float(priorities.max()))
        self._tree.set(starts, priorities)

    def _draw(self, size: int, beta: float) -> tuple[IntArray, FloatArray]:
        total = self._tree.total
        if total <= 0:
            raise ValueError(f"nothing to draw from: {self._steps} steps, a window has {self.n_steps}")
        # One draw from each of B equal parts of the total: the same probabilities, less variance.
        starts = self._tree.find((np.arange(size) + self._generator.random(size)) / size * total)
        weights = (self._tree.get(starts) / self._tree.lowest) ** -beta
        return starts, weights

    def _set_starts(self, step: int, possible: NDArray[np.bool_]) -> None:
        super()._set_starts(step, possible)
        self._tree.set(step * self.episodes + np.arange(self.episodes), np.where(possible, self._highest, 0.0))

    def state(self) -> dict[str, Any]:
        """A copy of what `restore` needs, the priorities included."""
        priorities = self._tree.get(np.arange(self._steps * self.episodes))
        return super().state() | {"priorities": torch.from_numpy(priorities), "highest": self._highest}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Remember what was remembered when `state` was taken."""
        super().restore(state)
        priorities = state["priorities"].numpy()
        self._tree.set(np.arange(len(priorities)), priorities)
        self._highest = state["highest"]


class SumTree:
    """Numbers that are not negative, their sum, and which of them a point of the sum falls into.

    Node i has the sum of its children 2 i and 2 i + 1; the root is 1, and the leaves, a power of two many, come last. A
    second tree has the smallest positive number in the same way. All calls take arrays and go level by level.

    Example:
        >>> tree = SumTree(3)
        >>> tree.set(np.array([0, 1, 2]), np.array([1.0, 0.0, 3.0]))
        >>> tree.total, tree.lowest, tree.find(np.array([0.5, 1.5, 3.9]))
        (4.0, 1.0, array([0, 2, 2]))
    """

    def __init__(self, size: int) -> None:
        self._leaves = 1 << max(size - 1, 1).bit_length()
        self._sums = np.zeros(2 * self._leaves)
        self._lowest = np.full(2 * self._leaves, np.inf)

    @property
    def total(self) -> float:
        """The sum."""
        return float(self._sums[1])

    @property
    def lowest(self) -> float:
        """The smallest positive number, infinity where there is none."""
        return float(self._lowest[1])

    def get(self, positions: IntArray) -> FloatArray:
        """The numbers at these positions."""
        return self._sums[positions + self._leaves]

    def set(self, positions: IntArray, numbers: FloatArray) -> None:
        """Replace the numbers at these positions; of equal positions the last counts."""
        nodes = positions + self._leaves
        self._sums[nodes] = numbers
        self._lowest[nodes] = np.where(numbers > 0, numbers, np.inf)
        nodes = np.unique(nodes >> 1)
        while len(nodes) and nodes[0] > 0:
            left, right = 2 * nodes, 2 * nodes + 1
            self._sums[nodes] = self._sums[left] + self._sums[right]
            self._lowest[nodes] = np.minimum(self._lowest[left], self._lowest[right])
            nodes = np.unique(nodes >> 1)

    def find(self, points: FloatArray) -> IntArray:
        """For each point in 0 … total the position whose part of the sum it falls into; never that of a 0."""
        nodes, points = np.ones(len(points), np.int64), points.copy()
        while nodes[0] < self._leaves:
            left = 2 * nodes
            # Rounding may leave a point at the very end of its part: go where there is something.
            right = ((points >= self._sums[left]) & (self._sums[left + 1] > 0)) | (self._sums[left] <= 0)
            points -= np.where(right, self._sums[left], 0.0)
            nodes = left + right
        return nodes - self._leaves
