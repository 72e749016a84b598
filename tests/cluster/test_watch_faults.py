"""After any sequence of changes, cut connections and restarts of the API server, the state equals a fresh list's.

The same as `tests/extender/cluster/test_reflector.py` says of a fake API server, with the real one, and through the
real transport; the only parts are the control plane, a proxy that cuts connections, and the extender's own watch.
"""

import asyncio
import secrets
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from extender.cluster.api import connect
from extender.cluster.assume import Assumptions
from extender.cluster.feed import ClusterFeed
from extender.cluster.reflector import NODES as WATCHED_NODES
from extender.cluster.reflector import PODS as WATCHED_PODS
from extender.cluster.reflector import ListWatch
from extender.cluster.requests import BASE_RESOURCES
from extender.cluster.state import ClusterState
from extender.cluster.watcher import Handoff, Watcher
from extender.telemetry.metrics import Metrics
from tests.cluster.api import NODES, PODS, Api
from tests.cluster.control_plane import ControlPlane, start_apiserver, start_etcd
from tests.cluster.cutting_proxy import CuttingProxy
from tests.cluster.extender_process import NodeView
from tests.cluster.kwok import make_node, node_shapes
from tests.cluster.ledger import account, differences
from tests.cluster.processes import free_port, wait_for
from tests.cluster.testbed import MANIFESTS
from tests.cluster.workload import make_pod

pytestmark = pytest.mark.cluster

READY_LIMIT_SECONDS = 180.0
AGREE_LIMIT_SECONDS = 90.0
READ_TIMEOUT_SECONDS = 5.0
SHAPES = ("general", "gpu-shared", "gpu-whole")


class Watched:
    """An API server that can be restarted, and a state that watches it through a proxy."""

    def __init__(self, tools: Path, directory: Path, stack: ExitStack) -> None:
        self._tools, self._directory = tools, directory
        self._etcd = f"http://127.0.0.1:{free_port()}"
        self._token, self._port = secrets.token_urlsafe(), free_port()
        etcd = start_etcd(tools, directory, self._etcd)
        stack.callback(etcd.stop)
        self._start()
        stack.callback(lambda: self._apiserver.stop())
        certificate = directory / "apiserver.crt"
        self._apiserver.wait_until(certificate.exists, READY_LIMIT_SECONDS)
        self.proxy = stack.enter_context(CuttingProxy(self._port))
        direct = ControlPlane(f"https://127.0.0.1:{self._port}", certificate, self._token, directory)
        self.api: Api = stack.enter_context(direct.api)
        self._apiserver.wait_until(self.api.is_ready, READY_LIMIT_SECONDS)
        watched = ControlPlane(f"https://127.0.0.1:{self.proxy.port}", certificate, self._token, directory)
        stack.enter_context(watched.api)
        self.shapes = node_shapes(MANIFESTS / "kwok" / "nodes.yaml")
        self.state = ClusterState(BASE_RESOURCES)
        self.metrics = Metrics(CollectorRegistry())
        self._watch(watched.admin_kubeconfig(), stack)

    def restart(self) -> None:
        """Restart the API server: it forgets what it could have told a watch, and comes back at the same address."""
        self._apiserver.kill()
        self._start()
        self._apiserver.wait_until(self.api.is_ready, READY_LIMIT_SECONDS)

    def _start(self) -> None:
        self._apiserver = start_apiserver(self._tools, self._directory, self._etcd, self._port, self._token)

    def _watch(self, kubeconfig: Path, stack: ExitStack) -> None:
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()
        feed = ClusterFeed(self.state, Assumptions(self.state, 30.0, loop.time, lambda outcome: None))
        handoff = Handoff(loop, feed.apply)
        api = connect(kubeconfig, READ_TIMEOUT_SECONDS)
        for watched in (WATCHED_NODES, WATCHED_PODS):
            counters = self.metrics.reflector(watched.kind)
            watcher = Watcher(ListWatch(watched, BASE_RESOURCES, 3, lambda: 0.5, counters), api, handoff)
            watcher.start()
            stack.callback(watcher.stop)
        stack.callback(thread.join)
        stack.callback(loop.call_soon_threadsafe, loop.stop)

    def views(self) -> dict[str, NodeView]:
        """The state as the ledger compares it."""
        arrays, views = self.state.arrays, {}
        for name in self.state.node_names():
            row = self.state.row_of(name)
            amounts = (arrays.allocatable[row].tolist(), arrays.requested[row].tolist())
            views[name] = NodeView(*(dict(zip(BASE_RESOURCES, each, strict=True)) for each in amounts))
        return views

    def assert_agrees(self) -> None:
        """The state becomes what a fresh list says."""
        expected = account(self.api.list_nodes(), self.api.list_pods())
        try:
            wait_for(lambda: not differences(self.views(), expected), AGREE_LIMIT_SECONDS, "the state to agree", 0.05)
        except TimeoutError as error:
            raise AssertionError("\n".join([str(error), *differences(self.views(), expected)])) from error

    def count(self, name: str) -> float:
        """The sum of a counter's series."""
        lines = self.metrics.expose().decode().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"{name}{{"))


@pytest.fixture(scope="module")
def watched(tools: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    with ExitStack() as stack:
        yield Watched(tools, tmp_path_factory.mktemp("faults"), stack)


actions = st.one_of(
    st.tuples(st.just("pod"), st.integers(0, 5), st.integers(0, 2)),
    st.tuples(st.just("pod"), st.integers(0, 5), st.integers(0, 2)),
    st.tuples(st.just("delete pod"), st.integers(0, 5), st.just(0)),
    st.tuples(st.just("node"), st.integers(0, 2), st.just(0)),
    st.tuples(st.just("delete node"), st.integers(0, 2), st.just(0)),
    st.tuples(st.just("cut"), st.just(0), st.just(0)),
)


@settings(max_examples=12, suppress_health_check=list(HealthCheck), print_blob=True)
@given(st.lists(actions, min_size=4, max_size=25), st.booleans())
def test_the_state_equals_a_fresh_list(watched: Watched, taken: list[tuple[str, int, int]], restarted: bool) -> None:
    api = watched.api
    nodes = {node["metadata"]["name"] for node in api.list_nodes()}
    pods = {pod["metadata"]["name"] for pod in api.list_pods()}
    for step, (action, number, where) in enumerate(taken):
        pod, node = f"p{number}", f"n{number}"
        if action == "pod" and pod not in pods:
            made = make_pod(pod, {"cpu": f"{100 * (step + 1)}m", "memory": "64Mi"})
            made["spec"]["nodeName"] = f"n{where}"
            api.create(made)
            pods.add(pod)
        elif action == "delete pod" and pod in pods:
            api.delete(f"{PODS}/{pod}")
            pods.remove(pod)
        elif action == "node" and node not in nodes:
            api.create(make_node(watched.shapes[SHAPES[number]], node))
            nodes.add(node)
        elif action == "delete node" and node in nodes:
            api.delete(f"{NODES}/{node}")
            nodes.remove(node)
        elif action == "cut":
            watched.proxy.cut()
        if restarted and step == len(taken) // 2:
            watched.restart()
    watched.assert_agrees()


def test_faults_were_met_and_counted(watched: Watched) -> None:
    watched.proxy.cut()
    watched.api.create(make_node(watched.shapes["general"], "last"))
    watched.assert_agrees()

    assert watched.count("stowage_reflector_failures_total") > 0
    assert watched.count("stowage_reflector_lists_total") >= 2
    assert watched.count("stowage_reflector_backoff_seconds_total") > 0
