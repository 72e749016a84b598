"""Followers for tests."""

from collections.abc import Callable, Sequence

from training.algorithms.learner import Episode


class Silent:
    """Follows a training and lets it be."""

    def between_updates(self) -> None:
        pass

    def stepped(self, finished: Sequence[Episode]) -> None:
        pass

    def collected(self) -> None:
        pass


class Interrupter(Silent):
    """Calls `interrupt` at the moments between updates, with their number, from 0."""

    def __init__(self, interrupt: Callable[[int], None]) -> None:
        self._interrupt, self._moments = interrupt, 0

    def between_updates(self) -> None:
        self._interrupt(self._moments)
        self._moments += 1
