"""What a replay says of arguments that it cannot use."""

from pathlib import Path

import pytest

from tests.training.replay.api_server import StubApiServer
from tests.training.replay.conftest import SMALL, Say


@pytest.mark.parametrize("content", [b"hello", b"[1, 2]", b"\xab\xff", b"contexts: 3\ncurrent-context: x"])
def test_a_file_that_is_no_kubeconfig_is_named_with_what_was_expected(
    replay: Say, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "wrong"
    path.write_bytes(content)

    code, _, errors = replay("--clean-up", "--kubeconfig", str(path))

    assert code == 2
    assert f"{path} is no kubeconfig: expected YAML with clusters, users, contexts and current-context" in errors
    assert errors.count("\n") == 1


@pytest.mark.parametrize("name", ["Bad_NS/../x", "", "-a", "a-", "a.b", "a" * 64, "a\n"])
@pytest.mark.parametrize("further", [SMALL, ("--clean-up",)])
def test_a_namespace_that_can_be_none_is_refused(
    server: StubApiServer, replay: Say, tmp_path: Path, name: str, further: tuple[str, ...]
) -> None:
    code, _, errors = replay(*further, f"--namespace={name}", "--out", str(tmp_path / "out"))

    assert code == 2
    assert f"--namespace: {name!r}: expected a namespace's name" in errors
    assert not server.rights
