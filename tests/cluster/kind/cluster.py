"""A kind cluster as `kind create cluster` makes it, with the node image that can be had here."""

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import yaml

from tests.cluster.kind.engine import Engine
from tests.cluster.kind.isolation import assert_isolated
from tests.cluster.kind.node_image import COREDNS_TAG, ETCD_TAG, NAME
from tests.cluster.testbed import MANIFESTS

CLUSTER = "stowage"
KIND = MANIFESTS / "kind.yaml"
LOGS = ("logs", "--namespace=scheduling", "--selector=app.kubernetes.io/name=stowage", "--prefix", "--tail=20")
READY_LIMIT_SECONDS = 180.0
COMMAND_LIMIT_SECONDS = 600.0
# Only what the place needs: no image of a network plugin, cgroups without systemd, etcd as its module numbers it.
KUBEADM = {
    "kind": "ClusterConfiguration",
    "etcd": {"local": {"imageTag": ETCD_TAG}},
    "dns": {"imageTag": COREDNS_TAG},
}
# On a machine that is busy otherwise kubeadm's own four minutes and one are too short.
TIMEOUTS = {"controlPlaneComponentHealthCheck": "6m0s", "kubernetesAPICall": "4m0s"}
KUBEADM_INIT = {"kind": "InitConfiguration", "skipPhases": ["preflight"], "timeouts": TIMEOUTS}
KUBEADM_JOIN = {"kind": "JoinConfiguration", "skipPhases": ["preflight"]}
KUBELET = {"kind": "KubeletConfiguration", "cgroupDriver": "cgroupfs", "failCgroupV1": False}


class ClusterError(Exception):
    """A command of the cluster's failed; the message ends with what it said."""


class KindCluster:
    """A running cluster, driven by kubectl as a person would.

    Attributes:
        tools: the folder with helm and KWOK.
        directory: for files of the tests.
        kubeconfig: of its administrator.
        kubectl_path: the program.
        environment: variables that make kubectl and helm use it.
        node: the name of its only node.
    """

    def __init__(self, engine: Engine, tools: Path, kind_tools: Path, directory: Path) -> None:
        self._engine = engine
        self._kind_tools = kind_tools
        self.tools = tools
        self.directory = directory
        self.kubeconfig = directory / "kubeconfig"
        self.node = f"{CLUSTER}-control-plane"
        self.kubectl_path = kind_tools / "kubectl"
        self.environment = engine.environment | {"KUBECONFIG": str(self.kubeconfig), "HOME": str(directory)}

    def kind(self, *arguments: str) -> str:
        """Run kind."""
        return self._run(self._kind_tools / "kind", *arguments)

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl."""
        return self._run(self.kubectl_path, *arguments, stdin=stdin)

    def get(self, *arguments: str) -> dict[str, object]:
        """An object or a list, by kubectl."""
        document: dict[str, object] = yaml.safe_load(self.kubectl("get", *arguments, "--output=json"))
        return document

    def server(self) -> str:
        """The address of the API server."""
        return self.kubectl("config", "view", "--minify", "--output=jsonpath={.clusters[0].cluster.server}")

    def describe(self) -> str:
        """Pods, events and the end of Stowage's logs, as far as they can be had."""
        commands = [
            ("get", "pods", "--all-namespaces", "--output=wide"),
            ("describe", "pods", "--namespace=kube-system", "--selector=k8s-app=kube-dns"),
            ("logs", "--namespace=kube-system", "--selector=k8s-app=kube-dns", "--tail=20"),
            ("get", "events", "--all-namespaces", "--sort-by=.lastTimestamp"),
            *(
                (*LOGS, f"--container={container}", *previous)
                for container in ("extender", "kube-scheduler")
                for previous in ((), ("--previous",))
            ),
        ]
        shown = []
        for command in commands:
            try:
                said = self.kubectl(*command)
            except ClusterError as error:
                said = str(error)
            shown.append(f"$ kubectl {' '.join(command)}\n" + "\n".join(said.splitlines()[-40:]))
        return "\n".join(shown)

    def apply(self, *documents: Mapping[str, object]) -> None:
        """Create or change objects."""
        self.kubectl("apply", "--filename=-", stdin=yaml.safe_dump_all(documents))

    def in_node(self, *command: str) -> str:
        """Run a command on the node."""
        return self._engine.podman("exec", self.node, *command)

    def create(self) -> None:
        """Create it and wait until its node is ready, DNS answers included."""
        configuration = self.directory / "kind.yaml"
        write_configuration(configuration)
        self.kind(
            *("create", "cluster", f"--name={CLUSTER}", f"--image={NAME}", f"--config={configuration}"),
            *(f"--kubeconfig={self.kubeconfig}", "--wait=0s", "--retain"),
        )
        self.kubectl("wait", "--for=condition=Ready", f"node/{self.node}", f"--timeout={READY_LIMIT_SECONDS:g}s")
        # CoreDNS that started before kube-proxy waits for half a minute.
        self.kubectl("--namespace=kube-system", "rollout", "status", "daemonset/kube-proxy", "--timeout=120s")
        self.kubectl("--namespace=kube-system", "delete", "pods", "--selector=k8s-app=kube-dns", "--wait=false")
        self.kubectl("--namespace=kube-system", "rollout", "status", "deployment/coredns", "--timeout=120s")

    def load(self, archive: Path) -> None:
        """Put an image into the node, as `kind load` does."""
        self.kind("load", "image-archive", str(archive), f"--name={CLUSTER}")

    def delete(self) -> None:
        """Delete it."""
        self.kind("delete", "cluster", f"--name={CLUSTER}", f"--kubeconfig={self.kubeconfig}")

    def _run(self, program: Path, *arguments: str, stdin: str | None = None) -> str:
        answer = subprocess.run(
            [str(program), *arguments],
            env=os.environ | self.environment,
            input=stdin if stdin is not None else "",
            capture_output=True,
            text=True,
            timeout=COMMAND_LIMIT_SECONDS,
        )
        if answer.returncode != 0:
            tail = "\n".join((answer.stdout + answer.stderr).splitlines()[-40:])
            raise ClusterError(f"{program.name} {' '.join(arguments)} failed:\n{tail}")
        return answer.stdout


@contextmanager
def run_cluster(engine: Engine, tools: Path, kind_tools: Path, directory: Path) -> Iterator[KindCluster]:
    """A cluster, isolated before and after it is created, and gone at the end."""
    assert_isolated()
    cluster = KindCluster(engine, tools, kind_tools, directory)
    try:
        try:
            cluster.create()
        except ClusterError as error:
            error.add_note(cluster.describe())
            raise
        assert_isolated()
        yield cluster
    finally:
        cluster.delete()


def write_configuration(path: Path) -> None:
    """Write what kind is to make: the cluster that users get, as this place can run it."""
    configuration = yaml.safe_load(KIND.read_text())
    configuration["networking"] = {"disableDefaultCNI": True, "apiServerAddress": "127.0.0.1"}
    patches = (KUBEADM, KUBEADM_INIT, KUBEADM_JOIN, KUBELET)
    configuration["kubeadmConfigPatches"] = [yaml.safe_dump(patch) for patch in patches]
    path.write_text(yaml.safe_dump(configuration))
