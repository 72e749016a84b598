"""The network namespace that everything of a kind cluster runs in: it has loopback and no way out.

    python -m tests.cluster.kind.isolation COMMAND…

runs a command in a new one. Without it pods' traffic would leave the machine: CoreDNS asks upstream resolvers, and an
address of a Service that kube-proxy has not programmed yet is routed outward. The namespace and its mounts go with the
last process in it.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

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
    """Run a command in a new namespace; returns its exit status."""
    prepared = ["sh", "-c", 'ip link set lo up && exec "$@"', "sh", *command]
    environment = os.environ | {MARK: network_namespace()}
    return subprocess.run(["unshare", "--net", "--mount", "--", *prepared], env=environment).returncode


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
