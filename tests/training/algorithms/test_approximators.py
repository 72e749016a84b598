import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

from training.algorithms.approximators import (
    ActionScores,
    ActionValues,
    StateValue,
    best_action,
    dueling_values,
    log_probabilities,
    valid_actions,
    without_padding,
)
from training.networks import NetworkArguments

CANDIDATES = spaces.Dict(
    {
        name: spaces.Box(-np.inf, np.inf, shape, np.float32)
        for name, shape in {"candidates": (6, 4), "mask": (6,), "cluster": (3,)}.items()
    }
)
VECTOR, ACTIONS = spaces.Box(-1.0, 1.0, (5,), np.float32), spaces.Discrete(6)
NETWORK = NetworkArguments(hidden=8)


def observation_of(*counts: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    mask = (torch.arange(6) < torch.tensor(counts)[:, None]).float()
    return {"candidates": torch.rand(len(counts), 6, 4), "mask": mask, "cluster": torch.rand(len(counts), 3)}


def test_padding_is_cut_to_the_longest_list() -> None:
    observation = observation_of(2, 4)
    candidates, mask = without_padding(observation)
    torch.testing.assert_close(candidates, observation["candidates"][:, :4])
    assert mask.tolist() == [[1, 1, 0, 0], [1, 1, 1, 1]]


def test_one_place_is_left_where_there_is_no_candidate_at_all() -> None:
    candidates, mask = without_padding(observation_of(0, 0))
    assert (candidates.shape, mask.shape) == ((2, 1, 4), (2, 1))


def test_valid_are_the_candidates_and_the_first_action_where_there_is_none() -> None:
    observation = observation_of(0, 3)
    valid = valid_actions(observation, torch.empty(2, 6))
    assert valid.tolist() == [[True, *[False] * 5], [*[True] * 3, *[False] * 3]]
    assert observation["mask"][0, 0] == 0  # what was observed is left alone


def test_every_action_of_a_plain_vector_is_valid() -> None:
    assert valid_actions(torch.rand(2, 5), torch.empty(2, 6)).all()


@pytest.mark.parametrize("observed", [CANDIDATES, VECTOR], ids=["candidates", "vector"])
@pytest.mark.parametrize("dueling", [True, False])
def test_every_action_has_a_number_and_every_state_a_value(observed: spaces.Space, dueling: bool) -> None:
    observation = observation_of(2, 4) if observed is CANDIDATES else torch.rand(2, 5)
    assert ActionScores(observed, ACTIONS, NETWORK)(observation).shape == (2, 6)
    assert ActionValues(observed, ACTIONS, NETWORK, dueling=dueling)(observation).shape == (2, 6)
    assert StateValue(observed, NETWORK)(observation).shape == (2,)


def test_another_space_is_refused_with_what_is_expected() -> None:
    with pytest.raises(ValueError, match=r"expected a Box, or a Dict of the Boxes candidates"):
        ActionScores(spaces.Tuple([VECTOR]), ACTIONS, NETWORK)


def test_dueling_values_are_centred_on_the_mean_of_valid_actions() -> None:
    values = dueling_values(
        torch.tensor([10.0, -1.0]),
        torch.tensor([[1.0, 3.0, 99.0], [1.0, 2.0, 6.0]]),
        torch.tensor([[True, True, False], [True, True, True]]),
    )
    torch.testing.assert_close(values[0, :2], torch.tensor([9.0, 11.0]))
    torch.testing.assert_close(values[1], torch.tensor([-3.0, -2.0, 2.0]))


def test_dueling_does_not_reach_padding_and_pulls_advantages_apart() -> None:
    """The values of the first action over (V, A1, A2, A3), the third padding: slopes 1, 1/2, -1/2, 0."""
    state, advantages = torch.tensor([2.0], requires_grad=True), torch.tensor([[1.0, 3.0, 9.0]], requires_grad=True)
    dueling_values(state, advantages, torch.tensor([[True, True, False]]))[0, 0].backward()
    assert state.grad is not None
    assert advantages.grad is not None
    assert state.grad.tolist() == [1.0]
    assert advantages.grad.tolist() == [[0.5, -0.5, 0.0]]


def test_dueling_keeps_the_order_of_the_scores() -> None:
    observation, values = observation_of(2, 4, 6), ActionValues(CANDIDATES, ACTIONS, NETWORK, dueling=True)
    nn.init.normal_(next(values.scores.parameters()), std=3.0)
    valid = valid_actions(observation, torch.empty(3, 6))
    with torch.no_grad():
        assert torch.equal(best_action(values(observation), valid), best_action(values.scores(observation), valid))


def test_the_best_action_is_a_valid_one_however_low_its_score() -> None:
    scores, valid = torch.tensor([[-1e30, 5.0, -2e30]]), torch.tensor([[True, False, True]])
    assert best_action(scores, valid).tolist() == [0]


def test_log_probabilities_are_those_of_the_valid_actions_and_pass_no_gradient_to_others() -> None:
    logits = torch.tensor([[0.0, np.log(3.0), 50.0]], dtype=torch.float32, requires_grad=True)
    logs = log_probabilities(logits, torch.tensor([[True, True, False]]))
    torch.testing.assert_close(logs.detach(), torch.tensor([[np.log(0.25), np.log(0.75), 0.0]], dtype=torch.float32))
    logs[0, 0].backward()
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, torch.tensor([[0.75, -0.75, 0.0]]))
