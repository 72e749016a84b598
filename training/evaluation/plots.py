"""The pictures of a report, each as SVG text that stands in the page itself.

They are drawn at the width of a phone and scale up; texts stay texts, so that the browser's own font shows them.
"""

import io
import math
from collections.abc import Sequence
from typing import Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, PercentFormatter

from training.evaluation.curve import CurvePoint
from training.evaluation.runner import Evaluation, title

matplotlib.use("Agg")
matplotlib.rcParams |= {
    "svg.fonttype": "none",
    "svg.hashsalt": "stowage",
    "font.family": "sans-serif",
    "font.size": 12.0,
}
WIDTH, HEIGHT = 5.0, 3.2  # inches, without the legend
LEGEND_LINE = 0.24
LONGEST_HALF_LINE = 22  # characters of a legend's entry that leave room for another beside it
GRID_POINTS = 200
SHORTEST_WAIT = 1.0  # waits below a second share the left edge of the logarithmic axis
NOTHING_COUNTED = "no pod was counted before the horizon"


def learning_curve(points: Sequence[CurvePoint]) -> str:
    """Return of the training episodes, and of the held-out ones, by decisions taken."""
    figure, axes = figure_of("decisions", "mean return of episodes")
    axes.plot([point.steps for point in points], [point.mean_return for point in points], color="C0", label="training")
    looked = [point for point in points if not math.isnan(point.held_out_return)]
    if looked:
        steps, returns = [point.steps for point in looked], [point.held_out_return for point in looked]
        axes.plot(steps, returns, color="C1", marker="o", markersize=3, label="held out, greedy")
    legend(figure, axes)
    return svg_of(figure, "Learning curve: mean return by decisions taken")


def wait_distribution(evaluation: Evaluation, load: float) -> str:
    """Share of pods that waited at most so long (ECDF), per policy, over all seeds of one load."""
    figure, axes = figure_of("wait, s (1 s or less at the left edge)", "share of pods")
    waits = {
        policy: np.sort(np.concatenate([result.waits for result in evaluation.of(policy, load)]))
        for policy in evaluation.policies
    }
    waits = {policy: each for policy, each in waits.items() if len(each)}
    if not waits:
        return _without_data(figure, axes, f"Distribution of waits at load {load:g}")
    longest = max(float(each[-1]) for each in waits.values())
    grid = np.geomspace(SHORTEST_WAIT, max(longest, 10 * SHORTEST_WAIT), GRID_POINTS)
    lowest = 1.0
    for policy, each in waits.items():
        shares = np.searchsorted(each, grid, side="right") / len(each)
        axes.step(grid, shares, where="post", label=title(policy))
        lowest = min(lowest, float(shares[0]))
    margin = max(0.05 * (1.0 - lowest), 0.002)
    axes.set_xscale("log")
    _plain_ticks(axes, "x")
    axes.set_ylim(max(lowest - margin, 0.0), 1.0 + margin / 2)
    bottom, _ = axes.get_ylim()
    axes.set_yticks([tick for tick in axes.get_yticks() if bottom <= tick <= 1.0 + 1e-9])
    _plain_ticks(axes, "y")
    legend(figure, axes)
    return svg_of(figure, f"Distribution of waits at load {load:g}")


def allocation_over_time(evaluation: Evaluation, load: float) -> str:
    """Share of the GPUs in use from the first to the last arrival, mean over the seeds of one load."""
    figure, axes = figure_of("share of the arrivals' time span", "GPUs in use")
    for policy in evaluation.policies:
        curve = np.mean([result.allocation for result in evaluation.of(policy, load)], axis=0)
        axes.plot(np.linspace(0, 1, len(curve)), curve, label=title(policy), linewidth=1.2)
    axes.axvspan(0, evaluation.settings["warm_up"], color="0.92", linewidth=0, zorder=0)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    legend(figure, axes)
    return svg_of(figure, f"Allocation of the GPUs over time at load {load:g}")


def wait_by_load(evaluation: Evaluation) -> str:
    """Mean wait at each load, with the 95 % bootstrap interval of the mean over the seeds as a band."""
    figure, axes = figure_of("load", "mean wait, s")
    loads = sorted(evaluation.loads)
    highest = 0.0
    for policy in evaluation.policies:
        mean, low, high = np.array([evaluation.intervals[load, policy]["mean_wait_seconds"] for load in loads]).T
        if np.isnan(mean).all():
            continue
        highest = max(highest, float(np.nanmax([mean, high])))
        (line,) = axes.plot(loads, mean, marker="o", markersize=4, label=title(policy))
        if len(loads) > 1:
            axes.fill_between(loads, low, high, color=line.get_color(), alpha=0.18, linewidth=0)
        else:
            axes.errorbar(loads, mean, [mean - low, high - mean], color=line.get_color(), capsize=3)
    axes.set_xticks(loads, [f"{load:g}" for load in loads])
    if not axes.lines:
        return _without_data(figure, axes, "Mean wait by load, with 95 % intervals")
    if highest > 10 * SHORTEST_WAIT:
        axes.set_yscale("symlog", linthresh=SHORTEST_WAIT)
    axes.set_ylim(bottom=0)
    _plain_ticks(axes, "y")
    legend(figure, axes)
    return svg_of(figure, "Mean wait by load, with 95 % intervals")


def figure_of(x: str, y: str) -> tuple[Figure, Axes]:
    """A figure of the reports' size, with the labels of its axes."""
    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _plain_ticks(axes: Axes, which: Literal["x", "y"]) -> None:
    """Numbers as people write them: 0.05 and 1,000, no powers of ten."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10f}".rstrip("0").rstrip(".")))
    axis.set_minor_formatter(NullFormatter())


def _without_data(figure: Figure, axes: Axes, description: str) -> str:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.text(0.5, 0.5, NOTHING_COUNTED, ha="center", va="center", transform=axes.transAxes)
    return svg_of(figure, f"{description}: {NOTHING_COUNTED}")


def legend(figure: Figure, axes: Axes) -> None:
    """Name the lines below the figure, which grows by as much."""
    axes.grid(alpha=0.3)
    labels = axes.get_legend_handles_labels()[1]
    columns = 2 if max(map(len, labels)) <= LONGEST_HALF_LINE else 1
    figure.set_figheight(HEIGHT + LEGEND_LINE * math.ceil(len(labels) / columns))
    figure.legend(loc="outside lower left", ncols=columns, fontsize=11, frameon=False)


def svg_of(figure: Figure, description: str) -> str:
    """The figure as SVG text; the description is for who cannot see it."""
    with io.StringIO() as text:
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
        svg = text.getvalue()
    return svg[svg.index("<svg") :].replace("<svg", f'<svg role="img" aria-label="{description}"', 1)
