"""A whole cluster for a replay: control plane, KWOK, and the schedulers that are compared.

    python -m tests.cluster.replay_cluster -- python -m training.replay --namespace default --nodes 48 --load 0.9

starts it all, runs the command with KUBECONFIG set, and stops it all. `stowage` is kube-scheduler with the committed
configuration and the extender with a bundled policy; `default-scheduler` and `most-allocated` are a second process
without it. There is no controller manager, so nobody ends a deleted namespace: give `--namespace default`.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import yaml

from tests.cluster.api import Api, load_documents
from tests.cluster.control_plane import run_control_plane
from tests.cluster.extender_process import ExtenderProcess
from tests.cluster.kwok import run_kwok
from tests.cluster.processes import free_port
from tests.cluster.scheduler import run_scheduler
from tests.cluster.testbed import MANIFESTS
from tests.cluster.tools.build import DEFAULT_KUBERNETES, tools_directory

PROFILES = Path(__file__).with_name("replay_profiles.yaml")
POLICY = "bundled:latency"
QUICK = {"qps": 5000, "burst": 5000}  # as in replay_profiles.yaml
REPLAYER = "stowage", "replayer"  # namespace and name of a service account
QUIET = ""  # vmodule of a kube-scheduler whose log nobody reads


class ReplayCluster(NamedTuple):
    """A running cluster.

    Attributes:
        api: the API server as its administrator sees it.
        kubeconfig: how others join him.
        replayer: a kubeconfig for a replay with the rights of manifests/replay-rbac.yaml and no others.
        extender: the one that runs.
    """

    api: Api
    kubeconfig: Path
    replayer: Path
    extender: ExtenderProcess


@contextmanager
def run_replay_cluster(
    tools: Path, directory: Path, policy: str = POLICY, flags: Sequence[str] = ()
) -> Iterator[ReplayCluster]:
    """Start everything, and stop it at the end.

    Args:
        tools: the folder with the control plane's binaries.
        directory: an empty folder.
        policy: of the extender.
        flags: further ones of the extender.
    """
    port = free_port()
    with ExitStack() as stack:
        control_plane = stack.enter_context(run_control_plane(tools, directory))
        api, admin = control_plane.api, control_plane.admin_kubeconfig()
        for manifest in ("namespace.yaml", "extender/rbac.yaml", "kube-scheduler/rbac.yaml", "replay-rbac.yaml"):
            api.create_all(MANIFESTS / manifest)
        bind_replayer(api)
        stack.enter_context(run_kwok(tools, directory, admin, MANIFESTS / "kwok" / "stages.yaml"))
        extender = ExtenderProcess(
            directory,
            control_plane.kubeconfig("stowage", "stowage-extender"),
            Path(policy),
            port,
            ("--typical-pods", "policy", *flags),  # what `--compare-simulator` plays
        )
        stack.callback(extender.stop)
        (ours,) = load_documents(MANIFESTS / "kube-scheduler" / "configuration.yaml")
        quick = directory / "stowage.yaml"
        quick.write_text(yaml.safe_dump(ours | {"clientConnection": QUICK}))
        users = control_plane.kubeconfig("stowage", "stowage-scheduler"), admin
        for name, user, configuration, url in (
            ("stowage", users[0], quick, f"http://127.0.0.1:{port}"),
            ("others", users[1], PROFILES, None),
        ):
            (directory / name).mkdir()
            stack.enter_context(run_scheduler(tools, directory / name, user, configuration, url, QUIET))
        extender.wait_ready()
        yield ReplayCluster(api, admin, control_plane.kubeconfig(*REPLAYER), extender)


def bind_replayer(api: Api) -> None:
    """Make a service account for replays, bound to the ClusterRole that stands ready for them."""
    namespace, name = REPLAYER
    rbac = "rbac.authorization.k8s.io"
    api.create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}})
    api.create(
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "stowage-replay"},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
        }
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command in such a cluster; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.replay_cluster", description=__doc__)
    parser.add_argument("--policy", default=POLICY, help="of the extender (default: %(default)s)")
    parser.add_argument("--kubernetes", default=DEFAULT_KUBERNETES, help="version (default: %(default)s)")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="what to run, behind --")
    options = parser.parse_args(arguments)
    command = [word for word in options.command if word != "--"]
    if not command:
        parser.error("no command: give one behind --")
    with tempfile.TemporaryDirectory(prefix="replay-") as folder:
        tools = tools_directory(options.kubernetes)
        with run_replay_cluster(tools, Path(folder), options.policy) as cluster:
            environment = os.environ | {"KUBECONFIG": str(cluster.kubeconfig)}
            return subprocess.run(command, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
