import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from training.networks import NetworkArguments, ScoreNetwork, ValueHead, pool, score_network

FEATURES, CLUSTER = 7, 5
BOTH = pytest.mark.parametrize("pooled_context", [True, False])


def network_of(pooled_context: bool = True) -> ScoreNetwork:
    torch.manual_seed(0)
    network = score_network(FEATURES, NetworkArguments(hidden=16, pooled_context=pooled_context))
    nn.init.orthogonal_(network.score.weight)  # scores that differ visibly
    return network.eval()


def value_head() -> ValueHead:
    torch.manual_seed(0)
    return ValueHead(FEATURES, CLUSTER, NetworkArguments(hidden=16)).eval()


def candidates_of(count: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(1, count, FEATURES)).astype(np.float32))


def padded(candidates: torch.Tensor, padding: int, fill: float) -> tuple[torch.Tensor, torch.Tensor]:
    mask = torch.zeros(1, candidates.shape[1] + padding)
    mask[:, : candidates.shape[1]] = 1.0
    return torch.cat([candidates, torch.full((1, padding, FEATURES), fill)], dim=1), mask


@BOTH
@settings(max_examples=25)
@given(order=st.permutations(range(9)))
@torch.no_grad()
def test_permuting_the_candidates_permutes_the_scores(pooled_context, order):
    network, candidates = network_of(pooled_context), candidates_of(9)
    torch.testing.assert_close(network(candidates)[:, order], network(candidates[:, order]))


@BOTH
@pytest.mark.parametrize("fill", [0.0, 5.0, -1e6])
@torch.no_grad()
def test_padding_has_no_influence_on_scores(pooled_context, fill):
    network, candidates = network_of(pooled_context), candidates_of(6)
    scores = network(*padded(candidates, 10, fill))[:, :6]
    torch.testing.assert_close(scores, network(candidates))


@BOTH
@pytest.mark.parametrize("count", [1, 2, 64, 5000])
@torch.no_grad()
def test_any_number_of_candidates_gets_a_score_each(pooled_context, count):
    scores = network_of(pooled_context)(candidates_of(count))
    assert scores.shape == (1, count)
    assert torch.isfinite(scores).all()


@torch.no_grad()
def test_a_cluster_of_more_equal_nodes_gets_the_same_scores():
    network, candidates = network_of(), candidates_of(8)
    torch.testing.assert_close(network(candidates.repeat(1, 100, 1))[:, :8], network(candidates))


@BOTH
@torch.no_grad()
def test_only_with_context_do_the_other_candidates_matter(pooled_context):
    network = network_of(pooled_context)
    first, second = candidates_of(3), candidates_of(3, seed=1)
    second[:, 0] = first[:, 0]
    assert torch.equal(network(first)[:, 0], network(second)[:, 0]) == (not pooled_context)


@torch.no_grad()
def test_decisions_of_a_batch_do_not_mix():
    network, batch = network_of(), torch.cat([candidates_of(4, seed) for seed in range(3)])
    together = network(batch)
    for index in range(3):
        torch.testing.assert_close(together[index : index + 1], network(batch[index : index + 1]))


@torch.no_grad()
def test_a_new_network_prefers_next_to_nothing():
    torch.manual_seed(0)
    scores = score_network(FEATURES, NetworkArguments())(candidates_of(20))
    assert scores.max() - scores.min() < 0.1


@torch.no_grad()
def test_the_value_depends_on_neither_order_nor_padding():
    head, candidates, cluster = value_head(), candidates_of(6), torch.rand(1, CLUSTER)
    value = head(candidates, torch.ones(1, 6), cluster)
    assert value.shape == (1,)
    torch.testing.assert_close(head(candidates[:, [3, 1, 0, 5, 4, 2]], torch.ones(1, 6), cluster), value)
    torch.testing.assert_close(head(*padded(candidates, 4, 9.0), cluster), value)


@torch.no_grad()
def test_the_value_depends_on_candidates_and_cluster():
    head, mask = value_head(), torch.ones(1, 6)
    value = head(candidates_of(6), mask, torch.zeros(1, CLUSTER))
    assert head(candidates_of(6, seed=1), mask, torch.zeros(1, CLUSTER)) != value
    assert head(candidates_of(6), mask, torch.ones(1, CLUSTER)) != value


@torch.no_grad()
def test_the_maximum_of_candidates_that_embed_to_nothing_is_nothing():
    embedded = torch.tensor([[[0.0, 0.0], [0.0, 0.3], [0.9, 0.9]]])
    pooled = pool(embedded, torch.tensor([[1.0, 1.0, 0.0]]))
    torch.testing.assert_close(pooled, torch.tensor([[0.0, 0.15, 0.0, 0.3]]))


def test_pooling_takes_mean_and_maximum_of_the_candidates_only():
    embedded = torch.tensor([[[-0.5, 0.2], [-0.1, 0.4], [0.9, 0.9]]])
    pooled = pool(embedded, torch.tensor([[1.0, 1.0, 0.0]]))
    torch.testing.assert_close(pooled, torch.tensor([[-0.3, 0.3, -0.1, 0.4]]))
