import json
import socket
import time
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.extender.cluster.test_watcher import eventually, kubeconfig
from tests.extender.objects import cluster_list, extender_args, node, pod
from tests.extender.server.process import exchange, run_extender, serve

POLICY = ("--policy", "heuristic:least-allocated")


def test_sigterm_ends_it_in_order_with_status_0(tmp_path: Path) -> None:
    with serve(cluster_list(node("n")), tmp_path) as extender:
        connection = extender.connect()
        connection.connect()  # an idle connection must not hold it up
        status, errors = extender.terminate()
        connection.close()

    assert status == 0
    assert "stopped by SIGTERM" in errors


def test_every_decision_is_in_the_log_after_sigterm(tmp_path: Path) -> None:
    log = tmp_path / "decisions.jsonl"
    arguments = ("--decision-log", str(log), "--decision-log-flush", "3600")
    with serve(cluster_list(node("n"), node("m", cpu="4")), tmp_path, *arguments) as extender:
        asked = pod("p", {"cpu": "500m", "memory": "1Gi"}, priority=7)
        extender.ask("POST", "/prioritize", extender_args(asked, ["n", "m"]))
        assert extender.terminate()[0] == 0

    (record,) = map(json.loads, log.read_text().splitlines())
    assert record["time"] > 1.7e9
    assert 0 < record["latency"] < 5
    assert [name for name, _ in record["scores"]] == ["n", "m"]
    assert len(record["features"]) == 16
    del record["time"], record["latency"], record["scores"], record["features"]
    assert record == {
        "namespace": "default",
        "pod": "p",
        "uid": "uid-p",
        "kind": "decision",
        "pod_class": "cpu",
        "propensity": 1.0,
        "request": [500, 2**30, 0],
        "gpu_count": 0,
        "gpu_milli": 0,
        "priority": 7,
        "expected_seconds": 0.0,
        "candidates": 2,
        "chosen": "n",
        "rung": "policy",
        "policy": "heuristic:least-allocated",
    }


def test_a_kill_loses_no_more_than_the_last_flush_interval(tmp_path: Path) -> None:
    log = tmp_path / "decisions.jsonl"
    flush_seconds = 0.2
    with serve(
        cluster_list(node("n")), tmp_path, "--decision-log", str(log), "--decision-log-flush", str(flush_seconds)
    ) as extender:
        connection = extender.connect()
        asked: list[tuple[float, str]] = []
        while not asked or time.time() < asked[0][0] + 1.5:
            name = f"p{len(asked)}"
            assert exchange(connection, "POST", "/prioritize", extender_args(pod(name), ["n"])).status == 200
            asked.append((time.time(), name))
        extender.process.kill()
        killed = time.time()
        extender.process.wait()
        connection.close()

    lines = log.read_bytes().split(b"\n")
    written = [json.loads(line)["pod"] for line in lines[:-1]]  # the last is torn, or empty
    assert written == [name for _, name in asked[: len(written)]]
    lost = asked[len(written) :]
    # Beside the interval, what the thread needs to be woken and to write on a busy machine.
    assert not lost or killed - lost[0][0] < flush_seconds + 0.8
    assert len(written) > 1


def test_a_log_that_cannot_be_written_fails_no_request(tmp_path: Path) -> None:
    arguments = ("--decision-log", "/dev/full", "--decision-log-flush", "0.01")
    with serve(cluster_list(node("n")), tmp_path, *arguments) as extender:
        for number in range(3):
            body = extender_args(pod(f"p{number}"), ["n"])
            assert extender.ask("POST", "/prioritize", body).json() == [{"Host": "n", "Score": 10}]
        eventually(lambda: extender.count("stowage_decision_log_records_total", result="lost") == 3)
        status, errors = extender.terminate()

    assert status == 0
    assert "No space left on device" in errors


def test_an_assumption_that_nobody_confirms_expires(tmp_path: Path) -> None:
    with serve(cluster_list(node("n")), tmp_path, "--assume-ttl", "0.2") as extender:
        extender.ask("POST", "/prioritize", extender_args(pod("p"), ["n"]))
        eventually(lambda: extender.ask("GET", "/state").json()["assumed"] == 0)

        assert extender.count("stowage_assumptions_total", outcome="expired") == 1
        assert extender.ask("GET", "/state").json()["nodes"]["n"]["requested"] == [0, 0, 0]


def test_before_the_cluster_is_listed_it_has_no_opinion_and_is_not_ready(tmp_path: Path) -> None:
    http_port, grpc_port = free_ports(2)
    ports = ("--http-port", str(http_port), "--grpc-port", str(grpc_port))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        path = kubeconfig(tmp_path, silent.getsockname()[1])
        with run_extender(*POLICY, "--kubeconfig", str(path), *ports) as extender:
            extender.http_address = f"127.0.0.1:{http_port}"
            eventually(lambda: accepts(http_port) and accepts(grpc_port))

            ready = extender.ask("GET", "/readyz")
            assert (ready.status, ready.json()) == (503, {"error": "nodes and pods have not been listed yet"})
            assert extender.ask("GET", "/healthz").status == 200
            assert grpc_health(grpc_port) == health_pb2.HealthCheckResponse.NOT_SERVING
            body = extender_args(pod("p", {"nvidia.com/gpu": "1"}), ["n"])
            assert extender.ask("POST", "/prioritize", body).json() == []
            assert extender.ask("POST", "/filter", body).json()["NodeNames"] == ["n"]
            assert extender.count("stowage_decisions_total", rung="not_ready") == 1
            status, errors = extender.terminate()

    assert status == 0, errors


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--policy", "absent.onnx"), "absent.onnx: cannot be read"),
        (
            ("--policy", "heuristic:psychic"),
            "no heuristic is named 'psychic': expected one of balanced-allocation, best-fit,",
        ),
        ((*POLICY, "--cluster-file", "absent.json"), "--cluster-file absent.json"),
        ((*POLICY, "--kubeconfig", "absent"), "kubeconfig absent"),
        (POLICY, "Give --kubeconfig FILE, or --cluster-file FILE"),
        ((*POLICY, "--fallback", "none"), "no heuristic is named 'none'"),
    ],
)
def test_what_cannot_start_says_why_and_exits_2(arguments: tuple[str, ...], complaint: str) -> None:
    with run_extender(*arguments) as extender:
        status, errors = extender.finish()

    assert status == 2
    assert complaint in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize("flag", ["--http-port", "--grpc-port"])
def test_a_port_that_is_taken_is_named(tmp_path: Path, flag: str) -> None:
    path = tmp_path / "cluster.json"
    path.write_bytes(cluster_list(node("n")))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with run_extender(*POLICY, "--cluster-file", str(path), flag, port) as extender:
            status, errors = extender.finish()

    assert status == 2
    assert f"{flag}: cannot use 127.0.0.1:{port}" in errors


def free_ports(count: int) -> list[int]:
    reserved = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in reserved]
    for each in reserved:
        each.close()
    return ports


def grpc_health(port: int) -> int:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=60.0)
    status: int = answer.status
    return status


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=60.0).close()
    except ConnectionRefusedError:
        return False
    return True
