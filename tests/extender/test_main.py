import json
from pathlib import Path

import pytest

from extender.__main__ import main
from extender.settings import Settings
from tests.policy_files import policy_file


def test_help_explains_every_setting_and_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["serve", "--help"])

    shown = capsys.readouterr().out
    assert ended.value.code == 0
    assert "stowage-extender serve --policy policy.onnx --kubeconfig" in shown
    for name in Settings.model_fields:
        assert f"--{name.replace('_', '-')} " in shown


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["serve"], "--policy is missing: give the flag, or STOWAGE_POLICY, or policy in --config"),
        (["serve", "--policy", "p", "--http-port", "high"], "--http-port is 'high'"),
        (["serve", "--policy", "p", "--grpc-port", "70000"], "--grpc-port is '70000'"),
        (["serve", "--policy", "p", "--assume-ttl", "0"], "--assume-ttl is '0'"),
        (["serve", "--policy", "p", "--scoring", "{"], "--scoring is '{': Value error, Expecting property name"),
        (["serve", "--policy", "p", "--scoring", '{"fit_weight": 0}'], "--scoring.fit_weight is 0: Input should be"),
        (["serve", "--policy", "p", "--scoring", '{"fit": 1}'], "--scoring.fit is 1: Unexpected keyword argument"),
        (
            ["serve", "--policy", "heuristic:least-allocated", "--scoring", '{"resources": [{"name": "fpga"}]}'],
            "scoring: resources: no resource is named fpga; there are cpu, memory, gpu",
        ),
        (["serve", "--policy", "heuristic:fgd"], "'fgd' needs the workload's typical pods: expected a policy file"),
        (["serve", "--policy", "p", "--kubeconfig", "a", "--cluster-file", "b"], "exclude each other"),
        (["serve", "--policy", "p", "--config", "absent.yaml"], "settings file absent.yaml cannot be read"),
        (["check-policy", "absent.onnx"], "absent.onnx: cannot be read"),
    ],
)
def test_a_wrong_command_says_what_was_given_and_exits_2(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STOWAGE_POLICY", raising=False)

    assert main(arguments) == 2
    assert complaint in capsys.readouterr().err


def test_check_policy_shows_what_the_file_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "good.onnx"
    path.write_bytes(policy_file())

    assert main(["check-policy", str(path)]) == 0

    shown = json.loads(capsys.readouterr().out)
    assert shown["name"] == "good"
    assert shown["resources"] == ["cpu", "memory", "gpu"]
    assert len(shown["digest"]) == 64


def test_check_policy_refuses_what_serve_would_refuse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "foreign.onnx"
    path.write_bytes(policy_file(input_name="image"))

    assert main(["check-policy", str(path)]) == 2
    assert "foreign" in capsys.readouterr().err
