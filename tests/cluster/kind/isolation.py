"""The namespaces that everything of a kind cluster runs in: loopback and no way out, processes of its own.

    python -m tests.cluster.kind.isolation COMMAND…

runs a command in new ones. Without them pods' traffic would leave the machine: CoreDNS asks upstream resolvers, and an
address of a Service that kube-proxy has not programmed yet is routed outward. However the command ends, or is ended,
nothing of it stays: the kernel ends what still runs when the first process of the namespace does, mounts go with the
last one, and the folder for temporary files is deleted.
"""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

# podman notes its containers, their networks and its locks there; without folders of its own it would take those of
# another podman on the machine for its own.
OWN = ("/run/containers", "/run/libpod", "/run/netns", "/dev/shm")
PREPARE = f'ip link set lo up; for own in {" ".join(OWN)}; do mkdir -p "$own"; mount -t tmpfs none "$own"; done'
# A namespace's first process: it waits for the command, and for whatever is left without a parent.
FIRST = f'{PREPARE}; "$@"; exit $?'
UNSHARE = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
MARK = "STOWAGE_ISOLATED_FROM"  # the namespace that a command was isolated from


class NotIsolatedError(Exception):
    """This process could reach beyond the machine; the message says how."""


def network_namespace() -> str:
    """The one that this process is in."""
    return os.readlink("/proc/self/ns/net")


def assert_isolated() -> None:
    """Make sure that nothing started from here can reach beyond the machine.

    Raises:
        NotIsolatedError: this is not a namespace of its own, or there is a route out of it.
    """
    if MARK not in os.environ or os.environ[MARK] == network_namespace():
        raise NotIsolatedError("a kind cluster is only started in a network namespace of its own: run `make e2e-kind`")
    for family in ("-4", "-6"):
        routes = subprocess.run(
            ["ip", family, "route", "show", "default"], check=True, capture_output=True, text=True, timeout=30
        )
        if routes.stdout.strip():
            raise NotIsolatedError(f"the namespace has a way out: {routes.stdout.strip()}")
    links = {path.name for path in Path("/proc/self/net/dev_snmp6").iterdir()}
    uplinks = {name for name in links if not name.startswith(("lo", "podman", "veth", "cni"))}
    if uplinks:
        raise NotIsolatedError(f"the namespace has an interface that is not a cluster's: {', '.join(sorted(uplinks))}")


def run(command: Sequence[str]) -> int:
    """Run a command in namespaces of its own; returns its exit status. SIGTERM ends all of it at once."""
    with tempfile.TemporaryDirectory(prefix="stowage-isolated-") as folder:
        environment = os.environ | {MARK: network_namespace(), "TMPDIR": folder}
        # Whoever kills this process ends the others too.
        wanted = ["setpriv", "--pdeathsig=KILL", *UNSHARE, "--", "sh", "-euc", FIRST, "sh", *command]
        process = subprocess.Popen(wanted, env=environment)

        def end(signal_number: int, frame: FrameType | None) -> None:
            process.kill()

        signal.signal(signal.SIGTERM, end)
        # Ctrl-C reaches the command as well, which tidies up; this process waits until it has.
        signal.signal(signal.SIGINT, lambda signal_number, frame: None)
        return process.wait()


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
