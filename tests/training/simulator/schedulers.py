"""Any settings of the scheduler, by Hypothesis."""

from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from tests.profiles import profiles
from training.simulator.scheduling import SchedulerArguments

ORDERINGS = ("priority", "fifo", "shortest-expected-first", "least-work-first", "smallest-first")
FOREVER = SchedulerArguments().horizon_seconds


@st.composite
def schedulers(draw: st.DrawFn, **fixed: Any) -> SchedulerArguments:
    """Any settings, but for those that are given; times are quarters of seconds, but for a horizon."""
    drawn = SchedulerArguments(
        ordering=draw(st.sampled_from(ORDERINGS)),
        backoff_initial_seconds=draw(st.sampled_from((0.0, 0.5, 1.0, 3.0))),
        backoff_max_seconds=draw(st.sampled_from((0.0, 1.0, 10.0))),
        pop_from_backoff=draw(st.booleans()),
        futile_attempts=draw(st.booleans()),
        preemption=draw(st.booleans()),
        reservation_after_seconds=draw(st.sampled_from((0.0, 0.25, 0.25, 3.0))),
        reservation_gpus=draw(st.sampled_from((0, 1, 2))),
        reservations_at_most=draw(st.sampled_from((1.0, 0.5, 0.01))),
        attempt_seconds=draw(st.sampled_from((0.0, 0.0, 0.25, 1.0))),
        failed_attempt_seconds=draw(st.sampled_from((0.0, 0.0, 0.5))),
        horizon_seconds=draw(st.sampled_from((FOREVER, FOREVER, FOREVER, 12.6))),
        scoring=draw(profiles()),
    )
    return replace(drawn, **fixed)
