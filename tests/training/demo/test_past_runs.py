"""Runs are found at any depth, the latest first, and what they left is read as it was written."""

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from training.demo import figures
from training.demo.past_runs import EVALUATION_FILE, PastEvaluation, past_runs, shown
from training.evaluation.curve import CurvePoint
from training.evaluation.filling import FillingEvaluation
from training.recorder import CURVE_FILE, write_curve

DASH, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"


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


def evaluated(runs: Path, content: Any) -> PastEvaluation:
    run = past_runs(runs)[0]
    (run.folder / EVALUATION_FILE).write_text(json.dumps(content))
    evaluation = run.evaluation()
    assert evaluation is not None
    return evaluation


def compared(policy: str, difference: float) -> dict[str, Any]:
    entry = {"metric": "mean_wait_seconds", "load": 0.8, "policy": policy, "baseline": "best-fit"}
    return entry | {"relative_difference": difference, "low": difference - 0.25, "high": difference + 0.35}


def by_load(*comparisons: dict[str, Any]) -> dict[str, Any]:
    means = {"ppo": {"mean_wait_seconds": 7.9}, "best-fit": {"mean_wait_seconds": None}}
    return {"policies": means, "policies_by_load": {"0.8": means}, "comparisons": list(comparisons)}


def test_waits_are_shown_with_the_difference_and_its_interval(runs: Path) -> None:
    assert shown(evaluated(runs, by_load(compared("ppo", -0.25)))).rows == [
        ("0.8", "ppo", "7.9", DASH),
        ("0.8", "best-fit", DASH, f"ppo {MINUS}25 % [{MINUS}50, +10]"),
    ]


def test_each_judged_policy_has_its_own_difference_under_its_name(runs: Path) -> None:
    evaluation = evaluated(runs, by_load(compared("ppo", -0.25), compared("fgd", 0.5)))
    assert shown(evaluation).rows[1:] == [
        ("0.8", "best-fit", DASH, f"ppo {MINUS}25 % [{MINUS}50, +10]"),
        ("", "", "", "fgd +50 % [+25, +85]"),
    ]


def test_a_packing_run_shows_what_it_allocated(runs: Path) -> None:
    allocated = {"es": np.array([92.0, 94.0, 93.0]), "best-fit": np.array([90.0, 91.0, 90.5])}
    found = shown(evaluated(runs, FillingEvaluation((1, 2, 3), allocated, ("es",)).to_json()))
    assert found.titles == ("policy", "GPUs allocated, %", "against it")
    assert found.rows[0] == ("es", "93.0", DASH)
    assert found.rows[1][:2] == ("best-fit", "90.5")
    assert found.rows[1][2].startswith("es +2.5 [+")


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        ("[]", "Expected `object`, got `array`"),
        ("{", "truncated"),
        ("{}", "missing required field `policies`"),
        ('{"policies": {}, "comparisons": []}', "neither policies_by_load nor gpu_allocated_percent"),
        ('{"policies": {}, "comparisons": [], "policies_by_load": {"0.8": []}}', "policies_by_load"),
    ],
)
def test_what_is_no_evaluation_is_refused_with_the_files_name(runs: Path, content: str, wrong: str) -> None:
    run = past_runs(runs)[0]
    file = run.folder / EVALUATION_FILE
    file.write_text(content)
    with pytest.raises(ValueError, match=f"{re.escape(str(file))} holds no evaluation: .*{wrong}"):
        run.evaluation()


def test_a_run_has_the_files_that_are_there(runs: Path) -> None:
    run = past_runs(runs)[0]
    assert run.file(CURVE_FILE) == runs / "new" / CURVE_FILE
    assert run.file("report.html") is None
    assert run.evaluation() is None
