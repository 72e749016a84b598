"""What the runs of a comparison came to: curves with bands, sample efficiency, final metrics, wall time.

Everything is per seed of training first, and runs of the same seed are paired: they start from the same draws, are
looked at in the same held-out episodes and judged by the same ones. Intervals are over the seeds of training.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from training.comparison.definition import Definition
from training.evaluation.statistics import Comparison, compare_metrics, correct, mean_intervals
from training.judging import EVALUATION_FILE
from training.recorder import CURVE_FILE, read_curve
from training.workloads.base import FloatArray

METRICS = (
    "mean_wait_seconds",
    "p99_wait_seconds",
    "mean_wait_several_devices_seconds",
    "mean_slowdown",
    "gpu_allocation",
    "violations",
)
ENOUGH = 0.9  # of the way from an untrained network to the best that any run of the seed reached


@dataclass(frozen=True)
class Curves:
    """The learning curves of a variant: mean wait in the held-out episodes, L looks by n seeds.

    Attributes:
        steps: (L,) decisions taken.
        seconds: (L, n) since the start of the training.
        waits: (L, n) s.
        bands: (L, 3) mean over the seeds and the ends of its 95 % bootstrap interval.
    """

    steps: FloatArray
    seconds: FloatArray
    waits: FloatArray
    bands: FloatArray


@dataclass(frozen=True)
class Figures:
    """All that is known of a comparison's runs.

    Attributes:
        curves: by variant.
        final: by variant and metric, (n,), means over the evaluation's episodes.
        intervals: by variant and metric, the mean over the seeds and the ends of its 95 % interval.
        needed: by variant, (n,) decisions until a run had come 90 % of the way; infinite where it never did.
        seconds: by variant, (n,) wall time of the training.
        comparisons: of the pairs, in every metric.
        better: by metric, `lower` or `higher`.
        rules: by rule and metric, its mean over the evaluation's episodes.
    """

    curves: dict[str, Curves]
    final: dict[str, dict[str, FloatArray]]
    intervals: dict[str, dict[str, FloatArray]]
    needed: dict[str, FloatArray]
    seconds: dict[str, FloatArray]
    comparisons: list[Comparison]
    better: dict[str, str]
    rules: dict[str, dict[str, float]]

    def to_json(self) -> dict[str, Any]:
        """Everything, for a file; what is not finite becomes null."""
        content = {
            "variants": {
                name: {
                    "curve": {
                        "steps": self.curves[name].steps,
                        "mean_wait_seconds": self.curves[name].waits,
                        "mean_and_interval": self.curves[name].bands,
                        "seconds": self.curves[name].seconds,
                    },
                    "final": self.final[name],
                    "mean_and_interval": self.intervals[name],
                    "steps_to_90_percent": self.needed[name],
                    "training_seconds": self.seconds[name],
                }
                for name in self.curves
            },
            "comparisons": [vars(entry) for entry in self.comparisons],
            "rules": self.rules,
        }
        plain: dict[str, Any] = _plain(content)
        return plain


def figures_of(definition: Definition, folder: Path, rules: Mapping[str, Mapping[str, float]]) -> Figures:
    """Read all runs of a comparison, which have to be finished.

    Args:
        definition: what was compared.
        folder: with the runs.
        rules: metrics of the rules in the same episodes.
    """
    curves, final, better = {}, {}, {}
    folders: dict[str, list[Path]] = {}
    for variant, _, run in definition.runs(folder):
        folders.setdefault(variant, []).append(run)
    for variant, runs in folders.items():
        curves[variant] = _curves([run / CURVE_FILE for run in runs])
        judged = [json.loads((run / EVALUATION_FILE).read_text()) for run in runs]
        better = {metric: judged[0]["metrics"][metric]["better"] for metric in METRICS}
        means = [next(iter(each["policies"].values())) for each in judged]
        final[variant] = {metric: np.array([_number(each[metric]) for each in means]) for metric in METRICS}
    return Figures(
        curves=curves,
        final=final,
        intervals={
            name: dict(zip(METRICS, mean_intervals(np.stack(list(values.values()))), strict=True))
            for name, values in final.items()
        },
        needed=steps_needed(curves),
        seconds={name: each.seconds[-1] for name, each in curves.items()},
        comparisons=correct(
            [
                comparison
                for one, other in definition.compared()
                for comparison in compare_metrics(
                    one,
                    other,
                    math.nan,
                    METRICS,
                    np.stack(list(final[one].values())),
                    np.stack(list(final[other].values())),
                    [better[metric] == "lower" for metric in METRICS],
                )
            ]
        ),
        better=better,
        rules={name: {metric: _number(found[metric]) for metric in METRICS} for name, found in rules.items()},
    )


def _curves(files: list[Path]) -> Curves:
    looks = [[point for point in read_curve(file) if not math.isnan(point.held_out_wait_seconds)] for file in files]
    shared = sorted(set.intersection(*({point.steps for point in each} for each in looks)))
    found = [{point.steps: point for point in each} for each in looks]
    waits = np.array([[each[step].held_out_wait_seconds for each in found] for step in shared])
    seconds = np.array([[each[step].seconds for each in found] for step in shared])
    return Curves(np.array(shared, np.float64), seconds, waits, mean_intervals(waits))


def steps_needed(curves: Mapping[str, Curves]) -> dict[str, FloatArray]:
    """By variant, the decisions until each seed's run had come 90 % of the way to the best; infinite for never.

    The way begins at the wait of an untrained network, the mean over the variants that were looked at before their
    first update, and ends at the lowest that any variant's run of the same seed ever reached.
    """
    untrained = np.mean([each.waits[0] for each in curves.values() if each.steps[0] == 0], axis=0)
    best = np.min([each.waits.min(axis=0) for each in curves.values()], axis=0)
    wanted = untrained - ENOUGH * (untrained - best)
    return {
        name: np.where(
            (each.waits <= wanted).any(axis=0), each.steps[np.argmax(each.waits <= wanted, axis=0)], math.inf
        )
        for name, each in curves.items()
    }


def _plain(content: Any) -> Any:
    if isinstance(content, np.ndarray):
        return _plain(content.tolist())
    if isinstance(content, dict):
        return {key: _plain(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_plain(value) for value in content]
    if isinstance(content, float):
        return float(f"{content:.6g}") if math.isfinite(content) else None
    return content


def _number(content: float | None) -> float:
    """A figure that was read back from JSON, where what does not exist is null."""
    return math.nan if content is None else content
