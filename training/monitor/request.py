"""What the outcome watch is asked to do: its flags, checked before the log is read."""

import argparse
import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from extender.policies.base import PolicyError
from extender.policies.bundled import policy_path
from extender.policies.heuristics import RULES
from extender.policies.onnx import FeatureHistogram, OnnxPolicy, load_policy
from extender.settings import HEURISTIC_PREFIX, Settings
from training.arguments import ArgumentError, checked, listed, nested
from training.evaluation.flags import (
    LISTED_SETTINGS,
    WORKLOAD_FLAGS,
    add_settings_flag,
    add_workload_flags,
    workload_of,
)
from training.evaluation.runner import Contender
from training.monitor.judging import Bar
from training.monitor.observed import read_observed
from training.simulator.scheduling import SchedulerArguments
from training.workloads.base import BASE_RESOURCES
from training.workloads.distribution import features_of_workloads, histograms
from training.workloads.recorded import ASSUMED_SECONDS, FOLDER_HOLDS
from training.workloads.selection import draw, load_population
from training.workloads.tables import TraceError

PROGRAM = "python -m training.monitor"
HEURISTICS = "kube-scheduler-default,most-allocated,best-fit"
OUTPUT = Path("runs/monitor")
VERDICT_FILE, SUMMARY_FILE, REPORT_FILE = "verdict.json", "monitor.json", "report.html"
REFERENCE_PODS, REFERENCE_NODES, REFERENCE_LOAD = 10_000, 64, 0.9
POSITIVE = ("period", "last", "speed", "assumed_seconds", "valid_seconds", "least_periods")


@dataclass(frozen=True)
class Request:
    """What the command line asks for, checked.

    Attributes:
        folder: the decision log and the nodes.
        policy: a policy file, bundled:NAME or heuristic:NAME, as the extender is told it.
        fallback: the rule behind it there.
        heuristics: further rules.
        period: seconds.
        last: how many periods are looked at.
        speed: how many seconds of what was replayed were one of the clock.
        assumed_seconds: the duration of pods that have not ended and announced none.
        scheduler: the rules of the queue.
        bar: when the policy counts as worse.
        valid_seconds: how long a verdict counts.
        reference: what the pods are compared with, feature by feature; None: with what the policy file says.
        out: folder of the results.
        verdict: file of the verdict.
        follow: seconds between two verdicts; None for one.
        as_json: print what was found as JSON instead of tables.
    """

    folder: Path
    policy: str
    fallback: str
    heuristics: list[str]
    period: float
    last: int
    speed: float
    assumed_seconds: float
    scheduler: SchedulerArguments
    bar: Bar
    valid_seconds: float
    reference: dict[str, FeatureHistogram] | None
    out: Path
    verdict: Path
    follow: float | None
    as_json: bool


def argument_parser(description: str = "") -> argparse.ArgumentParser:
    """What reads the command line."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        usage="%(prog)s FOLDER --policy POLICY [options]",
        description=description,
        epilog=f"--scheduler takes:\n{listed(SchedulerArguments)}\n\n{LISTED_SETTINGS}".replace("%%", "%").replace(
            "%", "%%"
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help=FOLDER_HOLDS)
    judged = parser.add_argument_group("what is judged")
    judged.add_argument(
        "--policy", required=True, help="what the extender serves: a policy file, bundled:NAME or heuristic:NAME"
    )
    judged.add_argument(
        "--fallback",
        default=Settings.model_fields["fallback"].default,
        help="the rule behind it in the extender; worse is meant against this one (default: %(default)s)",
    )
    judged.add_argument(
        "--heuristics",
        default=HEURISTICS,
        metavar="RULE,…",
        help=f"further rules, for regret (default: %(default)s). There are: {', '.join(RULES)}",
    )
    judged.add_argument(
        "--period", type=float, default=3600.0, metavar="SECONDS", help="length of a period (default: %(default)g)"
    )
    judged.add_argument(
        "--last", type=int, default=48, metavar="PERIODS", help="how many periods are looked at (default: %(default)s)"
    )
    judged.add_argument(
        "--least-periods",
        type=int,
        default=6,
        metavar="PERIODS",
        help="with fewer the policy is not called worse (default: %(default)s)",
    )
    judged.add_argument(
        "--margin",
        type=float,
        default=0.05,
        metavar="SHARE",
        help="of the fallback's mean wait, by which the policy's has to be longer to be worse (default: %(default)g)",
    )
    judged.add_argument(
        "--speed",
        type=float,
        default=1.0,
        help="of a replay that was recorded (training.replay --speed): its times are stretched by that (default: 1)",
    )
    judged.add_argument(
        "--assumed-seconds",
        type=float,
        default=ASSUMED_SECONDS,
        help="duration of a pod that announced none and has not ended (default: %(default)g)",
    )
    add_settings_flag(judged, "--scheduler", "of the queue")
    reference = parser.add_argument_group(
        "what the policy was trained on", "for policy files that do not say, or to compare with something else"
    )
    reference.add_argument("--reference", type=Path, metavar="DIR", help="a folder with a decision log of that time")
    add_workload_flags(reference)
    results = parser.add_argument_group("results")
    results.add_argument(
        "--out",
        type=Path,
        default=OUTPUT,
        metavar="DIR",
        help=f"receives {VERDICT_FILE}, {SUMMARY_FILE} and {REPORT_FILE} (default: %(default)s)",
    )
    results.add_argument("--verdict", type=Path, metavar="FILE", help="the verdict there instead")
    results.add_argument(
        "--valid-seconds",
        type=float,
        default=7200.0,
        metavar="SECONDS",
        help="how long a verdict counts if none follows (default: %(default)g)",
    )
    results.add_argument(
        "--follow", type=float, metavar="SECONDS", help="read the log and judge again every so often, until stopped"
    )
    results.add_argument("--json", action="store_true", help="print what was found as JSON instead of tables")
    return parser


def request_of(options: argparse.Namespace) -> Request:
    """Check everything that can be checked before the log is read.

    Raises:
        ArgumentError: a value is impossible.
        PolicyError: the policy file holds no policy.
        TraceError: the reference cannot be read.
    """
    for name in POSITIVE:
        if not (math.isfinite(value := getattr(options, name)) and value > 0):
            raise ArgumentError(f"--{name.replace('_', '-')}: {value} where a number above 0 was expected")
    if not (math.isfinite(options.margin) and options.margin >= 0):
        raise ArgumentError(f"--margin: {options.margin} where 0 or more was expected")
    if options.follow is not None and not 0 < options.follow < options.valid_seconds:
        raise ArgumentError(
            f"--follow: {options.follow:g} s between verdicts that count for {options.valid_seconds:g} s each "
            "(--valid-seconds): expected more than 0 and less than that"
        )
    rules = [options.fallback, *(name.strip() for name in options.heuristics.split(",") if name.strip())]
    if unknown := [name for name in rules if name not in RULES]:
        raise ArgumentError(f"no rule is named {', '.join(unknown)}; there are {', '.join(RULES)}")
    contender, _ = policy_of(options.policy)
    heuristics = [name for name in dict.fromkeys(rules[1:]) if name not in (options.fallback, contender.name)]
    if contender.name == options.fallback:
        raise ArgumentError(f"--policy: {options.policy} is the fallback itself: there is nothing to step down to")
    settings = nested(options.scheduler)
    verdict = options.verdict or options.out / VERDICT_FILE
    for folder in (options.out, verdict.parent):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ArgumentError(f"{folder} cannot be made: {error.strerror}") from error
        if not os.access(folder, os.W_OK | os.X_OK):
            raise ArgumentError(f"{folder} cannot be written")
    for flag, file in (
        ("--verdict", verdict),
        *(("--out", options.out / name) for name in (SUMMARY_FILE, REPORT_FILE)),
    ):
        if file.exists() and not file.is_file():
            raise ArgumentError(f"{flag}: {file} is no file; expected the name of one, which is written at the end")
    return Request(
        options.folder,
        options.policy,
        options.fallback,
        heuristics,
        options.period,
        options.last,
        options.speed,
        options.assumed_seconds,
        checked(SchedulerArguments, settings, {key: f"--scheduler {key}" for key in settings}),
        Bar(options.least_periods, options.margin),
        options.valid_seconds,
        _reference(options),
        options.out,
        verdict,
        options.follow,
        options.json,
    )


def policy_of(policy: str) -> tuple[Contender, str]:
    """A policy as the extender names it, as a contender, and by what verdicts and the decision log know it.

    Raises:
        ArgumentError: there is no such rule.
        PolicyError: there is no such file, or it holds no policy.

    Example:
        >>> policy_of("heuristic:best-fit")
        (Contender(name='best-fit', policy='best-fit', scheduler={}), 'heuristic:best-fit')
    """
    if policy.startswith(HEURISTIC_PREFIX):
        rule = policy.removeprefix(HEURISTIC_PREFIX)
        if rule not in RULES:
            raise ArgumentError(f"--policy: no rule is named {rule!r}; there are {', '.join(RULES)}")
        return Contender(rule, rule), policy
    loaded = load_policy(policy_path(policy))
    return Contender(loaded.name, loaded), loaded.digest


def trained_on(contender: Contender) -> dict[str, FeatureHistogram] | None:
    """What the policy file says of the pods of its training; None where it says nothing.

    Raises:
        PolicyError: it makes no sense.
    """
    known = contender.policy.metadata.trained_on if isinstance(contender.policy, OnnxPolicy) else None
    for name, found in (known or {}).items():
        if len(found.shares) != len(found.edges) + 1 or found.pods < 1 or list(found.edges) != sorted(found.edges):
            raise PolicyError(f"{contender.name}: trained_on: {name} is no histogram; name a --reference")
    return known


def _reference(options: argparse.Namespace) -> dict[str, FeatureHistogram] | None:
    named = options.source is not None or "source" in dict(options.workload_settings)
    if options.reference is not None and named:
        raise ArgumentError("--reference and --workload exclude each other: give one")
    if options.reference is not None:
        observed = read_observed(options.reference, "").stretched(options.speed)
        durations = observed.durations(-math.inf, math.inf).whole()
        return histograms(observed.features(-math.inf, math.inf) | {"duration": durations})
    if not named:
        if stray := next((flag for name, flag in WORKLOAD_FLAGS.items() if getattr(options, name) is not None), None):
            raise ArgumentError(f"{stray}: it belongs to a --workload, and none is named")
        if options.workload_settings:
            raise ArgumentError("--workload-settings: they belong to a --workload, and none is named")
        return None
    workload = workload_of(options)
    try:
        drawn = draw(
            load_population(workload, len(BASE_RESOURCES)),
            workload,
            nodes=REFERENCE_NODES,
            pods=REFERENCE_PODS,
            load=REFERENCE_LOAD,
            generator=np.random.default_rng(0),
        )
    except TraceError:
        raise
    except ValueError as error:
        raise ArgumentError(f"--workload: {error}") from error
    return histograms(features_of_workloads([drawn]))
