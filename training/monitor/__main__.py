"""Judge the policy that runs by what was recorded: waits, GPUs, regret against rules, and drift of the workload.

    python -m training.monitor /var/log/stowage --policy bundled:latency
    python -m training.monitor recorded --policy policy.onnx --fallback best-fit --period 1800 --json
    python -m training.monitor recorded --policy policy.onnx --verdict outcome/verdict.json --follow 600
    python -m training.monitor recorded --policy bundled:latency --workload openb --process trace
    python -m training.monitor recorded --policy bundled:latency --reference recorded-last-year

FOLDER holds the extender's decision log, decisions.jsonl, or those of several replicas, POD.jsonl, and the nodes:
nodes.json as kubectl get nodes -o json prints them, or nodes.csv. The last whole periods of it are played once more in
the simulator, under the policy and under rules, and compared period by period. The verdict file is what the extender's
--outcome-file looks at (docs/monitoring.md).

Exit codes: 0 done, whatever the verdict; 1 failed while playing or writing; 2 the arguments, the policy file or the log
were refused, or there is no whole period in it; 130 interrupted. With --follow what fails is said and tried again.
"""

import json
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from rich.console import Console

from extender.closed_pipe import quiet_on_closed_pipe
from extender.policies.base import PolicyError
from extender.telemetry.verdict import Verdict, VerdictError, read_verdict
from training.arguments import ArgumentError
from training.evaluation.periods import evaluate_periods
from training.evaluation.report import HEADLINE, Appendix, html_report, terminal_tables, write_whole
from training.evaluation.runner import rules
from training.monitor.judging import ALLOCATION, Judged, summary, verdict_of
from training.monitor.observed import experience, read_observed
from training.monitor.pictures import drift_by_feature, regret_by_period, waits_by_period
from training.monitor.request import (
    PROGRAM,
    REPORT_FILE,
    SUMMARY_FILE,
    Request,
    argument_parser,
    policy_of,
    request_of,
    trained_on,
)
from training.progress import track
from training.workloads.distribution import drifts
from training.workloads.periods import cut, stretch
from training.workloads.recorded import read_population
from training.workloads.tables import TraceError

PLAIN_WIDTH = 160  # of tables where there is no terminal to ask


def look(request: Request, console: Console) -> Judged:
    """Read the log, and play its last whole periods.

    Raises:
        TraceError: the log or the nodes cannot be read, or there is no whole period in it.
        PolicyError: the policy file holds no policy, or its policy gave an answer that cannot be used.
    """
    contender, digest = policy_of(request.policy)
    observed = read_observed(request.folder, digest).stretched(request.speed)
    population = stretch(read_population(request.folder, request.assumed_seconds / request.speed), request.speed)
    every = cut(population, request.period, begin=0.0)
    begun = float(observed.arrival[0])
    whole = [period for period in every if period.begin >= begun and period.end <= observed.end][-request.last :]
    if not whole:
        raise TraceError(
            f"{request.folder}: the log reaches over {observed.end - begun:.0f} s, which hold no whole period of "
            f"{request.period:g} s from its first hour on: wait for more, or choose a shorter --period"
        )
    baselines = rules([request.fallback, *request.heuristics])
    # The period before the first is played along, if only in part, so that the first does not begin without a queue.
    begin = max(begun, whole[0].begin - request.period)
    (throughout, *_) = cut(population, whole[-1].end - begin, begin=begin)
    with track(console, "playing", len(whole) * (1 + len(baselines))) as tracker:
        evaluation = evaluate_periods(
            [contender],
            baselines,
            whole,
            str(request.folder),
            scheduler=request.scheduler,
            whole=throughout,
            report=lambda done, _total, what: tracker.update(done, what),
        )
    reference = request.reference if request.reference is not None else trained_on(contender)
    seen = whole[0].begin, whole[-1].end
    return Judged(
        contender.name,
        digest,
        request.fallback,
        whole,
        observed.midnight,
        request.speed,
        [experience(observed, period) for period in whole],
        evaluation,
        drifts(reference, observed.features(*seen), observed.durations(*seen)) if reference is not None else {},
    )


def previous_verdict(path: Path, console: Console) -> Verdict | None:
    """The verdict that is there; one that cannot be read is none, and is said to be."""
    try:
        return read_verdict(path)
    except VerdictError as error:
        console.print(f"the verdict before does not count: {error}", highlight=False, soft_wrap=True)
        return None


def report(judged: Judged, verdict: Verdict, request: Request, console: Console) -> None:
    """Print what was found and write the files, the verdict last.

    Raises:
        OSError: a file could not be written.
    """
    found = summary(judged, verdict)
    beyond = judged.beyond_simulation()
    answered = sum(each.answered * each.pods for each in judged.experiences) / sum(
        each.pods for each in judged.experiences
    )
    facts = {
        "Verdict": verdict.reason,
        "Judged on": f"{len(judged.periods)} recorded periods of {request.period:,.0f} s, "
        f"{sum(each.pods for each in judged.experiences):,} pods as they came, played through from one period to the "
        f"next, on {len(judged.periods[0].workload.allocatable):,} nodes",
        "Policy": f"{request.policy}, {judged.digest}; it answered for {100 * answered:.0f} % of the pods",
        "Observed against simulated": "nothing is known"
        if beyond is None
        else f"mean wait {beyond.mean:+.1f} s [{beyond.low:+.1f}, {beyond.high:+.1f}] beyond the simulated one",
    }
    tables = [_periods_table(judged), *([_drift_table(judged)] if judged.drifts else [])]
    pictures = {"Mean wait by period": waits_by_period(judged), "Regret by period": regret_by_period(judged)}
    if judged.drifts:
        pictures["Drift by feature"] = drift_by_feature(judged)
    page = html_report(f"Outcome of {judged.policy}", judged.evaluation, facts, appendices=tables, pictures=pictures)
    contents = {request.out / SUMMARY_FILE: json.dumps(found, indent=1) + "\n", request.out / REPORT_FILE: page}
    write_whole(contents)
    write_whole({request.verdict: msgspec.json.format(msgspec.json.encode(verdict), indent=1).decode() + "\n"})
    if request.as_json:
        sys.stdout.write(json.dumps(found) + "\n")
        sys.stdout.flush()
        return
    for table in terminal_tables(judged.evaluation):
        console.print(table)
    for fact, value in facts.items():
        console.print(f"{fact}: {value}", highlight=False, soft_wrap=True)
    if not judged.drifts:
        console.print(
            "Drift: not known, as the policy file does not say what it was trained on; give --reference or --workload",
            highlight=False,
            soft_wrap=True,
        )
    for name, drift in judged.drifts.items():
        console.print(f"Drift of {name}: {drift.index:.3f}, {drift.level} ({drift.pods:,} pods)", highlight=False)
    for path in (request.verdict, *contents):
        console.print(f"wrote {path}", highlight=False, soft_wrap=True)


def _periods_table(judged: Judged) -> Appendix:
    columns = {
        "wait, observed": judged.observed(HEADLINE),
        "simulated": judged.simulated(judged.policy, HEADLINE),
        judged.fallback: judged.simulated(judged.fallback, HEADLINE),
        f"best ({judged.best})": judged.simulated(judged.best, HEADLINE),
    }
    shares = {
        "GPUs in use, observed": judged.observed(ALLOCATION),
        "simulated": judged.simulated(judged.policy, ALLOCATION),
    }
    rows = [
        [
            datetime.fromtimestamp(judged.clock(period), UTC).strftime("%Y-%m-%d %H:%M:%S"),
            f"{seen.pods:,}",
            f"{100 * seen.answered:.0f} %",
            f"{seen.unknown:,}",
            *(f"{values[number]:,.1f} s" for values in columns.values()),
            *(f"{100 * values[number]:.1f} %" for values in shares.values()),
        ]
        for number, (period, seen) in enumerate(zip(judged.periods, judged.experiences, strict=True))
    ]
    return Appendix(
        "Period by period",
        "Begin in UTC; pods that came; share of them that the policy answered for; pods of which it is not known what "
        "became; mean waits and GPUs in use, observed and simulated on the same pods.",
        ["period", "pods", "answered", "unknown", *columns, *shares],
        rows,
    )


def _drift_table(judged: Judged) -> Appendix:
    return Appendix(
        "Drift of the workload",
        "Population stability index of these pods against those that the policy was trained on: from 0.1 on moderate, "
        "from 0.25 on major (Siddiqi 2006). Chance alone stays below the third column in 99 of 100 samples of so many "
        "independent pods (Yurdakul 2018).",
        ["feature", "index", "by chance", "level", "pods"],
        [
            [name, f"{found.index:.3f}", f"{found.chance:.3f}", found.level, f"{found.pods:,}"]
            for name, found in judged.drifts.items()
        ],
    )


def one_round(request: Request, console: Console) -> None:
    """Look, judge, and leave a verdict; raises as `look` and `report`."""
    judged = look(request, console)
    before = previous_verdict(request.verdict, console)
    report(judged, verdict_of(judged, request.bar, time.time(), request.valid_seconds, before), request, console)


def follow(request: Request, seconds: float, console: Console) -> None:
    """Judge again and again; what fails is said and tried again, and the last verdict expires meanwhile."""
    while True:
        begun = time.monotonic()
        try:
            one_round(request, console)
        except (TraceError, PolicyError, OSError) as error:
            print(f"{PROGRAM}: no verdict, trying again in {seconds:g} s: {error}", file=sys.stderr, flush=True)
        time.sleep(max(0.0, seconds - (time.monotonic() - begun)))


@quiet_on_closed_pipe
def main(arguments: Sequence[str] | None = None) -> int:
    """Entry of `python -m training.monitor`."""
    options = argument_parser(__doc__).parse_args(arguments)
    plain = None if (sys.stderr if options.json else sys.stdout).isatty() else PLAIN_WIDTH
    console = Console(stderr=options.json, width=plain)
    try:
        request = request_of(options)
    except (ArgumentError, PolicyError, TraceError) as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 2
    try:
        if request.follow is not None:
            follow(request, request.follow, console)
        one_round(request, console)
    except (PolicyError, TraceError, OSError) as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 2 if isinstance(error, TraceError) else 1
    except KeyboardInterrupt:
        print(f"{PROGRAM}: interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
