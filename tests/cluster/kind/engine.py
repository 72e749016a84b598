"""podman, set up for kind apart from whatever else the machine has of it."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# More of either, or none, is refused by the kernel when a node starts (EPERM on RLIMIT_NOFILE and RLIMIT_NPROC).
CONTAINERS = """\
[containers]
pids_limit = 0
default_ulimits = ["nofile=20000:20000", "nproc=32768:32768"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[network]
network_backend = "netavark"
network_config_dir = "{folder}/networks"
"""
STORAGE = """\
[storage]
driver = "overlay"
graphroot = "{folder}/images"
runroot = "{folder}/run"
"""
LIMIT_SECONDS = 300.0


class EngineError(Exception):
    """podman failed; the message ends with what it said."""


class Engine:
    """podman with folders of its own.

    Attributes:
        environment: variables that make podman, and kind, use them.
    """

    def __init__(self, folder: Path) -> None:
        (folder / "networks").mkdir(parents=True)
        (folder / "containers.conf").write_text(CONTAINERS.format(folder=folder))
        (folder / "storage.conf").write_text(STORAGE.format(folder=folder))
        self.environment = {
            "CONTAINERS_CONF": str(folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
            "KIND_EXPERIMENTAL_PROVIDER": "podman",
            "TMPDIR": str(folder),
        }

    def podman(self, *arguments: str) -> str:
        """Run podman; returns its standard output.

        Raises:
            EngineError: it failed.
        """
        answer = subprocess.run(
            ["podman", *arguments],
            env=os.environ | self.environment,
            capture_output=True,
            text=True,
            timeout=LIMIT_SECONDS,
        )
        if answer.returncode != 0:
            tail = "\n".join((answer.stdout + answer.stderr).splitlines()[-20:])
            raise EngineError(f"podman {' '.join(arguments)} failed:\n{tail}")
        return answer.stdout


@contextmanager
def run_engine(folder: Path) -> Iterator[Engine]:
    """podman with an empty storage; at the end its containers are stopped and everything of it is deleted."""
    modules = Path("/lib/modules")
    made_modules = not modules.exists()
    if made_modules:
        modules.mkdir()  # kind mounts it into every node
    engine = Engine(folder)
    try:
        yield engine
    finally:
        engine.podman("rm", "--all", "--force", "--volumes", "--time=0")
        engine.podman("rmi", "--all", "--force")
        subprocess.run(["umount", "--quiet", str(folder / "images" / "overlay")], check=False)
        shutil.rmtree(folder)
        if made_modules:
            modules.rmdir()
