"""The score network: the same for every candidate, aware of all of them.

Each candidate is embedded by one shared network; the mean and the maximum over the candidates describe the choice as a
whole; a head scores each candidate in that context. Permuting the candidates permutes the scores, and no layer knows
how many there are, so a network trained on a few dozen nodes serves thousands. `ScoreNetwork` is what is exported, and
`score_network` is where everyone gets it from; `ValueHead` helps to train it and is left behind. The score network's
layers end in ReLU, not tanh: serving and the simulator (`simulator.learned`) spend their time there, and a maximum with
0 costs a tenth of it.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from extender.features import NODE_FEATURES, POD_FEATURES


@dataclass
class NetworkArguments:
    """Size and shape of the score network."""

    kind: Annotated[
        str,
        Field(
            pattern="^(embedding|weighing)$",
            description="embedding: every candidate in the context of the others; weighing: value_network's sums",
        ),
    ] = "embedding"
    hidden: Annotated[int, Field(ge=4, le=192, description="embedding: width of every layer")] = 32
    pooled_context: Annotated[bool, Field(description="embedding: let a candidate's score depend on the others")] = True
    degrees: Annotated[
        int, Field(ge=1, le=3, description="weighing: degrees of the cluster's fullness with weights of their own")
    ] = 3
    adapts: Annotated[bool, Field(description="weighing: let the weights depend on the workload's profile")] = True
    fragmentation: Annotated[
        bool, Field(description="embedding: let scores and values depend on the fragmentation features (FGD)")
    ] = True


class ScoreNetwork(nn.Module):
    """Scores candidates, (B, K, F) -> (B, K).

    Example:
        >>> network = ScoreNetwork(features=5, arguments=NetworkArguments(hidden=8))
        >>> candidates, mask = torch.rand(2, 3, 5), torch.ones(2, 3)
        >>> order = [2, 0, 1]
        >>> torch.allclose(network(candidates, mask)[:, order], network(candidates[:, order], mask), atol=1e-6)
        True
    """

    def __init__(self, features: int, arguments: NetworkArguments) -> None:
        super().__init__()
        hidden = arguments.hidden
        self.pooled_context = arguments.pooled_context
        self.embed = nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
        if not arguments.fragmentation:
            blind_to_fragmentation(self.embed[0])
        self.own = nn.Linear(hidden, hidden)
        self.context = nn.Linear(2 * hidden, hidden)
        self.score = nn.Linear(hidden, 1)
        nn.init.orthogonal_(self.score.weight, 0.01)  # near-uniform choice at the start
        nn.init.zeros_(self.score.bias)

    def forward(self, candidates: Tensor, mask: Tensor | None = None) -> Tensor:
        """Score the candidates.

        Args:
            candidates: (B, K, F) float32.
            mask: (B, K) float32, 1 for a candidate, 0 for padding, which has no influence on the others' scores;
                None where there is no padding.

        Returns:
            (B, K); what stands at padding means nothing.
        """
        embedded = self.embed(candidates)
        hidden = self.own(embedded)
        if self.pooled_context:
            hidden = hidden + self.context(pool(embedded, mask)).unsqueeze(1)
        return self.score(torch.relu(hidden)).squeeze(-1)


def score_network(features: int, arguments: NetworkArguments) -> ScoreNetwork:
    """The score network that the arguments ask for, for candidates of F = `features` features."""
    return ScoreNetwork(features, arguments)


class ValueHead(nn.Module):
    """The critic: what the waiting from here on will come to, (B,).

    It sees the candidates pooled, and the cluster with its queue, which a served policy does not see.
    """

    def __init__(self, features: int, cluster_features: int, arguments: NetworkArguments) -> None:
        super().__init__()
        hidden = 2 * arguments.hidden
        self.embed = nn.Sequential(nn.Linear(features, hidden), nn.Tanh())
        if not arguments.fragmentation:
            blind_to_fragmentation(self.embed[0])
        self.value = nn.Sequential(
            nn.Linear(2 * hidden + cluster_features, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(),
            nn.Linear(hidden, 1),
        )  # fmt: skip

    def forward(self, candidates: Tensor, mask: Tensor, cluster: Tensor) -> Tensor:
        """Value of each state; candidates (B, K, F), mask (B, K), cluster (B, C) -> (B,)."""
        return self.value(torch.cat([pool(self.embed(candidates), mask), cluster], dim=-1)).squeeze(-1)


def blind_to_fragmentation(layer: nn.Module) -> None:
    """Take away a first layer's sight of the fragmentation features: weights of 0, which gradients leave alone."""
    assert isinstance(layer, nn.Linear)
    names = NODE_FEATURES + POD_FEATURES  # the last columns, after those of the resources
    hidden = [layer.in_features - len(names) + at for at, name in enumerate(names) if "fragmentation" in name]
    columns = torch.tensor(hidden)
    with torch.no_grad():
        layer.weight[:, columns] = 0.0
    layer.weight.register_hook(lambda gradient: gradient.index_fill(1, columns, 0.0))


def pool(embedded: Tensor, mask: Tensor | None) -> Tensor:
    """Mean and maximum over the candidates; (B, K, H) and (B, K) -> (B, 2 H)."""
    if mask is None:
        return torch.cat([embedded.mean(dim=1), embedded.amax(dim=1)], dim=-1)
    weights = mask.unsqueeze(-1)
    mean = (embedded * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1.0)
    # The critic's embeddings lie in -1..1 and the score network's are not negative: -2 never wins against a candidate.
    maximum = torch.where(weights > 0, embedded, -2.0).amax(dim=1)
    return torch.cat([mean, maximum], dim=-1)
