"""The steps of a cycle in their order, what each depends on, and how it stands with them.

How they are done is `execution`: that takes the simulator and torch, which is seconds, and here a person asks how it
stands, or wants the policy before back.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from training.cycle.contents import (
    ACTIVATE,
    CANARY,
    CANDIDATE,
    FIT,
    GATE,
    INCUMBENT,
    LOG,
    NODE_FILES,
    RECORD,
    RECORDED,
    SHADOW,
    TRAIN,
    WORKLOAD,
)
from training.cycle.records import ROLLBACK, Book, Record, changed, digest
from training.cycle.settings import Settings


@dataclass(frozen=True)
class Step:
    """A step.

    Attributes:
        name: of the step.
        does: in a few words.
        settings: names of the settings that it depends on.
        builds_on: files of the cycle's folder that it depends on.
        copies: for each setting that names a file, where in the cycle's folder what it is may lie: a file that is named
            otherwise than before is the same where it has the content of one of these.
    """

    name: str
    does: str
    settings: tuple[str, ...]
    builds_on: tuple[str, ...]
    copies: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


STEPS = (
    Step(
        RECORD,
        "takes decisions and nodes, and holds periods back",
        ("nodes", "policy_file", "replay", "record"),
        (),
        {
            "nodes": tuple(f"{RECORDED}/{name}" for name in NODE_FILES),
            "policy_file": (INCUMBENT, CANDIDATE),  # activate puts the candidate there
        },
    ),
    Step(FIT, "fits the workload generator to what was recorded", ("record",), (LOG,)),
    Step(TRAIN, "trains a candidate on the fitted workload", ("train",), (LOG, WORKLOAD)),
    Step(
        GATE,
        "refuses a candidate that is worse than the incumbent",
        ("gate",),
        (LOG, WORKLOAD, INCUMBENT, CANDIDATE),
    ),
    Step(SHADOW, "lets the candidate watch", ("shadow",), (INCUMBENT, CANDIDATE)),
    Step(CANARY, "lets the candidate answer for some pods", ("canary",), (INCUMBENT, CANDIDATE)),
    Step(ACTIVATE, "puts the candidate into service", (), (INCUMBENT, CANDIDATE)),
)
NAMES = tuple(step.name for step in STEPS)


def given_to(step: Step, book: Book, settings: Settings) -> dict[str, Any]:
    """What a step would be given now."""
    files = {name: digest(path) if (path := book.folder / name).is_file() else None for name in step.builds_on}
    return settings.of(*step.settings) | {"files": files}


def stale(step: Step, record: Record, book: Book, settings: Settings) -> list[str]:
    """What a step that has ended was given otherwise than it would be now.

    Where a file lies is not what it is: it may have been moved, or mounted elsewhere. What a step took from a file
    outside the cycle's folder it has copied, so a file of another name counts by its content. The decision log counts
    not at all: its content is another one every second, and what of it was copied stays.
    """
    now = given_to(step, book, settings)
    before = {name: value for name, value in record.given.items() if name in now}
    return [name for name in changed(before, now) if not _is_copied(step, name, book, now)]


def _is_copied(step: Step, name: str, book: Book, given: Mapping[str, Any]) -> bool:
    """Whether a setting names a file that the step has a copy of, or that is not there to say otherwise."""
    if name not in step.copies or given[name] is None:
        return False
    named, copies = Path(given[name]), [book.folder / each for each in step.copies[name]]
    return not named.is_file() or digest(named) in {digest(copy) for copy in copies if copy.is_file()}


def rows(book: Book, settings: Settings) -> list[dict[str, Any]]:
    """How it stands with each step, and with a rollback if there was one."""
    left = "at work" if book.busy() else "rolled back" if book.taken_back() else "interrupted"
    found = []
    for step in STEPS:
        record, note = book.read(step.name), book.begun(step.name)
        if note is not None:
            found.append(_row(step.name, left, note.get("began"), step.does))
        elif record is None:
            found.append(_row(step.name, "to do", None, step.does))
        else:
            reasons = stale(step, record, book, settings)
            state = "stale" if reasons else record.verdict.value
            found.append(_row(step.name, state, record.ended, record.said, reasons))
    if (back := book.read(ROLLBACK)) is not None:
        found.append(_row(ROLLBACK, "done", back.ended, back.said))
    elif (note := book.begun(ROLLBACK)) is not None:
        said = "not confirmed by the extender: repeat rollback until it is"
        found.append(_row(ROLLBACK, "unconfirmed", note.get("began"), said))
    return found


def _row(step: str, state: str, since: float | None, said: str, reasons: Sequence[str] = ()) -> dict[str, Any]:
    return {"step": step, "state": state, "since": since, "said": said, "changed": list(reasons)}
