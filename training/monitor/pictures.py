"""The pictures of the outcome watch, as SVG: waits and regret by period, and how far the pods have drifted."""

from datetime import UTC, datetime

import numpy as np
from matplotlib.axes import Axes

from training.evaluation.plots import figure_of, legend, svg_of
from training.evaluation.report import HEADLINE
from training.monitor.judging import Judged
from training.workloads.distribution import MAJOR, MODERATE

MARKED_AT_MOST = 6  # times along the axis


def waits_by_period(judged: Judged) -> str:
    """Mean wait in each period: observed, and simulated of the policy, the fallback and the best rule."""
    figure, axes = figure_of("period (UTC)", "mean wait, s")
    at = np.arange(len(judged.periods))
    lines = {
        "observed": judged.observed(HEADLINE),
        f"{judged.policy}, simulated": judged.simulated(judged.policy, HEADLINE),
    }
    for rule in dict.fromkeys((judged.fallback, judged.best)):
        lines[f"{rule}, simulated"] = judged.simulated(rule, HEADLINE)
    for number, (name, values) in enumerate(lines.items()):
        axes.plot(
            at,
            values,
            marker="o",
            markersize=3,
            linewidth=1.2,
            color="black" if number == 0 else f"C{number}",
            label=name,
        )
    axes.set_ylim(bottom=0)
    _times(axes, judged)
    legend(figure, axes)
    return svg_of(figure, "Mean wait by period, observed and simulated")


def regret_by_period(judged: Judged) -> str:
    """Simulated mean wait of the policy minus that of the best rule in each period, and its mean with the interval."""
    figure, axes = figure_of("period (UTC)", f"wait minus that of {judged.best}, s")
    entry = judged.against(judged.best)
    difference = np.array(judged.simulated(judged.policy, HEADLINE)) - np.array(judged.simulated(judged.best, HEADLINE))
    axes.bar(np.arange(len(difference)), difference, color="C1", label="period")
    axes.axhline(entry.difference, color="black", linewidth=1.2, label="mean, 95 % interval")
    if np.isfinite(entry.difference_low):
        axes.axhspan(entry.difference_low, entry.difference_high, color="black", alpha=0.12, linewidth=0)
    _times(axes, judged)
    legend(figure, axes)
    return svg_of(figure, "Regret by period")


def drift_by_feature(judged: Judged) -> str:
    """The population stability index of each feature, what chance alone makes of it, and the thresholds."""
    figure, axes = figure_of("population stability index", "")
    rows = np.arange(len(judged.drifts))
    axes.barh(rows, [found.index for found in judged.drifts.values()], color="C0", label="index")
    axes.plot([found.chance for found in judged.drifts.values()], rows, "k|", markersize=12, label="chance (99 %)")
    for threshold, name in ((MODERATE, "moderate"), (MAJOR, "major")):
        axes.axvline(threshold, color="C3" if threshold == MAJOR else "C1", linestyle="--", linewidth=1, label=name)
    axes.set_yticks(rows, list(judged.drifts))
    axes.invert_yaxis()
    legend(figure, axes)
    return svg_of(figure, "Drift by feature")


def _times(axes: Axes, judged: Judged) -> None:
    count = len(judged.periods)
    shown = np.unique(np.linspace(0, count - 1, min(count, MARKED_AT_MOST)).round().astype(int))
    texts = [
        datetime.fromtimestamp(judged.clock(judged.periods[number]), UTC).strftime("%d.%m.\n%H:%M")
        for number in shown.tolist()
    ]
    axes.set_xticks(shown, texts, fontsize=9)
