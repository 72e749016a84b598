"""The command line of a replay, read and checked before anything is done."""

import argparse
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from training.arguments import ArgumentError
from training.evaluation.flags import (
    LISTED_SETTINGS,
    add_episode_flags,
    add_workload_flags,
    evaluation_of,
    workload_of,
)
from training.replay import results, simulated
from training.replay.api import connect
from training.replay.harness import Plan
from training.replay.real_nodes import RealNodes, find_real_nodes
from training.workloads.assembly import on_nodes
from training.workloads.base import BASE_RESOURCES, Population
from training.workloads.selection import WorkloadArguments, load_population
from training.workloads.tables import TraceError

SCHEDULERS = "default-scheduler,stowage"
OUTPUT = Path("runs/replay")
NAMESPACE = "stowage-replay"
REAL_IMAGE = "docker.io/library/busybox:1.37"
NODES, PODS, LOADS, SEEDS, SPEED, DRAIN = 48, 2000, "0.9", 3, 100.0, 14_400.0
NAMESPACE_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
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


def argument_parser(description: str = "") -> argparse.ArgumentParser:
    """What reads the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m training.replay",
        usage="%(prog)s [options]",
        description=description,
        epilog=LISTED_SETTINGS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    where = parser.add_argument_group("where")
    where.add_argument("--kubeconfig", type=Path, help="else $KUBECONFIG, else ~/.kube/config")
    where.add_argument("--context", help="of the kubeconfig (default: its current one)")
    where.add_argument(
        "--namespace",
        type=namespace_name,
        default=NAMESPACE,
        help="of the pods; made if need be (default: %(default)s)",
    )
    where.add_argument(
        "--among-foreign", action="store_true", help="also in a cluster where pods of others run (docs/replay.md)"
    )
    where.add_argument(
        "--real-nodes",
        metavar="SELECTOR",
        help="play on the cluster's own nodes with these labels, pool=batch, instead of making nodes for KWOK; "
        "nothing about them is changed",
    )
    where.add_argument(
        "--image",
        default=REAL_IMAGE,
        help="of the containers on real nodes, which sleep as long as a pod runs (default: %(default)s)",
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
    add_workload_flags(what)
    add_episode_flags(what, loads=LOADS, nodes=NODES, pods=PODS, seeds=SEEDS, episode="a run")
    what.add_argument("--first-seed", type=int, metavar="SEED", help="of the workloads (default: as training.evaluate)")
    what.add_argument(
        "--resources", type=int, default=len(BASE_RESOURCES), help="of the cluster (default: %(default)s)"
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
    return parser


def namespace_name(text: str) -> str:
    """A namespace's name: a DNS label (RFC 1123), as it stands in URLs.

    Example:
        >>> namespace_name("stowage-replay")
        'stowage-replay'
    """
    if not NAMESPACE_NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected a namespace's name: lower-case letters, digits and -, at most 63, with - not at an end"
        )
    return text


def parse_arguments(arguments: Sequence[str] | None, description: str) -> argparse.Namespace:
    """Read the command line."""
    return argument_parser(description).parse_args(arguments)


def request_of(options: argparse.Namespace) -> Request:
    """Check everything that can be checked without a cluster, and with one on whose nodes it is to be played.

    Raises:
        ArgumentError: a value is impossible or DIR cannot be written.
        PolicyError: what the simulator is to play is no policy.
        TraceError: the trace is missing or unreadable.
        OtherPlanError: DIR holds results of another replay.
        ClusterError: real nodes cannot be had.
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
    if options.image != REAL_IMAGE and options.real_nodes is None:
        raise ArgumentError("--image: it is for --real-nodes, which are not asked for: give both, or leave it out")
    evaluation = evaluation_of(options, first_seed=options.first_seed)
    workload = workload_of(options)
    policies = policies_of(options.compare_simulator, schedulers)
    population, real = _population(options, workload)
    if real is not None:
        evaluation = replace(evaluation, nodes=len(real.names))
    plan = Plan(schedulers, baseline, evaluation, workload, population, options.speed, options.drain, policies, real)
    try:
        plan.draw(evaluation.loads[0], evaluation.first_seed)
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


def _population(options: argparse.Namespace, workload: WorkloadArguments) -> tuple[Population, RealNodes | None]:
    """What pods are drawn from, and the real nodes if it is to be played on these."""
    try:
        population = load_population(workload, options.resources)
        if options.real_nodes is None:
            return population, None
        if options.nodes != NODES:
            raise ArgumentError("--nodes and --real-nodes: the nodes are those with the labels; leave --nodes out")
        cluster = connect(options.kubeconfig, options.context)
        real = find_real_nodes(cluster, options.real_nodes, population.resources, options.image)
        free = hashlib.sha256(real.columns.allocatable.tobytes() + repr(real.names).encode()).hexdigest()
        count = len(real.names)
        name = f"{count} node{'s' if count > 1 else ''} of the cluster with {options.real_nodes} ({free[:8]})"
        population = on_nodes(population, real.columns, name, workload.prices)
        real.refuse_shares(population)
        return population, real
    except (TraceError, ArgumentError):
        raise
    except ValueError as error:
        raise ArgumentError(str(error)) from error


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
