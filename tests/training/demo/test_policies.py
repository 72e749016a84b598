"""What is uploaded is either a policy that the extender serves, or refused with the extender's reason."""

from pathlib import Path

import onnx
import pytest

from extender.policies.base import PolicyError
from extender.policies.bundled import policy_path
from extender.policies.onnx import MAX_BYTES
from tests.policy_files import metadata_of, policy_file
from training.demo.policies import choices, loaded, receive, resources_of


def of_a_later_onnx() -> bytes:
    model = onnx.load_from_string(policy_file())
    model.ir_version = 99
    return model.SerializeToString()


def test_a_policy_file_is_kept_and_can_be_played(tmp_path: Path) -> None:
    file = receive("mine.onnx", policy_path("bundled:packing").read_bytes(), tmp_path)
    assert resources_of(loaded(file)) == 3


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"no graph", "not a graph in an ONNX file: wire type 6"),
        (policy_file(properties=metadata_of(schema_version=1000).to_properties()), "schema_version is 1000"),
        (policy_file(output_name="answers"), "output is"),
        (b"\0" * (MAX_BYTES + 1), f"{MAX_BYTES + 1} bytes, a policy has at most {MAX_BYTES}"),
        (of_a_later_onnx(), "not a graph that ONNX Runtime can load: Unsupported model IR version: 99, max supported"),
    ],
)
def test_what_the_extender_refuses_is_refused_with_its_reason(tmp_path: Path, content: bytes, reason: str) -> None:
    with pytest.raises(PolicyError, match=f"^{reason}"):  # and no path of this machine or of ONNX Runtime's source
        receive("bad.onnx", content, tmp_path)
    assert not list(tmp_path.rglob("*.onnx"))


def test_a_name_cannot_leave_the_folder(tmp_path: Path) -> None:
    file = receive("../../x y.onnx", policy_path("bundled:packing").read_bytes(), tmp_path)
    assert tmp_path in file.parents
    assert file.name == "xy.onnx"


def test_bundled_policies_those_of_runs_and_rules_can_be_chosen(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "policy.onnx").write_bytes(b"")
    names = list(choices(tmp_path))
    assert names[:3] == ["bundled:latency", "bundled:packing", "run mine"]
    assert "rule fgd" in names
