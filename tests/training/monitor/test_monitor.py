"""A policy that spreads what should be packed is found out by its decision log, and the extender steps down from it."""

import hashlib
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest

from extender.features import feature_names
from extender.policies.onnx import FeatureHistogram, OnnxPolicy
from extender.telemetry.verdict import read_verdict
from tests.clusters import GIB, Node, typical_of
from tests.extender.cluster.test_watcher import eventually
from tests.extender.objects import cluster_list, extender_args, node, pod
from tests.extender.server.process import serve
from tests.policy_files import RESOURCES, metadata_of, policy_file
from tests.training.monitor.recorded_run import record_run
from tests.training.small_workloads import Pod, workload_of
from training.monitor.__main__ import main
from training.workloads.base import Workload
from training.workloads.distribution import features_of_workloads, histograms

PODS, PERIODS = 900, 9
COLUMNS = np.array(feature_names(RESOURCES))
SPREADS = np.isin(COLUMNS, ["gpu/free-after", "cpu/free-after"]).astype(float)
PACKS = -SPREADS
MIDNIGHT = 1_795_219_200.0  # 2026-11-21


def file_of(weights: np.ndarray, trained_on: dict[str, FeatureHistogram] | None = None) -> bytes:
    return policy_file(weights, properties=metadata_of(trained_on=trained_on).to_properties())


def arriving(seed: int) -> Workload:
    """Pods of one GPU, and some that want a whole node: spread the ones, and the others wait."""
    generator = np.random.default_rng(seed)
    arrival = np.cumsum(generator.exponential(35.0, PODS))
    gpus = np.where(generator.random(PODS) < 0.12, 8, 1)
    return workload_of(
        [Node(96_000, 384 * GIB, (1000,) * 8)] * 8,
        [
            Pod(float(at), float(lasts), int(count) * 1000, int(count) * GIB, int(count), 1000)
            for at, lasts, count in zip(arrival, generator.exponential(600.0, PODS) + 30.0, gpus, strict=True)
        ],
        typical_of((1000, 1, 1000, 0.88), (8000, 8, 1000, 0.12)),
    )


@pytest.fixture(scope="module")
def workload() -> Workload:
    return arriving(seed=3)


class Recorded:
    """A folder with a policy that was served, and the log of it."""

    def __init__(self, folder: Path, workload: Workload, weights: np.ndarray) -> None:
        self.folder, self.policy, self.out = folder / "recorded", folder / "policy.onnx", folder / "out"
        trained_on = histograms(features_of_workloads([arriving(seed=9), arriving(seed=10)]))
        self.policy.write_bytes(file_of(weights, trained_on))
        self.digest = hashlib.sha256(self.policy.read_bytes()).hexdigest()
        self.period = round(float(workload.arrival[-1]) / PERIODS)
        policy = OnnxPolicy("policy", self.policy.read_bytes())
        self.begin = MIDNIGHT + 5000.25
        record_run(self.folder, workload, policy, self.digest, self.begin, 0.75)

    def judge(self, *arguments: str) -> int:
        period = f"--period={self.period}"
        return main(
            [
                *(str(self.folder), f"--policy={self.policy}", "--fallback=best-fit", "--heuristics=first-fit", period),
                *("--out", str(self.out), *arguments),
            ]
        )


@pytest.fixture(scope="module")
def spreading(tmp_path_factory: pytest.TempPathFactory, workload: Workload) -> Recorded:
    return Recorded(tmp_path_factory.mktemp("spreads"), workload, SPREADS)


def test_what_waits_longer_than_the_fallback_is_called_worse_with_figures(
    spreading: Recorded, capsys: pytest.CaptureFixture[str]
) -> None:
    assert spreading.judge("--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found == json.loads((spreading.out / "monitor.json").read_text())
    verdict = found["verdict"]
    assert (verdict["policy"], verdict["fallback"], verdict["worse"]) == (spreading.digest, "best-fit", True)
    assert verdict["reason"].startswith("worse: mean wait +")
    assert verdict["wait_seconds"]["policy"] > 1.05 * verdict["wait_seconds"]["fallback"]
    assert found["regret_seconds"]["low"] > 0
    assert PERIODS - 2 <= len(found["periods"]) == verdict["periods"] <= PERIODS
    assert 0.6 < np.mean([period["answered"] for period in found["periods"]]) < 0.9
    assert "major" not in {each["level"] for each in found["drift"].values()}

    page = (spreading.out / "report.html").read_text()
    assert page.count("<svg") >= 5
    assert "Drift of the workload" in page


def test_what_was_observed_is_what_was_simulated_where_the_cluster_is_the_simulator(
    spreading: Recorded, workload: Workload, capsys: pytest.CaptureFixture[str]
) -> None:
    assert spreading.judge("--json") == 0
    found = json.loads(capsys.readouterr().out)
    waits, used = found["verdict"]["wait_seconds"], found["verdict"]["gpu_allocation"]
    assert waits["observed"] == pytest.approx(waits["policy"], rel=0.15)
    assert used["observed"] == pytest.approx(used["policy"], abs=0.01)
    assert abs(found["observed_minus_simulated_seconds"]["mean"]) < 0.15 * waits["policy"]
    came = workload.arrival + spreading.begin
    for period in found["periods"][:-1]:  # of the last one some still waited, and had not been asked about
        counted = (came >= period["begin"]) & (came < period["begin"] + period["seconds"])
        assert period["pods"] == pytest.approx(int(counted.sum()), abs=3)  # creation is known to the second


def test_a_verdict_goes_on_from_the_one_before_as_long_as_that_counts(
    spreading: Recorded, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "verdict.json"

    def judged(*arguments: str) -> float:
        assert spreading.judge("--verdict", str(path), *arguments) == 0
        found = read_verdict(path)
        assert found is not None
        assert found.worse_since is not None
        return found.worse_since

    first = judged()
    assert judged() == first
    assert judged("--least-periods", "99") == first  # too few to say anything else
    known = read_verdict(path)
    assert known is not None
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(known, valid_until=time.time() - 1)))
    second = judged()
    assert second > first
    path.write_text("torn")
    assert judged() > second
    assert "the verdict before does not count" in capsys.readouterr().out


def test_a_policy_that_packs_is_not_called_worse(tmp_path: Path, workload: Workload) -> None:
    packing = Recorded(tmp_path, workload, PACKS)
    assert packing.judge() == 0
    found = read_verdict(packing.out / "verdict.json")
    assert found is not None
    assert (found.worse, found.worse_since) == (False, None)


def test_a_replay_is_judged_in_the_time_of_what_was_replayed(
    spreading: Recorded, capsys: pytest.CaptureFixture[str]
) -> None:
    assert spreading.judge("--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert spreading.judge("--json", "--speed=10", f"--period={10 * spreading.period}") == 0
    stretched = json.loads(capsys.readouterr().out)
    assert [each["begin"] for each in stretched["periods"]] == [each["begin"] for each in found["periods"]]
    # What is simulated is not ten times as long: kube-scheduler looks at waiting pods after the same seconds.
    assert stretched["verdict"]["wait_seconds"]["observed"] == pytest.approx(
        10 * found["verdict"]["wait_seconds"]["observed"]
    )
    assert stretched["drift"]["duration"]["level"] == "major"
    assert stretched["drift"]["cpu"] == found["drift"]["cpu"]


def test_drift_from_what_is_named_is_told(
    spreading: Recorded, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert spreading.judge("--json", "--reference", str(spreading.folder)) == 0
    same = json.loads(capsys.readouterr().out)["drift"]
    assert max(each["index"] for each in same.values()) < 0.1
    settings = ["source=generated", "longest_seconds=60"]
    assert spreading.judge("--json", "--workload=generated", "--workload-settings", *settings) == 0
    other = json.loads(capsys.readouterr().out)["drift"]
    assert other["duration"]["level"] == "major"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--fallback=no-such"], "no rule is named no-such"),
        (["--policy=heuristic:best-fit"], "is the fallback itself"),
        (["--policy=heuristic:no-such"], "no rule is named 'no-such'"),
        (["--policy=missing.onnx"], "missing.onnx"),
        (["--period=0"], "--period: 0.0 where a number above 0"),
        (["--follow=9000"], "--follow: 9000 s between verdicts that count for 7200 s"),
        (["--period=1e6"], "hold no whole period"),
        (["--reference=missing"], "missing"),
        (["--verdict=."], "--verdict: . is no file; expected the name of one"),
        (["--path=missing"], "--path: it belongs to a --workload, and none is named"),
        (["--workload=openb", "--path=missing"], "--path: --workload openb does not read it"),
        (["--scheduler", "odering=fifo"], "--scheduler odering: no such key"),
    ],
)
def test_what_cannot_be_judged_is_refused_with_the_reason(
    spreading: Recorded, capsys: pytest.CaptureFixture[str], arguments: list[str], reason: str
) -> None:
    assert spreading.judge(*arguments) == 2
    assert reason in capsys.readouterr().err


def test_it_goes_on_judging_until_it_is_stopped_whatever_the_log_is_like_meanwhile(
    spreading: Recorded, tmp_path: Path
) -> None:
    folder, out = tmp_path / "recorded", tmp_path / "out"
    arguments = [str(folder), f"--policy={spreading.policy}", "--fallback=best-fit", "--heuristics=", "--follow=0.2"]
    command = [sys.executable, "-m", "training.monitor", *arguments, f"--period={spreading.period}", "--out", str(out)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as running:
        try:
            assert running.stderr is not None
            assert "no verdict, trying again in 0.2 s" in running.stderr.readline()
            shutil.copytree(spreading.folder, tmp_path / "copy")
            (tmp_path / "copy").rename(folder)
            eventually((out / "verdict.json").exists)
            first = read_verdict(out / "verdict.json")
            eventually(lambda: read_verdict(out / "verdict.json") != first)
            running.send_signal(signal.SIGINT)
            assert running.wait(60) == 130
        finally:
            running.kill()


def test_the_extender_steps_down_by_the_verdict_and_another_policy_brings_it_up(
    spreading: Recorded, tmp_path: Path
) -> None:
    served, outcome = tmp_path / "policy.onnx", tmp_path / "verdict.json"
    served.write_bytes(spreading.policy.read_bytes())
    flags = ("--fallback", "best-fit", "--policy-poll", "0.05", "--outcome-file", str(outcome))
    nodes = cluster_list(node("small", cpu="4"), node("large", cpu="64"))

    def first() -> str:
        asked = extender_args(pod("p", {"cpu": "2"}), ["small", "large"])
        host: str = extender.ask("POST", "/prioritize", asked).json()[0]["Host"]
        return host

    with serve(nodes, tmp_path, *flags, "--step-down-after", "1", policy=str(served)) as extender:
        assert first() == "large"  # it spreads
        assert spreading.judge("--verdict", str(outcome)) == 0
        eventually(lambda: extender.count("stowage_outcome_standing", standing="worse") == 1)
        assert extender.count("stowage_stepped_down") == 0  # by one verdict
        time.sleep(1.0)
        assert spreading.judge("--verdict", str(outcome)) == 0
        eventually(lambda: extender.count("stowage_stepped_down") == 1)
        assert first() == "small"
        shown = extender.ask("GET", "/policy").json()
        assert "worse: mean wait +" in shown["stepped_down"]["reason"]
        assert extender.count("stowage_outcome_regret_seconds", bound="low") > 0
        assert extender.count("stowage_drift_index", feature="cpu") < 0.25
        _, errors = extender.terminate()
        assert "is stepped down from, best-fit answers" in errors

    with serve(nodes, tmp_path, *flags, "--step-down-after", "1", policy=str(served)) as extender:
        assert first() == "small"
        (tmp_path / "next").write_bytes(file_of(PACKS))
        (tmp_path / "next").replace(served)
        eventually(lambda: extender.count("stowage_stepped_down") == 0)
        eventually(lambda: extender.count("stowage_outcome_standing", standing="other_policy") == 1)
        first()
        assert extender.count("stowage_decisions_total", rung="policy") == 1
