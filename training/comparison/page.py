"""A comparison as a page in Markdown: tables and pictures between two marks, and around them what a person wrote."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from training.comparison.definition import Definition
from training.comparison.figures import METRICS, Figures
from training.comparison.pictures import final_waits, learning_curves, paired_curves
from training.evaluation.metrics import Metric
from training.evaluation.report import format_comparison, format_metric, format_p_value, markdown_table
from training.evaluation.statistics import Comparison

BEGIN, END = "<!-- figures: written by training.compare -->", "<!-- end of figures -->"


def write(folder: Path, name: str, definition: Definition, figures: Figures, metrics: dict[str, Metric]) -> list[Path]:
    """Write the page of a comparison and its pictures; what stands outside the marks of an older page stays.

    Args:
        folder: of the results.
        name: of the comparison, and of the files.
        definition: what was compared.
        figures: what it came to.
        metrics: how they are called and read.

    Returns:
        the files.
    """
    pictures = {
        f"{name}-curves.svg": "Learning curves by decisions",
        f"{name}-seconds.svg": "Learning curves by seconds of training",
        f"{name}-final.svg": "Mean wait at the end",
    }
    curves, seconds, final = (folder / picture for picture in pictures)
    if definition.pairs:
        paired_curves(curves, figures, definition.compared())
    else:
        learning_curves(curves, figures, list(figures.curves))
    learning_curves(seconds, figures, list(figures.curves), by_seconds=True)
    final_waits(final, figures)
    parts = [
        *(f"![{title}]({picture})" for picture, title in pictures.items()),
        f"Bands and intervals are 95 % bootstrap intervals of the mean over the {definition.seeds} seeds of training.",
        "### In the end",
        _final_table(figures, metrics),
        "### Differences, paired by seed",
        _differences(figures, metrics),
        f"p (Holm) is corrected within a metric. With {definition.seeds} pairs the signed-rank test cannot come below "
        f"{2 * 0.5**definition.seeds:.4f} before the correction: the intervals are what tells.",
        "### Sample efficiency and wall time",
        _efficiency(figures),
        "Decisions until the held-out mean wait had come 90 % of the way from an untrained network's to the lowest "
        "that any run of the same seed reached; looks are every `training.held_out_timesteps` decisions.",
    ]
    page = folder / f"{name}.md"
    text = "\n\n".join([BEGIN, *parts, END])
    if page.is_file() and BEGIN in (old := page.read_text()):
        text = old[: old.index(BEGIN)] + text + old[old.index(END) + len(END) :]
    else:
        text = f"# {definition.title}\n\n{text}\n"
    page.write_text(text)
    return [page, curves, seconds, final]


def _final_table(figures: Figures, metrics: dict[str, Metric]) -> str:
    rows = []
    for name, intervals in figures.intervals.items():
        shown = {key: [format_metric(metrics[key], value) for value in found] for key, found in intervals.items()}
        rows.append([name, *(f"{mean} [{low}, {high}]" for mean, low, high in shown.values())])
    rows += [
        [rule, *(format_metric(metrics[key], found[key]) for key in METRICS)] for rule, found in figures.rules.items()
    ]
    return markdown_table(["", *(metrics[key].label for key in METRICS)], rows)


def _differences(figures: Figures, metrics: dict[str, Metric]) -> str:
    def row(entry: Comparison) -> Sequence[str]:
        return [
            f"{entry.policy} against {entry.baseline}",
            metrics[entry.metric].label,
            format_comparison(entry, metrics[entry.metric]),
            format_p_value(entry.p_value_holm),
        ]

    shown = ("mean_wait_seconds", "mean_wait_several_devices_seconds", "gpu_allocation")
    rows = [row(entry) for entry in figures.comparisons if entry.metric in shown]
    return markdown_table(["", "metric", "difference [95 %]", "p (Holm)"], rows, texts=2)


def _efficiency(figures: Figures) -> str:
    rows = []
    for name, needed in figures.needed.items():
        reached = int(np.isfinite(needed).sum())
        median = float(np.median(needed))
        rows.append(
            [
                name,
                f"{median:,.0f}" if math.isfinite(median) else "never",
                f"{reached} of {len(needed)}",
                f"{figures.curves[name].steps[-1]:,.0f}",
                f"{np.median(figures.seconds[name]):.0f}",
                f"{figures.seconds[name].min():.0f} to {figures.seconds[name].max():.0f}",
            ]
        )
    headings = [
        "",
        "decisions to 90 %, median",
        "seeds that reached it",
        "decisions in all",
        "training, s, median",
        "range",
    ]
    return markdown_table(headings, rows)
