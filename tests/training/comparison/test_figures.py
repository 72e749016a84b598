import numpy as np

from training.comparison.figures import Curves, steps_needed


def curves(steps: list[float], waits: list[list[float]]) -> Curves:
    return Curves(np.array(steps), np.zeros((len(steps), 2)), np.array(waits), np.zeros((len(steps), 3)))


def test_steps_needed_are_counted_to_nine_tenths_of_the_way_to_the_best_run_of_the_seed() -> None:
    """Seed 0 begins at 110 and 90, on average at 100, and the best is 0: 10 is enough. Seed 1: from 20 to 10, 11 is."""
    found = steps_needed(
        {
            "quick": curves([0, 100, 200], [[110, 20], [10, 12], [5, 11]]),
            "slow": curves([0, 100, 200], [[90, 20], [50, 10], [0, 10]]),
            "searched": curves([50, 500], [[50, 13], [20, 10.5]]),  # not looked at before its first update
        }
    )
    assert {name: each.tolist() for name, each in found.items()} == {
        "quick": [100.0, 200.0],
        "slow": [200.0, 100.0],
        "searched": [np.inf, 500.0],
    }
