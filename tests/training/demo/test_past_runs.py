"""Runs are found at any depth, the latest first, and what they left is read as it was written."""

import json
import os
from pathlib import Path

import pytest

from training.demo import figures
from training.demo.past_runs import past_runs, waits
from training.evaluation.plots import CurvePoint
from training.recorder import CURVE_FILE, write_curve


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for age, name in enumerate(("new", "sweep/seed-1")):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        write_curve(folder / CURVE_FILE, [CurvePoint(100, 1.0, -5.0, 30.0), CurvePoint(200, 2.0, -4.0, 20.0)])
        os.utime(folder / CURVE_FILE, (1000 - age, 1000 - age))
    (tmp_path / "empty").mkdir()
    return tmp_path


def test_the_latest_run_comes_first_and_folders_without_one_are_left_out(runs: Path) -> None:
    assert [run.name for run in past_runs(runs)] == ["new", "sweep/seed-1"]


def test_a_curve_is_read_and_drawn(runs: Path) -> None:
    curve = past_runs(runs)[0].curve()
    figure = figures.learning_curve(curve, waits=True)
    assert list(figure.data[0].y) == [30.0, 20.0]
    assert len(figure.data) == 1  # nothing was held out


def test_waits_are_shown_with_the_difference_and_its_interval(runs: Path) -> None:
    means = {"ppo": {"mean_wait_seconds": 7.9}, "best-fit": {"mean_wait_seconds": None}}
    entry = {"metric": "mean_wait_seconds", "load": 0.8, "baseline": "best-fit"}
    entry |= {"relative_difference": -0.25, "low": -0.5, "high": 0.1}
    content = {"policies_by_load": {"0.8": means}, "comparisons": [entry]}
    run = past_runs(runs)[0]
    (run.folder / "evaluation.json").write_text(json.dumps(content))
    evaluation = run.evaluation()
    assert evaluation is not None
    dash, minus = "\N{EN DASH}", "\N{MINUS SIGN}"
    assert waits(evaluation) == [
        ("0.8", "ppo", "7.9", dash),
        ("0.8", "best-fit", dash, f"{minus}25 % [{minus}50, +10]"),
    ]


def test_a_run_has_the_files_that_are_there(runs: Path) -> None:
    run = past_runs(runs)[0]
    assert run.file(CURVE_FILE) == runs / "new" / CURVE_FILE
    assert run.file("report.html") is None
    assert run.evaluation() is None
