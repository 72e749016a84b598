"""The pictures of a comparison, as SVG: learning curves with bands, and what the runs came to in the end."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from training.comparison.figures import Curves, Figures

PANEL = (4.6, 3.4)  # inches
LOWEST_STEPS = 500.0  # on a logarithmic axis the untrained network stands here


def learning_curves(path: Path, figures: Figures, variants: Sequence[str], *, by_seconds: bool = False) -> None:
    """Mean wait in the held-out episodes, by decisions or by seconds of training, all variants in one picture."""
    figure = Figure(figsize=(7.0, 4.2), layout="constrained")
    axes = figure.subplots()
    _draw(axes, {name: figures.curves[name] for name in variants}, by_seconds=by_seconds)
    axes.legend(frameon=False)
    _save(figure, path)


def paired_curves(path: Path, figures: Figures, pairs: Sequence[tuple[str, str]]) -> None:
    """A panel for each pair: the variant, and what it is compared with."""
    columns = min(3, len(pairs))
    rows = math.ceil(len(pairs) / columns)
    figure = Figure(figsize=(PANEL[0] * columns, PANEL[1] * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False)
    for panel in panels.flat[len(pairs) :]:
        panel.set_visible(False)
    for axes, (one, other) in zip(panels.flat, pairs, strict=False):
        _draw(axes, {other: figures.curves[other], one: figures.curves[one]}, by_seconds=False)
        axes.legend(frameon=False, fontsize=9)
    _save(figure, path)


def final_waits(path: Path, figures: Figures) -> None:
    """Mean wait in the evaluation's episodes: every seed a dot, mean and 95 % interval, and the rules as lines."""
    names = list(figures.final)
    figure = Figure(figsize=(7.0, 1.2 + 0.42 * len(names)), layout="constrained")
    axes = figure.subplots()
    for row, name in enumerate(names):
        values = figures.final[name]["mean_wait_seconds"]
        mean, low, high = figures.intervals[name]["mean_wait_seconds"]
        axes.plot(values, np.full(len(values), row), "o", color="0.6", markersize=4)
        axes.errorbar([mean], [row], xerr=[[mean - low], [high - mean]], fmt="D", color="C0", capsize=4, markersize=5)
    for index, (rule, found) in enumerate(figures.rules.items()):
        axes.axvline(found["mean_wait_seconds"], color=f"C{index + 1}", linestyle="--", linewidth=1, label=rule)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel("mean wait, s")
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if figures.rules:
        figure.legend(loc="outside upper right", ncols=len(figures.rules), frameon=False, fontsize=9)
    _save(figure, path)


def _draw(axes: Axes, curves: dict[str, Curves], *, by_seconds: bool) -> None:
    for name, each in curves.items():
        x = each.seconds.mean(axis=1) if by_seconds else np.maximum(each.steps, LOWEST_STEPS)
        mean, low, high = each.bands.T
        (line,) = axes.plot(x, mean, label=name, linewidth=1.4)
        axes.fill_between(x, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
    if not by_seconds:
        axes.set_xscale("log")
    axes.set_xlabel("seconds of training" if by_seconds else "decisions")
    axes.set_ylabel("held-out mean wait, s")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
