"""What past runs left in their folders: the learning curve, the evaluation, the report, the policy."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec

from training.evaluation.curve import CurvePoint
from training.evaluation.filling import METRIC as ALLOCATED
from training.recorder import CURVE_FILE, read_curve

EVALUATION_FILE, REPORT_FILE, POLICY_FILE = "evaluation.json", "report.html", "policy.onnx"
WAIT = "mean_wait_seconds"
NOTHING = "\N{EN DASH}"
Means = dict[str, dict[str, float | None]]
"""By policy and metric; None where an episode had none."""


class PastComparison(msgspec.Struct, frozen=True):
    """A judged policy against another one, in one metric.

    Attributes:
        policy: the judged one.
        baseline: the other.
        metric: its key.
        load: offered load; None where clusters were filled.
        difference: of the means, in the metric's unit.
        relative_difference: share of the baseline's mean; None where clusters were filled.
        low: lower end of the 95 % interval, of the relative difference where there is one, else of the difference.
        high: upper end.
    """

    policy: str
    baseline: str
    metric: str
    load: float | None = None
    difference: float | None = None
    relative_difference: float | None = None
    low: float | None = None
    high: float | None = None


class PastEvaluation(msgspec.Struct, frozen=True):
    """What evaluation.json is read for.

    Attributes:
        policies: means over all episodes.
        comparisons: in all metrics.
        policies_by_load: means by load; empty where clusters were filled (`training.evaluation.filling`).
    """

    policies: Means
    comparisons: list[PastComparison]
    policies_by_load: dict[float, Means] = {}


@dataclass(frozen=True)
class PastRun:
    """A folder that holds at least one of a learning curve and an evaluation.

    Attributes:
        name: the folder, within that of the runs.
        folder: where it is.
        modified: when something was last written there, Unix seconds.
    """

    name: str
    folder: Path
    modified: float

    def curve(self) -> list[CurvePoint]:
        """The learning curve; empty where there is none.

        Raises:
            ValueError: the file does not hold one; the message names it and what is wrong.
        """
        file = self.folder / CURVE_FILE
        return read_curve(file) if file.is_file() else []

    def evaluation(self) -> PastEvaluation | None:
        """evaluation.json; None where there is none.

        Raises:
            ValueError: the file holds no evaluation; the message names it and what is wrong.
        """
        file = self.folder / EVALUATION_FILE
        if not file.is_file():
            return None
        try:
            found = msgspec.json.decode(file.read_bytes(), type=PastEvaluation)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{file} holds no evaluation: {error}") from error
        if not found.policies_by_load and not any(ALLOCATED in means for means in found.policies.values()):
            raise ValueError(f"{file} holds no evaluation: neither policies_by_load nor {ALLOCATED} of a policy")
        return found

    def file(self, name: str) -> Path | None:
        """A file of the run, None where it has none of this name."""
        return self.folder / name if (self.folder / name).is_file() else None


def past_runs(folder: Path) -> list[PastRun]:
    """The runs in a folder, those of sweeps and comparisons included, the latest first."""
    files = [file for name in (CURVE_FILE, EVALUATION_FILE) for file in folder.glob(f"**/{name}")]
    latest: dict[Path, float] = {}
    for file in files:
        latest[file.parent] = max(latest.get(file.parent, 0.0), file.stat().st_mtime)
    found = [PastRun(str(each.relative_to(folder)), each, modified) for each, modified in latest.items()]
    return sorted(found, key=lambda run: (-run.modified, run.name))


class Shown(NamedTuple):
    """A table for people: the titles of its columns, and rows of as many cells."""

    titles: tuple[str, ...]
    rows: list[tuple[str, ...]]


def shown(evaluation: PastEvaluation) -> Shown:
    """What the policies did, and each judged one's difference from them, under its name."""
    if evaluation.policies_by_load:
        return Shown(("load", "policy", "mean wait, s", "against it"), waits(evaluation))
    return Shown(("policy", "GPUs allocated, %", "against it"), allocations(evaluation))


def waits(evaluation: PastEvaluation) -> list[tuple[str, ...]]:
    """Rows: load, policy, its mean wait in seconds, and a judged policy's relative difference from it.

    Args:
        evaluation: one by loads; a difference without an interval is shown as a dash.
    """
    table = []
    for load, means in evaluation.policies_by_load.items():
        for policy, metrics in means.items():
            compared = [
                _difference(entry, entry.relative_difference, 100, " %", 0)
                for entry in evaluation.comparisons
                if (entry.metric, entry.load, entry.baseline) == (WAIT, load, policy)
            ]
            table += _rows((f"{load:g}", policy, _figure(metrics.get(WAIT), 1)), compared)
    return table


def allocations(evaluation: PastEvaluation) -> list[tuple[str, ...]]:
    """Rows: policy, the share of the GPUs that it gets allocated in %, and a judged policy's difference in points.

    Args:
        evaluation: one of filling; a difference without an interval is shown as a dash.
    """
    table = []
    for policy, metrics in evaluation.policies.items():
        compared = [
            _difference(entry, entry.difference, 1, "", 1)
            for entry in evaluation.comparisons
            if (entry.metric, entry.baseline) == (ALLOCATED, policy)
        ]
        table += _rows((policy, _figure(metrics.get(ALLOCATED), 1)), compared)
    return table


def _rows(first: tuple[str, ...], compared: list[str]) -> list[tuple[str, ...]]:
    """The policy's row with the first comparison, and one for each other."""
    further = [("",) * len(first) + (each,) for each in compared[1:]]
    return [(*first, compared[0] if compared else NOTHING), *further]


def _figure(value: float | None, decimals: int) -> str:
    return NOTHING if value is None else f"{value:,.{decimals}f}"


def _difference(entry: PastComparison, difference: float | None, scale: float, unit: str, decimals: int) -> str:
    if difference is None or entry.low is None or entry.high is None:
        return f"{entry.policy} {NOTHING}"
    ends = (difference, entry.low, entry.high)
    middle, low, high = (f"{scale * end:+.{decimals}f}".replace("-", "\N{MINUS SIGN}") for end in ends)
    return f"{entry.policy} {middle}{unit} [{low}, {high}]"
