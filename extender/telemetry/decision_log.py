"""The decision log: a JSON line per prioritize answer and per outcome, for audits and for training on what was asked.

Requests only append to a list in memory. A thread writes the lines out every flush interval and hands them to the
operating system, so a kill -9 loses at most the last interval. A power failure can lose what the operating system has
not written yet, unless each flush is told to wait for the disk (fsync). A disk that is full or gone costs records,
which are counted, and never a request.

A file that has reached its size is renamed to `NAME.1`, what was `NAME.1` to `NAME.2` and so on, and the oldest is
deleted: the log as a whole never takes more than (files + 1) x (size + one flush).
"""

import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path

import msgspec

from extender.telemetry.decision_records import Record

RECORDS_AT_MOST = 100_000  # waiting for the disk; at some 500 bytes each 50 MB

log = logging.getLogger(__name__)


class DecisionLog:
    """Appends records to a file, off the request path."""

    def __init__(
        self,
        path: Path,
        flush_seconds: float,
        count: Callable[[str, int], None],
        file_bytes: int = 64 * 1024 * 1024,
        files: int = 8,
        fsync: bool = False,
    ) -> None:
        """Open nothing yet.

        Args:
            path: appended to; created, with its folder, if missing.
            flush_seconds: a record is on its way to the disk after so long at the latest.
            count: called with "written" or "lost" and a number of records.
            file_bytes: a file that has become so large is renamed, and another one begun.
            files: how many renamed files are kept.
            fsync: whether each flush waits until the disk has it.
        """
        self._path = path
        self._file_bytes = file_bytes
        self._files = files
        self._fsync = fsync
        self._flush_seconds = flush_seconds
        self._count = count
        self._waiting: deque[Record] = deque()
        self._stop = threading.Event()
        self._failing = False
        self._encoder = msgspec.json.Encoder()
        self._thread = threading.Thread(target=self._run, name="decision-log", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def append(self, record: Record) -> None:
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

    def _write(self, records: list[Record]) -> None:
        lines = b"".join(self._encoder.encode(record) + b"\n" for record in records)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # Opened anew each time: a log that was rotated away or deleted is begun again.
            descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
            try:
                size = _write_whole(descriptor, lines)
                if self._fsync:
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)
            if size >= self._file_bytes:
                self._rotate()
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

    def _rotate(self) -> None:
        """Rename the files, the oldest first, which is overwritten."""
        names = [self._path, *(rotated(self._path, number) for number in range(1, self._files + 1))]
        if len(names) == 1:
            self._path.unlink()
        for older, newer in zip(reversed(names[1:]), reversed(names[:-1]), strict=True):
            if newer.exists():
                newer.replace(older)


def rotated(path: Path, number: int) -> Path:
    """The name of a log's file after so many rotations."""
    return path.with_name(f"{path.name}.{number}")


def _write_whole(descriptor: int, lines: bytes) -> int:
    """Write after ending a line that an earlier failure has torn, which readers skip; returns the file's new size."""
    end = os.lseek(descriptor, 0, os.SEEK_END)
    if end > 0 and os.pread(descriptor, 1, end - 1) != b"\n":
        lines = b"\n" + lines
    view = memoryview(lines)
    while view:
        view = view[os.write(descriptor, view) :]
    return os.lseek(descriptor, 0, os.SEEK_END)
