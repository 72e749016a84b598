"""A machine that cannot run kind is told so in one line, before anything is made."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from training.kind.engines import CannotRunError, find_engine, find_programs


def program(folder: Path, name: str, script: str) -> None:
    """A program that does as little as the script."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder on the PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def test_docker_is_taken_before_podman_if_it_answers(path: Path) -> None:
    program(path, "podman", "echo 5.0")
    assert find_engine() == "podman"
    program(path, "docker", "echo 28.0")
    assert find_engine() == "docker"
    assert find_engine("podman") == "podman"
    program(path, "docker", "echo Cannot connect to the daemon >&2; exit 1")
    assert find_engine() == "podman"


def test_an_engine_that_does_not_answer_is_named_with_what_it_said(path: Path) -> None:
    program(path, "docker", "echo first >&2; echo Cannot connect to the daemon >&2; exit 1")
    with pytest.raises(CannotRunError, match=r"docker .*Cannot connect to the daemon.*podman is not on the PATH"):
        find_engine()
    program(path, "docker", "exit 0")
    with pytest.raises(CannotRunError, match=r"docker .*it said nothing"):
        find_engine("docker")


def test_missing_programs_are_named(path: Path) -> None:
    program(path, "kubectl", "")
    with pytest.raises(CannotRunError, match="kind, helm"):
        find_programs()


def test_without_an_engine_one_line_says_so(tmp_path: Path) -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "training.kind", "--out", str(tmp_path / "out")],
        env={**os.environ, "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert answer.returncode == 2
    assert answer.stdout == ""
    assert answer.stderr.startswith("make kind: no container engine for kind: docker is not on the PATH; podman is not")
    assert answer.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
