"""`make kind`, as far as it can be had where no image can be pulled: podman, a node image and a KWOK that are here."""

import json
import os
import signal
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
from tests.cluster.processes import wait_for

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
    assert not has_containers(engine, CLUSTER)


def has_containers(engine: Engine, cluster: str) -> bool:
    return any(name.startswith(cluster) for name in engine.podman("ps", "--all", "--format={{.Names}}").split())


@pytest.mark.parametrize("where", ["creating the kind cluster", "loading the image"])
def test_interrupted_it_deletes_the_cluster(
    engine: Engine, environment: dict[str, str], tmp_path: Path, where: str
) -> None:
    engine.podman("load", "--quiet", "--input", str(application_image()))
    configuration = tmp_path / "kind.yaml"
    write_configuration(configuration)
    trial = subprocess.Popen(
        [
            *(sys.executable, "-m", "training.kind", "--engine=podman", "--name=broken-off", f"--image={IMAGE}"),
            *(f"--node-image={NODE_IMAGE}", f"--config={configuration}", f"--out={tmp_path / 'results'}"),
        ],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert trial.stdout is not None
        said = b""
        while where.encode() not in said:
            said += os.read(trial.stdout.fileno(), 4096) or pytest.fail(f"it ended before: {said.decode()}")
        wait_for(lambda: has_containers(engine, "broken-off"), 120, "the node's container")

        os.killpg(trial.pid, signal.SIGINT)  # as a terminal does on Ctrl-C: to all programs that it runs

        _, errors = trial.communicate(timeout=300)
    finally:
        if trial.poll() is None:
            os.killpg(trial.pid, signal.SIGKILL)
            trial.communicate()
    assert trial.returncode == 130, errors.decode()
    assert errors.decode().splitlines() == ["make kind: interrupted"]
    assert not has_containers(engine, "broken-off")


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
    assert not has_containers(engine, "absent")
