"""Who follows a training: progress, learning curve, checkpoints, and the best network so far."""

import csv
import io
import math
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from extender.whole_file import put_whole
from training import checkpoint
from training.algorithms.learner import Episode, Learner
from training.config import Config
from training.evaluation.curve import CurvePoint
from training.held_out import HeldOut, Look
from training.progress import Tracker

RECENT_EPISODES = 100
CURVE_POINTS = 500  # at most so many, however often an algorithm updates
CURVE_FILE = "learning_curve.csv"
FIRST_COLUMNS = 4  # that every learning curve has; others came later
SHOWN_CHARACTERS = 60


@dataclass(frozen=True)
class Best:
    """The network that did best in the held-out episodes.

    Attributes:
        timesteps: decisions that it was trained on.
        look: how well it did.
        weights: its `state_dict`.
    """

    timesteps: int
    look: Look
    weights: dict[str, torch.Tensor]


class Recorder:
    """Follows the training (`learner.Follower`).

    Args:
        config: of the run.
        folder: of the run.
        learner: that is followed.
        workload: name of what it learns on.
        tracker: shows progress.
        held_out: the episodes to look at; None for a learner that chooses its best network itself.

    Attributes:
        curve: the learning curve so far.
        best: the best network so far; None if nobody looked.
    """

    def __init__(
        self, config: Config, folder: Path, learner: Learner, workload: str, tracker: Tracker, held_out: HeldOut | None
    ) -> None:
        self.curve: list[CurvePoint] = []
        self._config, self._folder, self._learner = config, folder, learner
        self._workload, self._tracker, self._held_out = workload, tracker, held_out
        self._recent: deque[Episode] = deque(maxlen=RECENT_EPISODES)
        self._started = time.monotonic()
        self._saved: int | None = None
        self._looked: int | None = None
        self.best: Best | None = None

    def restore(self, progress: Mapping[str, Any]) -> None:
        """Go on with the curve of an interrupted run."""
        self.curve = [CurvePoint(int(steps), *figures) for steps, *figures in progress["curve"]]
        self._recent.extend(Episode(*figures) for figures in progress["recent"])
        self._started -= progress["seconds"]
        self._looked = progress["looked"]
        if progress["best"] is not None:
            steps, figures, weights = progress["best"]
            self.best = Best(steps, Look(*figures), dict(weights))

    def between_updates(self) -> None:
        """Look how the network does if it is time, and save a checkpoint if the next moment for it may be too late."""
        training, timesteps = self._config.training, self._learner.timesteps
        interval = training.held_out_timesteps
        looking = self._held_out is not None and (
            self._looked is None or timesteps // interval > self._looked // interval
        )
        if looking:
            self._look()
        next_moment = self._config.timesteps_between_updates
        if self._saved is None or timesteps + next_moment - self._saved > training.checkpoint_timesteps:
            self.save()
        if looking:
            self._write_curve()

    def save(self) -> None:
        """Write a checkpoint of this moment, which has to be one between two updates."""
        best = self.best and [self.best.timesteps, list(astuple(self.best.look)), self.best.weights]
        progress = {
            "curve": [list(astuple(point)) for point in self.curve],
            "recent": [list(episode) for episode in self._recent],
            "seconds": self._seconds,
            "looked": self._looked,
            "best": best,
        }
        checkpoint.save(self._folder, self._learner.state(), progress, self._config.digest(), self._workload)
        self._saved = self._learner.timesteps

    def stepped(self, finished: Sequence[Episode]) -> None:
        """Show how it goes."""
        self._recent.extend(finished)
        gain = f"return {self._mean('gain'):.2f}, " if self._recent else ""
        if self.best is not None:
            gain += f"best held-out wait {self.best.look.mean_wait_seconds:.1f} s, "
        timesteps = self._learner.timesteps
        self._tracker.update(timesteps, f"{gain}{timesteps / max(self._seconds, 1e-9):,.0f} steps/s")

    def collected(self) -> None:
        """Add a point to the curve, unless the last one is near."""
        timesteps, last = self._learner.timesteps, self.curve[-1].steps if self.curve else 0
        looked = self._learner.held_out
        near = timesteps - last < self._config.training.total_timesteps / CURVE_POINTS
        if not self._recent or (near and looked is None):
            return
        point = self._point()
        if looked is not None:
            point = replace(point, held_out_return=looked.gain, held_out_wait_seconds=looked.mean_wait_seconds)
        self.curve.append(point)
        self._log(point)
        self._write_curve()

    def finish(self) -> None:
        """The training is over: look at its last network, and save."""
        if self._held_out is not None and self._looked != self._learner.timesteps:
            self._look()
        self.save()
        self._write_curve()

    def _look(self) -> None:
        assert self._held_out is not None
        timesteps, look = self._learner.timesteps, self._held_out.look(self._learner.network)
        figures = {
            "held_out_return": look.gain,
            "held_out_wait_seconds": look.mean_wait_seconds,
            "held_out_violations": look.violations,
        }
        if self.curve and self.curve[-1].steps == timesteps:
            self.curve[-1] = replace(self.curve[-1], **figures)
        else:
            self.curve.append(replace(self._point(), **figures))
        limit = self._config.env.violation_limit
        if self.best is None or look.rank(limit) > self.best.look.rank(limit):
            weights = {name: tensor.clone() for name, tensor in self._learner.network.state_dict().items()}
            self.best = Best(timesteps, look, weights)
            checkpoint.save_best(self._folder, timesteps, figures, weights, self._config.digest())
        self._looked = timesteps
        self._log(self.curve[-1])

    def _point(self) -> CurvePoint:
        return CurvePoint(
            self._learner.timesteps,
            self._seconds,
            self._mean("gain"),
            self._mean("mean_wait_seconds"),
            self._mean("violations"),
            self._recent[-1].violation_multiplier if self._recent else math.nan,
        )

    def _log(self, point: CurvePoint) -> None:
        logger = self._learner.logger
        for entry in fields(point):
            value = getattr(point, entry.name)
            if entry.name not in ("steps", "seconds") and not math.isnan(value):
                part = entry.name.removeprefix("held_out_")
                logger.record(f"{'held_out' if part != entry.name else 'rollout'}/{part}", value)
        logger.record("time/steps_per_second", point.steps / max(self._seconds, 1e-9))
        logger.dump(point.steps)

    def _write_curve(self) -> None:
        write_curve(self._folder / CURVE_FILE, self.curve)

    def _mean(self, figure: str) -> float:
        return float(np.mean([getattr(episode, figure) for episode in self._recent])) if self._recent else math.nan

    @property
    def _seconds(self) -> float:
        return time.monotonic() - self._started


def write_curve(path: Path, curve: list[CurvePoint]) -> None:
    """Write the learning curve as CSV, what was not measured empty; the file appears whole or not at all."""
    table = io.StringIO(newline="")
    writer = csv.writer(table)
    writer.writerow(entry.name for entry in fields(CurvePoint))
    writer.writerows(["" if math.isnan(figure) else figure for figure in astuple(point)] for point in curve)
    put_whole(path, table.getvalue().encode())


def read_curve(path: Path) -> list[CurvePoint]:
    """Read what `write_curve` wrote.

    Raises:
        ValueError: the file does not hold a whole learning curve; the message names it, the line, and what is wrong.
    """
    known = [entry.name for entry in fields(CurvePoint)]
    try:
        text = path.read_text()
        heading, *rows = list(csv.reader(text.splitlines())) or [[]]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is no learning curve: {error}") from error
    if len(heading) < FIRST_COLUMNS or heading != known[: len(heading)]:
        found = ",".join(heading)[:SHOWN_CHARACTERS]
        raise ValueError(f"{path} is no learning curve: it begins with {found!r}, expected {','.join(known)}")
    if not text.endswith("\n"):
        raise ValueError(f"{path}, line {len(rows) + 1}: the file is cut off within it")
    return [_point_of(path, line, row, len(heading)) for line, row in enumerate(rows, 2)]


def _point_of(path: Path, line: int, row: list[str], columns: int) -> CurvePoint:
    if len(row) != columns:
        raise ValueError(f"{path}, line {line}: {len(row)} figures, expected {columns}")
    try:
        steps, *figures = (float(cell) if cell else math.nan for cell in row)
        return CurvePoint(int(steps), *figures)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{path}, line {line}: {error}") from error
