r"""The cycle of production: what a policy decided becomes what the next one is trained on, tried and put into service.

    python -m training.cycle run --name november decision_log=/var/log/stowage/decisions.jsonl nodes=nodes.json \
        policy_file=/etc/stowage/policy.onnx candidate_file=/etc/stowage/candidate.json extender=http://127.0.0.1:8888
    python -m training.cycle record --name november decision_log=decisions.jsonl nodes=nodes.csv policy_file=policy.onnx
    python -m training.cycle train --name november train.training.total_timesteps=10000000
    python -m training.cycle status --name november --json
    python -m training.cycle rollback --name november

Every step leaves its record in runs/cycle/NAME; settings are given once and kept there. `run` does what is not done
yet, in order, and goes on after an interruption, of whatever kind, where it was; a step whose settings or files have
changed since is done again, with all after it. A step by its name is done, or done again. `rollback` puts the policy
before back at any time and withdraws the candidate. docs/cycle.md tells what each step does.

Exit codes: 0 done; 1 failed, the same command goes on; 2 settings, a file or a step before were refused, or the cycle
was rolled back, also meanwhile; 3 the candidate was refused, by the gate, in shadow, in canary or by the extender, and
is not in service; 4 undecided: too few pods came within the limit, and the candidate was withdrawn; 130 interrupted,
the same command goes on.
"""

import argparse
import json
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console
from rich.table import Table

from extender.closed_pipe import quiet_on_closed_pipe
from extender.policies.base import PolicyError
from training.arguments import ArgumentError, listed, parse_setting
from training.cycle import steps
from training.cycle.records import ROLLBACK, Book, CycleError, GivenError, Record, Verdict
from training.cycle.rollback import take_back
from training.cycle.settings import Settings, resolve

FOLDER = Path("runs/cycle")
PLAIN_WIDTH = 160  # of tables where there is no terminal to ask
CODES = {Verdict.DONE: 0, Verdict.REFUSED: 3, Verdict.UNDECIDED: 4}
RUN, STATUS = "run", "status"


def argument_parser() -> argparse.ArgumentParser:
    """What reads the command line."""
    does = "\n".join(f"  {step.name:<9} {step.does}" for step in steps.STEPS)
    parser = argparse.ArgumentParser(
        prog="python -m training.cycle",
        usage="%(prog)s STEP [options] [KEY=VALUE ...]",
        description=__doc__,
        epilog=f"Steps:\n{does}\n  rollback  puts the policy before back\n\nSettings:\n{listed(Settings)}\n"
        "  train.KEY=VALUE\n      what training.run is told; train.KEY= takes a key away again".replace("%", "%%"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "step",
        metavar="STEP",
        choices=(RUN, *steps.NAMES, ROLLBACK, STATUS),
        help="run (all that is not done yet), status, rollback, or a step, listed below",
    )
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="settings, listed below; kept for later steps")
    parser.add_argument("--name", default="cycle", help="of the cycle (default: %(default)s)")
    parser.add_argument(
        "--folder", type=Path, default=FOLDER, metavar="DIR", help="where cycles are kept (default: %(default)s)"
    )
    parser.add_argument("--again", action="store_true", help="begin a step anew that was interrupted")
    parser.add_argument("--force", action="store_true", help="rollback: even if the policy file was replaced since")
    parser.add_argument("--json", action="store_true", help="print the record, or the status, as JSON")
    return parser


def carry_out(options: argparse.Namespace, console: Console) -> int:
    """Do what the command line asks for; returns the exit code.

    Raises:
        ArgumentError: a setting is impossible.
        GivenError: what a step is given is not usable.
        CycleError: a step failed.
    """
    if not options.name or "/" in options.name or options.name.startswith("."):
        raise ArgumentError(f"--name {options.name!r}: expected the name of a folder")
    if options.step == STATUS and options.settings:
        raise ArgumentError(f"status shows settings and takes none: {options.settings[0]}; give it to run or to a step")
    if options.force and options.step != ROLLBACK:
        raise ArgumentError(f"--force is for rollback: {options.step} has nothing that it would go against")
    if options.again and options.step not in steps.NAMES:
        raise ArgumentError(f"--again begins one of {', '.join(steps.NAMES)} anew, not {options.step}")
    book = Book(options.folder / options.name)
    try:
        given = [parse_setting(text) for text in options.settings]
    except argparse.ArgumentTypeError as error:
        raise ArgumentError(str(error)) from error
    if options.step in (STATUS, ROLLBACK) and not book.folder.is_dir():
        there = sorted(path.name for path in options.folder.iterdir()) if options.folder.is_dir() else []
        those = f"--name one of {', '.join(there)}" if there else "begin one with run or record"
        raise GivenError(f"{book.folder}: there is no such cycle; {those}")
    if options.step == STATUS:
        show(book, resolve(book.folder, [], []), console, as_json=options.json)
        return 0
    with redirect_stdout(sys.stderr) if options.json else nullcontext():  # whatever is printed on the way
        record = work(options, book, given, console)
    if options.json:
        sys.stdout.write(json.dumps(vars(record), indent=1) + "\n")
    return CODES[record.verdict]


def work(options: argparse.Namespace, book: Book, given: Sequence[tuple[str, Any]], console: Console) -> Record:
    """Do all the steps, or one, or roll back; returns the record of what was done last.

    Raises:
        ArgumentError: a setting is impossible.
        GivenError: what a step is given is not usable.
        CycleError: a step failed.
    """

    def say(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True)

    if options.step == ROLLBACK:  # also while another command is at work on the cycle
        return take_back(book, resolve(book.folder, given, options.settings), say, force=options.force)
    from training.cycle import execution  # here, as it takes seconds that a status or a rollback needs not wait

    with book.alone():
        settings = resolve(book.folder, given, options.settings)
        if options.step == RUN:
            return execution.run(book, settings, console, say)
        return execution.do(options.step, book, settings, console, say, anew=options.again)


def show(book: Book, settings: Settings, console: Console, *, as_json: bool) -> None:
    """How it stands with a cycle."""
    rows = steps.rows(book, settings)
    if as_json:
        sys.stdout.write(json.dumps({"cycle": book.folder.name, "steps": rows}, indent=1) + "\n")
        return
    table = Table(title=f"cycle {book.folder.name}")
    for heading in ("step", "state", "since", "said"):
        table.add_column(heading)
    for row in rows:
        since = "" if row["since"] is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(row["since"]))
        said = row["said"] + (f"; changed since: {', '.join(row['changed'])}" if row["changed"] else "")
        table.add_row(row["step"], row["state"], since, said)
    console.print(table)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@quiet_on_closed_pipe
def main(arguments: Sequence[str] | None = None) -> int:
    """Entry of `python -m training.cycle`; returns the exit code."""
    options = argument_parser().parse_intermixed_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    stream = sys.stderr if options.json else sys.stdout
    console = Console(file=stream) if stream.isatty() else Console(file=stream, width=PLAIN_WIDTH)
    try:
        return carry_out(options, console)
    except (ArgumentError, GivenError) as error:
        sys.stderr.write(f"training.cycle: {error}\n")
        return 2
    except (CycleError, PolicyError, OSError) as error:
        sys.stderr.write(f"training.cycle: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write(
            "\ntraining.cycle: interrupted; the same command goes on. A candidate that is tried stays so: "
            "rollback withdraws it\n"
        )
        return 130


if __name__ == "__main__":
    sys.exit(main())
