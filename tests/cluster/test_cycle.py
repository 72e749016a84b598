"""The whole cycle on a real control plane, killed in every step that has to do with the cluster, and taken back."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.cycle_cluster import CycleCluster, run_cycle_cluster

pytestmark = pytest.mark.cluster

LIMIT_SECONDS = 300.0
REPLAY = (
    "--namespace default --workload synthetic --nodes 8 --pods 120 --load 0.6 --speed 60 --drain 60000 "
    "--workload-settings longest_seconds=300"
)
TINY = (
    *("record.periods=6", "record.pods_at_least=30", "gate.seeds=2", "gate.pods=100"),
    *("gate.margin=100", "gate.floor_seconds=100000"),  # what is tried here are the ways, not the policy
    *("train.training.total_timesteps=800", "train.env.pods=100", "train.algorithm.pairs=2"),
    *("train.algorithm.workers=1", "train.algorithm.held_out_episodes=1"),
    *("train.evaluation.pods=100", "train.evaluation.seeds=1", "train.evaluation.baselines=[best-fit]"),
    *("shadow.pods=10", "canary.pods=10", "canary.percent=50", "canary.floor_seconds=1000"),
)  # fmt: skip
WITH_THE_CLUSTER = ("record", "shadow", "canary", "activate")


@pytest.fixture(scope="module")
def steered(tools: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CycleCluster]:
    """A cluster whose extender is steered by files."""
    with run_cycle_cluster(tools, tmp_path_factory.mktemp("cycle")) as steered:
        yield steered


def start(steered: CycleCluster, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "training.cycle", *arguments],
        env=steered.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(steered: CycleCluster, *arguments: str) -> tuple[int, str]:
    """Its exit code, and what it said."""
    process = start(steered, *arguments)
    try:
        said, _ = process.communicate(timeout=LIMIT_SECONDS)
    finally:
        process.kill()
    return process.returncode, said


def kill_in(step: str, process: "subprocess.Popen[str]", folder: Path) -> None:
    """Kill a command when a cycle in the folder has begun the step."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while not list(folder.glob(f"*/{step}.begun.json")):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    assert process.stdout is not None
    process.stdout.close()


def record_of(folder: Path, step: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / f"{step}.json").read_text())
    return record


def test_a_cycle_ends_with_another_policy_in_service_whatever_kills_it_and_is_taken_back(
    steered: CycleCluster, tmp_path: Path
) -> None:
    folder = tmp_path / "cycle"
    where = ("--folder", str(tmp_path))
    arguments = ("run", *where, *steered.settings, f"replay={REPLAY}", *TINY)
    incumbent = steered.policy.read_bytes()
    for step in WITH_THE_CLUSTER:
        kill_in(step, start(steered, *arguments), tmp_path)

    code, said = run(steered, *arguments)

    assert code == 0, said
    assert "the extender serves the candidate" in said
    candidate = record_of(folder, "activate")["made"]["policy"]
    assert steered.cluster.extender.policy()["digest"] == candidate
    assert steered.cluster.extender.policy()["candidate"] is None
    assert not steered.candidate.exists()
    assert record_of(folder, "record")["figures"]["pods"] == 120  # and none of the replay that was killed
    assert record_of(folder, "record")["figures"]["speed"] == 60.0
    assert record_of(folder, "shadow")["figures"]["shadowed"] >= 10
    assert record_of(folder, "canary")["figures"]["answered"] >= 10

    code, said = run(steered, "rollback", *where)

    assert code == 0, said
    assert steered.policy.read_bytes() == incumbent
    assert steered.cluster.extender.policy()["digest"] != candidate


def test_make_cycle_that_is_killed_goes_on_with_its_cycle_on_another_cluster(tools: Path, tmp_path: Path) -> None:
    words = ["-m", "tests.cluster.cycle_cluster", "--folder", str(tmp_path), f"replay={REPLAY} --pods 60", *TINY]

    def make_cycle() -> "subprocess.Popen[str]":
        return subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    kill_in("shadow", make_cycle(), tmp_path)
    [folder] = tmp_path.iterdir()
    done = {step: (folder / f"{step}.json").read_bytes() for step in ("record", "fit", "train", "gate")}

    process = make_cycle()
    try:
        said, _ = process.communicate(timeout=LIMIT_SECONDS)
    finally:
        process.kill()
    assert process.returncode == 0, said
    assert f"going on with the cycle {folder.name}" in said
    assert {step: (folder / f"{step}.json").read_bytes() for step in done} == done
    assert record_of(folder, "activate")["verdict"] == "done"
    assert list(tmp_path.iterdir()) == [folder]
    assert list(folder.glob("cluster-*/")) == []  # also of the one that was killed
