"""What the algorithms learn with, chosen by what is observed.

A placement decision is observed as candidates with a mask: the score network gives each a number, and what it says of
padding counts nowhere. Any other environment observes a plain vector and always has the same actions, which
perceptrons do for, so that the algorithms can be tried on problems whose results are known. This is the only place that
tells the two apart; algorithms see numbers per action, and which actions are valid.
"""

import torch
from gymnasium import spaces
from torch import Tensor, nn

from training.networks import NetworkArguments, ValueHead, score_network

Observation = Tensor | dict[str, Tensor]


class ActionScores(nn.Module):
    """One number per action, (B, A): the logits of an actor, or the values of actions.

    Attributes:
        network: what is exported: a score network, or a perceptron where a plain vector is observed.
    """

    def __init__(self, observations: spaces.Space, actions: spaces.Discrete, arguments: NetworkArguments) -> None:
        super().__init__()
        self.network: nn.Module
        if isinstance(observations, spaces.Dict):
            self.network = score_network(_shape(observations["candidates"])[1], arguments)
        else:
            self.network = _perceptron(_shape(observations)[0], int(actions.n), arguments)

    def forward(self, observation: Observation) -> Tensor:
        """Numbers of all actions; what stands at those that are not valid means nothing."""
        if not isinstance(observation, dict):
            return self.network(observation)
        candidates, mask = without_padding(observation)
        scores = self.network(candidates, mask)
        return nn.functional.pad(scores, (0, observation["mask"].shape[1] - scores.shape[1]))


class StateValue(nn.Module):
    """One number per state, (B,): what is still to come from there."""

    def __init__(self, observations: spaces.Space, arguments: NetworkArguments) -> None:
        super().__init__()
        self.head: nn.Module
        if isinstance(observations, spaces.Dict):
            features, cluster = _shape(observations["candidates"])[1], _shape(observations["cluster"])[0]
            self.head = ValueHead(features, cluster, arguments)
        else:
            self.head = _perceptron(_shape(observations)[0], 1, arguments)

    def forward(self, observation: Observation) -> Tensor:
        """Values of the states."""
        if not isinstance(observation, dict):
            return self.head(observation).squeeze(-1)
        candidates, mask = without_padding(observation)
        return self.head(candidates, mask, observation["cluster"])


class ActionValues(nn.Module):
    """Values of actions, (B, A): the scores themselves or, dueling, their differences around the state's value.

    Dueling (Wang et al. 2016, equation 9) also lets the values depend on what only the critic sees, the queue; the
    order of the actions is that of the scores either way.
    """

    def __init__(
        self, observations: spaces.Space, actions: spaces.Discrete, arguments: NetworkArguments, *, dueling: bool
    ) -> None:
        super().__init__()
        self.scores = ActionScores(observations, actions, arguments)
        self.state = StateValue(observations, arguments) if dueling else None

    def forward(self, observation: Observation) -> Tensor:
        """Values of all actions; what stands at those that are not valid means nothing."""
        scores = self.scores(observation)
        if self.state is None:
            return scores
        return dueling_values(self.state(observation), scores, valid_actions(observation, scores))


def dueling_values(state: Tensor, advantages: Tensor, valid: Tensor) -> Tensor:
    """Values of actions: the state's value, plus each advantage over the mean of the valid ones.

    Args:
        state: (B,).
        advantages: (B, A).
        valid: (B, A) bool.

    Example:
        >>> dueling_values(torch.tensor([10.0]), torch.tensor([[1.0, 3.0, 99.0]]), torch.tensor([[True, True, False]]))
        tensor([[  9.,  11., 107.]])
    """
    mean = (advantages * valid).sum(dim=1) / valid.sum(dim=1).clamp(min=1)
    return state[:, None] + advantages - mean[:, None]


def valid_actions(observation: Observation, scores: Tensor) -> Tensor:
    """Which actions name a candidate, (B, A) bool; all of them where a plain vector is observed.

    Where there is no candidate at all the first action counts as valid (it parks the pod): some action has to be taken.
    """
    if not isinstance(observation, dict):
        return torch.ones_like(scores, dtype=torch.bool)
    valid = observation["mask"] > 0
    valid[:, 0] |= ~valid.any(dim=1)
    return valid


def best_action(scores: Tensor, valid: Tensor) -> Tensor:
    """The valid action with the highest score, the first among equals; (B, A) and (B, A) bool -> (B,) int64."""
    return scores.masked_fill(~valid, -torch.inf).argmax(dim=1)


def log_probabilities(logits: Tensor, valid: Tensor) -> Tensor:
    """Logarithms of the softmax over valid actions; 0 at the others, whose probability is 0; (B, A)."""
    return nn.functional.log_softmax(logits.masked_fill(~valid, -torch.inf), dim=1).masked_fill(~valid, 0.0)


def without_padding(observation: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Candidates and mask, cut to the longest list of the batch: most lists fill a fraction of the room."""
    longest = max(int(observation["mask"].sum(dim=1).max()), 1)
    return observation["candidates"][:, :longest], observation["mask"][:, :longest]


def _shape(space: spaces.Space) -> tuple[int, ...]:
    if space.shape is None:
        raise ValueError(f"{space}: expected a Box, or a Dict of the Boxes candidates (K, F), mask (K,), cluster (C,)")
    return space.shape


def _perceptron(inputs: int, outputs: int, arguments: NetworkArguments) -> nn.Module:
    hidden = 2 * arguments.hidden  # the score network has two layers of this width beside each other
    layers = (nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, outputs))
    nn.init.orthogonal_(layers[-1].weight, 0.01 if outputs > 1 else 1.0)  # type: ignore[arg-type]
    return nn.Sequential(*layers)
