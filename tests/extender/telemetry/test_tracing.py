"""Spans as a collector receives them, and what becomes of answers when there is none."""

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from extender.server.scoring_pb2 import PodIdentity, ScoreRequest
from tests.extender.objects import cluster_list, extender_args, node, pod
from tests.extender.server.process import ROOT, ExtenderProcess, exchange, serve
from tests.extender.telemetry.otlp_receiver import Collector, Received, collector

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED, NOT_SAMPLED = (f"00-{TRACE}-{PARENT}-{flags}" for flags in ("01", "00"))
CLUSTER = cluster_list(node("small", cpu="4"), node("large", cpu="64"))
ARGS = extender_args(pod("p", {"cpu": "1"}), ["small", "large"])


@pytest.fixture
def received() -> Iterator[Collector]:
    with collector() as running:
        yield running


@pytest.fixture
def traced(received: Collector, tmp_path: Path) -> Iterator[ExtenderProcess]:
    with serve(CLUSTER, tmp_path, "--trace-collector", received.address, "--log-format", "json") as extender:
        yield extender


def ask(extender: ExtenderProcess, path: str, body: bytes, **headers: str) -> int:
    connection = http.client.HTTPConnection(extender.http_address, timeout=60.0)
    connection.request("POST", path, body, headers)
    response = connection.getresponse()
    response.read()
    connection.close()
    return response.status


def refused_port() -> int:
    """Nobody listens here."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def test_a_span_continues_the_callers_trace(traced: ExtenderProcess, received: Collector) -> None:
    assert ask(traced, "/prioritize", ARGS, traceparent=SAMPLED) == 200
    (span,) = received.spans(1)

    assert (span.name, span.trace_id, span.parent_id) == ("POST /prioritize", TRACE, PARENT)
    assert span.server
    assert not span.failed
    assert span.nanoseconds > 0
    assert span.attributes == {
        "http.request.method": "POST",
        "url.path": "/prioritize",
        "http.response.status_code": 200,
        "k8s.namespace.name": "default",
        "k8s.pod.name": "p",
        "k8s.pod.uid": "uid-p",
        "stowage.nodes": 2,
        "stowage.candidates": 2,
        "stowage.rung": "policy",
        "stowage.policy.digest": "heuristic:least-allocated",
        "stowage.node": "large",
    }
    assert received.resources[0]["service.name"] == "stowage-extender"


def test_every_verb_and_method_has_a_span_and_operators_have_none(traced: ExtenderProcess, received: Collector) -> None:
    victims = json.dumps({"Pod": pod("p", {"cpu": "1"}), "NodeNameToMetaVictims": {"small": {"Pods": []}}}).encode()
    for path in ("/healthz", "/readyz", "/metrics", "/state"):
        traced.ask("GET", path)
    assert ask(traced, "/filter", ARGS) == 200
    assert ask(traced, "/preempt", victims) == 200
    assert ask(traced, "/prioritize", b"no JSON") == 400
    request = ScoreRequest(pod=PodIdentity(name="q"), requests={"cpu": "1"}, node_names=["small"])
    message = request.SerializeToString()
    with grpc.insecure_channel(traced.grpc_address) as channel:
        metadata = [("traceparent", SAMPLED)]
        channel.unary_unary("/stowage.v1.Scoring/Score")(message, timeout=120.0, metadata=metadata)
        stream = channel.stream_stream("/stowage.v1.Scoring/ScoreStream")
        assert len(list(stream(iter([message, message]), timeout=120.0, metadata=metadata))) == 2

    spans = received.spans(6)
    assert [span.name for span in spans] == [
        *("POST /filter", "POST /preempt", "POST /prioritize", "stowage.v1.Scoring/Score"),
        *("stowage.v1.Scoring/ScoreStream", "stowage.v1.Scoring/ScoreStream"),
    ]
    assert [span.attributes.get("k8s.pod.name") for span in spans] == ["p", "p", None, "q", "q", "q"]
    assert spans[2].attributes["http.response.status_code"] == 400
    assert [(span.trace_id, span.parent_id) for span in spans[3:]] == [(TRACE, PARENT)] * 3
    assert spans[3].attributes["rpc.response.status_code"] == "OK"
    assert spans[3].attributes["stowage.rung"] == "policy"
    assert len({span.trace_id for span in spans}) == 4


def test_log_lines_are_about_the_spans_trace(traced: ExtenderProcess, received: Collector) -> None:
    odd = extender_args(pod("odd", {"stowage.dev/gpu-milli": "1500"}), ["small"])
    ask(traced, "/prioritize", odd, traceparent=SAMPLED)
    ask(traced, "/prioritize", odd)
    spans = received.spans(2)
    lines = [json.loads(line) for line in traced.terminate()[1].splitlines()]

    assert [span.attributes["stowage.rung"] for span in spans] == ["request_refused"] * 2
    assert [line["trace_id"] for line in lines if line.get("pod") == "default/odd"] == [span.trace_id for span in spans]


def test_the_callers_word_goes_before_the_share(received: Collector, tmp_path: Path) -> None:
    with serve(CLUSTER, tmp_path, "--trace-collector", received.address, "--trace-share", "0") as extender:
        for headers in ({}, {"traceparent": NOT_SAMPLED}, {"traceparent": "nonsense"}, {"traceparent": SAMPLED}):
            assert ask(extender, "/prioritize", ARGS, **headers) == 200
        spans = received.spans(1)
        assert extender.terminate()[0] == 0

    assert [span.trace_id for span in spans] == [TRACE]
    assert received.requests == 1


def test_what_is_waiting_is_sent_at_the_end(traced: ExtenderProcess, received: Collector) -> None:
    connection = traced.connect()
    for _ in range(5):
        exchange(connection, "POST", "/prioritize", ARGS)
    connection.close()
    assert traced.terminate()[0] == 0

    spans: list[Received] = received.spans(5)
    assert len(spans) == 5


@pytest.mark.parametrize("answers", [0, 503, None], ids=["hangs", "fails", "gone"])
def test_a_collector_that_is_of_no_use_costs_spans_only(
    received: Collector, tmp_path: Path, answers: int | None
) -> None:
    address = f"http://127.0.0.1:{refused_port()}" if answers is None else received.address
    received.answers = answers or 0
    with serve(CLUSTER, tmp_path, "--trace-collector", address, "--shutdown-grace", "1") as extender:
        connection = extender.connect()
        for _ in range(3000):  # more than the queue holds
            assert exchange(connection, "POST", "/prioritize", ARGS).status == 200
        connection.close()
        recorded = extender.count("stowage_spans_total", result="recorded")
        exported = extender.count("stowage_spans_total", result="exported")
        began = time.monotonic()
        status, errors = extender.terminate()

    assert (recorded, exported) == (3000, 0)
    assert status == 0
    assert time.monotonic() - began < 30.0  # what is sent last is given up
    assert "Traceback" not in errors


def test_a_collector_that_comes_back_is_told_of_once(received: Collector, tmp_path: Path) -> None:
    received.answers = 400  # no reason to try again
    with serve(CLUSTER, tmp_path, "--trace-collector", received.address) as extender:
        for number in range(2):
            assert ask(extender, "/prioritize", ARGS) == 200
            received.wait_for_requests(number + 1)
        received.answers = 200
        assert ask(extender, "/prioritize", ARGS) == 200
        assert len(received.spans(1)) == 1
        status, errors = extender.terminate()

    assert status == 0
    assert errors.count("spans cannot be sent to") == 1
    assert errors.count("spans can be sent to") == 1
    assert "opentelemetry" not in errors


def test_without_a_collector_nothing_of_opentelemetry_is_loaded() -> None:
    code = "import extender.__main__, sys; print([name for name in sys.modules if name.startswith('opentelemetry')])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120.0)

    assert done.stdout == "[]\n"


@pytest.mark.parametrize("collector", ["collector:4317", "http://"])
def test_what_is_no_address_is_refused_at_the_start(collector: str, tmp_path: Path) -> None:
    (tmp_path / "cluster.json").write_bytes(CLUSTER)
    flags = ["--policy", "heuristic:best-fit", "--cluster-file", str(tmp_path / "cluster.json")]
    done = subprocess.run(
        [sys.executable, "-m", "extender", "serve", *flags, "--trace-collector", collector],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120.0,
    )
    assert done.returncode == 2
    assert "--trace-collector" in done.stderr


def test_where_opentelemetry_is_missing_the_start_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "cluster.json").write_bytes(CLUSTER)
    (tmp_path / "opentelemetry.py").write_text("raise ModuleNotFoundError('No module named opentelemetry')")
    flags = ["--policy", "heuristic:best-fit", "--cluster-file", str(tmp_path / "cluster.json")]
    done = subprocess.run(
        [sys.executable, "-m", "extender", "serve", *flags, "--trace-collector", "http://127.0.0.1:4318"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120.0,
    )
    assert done.returncode == 2
    assert "extra `tracing`" in done.stderr
