"""The extender's decision log, read while it is being written and rotated away.

`snapshot` takes the records of a time, all of them; `Follower` gives what has come since it last looked, and is cheap
to ask every second for a day. A folder with the logs of several replicas is read as one log.
"""

import hashlib
import math
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from extender.telemetry.decision_records import PodRecord, Record
from training.cycle.records import CycleError
from training.workloads.recorded import files_of, logs_of, read_records

TRIES = 5


def written(path: Path) -> bool:
    """Whether there is a log, be it only files that were rotated away."""
    return any(file.is_file() for file in _files(path))


def snapshot(path: Path, begin: float, end: float, last_seconds: float = math.inf) -> list[Record]:
    """What came and was decided in a time, and all that is known of these pods.

    Args:
        path: of the log, or a folder with several.
        begin: Unix seconds; decisions from then on.
        end: Unix seconds; decisions before that.
        last_seconds: only those of so much of the log's end.

    Raises:
        TraceError: there is no such file, or a line is no record.
        CycleError: the log is rotated faster than it can be read.
    """
    for _ in range(TRIES):
        before = _inodes(path)
        records = [record for record in read_records(path) if record is not None]
        if _inodes(path) == before:
            break
    else:
        raise CycleError(f"{path}: the log was rotated {TRIES} times while it was read; set --decision-log-file-bytes")
    begin = max(begin, max((record.time for record in records), default=end) - last_seconds)
    come = {record.uid for record in records if isinstance(record, PodRecord) and begin <= record.time < end}
    return [
        record
        for record in records
        if record.uid in come and (begin <= record.time < end or not isinstance(record, PodRecord))
    ]


class Follower:
    """What is added to a log from some time on, each record once, whatever is rotated away meanwhile.

    Args:
        path: of the log, or a folder with several.
        begin: Unix seconds; older records are left out.
    """

    def __init__(self, path: Path, begin: float) -> None:
        self._path, self._begin = path, begin
        # Bytes of each file that have been read, and the digest of its first line, by inode: the file that begins the
        # log anew often gets the inode of the one that rotation has just removed.
        self._read: dict[int, tuple[int, bytes]] = {}

    def read(self) -> Iterator[Record]:
        """The records since the last time, the oldest first; lines that are torn, or not whole yet, are left out."""
        if len(logs_of(self._path)) == 1:
            yield from self._added()
        else:
            yield from sorted(self._added(), key=lambda record: record.time)

    def _added(self) -> Iterator[Record]:
        for file in _files(self._path):
            try:
                descriptor = os.open(file, os.O_RDONLY)
            except FileNotFoundError:
                continue
            with os.fdopen(descriptor, "rb") as content:
                about = os.fstat(descriptor)
                first = content.readline()
                if not first.endswith(b"\n"):
                    continue
                head = hashlib.sha256(first).digest()
                offset, known = self._read.get(about.st_ino, (0, head))
                if known != head or about.st_size < offset:
                    offset = 0
                content.seek(offset)
                text = content.read()
            whole = text.rfind(b"\n") + 1
            self._read[about.st_ino] = offset + whole, head
            for line in text[:whole].splitlines():
                try:
                    record: Record = msgspec.json.decode(line, type=Record)
                except (msgspec.DecodeError, UnicodeDecodeError):
                    continue
                if record.time >= self._begin:
                    yield record


def _inodes(path: Path) -> list[int]:
    """What tells whether a file of the log was rotated away."""
    return [file.stat().st_ino for file in _files(path) if file.is_file()]


def _files(path: Path) -> list[Path]:
    """The files of all logs, those of each the oldest first."""
    return [file for log in logs_of(path) for file in files_of(log)]
