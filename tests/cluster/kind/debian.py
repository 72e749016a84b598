"""A Debian in a folder, from the mirror that this machine's own packages come from."""

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

SUITE = "bookworm"
SOURCES = Path("/etc/apt/sources.list.d/debian.sources"), Path("/etc/apt/sources.list")
LIMIT_SECONDS = 900.0
# What the images of Debian and Python on the registries leave out as well.
DISPENSABLE = (
    "usr/share/doc",
    "usr/share/man",
    "usr/share/info",
    "usr/share/locale",
    "var/cache/apt",
    "var/lib/apt/lists",
)


class DebianError(Exception):
    """No Debian could be made; the message says why."""


def mirror() -> str:
    """The address of the machine's Debian mirror, as apt has it; it is never written down here.

    Raises:
        DebianError: apt has none.
    """
    for sources in SOURCES:
        if sources.is_file():
            found = re.search(r"^(?:URIs:|deb)\s+(?:\[.*?\]\s+)?(\S+)", sources.read_text(), re.MULTILINE)
            if found:
                return found.group(1)
    raise DebianError(f"no mirror of Debian is named in {' or '.join(map(str, SOURCES))}")


def bootstrap(root: Path, packages: Sequence[str]) -> None:
    """Install a minimal Debian into a folder that is empty or not there yet.

    Args:
        root: the folder.
        packages: on top of the essential ones.

    Raises:
        DebianError: debootstrap failed; the end of its log is in the message.
    """
    # Without this dpkg waits for the disk after every file.
    (root / "etc" / "dpkg" / "dpkg.cfg.d").mkdir(parents=True)
    (root / "etc" / "dpkg" / "dpkg.cfg.d" / "unsafe-io").write_text("force-unsafe-io\n")
    answer = subprocess.run(
        ["debootstrap", "--variant=minbase", f"--include={','.join(packages)}", SUITE, str(root), mirror()],
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
    )
    if answer.returncode != 0:
        tail = "\n".join((answer.stdout + answer.stderr).splitlines()[-15:])
        raise DebianError(f"debootstrap failed:\n{tail}")
    for name in DISPENSABLE:
        shutil.rmtree(root / name, ignore_errors=True)
    for cache in root.rglob("__pycache__"):
        shutil.rmtree(cache)


def pack(root: Path, archive: Path) -> None:
    """Write a folder as a tar with the owners and modes that it has."""
    subprocess.run(
        ["tar", "--create", "--file", str(archive), "--numeric-owner", "--xattrs", "--directory", str(root), "."],
        check=True,
        timeout=LIMIT_SECONDS,
    )
