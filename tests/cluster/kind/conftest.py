"""One kind cluster for all tests: Stowage's image loaded, simulated nodes beside the real one."""

import copy
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.cluster.api import Api
from tests.cluster.kind.application_image import application_image
from tests.cluster.kind.cluster import CLUSTER, KindCluster, run_cluster
from tests.cluster.kind.engine import Engine, run_engine
from tests.cluster.kind.isolation import NotIsolatedError, assert_isolated
from tests.cluster.kind.node_image import node_image
from tests.cluster.kind.release import Release
from tests.cluster.kwok import create_nodes, node_shapes, run_kwok
from tests.cluster.testbed import MANIFESTS
from tests.cluster.tools.build import tools_directory
from tests.conftest import unavailable

SIMULATED = {"general": 4, "gpu-shared": 3, "gpu-whole": 3}
# Keeps every pod that does not ask for it, the cluster's own and Stowage's among them, off nodes that are not there.
TAINT = {"key": "kwok.x-k8s.io/node", "value": "fake", "effect": "NoSchedule"}


@pytest.fixture(scope="session")
def kind_tools() -> Path:
    """The folder with kind and the programs of its nodes."""
    directory = tools_directory(kind=True)
    if not directory.is_dir():
        unavailable("kind is not built; run `make e2e-kind`")
    return directory


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """podman, with the image of a node."""
    try:
        assert_isolated()
    except NotIsolatedError as error:
        unavailable(str(error))
    with run_engine(tmp_path_factory.mktemp("podman") / "engine") as engine:
        engine.podman("load", "--quiet", "--input", str(node_image()))
        yield engine


@pytest.fixture(scope="session")
def cluster(
    engine: Engine, tools: Path, kind_tools: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[KindCluster]:
    """The cluster, with the image of the Dockerfile on its node."""
    with run_cluster(engine, tools, kind_tools, tmp_path_factory.mktemp("kind")) as cluster:
        cluster.load(application_image())
        yield cluster


@pytest.fixture(scope="session")
def api(cluster: KindCluster) -> Iterator[Api]:
    """The API server as the administrator sees it."""
    cluster.kubectl("--namespace=kube-system", "create", "serviceaccount", "tests")
    cluster.kubectl(
        "create", "clusterrolebinding", "tests", "--clusterrole=cluster-admin", "--serviceaccount=kube-system:tests"
    )
    token = cluster.kubectl("--namespace=kube-system", "create", "token", "tests", "--duration=3h").strip()
    certificate = cluster.directory / "ca.crt"
    certificate.write_text(cluster.in_node("cat", "/etc/kubernetes/pki/ca.crt"))
    with Api(cluster.server(), token, certificate) as api:
        yield api


@pytest.fixture(scope="session")
def simulated(cluster: KindCluster, api: Api) -> Iterator[None]:
    """KWOK's nodes, which only pods go to that tolerate them."""
    shapes = copy.deepcopy(node_shapes(MANIFESTS / "kwok" / "nodes.yaml"))
    for shape in shapes.values():
        shape["spec"] = {"taints": [TAINT]}
    stages = MANIFESTS / "kwok" / "stages.yaml"
    with run_kwok(cluster.tools, cluster.directory, cluster.kubeconfig, stages):
        create_nodes(api, shapes, SIMULATED)
        yield


@pytest.fixture(scope="session")
def release(cluster: KindCluster, api: Api, simulated: None) -> Release:
    """The chart, not installed yet."""
    return Release(cluster, api)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show with a test that fails what is in the cluster and what Stowage said last."""
    report = yield
    cluster = getattr(item, "funcargs", {}).get("cluster")
    if report.failed and isinstance(cluster, KindCluster):
        report.sections.append((f"kind cluster {CLUSTER}", cluster.describe()))
    return report
