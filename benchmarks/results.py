"""The form of every benchmark's results: a table for the reader, and a list in `benchmarks/results/<name>.json`.

An entry is `{case, metric, value, unit, baseline, ratio}`: what was measured, the number, the number that it is
compared with (null where there is none), and value / baseline.
"""

import json
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from extender.whole_file import put_whole

FOLDER = Path(__file__).parent / "results"
INTERRUPTED = 130


@dataclass(frozen=True)
class Result:
    """One number of a benchmark; `baseline` is what it is compared with, in the same unit."""

    case: str
    metric: str
    value: float
    unit: str
    baseline: float | None = None

    def __post_init__(self) -> None:
        for number in (self.value, self.baseline):
            if number is not None and not math.isfinite(number):
                raise ValueError(f"{self.case}, {self.metric}: {number} is no result")

    @property
    def ratio(self) -> float | None:
        """Value over baseline; None where there is no baseline to divide by.

        Example:
            >>> Result("episode", "time", 2.0, "s", baseline=8.0).ratio
            0.25
        """
        return self.value / self.baseline if self.baseline else None

    def as_json(self) -> dict[str, str | float | None]:
        """The entry in the file."""
        return {
            "case": self.case,
            "metric": self.metric,
            "value": self.value,
            "unit": self.unit,
            "baseline": self.baseline,
            "ratio": self.ratio,
        }


@contextmanager
def unless_interrupted(name: str) -> Iterator[None]:
    """End the benchmark of this name with a line and exit code 130 where Ctrl-C ends the body of the `with`."""
    try:
        yield
    except KeyboardInterrupt:
        print(f"{name}: interrupted, nothing was written", file=sys.stderr)
        sys.exit(INTERRUPTED)


def table_of(title: str, results: Sequence[Result]) -> Table:
    """The results, a row each; a case is named in its first row only."""
    table = Table(title=title)
    for heading in ("case", "metric", "value", "unit", "baseline", "ratio"):
        table.add_column(heading, justify="right" if heading in ("value", "baseline", "ratio") else "left")
    before = None
    for result in results:
        table.add_row(
            result.case if result.case != before else "",
            result.metric,
            _short(result.value),
            result.unit,
            _short(result.baseline),
            _short(result.ratio),
        )
        before = result.case
    return table


def _short(number: float | None) -> str:
    if number is None:
        return ""
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.3g}"


def publish(name: str, title: str, results: Sequence[Result], console: Console, folder: Path = FOLDER) -> Path:
    """Print the table and write the file, which appears whole or not at all.

    Args:
        name: of the file, without its ending.
        title: of the table.
        results: all of them.
        console: where the table goes.
        folder: where the file goes.

    Returns:
        the file.
    """
    console.print(table_of(title, results))
    path = folder / f"{name}.json"
    text = json.dumps([result.as_json() for result in results], indent=1, allow_nan=False) + "\n"
    put_whole(path, text.encode())
    return path
