"""The steps that need no extender, by the command: interrupted, given something else, refused."""

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from extender.policies.bundled import policy_path
from tests.extender.objects import cluster_list, node
from tests.extender.server.process import serve
from tests.training.cycle import recordings
from tests.training.cycle.recordings import SHIFTED, Recording
from tests.training.warm_start import WarmStart
from training.command_line import CONFIG_FILE, resumed
from training.config import register
from training.cycle.__main__ import main
from training.cycle.contents import INCUMBENT
from training.cycle.records import Book
from training.cycle.retraining import configuration
from training.cycle.settings import resolve

LIMIT_SECONDS = 600.0
OFFLINE = ("record", "fit", "train", "gate")
SMALL = (
    *("record.periods=6", "gate.seeds=3", "gate.pods=200", "gate.load=0.7"),
    *("gate.margin=10", "gate.floor_seconds=100000", "train.algorithm.workers=1"),
    *("train.training.total_timesteps=4800", "train.env.pods=200", "train.algorithm.pairs=2"),
    *("train.training.checkpoint_timesteps=800", "train.algorithm.held_out_interval=1"),
    *("train.algorithm.held_out_episodes=2", "train.evaluation.pods=200", "train.evaluation.seeds=1"),
    "train.evaluation.baselines=[best-fit]",
)  # fmt: skip
TELLING = """
import sys
from training.cycle.__main__ import main
try:
    main(sys.argv[1:])
finally:
    sys.stderr.write(" ".join({"torch", "numba", "scipy"} & sys.modules.keys()))
"""


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    return recordings.write(tmp_path_factory.mktemp("usual"), pods=300)


@pytest.fixture(scope="module")
def shifted(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    return recordings.write(tmp_path_factory.mktemp("shifted"), SHIFTED, pods=300)


def policy(folder: Path) -> Path:
    path = folder / "policy.onnx"
    path.write_bytes(policy_path("bundled:latency").read_bytes())
    return path


def files(recorded: Recording) -> tuple[str, str]:
    return f"decision_log={recorded.log}", f"nodes={recorded.nodes}"


def states(folder: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, Any]]:
    capsys.readouterr()
    assert main(["status", "--folder", str(folder), "--json"]) == 0
    return {row["step"]: row for row in json.loads(capsys.readouterr().out)["steps"]}


def kill_in(step: str, arguments: list[str], folder: Path, warm: WarmStart) -> None:
    """Run the command, and kill it as soon as it has begun the step."""
    begun = "training/checkpoint.pt" if step == "train" else f"{step}.begun.json"  # in the middle of training
    note, done = folder / "cycle" / begun, folder / "cycle" / f"{step}.json"
    process = warm.begin("training.cycle", folder, *arguments)
    deadline = time.monotonic() + LIMIT_SECONDS
    while not note.exists():
        assert process.poll() is None, f"it ended before {step}"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.kill()
    assert not done.exists()


def test_a_cycle_that_is_killed_in_every_step_goes_on_where_it_was(
    warm: WarmStart, usual: Recording, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    watched = tmp_path / "candidate.json"
    flags = "--candidate", str(watched), "--policy-poll", "0.1"
    with serve(cluster_list(node("n0")), tmp_path, *flags, policy=str(policy(tmp_path))) as extender:
        where = f"policy_file={tmp_path / 'policy.onnx'}", f"candidate_file={watched}"
        arguments = ["run", "--folder", str(tmp_path), *files(usual), *where, *SMALL]
        arguments += [f"extender=http://{extender.http_address}", "shadow.limit_seconds=0.1"]
        goes_on_where_it_was(arguments, warm, tmp_path, capsys)


def goes_on_where_it_was(
    arguments: list[str], warm: WarmStart, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, step in enumerate(OFFLINE):
        kill_in(step, arguments, tmp_path, warm)
        found = states(tmp_path, capsys)
        assert found[step]["state"] == "interrupted"
        assert [found[name]["state"] for name in OFFLINE[:number]] == ["done"] * number

    assert main(arguments) == 4  # no pods come here
    found = states(tmp_path, capsys)
    assert [found[name]["state"] for name in OFFLINE] == ["done"] * len(OFFLINE)
    gate = json.loads((tmp_path / "cycle" / "gate.json").read_text())
    assert {each["episodes"] for each in gate["figures"]["judgements"]} == {"recorded", "held-back", "generated"}
    assert not (tmp_path / "cycle" / "record.json.1").exists()

    (tmp_path / "cycle" / "candidate.onnx").write_bytes(recordings.worse_policy(tmp_path))
    strict = ("gate.load=1.0", "gate.pods=400", "gate.margin=0.05", "gate.floor_seconds=1")
    assert main([*arguments, *strict]) == 3
    assert "gate: again, as files.candidate.onnx" in (said := capsys.readouterr().out)
    assert "refused: " in said
    assert main([*arguments, *strict]) == 3
    assert states(tmp_path, capsys)["gate"]["state"] == "refused"
    assert (tmp_path / "policy.onnx").read_bytes() == policy_path("bundled:latency").read_bytes()


def test_fit_follows_a_workload_that_has_shifted_and_never_sees_what_is_held_back(
    usual: Recording, shifted: Recording, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = ["--folder", str(tmp_path)]
    for step in ("record", "fit"):
        assert main([step, *folder, *files(usual), f"policy_file={policy(tmp_path)}", "record.periods=6"]) == 0
    before = json.loads((tmp_path / "cycle" / "workload.json").read_text())["generator"]

    for step in ("record", "fit"):
        assert main([step, *folder, *files(shifted)]) == 0
    after = json.loads((tmp_path / "cycle" / "workload.json").read_text())["generator"]
    assert set(after["shared_gpu_milli"]) <= {100, 200}
    assert after["shared_gpu_share"] > before["shared_gpu_share"]
    assert after["duration_median_seconds"] > 2.0 * before["duration_median_seconds"]

    recorded = json.loads((tmp_path / "cycle" / "record.json").read_text())["figures"]
    fitted = json.loads((tmp_path / "cycle" / "fit.json").read_text())["figures"]
    held = sum(period["pods"] for period in recorded["periods"] if period["held_back"])
    assert (held > 0, fitted["pods"]) == (True, recorded["pods"] - held)
    assert (tmp_path / "cycle" / "record.json.1").exists()  # what was recorded before is kept on record


def test_a_cycle_may_have_any_name_and_its_training_goes_on_in_it(usual: Recording, tmp_path: Path) -> None:
    where = "--folder", str(tmp_path / "cycles, {a}=1"), "--name", "nov 'x' (2), [b]=é"
    small = "record.periods=6", "train.algorithm.pairs=2"
    assert main(["record", *where, *files(usual), f"policy_file={policy(tmp_path)}", *small]) == 0
    assert main(["fit", *where]) == 0
    register()
    book = Book(tmp_path / where[1] / where[3])
    config = configuration(book, resolve(book.folder, [], []))
    assert config.training.start == str(book.folder / INCUMBENT)

    training = book.folder / "training"
    training.mkdir()
    OmegaConf.save(OmegaConf.create(asdict(config)), training / CONFIG_FILE)
    assert resumed(training) == replace(config, training=replace(config.training, resume=str(training)))


def test_files_that_lie_elsewhere_by_now_are_the_same_and_others_are_not(
    usual: Recording, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = ["--folder", str(tmp_path)]
    assert main(["record", *folder, *files(usual), f"policy_file={policy(tmp_path)}", "record.periods=6"]) == 0
    mounted, rotated = tmp_path / "mounted", tmp_path / "rotated" / "decisions.jsonl"
    shutil.copytree(usual.nodes.parent, mounted)
    rotated.parent.mkdir()
    rotated.touch()
    elsewhere = [f"nodes={mounted / 'nodes.csv'}", f"policy_file={policy(mounted)}", f"decision_log={rotated}"]
    assert main(["fit", *folder, *elsewhere]) == 0
    assert states(tmp_path, capsys)["record"]["state"] == "done"

    (tmp_path / "nodes.csv").write_text(usual.nodes.read_text().replace("node-00000,", "another,"))
    (tmp_path / "other.onnx").write_bytes(policy_path("bundled:packing").read_bytes())
    assert main(["fit", *folder, f"nodes={tmp_path / 'nodes.csv'}", f"policy_file={tmp_path / 'other.onnx'}"]) == 2
    assert "nodes, policy_file changed since the step record" in capsys.readouterr().err
    assert states(tmp_path, capsys)["record"]["state"] == "done"  # what is refused is not kept

    (mounted / "policy.onnx").write_bytes(policy_path("bundled:packing").read_bytes())
    assert states(tmp_path, capsys)["record"]["state"] == "stale"


@pytest.mark.parametrize("asked", ["status", "rollback", "--help"])
def test_who_only_asks_or_takes_back_waits_for_no_torch(asked: str, tmp_path: Path) -> None:
    (tmp_path / "cycle").mkdir()
    ended = subprocess.run(
        [sys.executable, "-c", TELLING, asked, "--folder", tmp_path], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["fit"], "the step record has not been done yet"),
        (["record"], "decision_log is not set"),
        (["record", "decision_log=nowhere", "policy_file=nowhere"], "there is no such file"),
        (["record", "record.periods=1"], "record.periods"),
        (["record", "no_such_key=1"], "no_such_key"),
        (["status"], "there is no such cycle"),
        (["status", "--name", "../elsewhere"], "--name"),
        (["record", "words"], "expected key=value"),
    ],
)
def test_what_cannot_be_done_is_refused_with_2_and_says_what_to_do(
    arguments: list[str], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--folder", str(tmp_path)]) == 2
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["status", "gate.margin=0.1"], "status shows settings and takes none: gate.margin=0.1"),
        (["gate", "--force"], "--force is for rollback"),
        (["run", "--again"], "--again begins one of record, fit, train"),
    ],
)
def test_what_a_step_has_no_use_for_is_refused(
    arguments: list[str], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--folder", str(tmp_path)]) == 2
    assert complaint in capsys.readouterr().err


def test_what_a_step_is_given_is_checked_before_anything_that_was_there_is_set_aside(
    usual: Recording, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = ["--folder", str(tmp_path)]
    for step in ("record", "fit"):
        assert main([step, *folder, *files(usual), f"policy_file={policy(tmp_path)}", "record.periods=6"]) == 0
    there = content_of(tmp_path / "cycle")
    torn = tmp_path / "torn"
    torn.write_bytes(b"{}")
    for arguments, complaint in (
        (["record", "decision_log=/typo"], "decision_log=/typo"),
        (["record", "--again", "decision_log=/typo"], "decision_log=/typo"),
        (["record", f"decision_log={torn}"], f"decision_log={torn}"),
        (["record", *files(usual), "nodes=/typo"], "nodes=/typo"),
        (["record", *files(usual), f"nodes={torn}"], f"{torn}: "),
        (["record", *files(usual), f"policy_file={torn}"], f"policy_file={torn}"),
        (["record", f"policy_file={policy(tmp_path)}", "record.pods_at_least=301"], "300 pods came"),
        (["record", "record.pods_at_least=200", "record.periods=2"], f"{usual.log}, 10 nodes and 300 pods"),
        (["record", "record.periods=6", "replay=--no-such-flag"], "replay="),
    ):
        assert main([*arguments, *folder]) == 2
        assert complaint in capsys.readouterr().err
        assert content_of(tmp_path / "cycle") == there


def content_of(folder: Path) -> dict[str, bytes]:
    """Every file but the lock."""
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "lock"}


def test_run_asks_for_what_the_later_steps_need_before_the_first(
    usual: Recording, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = ["run", "--folder", str(tmp_path), *files(usual), f"policy_file={policy(tmp_path)}"]
    nobody, watched = "extender=http://127.0.0.1:9", f"candidate_file={tmp_path / 'candidate.json'}"
    for missing, code, complaint in (
        ([], 2, "extender is not set"),
        ([nobody], 2, "candidate_file is not set"),
        ([nobody, f"candidate_file={tmp_path}/typo/candidate.json"], 2, "there is no folder"),
        ([nobody, watched], 1, "127.0.0.1:9 does not answer"),
        ([nobody, watched, "extender_ca=/typo"], 2, "extender_ca=/typo: [Errno 2]"),
        ([nobody, watched, f"extender_ca={usual.nodes}"], 2, f"extender_ca={usual.nodes}: [X509"),
    ):
        assert main([*run, *missing]) == code
        assert complaint in (said := capsys.readouterr().err)
        assert said.count("\n") == 1
        assert content_of(tmp_path / "cycle") == {}  # the settings neither


@pytest.mark.parametrize(
    ("name", "content", "command"),
    [
        ("settings.json", b'{"gate": {', "status"),
        ("settings.json", b"\xff", "run"),
        ("settings.json", b"[]", "rollback"),
        ("settings.json", b'{"no_such_key": 1}', "status"),
        ("record.begun.json", b"", "record"),
        ("fit.begun.json", b"null", "status"),
        ("candidate.begun.json", b"{", "rollback"),
        ("candidate.begun.json", b"{}", "rollback"),
        ("rollback.begun.json", b"{", "rollback"),
        ("rollback.begun.json", b"{", "status"),
        ("activated.json", b"{", "rollback"),
        ("activated.json", b'{"earlier": null}', "rollback"),
    ],
)
def test_a_torn_file_of_the_cycle_is_named_with_what_helps(
    name: str, content: bytes, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cycle").mkdir()
    (tmp_path / "cycle" / name).write_bytes(content)
    assert main([command, "--folder", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert str(tmp_path / "cycle") in said
    assert name in said
    assert "remove" in said
    assert set(content_of(tmp_path / "cycle")) <= {name, "steering.lock"}


def test_on_stdout_is_one_json_document_and_nothing_else(
    usual: Recording, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = ["record", "--folder", str(tmp_path), "--json", *files(usual), f"policy_file={policy(tmp_path)}"]
    assert main([*record, "replay=--help"]) == 2  # refused, and argparse prints it
    assert capsys.readouterr().out == ""
    assert main(record) == 0
    assert json.loads(capsys.readouterr().out)["step"] == "record"


def test_too_few_pods_are_refused(usual: Recording, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = ("record.pods_at_least=301", f"policy_file={policy(tmp_path)}")
    assert main(["record", "--folder", str(tmp_path), *files(usual), *few]) == 2
    assert "300 pods came in the time" in capsys.readouterr().err
    assert not (tmp_path / "cycle" / "recorded").exists()


def test_a_rollback_with_nothing_to_take_back_is_none_and_ends_the_cycle(
    usual: Recording, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["rollback", "--folder", str(tmp_path), "--name", "november"]) == 2
    assert "begin one" in capsys.readouterr().err
    assert main(["record", "--folder", str(tmp_path), "decision_log=nowhere"]) == 2
    assert main(["rollback", "--folder", str(tmp_path), "--name", "november"]) == 2
    assert "there is no such cycle; --name one of cycle" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["cycle"]
    assert main(["rollback", "--folder", str(tmp_path)]) == 0
    assert "there was nothing to take back" in capsys.readouterr().out
    assert main(["run", "--folder", str(tmp_path), *files(usual)]) == 2
    assert "was rolled back" in capsys.readouterr().err
