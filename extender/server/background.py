"""How much those may compute that think about policies in a thread of their own while requests are answered."""

import time

SHARE = 0.25  # of the time: they share the interpreter with those who answer, and must not slow them down


def rest_after(began: float) -> None:
    """Sleep as long as leaves what was done since `began` (`time.perf_counter()`) its share of the time."""
    time.sleep((time.perf_counter() - began) * (1.0 / SHARE - 1.0))
