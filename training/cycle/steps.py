"""The steps of a cycle in their order, what each depends on, and how a cycle goes on where it was."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from training.cycle import activation, fitting, gate, recording, retraining, trial
from training.cycle.records import ROLLBACK, Book, Found, GivenError, Record, Verdict, changed, digest
from training.cycle.serving import refuse_what_was_taken_back, withdraw
from training.cycle.settings import Settings
from training.workloads.recorded import LOG_FILE

Say = Callable[[str], None]


@dataclass(frozen=True)
class Step:
    """A step.

    Attributes:
        name: of the step.
        does: in a few words.
        settings: names of the settings that it depends on.
        builds_on: files of the cycle's folder that it depends on.
        check: refuses what it could not be done with, and touches nothing.
        work: does it.
        copies: for each setting that names a file, where in the cycle's folder what it is may lie: a file that is named
            otherwise than before is the same where it has the content of one of these.
    """

    name: str
    does: str
    settings: tuple[str, ...]
    builds_on: tuple[str, ...]
    check: Callable[[Book, Settings], None]
    work: Callable[[Book, Settings, Console, Say], Found]
    copies: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


LOG = f"{recording.FOLDER}/{LOG_FILE}"
STEPS = (
    Step(
        recording.STEP,
        "takes decisions and nodes, and holds periods back",
        ("nodes", "policy_file", "replay", "record"),
        (),
        recording.check,
        lambda book, settings, _console, say: recording.record(book, settings, say),
        {
            "nodes": tuple(f"{recording.FOLDER}/{name}" for name in recording.NODE_FILES),
            "policy_file": (recording.INCUMBENT, retraining.CANDIDATE),  # activate puts the candidate there
        },
    ),
    Step(
        fitting.STEP,
        "fits the workload generator to what was recorded",
        ("record",),
        (LOG,),
        lambda _book, _settings: None,  # it is given nothing but what was recorded
        lambda book, settings, console, _say: fitting.fit(book, settings, console),
    ),
    Step(
        retraining.STEP,
        "trains a candidate on the fitted workload",
        ("train",),
        (LOG, fitting.FILE),
        retraining.check,
        lambda book, settings, console, _say: retraining.train(book, settings, console),
    ),
    Step(
        gate.STEP,
        "refuses a candidate that is worse than the incumbent",
        ("gate",),
        (LOG, fitting.FILE, recording.INCUMBENT, retraining.CANDIDATE),
        gate.check,
        lambda book, settings, console, _say: gate.gate(book, settings, console),
    ),
    Step(
        trial.SHADOW,
        "lets the candidate watch",
        ("shadow",),
        (recording.INCUMBENT, retraining.CANDIDATE),
        trial.check,
        trial.shadow,
    ),
    Step(
        trial.CANARY,
        "lets the candidate answer for some pods",
        ("canary",),
        (recording.INCUMBENT, retraining.CANDIDATE),
        trial.check,
        trial.canary,
    ),
    Step(
        activation.ACTIVATE,
        "puts the candidate into service",
        (),
        (recording.INCUMBENT, retraining.CANDIDATE),
        activation.check,
        lambda book, settings, _console, say: activation.activate(book, settings, say),
    ),
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


def do(name: str, book: Book, settings: Settings, console: Console, say: Say, *, anew: bool = False) -> Record:
    """Do one step, again if it has ended, and write its record.

    Args:
        name: of the step.
        book: of the cycle.
        settings: of the cycle.
        console: where its progress is shown.
        say: told what happens.
        anew: from its beginning, also where it was interrupted.

    Raises:
        GivenError: a step before it has not ended well, or what it is given is not usable.
        CycleError: it failed.
    """
    number = NAMES.index(name)
    for before in STEPS[:number]:
        record = book.read(before.name)
        if record is None:
            raise GivenError(f"{name}: the step {before.name} has not been done yet: do it first, or let run do all")
        if record.verdict is not Verdict.DONE:
            raise GivenError(f"{name}: the step {before.name} ended with: {record.said}")
        if reasons := stale(before, record, book, settings):
            raise GivenError(
                f"{name}: {', '.join(reasons)} changed since the step {before.name}: do that again, or let run do it"
            )
    return _work(STEPS[number], book, settings, console, say, anew=anew)


def run(book: Book, settings: Settings, console: Console, say: Say) -> Record:
    """Do what has not been done yet, in order, and again what was given something else since; stops at a refusal.

    Returns:
        the record of the last step that was looked at.

    Raises:
        GivenError: the cycle was rolled back, or what a step is given is not usable.
        CycleError: a step failed.
    """
    refuse_what_was_taken_back(book)
    if (last := book.read(activation.ACTIVATE)) is not None and last.verdict is Verdict.DONE:
        say(f"activate: {last.said}; the cycle is done, begin another one with --name")
        return last
    afresh = False
    for step in STEPS:
        record = book.read(step.name)
        if record is not None and not afresh:
            reasons = stale(step, record, book, settings)
            if not reasons and record.verdict is not Verdict.UNDECIDED:
                say(f"{step.name}: {record.said} (done before)")
                if record.verdict is Verdict.REFUSED:
                    return record
                continue
            say(f"{step.name}: again, as {', '.join(reasons) or 'it was undecided'}" + (" changed" if reasons else ""))
        afresh = True  # what comes after depends on it
        record = _work(step, book, settings, console, say)
        if record.verdict is not Verdict.DONE:
            return record
    assert record is not None
    return record


def take_back(book: Book, settings: Settings, say: Say, *, force: bool) -> Record:
    """Roll back, whatever the cycle is at; raises GivenError and CycleError."""
    book.set_aside_record(ROLLBACK)
    found = activation.rollback(book, settings, say, force=force)
    return book.close(ROLLBACK, {}, found)


def _work(step: Step, book: Book, settings: Settings, console: Console, say: Say, *, anew: bool = False) -> Record:
    step.check(book, settings)  # what is refused leaves the cycle as it was
    (book.set_aside if anew else book.set_aside_record)(step.name)
    later = NAMES[NAMES.index(step.name) + 1 :]
    if any(book.has(name) for name in (trial.SHADOW, trial.CANARY) if name in later) and withdraw(book):
        say(f"{step.name}: the candidate that was tried is withdrawn")
    for name in later:
        book.set_aside(name)
    book.note(step.name)
    say(f"{step.name}: {step.does}")
    found = step.work(book, settings, console, say)
    record = book.close(step.name, given_to(step, book, settings), found)
    say(f"{step.name}: {found.said}")
    return record


def rows(book: Book, settings: Settings) -> Sequence[dict[str, Any]]:
    """How it stands with each step, and with a rollback if there was one."""
    busy = book.busy()
    found = []
    for step in STEPS:
        record, note = book.read(step.name), book.begun(step.name)
        if note is not None:
            state = "at work" if busy else "interrupted"
            found.append({"step": step.name, "state": state, "since": note["began"], "said": step.does, "changed": []})
        elif record is None:
            found.append({"step": step.name, "state": "to do", "since": None, "said": step.does, "changed": []})
        else:
            reasons = stale(step, record, book, settings)
            state = "stale" if reasons else record.verdict.value
            found.append(
                {"step": step.name, "state": state, "since": record.ended, "said": record.said, "changed": reasons}
            )
    if (back := book.read(ROLLBACK)) is not None:
        found.append({"step": ROLLBACK, "state": "done", "since": back.ended, "said": back.said, "changed": []})
    return found
