"""The programs that a trial runs: quietly, so that a person sees steps and not their noise, unless one fails."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LIMIT_SECONDS = 900.0
SHOWN_LINES = 30


class CommandError(Exception):
    """A program failed or took too long; the message ends with what it said last."""


class Commands:
    """Programs with a common environment.

    Attributes:
        environment: variables on top of the caller's.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = dict(environment)

    def run(self, *words: str | Path, stdin: str = "") -> str:
        """Run a program; returns its standard output.

        Raises:
            CommandError: it failed, or took longer than `LIMIT_SECONDS`.
        """
        command = [str(word) for word in words]
        try:
            answer = subprocess.run(
                command,
                env=os.environ | self.environment,
                cwd=ROOT,
                input=stdin,
                capture_output=True,
                text=True,
                timeout=LIMIT_SECONDS,
            )
        except subprocess.TimeoutExpired as error:
            raise CommandError(f"{' '.join(command)} did not end within {LIMIT_SECONDS:g} s") from error
        if answer.returncode != 0:
            tail = "\n".join((answer.stdout + answer.stderr).splitlines()[-SHOWN_LINES:])
            raise CommandError(f"{' '.join(command)} failed with exit code {answer.returncode}:\n{tail}")
        return answer.stdout

    def show(self, *words: str | Path) -> None:
        """Run a program that a person watches.

        Raises:
            CommandError: it failed.
        """
        command = [str(word) for word in words]
        status = subprocess.run(command, env=os.environ | self.environment, cwd=ROOT, stdin=subprocess.DEVNULL)
        if status.returncode != 0:
            raise CommandError(f"{' '.join(command)} failed with exit code {status.returncode}")


@contextmanager
def step(name: str) -> Iterator[None]:
    """Say what is being done, and how long it took."""
    print(f"{name} … ", end="", flush=True)
    started = time.monotonic()
    try:
        yield
    except BaseException:
        print("failed", flush=True)
        raise
    print(f"{time.monotonic() - started:.0f} s", flush=True)


def complain(message: str) -> None:
    """Say on standard error why a trial ends."""
    print(f"make kind: {message}", file=sys.stderr, flush=True)
