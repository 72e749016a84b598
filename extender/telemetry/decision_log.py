"""The decision log: one JSON line per prioritize answer, for audits and for training on what a cluster really asked.

Requests only append to a list in memory. A thread writes the lines out every flush interval and hands them to the
operating system, so a kill -9 loses at most the last interval; there is no fsync, so a power failure can lose more.
A disk that is full or gone costs records, which are counted, and never a request.
"""

import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path

import msgspec

RECORDS_AT_MOST = 100_000  # waiting for the disk; at some 500 bytes each 50 MB

log = logging.getLogger(__name__)


class DecisionRecord(msgspec.Struct, gc=False):
    """One decision.

    Attributes:
        time: Unix seconds.
        namespace: the pod's.
        pod: its name.
        uid: its uid.
        request: what it asks for, a number per resource of the policy, in base units.
        gpu_count: devices it asks for.
        gpu_milli: thousandths of each.
        priority: the pod's priority value.
        expected_seconds: how long it says it will run, 0 if it does not say.
        candidates: how many candidates were scored.
        chosen: the node ranked first, null for an answer without opinion.
        rung: what gave the answer.
        scores: [[node, score], ...], best first, at most ten.
        policy: SHA-256 of the policy file, or the heuristic's name.
        latency: seconds from the complete request to the answer.
    """

    time: float
    namespace: str
    pod: str
    uid: str
    request: list[int]
    gpu_count: int
    gpu_milli: int
    priority: int
    expected_seconds: float
    candidates: int
    chosen: str | None
    rung: str
    scores: list[tuple[str, float]]
    policy: str
    latency: float


class DecisionLog:
    """Appends records to a file, off the request path."""

    def __init__(self, path: Path, flush_seconds: float, count: Callable[[str, int], None]) -> None:
        """Open nothing yet.

        Args:
            path: appended to; created, with its folder, if missing.
            flush_seconds: a record is on its way to the disk after so long at the latest.
            count: called with "written" or "lost" and a number of records.
        """
        self._path = path
        self._flush_seconds = flush_seconds
        self._count = count
        self._waiting: deque[DecisionRecord] = deque()
        self._stop = threading.Event()
        self._failing = False
        self._encoder = msgspec.json.Encoder()
        self._thread = threading.Thread(target=self._run, name="decision-log", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def append(self, record: DecisionRecord) -> None:
        """Take the record; returns at once."""
        if len(self._waiting) >= RECORDS_AT_MOST:
            self._count("lost", 1)
            return
        self._waiting.append(record)

    def stop(self) -> None:
        """Write what is waiting and end."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        stopped = False
        while not stopped:
            stopped = self._stop.wait(self._flush_seconds)
            count = len(self._waiting)
            if count:
                self._write([self._waiting.popleft() for _ in range(count)])

    def _write(self, records: list[DecisionRecord]) -> None:
        lines = b"".join(self._encoder.encode(record) + b"\n" for record in records)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # Opened anew each time: a log that was rotated away or deleted is begun again.
            descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
            try:
                _write_whole(descriptor, lines)
            finally:
                os.close(descriptor)
        except OSError as error:
            self._count("lost", len(records))
            if not self._failing:
                log.error("decision log %s cannot be written, records are lost until it can: %s", self._path, error)
            self._failing = True
            return
        self._count("written", len(records))
        if self._failing:
            log.warning("decision log %s can be written again", self._path)
        self._failing = False


def _write_whole(descriptor: int, lines: bytes) -> None:
    """Write after ending a line that an earlier failure has torn; readers skip that line."""
    end = os.lseek(descriptor, 0, os.SEEK_END)
    if end > 0 and os.pread(descriptor, 1, end - 1) != b"\n":
        lines = b"\n" + lines
    view = memoryview(lines)
    while view:
        view = view[os.write(descriptor, view) :]
