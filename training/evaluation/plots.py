"""The pictures of a report, each as SVG text that stands in the page itself."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from scipy.stats import t as student_t

from training.evaluation.runner import Evaluation

matplotlib.use("Agg")
WIDTH, HEIGHT = 7.2, 3.6
GRID_POINTS = 300
SHORTEST_WAIT = 1.0  # waits below a second share the left edge of the logarithmic axis


@dataclass(frozen=True)
class CurvePoint:
    """One point of a learning curve: decisions taken, seconds since the start, and the mean return of late."""

    steps: int
    seconds: float
    mean_return: float
    mean_wait_seconds: float


def learning_curve(points: Sequence[CurvePoint]) -> str:
    """Return of the training episodes by decisions taken."""
    figure, axes = _figure("decisions", "mean return of recent episodes")
    axes.plot([point.steps for point in points], [point.mean_return for point in points], color="C0")
    axes.grid(alpha=0.3)
    return _svg(figure)


def wait_distribution(evaluation: Evaluation, load: float) -> str:
    """Share of pods that waited at most so long, per policy, over all seeds of one load."""
    figure, axes = _figure("wait, s (1 s or less at the left edge)", "share of pods")
    waits = {
        policy: np.concatenate([result.waits for result in evaluation.of(policy, load)])
        for policy in evaluation.policies
    }
    longest = max(float(each.max()) for each in waits.values())
    grid = np.geomspace(SHORTEST_WAIT, max(longest, 10 * SHORTEST_WAIT), GRID_POINTS)
    lowest = 1.0
    for policy, each in waits.items():
        shares = np.searchsorted(np.sort(each), grid, side="right") / len(each)
        axes.step(grid, shares, where="post", label=policy)
        lowest = min(lowest, float(shares[0]))
    axes.set_xscale("log")
    axes.set_ylim(max(lowest - 0.002, 0.0), 1.0005)
    _legend(axes)
    return _svg(figure)


def allocation_over_time(evaluation: Evaluation, load: float) -> str:
    """Share of the GPUs in use from the first to the last arrival, mean over the seeds of one load."""
    figure, axes = _figure("share of the arrivals' time span", "GPUs in use")
    for policy in evaluation.policies:
        curve = np.mean([result.allocation for result in evaluation.of(policy, load)], axis=0)
        axes.plot(np.linspace(0, 1, len(curve)), curve, label=policy, linewidth=1.2)
    axes.set_ylim(0, 1)
    _legend(axes)
    return _svg(figure)


def wait_by_load(evaluation: Evaluation) -> str:
    """Mean wait at each load with the 95 % interval of the mean over the seeds."""
    figure, axes = _figure("load", "mean wait, s")
    positions = np.arange(len(evaluation.loads))
    width = 0.8 / len(evaluation.policies)
    for index, policy in enumerate(evaluation.policies):
        means, errors = [], []
        for load in evaluation.loads:
            waits = np.array([result.metrics["mean_wait_seconds"] for result in evaluation.of(policy, load)])
            means.append(waits.mean())
            spread = waits.std(ddof=1) / np.sqrt(len(waits)) if len(waits) > 1 else 0.0
            errors.append(spread * student_t.ppf(0.975, max(len(waits) - 1, 1)))
        axes.bar(positions + (index + 0.5) * width - 0.4, means, width, yerr=errors, label=policy, capsize=2)
    axes.set_xticks(positions, [str(load) for load in evaluation.loads])
    _legend(axes)
    return _svg(figure)


def _figure(x: str, y: str) -> tuple[Figure, matplotlib.axes.Axes]:
    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _legend(axes: matplotlib.axes.Axes) -> None:
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", frameon=False)


def _svg(figure: Figure) -> str:
    with io.StringIO() as text:
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
        svg = text.getvalue()
    return svg[svg.index("<svg") :]
