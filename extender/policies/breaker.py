"""A circuit breaker: what failed several times in a row is left alone for a while.

A policy that hangs costs every pod the time that is given to it. After a few failures without a success in between it
is not asked any more; when the pause is over one decision tries it again, and decides whether the breaker closes.
"""

from collections.abc import Callable

Clock = Callable[[], float]
"""Monotonic seconds."""


class Breaker:
    """Counts failures in a row.

    Example:
        >>> now = 0.0
        >>> breaker = Breaker(failures_at_most=2, pause_seconds=10.0, clock=lambda: now)
        >>> breaker.failed(), breaker.failed(), breaker.admits()
        (None, None, False)
        >>> now = 10.0
        >>> breaker.admits(), breaker.succeeded(), breaker.open
        (True, None, False)
    """

    def __init__(self, failures_at_most: int, pause_seconds: float, clock: Clock) -> None:
        """Begin closed.

        Args:
            failures_at_most: so many failures in a row open it.
            pause_seconds: how long nothing is tried once it is open, and after each failed trial.
            clock: monotonic seconds.
        """
        self._failures_at_most = failures_at_most
        self._pause_seconds = pause_seconds
        self._clock = clock
        self._failures = 0
        self._next_trial = float("-inf")

    @property
    def open(self) -> bool:
        """Whether it takes a successful trial to go on as usual."""
        return self._failures >= self._failures_at_most

    def admits(self) -> bool:
        """Whether to try now."""
        return not self.open or self._clock() >= self._next_trial

    def failed(self) -> None:
        """A try failed."""
        self._failures += 1
        if self.open:
            self._next_trial = self._clock() + self._pause_seconds

    def succeeded(self) -> None:
        """A try succeeded."""
        self._failures = 0
