"""Policies that load like any other and then go wrong, and a cluster of which nothing is heard: pods get answers."""

import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.extender.cluster.api_server import FakeApiServer, query_of
from tests.extender.cluster.test_watcher import eventually, kubeconfig
from tests.extender.objects import cluster_list, extender_args, node, pod
from tests.extender.server.process import ExtenderProcess, exchange, run_extender, serve
from tests.policy_files import policy_file, trap_file

NODES = [node("full"), node("empty")]
RUNNING = pod("running", {"cpu": "7"}, "full", "Running")
LATE = 30.0  # what hangs here hangs for hours


def serve_trap(
    trap: str, folder: Path, deadline: str = "3", breaker_failures: str = "2"
) -> AbstractContextManager[ExtenderProcess]:
    path = folder / "trap.onnx"
    path.write_bytes(trap_file(trap))  # type: ignore[arg-type]
    arguments = ("--deadline", deadline, "--breaker-failures", breaker_failures, "--breaker-pause", "3600")
    return serve(cluster_list(*NODES, RUNNING), folder, *arguments, policy=str(path))


@pytest.mark.parametrize(("trap", "kind"), [("hang", "deadline"), ("raise", "error"), ("nan", "error")])
def test_a_policy_that_goes_wrong_costs_no_pod_its_ranking(tmp_path: Path, trap: str, kind: str) -> None:
    with serve_trap(trap, tmp_path, "3" if kind == "deadline" else "60") as extender:
        connection = extender.connect()
        for number in range(5):
            began = time.monotonic()
            reply = exchange(connection, "POST", "/prioritize", extender_args(pod(f"p{number}"), ["full", "empty"]))
            assert time.monotonic() - began < LATE
            assert [each["Host"] for each in reply.json()] == ["empty", "full"]
        connection.close()

        assert extender.count("stowage_decisions_total", rung="heuristic") == 5
        assert extender.count("stowage_policy_failures_total", rung="policy", kind=kind) == 2
        assert extender.count("stowage_policy_failures_total", rung="policy", kind="breaker") == 3
        assert extender.count("stowage_breaker_open") == 1
        # ONNX Runtime is told to end, and does.
        eventually(lambda: extender.count("stowage_hung_calls") == 0)
        status, errors = extender.terminate()

    assert status == 0
    assert "no usable scores from trap" in errors


def test_a_computation_that_nothing_can_end_is_left_behind(tmp_path: Path) -> None:
    with serve_trap("huge-hang", tmp_path) as extender:
        for number in range(3):
            began = time.monotonic()
            reply = extender.ask("POST", "/prioritize", extender_args(pod(f"p{number}"), ["full", "empty"]))
            assert time.monotonic() - began < LATE
            assert [each["Host"] for each in reply.json()] == ["empty", "full"]

        assert extender.count("stowage_hung_calls") > 0
        assert extender.terminate()[0] == 0


# The last thing that a process does is made to take a while: what libraries register later is taken down before it.
SLOW_END = "import ctypes\nlibc = ctypes.CDLL(None)\nlibc.__cxa_atexit(libc.sleep, ctypes.c_void_p(5), None)\n"


def test_a_computation_that_ends_while_the_process_does_is_no_crash(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(SLOW_END)
    (tmp_path / "trap.onnx").write_bytes(trap_file("hang"))
    (tmp_path / "cluster.json").write_bytes(cluster_list(*NODES, RUNNING))
    files = ("--policy", str(tmp_path / "trap.onnx"), "--cluster-file", str(tmp_path / "cluster.json"))
    with run_extender(*files, "--deadline", "1", PYTHONPATH=str(tmp_path)) as extender:
        extender.wait_ready()
        extender.ask("POST", "/prioritize", extender_args(pod("p"), ["full", "empty"]))

        assert extender.terminate()[0] == 0


@pytest.mark.parametrize("opened", [True, False], ids=["open connections", "new connections"])
def test_the_deadline_counts_from_when_a_request_came_not_from_its_turn(tmp_path: Path, opened: bool) -> None:
    with serve_trap("hang", tmp_path, "1", "100") as extender:
        connections = [extender.connect() for _ in range(5)]
        for connection in connections if opened else ():
            assert exchange(connection, "GET", "/healthz").status == 200
        for number, connection in enumerate(connections):
            connection.request("POST", "/prioritize", extender_args(pod(f"p{number}"), ["full", "empty"]))
        for connection in connections:
            assert connection.getresponse().status == 200
            connection.close()
        told = [extender.ask("GET", f"/explain?pod=default/p{number}").json() for number in range(5)]

    # Those that waited while the first hung until its deadline have none left themselves.
    assert sum("no time was left" in each["failures"][0] for each in told) >= 2


def test_a_policy_in_order_never_sees_the_ladder(tmp_path: Path) -> None:
    path = tmp_path / "sum.onnx"
    path.write_bytes(policy_file())
    with serve(cluster_list(*NODES), tmp_path, "--deadline", "10", policy=str(path)) as extender:
        extender.ask("POST", "/prioritize", extender_args(pod("p"), ["full", "empty"]))

        assert extender.count("stowage_decisions_total", rung="policy") == 1
        assert extender.count("stowage_policy_failures_total") == 0


class TwoKinds:
    """A fake API server for nodes and pods, whose watches say something once and then nothing until they are cut."""

    def __init__(self) -> None:
        self.kinds = {"/api/v1/nodes": FakeApiServer("Node"), "/api/v1/pods": FakeApiServer("Pod")}
        self.cut = threading.Event()
        served = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                query = query_of(self.path)
                api = served.kinds[self.path.split("?")[0]]
                code, body = api.watch(query) if "watch" in query else api.page(query)
                self.send_response(code)
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                self.wfile.write(f"{len(body):x}\r\n".encode() + body + b"\r\n")
                self.wfile.flush()
                if "watch" in query:
                    served.cut.wait(60.0)
                self.wfile.write(b"0\r\n\r\n")

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


@pytest.fixture
def api() -> Iterator[TwoKinds]:
    made = TwoKinds()
    yield made
    made.cut.set()
    made.http.shutdown()
    made.http.server_close()


def test_what_has_not_been_heard_of_for_too_long_steers_nobody(tmp_path: Path, api: TwoKinds) -> None:
    api.kinds["/api/v1/nodes"].put("full", NODES[0])
    api.kinds["/api/v1/nodes"].put("empty", NODES[1])
    path = kubeconfig(tmp_path, api.http.server_port)
    arguments = ("--policy", "heuristic:least-allocated", "--kubeconfig", str(path), "--deadline", "10")
    body = extender_args(pod("p"), ["full", "empty"])
    with run_extender(*arguments, "--staleness-limit", "1") as extender:
        extender.wait_ready()
        eventually(lambda: extender.count("stowage_staleness_seconds", kind="nodes") > 1.0)
        assert extender.ask("POST", "/prioritize", body).json() == []
        assert extender.count("stowage_decisions_total", rung="stale") == 1

        api.cut.set()  # from now on watches end at once, each with a bookmark
        eventually(lambda: len(extender.ask("POST", "/prioritize", body).json()) == 2)
