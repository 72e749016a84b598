"""The cluster of a trial: made by kind, with Stowage's image on its node and KWOK in it, and deleted at the end."""

from collections.abc import Sequence
from pathlib import Path

import yaml

from training.kind.commands import ROOT, Commands

MANIFESTS = ROOT / "manifests"
KWOK = MANIFESTS / "kind-kwok.yaml"
STAGES = MANIFESTS / "kwok" / "stages.yaml"
READY = "--timeout=300s"


class ClusterExistsError(Exception):
    """There is a cluster of that name, which may be somebody's; the message says how to remove it."""


class Cluster:
    """A kind cluster with one node.

    Attributes:
        engine: docker or podman.
        name: of the cluster.
        node: of its control plane.
        kubeconfig: of its administrator; the person's own is left alone.
        commands: programs that talk to it.
    """

    def __init__(self, engine: str, name: str, folder: Path) -> None:
        self.engine = engine
        self.name = name
        self.node = f"{name}-control-plane"
        self.kubeconfig = folder / "kubeconfig"
        provider = {"KIND_EXPERIMENTAL_PROVIDER": engine} if engine == "podman" else {}
        self.commands = Commands({"KUBECONFIG": str(self.kubeconfig), **provider})

    def create(self, configuration: Path, node_image: str | None) -> None:
        """Make it and wait until its node and its DNS are ready; if they do not get there, it is deleted.

        Raises:
            ClusterExistsError: there is one of that name already.
            CommandError: kind failed, or it is not ready in time.
        """
        if self.name in self.commands.run("kind", "get", "clusters").split():
            raise ClusterExistsError(
                f"there is a kind cluster {self.name} already: `kind delete cluster --name {self.name}`, or choose "
                "another --name"
            )
        image = [] if node_image is None else [f"--image={node_image}"]
        try:
            self.commands.run(
                *("kind", "create", "cluster", f"--name={self.name}", f"--config={configuration}", "--wait=300s"),
                *(f"--kubeconfig={self.kubeconfig}", *image),
            )
            self.kubectl("wait", "--for=condition=Ready", "nodes", "--all", READY)
            self.kubectl("--namespace=kube-system", "rollout", "status", "deployment/coredns", READY)
        except BaseException:
            self.delete()
            raise

    def delete(self) -> None:
        """Delete it."""
        self.commands.run("kind", "delete", "cluster", f"--name={self.name}", f"--kubeconfig={self.kubeconfig}")

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        """Run kubectl as its administrator."""
        return self.commands.run("kubectl", *arguments, stdin=stdin)

    def in_node(self, *command: str) -> str:
        """Run a command on its node."""
        return self.commands.run(self.engine, "exec", self.node, *command)

    def load(self, image: str, folder: Path) -> None:
        """Put an image of the engine's onto the node; by way of a file, which any engine can write."""
        archive = folder / "image.tar"
        try:
            self.commands.run(self.engine, "save", "--output", archive, image)
            self.load_archive(archive)
        finally:
            archive.unlink(missing_ok=True)

    def load_archive(self, archive: Path) -> None:
        """Put an image from a file onto the node."""
        self.commands.run("kind", "load", "image-archive", archive, f"--name={self.name}")

    def install_kwok(self, image: str | None) -> None:
        """Run KWOK in it, for nodes that carry its annotation, and wait until it is ready.

        Args:
            image: instead of the one in the manifest.
        """
        stages = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "kwok-stages", "namespace": "kube-system"},
            "data": {"stages.yaml": STAGES.read_text()},
        }
        documents = list(yaml.safe_load_all(KWOK.read_text()))
        if image is not None:
            (deployment,) = [document for document in documents if document["kind"] == "Deployment"]
            deployment["spec"]["template"]["spec"]["containers"][0]["image"] = image
        self.kubectl("apply", "--filename=-", stdin=yaml.safe_dump_all([stages, *documents]))
        self.kubectl("--namespace=kube-system", "rollout", "status", "deployment/kwok", READY)


def build_image(commands: Commands, engine: str, name: str, base_image: str | None, arguments: Sequence[str]) -> None:
    """Build Stowage's image from the Dockerfile.

    Args:
        commands: runs the engine.
        engine: docker or podman.
        name: of the image.
        base_image: instead of the Dockerfile's own.
        arguments: further ones of the engine's `build`.
    """
    base = [] if base_image is None else [f"--build-arg=BASE_IMAGE={base_image}"]
    commands.run(engine, "build", f"--tag={name}", *base, *arguments, ROOT)
