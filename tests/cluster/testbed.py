"""A whole cluster in one room: control plane, simulated nodes, kube-scheduler with the committed manifests."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.api import Api, Document
from tests.cluster.control_plane import run_control_plane
from tests.cluster.kwok import create_nodes, node_shapes, run_kwok
from tests.cluster.processes import free_port
from tests.cluster.scheduler import Scheduler, run_scheduler

ROOT = Path(__file__).resolve().parents[2]
MANIFESTS = ROOT / "manifests"


@dataclass(frozen=True)
class Testbed:
    """A running cluster, and what an extender needs to join it.

    Attributes:
        api: the API server as the administrator sees it.
        shapes: a node of each shape, to make further ones like it.
        scheduler_kubeconfig: of kube-scheduler's service account.
        extender_kubeconfig: of the extender's own service account.
        extender_port: where kube-scheduler expects the extender.
        directory: where the logs are.
    """

    __test__ = False  # not a class of tests, whatever its name looks like to pytest

    api: Api
    scheduler: Scheduler
    shapes: dict[str, Document]
    scheduler_kubeconfig: Path
    extender_kubeconfig: Path
    extender_port: int
    directory: Path


@contextmanager
def run_testbed(tools: Path, directory: Path, nodes: Mapping[str, int]) -> Iterator[Testbed]:
    """Start everything but the extender, and stop it at the end.

    Args:
        tools: the folder with the control plane's binaries.
        directory: an empty folder.
        nodes: number of nodes by the name of their shape in `manifests/kwok/nodes.yaml`.
    """
    port = free_port()
    with ExitStack() as stack:
        control_plane = stack.enter_context(run_control_plane(tools, directory))
        api = control_plane.api
        for manifest in ("namespace.yaml", "extender/rbac.yaml", "kube-scheduler/rbac.yaml"):
            api.create_all(MANIFESTS / manifest)

        stages = MANIFESTS / "kwok" / "stages.yaml"
        stack.enter_context(run_kwok(tools, directory, control_plane.admin_kubeconfig(), stages))
        shapes = node_shapes(MANIFESTS / "kwok" / "nodes.yaml")
        create_nodes(api, shapes, nodes)

        scheduler_kubeconfig = control_plane.kubeconfig("stowage", "stowage-scheduler")
        scheduler = run_scheduler(
            tools,
            directory,
            scheduler_kubeconfig,
            MANIFESTS / "kube-scheduler" / "configuration.yaml",
            f"http://127.0.0.1:{port}",
        )
        yield Testbed(
            api,
            stack.enter_context(scheduler),
            shapes,
            scheduler_kubeconfig,
            control_plane.kubeconfig("stowage", "stowage-extender"),
            port,
            directory,
        )
