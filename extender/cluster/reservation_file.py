"""Reservations on disk, so that a restart keeps who has reserved which node.

A file of the extender's own needs no right in the cluster. Without one, or with one that was lost, reservations are
granted anew: since when a pod waits is in its status, so it does not lose its turn, at most its node.
"""

import logging
import threading
from collections.abc import Sequence
from pathlib import Path

import msgspec

from extender.cluster.reservations import Reservation
from extender.whole_file import put_whole

log = logging.getLogger(__name__)


class ReservationFile:
    """Writes the latest reservations, off the event loop."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._latest: Sequence[Reservation] | None = None
        self._lock = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="reservation-file", daemon=True)

    def read(self) -> list[Reservation]:
        """What was written last; nothing, and a line in the log, where that cannot be read."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=list[Reservation])
        except FileNotFoundError:
            return []
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            log.warning("reservations in %s are lost, and granted anew: %s", self._path, error)
            return []

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def save(self, held: Sequence[Reservation]) -> None:
        """These are the reservations from now on; returns at once."""
        with self._lock:
            self._latest = held
            self._lock.notify()

    def stop(self) -> None:
        """Write what is still to be written, and end."""
        with self._lock:
            self._stopping = True
            self._lock.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._lock:
                while self._latest is None and not self._stopping:
                    self._lock.wait()
                held, self._latest = self._latest, None
            if held is None:
                return
            try:
                put_whole(self._path, msgspec.json.encode(held))
            except OSError as error:
                log.error("reservations cannot be written to %s, so a restart loses them: %s", self._path, error)
