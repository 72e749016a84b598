"""The command line of a replay, read and checked before anything is done."""

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.arguments import (
    ArgumentError,
    checked,
    listed,
    nested,
    parse_loads,
    parse_service_level,
    parse_setting,
    settings_of,
)
from training.evaluation.runner import EvaluationArguments
from training.replay import results, simulated
from training.replay.harness import Plan
from training.service_levels import SERVICE_LEVELS
from training.workloads.base import BASE_RESOURCES
from training.workloads.selection import WorkloadArguments, load_population
from training.workloads.tables import TraceError

SCHEDULERS = "default-scheduler,stowage"
OUTPUT = Path("runs/replay")
NAMESPACE = "stowage-replay"
NODES, PODS, LOADS, SEEDS, SPEED, DRAIN = 48, 2000, "0.9", 3, 100.0, 14_400.0
SCHEDULER_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?")


@dataclass(frozen=True)
class Request:
    """What the command line asks for, checked.

    Attributes:
        plan: what is replayed.
        folder: where results go.
        name: heading of the reports.
        kubeconfig, context, namespace: where.
        among_foreign: whether a cluster with pods of others will do.
    """

    plan: Plan
    folder: Path
    name: str
    kubeconfig: Path | None
    context: str | None
    namespace: str
    among_foreign: bool


def parse_arguments(arguments: Sequence[str] | None, description: str) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m training.replay",
        usage="%(prog)s [options]",
        description=description,
        epilog=f"--workload-settings takes:\n{listed(WorkloadArguments)}".replace("%", "%%"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    where = parser.add_argument_group("where")
    where.add_argument("--kubeconfig", type=Path, help="else $KUBECONFIG, else ~/.kube/config")
    where.add_argument("--context", help="of the kubeconfig (default: its current one)")
    where.add_argument("--namespace", default=NAMESPACE, help="of the pods; made if need be (default: %(default)s)")
    where.add_argument(
        "--among-foreign", action="store_true", help="also in a cluster where pods of others run (docs/replay.md)"
    )
    where.add_argument(
        "--clean-up", action="store_true", help="remove what any replay has left in the cluster, and do nothing else"
    )
    what = parser.add_argument_group("what")
    what.add_argument(
        "--schedulers",
        default=SCHEDULERS,
        metavar="NAME,…",
        help="schedulerNames that are served in the cluster, one after the other (default: %(default)s)",
    )
    what.add_argument(
        "--baseline", metavar="NAME", help="the one that the others are compared with (default: the first)"
    )
    for flag, name, metavar in (
        ("--workload", "source", "SOURCE"),
        ("--path", "path", "DIR"),
        ("--traces", "traces", "DIR"),
        ("--mix", "mix", "MIX"),
        ("--process", "process", "PROCESS"),
    ):
        setting = settings_of(WorkloadArguments)[name]
        shown = f" (default: {setting.default})" if setting.default else ""
        what.add_argument(flag, dest=name, metavar=metavar, help=f"{setting.meaning}{shown}".replace("%", "%%"))
    what.add_argument(
        "--load",
        type=parse_loads,
        default=LOADS,
        metavar="LOAD,…",
        help="offered loads of the bottleneck resource (default: %(default)s)",
    )
    what.add_argument("--nodes", type=int, default=NODES, help="nodes of the cluster (default: %(default)s)")
    what.add_argument("--pods", type=int, default=PODS, help="pods of a run (default: %(default)s)")
    what.add_argument("--seeds", type=int, default=SEEDS, help="workloads at each load (default: %(default)s)")
    what.add_argument("--first-seed", type=int, metavar="SEED", help="of the workloads (default: as training.evaluate)")
    what.add_argument(
        "--resources", type=int, default=len(BASE_RESOURCES), help="of the cluster (default: %(default)s)"
    )
    what.add_argument(
        "--workload-settings",
        type=parse_setting,
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="further settings of the workload, listed below",
    )
    how = parser.add_argument_group("how")
    how.add_argument(
        "--speed", type=float, default=SPEED, help="seconds of the trace in a second (default: %(default)g)"
    )
    how.add_argument(
        "--drain",
        type=float,
        default=DRAIN,
        metavar="SECONDS",
        help="of the trace, how long pods may wait for a node after the last one has come (default: %(default)g)",
    )
    how.add_argument(
        "--warm-up",
        type=float,
        default=EvaluationArguments().warm_up,
        metavar="SHARE",
        help="share of the pods that is not counted, as they meet an empty cluster (default: %(default)s)",
    )
    how.add_argument(
        "--service-levels",
        type=parse_service_level,
        nargs="+",
        action="extend",
        default=[],
        metavar="PRIORITY=SECONDS",
        help="longest wait that is promised, in seconds of the trace (default: "
        f"{' '.join(f'{priority}={seconds:g}' for priority, seconds in SERVICE_LEVELS.items())})",
    )
    how.add_argument(
        "--compare-simulator",
        nargs="?",
        const="",
        metavar="NAME=POLICY,…",
        help="let the simulator play the same pods, by what each scheduler decides by: a policy file, bundled:NAME "
        f"or a rule (default: {', '.join(f'{name}={policy}' for name, policy in simulated.DEFAULT_POLICIES.items())})",
    )
    output = parser.add_argument_group("results")
    output.add_argument("--out", type=Path, default=OUTPUT, metavar="DIR", help="folder (default: %(default)s)")
    output.add_argument("--name", help="heading of the reports (default: the schedulers)")
    return parser.parse_args(arguments)


def request_of(options: argparse.Namespace) -> Request:
    """Check everything that can be checked without a cluster.

    Raises:
        ArgumentError: a value is impossible or DIR cannot be written.
        PolicyError: what the simulator is to play is no policy.
        TraceError: the trace is missing or unreadable.
        OtherPlanError: DIR holds results of another replay.
    """
    schedulers = tuple(name.strip() for name in options.schedulers.split(",") if name.strip())
    for name in schedulers:
        if not SCHEDULER_NAME.fullmatch(name):
            raise ArgumentError(f"--schedulers: {name!r} is no schedulerName: expected letters, digits, - and .")
    if not schedulers or len(set(schedulers)) < len(schedulers):
        raise ArgumentError(f"--schedulers: {options.schedulers!r}: expected different names joined by commas")
    baseline = options.baseline or schedulers[0]
    if baseline not in schedulers:
        raise ArgumentError(f"--baseline: {baseline!r} is not among --schedulers {', '.join(schedulers)}")
    for flag, value in (("--speed", options.speed), ("--drain", options.drain)):
        if not (np.isfinite(value) and value > 0):
            raise ArgumentError(f"{flag}: expected a number above 0, not {value:g}")
    first = {} if options.first_seed is None else {"first_seed": options.first_seed}
    evaluation = checked(
        EvaluationArguments,
        {
            "nodes": options.nodes,
            "pods": options.pods,
            "loads": options.load,
            "seeds": options.seeds,
            "warm_up": options.warm_up,
            "service_levels": dict(options.service_levels) or dict(SERVICE_LEVELS),
            **first,
        },
        {"loads": "--load", "warm_up": "--warm-up", "service_levels": "--service-levels", "first_seed": "--first-seed"},
    )
    named = {key: getattr(options, key) for key in ("source", "path", "traces", "mix", "process")}
    named = {key: value for key, value in named.items() if value is not None}
    settings = nested(options.workload_settings)
    flags = {"source": "--workload"} | {key: f"--workload-settings {key}" for key in settings}
    workload = checked(WorkloadArguments, named | settings, flags)
    if workload.longest_seconds < workload.shortest_seconds:
        raise ArgumentError(
            f"--workload-settings longest_seconds: {workload.longest_seconds:g} is below shortest_seconds, "
            f"{workload.shortest_seconds:g}"
        )
    policies = policies_of(options.compare_simulator, schedulers)
    try:
        population = load_population(workload, options.resources)
        plan = Plan(schedulers, baseline, evaluation, workload, population, options.speed, options.drain, policies)
        plan.draw(evaluation.loads[0], evaluation.first_seed)
    except TraceError:
        raise
    except ValueError as error:
        raise ArgumentError(str(error)) from error
    try:
        (options.out / results.FOLDER).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArgumentError(f"--out: {options.out} cannot be made: {error.strerror}") from error
    for load, seed, scheduler in plan.runs():
        results.load(options.out, plan.digest(), load, scheduler, seed)
    name = options.name or f"Replay: {', '.join(schedulers)}"
    return Request(
        plan, options.out, name, options.kubeconfig, options.context, options.namespace, options.among_foreign
    )


def policies_of(text: str | None, schedulers: Sequence[str]) -> dict[str, str]:
    """What the simulator plays for each scheduler; empty without a comparison.

    Args:
        text: NAME=POLICY joined by commas; empty for what is known of the usual names; None for no comparison.
        schedulers: that are replayed.

    Raises:
        ArgumentError: a name is not among them, or nothing is known of any.
        PolicyError: a policy is none.

    Example:
        >>> policies_of("", ["default-scheduler", "mine"])
        {'default-scheduler': 'kube-scheduler-default'}
    """
    if text is None:
        return {}
    named: dict[str, str] = {}
    for part in filter(None, text.split(",")):
        name, separator, policy = part.partition("=")
        if not separator or name not in schedulers:
            raise ArgumentError(
                f"--compare-simulator: {part!r}: expected NAME=POLICY with one of {', '.join(schedulers)}"
            )
        named[name] = policy
    known = {name: policy for name, policy in simulated.DEFAULT_POLICIES.items() if name in schedulers}
    chosen = known | named
    if not chosen:
        raise ArgumentError("--compare-simulator: say what the schedulers decide by, as NAME=POLICY")
    for policy in chosen.values():
        simulated.load(policy)
    return chosen
