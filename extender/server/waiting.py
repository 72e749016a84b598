"""What goes with reservations while the extender runs: the timer, the metrics, the file, and events on the pods.

`cluster.reservations` decides; `run` starts and stops this where reservations are switched on.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from extender.cluster.reservation_file import ReservationFile
from extender.cluster.reservations import Ending, Reservation, Reservations
from extender.cluster.state import ClusterState
from extender.reservations import ReservationRule
from extender.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from extender.cluster.events import EventRecorder

REVIEW_SECONDS = 1.0
EVENT_STOP_SECONDS = 1.0

log = logging.getLogger(__name__)


class ReservationKeeper:
    """Keeps the reservations of one cluster going.

    Attributes:
        reservations: what has been reserved.
    """

    def __init__(
        self, state: ClusterState, rule: ReservationRule, scheduler: str, file: Path | None, metrics: Metrics
    ) -> None:
        """Take over what was written before a restart.

        Args:
            scheduler: the `schedulerName` of the pods that may reserve.
            file: where reservations are written; None keeps them in memory only.
        """
        self.reservations = Reservations(state, rule, scheduler, time.time, self._report)
        self._metrics = metrics
        self._file = ReservationFile(file) if file is not None else None
        self._events: EventRecorder | None = None
        self._timer: asyncio.Handle | None = None
        for ending in Ending:
            metrics.reservations.labels(ending)
        metrics.reserved.set_function(lambda: len(self.reservations))
        if self._file is not None:
            self.reservations.restore(self._file.read())

    def start(self, ready: Callable[[], bool]) -> None:
        """Begin to review; on the running event loop.

        Args:
            ready: whether nodes and pods have been listed.
        """
        if self._file is not None:
            self._file.start()
        self._review(ready)

    def tell(self, events: "EventRecorder") -> None:
        """Tell of reservations on the pods, too."""
        self._events = events
        events.start()

    def stop(self) -> None:
        """Write what is still to be written."""
        if self._timer is None:
            return  # it was never started
        self._timer.cancel()
        if self._file is not None:
            self._file.stop()
        if self._events is not None:
            self._events.stop(EVENT_STOP_SECONDS)

    def _review(self, ready: Callable[[], bool]) -> None:
        loop = asyncio.get_running_loop()
        if ready() and self.reservations.review():
            self._timer = loop.call_soon(self._review, ready)
        else:
            self._timer = loop.call_later(REVIEW_SECONDS, self._review, ready)

    def _report(self, ending: Ending, reservation: Reservation) -> None:
        self._metrics.reservations.labels(ending).inc()
        log.info("reservation %s: node %s, pod %s/%s", ending, reservation.node, reservation.namespace, reservation.pod)
        if self._file is not None:
            self._file.save(self.reservations.held())
        if self._events is not None and ending in _EVENTS:
            from extender.cluster.events import PodEvent

            reason, message = _EVENTS[ending]
            times = {name: _shown(getattr(reservation, name)) for name in ("until", "expires")}
            text = message.format(node=reservation.node, gpus=reservation.gpus, **times)
            self._events.record(
                PodEvent(reservation.namespace, reservation.pod, reservation.uid, reason, text, time.time())
            )


# What happens to a pod's reservation when the pod starts or goes, its own events say.
_EVENTS = {
    Ending.MADE: (
        "NodeReserved",
        "node {node} is reserved for this pod, which waits for {gpus} GPUs: they are believed to be free by {until}; "
        "the reservation lapses at {expires}",
    ),
    Ending.EXPIRED: ("ReservationExpired", "node {node} is not reserved for this pod any more: the time is up"),
    Ending.NODE_GONE: ("ReservedNodeGone", "node {node}, which was reserved for this pod, is gone"),
}


def _shown(unix_seconds: float) -> str:
    return datetime.fromtimestamp(unix_seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
