"""What a trial needs of the machine: a container engine that answers, and the programs that make a cluster."""

import shutil
import subprocess

ENGINES = ("docker", "podman")
PROGRAMS = ("kind", "kubectl", "helm")
ANSWER_LIMIT_SECONDS = 30.0
VERSION = {"docker": "{{.ServerVersion}}", "podman": "{{.Version.Version}}"}


class CannotRunError(Exception):
    """This machine cannot run kind; the message is one line that says what it lacks and what to do."""


def find_engine(named: str | None = None) -> str:
    """The engine that kind is to use, Docker before podman.

    Args:
        named: the only one that will do.

    Raises:
        CannotRunError: there is none that answers.
    """
    refusals = []
    for engine in ENGINES if named is None else (named,):
        refusal = _refusal(engine)
        if refusal is None:
            return engine
        refusals.append(f"{engine} {refusal}")
    raise CannotRunError(f"no container engine for kind: {'; '.join(refusals)}. Install and start Docker or podman.")


def find_programs() -> None:
    """Make sure that the programs are there.

    Raises:
        CannotRunError: one is not.
    """
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        raise CannotRunError(f"not on the PATH: {', '.join(missing)}. Install what is missing and try again.")


def _refusal(engine: str) -> str | None:
    if shutil.which(engine) is None:
        return "is not on the PATH"
    try:
        answer = subprocess.run(
            [engine, "info", "--format", VERSION[engine]],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=ANSWER_LIMIT_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return f"did not answer within {ANSWER_LIMIT_SECONDS:g} s"
    if answer.returncode == 0 and answer.stdout.strip():
        return None
    said = (answer.stderr.strip() or "it said nothing").splitlines()[-1]
    return f"is installed but does not answer ({said})"
