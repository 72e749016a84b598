"""The episodes that a command line asks for: the flags that `training.evaluate` and `training.replay` share.

A workload is named by the usual settings, each a flag of its own, and by `--workload-settings` for all others.
"""

import argparse
from typing import Any

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
from training.evaluation.runner import EvaluationArguments, held_back_workload
from training.service_levels import SERVICE_LEVELS
from training.workloads.base import Population
from training.workloads.selection import WorkloadArguments, load_population
from training.workloads.tables import TraceError

WORKLOAD_FLAGS = {"source": "--workload"} | {name: f"--{name}" for name in ("path", "traces", "mix", "process")}
FOLDERS = ("path", "traces")
# Which sources take what; a setting that is not here is of all.
TAKEN_BY = {
    "path": ("csv", "kubectl", "decisions"),
    "assumed_seconds": ("decisions",),
    "traces": ("auto", "openb"),
    "mix": ("auto", "openb"),
    "generator": ("generated",),
}
LISTED_SETTINGS = f"--workload-settings takes:\n{listed(WorkloadArguments)}".replace("%", "%%")


def add_workload_flags(group: argparse._ArgumentGroup) -> None:
    """Add what names a workload; `workload_of` reads it."""
    for name, flag in WORKLOAD_FLAGS.items():
        setting = settings_of(WorkloadArguments)[name]
        shown = f" (default: {setting.default})" if setting.default else ""
        metavar = "DIR" if name in FOLDERS else name.upper()
        group.add_argument(flag, dest=name, metavar=metavar, help=f"{setting.meaning}{shown}".replace("%", "%%"))
    add_settings_flag(group, "--workload-settings", "of the workload")


def add_settings_flag(group: argparse._ArgumentGroup, flag: str, what: str) -> None:
    """Add a flag that takes several KEY=VALUE."""
    group.add_argument(
        flag,
        type=parse_setting,
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help=f"settings {what}, listed below",
    )


def add_episode_flags(
    group: argparse._ArgumentGroup, *, loads: str, nodes: int, pods: int, seeds: int, episode: str = "an episode"
) -> None:
    """Add how many episodes there are, how large, and what counts in them; `evaluation_of` reads it.

    Args:
        group: where.
        loads, nodes, pods, seeds: what counts where a flag is missing.
        episode: what help calls one.
    """
    group.add_argument(
        "--load",
        type=parse_loads,
        default=loads,
        metavar="LOAD,…",
        help="offered loads of the bottleneck resource (default: %(default)s)",
    )
    group.add_argument("--seeds", type=int, default=seeds, help="workloads at each load (default: %(default)s)")
    group.add_argument("--nodes", type=int, default=nodes, help="nodes of the cluster (default: %(default)s)")
    group.add_argument("--pods", type=int, default=pods, help=f"pods of {episode} (default: %(default)s)")
    group.add_argument(
        "--warm-up",
        type=float,
        default=EvaluationArguments().warm_up,
        metavar="SHARE",
        help="share of the pods that is not counted, as they meet an empty cluster (default: %(default)s)",
    )
    group.add_argument(
        "--service-levels",
        type=parse_service_level,
        nargs="+",
        action="extend",
        default=[],
        metavar="PRIORITY=SECONDS",
        help="longest promised wait, by the lowest priority it is promised to; a negative one with the flag's equals "
        "sign, as --service-levels=-5=60, and the flag again for each (default: "
        f"{' '.join(f'{priority}={seconds:g}' for priority, seconds in SERVICE_LEVELS.items())})",
    )


def evaluation_of(options: argparse.Namespace, **further: Any) -> EvaluationArguments:
    """The episodes.

    Args:
        options: what the flags of `add_episode_flags` were read into.
        further: fields that have flags of their own; None where the default counts.

    Raises:
        ArgumentError: a value is impossible.
    """
    return checked(
        EvaluationArguments,
        {
            "nodes": options.nodes,
            "pods": options.pods,
            "loads": options.load,
            "seeds": options.seeds,
            "warm_up": options.warm_up,
            "service_levels": dict(options.service_levels) or dict(SERVICE_LEVELS),
            **{key: value for key, value in further.items() if value is not None},
        },
        {"loads": "--load"},
    )


def workload_of(options: argparse.Namespace) -> WorkloadArguments:
    """The workload.

    Args:
        options: what the flags of `add_workload_flags` were read into.

    Raises:
        ArgumentError: a value is impossible.
    """
    named = {key: getattr(options, key) for key in WORKLOAD_FLAGS}
    named = {key: value for key, value in named.items() if value is not None}
    settings = nested(options.workload_settings)
    flags = WORKLOAD_FLAGS | {key: f"--workload-settings {key}" for key in settings}
    workload = checked(WorkloadArguments, named | settings, flags)
    for key in named | settings:
        if workload.source not in (sources := TAKEN_BY.get(key, (workload.source,))):
            raise ArgumentError(
                f"{flags[key]}: --workload {workload.source} does not read it, expected --workload "
                f"{' or '.join(sources)}; leave it out, or choose another"
            )
    if workload.longest_seconds < workload.shortest_seconds:
        raise ArgumentError(
            f"--workload-settings longest_seconds: {workload.longest_seconds:g} is below shortest_seconds, "
            f"{workload.shortest_seconds:g}"
        )
    return workload


def population_of(workload: WorkloadArguments, resources: int, evaluation: EvaluationArguments) -> Population:
    """What the episodes are drawn from.

    Args:
        workload: which.
        resources: of the cluster.
        evaluation: the episodes; the first is drawn, so that it is refused before any is played.

    Raises:
        ArgumentError: the settings contradict each other, or nothing fits.
        TraceError: the trace is missing or unreadable.
    """
    try:
        population = load_population(workload, resources)
        held_back_workload(population, evaluation, workload, evaluation.loads[0], evaluation.first_seed)
    except TraceError:
        raise
    except ValueError as error:
        raise ArgumentError(str(error)) from error
    return population
