"""The tables that a replay's report has beside those of any evaluation: its own limits, and the simulator beside it."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from training.evaluation.metrics import Metric
from training.evaluation.report import Appendix, format_metric
from training.evaluation.statistics import mean_intervals
from training.replay.results import Compared, RunResult, by_scheduler, nullable
from training.replay.simulated import COURSES

COMPARED = ("mean_wait_seconds", "mean_wait_several_devices_seconds", "gpu_allocation", "stranded_gpu")
DECISIONS = ("compared", "agreed", "compared_waiting", "agreed_waiting")
MILLI = 1000.0


def limits_table(results: Sequence[RunResult], speed: float) -> Appendix:
    """What the harness, the API server and the machine did to the figures, run by run."""
    headings = [
        "run",
        "submitted late: median, 99 %, worst",
        f"later than {250:g} ms",
        "request that creates: median, 99 %",
        "placing: mean, median, 99 %",
        "starting, median",
        "held too long, mean",
        "API server's clock ahead",
        "news of a binding after, median",
        "mean wait by API timestamps less ours",
        "throttled, repeated, watch lost",
        "failed, overbooked",
        "took",
    ]
    rows = []
    for result in results:
        limits, episode = result.limits, result.episode
        rows.append(
            [
                f"{episode.policy}, load {episode.load:g}, seed {episode.seed}",
                f"{_ms(limits.late_median)}, {_ms(limits.late_p99)}, {_ms(limits.late_worst)}",
                f"{limits.late_pods:,} pods",
                f"{_ms(limits.creating_median)}, {_ms(limits.creating_p99)}",
                f"{_ms(limits.placing_mean)}, {_ms(limits.placing_median)}, {_ms(limits.placing_p99)}",
                _ms(limits.starting_median),
                _ms(limits.overrun_mean),
                f"{_ms(limits.skew_low)} to {_ms(limits.skew_high)}",
                _ms(limits.watch_lag_median),
                f"{_ms(limits.wait_difference)} ± {_ms(limits.wait_difference_error)}",
                f"{limits.throttled:,}, {limits.repeated:,}, {limits.interruptions:,}",
                f"{limits.failed:,}, {limits.overbooked:,}",
                f"{result.kept.seconds:,.0f} s",
            ]
        )
    placing = [result.limits.placing_mean for result in results if not math.isnan(result.limits.placing_mean)]
    least = f" Here it is {speed * float(np.median(placing)):.1f} s of the trace." if placing else ""
    note = (
        f"Times of the machine; at speed {speed:g} a millisecond here is {speed / MILLI:g} s of the trace. Waits are "
        "measured between two arrivals of news in one watch, by one clock, so neither clock skew nor the API server's "
        "whole seconds are in them; the difference to the waits by its timestamps checks that, and is chance within "
        "its ±. “Placing” is what the scheduler takes for a pod while nobody waits: no wait can be shorter, and it is "
        f"in every mean wait.{least} Pods that are held too long, by KWOK, raise the load a little. “Overbooked” pods "
        "were put on nodes whose sum of GPU thousandths was enough but whose devices were not: with a real device "
        "plugin they would not have started, so a scheduler that overbooks would do worse than it does here."
    )
    return Appendix("The harness's own limits", note, headings, rows)


def simulator_table(results: Sequence[RunResult], metrics: dict[str, Metric]) -> Appendix | None:
    """The simulator beside the cluster, over the seeds of each load and scheduler; None where it was not asked."""
    rows = []
    for (load, scheduler), group in by_scheduler(results).items():
        pairs = [result.kept.compared for result in group if result.kept.compared is not None]
        if not pairs:
            continue
        free, agreed, busy, agreed_busy = np.array([pair.decisions for pair in pairs]).sum(axis=0)
        name = f"{scheduler}, load {load:g}"
        if free + busy:
            rows.append([name, "decisions alike, nobody waiting", f"{free:,}", _share(agreed, free), "", ""])
            rows.append([name, "decisions alike, others waiting", f"{busy:,}", _share(agreed_busy, busy), "", ""])
        for key in COMPARED:
            real = np.array([pair.real[key] for pair in pairs])
            played = np.array([np.mean([each[key] for each in pair.simulated]) for pair in pairs])
            apart, low, high = mean_intervals((played - real)[None])[0]
            base = float(np.nanmean(real)) if not np.isnan(real).all() else math.nan
            relative = apart / base if base else math.nan
            metric = metrics[key]
            rows.append(
                [
                    name,
                    metric.label,
                    format_metric(metric, base),
                    format_metric(metric, float(np.nanmean(played)) if not np.isnan(played).all() else math.nan),
                    f"{100 * relative:+.1f} %" if math.isfinite(relative) else "none",
                    f"[{100 * low / base:+.1f}, {100 * high / base:+.1f}]"
                    if base and math.isfinite(low) and math.isfinite(high)
                    else "no interval",
                ]
            )
    if not rows:
        return None
    note = (
        "The simulator played the same pods, from when they really came and for as long as they really ran. "
        "“Decisions alike”: how many pods with a choice went where the policy ranks first in the state that the "
        "cluster was in. Below: means over the seeds when the simulator goes by itself; its scheduler takes as long "
        "for an attempt as the cluster's seems to. The cluster's waits are less those of pods that find room at once: "
        "those are mostly for the API server, which the simulator does not have. "
        f"It plays {COURSES} courses of each run, as "
        "ties and milliseconds are chance, and a cluster's single one differs from their mean by "
        "chance as well: the interval is the paired bootstrap's over the seeds."
    )
    headings = ["run", "what", "cluster", "simulator", "difference", "95 %"]
    return Appendix("The simulator beside the cluster", note, headings, rows)


def comparison_json(compared: Compared) -> dict[str, Any]:
    """A run beside the simulator's as evaluation.json has it: what `simulator_table` is made of; NaN becomes null.

    Returns:
        the simulator's policy, how many decisions were looked at and agreed, the cluster's metrics, and their means
        over the simulator's courses.
    """
    means = {key: float(np.mean([each[key] for each in compared.simulated])) for key in COMPARED}
    return {
        "policy": compared.policy,
        "decisions": dict(zip(DECISIONS, compared.decisions, strict=True)),
        "cluster": nullable({key: compared.real[key] for key in COMPARED}),
        "simulator": nullable(means),
        "courses": len(compared.simulated),
    }


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.2f} %" if whole else "none"


def _ms(seconds: float) -> str:
    return "none" if math.isnan(seconds) else f"{MILLI * seconds:,.0f} ms"
