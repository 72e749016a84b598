"""Judge policies on held-back seeds: trained ones, rules, or both, all on exactly the same pods.

    python -m training.evaluate
    python -m training.evaluate --policies runs/quickstart/policy.onnx,most-allocated,fgd --load 0.6,0.8,0.95
    python -m training.evaluate --policies old=a.onnx,new=b.onnx --baseline old --workload openb --seeds 40
    python -m training.evaluate --policies fgd --process bursty --scheduler ordering=fifo preemption=true
    python -m training.evaluate --policies best-fit,best-fit@ordering=least-work-first+reservation_after_seconds=60
    python -m training.evaluate --policies fgd,best-fit --json results/mine.json

Every policy is compared with the baseline, paired by seed. The folder of --output receives evaluation.json,
evaluation.md and report.html. Where a file is named instead, as above, those that are not lie beside it: mine.md and
mine.html. Files appear when all is done, whole or not at all.

Exit codes: 0 done; 1 failed while playing or writing; 2 the arguments, a policy file or a trace were refused, and
nothing was played; 130 interrupted.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from extender.closed_pipe import quiet_on_closed_pipe
from extender.policies.base import PolicyError
from extender.policies.bundled import policy_path
from extender.policies.heuristics import RULES
from extender.policies.onnx import OnnxPolicy
from extender.profile import weights_of
from training.arguments import ArgumentError, checked, listed, nested, parse_setting
from training.evaluation.flags import (
    LISTED_SETTINGS,
    add_episode_flags,
    add_settings_flag,
    add_workload_flags,
    evaluation_of,
    population_of,
    workload_of,
)
from training.evaluation.metrics import catalogue
from training.evaluation.report import (
    definitions,
    html_report,
    json_report,
    markdown_report,
    terminal_tables,
    write_whole,
)
from training.evaluation.runner import Contender, EvaluationArguments, evaluate
from training.progress import track
from training.simulator.scheduling import SchedulerArguments
from training.workloads.base import BASE_RESOURCES, Population
from training.workloads.selection import WorkloadArguments
from training.workloads.tables import TraceError

POLICIES = "fgd,best-fit,most-allocated"
BASELINE = "kube-scheduler-default"
LOADS = "0.6,0.8,0.95"
OUTPUT = Path("runs/evaluation")
PLAIN_WIDTH = 160  # of tables where there is no terminal to ask
POLICY_ENDING = ".onnx"
USUAL_NAMES = {"json": "evaluation.json", "markdown": "evaluation.md", "html": "report.html"}
SUFFIXES = {"json": ".json", "markdown": ".md", "html": ".html"}


@dataclass(frozen=True)
class Request:
    """What the command line asks for, checked.

    Attributes:
        candidates: policies to judge.
        baselines: what they are compared with; one.
        evaluation: the episodes.
        workload: where pods and arrivals come from.
        scheduler: the rules of the queue.
        population: what episodes are drawn from.
        outputs: the file of each of json, markdown and html that is to be written.
    """

    candidates: list[Contender]
    baselines: list[Contender]
    evaluation: EvaluationArguments
    workload: WorkloadArguments
    scheduler: SchedulerArguments
    population: Population
    outputs: dict[str, Path]


def argument_parser() -> argparse.ArgumentParser:
    """What reads the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m training.evaluate",
        usage="%(prog)s [options]",
        description=__doc__,
        epilog=f"--scheduler takes:\n{listed(SchedulerArguments)}\n\n".replace("%", "%%") + LISTED_SETTINGS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    judged = parser.add_argument_group("what is judged")
    judged.add_argument(
        "--policies",
        default=POLICIES,
        metavar="POLICY,…",
        help=f"rules, policy files, or NAME=FILE (default: %(default)s), each with queue settings of its own behind an "
        f"@, joined by +. Rules: {', '.join(RULES)}",
    )
    judged.add_argument(
        "--baseline",
        default=BASELINE,
        metavar="POLICY",
        help="what every policy is compared with, in the same form or the name of one of them (default: %(default)s)",
    )
    episodes = parser.add_argument_group("on which episodes")
    defaults = EvaluationArguments()
    add_workload_flags(episodes)
    add_episode_flags(episodes, loads=LOADS, nodes=defaults.nodes, pods=defaults.pods, seeds=defaults.seeds)
    episodes.add_argument(
        "--resources", type=int, help="of the cluster, 2 to 16 (default: those of the policy files, else 3)"
    )
    add_settings_flag(episodes, "--scheduler", "of the queue")
    results = parser.add_argument_group("results")
    results.add_argument("--json", type=Path, metavar="FILE", help="every episode, statistic and comparison")
    results.add_argument("--markdown", type=Path, metavar="FILE", help="the tables")
    results.add_argument("--html", type=Path, metavar="FILE", help="tables and plots in one page")
    results.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help=f"folder for those not named (default: {OUTPUT}, or beside a file that is named)",
    )
    results.add_argument("--name", help="heading of the reports (default: the policies)")
    results.add_argument(
        "--processes", type=int, help="that play at the same time (default: one per core); results do not depend on it"
    )
    results.add_argument("--list-metrics", action="store_true", help="print what is measured and exit")
    return parser


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    return argument_parser().parse_args(arguments)


def request_of(options: argparse.Namespace) -> Request:
    """Check everything that can be checked before the first episode.

    Raises:
        ArgumentError: a value is impossible or a file cannot be written.
        PolicyError: a policy file holds no policy.
        TraceError: the trace is missing or unreadable.
    """
    candidates, baselines, resources = contenders_of(options.policies, options.baseline, options.resources)
    evaluation = evaluation_of(options, processes=options.processes)
    workload = workload_of(options)
    scheduler = nested(options.scheduler)
    scheduler = checked(SchedulerArguments, scheduler, {key: f"--scheduler {key}" for key in scheduler})
    population = population_of(workload, resources, evaluation)
    try:
        weights_of(scheduler.scoring, population.resources)
    except ValueError as error:
        raise ArgumentError(f"--scheduler scoring.{error}") from error
    return Request(candidates, baselines, evaluation, workload, scheduler, population, outputs_of(options))


def contenders_of(policies: str, baseline: str, resources: int | None) -> tuple[list[Contender], list[Contender], int]:
    """The policies, the baseline, and the number of resources that all of them know.

    Raises:
        ArgumentError: a policy is neither a rule nor a file, has the name of another, or knows other resources.
        PolicyError: a file holds no policy.
    """
    named = [contender_of(text.strip()) for text in policies.split(",") if text.strip()]
    if not named:
        raise ArgumentError(f"--policies: {policies!r} names none; expected policy files or rules joined by commas")
    against = next((entry for entry in named if entry.name == baseline), None) or contender_of(baseline)
    candidates = [entry for entry in named if entry != against]
    names = [entry.name for entry in (*candidates, against)]
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise ArgumentError(f"--policies: {', '.join(twice)} is named twice; tell files apart by NAME=FILE")
    known: dict[str, int] = {} if resources is None else {"--resources": resources}
    for entry in (*candidates, against):
        if isinstance(policy := entry.load(), OnnxPolicy):
            known[entry.name] = len(policy.resources)
    if len(set(known.values())) > 1:
        each = ", ".join(f"{name} {count}" for name, count in known.items())
        raise ArgumentError(f"the policies were made for different numbers of resources: {each}")
    return candidates, [against], next(iter(known.values()), len(BASE_RESOURCES))


def contender_of(text: str) -> Contender:
    """A rule by its name, a policy that comes with Stowage (bundled:NAME), or a policy file.

    A file is named by itself or, where it is called policy.onnx, by its folder. Behind an `@` follow settings of the
    queue that are others for this contender than for all.

    Raises:
        ArgumentError: it is neither, or there is no such setting.

    Example:
        >>> contender_of("best-fit").name, contender_of("mine=runs/a/policy.onnx").name
        ('best-fit', 'mine')
        >>> contender_of("fgd@ordering=fifo+reservation_gpus=4").scheduler
        {'ordering': 'fifo', 'reservation_gpus': 4}
    """
    text, at, queue = text.partition("@")
    scheduler = queue_settings(f"--policies {text}@", queue) if at else {}
    name, _, file = text.rpartition("=")
    if file in RULES:
        return Contender(name or file + at + queue, file, scheduler)
    try:
        path = policy_path(file)
    except PolicyError as error:
        raise ArgumentError(str(error)) from error
    if path.suffix != POLICY_ENDING:
        raise ArgumentError(f"{text!r}: expected a {POLICY_ENDING} file or a rule: {', '.join(RULES)}")
    stem = path.resolve().parent.name if path.stem == "policy" else path.stem
    return Contender(name or stem + at + queue, path, scheduler)


def queue_settings(flag: str, text: str) -> dict[str, Any]:
    """Fields of `SchedulerArguments` from KEY=VALUE, several joined by +.

    Args:
        flag: what stands before the text on the command line.
        text: the settings.

    Raises:
        ArgumentError: there is no such setting, or it cannot have that value.
    """
    try:
        given = nested([parse_setting(each) for each in text.split("+")])
    except argparse.ArgumentTypeError as error:
        raise ArgumentError(f"{flag}{text}: {error}") from error
    values = checked(SchedulerArguments, given, {key: f"{flag}{key}" for key in given})
    return {key: getattr(values, key) for key in given}


def outputs_of(options: argparse.Namespace) -> dict[str, Path]:
    """Where the results go, by kind; folders are made now, so that nothing is played in vain.

    Raises:
        ArgumentError: a file cannot be written there.
    """
    given = {kind: path for kind in SUFFIXES if (path := getattr(options, kind)) is not None}
    if options.output is not None or not given:
        usual = {kind: (options.output or OUTPUT) / name for kind, name in USUAL_NAMES.items()}
    else:
        first = next(iter(given.values()))
        usual = {kind: first.with_suffix(suffix) for kind, suffix in SUFFIXES.items()}
    outputs = usual | given
    for kind, path in outputs.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ArgumentError(f"--{kind}: {path.parent} cannot be made: {error.strerror}") from error
        if path.is_dir() or not os.access(path.parent, os.W_OK):
            raise ArgumentError(f"--{kind}: {path} cannot be written")
    if len(set(outputs.values())) < len(outputs):
        raise ArgumentError("--json, --markdown and --html have to be different files")
    return outputs


def judge(request: Request, name: str | None, console: Console) -> None:
    """Play, print the tables, and write the files.

    Raises:
        PolicyError: a policy gave an answer that cannot be used.
        BrokenProcessPool: a process that played was killed.
        OSError: a file could not be written.
    """
    contenders = [*request.candidates, *request.baselines]
    episodes = len(request.evaluation.loads) * request.evaluation.seeds * len(contenders)
    console.print(f"workload: {request.population.name}", highlight=False, soft_wrap=True)
    if not request.candidates:
        console.print(
            f"{request.baselines[0].name} is the baseline and the only policy: it is played, and compared with nothing",
            highlight=False,
        )
    started = time.monotonic()
    with track(console, "evaluating", episodes) as tracker:
        evaluation = evaluate(
            request.candidates,
            request.baselines,
            request.evaluation,
            request.population,
            request.workload,
            request.scheduler,
            report=lambda done, _total, what: tracker.update(done, what),
        )
    for table in terminal_tables(evaluation):
        console.print(table)
    console.print(f"{episodes:,} episodes in {time.monotonic() - started:.0f} s", highlight=False)
    heading = name or ", ".join(contender.name for contender in contenders)
    facts = {
        f"Policy {contender.name}": str(contender.policy)
        for contender in contenders
        if isinstance(contender.policy, Path)
    }
    texts = {
        "json": lambda: json_report(evaluation),
        "markdown": lambda: markdown_report(heading, evaluation, facts),
        "html": lambda: html_report(heading, evaluation, facts),
    }
    write_whole({path: texts[kind]() for kind, path in request.outputs.items()})
    for path in request.outputs.values():
        console.print(f"wrote {path}", highlight=False, soft_wrap=True)


@quiet_on_closed_pipe
def main() -> None:
    """Entry of `python -m training.evaluate`."""
    options = parse_arguments()
    if options.list_metrics:
        print(definitions(catalogue().values()))
        return
    console = Console() if sys.stdout.isatty() else Console(width=PLAIN_WIDTH)
    try:
        request = request_of(options)
    except (ArgumentError, PolicyError, TraceError) as error:
        print(f"training.evaluate: {error}", file=sys.stderr)
        sys.exit(2)
    try:
        judge(request, options.name, console)
    except (PolicyError, BrokenProcessPool, OSError) as error:
        print(f"training.evaluate: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("training.evaluate: interrupted, nothing was written", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
