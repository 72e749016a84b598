"""Nodes without machines: KWOK gives them a kubelet's answers, by the stages in `manifests/kwok`."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.cluster.api import Api, Document, load_documents
from tests.cluster.processes import Process, wait_for

READY_LIMIT_SECONDS = 180.0


@contextmanager
def run_kwok(tools: Path, directory: Path, kubeconfig: Path, stages: Path) -> Iterator[None]:
    """Run KWOK for every node that carries its annotation."""
    process = Process(
        "kwok",
        [
            tools / "kwok",
            f"--kubeconfig={kubeconfig}",
            f"--config={stages}",
            "--v=ERROR",
            "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
        ],
        directory,
    )
    try:
        yield
    finally:
        process.stop()


def node_shapes(manifest: Path) -> dict[str, Document]:
    """The nodes of the manifest by the name of their shape, which is their instance type."""
    nodes = load_documents(manifest)
    return {node["metadata"]["labels"]["node.kubernetes.io/instance-type"]: node for node in nodes}


def make_node(shape: Document, name: str) -> Document:
    """A node of the shape, under a name of its own."""
    node = copy.deepcopy(shape)
    node["metadata"]["name"] = name
    node["metadata"]["labels"]["kubernetes.io/hostname"] = name
    return node


def create_nodes(api: Api, shapes: Mapping[str, Document], counts: Mapping[str, int]) -> None:
    """Create `<shape>-<number>` nodes and wait until KWOK has made them ready."""
    for shape, count in counts.items():
        for number in range(count):
            api.create(make_node(shapes[shape], f"{shape}-{number}"))
    wait_for(lambda: all(map(is_ready, api.list_nodes())), READY_LIMIT_SECONDS, "KWOK to make every node ready", 0.1)


def is_ready(node: Document) -> bool:
    """Whether the node's kubelet, or who stands in for it, says so."""
    conditions = node["status"].get("conditions", [])
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)
