"""A score network that weighs what placements change, with weights that follow from the situation.

Its inputs are the columns of `extender.valuation`. A score is the sum of a candidate's terms, each times a weight; the
weights are interpolated between degrees of fullness and are linear in the workload's profile. That is little enough to
be found by search (`algorithms.es`), can be explained term by term, and adapts to the cluster and the workload at hand.
Nothing but the situation moves the weights, which `simulator.valued` makes use of.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from extender.fragmentation import TypicalPods
from extender.valuation import (
    FULLNESS_STEPS,
    HOSTING_TERMS,
    LEVEL_TERMS,
    NODE_TERMS,
    POD_KINDS,
    PROFILE,
    TERMS,
    ValueArray,
    workload_profile,
)
from training.simulator.state import Episode
from training.simulator.valued import ValuedPlay, weight_table

DEGREES = 3  # of fullness at most: empty, three quarters full, fifteen sixteenths and beyond
STEPS_A_DEGREE = 8.0
STARTS = {
    "packing": {"fragmentation-change": -0.1, "order": -2.0},  # with the next a formula (docs/results/packing.md)
    "waiting": {"cpu-left": -4.0, "gpu-left": -4.0, "model-pressure": -4.0},
}
WASTE_WEIGHT = -3.0
PROFILE_CENTRE = (0.5, 0.3, 0.3, 0.2, 0.5)
PROFILE_SCALE = (4.0, 1.7, 1.7, 2.5, 2.5)
PROFILE_AT_MOST = 2.0
TERM_SCALE = (0.3, 1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 1.0, 0.5, 1.0, 1.0)
"""What one unit of a parameter is worth as a weight of a node's term, so that parameters can be changed alike."""


class ValueNetwork(nn.Module):
    """Weighs terms, (B, K, len(COLUMNS)) -> (B, K).

    The weights of the node's terms are another set for each kind of pod. Those of the levels are corrections of
    `estimated`.

    Args:
        degrees: of fullness that have weights of their own; with 1 the weights do not depend on it.
        adapts: whether the weights depend on the workload's profile.
        goal: what it does before it has learned anything. `packing`: it follows fragmentation and fills node after
            node; `waiting`: it takes the node where the least is left (BestFit without its rounding), and leaves GPU
            models alone that others insist on.

    Attributes:
        node: (degrees, len(POD_KINDS), len(NODE_TERMS)), for the node's terms.
        node_by_profile: (len(PROFILE), len(POD_KINDS), len(NODE_TERMS)), how the profile moves them; as those of the
            others with 0 rows in a network that does not adapt.
        level: (degrees, len(LEVEL_TERMS)), corrections of the levels' weights.
        level_by_profile: (len(PROFILE), len(LEVEL_TERMS)), how the profile moves them.
        hosting: (degrees, len(HOSTING_TERMS)), weights of devices by how many of them a node can give one pod.
        hosting_by_profile: (len(PROFILE), len(HOSTING_TERMS)), how the profile moves them.
        estimated: (FULLNESS_STEPS, 1 + len(PROFILE), len(LEVEL_TERMS)), a buffer: weights of the levels as
            `algorithms.node_values` finds them.

    Example:
        >>> from extender.valuation import COLUMNS
        >>> columns = torch.zeros(1, 2, len(COLUMNS))
        >>> columns[0, :, len(TERMS)] = 1.0  # a pod without GPU
        >>> columns[0, 1, TERMS.index("order")] = 0.5
        >>> ValueNetwork()(columns).tolist()
        [[0.0, -1.0]]
    """

    estimated: Tensor
    scale: Tensor
    knots: Tensor
    steps: Tensor
    centre: Tensor
    spread: Tensor

    def __init__(self, degrees: int = DEGREES, adapts: bool = True, goal: str = "packing") -> None:
        super().__init__()
        self.degrees, self.adapts = degrees, adapts
        moving = len(PROFILE) if adapts else 0
        self.node = nn.Parameter(torch.zeros(degrees, len(POD_KINDS), len(NODE_TERMS)))
        self.node_by_profile = nn.Parameter(torch.zeros(moving, len(POD_KINDS), len(NODE_TERMS)))
        self.level = nn.Parameter(torch.zeros(degrees, len(LEVEL_TERMS)))
        self.level_by_profile = nn.Parameter(torch.zeros(moving, len(LEVEL_TERMS)))
        self.hosting = nn.Parameter(torch.zeros(degrees, len(HOSTING_TERMS)))
        self.hosting_by_profile = nn.Parameter(torch.zeros(moving, len(HOSTING_TERMS)))
        self.register_buffer("estimated", torch.zeros(FULLNESS_STEPS, 1 + len(PROFILE), len(LEVEL_TERMS)))
        for name, values in (
            ("scale", TERM_SCALE),
            ("knots", range(degrees)),
            ("steps", range(FULLNESS_STEPS)),
            ("centre", PROFILE_CENTRE),
            ("spread", PROFILE_SCALE),
        ):
            self.register_buffer(name, torch.tensor(list(values), dtype=torch.float32), persistent=False)
        start = torch.zeros(len(NODE_TERMS))
        for term, weight in STARTS[goal].items():
            start[NODE_TERMS.index(term)] = weight
        with torch.no_grad():
            self.node[:] = start / self.scale

    def forward(self, candidates: Tensor, mask: Tensor | None = None) -> Tensor:
        """Score the candidates.

        Args:
            candidates: (B, K, len(COLUMNS)) float32; the situation is read from the first of each K.
            mask: not looked at: no candidate's score depends on another candidate.

        Returns:
            (B, K).
        """
        situation = candidates[:, 0, len(TERMS) :]
        kinds = situation[:, : len(POD_KINDS)]
        step = situation[:, len(POD_KINDS) : len(POD_KINDS) + 1] * (FULLNESS_STEPS - 1.0)
        profile = self.scaled(situation[:, len(POD_KINDS) + 1 :])
        degrees = torch.relu(1.0 - torch.abs((step / STEPS_A_DEGREE).clamp(max=self.degrees - 1.0) - self.knots))
        steps = torch.relu(1.0 - torch.abs(step - self.steps))
        node = outer(degrees, kinds) @ self.node.flatten(0, 1)
        level, hosting = degrees @ self.level, degrees @ self.hosting
        if self.adapts:
            node = node + outer(profile, kinds) @ self.node_by_profile.flatten(0, 1)
            level = level + profile @ self.level_by_profile
            hosting = hosting + profile @ self.hosting_by_profile
        estimated = outer(steps, self.basis(profile)) @ self.estimated.flatten(0, 1)
        weights = torch.cat([node * self.scale, level + estimated, hosting], dim=-1)
        return (candidates[:, :, : len(TERMS)] @ weights.unsqueeze(-1)).squeeze(-1)

    def scaled(self, profile: Tensor) -> Tensor:
        """The profile as the weights depend on it, centred and scaled; (B, len(PROFILE)) -> the same."""
        return ((profile - self.centre) * self.spread).clamp(-PROFILE_AT_MOST, PROFILE_AT_MOST)

    def basis(self, scaled: Tensor) -> Tensor:
        """What the levels' estimated weights are linear in; (B, len(PROFILE)) -> (B, 1 + len(PROFILE))."""
        return torch.cat([torch.ones_like(scaled[:, :1]), scaled], dim=-1)


def outer(one: Tensor, other: Tensor) -> Tensor:
    """All products of the entries of two rows; (B, I) and (B, J) -> (B, I J)."""
    return (one.unsqueeze(-1) * other.unsqueeze(-2)).flatten(-2)


def scores_of(network: nn.Module) -> Callable[[ValueArray], ValueArray]:
    """A network as a function of arrays."""

    def scores(candidates: ValueArray) -> ValueArray:
        with torch.no_grad():
            result: ValueArray = network(torch.from_numpy(candidates)).numpy()
        return result

    return scores


def play(episode: Episode, network: ValueNetwork, typical: TypicalPods) -> None:
    """Play an episode to its end by a network; `episode` is changed in place, `typical` is what usually arrives."""
    profile = workload_profile(typical, episode.cluster.nodes)
    weights = weight_table(scores_of(network), profile)
    assert weights is not None
    ValuedPlay(episode, weights, profile).play(np.random.default_rng(0))  # only preemption would draw from it
