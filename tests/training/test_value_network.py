import numpy as np
import pytest
import torch

from extender.valuation import COLUMNS, FULLNESS_STEPS, NODE_TERMS, POD_KINDS, PROFILE, TERMS
from tests.training.profiles import profile_of
from training.simulator.valued import weight_table
from training.value_network import DEGREES, ValueNetwork, scores_of

FULLNESS = len(TERMS) + len(POD_KINDS)
SHARES = np.array([0.6, 0.2, 0.5, 0.0, 0.9])
PROFILE_OF_SHARES = profile_of(SHARES)


def random_network(seed: int = 0) -> ValueNetwork:
    network = ValueNetwork()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for values in (*network.parameters(), network.estimated):
            values.copy_(torch.randn(values.shape, generator=generator))
    return network


def decision(terms: np.ndarray, kind: int, step: int, shares: np.ndarray = SHARES) -> np.ndarray:
    columns = np.zeros((1, len(terms), len(COLUMNS)), np.float32)
    columns[0, :, : len(TERMS)] = terms
    columns[0, :, len(TERMS) + kind] = 1.0
    columns[0, :, FULLNESS] = step / (FULLNESS_STEPS - 1)
    columns[0, :, FULLNESS + 1 :] = shares
    return columns


def test_scores_are_sums_of_weighted_terms():
    scores = scores_of(random_network())
    generator = np.random.default_rng(1)
    weights = weight_table(scores, PROFILE_OF_SHARES)
    assert weights is not None
    for kind in range(len(POD_KINDS)):
        for step in (0, 7, FULLNESS_STEPS - 1):
            terms = generator.normal(size=(5, len(TERMS)))
            np.testing.assert_allclose(
                scores(decision(terms, kind, step))[0], terms @ weights[step, kind], rtol=1e-3, atol=1e-3
            )


def test_what_is_no_sum_of_weighted_terms_has_no_table():
    network = random_network()

    def squared(candidates):
        return scores_of(network)(candidates) ** 2

    assert weight_table(squared, PROFILE_OF_SHARES) is None


@pytest.mark.parametrize(("step", "weight"), [(0, 1.0), (4, 1.5), (8, 2.0), (12, 3.0), (16, 4.0), (20, 4.0)])
def test_weights_are_interpolated_between_the_degrees_of_fullness(step, weight):
    network = ValueNetwork()
    with torch.no_grad():
        network.level[:, 3] = torch.tensor([1.0, 2.0, 4.0])
    terms = np.zeros((1, len(TERMS)))
    terms[0, len(NODE_TERMS) + 3] = 1.0
    assert DEGREES == 3
    assert scores_of(network)(decision(terms, 1, step))[0, 0] == pytest.approx(weight)


def test_the_profile_moves_the_weights_of_its_kind_of_pod():
    network = ValueNetwork()
    with torch.no_grad():
        network.node_by_profile[PROFILE.index("workload/cpu-supply"), 2, TERMS.index("devices")] = 1.0
    terms = np.zeros((1, len(TERMS)))
    terms[0, TERMS.index("devices")] = 1.0
    # (0.6 - 0.5) * 4, times the term's scale of 0.5; another kind of pod is not concerned.
    assert scores_of(network)(decision(terms, 2, 5))[0, 0] == pytest.approx(0.2, abs=1e-6)
    assert scores_of(network)(decision(terms, 1, 5))[0, 0] == 0.0
    assert scores_of(network)(decision(terms, 2, 5, SHARES * 0 + 5))[0, 0] == pytest.approx(1.0)  # at most 2


def test_estimates_hold_for_their_own_step():
    network = ValueNetwork()
    network.estimated[5, 0, 0] = -3.0
    terms = np.zeros((1, len(TERMS)))
    terms[0, len(NODE_TERMS)] = 1.0
    found = [scores_of(network)(decision(terms, 0, step))[0, 0] for step in (4, 5, 6)]
    assert found == pytest.approx([0.0, -3.0, 0.0], abs=1e-5)


def test_it_is_small_enough_to_be_served():
    weights = [*ValueNetwork().parameters(), ValueNetwork().estimated]
    assert sum(values.numel() for values in weights) * 4 <= 64 * 1024
