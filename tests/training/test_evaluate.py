"""The command: once as a user types it, then warm (`warm_start`); every evaluation is a real one, only small."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from extender.features import feature_names
from extender.policies.base import PolicyError
from tests.clusters import typical_of
from tests.training.warm_start import WarmStart
from training.arguments import ArgumentError, checked, nested, settings_of
from training.evaluate import contender_of, contenders_of, parse_arguments, request_of
from training.evaluation.runner import EvaluationArguments
from training.export import export_policy
from training.networks import NetworkArguments, score_network
from training.simulator.scheduling import SchedulerArguments
from training.workloads.base import BASE_RESOURCES
from training.workloads.selection import WorkloadArguments

LIMIT_SECONDS = 600.0
SMALL = [
    "--workload",
    "synthetic",
    "--nodes",
    "8",
    "--pods",
    "120",
    "--seeds",
    "3",
    "--load",
    "0.8",
    "--processes",
    "1",
]


Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(warm: WarmStart) -> Run:
    """Runs the command in a folder with these arguments."""
    return partial(warm.run, "training.evaluate")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a finished evaluation, and what it printed."""
    folder = tmp_path_factory.mktemp("finished")
    command = [sys.executable, "-m", "training.evaluate", *SMALL, "--policies", "best-fit,fgd"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False)
    assert result.returncode == 0, result.stderr
    return folder / "runs" / "evaluation", result.stdout


def test_without_a_file_all_three_go_into_one_folder(finished: tuple[Path, str]) -> None:
    folder, _ = finished
    assert {path.name for path in folder.iterdir()} == {"evaluation.json", "evaluation.md", "report.html"}


def test_every_policy_is_compared_with_the_baseline(finished: tuple[Path, str]) -> None:
    content = json.loads((finished[0] / "evaluation.json").read_text())
    assert list(content["policies"]) == ["best-fit", "fgd", "kube-scheduler-default"]
    assert {(entry["policy"], entry["baseline"]) for entry in content["comparisons"]} == {
        ("best-fit", "kube-scheduler-default"),
        ("fgd", "kube-scheduler-default"),
    }


def test_the_terminal_shows_workload_tables_and_files(finished: tuple[Path, str]) -> None:
    _, output = finished
    assert "workload: built-in generator calibrated on openb's figures" in output
    assert "P(better)" in output
    assert f"wrote {Path('runs/evaluation/report.html')}" in output


def test_files_that_were_not_named_lie_beside_the_one_that_was(run: Run, tmp_path: Path) -> None:
    result = run(tmp_path, *SMALL, "--policies", "best-fit", "--json", "deep/result.json")
    assert result.returncode == 0, result.stderr
    written = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert written == {tmp_path / "deep" / f"result{ending}" for ending in (".json", ".md", ".html")}


def test_an_interrupted_evaluation_leaves_nothing(tmp_path: Path) -> None:
    arguments = ["--workload", "synthetic", "--seeds", "1000", "--processes", "2", "--output", "results"]
    process = subprocess.Popen(
        [sys.executable, "-m", "training.evaluate", *arguments],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert "workload" in process.stdout.readline()
    time.sleep(3.0)
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=LIMIT_SECONDS)
    assert process.returncode == 130
    assert errors == "training.evaluate: interrupted, nothing was written\n"
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--load", "0.6,high"], "'0.6,high': expected numbers joined by commas"),
        (["--load", "0.6,0.6"], "a load is named twice"),
        (["--nodes", "1"], "--nodes: input should be greater than or equal to 2, not 1"),
        (["--load", "0.6,9"], "--load.1: input should be less than or equal to 3, not 9.0"),
        (["--policies", "best-fitt"], "'best-fitt': expected a .onnx file or a rule: random,"),
        (["--policies", ","], "--policies: ',' names none; expected policy files or rules"),
        (
            ["--workload-settings", "longest_seconds=10"],
            "--workload-settings longest_seconds: 10 is below shortest_seconds, 30",
        ),
        (
            ["--path", "mine"],
            "--path: --workload synthetic does not read it, expected --workload csv or kubectl or dec",
        ),
        (["--workload", "openb", "--path", "mine"], "--path: --workload openb does not read it"),
        (["--mix", "cpu050"], "--mix: --workload synthetic does not read it, expected --workload auto or openb"),
        (["--workload-settings", "generator.nodes=9"], "--workload-settings generator: --workload synthetic does not"),
        (["--policies", "no.onnx"], "no.onnx: cannot be read: No such file or directory"),
        (["--policies", "fgd,fgd"], "fgd is named twice; tell files apart by NAME=FILE"),
        (["--scheduler", "orderin=fifo"], "--scheduler orderin: no such key; there are ordering,"),
        (["--policies", "fgd@orderin=fifo"], "--policies fgd@orderin: no such key; there are ordering,"),
        (["--policies", "fgd@fifo"], "--policies fgd@fifo: 'fifo': expected key=value"),
        (["--scheduler", "ordering=best"], "--scheduler ordering: string should match pattern"),
        (["--scheduler", "fifo"], "'fifo': expected key=value"),
        (
            ["--workload-settings", "generator.pols=3"],
            "--workload-settings generator.pols: no such key; there are nodes,",
        ),
        (
            ["--workload", "openb", "--traces", "/nowhere"],
            "/nowhere: expected a folder with openb_node_list_gpu_node.csv",
        ),
        (["--service-levels", "high=1"], "'high=1': expected PRIORITY=SECONDS"),
        (
            ["--scheduler", "scoring.resources=[{name: fpga}]"],
            "--scheduler scoring.resources: no resource is named fpga; there are cpu, memory, gpu",
        ),
        (
            ["--scheduler", "scoring.shape=[{utilization: 50, score: 11}]"],
            "--scheduler scoring.shape.0.score: input should be less than or equal to 10, not 11",
        ),
        (["--scheduler", "scoring.fit_wait=2"], "--scheduler scoring.fit_wait: no such key; there are resources,"),
        (["--json", "/dev/null/result.json"], "--json: /dev/null cannot be made"),
        (["--json", "a", "--html", "a"], "have to be different files"),
        (["--json", "a.html"], "have to be different files"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_played(
    tmp_path: Path,
    arguments: list[str],
    complaint: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ArgumentError, PolicyError, ValueError, SystemExit)) as refusal:
        request_of(parse_arguments(["--workload", "synthetic", *arguments]))
    assert complaint in str(refusal.value) + capsys.readouterr().err


def test_a_negative_priority_is_promised_as_help_says(capsys: pytest.CaptureFixture[str]) -> None:
    options = parse_arguments(["--service-levels=-5=60", "--service-levels", "0=30", "10=5"])
    assert options.service_levels == [(-5, 60.0), (0, 30.0), (10, 5.0)]
    with pytest.raises(SystemExit):
        parse_arguments(["--help"])
    assert "--service-levels=-5=60" in capsys.readouterr().out


def test_the_only_policy_is_said_to_be_compared_with_nothing(run: Run, tmp_path: Path) -> None:
    result = run(tmp_path, *SMALL, "--policies", "fgd", "--baseline", "fgd", "--json", "result.json")
    assert result.returncode == 0, result.stderr
    assert "fgd is the baseline and the only policy: it is played, and compared with nothing\n" in result.stdout
    content = json.loads((tmp_path / "result.json").read_text())
    assert (list(content["policies"]), content["comparisons"]) == (["fgd"], [])


def test_a_scoring_profile_changes_what_is_played(run: Run, tmp_path: Path) -> None:
    profile = ["--scheduler", "scoring.resources=[{name: gpu, weight: 9}]"]
    for name, more in (("default", []), ("weighed", profile)):
        result = run(tmp_path, *SMALL, "--policies", "most-allocated", "--json", f"{name}.json", *more)
        assert result.returncode == 0, result.stderr
    default, weighed = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("default", "weighed"))
    assert weighed["settings"]["scheduler"]["scoring"]["resources"] == [{"name": "gpu", "weight": 9}]
    assert weighed["policies"]["most-allocated"] != default["policies"]["most-allocated"]
    assert weighed["policies"]["kube-scheduler-default"] != default["policies"]["kube-scheduler-default"]


def test_a_horizon_within_the_warm_up_is_reported_as_nothing_counted(run: Run, tmp_path: Path) -> None:
    result = run(tmp_path, *SMALL, "--policies", "fgd", "--scheduler", "horizon_seconds=1")
    assert result.returncode == 0, result.stderr
    content = json.loads((tmp_path / "runs" / "evaluation" / "evaluation.json").read_text())
    assert content["policies"]["fgd"]["mean_wait_seconds"] is None
    assert content["policies"]["fgd"]["success_rate"] is None
    assert "no pod was counted before the horizon" in (tmp_path / "runs" / "evaluation" / "report.html").read_text()


def test_a_refusal_exits_2_with_one_line(run: Run, tmp_path: Path) -> None:
    result = run(tmp_path, "--workload", "synthetic", "--seeds", "0")
    assert result.returncode == 2
    assert result.stderr == "training.evaluate: --seeds: input should be greater than or equal to 1, not 0\n"
    assert list(tmp_path.iterdir()) == []


def test_help_names_every_setting_of_queue_and_workload(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        parse_arguments(["--help"])
    shown = capsys.readouterr().out
    assert exit_.value.code == 0
    assert all(f"  {key}=" in shown for key in (*settings_of(SchedulerArguments), *settings_of(WorkloadArguments)))


def test_metrics_are_listed_on_request(run: Run, tmp_path: Path) -> None:
    result = run(tmp_path, "--list-metrics")
    assert result.returncode == 0
    assert "| `cvar95_wait_seconds` |" in result.stdout


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("best-fit", "best-fit"),
        ("some/where/packer.onnx", "packer"),
        ("runs/quickstart/policy.onnx", "quickstart"),
        ("mine=runs/quickstart/policy.onnx", "mine"),
    ],
)
def test_a_policy_is_named_by_its_rule_its_file_its_folder_or_its_user(text: str, name: str) -> None:
    assert contender_of(text).name == name


def test_a_policy_may_have_a_queue_of_its_own(run: Run, tmp_path: Path) -> None:
    policies = "reserving=best-fit@reservation_after_seconds=60+reservation_gpus=1,best-fit@ordering=smallest-first"
    busy = [*SMALL, "--load", "1.3", "--pods", "400"]
    result = run(tmp_path, *busy, "--policies", policies, "--baseline", "best-fit", "--json", "result.json")
    assert result.returncode == 0, result.stderr
    content = json.loads((tmp_path / "result.json").read_text())
    assert content["settings"]["scheduler_of"] == {
        "reserving": {"reservation_after_seconds": 60.0, "reservation_gpus": 1},
        "best-fit@ordering=smallest-first": {"ordering": "smallest-first"},
    }
    waits = [means["mean_wait_seconds"] for means in content["policies"].values()]
    assert len(set(waits)) == 3


def test_the_baseline_may_be_one_of_the_policies() -> None:
    candidates, baselines, _ = contenders_of("best-fit,fgd", "fgd", None)
    assert [entry.name for entry in candidates] == ["best-fit"]
    assert [entry.name for entry in baselines] == ["fgd"]


def test_the_cluster_has_three_resources_where_nothing_says_otherwise() -> None:
    assert contenders_of("best-fit", "fgd", None)[2] == 3


def policy_file(path: Path, resources: tuple[str, ...] = BASE_RESOURCES) -> Path:
    """An untrained policy."""
    path.parent.mkdir(parents=True, exist_ok=True)
    export_policy(
        score_network(len(feature_names(resources)), NetworkArguments()),
        path,
        resources=resources,
        typical=typical_of((4000, 1, 1000, 1.0)),
        models=("",),
        algorithm="none",
        config_digest="ab" * 32,
        workload="by hand",
    )
    return path


def test_policy_files_are_judged_beside_rules(run: Run, tmp_path: Path) -> None:
    policy_file(tmp_path / "runs" / "mine" / "policy.onnx")
    arguments = [*SMALL[:-2], "--processes", "2", "--policies", "runs/mine/policy.onnx", "--baseline", "fgd"]
    result = run(tmp_path, *arguments, "--json", "result.json", "--markdown", "result.md")
    assert result.returncode == 0, result.stderr
    assert set(json.loads((tmp_path / "result.json").read_text())["policies"]) == {"mine", "fgd"}
    assert "- **Policy mine**: runs/mine/policy.onnx" in (tmp_path / "result.md").read_text()


def test_the_cluster_has_the_resources_of_the_policy_files(tmp_path: Path) -> None:
    path = policy_file(tmp_path / "wide.onnx", (*BASE_RESOURCES, "example.com/licences"))
    assert contenders_of(str(path), "fgd", None)[2] == 4


def test_policies_for_different_numbers_of_resources_cannot_meet(tmp_path: Path) -> None:
    narrow = policy_file(tmp_path / "narrow.onnx")
    wide = policy_file(tmp_path / "wide.onnx", (*BASE_RESOURCES, "example.com/licences"))
    with pytest.raises(ArgumentError, match="different numbers of resources: narrow 3, wide 4"):
        contenders_of(f"{narrow},{wide}", "fgd", None)


def test_settings_with_dots_belong_to_the_settings_within() -> None:
    settings = [("generator.nodes", 10), ("source", "generated"), ("generator.nodes", 20)]
    assert nested(settings) == {"generator": {"nodes": 20}, "source": "generated"}


def test_every_problem_is_named() -> None:
    with pytest.raises(ArgumentError) as refusal:
        checked(EvaluationArguments, {"nodes": 1, "pods": 2, "colour": "red"}, {})
    assert [line.partition(":")[0] for line in str(refusal.value).splitlines()] == ["--colour", "--nodes", "--pods"]
