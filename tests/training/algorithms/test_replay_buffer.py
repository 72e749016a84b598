from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium import spaces

from training.algorithms.replay_buffer import PrioritizedReplayBuffer, ReplayBuffer, SumTree

VECTOR = spaces.Box(-np.inf, np.inf, (1,), np.float32)
CANDIDATES = spaces.Dict(
    {
        name: spaces.Box(-np.inf, np.inf, shape, np.float32)
        for name, shape in {"candidates": (4, 3), "mask": (4,), "cluster": (2,)}.items()
    }
)
KINDS = pytest.mark.parametrize("prioritized", [False, True], ids=["uniform", "prioritized"])


def buffer_of(
    *steps: tuple[float, str], n_steps: int, capacity: int = 100, prioritized: bool = False, discount: float = 0.5
) -> ReplayBuffer:
    """One episode at a time: rewards, and how each step ended ('' goes on, 'end', 'cut'); step t observes t, does t."""
    settings = (capacity, VECTOR, 1, n_steps, discount, 0)
    buffer = PrioritizedReplayBuffer(*settings, alpha=1.0) if prioritized else ReplayBuffer(*settings)
    for number, (reward, end) in enumerate(steps):
        buffer.add(
            np.array([[number]], np.float32),
            np.array([number]),
            np.array([reward]),
            np.array([end == "end"]),
            np.array([end == "cut"]),
        )
    return buffer


def windows(buffer: ReplayBuffer) -> dict[int, tuple[float, float, int | None]]:
    """By the step at which each window starts: its return, its discount, and which step stands for the rest."""
    batch = buffer.sample(500)
    assert isinstance(batch.observations, torch.Tensor)
    assert isinstance(batch.next_observations, torch.Tensor)
    assert torch.equal(batch.observations[:, 0].long(), batch.actions)
    return {
        int(action): (float(gain), float(discount), int(after) if discount > 0 else None)
        for action, gain, discount, after in zip(
            batch.actions, batch.returns, batch.discounts, batch.next_observations[:, 0], strict=True
        )
    }


@KINDS
def test_one_step_is_the_reward_and_the_next_observation(prioritized: bool) -> None:
    buffer = buffer_of((1.0, ""), (2.0, ""), (4.0, ""), n_steps=1, prioritized=prioritized)
    assert windows(buffer) == {0: (1.0, 0.5, 1), 1: (2.0, 0.5, 2)}


@KINDS
def test_three_steps_add_up_discounted_rewards(prioritized: bool) -> None:
    """1 + 2/2 + 4/4 = 3, then 2 + 4/2 + 8/4 = 6; an eighth of the value after that."""
    buffer = buffer_of(*[(reward, "") for reward in (1.0, 2.0, 4.0, 8.0, 16.0)], n_steps=3, prioritized=prioritized)
    assert windows(buffer) == {0: (3.0, 0.125, 3), 1: (6.0, 0.125, 4)}


@KINDS
def test_after_the_end_of_an_episode_comes_nothing(prioritized: bool) -> None:
    buffer = buffer_of(
        (1.0, ""), (2.0, "end"), (4.0, ""), (8.0, ""), (16.0, ""), (32.0, ""), n_steps=3, prioritized=prioritized
    )
    assert windows(buffer) == {0: (2.0, 0.0, None), 1: (2.0, 0.0, None), 2: (12.0, 0.125, 5)}


@KINDS
def test_where_an_episode_is_cut_off_the_value_before_stands_for_the_rest(prioritized: bool) -> None:
    """What followed the cut was never seen: the windows stop before it, and none starts there."""
    buffer = buffer_of(
        (1.0, ""), (2.0, ""), (4.0, "cut"), (8.0, ""), (16.0, ""), (32.0, ""), n_steps=3, prioritized=prioritized
    )
    assert windows(buffer) == {0: (2.0, 0.25, 2), 1: (2.0, 0.5, 2)}


@KINDS
def test_the_oldest_steps_are_forgotten_and_no_window_runs_from_new_into_old(prioritized: bool) -> None:
    buffer = buffer_of(*[(1.0, "")] * 23, n_steps=2, capacity=8, prioritized=prioritized)
    assert {start: after for start, (_, _, after) in windows(buffer).items()} == {
        start: start + 2 for start in range(15, 21)
    }
    assert len(buffer) == 6


@KINDS
def test_windows_of_parallel_episodes_do_not_mix(prioritized: bool) -> None:
    settings = (40, VECTOR, 3, 2, 0.5, 0)
    buffer = PrioritizedReplayBuffer(*settings, alpha=0.6) if prioritized else ReplayBuffer(*settings)
    nothing = np.zeros(3, np.bool_)
    for number in range(20):
        observed = np.array([[number], [100 + number], [200 + number]], np.float32)
        buffer.add(observed, np.arange(3), 10.0 ** np.arange(3), np.array([number % 3 == 0, False, False]), nothing)
    batch = buffer.sample(300)
    assert isinstance(batch.observations, torch.Tensor)
    assert isinstance(batch.next_observations, torch.Tensor)
    goes_on = batch.discounts > 0
    torch.testing.assert_close(batch.next_observations[goes_on], batch.observations[goes_on] + 2)
    assert set((batch.returns / 10.0**batch.actions).tolist()) == {1.0, 1.5}
    assert (batch.observations[:, 0] // 100).long().tolist() == batch.actions.tolist()


@KINDS
def test_nothing_can_be_drawn_before_a_window_is_complete(prioritized: bool) -> None:
    buffer = buffer_of((1.0, ""), (2.0, ""), n_steps=2, prioritized=prioritized)
    with pytest.raises(ValueError, match="nothing to draw from: 2 steps, a window has 2"):
        buffer.sample(4)


def test_uniform_draws_are_uniform_and_need_no_correction() -> None:
    buffer = buffer_of(*[(1.0, "")] * 11, n_steps=1)
    batch = buffer.sample(20_000, beta=1.0)
    np.testing.assert_allclose(np.bincount(batch.starts, minlength=10)[:10] / 20_000, 0.1, atol=0.01)
    assert batch.weights.unique().tolist() == [1.0]


def test_windows_are_drawn_in_proportion_to_their_priorities_and_weighed_against_it() -> None:
    """Errors 1, 2, 3, 4 (with an epsilon of 0.001): probabilities a tenth each of that; weights (N p) ^ -beta / max."""
    buffer = buffer_of(*[(1.0, "")] * 5, n_steps=1, prioritized=True)
    buffer.update_priorities(np.arange(4), np.array([1.0, -2.0, 3.0, -4.0]))
    batch = buffer.sample(20_000, beta=0.5)
    np.testing.assert_allclose(np.bincount(batch.starts)[:4] / 20_000, [0.1, 0.2, 0.3, 0.4], atol=0.005)
    weights = {int(start): float(weight) for start, weight in zip(batch.starts, batch.weights, strict=True)}
    np.testing.assert_allclose([weights[start] for start in range(4)], [1.0, 2**-0.5, 3**-0.5, 0.5], atol=1e-3)


def test_with_full_correction_a_weighted_draw_is_unbiased() -> None:
    buffer = buffer_of(*[(1.0, "")] * 5, n_steps=1, prioritized=True)
    buffer.update_priorities(np.arange(4), np.array([1.0, 2.0, 3.0, 4.0]))
    batch = buffer.sample(20_000, beta=1.0)
    sums = np.bincount(batch.starts, weights=batch.weights.numpy(), minlength=4)
    np.testing.assert_allclose(sums / sums.sum(), 0.25, atol=0.01)


def test_a_new_window_has_the_highest_priority_so_far() -> None:
    buffer = buffer_of(*[(1.0, "")] * 3, n_steps=1, prioritized=True)
    buffer.update_priorities(np.array([0, 1]), np.array([1.0, 8.0]))
    nothing = np.zeros(1, np.bool_)
    buffer.add(np.array([[9.0]], np.float32), np.array([3]), np.ones(1), nothing, nothing)
    batch = buffer.sample(17_000)
    np.testing.assert_allclose(np.bincount(batch.starts)[:3] / 17_000, np.array([1, 8, 8]) / 17, atol=0.005)


@KINDS
def test_a_restored_buffer_draws_the_same_as_the_one_it_was_saved_from(prioritized: bool, tmp_path: Path) -> None:
    def filled(steps: int) -> ReplayBuffer:
        buffer = buffer_of(
            *[(float(step), "end" if step % 5 == 4 else "") for step in range(steps)],
            n_steps=3, capacity=16, prioritized=prioritized,
        )  # fmt: skip
        buffer.update_priorities(buffer.sample(8).starts, np.linspace(0.1, 9.0, 8))
        return buffer

    empty = buffer_of(n_steps=3, capacity=16, prioritized=prioritized)
    empty.restore(buffer_of(n_steps=3, capacity=16, prioritized=prioritized).state())  # interrupted at the very start
    assert len(empty) == 0
    for steps in (9, 40):
        saved = filled(steps)
        torch.save(saved.state(), tmp_path / "state.pt")
        restored = buffer_of(n_steps=3, capacity=16, prioritized=prioritized)
        restored.restore(torch.load(tmp_path / "state.pt", weights_only=True))
        nothing = np.zeros(1, np.bool_)
        for buffer in (saved, restored):
            buffer.add(np.array([[99.0]], np.float32), np.array([99]), np.ones(1), nothing, nothing)
        first, second = saved.sample(64, 0.5), restored.sample(64, 0.5)
        np.testing.assert_array_equal(first.starts, second.starts)
        for one, other in zip(first[:-1], second[:-1], strict=True):
            assert torch.equal(one, other)


def test_candidates_are_kept_in_half_precision_and_given_back_as_they_were_to_three_digits() -> None:
    buffer = ReplayBuffer(64, CANDIDATES, 2, 1, 0.9, 0)
    generator = np.random.default_rng(0)
    observed = {
        "candidates": generator.random((2, 4, 3)).astype(np.float32),
        "mask": np.array([[1, 1, 0, 0], [1, 1, 1, 1]], np.float32),
        "cluster": np.array([[1.23456789, 1e6], [0.0, -1.0]], np.float32),
    }
    observed["candidates"][0, 0, 0] = 1e9  # too large for half precision: kept finite
    nothing = np.zeros(2, np.bool_)
    for _ in range(3):
        buffer.add(observed, np.array([0, 1]), np.zeros(2), nothing, nothing)
    batch = buffer.sample(50)
    assert isinstance(batch.observations, dict)
    for row, action in enumerate(batch.actions.tolist()):
        np.testing.assert_array_equal(batch.observations["mask"][row], observed["mask"][action])
        np.testing.assert_array_equal(batch.observations["cluster"][row], observed["cluster"][action])
        wanted = np.minimum(observed["candidates"][action], 65504)
        np.testing.assert_allclose(batch.observations["candidates"][row], wanted, rtol=1e-3)


def test_fifty_thousand_decisions_of_a_large_problem_fit_into_600_megabytes() -> None:
    large = spaces.Dict(
        {
            name: spaces.Box(-np.inf, np.inf, shape, np.float32)
            for name, shape in {"candidates": (64, 80), "mask": (64,), "cluster": (20,)}.items()
        }
    )
    buffer = ReplayBuffer(50_000, large, 64, 3, 0.99, 0)  # memory that is 0 costs nothing before it is used
    assert sum(array.nbytes for array in buffer._arrays().values()) < 600e6


def test_a_sum_tree_agrees_with_plain_sums() -> None:
    generator, tree, numbers = np.random.default_rng(0), SumTree(37), np.zeros(37)
    for _ in range(30):
        positions = generator.choice(37, size=9, replace=False)
        numbers[positions] = generator.integers(0, 5, size=9)
        tree.set(positions, numbers[positions])
        assert tree.total == numbers.sum()
        assert tree.lowest == numbers[numbers > 0].min()
        points = generator.random(50) * tree.total
        np.testing.assert_array_equal(tree.find(points), np.searchsorted(numbers.cumsum(), points, side="right"))
    np.testing.assert_array_equal(tree.get(np.arange(37)), numbers)


def test_a_point_at_the_very_end_falls_into_the_last_number_that_is_not_0() -> None:
    tree = SumTree(4)
    tree.set(np.arange(4), np.array([0.0, 2.0, 0.0, 0.0]))
    assert tree.find(np.array([0.0, 2.0])).tolist() == [1, 1]
