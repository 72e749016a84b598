"""Start a program, wait until it serves, stop it by its own pid.

Every program that the cluster tests run goes through here, so that a wait always has a limit, an early death is
reported with what the program said last, and nothing outlives the tests.
"""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

STOP_LIMIT_SECONDS = 60.0
POLL_SECONDS = 0.02
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class ProcessError(Exception):
    """A program ended early or was not ready in time; the message has the end of its log."""


class Process:
    """A running program.

    Attributes:
        name: what it is called in messages; its log is `<name>.log`.
        log: everything it printed.
    """

    def __init__(
        self, name: str, command: Sequence[str | Path], directory: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        """Start it.

        Args:
            directory: for its log; a program that is started again continues the log of its predecessor.
            environment: variables on top of the caller's.
        """
        self.name = name
        self.log = directory / f"{name}.log"
        with self.log.open("ab") as output:
            self._popen = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | dict(environment or {}),
                preexec_fn=die_with_parent if sys.platform == "linux" else None,
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._popen.pid

    def wait_until(self, ready: Callable[[], bool], limit_seconds: float) -> None:
        """Wait until `ready` says so.

        Raises:
            ProcessError: the program ended, or the limit passed.
        """

        def ready_or_dead() -> bool:
            if self._popen.poll() is not None:
                raise ProcessError(f"{self.name} ended with exit code {self._popen.returncode}:\n{self.log_tail()}")
            return ready()

        try:
            wait_for(ready_or_dead, limit_seconds, f"{self.name} to be ready")
        except TimeoutError as error:
            raise ProcessError(f"{error}; it said:\n{self.log_tail()}") from error

    def stop(self) -> None:
        """Ask it to end and wait; a program that does not is killed. Without effect on one that has ended."""
        if self._popen.poll() is None:
            self._popen.send_signal(signal.SIGTERM)
        try:
            self._popen.wait(STOP_LIMIT_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self._popen.send_signal(signal.SIGKILL)
        self._popen.wait(STOP_LIMIT_SECONDS)

    def log_tail(self, lines: int = 30) -> str:
        """The last lines of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def wait_for(condition: Callable[[], bool], limit_seconds: float, what: str, every: float = POLL_SECONDS) -> None:
    """Wait for a condition, looking every so often.

    Raises:
        TimeoutError: the limit passed; the message names `what`.
    """
    deadline = time.monotonic() + limit_seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {limit_seconds:g} s for {what}")
        time.sleep(every)


def free_port() -> int:
    """A port on loopback that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def die_with_parent() -> None:
    """For a child to call (Linux): a test run that is killed cannot stop what it started; the kernel does it then."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
