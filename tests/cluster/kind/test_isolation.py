"""Nothing is started where it could reach beyond the machine, and nothing outlives the command that started it."""

import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from tests.cluster.kind import isolation
from tests.cluster.kind.isolation import NotIsolatedError, assert_isolated
from tests.cluster.processes import wait_for

ISOLATED = (sys.executable, "-m", "tests.cluster.kind.isolation")
END_LIMIT_SECONDS = 120.0


def test_a_cluster_is_refused_outside_of_a_namespace_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(isolation.MARK, raising=False)
    with pytest.raises(NotIsolatedError, match="make e2e-kind"):
        assert_isolated()
    monkeypatch.setenv(isolation.MARK, isolation.network_namespace())
    with pytest.raises(NotIsolatedError, match="make e2e-kind"):
        assert_isolated()


@pytest.mark.kind
def test_there_is_loopback_and_no_way_out() -> None:
    show = "cat /proc/self/net/dev | tail -n +3 | cut -d: -f1; ip route; ip -6 route show default; exit 7"
    answer = subprocess.run([*ISOLATED, "sh", "-c", show], capture_output=True, text=True, timeout=180)
    assert (answer.returncode, answer.stdout.split(), answer.stderr) == (7, ["lo"], "")


@pytest.mark.kind
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_whoever_ends_it_ends_all_that_it_started(how: signal.Signals, tmp_path: Path) -> None:
    mark = f"left-behind-{uuid.uuid4()}"
    stubborn = f"trap '' INT TERM; sh -c 'while :; do sleep 1; done' {mark} & setsid sh -c 'sleep 600; :' {mark} & "
    command = [*ISOLATED, "sh", "-c", f"{stubborn} echo begun; wait"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | {"TMPDIR": str(tmp_path)})
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"begun\n"
        wait_for(lambda: running(mark) == 2, END_LIMIT_SECONDS, "both to run")
    finally:
        process.send_signal(how)
    assert process.wait(END_LIMIT_SECONDS) != 0
    wait_for(lambda: running(mark) == 0, END_LIMIT_SECONDS, "both to be gone")


def running(mark: str) -> int:
    """How many programs were started under that name."""
    found = 0
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments = path.read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            continue  # ended while we looked
        found += len(arguments) > 1 and arguments[-2] == mark.encode()
    return found
