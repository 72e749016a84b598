"""A cluster that is none, and the command that replays in it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.training.replay.api_server import StubApiServer, run_stub_api_server
from training.replay import __main__ as command

SMALL = ("--workload", "synthetic", "--nodes", "4", "--pods", "50", "--seeds", "1", "--speed", "100000")
Say = Callable[..., tuple[int, str, str]]


@pytest.fixture
def server() -> Iterator[StubApiServer]:
    with run_stub_api_server() as stub:
        yield stub


@pytest.fixture
def replay(
    server: StubApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Say:
    """Run `python -m training.replay` in this process; returns its exit code, output and errors."""
    kubeconfig = server.kubeconfig(tmp_path)
    monkeypatch.setattr(command.signal, "signal", lambda *_: None)  # the test run's own stay

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["training.replay", "--kubeconfig", str(kubeconfig), *arguments])
        code = 0
        try:
            command.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        return code, *capsys.readouterr()

    return run
