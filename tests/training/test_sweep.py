"""Sweeps, warm (`warm_start`); every run is a real one, only small."""

import csv
import shutil
import subprocess
from pathlib import Path

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from tests.training.test_run import SMALL
from tests.training.warm_start import WarmStart
from training.config import ConfigError
from training.sweep import parsed

TINY = [
    *(entry for entry in SMALL if "total_timesteps" not in entry),
    *("training.total_timesteps=512", "training.held_out_timesteps=256", "evaluation.seeds=1", "ask=false"),
    *("evaluation.baselines=[random]", "training.threads=1"),
]


def sweep(warm: WarmStart, folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return warm.run("training.run", folder, "-m", *arguments, *TINY)


def trials(folder: Path) -> list[dict[str, str]]:
    with (folder / "trials.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_what_is_searched_is_told_from_what_is_set() -> None:
    common, space = parsed(
        [
            "env.nodes=8",
            "seed=range(3)",
            "algorithm=ppo,dqn",
            "a.b=tag(log,interval(1e-4,1e-2))",
            "c=int(interval(1,9))",
        ]
    )
    assert common == ["env.nodes=8"]
    assert space == {
        "seed": CategoricalDistribution(("0", "1", "2")),
        "algorithm": CategoricalDistribution(("ppo", "dqn")),
        "a.b": FloatDistribution(1e-4, 1e-2, log=True),
        "c": IntDistribution(1, 9),
    }


def test_a_sweep_of_one_value_is_refused() -> None:
    with pytest.raises(ConfigError, match="-m wants a key with several values"):
        parsed(["seed=1"])


@pytest.fixture(scope="module")
def seeds(warm: WarmStart, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished sweep over two seeds, two at a time."""
    folder = tmp_path_factory.mktemp("seeds")
    result = sweep(warm, folder, "seed=3,4", "sweep.name=seeds", "sweep.workers=2")
    assert result.returncode == 0, result.stderr
    assert "2 runs of seed, 2 at a time" in result.stdout
    return folder


def test_every_combination_has_a_whole_run_and_a_row(seeds: Path) -> None:
    rows = trials(seeds / "runs" / "seeds")
    assert sorted((row["seed"], row["state"]) for row in rows) == [("3", "complete"), ("4", "complete")]
    gains = [float(row["held_out_return"]) for row in rows]
    assert gains == sorted(gains, reverse=True)
    for row in rows:
        run = seeds / "runs" / "seeds" / row["run"]
        assert {"policy.onnx", "evaluation.json", "log.txt", "result.json"} <= {path.name for path in run.iterdir()}


def test_a_sweep_that_goes_on_runs_only_what_is_missing(warm: WarmStart, seeds: Path, tmp_path: Path) -> None:
    shutil.copytree(seeds / "runs", tmp_path / "runs")
    folder = tmp_path / "runs" / "seeds"
    before = [(folder / run / "policy.onnx").stat().st_mtime_ns for run in ("000", "001")]
    again = sweep(warm, tmp_path, "seed=3,4", "sweep.name=seeds")
    assert again.returncode == 0, again.stderr
    assert [(folder / run / "policy.onnx").stat().st_mtime_ns for run in ("000", "001")] == before
    other = sweep(warm, tmp_path, "seed=3,4,5", "sweep.name=seeds")
    assert other.returncode == 2
    assert "is a sweep with other settings" in other.stderr


def test_an_interval_is_searched(warm: WarmStart, tmp_path: Path) -> None:
    search = ["algorithm.learning_rate=tag(log,interval(1e-4,1e-2))", "seed=0,1", "sweep.trials=2"]
    result = sweep(warm, tmp_path, *search)
    assert result.returncode == 0, result.stderr
    rows = trials(tmp_path / "runs" / "sweep")
    assert len(rows) == 2
    assert all(1e-4 <= float(row["algorithm.learning_rate"]) <= 1e-2 for row in rows)
