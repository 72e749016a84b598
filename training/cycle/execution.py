"""How a cycle is done, step by step, and how it goes on where it was after an interruption or a change."""

from collections.abc import Callable
from typing import NamedTuple

from rich.console import Console

from training.cycle import activation, fitting, gate, recording, retraining, trial
from training.cycle.contents import ACTIVATE, CANARY, FIT, GATE, RECORD, SHADOW, TRAIN
from training.cycle.records import Book, Found, GivenError, Record, Say, TakenBackError, Verdict
from training.cycle.serving import refuse_what_was_taken_back, withdraw
from training.cycle.settings import Settings, keep
from training.cycle.steps import NAMES, STEPS, Step, given_to, stale


class Doing(NamedTuple):
    """How a step is done.

    Attributes:
        check: refuses what it could not be done with now, and touches nothing.
        work: does it.
        outlook: refuses what it could not be done with whatever comes of the steps before, and touches nothing.
    """

    check: Callable[[Book, Settings], None]
    work: Callable[[Book, Settings, Console, Say], Found]
    outlook: Callable[[Settings], None] = lambda _settings: None


DOING = {
    RECORD: Doing(recording.check, lambda book, settings, _console, say: recording.record(book, settings, say)),
    FIT: Doing(
        lambda _book, _settings: None,  # it is given nothing but what was recorded
        lambda book, settings, console, _say: fitting.fit(book, settings, console),
    ),
    TRAIN: Doing(retraining.check, lambda book, settings, console, _say: retraining.train(book, settings, console)),
    GATE: Doing(gate.check, lambda book, settings, console, _say: gate.gate(book, settings, console)),
    SHADOW: Doing(trial.check, trial.shadow, trial.outlook),
    CANARY: Doing(trial.check, trial.canary, trial.outlook),
    ACTIVATE: Doing(
        activation.check,
        lambda book, settings, _console, say: activation.activate(book, settings, say),
        activation.outlook,
    ),
}


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
                f"{name}: {', '.join(reasons)} changed since the step {before.name}: do that again, or let run do it, "
                "with the same settings"
            )
    return _work(STEPS[number], book, settings, console, say, anew=anew)


def run(book: Book, settings: Settings, console: Console, say: Say) -> Record:
    """Do what has not been done yet, in order, and again what was given something else since; stops at a refusal.

    What the later steps need is asked for before the first is done.

    Returns:
        the record of the last step that was looked at.

    Raises:
        GivenError: the cycle was rolled back, or what a step is given is not usable.
        CycleError: a step failed.
    """
    refuse_what_was_taken_back(book)
    if (last := book.read(ACTIVATE)) is not None and last.verdict is Verdict.DONE:
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
        if not afresh:
            for later in STEPS[NAMES.index(step.name) + 1 :]:
                DOING[later.name].outlook(settings)  # before a training that would be of no use
        afresh = True  # what comes after depends on it
        record = _work(step, book, settings, console, say)
        if record.verdict is not Verdict.DONE:
            return record
    assert record is not None
    return record


def _work(step: Step, book: Book, settings: Settings, console: Console, say: Say, *, anew: bool = False) -> Record:
    doing = DOING[step.name]
    refuse_what_was_taken_back(book)
    if not anew:
        book.begun(step.name)  # raises where it is torn
    doing.check(book, settings)  # what is refused leaves the cycle as it was
    keep(book.folder, settings)
    later = NAMES[NAMES.index(step.name) + 1 :]
    if any(book.has(name) for name in (SHADOW, CANARY) if name in later) and withdraw(book):
        say(f"{step.name}: the candidate that was tried is withdrawn")
    (book.set_aside if anew else book.set_aside_record)(step.name)
    for name in later:
        book.set_aside(name)
    book.note(step.name)
    say(f"{step.name}: {step.does}")
    try:
        found = doing.work(book, settings, console, say)
        with book.steering():  # no rollback begins between the look and the record
            refuse_what_was_taken_back(book)
            record = book.close(step.name, given_to(step, book, settings), found)
    except TakenBackError as error:
        raise TakenBackError(f"{step.name} has ended without a verdict: {error}") from error
    say(f"{step.name}: {found.said}")
    return record
