"""Container images written by hand: one layer, a configuration and a manifest in a tar, as `docker save` has them."""

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path


def write_image(
    archive: Path,
    name: str,
    layer: Path,
    entrypoint: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    stop_signal: str | None = None,
) -> None:
    """Write an image archive.

    Args:
        archive: the file.
        name: with a tag.
        layer: an uncompressed tar with all its files.
        entrypoint: the program that it starts.
        environment: variables that the program gets.
        stop_signal: what it ends on.
    """
    with layer.open("rb") as content:
        identity = hashlib.file_digest(content, "sha256").hexdigest()
    settings: dict[str, object] = {"Entrypoint": list(entrypoint)}
    settings["Env"] = [f"{key}={value}" for key, value in (environment or {}).items()]
    if stop_signal is not None:
        settings["StopSignal"] = stop_signal
    configuration = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": settings,
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{identity}"]},
            "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "stowage tests"}],
        }
    ).encode()
    configuration_name = f"{hashlib.sha256(configuration).hexdigest()}.json"
    manifest = [{"Config": configuration_name, "RepoTags": [name], "Layers": [f"{identity}.tar"]}]
    with tarfile.open(archive, "w") as tar:
        _add(tar, configuration_name, configuration)
        tar.add(layer, f"{identity}.tar")
        _add(tar, "manifest.json", json.dumps(manifest).encode())


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))
