"""Followers for tests."""

from collections.abc import Callable, Sequence
from contextlib import suppress

from training.algorithms.learner import Episode, StepLearner


class Silent:
    """Follows a training and lets it be."""

    def between_updates(self) -> None:
        pass

    def stepped(self, finished: Sequence[Episode]) -> None:
        pass

    def collected(self) -> None:
        pass


class Until(Silent):
    """Ends a training as soon as it has reached what is wanted of it; looks between updates, `every` so many steps."""

    class Reached(Exception):  # noqa: N818 - no error, an end
        """It has."""

    def __init__(self, learner: StepLearner, reached: Callable[[], bool], every: int) -> None:
        self._learner, self._reached, self._every, self._next = learner, reached, every, every

    def between_updates(self) -> None:
        if self._learner.timesteps >= self._next:
            self._next += self._every
            if self._reached():
                raise Until.Reached

    def train(self, at_most: int) -> None:
        """Train for so many steps at most."""
        with suppress(Until.Reached):
            self._learner.train(at_most, self)


class Interrupter(Silent):
    """Calls `interrupt` at the moments between updates, with their number, from 0."""

    def __init__(self, interrupt: Callable[[int], None]) -> None:
        self._interrupt, self._moments = interrupt, 0

    def between_updates(self) -> None:
        self._interrupt(self._moments)
        self._moments += 1
