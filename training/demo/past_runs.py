"""What past runs left in their folders: the learning curve, the evaluation, the report, the policy."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.evaluation.plots import CurvePoint
from training.recorder import CURVE_FILE, read_curve

EVALUATION_FILE, REPORT_FILE, POLICY_FILE = "evaluation.json", "report.html", "policy.onnx"
WAIT = "mean_wait_seconds"
NOTHING = "\N{EN DASH}"


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
            ValueError: the file does not hold one.
        """
        file = self.folder / CURVE_FILE
        return read_curve(file) if file.is_file() else []

    def evaluation(self) -> dict[str, Any] | None:
        """evaluation.json; None where there is none.

        Raises:
            ValueError: the file is no JSON.
        """
        file = self.folder / EVALUATION_FILE
        if not file.is_file():
            return None
        content: dict[str, Any] = json.loads(file.read_text())
        return content

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


def waits(evaluation: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """Rows of a table for people: load, policy, its mean wait in seconds, and the run's policy against it.

    Args:
        evaluation: content of evaluation.json; a difference without an interval is shown as a dash.
    """
    compared = {
        (entry["load"], entry["baseline"]): entry for entry in evaluation["comparisons"] if entry["metric"] == WAIT
    }
    table = []
    for load, means in evaluation["policies_by_load"].items():
        for policy, metrics in means.items():
            wait, entry = metrics[WAIT], compared.get((float(load), policy))
            against = NOTHING
            if entry is not None and None not in (entry["relative_difference"], entry["low"], entry["high"]):
                shares = [100 * entry[key] for key in ("relative_difference", "low", "high")]
                difference, low, high = (f"{share:+.0f}".replace("-", "\N{MINUS SIGN}") for share in shares)
                against = f"{difference} % [{low}, {high}]"
            table.append((load, policy, NOTHING if wait is None else f"{wait:,.1f}", against))
    return table
