"""The command: once as a user types it, then warm (`warm_start`); every run is a real one, only small."""

import json
import math
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import onnx
import pytest
import torch
from onnx import numpy_helper
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from extender.policies.onnx import load_policy
from tests.training.warm_start import Program, WarmStart
from training.export import weights_digest
from training.one_run import PODS_COUNTED
from training.recorder import read_curve
from training.workloads.distribution import FEATURES

LIMIT_SECONDS = 600.0
Run = Callable[..., "subprocess.CompletedProcess[str]"]
SMALL = [
    "workload.source=synthetic",
    "training.total_timesteps=3072",
    "training.checkpoint_timesteps=512",
    "env.nodes=6",
    "env.pods=60",
    "env.parallel=8",
    "env.nodes_lowest=4",
    "env.remixes=3",
    "env.violation_limit=0.01",
    "algorithm.n_steps=32",
    "algorithm.batch_size=64",
    "training.held_out_timesteps=1000",
    "training.held_out_episodes=4",
    "evaluation.nodes=8",
    "evaluation.pods=120",
    "evaluation.seeds=2",
    "evaluation.loads=[0.8]",
]


@pytest.fixture
def run(warm: WarmStart) -> Run:
    """Runs the command in a folder with these arguments."""
    return partial(warm.run, "training.run")


def kill_at(process: Program, curve: Path, points: int) -> None:
    """Kill a run when its learning curve has so many lines."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while not (curve.is_file() and len(curve.read_text().splitlines()) >= points):
        assert process.poll() is None, "the run ended before it could be interrupted"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()


def weights(policy_file: Path) -> str:
    return weights_digest(onnx.load(policy_file))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A finished run, and what it printed."""
    folder = tmp_path_factory.mktemp("finished")
    command = [sys.executable, "-m", "training.run", "name=whole", "seed=7", *SMALL]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False)
    assert result.returncode == 0, result.stderr
    return folder / "runs" / "whole", result.stdout


def test_a_run_leaves_everything_in_its_folder(finished: tuple[Path, str]) -> None:
    folder, _ = finished
    names = {path.name for path in folder.iterdir()}
    assert names == {
        *("config.yaml", "checkpoint.pt", "best.pt", "learning_curve.csv", "tensorboard"),
        *("policy.onnx", "evaluation.json", "report.html"),
    }
    content = json.loads((folder / "evaluation.json").read_text())
    metadata = load_policy(folder / "policy.onnx").metadata
    assert metadata.evaluation == content["policies"]
    assert metadata.trained_on is not None
    assert tuple(metadata.trained_on) == FEATURES
    assert {known.pods >= PODS_COUNTED for name, known in metadata.trained_on.items() if name == "cpu"} == {True}
    assert set(content["policies"]) == {"ppo", "random", "kube-scheduler-default", "most-allocated", "best-fit"}


def test_the_learning_curve_has_rollouts_held_out_episodes_and_the_learned_price(finished: tuple[Path, str]) -> None:
    points = read_curve(finished[0] / "learning_curve.csv")
    assert [point.steps for point in points if not math.isnan(point.held_out_wait_seconds)] == [0, 1024, 2048, 3072]
    assert math.isnan(points[0].mean_return)
    assert all(point.violation_multiplier >= 0 for point in points[1:])
    events = EventAccumulator(str(finished[0] / "tensorboard")).Reload()
    assert {
        *("rollout/mean_return", "rollout/violation_multiplier", "rollout/violations", "held_out/wait_seconds"),
        *("train/loss", "time/steps_per_second", "evaluation/mean_wait_seconds_at_0.8"),
    } <= set(events.Tags()["scalars"])
    looks = [event.value for event in events.Scalars("held_out/wait_seconds")]
    assert looks == pytest.approx([point.held_out_wait_seconds for point in points if point.held_out_wait_seconds >= 0])


def test_the_network_that_did_best_is_exported_and_said_to_be(finished: tuple[Path, str]) -> None:
    folder, output = finished
    best = torch.load(folder / "best.pt", weights_only=True)
    assert f"the best network, after {best['timesteps']:,} steps" in output
    looks = [point for point in read_curve(folder / "learning_curve.csv") if point.held_out_return > -math.inf]
    limit = 0.01
    ranks = {each.steps: (-max(0.0, each.held_out_violations - limit), each.held_out_return) for each in looks}
    assert best["timesteps"] == max(ranks, key=lambda steps: ranks[steps])
    exported = {
        tuple(numpy_helper.to_array(each).ravel()) for each in onnx.load(folder / "policy.onnx").graph.initializer
    }
    assert tuple(best["network"]["score.weight"].numpy().ravel()) in exported


def test_a_run_says_which_workload_it_used_and_prints_table_and_ranking(finished: tuple[Path, str]) -> None:
    _, output = finished
    assert "built-in generator calibrated on openb's figures" in output
    assert "LeastAllocated + BalancedAllocation" in output
    assert "asked the extender about pod-" in output
    assert "  10  node-" in output


@pytest.mark.parametrize(
    ("checkpoint_timesteps", "points"),
    [(512, 4), (1_000_000, 2)],
    ids=["between-checkpoints", "before-the-second-checkpoint"],
)
def test_a_run_killed_at_any_moment_resumes_to_the_uninterrupted_result(
    run: Run, warm: WarmStart, finished: tuple[Path, str], tmp_path: Path, checkpoint_timesteps: int, points: int
) -> None:
    overrides = ["name=cut", "seed=7", *SMALL, "ask=false", f"training.checkpoint_timesteps={checkpoint_timesteps}"]
    process = warm.begin("training.run", tmp_path, *overrides)
    kill_at(process, tmp_path / "runs" / "cut" / "learning_curve.csv", points)
    assert not (tmp_path / "runs" / "cut" / "policy.onnx").exists()

    resumed = run(tmp_path, "training.resume=runs/cut")
    assert resumed.returncode == 0, resumed.stderr
    assert ("resuming at 0 steps" in resumed.stdout) == (checkpoint_timesteps > 100_000)
    assert "resuming at" in resumed.stdout
    assert weights(tmp_path / "runs" / "cut" / "policy.onnx") == weights(finished[0] / "policy.onnx")


ES_SETTINGS = "algorithm:\n  name: es\n  sigma: 0.1\n"
FROM_REPLAY = [
    "algorithm.learning_starts=256",
    "algorithm.batch_size=32",
    "algorithm.capacity=1024",
    "algorithm.gradient_steps=1",
    "algorithm.train_interval=4",
]
OTHER_ALGORITHMS = {
    "dqn": ["algorithm=dqn", *FROM_REPLAY],
    "sac": ["algorithm=sac", *FROM_REPLAY],
    "es": ["algorithm=es", "algorithm.pairs=2", "algorithm.held_out_interval=2"],
}


@pytest.mark.parametrize("name", OTHER_ALGORITHMS)
def test_every_algorithm_trains_a_policy_and_survives_being_killed(
    run: Run, warm: WarmStart, name: str, tmp_path: Path
) -> None:
    left_out = ("algorithm.", "env.violation_limit") if name == "es" else ("algorithm.",)
    small = [entry for entry in SMALL if not entry.startswith(left_out)]
    overrides = [*OTHER_ALGORITHMS[name], "seed=7", *small, "ask=false", "evaluation.baselines=[random]"]
    whole = run(tmp_path, "name=whole", *overrides)
    assert whole.returncode == 0, whole.stderr
    content = json.loads((tmp_path / "runs" / "whole" / "evaluation.json").read_text())
    assert set(content["policies"]) == {name, "random"}

    process = warm.begin("training.run", tmp_path, "name=cut", *overrides)
    kill_at(process, tmp_path / "runs" / "cut" / "learning_curve.csv", points=4)
    resumed = run(tmp_path, "training.resume=runs/cut")
    assert resumed.returncode == 0, resumed.stderr
    assert "resuming at" in resumed.stdout
    files = [tmp_path / "runs" / folder / "policy.onnx" for folder in ("cut", "whole")]
    assert weights(files[0]) == weights(files[1])


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("algorithm.discount=0.5", "made with another configuration"),
        ("seed=99", "made with another configuration"),
        ("experiment=e2e", "a resumed run keeps the settings of"),
    ],
)
def test_resuming_with_other_settings_is_refused(
    run: Run, finished: tuple[Path, str], override: str, complaint: str
) -> None:
    folder, _ = finished
    result = run(folder.parents[1], f"training.resume=runs/{folder.name}", override)
    assert result.returncode == 2
    assert complaint in result.stderr


def test_a_key_of_the_resumed_runs_own_algorithm_is_known(run: Run, finished: tuple[Path, str], tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "other"
    folder.mkdir(parents=True)
    settings = (finished[0] / "config.yaml").read_text()
    (folder / "config.yaml").write_text(settings[: settings.index("algorithm:")] + ES_SETTINGS)
    known = run(tmp_path, "training.resume=runs/other", "algorithm.sigma=0.3")
    assert (known.returncode, "no such checkpoint" in known.stderr) == (2, True)
    unknown = run(tmp_path, "training.resume=runs/other", "algorithm.clip_range=0.3")
    assert "algorithm.clip_range: no such key. Allowed here: algorithm.name, algorithm.learning_rate" in unknown.stderr


def test_resuming_what_is_no_run_is_refused(run: Run, tmp_path: Path) -> None:
    result = run(tmp_path, "training.resume=runs/none")
    assert result.returncode == 2
    assert "no such file; training.resume wants the folder of an interrupted run" in result.stderr


def test_a_refused_configuration_exits_2_and_leaves_nothing(run: Run, tmp_path: Path) -> None:
    result = run(tmp_path, "env.nodes=1", "name=refused")
    assert result.returncode == 2
    assert "env.nodes=1: input should be greater than or equal to 2" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "overrides",
    [
        ["workload.source=csv", "workload.path=missing"],
        ["workload.source=synthetic", "scheduler.scoring.resources=[{name: fpga}]"],
        ["workload.source=synthetic", "algorithm=es", "network.kind=weighing", "training.start=missing.onnx"],
        ["env.nodes=1"],
    ],
)
def test_a_refused_run_leaves_an_earlier_one_of_its_name_where_it_is(
    run: Run, tmp_path: Path, overrides: list[str]
) -> None:
    earlier = tmp_path / "runs" / "mine" / "policy.onnx"
    earlier.parent.mkdir(parents=True)
    earlier.touch()
    result = run(tmp_path, "name=mine", *overrides)
    assert (result.returncode, result.stdout) == (2, "")
    assert list((tmp_path / "runs").rglob("*")) == [earlier.parent, earlier]


def test_an_earlier_run_of_the_same_name_is_kept(run: Run, finished: tuple[Path, str]) -> None:
    folder, _ = finished
    before = (folder / "policy.onnx").read_bytes()
    result = run(folder.parents[1], "name=whole", "seed=8", *SMALL, "ask=false")
    assert result.returncode == 0, result.stderr
    assert (folder.with_name("whole.1") / "policy.onnx").read_bytes() == before
