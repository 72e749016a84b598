"""`make kind`, as far as it can be had where no image can be pulled: podman, a node image and a KWOK that are here."""

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.cluster.kind.application_image import NAME as IMAGE
from tests.cluster.kind.application_image import application_image
from tests.cluster.kind.archive import write_image
from tests.cluster.kind.cluster import write_configuration
from tests.cluster.kind.engine import Engine
from tests.cluster.kind.node_image import NAME as NODE_IMAGE

pytestmark = [pytest.mark.kind, pytest.mark.timeout(1200)]

CLUSTER = "trial"
KWOK_IMAGE = "localhost/kwok:trial"
PODS = 60


@pytest.fixture
def kwok(tools: Path, tmp_path: Path) -> Path:
    """KWOK's image: the program and nothing else."""
    layer, archive = tmp_path / "kwok-layer.tar", tmp_path / "kwok.tar"
    with tarfile.open(layer, "w") as tar:
        tar.add(tools / "kwok", "kwok")
    write_image(archive, KWOK_IMAGE, layer, ("/kwok",))
    return archive


@pytest.fixture
def environment(engine: Engine, tools: Path, kind_tools: Path, tmp_path: Path) -> dict[str, str]:
    """Of a person who has kind, kubectl and helm on the PATH, and podman."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for program in (kind_tools / "kind", kind_tools / "kubectl", tools / "helm"):
        (programs / program.name).symlink_to(program)
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    return os.environ | engine.environment | {"PATH": path, "HOME": str(tmp_path)}


def test_both_ways_are_tried_and_the_cluster_is_gone(
    engine: Engine, environment: dict[str, str], kwok: Path, tmp_path: Path
) -> None:
    engine.podman("load", "--quiet", "--input", str(application_image()))
    configuration, results = tmp_path / "kind.yaml", tmp_path / "results"
    write_configuration(configuration)
    trial = subprocess.run(
        [
            *(sys.executable, "-m", "training.kind", "--engine=podman", f"--name={CLUSTER}", f"--image={IMAGE}"),
            *(f"--node-image={NODE_IMAGE}", f"--kwok-image={KWOK_IMAGE}", f"--load={kwok}"),
            *(f"--config={configuration}", f"--out={results}", f"--pods={PODS}"),
        ],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert trial.returncode == 0, trial.stdout + trial.stderr
    for way, schedulers in (
        ("second-scheduler", {"default-scheduler", "stowage"}),
        ("own-scheduler", {"default-scheduler"}),
    ):
        assert (results / way / "report.html").is_file()
        assert json.loads((results / way / "evaluation.json").read_text())["policies"].keys() == schedulers
    containers = engine.podman("ps", "--all", "--format={{.Names}}").split()
    assert not any(name.startswith(CLUSTER) for name in containers)


def test_an_image_that_cannot_be_had_ends_it_and_leaves_nothing(
    engine: Engine, environment: dict[str, str], tmp_path: Path
) -> None:
    settings = ("--engine=podman", "--name=absent", "--node-image=localhost/absent:1", f"--out={tmp_path / 'results'}")
    trial = subprocess.run(
        [sys.executable, "-m", "training.kind", *settings],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert trial.returncode == 1
    assert "kind create cluster" in trial.stderr
    assert "localhost/absent:1" in trial.stderr
    assert not any(name.startswith("absent") for name in engine.podman("ps", "--all", "--format={{.Names}}").split())
