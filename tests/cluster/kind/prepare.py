"""Gets ready what the tests in a kind cluster need, while the network can still be reached.

    python -m tests.cluster.kind.prepare

Debian's packages are installed where they are missing, and the images are built where they are not in the cache. What
cannot be had ends it with one message that says what to do.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.cluster.kind.application_image import ImageError, application_image, layers_of_two_builds
from tests.cluster.kind.debian import DebianError
from tests.cluster.kind.node_image import node_image

PACKAGES = (
    *("podman", "buildah", "runc", "containerd", "debootstrap", "netavark", "aardvark-dns", "conntrack"),
    *("iptables", "nftables", "iproute2", "util-linux"),
)
APT_LIMIT_SECONDS = 900.0


class CannotPrepareError(Exception):
    """This machine cannot run a kind cluster; the message says what it lacks."""


def install_packages() -> None:
    """Install what is missing of Debian's packages.

    Raises:
        CannotPrepareError: this is no Debian, or its packages cannot be had.
    """
    if os.geteuid() != 0:
        raise CannotPrepareError("a kind cluster is made by root here (podman, debootstrap and namespaces need it)")
    for program in ("apt-get", "dpkg-query"):
        if shutil.which(program) is None:
            raise CannotPrepareError(
                f"no {program}: the node image is made of Debian's packages, so this needs a Debian"
            )
    missing = [package for package in PACKAGES if not is_installed(package)]
    if not missing:
        return
    print(f"installing {' '.join(missing)}", flush=True)
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (["update", "-qq"], ["install", "-qq", "--yes", "--no-install-recommends", *missing]):
        answer = subprocess.run(
            ["apt-get", *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=APT_LIMIT_SECONDS,
        )
        if answer.returncode != 0:
            tail = "\n".join((answer.stdout + answer.stderr).splitlines()[-10:])
            raise CannotPrepareError(f"apt-get {arguments[0]} failed; it said:\n{tail}")


def is_installed(package: str) -> bool:
    """Whether dpkg has it installed."""
    answer = subprocess.run(
        ["dpkg-query", "--show", "--showformat=${db:Status-Status}", package], capture_output=True, text=True
    )
    return answer.stdout == "installed"


def main() -> int:
    """Command line; exit status 2 where the machine lacks something."""
    # So that what is half built goes with the process, and the programs that build it.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    steps: list[tuple[str, Callable[[], Path | None]]] = [
        ("Debian packages", install_packages),
        ("node image", node_image),
        ("application image", application_image),
        ("the same, again", layers_of_two_builds),
    ]
    for name, step in steps:
        started = time.monotonic()
        try:
            step()
        except (CannotPrepareError, DebianError, ImageError) as error:
            print(f"e2e-kind: {name}: {error}", file=sys.stderr)
            return 2
        print(f"{name:20}{time.monotonic() - started:5.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
