"""Stowage's own image, built from the Dockerfile by buildah on a Debian with Python, for no base can be pulled."""

import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.cluster.kind.archive import write_image
from tests.cluster.kind.artefacts import made
from tests.cluster.kind.debian import bootstrap, pack

ROOT = Path(__file__).resolve().parents[3]
REPOSITORY, TAG = "localhost/stowage", "test"
NAME = f"{REPOSITORY}:{TAG}"
BASE_NAME = "localhost/stowage-base:latest"
BASE_PACKAGES = ("python3", "python3-venv", "ca-certificates")
# How pip finds packages on this machine: they are there while it builds and get into no layer.
SETTINGS_OF_PIP = (Path("/etc/ssl/certs"), Path("/etc/pip.conf"))
LIMIT_SECONDS = 1200.0


class ImageError(Exception):
    """The image could not be built; the message ends with what buildah said."""


def application_image() -> Path:
    """The image as an archive, built where it is missing."""
    base = base_image()
    return made("application.tar", [*_recipe(base), ROOT / "extender"], lambda archive: build(base, archive))


def layers_of_two_builds() -> Path:
    """The layers of the image and of a second one from the same inputs, as JSON; built where that is missing.

    Whether they are the same depends on the recipe, so another line in the extender has nothing built again.
    """
    base = base_image()

    def build_again(target: Path) -> None:
        archive = target.with_suffix(".tar")
        build(base, archive)
        target.write_text(json.dumps([configuration(each)["rootfs"] for each in (application_image(), archive)]))

    return made("application-twice.json", _recipe(base), build_again)


def _recipe(base: Path) -> list[str | Path]:
    inputs = [ROOT / name for name in ("Dockerfile", ".dockerignore", "pyproject.toml", "constraints.txt")]
    return [base.parent.name, Path(__file__), *inputs]


def manifest(outer: tarfile.TarFile) -> dict[str, Any]:
    """What an archive says of its only image: the names of its configuration and layers in the archive."""
    content = outer.extractfile("manifest.json")
    assert content is not None
    (only,) = json.load(content)
    return dict(only)


def configuration(archive: Path) -> dict[str, Any]:
    """The configuration of an archive's image."""
    with tarfile.open(archive) as outer:
        content = outer.extractfile(manifest(outer)["Config"])
        assert content is not None
        return dict(json.load(content))


def base_image() -> Path:
    """What stands in for `python:3-slim`."""
    sources = [Path(__file__).with_name(f"{name}.py") for name in ("archive", "debian")]
    return made("base.tar", [" ".join(BASE_PACKAGES), *sources], _make_base)


def _make_base(archive: Path) -> None:
    root, layer = archive.parent / "root", archive.parent / "layer.tar"
    bootstrap(root, BASE_PACKAGES)
    pack(root, layer)
    shutil.rmtree(root)
    write_image(archive, BASE_NAME, layer, (), {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"})
    layer.unlink()


def build(base: Path, archive: Path) -> None:
    """Build the Dockerfile and write the image.

    Args:
        base: archive of the base image.
        archive: to be written; its folder is used for work.

    Raises:
        ImageError: buildah failed.
    """
    with storage(archive.parent / "storage") as environment:
        buildah(environment, "pull", "--quiet", f"docker-archive:{base}")
        volumes = [f"--volume={path}:{path}:ro" for path in SETTINGS_OF_PIP if path.exists()]
        buildah(
            environment,
            *("build", "--isolation=chroot", "--pull-never", "--format=docker", "--timestamp=0"),
            *(f"--build-arg=BASE_IMAGE={BASE_NAME}", f"--tag={NAME}", *volumes, str(ROOT)),
        )
        buildah(environment, "push", "--quiet", NAME, f"docker-archive:{archive}:{NAME}")


@contextmanager
def storage(folder: Path) -> Iterator[dict[str, str]]:
    """A place for buildah's images that is gone afterwards.

    Yields:
        environment variables that make buildah use it.
    """
    folder.mkdir()
    settings = folder / "storage.conf"
    settings.write_text(f'[storage]\ndriver = "overlay"\ngraphroot = "{folder}/images"\nrunroot = "{folder}/run"\n')
    environment = {"CONTAINERS_STORAGE_CONF": str(settings), "TMPDIR": str(folder)}
    try:
        yield environment
    finally:
        buildah(environment, "rmi", "--all", "--force")
        # The storage's own folder is a mount point as long as its driver is used.
        subprocess.run(["umount", "--quiet", str(folder / "images" / "overlay")], check=False)
        shutil.rmtree(folder)


def buildah(environment: dict[str, str], *arguments: str) -> str:
    """Run buildah; returns its standard output.

    Raises:
        ImageError: it failed.
    """
    answer = subprocess.run(
        ["buildah", *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
    )
    if answer.returncode != 0:
        tail = "\n".join((answer.stdout + answer.stderr).splitlines()[-30:])
        raise ImageError(f"buildah {arguments[0]} failed:\n{tail}")
    return answer.stdout
