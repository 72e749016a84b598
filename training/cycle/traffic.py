"""Pods for a cluster where none come by themselves: `training.replay` in a process beside the cycle.

The replay removes what it made when it is asked to end, and when the cycle that started it is killed, because the
kernel asks it then. What another one has left in the cluster makes it wait: a lease says so for up to a minute.
"""

import ctypes
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from training.arguments import ArgumentError
from training.cycle.records import CycleError, GivenError, Say
from training.replay.request import Request, parse_arguments, request_of
from training.workloads.tables import TraceError

AFRESH_SECONDS = 100.0  # a lease that nobody renews holds for one minute
PAUSE_SECONDS = 5.0
ENDING_SECONDS = 240.0  # to remove what was made
REFUSED = 2
STDERR = 2  # as a file descriptor
SCHEDULER = "stowage"
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def words_of(replay: str, folder: Path, first_seed: int | None = None) -> list[str]:
    """The flags of one replay: those that were given, played once, to the scheduler with the extender alone.

    Args:
        replay: flags as a shell would read them.
        folder: where its results go.
        first_seed: of its workload, where it is to be another one than usual.
    """
    usual = ["--schedulers", SCHEDULER, "--seeds", "1"]
    seed = [] if first_seed is None else ["--first-seed", str(first_seed)]
    return [*usual, *shlex.split(replay), *seed, "--out", str(folder)]


def request_for(replay: str, folder: Path) -> Request:
    """What such a replay plays.

    Raises:
        GivenError: it is not understood, or is not one cluster and one course of pods.
    """
    words = words_of(replay, folder)
    try:
        request = request_of(parse_arguments(words, "the pods of a cycle"))
    except (ArgumentError, TraceError, ValueError) as error:
        raise GivenError(f"replay={replay!r}: {error}") from error
    except SystemExit as error:
        raise GivenError(f"replay={replay!r}: training.replay does not know these flags (see above)") from error
    if len(request.plan.runs()) != 1:
        raise GivenError(
            f"replay={replay!r}: {len(request.plan.runs())} runs, where the cycle wants one: one --load, --seeds 1 and "
            "one of --schedulers"
        )
    return request


def replay_whole(replay: str, folder: Path, say: Say) -> None:
    """Replay from beginning to end; what was replayed before an interruption is not replayed again.

    Raises:
        CycleError: it failed.
    """
    until = time.monotonic() + AFRESH_SECONDS
    while True:
        with _running(words_of(replay, folder)) as process:
            code = process.wait()
        if code == 0:
            return
        if code != REFUSED or time.monotonic() > until:
            raise CycleError(f"training.replay ended with {code}, see above; the same command goes on when it can")
        say("training.replay was refused; trying again, as what an interrupted one left may take a minute to go")
        time.sleep(PAUSE_SECONDS)


@contextmanager
def pods_coming(replay: str | None, folder: Path, say: Say) -> Iterator[Callable[[], None]]:
    """Keep pods coming while something else waits for them; nothing is done without a replay.

    Yields:
        what has to be called from time to time: it begins the next replay when one is over.
    """
    if replay is None:
        yield lambda: None
        return
    coming = _Coming(replay, folder, say)
    try:
        yield coming.look
    finally:
        coming.end()


class _Coming:
    def __init__(self, replay: str, folder: Path, say: Say) -> None:
        self._replay, self._folder, self._say = replay, folder, say
        self._first = request_for(replay, folder / "first").plan.evaluation.first_seed
        self._number, self._since = 0, time.monotonic()
        self._output = folder / "replay.log"
        folder.mkdir(parents=True, exist_ok=True)
        self._process = self._start()

    def look(self) -> None:
        code = self._process.poll()
        if code is None:
            return
        if code == 0:
            self._number, self._since = self._number + 1, time.monotonic()
        elif code != REFUSED or time.monotonic() - self._since > AFRESH_SECONDS:
            raise CycleError(f"training.replay, which makes the pods, ended with {code}:\n{self._tail()}")
        else:
            time.sleep(PAUSE_SECONDS)
        self._process = self._start()

    def end(self) -> None:
        self._say("ending the replay, which removes its pods and nodes")
        _end(self._process)

    def _start(self) -> "subprocess.Popen[bytes]":
        name = f"{int(time.time())}-{self._number}"
        words = words_of(self._replay, self._folder / name, self._first + 1 + self._number)
        with self._output.open("wb") as output:
            return _start(words, output.fileno())

    def _tail(self) -> str:
        return self._output.read_text(errors="replace")[-2000:]


@contextmanager
def _running(words: list[str]) -> "Iterator[subprocess.Popen[bytes]]":
    process = _start(words, STDERR)  # stdout is for what the cycle itself says, a JSON document perhaps
    try:
        yield process
    finally:
        _end(process)


def _start(words: list[str], output: int) -> "subprocess.Popen[bytes]":
    parent = os.getpid()

    def end_with_parent() -> None:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)

    return subprocess.Popen(
        [sys.executable, "-m", "training.replay", *words],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        preexec_fn=end_with_parent if sys.platform == "linux" else None,
        start_new_session=True,  # Ctrl-C is ours to pass on: twice would cut its cleaning up short
    )


def _end(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(ENDING_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
