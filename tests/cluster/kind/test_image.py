"""The image that the Dockerfile gives: small, without what a scheduler's sidecar needs not, the same every time."""

import json
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.kind.application_image import (
    NAME,
    application_image,
    buildah,
    configuration,
    layers_of_two_builds,
    manifest,
    storage,
)

pytestmark = [pytest.mark.kind, pytest.mark.timeout(1200)]

LARGEST_MEGABYTES = 350
START_LIMIT_SECONDS = 240.0


@pytest.fixture(scope="module")
def archive() -> Path:
    return application_image()


@pytest.fixture(scope="module")
def files(archive: Path) -> dict[str, tarfile.TarInfo]:
    """Every file of the image by its path."""
    found = {}
    with tarfile.open(archive) as outer:
        for layer in manifest(outer)["Layers"]:
            with tarfile.open(fileobj=outer.extractfile(layer)) as tar:
                found.update({entry.name.removeprefix("./"): entry for entry in tar})
    return found


def test_it_is_small(files: dict[str, tarfile.TarInfo]) -> None:
    megabytes = sum(entry.size for entry in files.values()) / 1e6
    assert megabytes <= LARGEST_MEGABYTES


def test_it_runs_as_a_numbered_user_and_tells_how_it_is(archive: Path) -> None:
    config = configuration(archive)["config"]
    user, _, group = config["User"].partition(":")
    assert int(user) > 0
    assert int(group) > 0
    assert config["Healthcheck"]["Test"][-1].endswith("/healthz")


def test_nothing_that_compiles_or_trains_is_in_it(files: dict[str, tarfile.TarInfo]) -> None:
    programs = {Path(name).name for name in files if Path(name).parent.name in ("bin", "sbin")}
    assert not programs & {"cc", "gcc", "g++", "cpp", "ld", "as", "make", "go", "rustc", "clang", "pip", "pip3"}
    packages = {Path(name).name for name in files if Path(name).parent.name == "site-packages"}
    assert "onnxruntime" in packages
    assert not packages & {"torch", "gymnasium", "numba", "hydra", "stable_baselines3", "training", "pip"}


def test_nobody_but_root_can_change_it(files: dict[str, tarfile.TarInfo]) -> None:
    ours = [entry for name, entry in files.items() if name.startswith("opt/stowage") and not entry.issym()]
    assert ours
    assert [entry.name for entry in ours if entry.uid != 0 or entry.mode & 0o022] == []


def test_its_bill_of_materials_names_what_is_installed(archive: Path, files: dict[str, tarfile.TarInfo]) -> None:
    installed = {Path(name).name.removesuffix(".dist-info") for name in files if name.endswith(".dist-info")}
    with (
        tarfile.open(archive) as outer,
        tarfile.open(fileobj=outer.extractfile(manifest(outer)["Layers"][-1])) as layer,
    ):
        content = layer.extractfile("opt/stowage/share/sbom.cdx.json")
        assert content is not None
        bill = json.load(content)
    named = {f"{part['name']}-{part['version']}".lower().replace("-", "_") for part in bill["components"]}
    assert bill["bomFormat"] == "CycloneDX"
    assert {name.lower().replace("-", "_") for name in installed} <= named


def test_the_same_inputs_give_the_same_layers() -> None:
    first, second = json.loads(layers_of_two_builds().read_text())
    assert first == second


@pytest.fixture
def container(archive: Path, tmp_path: Path) -> Iterator[tuple[dict[str, str], str]]:
    """A container of the image, not running, and buildah's environment."""
    with storage(tmp_path / "storage") as environment:
        buildah(environment, "pull", "--quiet", f"docker-archive:{archive}")
        name = buildah(environment, "from", "--pull-never", NAME).strip()
        try:
            yield environment, name
        finally:
            buildah(environment, "rm", name)


def test_it_serves_and_its_probe_says_so(container: tuple[dict[str, str], str], tmp_path: Path) -> None:
    environment, name = container
    cluster = tmp_path / "cluster.json"
    cluster.write_text('{"kind": "List", "apiVersion": "v1", "items": []}')
    script = (
        "python -m extender serve --policy bundled:packing --cluster-file /cluster.json --http-port 18888 "
        "--grpc-port 0 & pid=$!; "
        f"for _ in $(seq {START_LIMIT_SECONDS:g}); do "
        "python -m extender.probe http://127.0.0.1:18888/readyz && break; sleep 1; done; "
        "python -m extender.probe http://127.0.0.1:18888/healthz; code=$?; id -u; kill $pid; wait $pid; exit $code"
    )
    started = time.monotonic()
    said = buildah(
        environment, "run", "--isolation=chroot", f"--volume={cluster}:/cluster.json:ro", name, "--", "sh", "-c", script
    )
    assert time.monotonic() - started < START_LIMIT_SECONDS
    assert '{"ready":true' in said.replace(" ", "")
    assert said.splitlines()[-1] == "65532"
