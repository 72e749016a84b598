"""What a cycle leaves behind: a record per step, whole or not at all, by which it goes on after whatever happened.

A step that has begun leaves a note (`NAME.begun.json`), with what has to survive an interruption; one that has ended
leaves its record (`NAME.json`) with what it was given, what it found, and what it made, each by its digest. What it
was given is compared with what it would be given now: where they differ the step is stale, and so is all after it.
"""

import fcntl
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from extender.whole_file import put_whole

LOCK, STEERING_LOCK = "lock", "steering.lock"
ROLLBACK = "rollback"
Say = Callable[[str], None]
"""Tells whoever watches a command what is being done."""


class Verdict(StrEnum):
    """How a step ended."""

    DONE = "done"
    REFUSED = "refused"
    UNDECIDED = "undecided"


class CycleError(Exception):
    """A step cannot be done; the message says what to do."""


class GivenError(CycleError):
    """What the step was given is not usable: a setting, a file, a step that is missing before it."""


class TakenBackError(GivenError):
    """The cycle was rolled back; nothing is done in it any more."""


@dataclass(frozen=True)
class Found:
    """What a step comes to.

    Attributes:
        verdict: how it ended.
        said: in a sentence.
        figures: what was measured.
        made: digests of what it made, by name.
    """

    verdict: Verdict
    said: str
    figures: dict[str, Any] = field(default_factory=dict)
    made: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Record:
    """A step that has ended.

    Attributes:
        step: its name.
        began: Unix seconds.
        ended: the same.
        given: what it depends on.
        verdict, said, figures, made: as in `Found`.
    """

    step: str
    began: float
    ended: float
    given: dict[str, Any]
    verdict: Verdict
    said: str
    figures: dict[str, Any]
    made: dict[str, str]


class Book:
    """The records of a cycle.

    Attributes:
        folder: where they are.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, step: str) -> Record | None:
        """The record of a step; None if it has not ended.

        Raises:
            GivenError: the file is no record.
        """
        path = self._path(step)
        if not path.is_file():
            return None
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            return Record(**content | {"verdict": Verdict(content["verdict"])})
        except (ValueError, KeyError, TypeError) as error:
            raise GivenError(f"{path} is no record of a step ({error}): remove it, and do the step again") from error

    def has(self, step: str) -> bool:
        """Whether a step was begun, or has ended."""
        return self._path(step).is_file() or self._note(step).is_file()

    def begun(self, step: str, remedy: str = "remove it, and give the same command again") -> dict[str, Any] | None:
        """The note of a step that was begun and has not ended.

        Args:
            step: its name.
            remedy: what helps where the note is torn.

        Raises:
            GivenError: it is.
        """
        return read_json(self._note(step), remedy)

    def note(self, step: str, **kept: Any) -> dict[str, Any]:
        """Note that a step has begun, or what of it has to survive an interruption; returns the note."""
        content = {"began": time.time()} | (self.begun(step) or {}) | kept
        write_json(self._note(step), content)
        return content

    def forget(self, step: str) -> None:
        """Remove the note of something that was begun and is over."""
        self._note(step).unlink(missing_ok=True)

    def close(self, step: str, given: Mapping[str, Any], found: Found) -> Record:
        """Write the record of a step that has ended."""
        note = self.begun(step) or {}
        record = Record(step, note.get("began", time.time()), time.time(), dict(given), **vars(found))
        write_json(self._path(step), asdict(record))
        self._note(step).unlink(missing_ok=True)
        return record

    def set_aside(self, step: str) -> None:
        """Keep an older record, and the note, under other names: the step is to be done anew from its beginning."""
        self.set_aside_record(step)
        _keep(self._note(step))

    def set_aside_record(self, step: str) -> None:
        """Keep an older record under another name; a note of what was begun stays."""
        _keep(self._path(step))

    @contextmanager
    def alone(self, lock: str = LOCK) -> Iterator[None]:
        """Keep other commands off this cycle; what a killed process held is free at once.

        Args:
            lock: the file of those who keep each other off.

        Raises:
            GivenError: another one is at work.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / lock).open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise GivenError(
                    f"{self.folder}: another command is at work on this cycle; wait for it, or end it"
                ) from None
            yield

    @contextmanager
    def steering(self) -> Iterator[None]:
        """Wait for those who are just changing what the extender looks at, and keep others from it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / STEERING_LOCK).open("a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def taken_back(self) -> bool:
        """Whether the cycle was rolled back, confirmed or not."""
        return self.has(ROLLBACK)

    def busy(self) -> bool:
        """Whether a command is at work; whoever asks needs no right to write here."""
        try:
            with (self.folder / LOCK).open() as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def _path(self, step: str) -> Path:
        return self.folder / f"{step}.json"

    def _note(self, step: str) -> Path:
        return self.folder / f"{step}.begun.json"


def _keep(path: Path) -> None:
    if path.is_file():
        number = 1
        while (kept := path.with_name(f"{path.name}.{number}")).exists():
            number += 1
        path.replace(kept)


def write_json(path: Path, content: Any) -> None:
    """Write a file that is whole or not there, and outlasts a power failure."""
    put_whole(path, (json.dumps(content, indent=1) + "\n").encode())


def read_json(path: Path, remedy: str) -> dict[str, Any] | None:
    """The JSON object in a file; None if there is no such file.

    Args:
        path: of the file.
        remedy: what helps where it holds none, for the message.

    Raises:
        GivenError: it cannot be read, or holds none.
    """
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise GivenError(f"{path} cannot be read ({error}): {remedy}") from error
    if not isinstance(content, dict):
        raise GivenError(f"{path} holds no JSON object: {remedy}")
    return content


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def changed(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> list[str]:
    """The names of what differs, those within others with dots.

    Example:
        >>> changed({"gate": {"seeds": 20}, "log": "a"}, {"gate": {"seeds": 30}, "log": "a"})
        ['gate.seeds']
    """
    names = []
    for name in sorted({*before, *now}):
        one, other = before.get(name), now.get(name)
        if isinstance(one, dict) and isinstance(other, dict):
            names += changed(one, other, f"{prefix}{name}.")
        elif one != other:
            names.append(f"{prefix}{name}")
    return names
