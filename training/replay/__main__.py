r"""Replay a workload against a real cluster: its pods at their times, to one scheduler after the other.

    python -m training.replay --workload openb --nodes 200 --load 0.9 --speed 100 \
        --schedulers default-scheduler,stowage --seeds 3 --out runs/replay
    python -m training.replay --workload csv --path DIR --process trace --nodes 50 --load 0.8 --context staging
    python -m training.replay --nodes 48 --pods 2000 --load 0.7,0.9 --compare-simulator
    python -m training.replay --compare-simulator stowage=bundled:packing,most-allocated=most-allocated \
        --schedulers most-allocated,stowage
    python -m training.replay --real-nodes pool=batch --speed 10
    python -m training.replay --clean-up

KWOK has to run in the cluster, with the stages of manifests/kwok/stages.yaml (docs/replay.md), for nodes that are made
for it to answer for; with --real-nodes the cluster's own are used, where containers sleep. Pods are submitted at the
trace's times divided by --speed and run their durations divided by it. All that is made carries the label
stowage.dev/replay and is removed at the end, after Ctrl-C too; what a killed replay left is removed by the next one, or
by --clean-up, once it has not been heard of for a minute.

DIR receives evaluation.json, evaluation.md and report.html, as from training.evaluate, and one file a run. Called again
with the same settings, a replay goes on where it was, in the same cluster: runs that are there are not played again.

Exit codes: 0 done; 1 failed while playing, cleaning up or writing; 2 the arguments, the trace, or the cluster were
refused, and nothing was made there; 130 interrupted.
"""

import argparse
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from rich.console import Console

from extender.closed_pipe import quiet_on_closed_pipe
from extender.policies.base import PolicyError
from training.arguments import ArgumentError
from training.evaluation.report import (
    Appendix,
    html_report,
    json_report,
    markdown_report,
    terminal_tables,
    write_whole,
)
from training.evaluation.runner import Evaluation
from training.progress import Tracker, track
from training.replay import results
from training.replay.api import ClusterError, connect
from training.replay.harness import Plan, evaluation_of, replay
from training.replay.records import Records
from training.replay.request import Request, parse_arguments, request_of
from training.replay.results import Kept, OtherPlanError, RunResult, refuse_other_clusters, told_of
from training.replay.session import Stay, UnusableError, leftovers, refuse_beside_another, remove
from training.replay.tables import comparison_json, limits_table, simulator_table
from training.workloads.tables import TraceError

PLAIN_WIDTH = 160  # of tables where there is no terminal to ask


def carry_out(request: Request, console: Console) -> None:
    """Replay, clean up, print the tables and write the files.

    Raises:
        UnusableError: the cluster cannot be used; nothing was made in it.
        OtherPlanError: some runs were played in another cluster before; nothing was made in this one.
        ClusterError: it did not do what was asked.
        OSError: a file could not be written.
    """
    plan = request.plan

    def say(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True)

    say(f"workload: {plan.population.name}")
    runs = [results.load(request.folder, plan.digest(), load, name, seed) for load, seed, name in plan.runs()]
    kept = [run for run in runs if run is not None]
    missing = len(runs) - len(kept)
    say(f"{len(runs):,} runs, {len(kept):,} of them played before")
    facts = {"Replayed": f"at speed {plan.speed:g}: one second of the machine is {plan.speed:g} s of the trace"}
    if missing:
        stay = arrive(request, kept, say)
        try:
            stay.enter()
            with track(console, "replaying", missing * plan.evaluation.pods) as tracker:
                found = replay(stay, plan, request.folder, follow(tracker, plan), say)
        finally:
            say("removing what was made")
            stay.leave()
        facts["Pods of others in the cluster"] = f"{stay.foreign:,} at the beginning"
    else:
        say(f"nothing is left to be played: these runs were, {told_of(kept)}; another --out has them played anew")
        found = replay(None, plan, request.folder, lambda scheduler, records, age: None, say)
    evaluation = evaluation_of(plan, found)
    for table in terminal_tables(evaluation):
        console.print(table)
    for path in write_reports(request, evaluation, found, facts):
        say(f"wrote {path}")


def arrive(request: Request, kept: Sequence[Kept], say: Callable[[str], None]) -> Stay:
    """Find the cluster, and see whether it can be used.

    Args:
        request: where.
        kept: runs that were played before, in the same cluster.
        say: told what is done.

    Raises:
        UnusableError: it cannot be.
        OtherPlanError: it is another cluster than that of a kept run.
    """
    try:
        stay = Stay(connect(request.kubeconfig, request.context), request.namespace, say)
        refuse_other_clusters(kept, stay.cluster.origin())
        stay.look_around(request.among_foreign)
    except UnusableError:
        raise
    except ClusterError as error:
        raise UnusableError(str(error)) from error
    return stay


def follow(tracker: Tracker, plan: Plan) -> Callable[[str, Records, float], None]:
    """Live progress: how many pods have come in all, and how it stands with the run that is being played."""
    before, current = 0, ("", 0)

    def notify(scheduler: str, records: Records, age: float) -> None:
        nonlocal before, current
        came = int(np.sum(~np.isnan(records.created)))
        if came < current[1] or scheduler != current[0]:
            before += current[1]
        current = (scheduler, came)
        late = records.sent - records.planned
        worst = float(np.nanmax(late)) if came else 0.0
        bound = int(np.sum(records.node >= 0))
        tracker.update(
            before + came,
            f"{scheduler}: {came:,} came, {bound:,} placed, {int(records.waiting().sum()):,} wait, "
            f"latest submission {max(worst, 0.0):.2f} s late, {age:.0f} s",
        )

    return notify


def write_reports(
    request: Request, evaluation: Evaluation, found: Sequence[RunResult], facts: dict[str, str]
) -> list[Path]:
    """Write the three reports; raises OSError."""
    beside = simulator_table(found, evaluation.metrics)
    appendices: list[Appendix] = [*([beside] if beside else []), limits_table(found, request.plan.speed)]
    further: dict[str, Any] = {
        "replay": [
            {
                "policy": result.episode.policy,
                "load": result.episode.load,
                "seed": result.episode.seed,
                "seconds": result.kept.seconds,
                "limits": result.limits.to_json(),
                "comparison": result.kept.compared and comparison_json(result.kept.compared),
            }
            for result in found
        ]
    }
    texts = {
        request.folder / "evaluation.json": json_report(evaluation, further),
        request.folder / "evaluation.md": markdown_report(request.name, evaluation, facts, appendices),
        request.folder / "report.html": html_report(request.name, evaluation, facts, appendices=appendices),
    }
    write_whole(texts)
    return list(texts)


def clean_up(options: argparse.Namespace) -> None:
    """Remove what any replay has left; raises ClusterError, also while one is at work."""
    cluster = connect(options.kubeconfig, options.context)
    refuse_beside_another(cluster)
    left = leftovers(cluster)
    remove(cluster, None, options.namespace)
    print(f"removed {left} objects with the label stowage.dev/replay from {cluster.address}")


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@quiet_on_closed_pipe
def main() -> None:
    """Entry of `python -m training.replay`."""
    options = parse_arguments(None, __doc__ or "")
    console = Console() if sys.stdout.isatty() else Console(width=PLAIN_WIDTH)
    signal.signal(signal.SIGTERM, _interrupt)

    def end(code: int, message: object) -> None:
        print(f"training.replay: {message}", file=sys.stderr)
        sys.exit(code)

    started = time.monotonic()
    try:
        if options.clean_up:
            clean_up(options)
            return
        request = request_of(options)
    except (ArgumentError, PolicyError, TraceError, OtherPlanError, ClusterError) as error:
        end(2, error)
    try:
        carry_out(request, console)
    except (UnusableError, OtherPlanError) as error:
        end(2, error)
    except (ClusterError, OSError) as error:
        end(1, error)
    except KeyboardInterrupt:
        end(
            130,
            f"interrupted after {time.monotonic() - started:.0f} s; runs that were finished are kept in {options.out}",
        )


if __name__ == "__main__":
    main()
