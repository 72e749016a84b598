import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.extender.cluster.test_watcher import eventually
from tests.extender.objects import cluster_list, extender_args, node, pod
from tests.extender.server.process import ExtenderProcess, exchange, serve

MAX_BODY_BYTES = 65536
NAMES = [f"cpu-{number:02d}" for number in range(30)]


@pytest.fixture(scope="module")
def extender(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExtenderProcess]:
    """Thirty CPU nodes, each a little fuller than the one before, and three nodes with one GPU each."""
    nodes = [node(name) for name in NAMES] + [
        node("gpu-0", gpu_milli="1000"),
        node("gpu-1", gpus="1"),
        node("single", gpus="1"),
    ]
    pods = [pod(f"running-{name}", {"cpu": f"{100 * number}m"}, name, "Running") for number, name in enumerate(NAMES)]
    folder = tmp_path_factory.mktemp("http")
    with serve(cluster_list(*nodes, *pods), folder, "--max-body-bytes", str(MAX_BODY_BYTES)) as running:
        yield running


def prioritize(extender: ExtenderProcess, name: str, names: list[str], **requests: str) -> list[tuple[str, int]]:
    reply = extender.ask("POST", "/prioritize", extender_args(pod(name, requests or {"cpu": "1"}), names))
    assert reply.status == 200, reply.body
    return [(each["Host"], each["Score"]) for each in reply.json()]


def test_ten_nodes_are_ranked_and_the_best_is_alone_at_the_top(extender: ExtenderProcess) -> None:
    ranked = prioritize(extender, "ranked", NAMES)

    assert ranked == [(name, 10 - place) for place, name in enumerate(NAMES[:10])]


def test_the_answer_has_a_length_and_the_connection_is_reused(extender: ExtenderProcess) -> None:
    connection = extender.connect()
    connection.connect()
    local = connection.sock.getsockname()
    for number in range(5):
        reply = exchange(connection, "POST", "/prioritize", extender_args(pod(f"kept-{number}"), NAMES))
        assert reply.headers["content-length"] == str(len(reply.body))
        assert "transfer-encoding" not in reply.headers
        assert connection.sock.getsockname() == local
    connection.close()


def test_pods_in_quick_succession_do_not_see_the_same_free_device(extender: ExtenderProcess) -> None:
    before = extender.count("stowage_decisions_total", rung="none_feasible")
    answers = [
        prioritize(extender, f"quick-{number}", ["gpu-0", "gpu-1"], **{"nvidia.com/gpu": "1"}) for number in range(3)
    ]

    assert answers == [[("gpu-0", 10), ("gpu-1", 9)], [("gpu-1", 10)], []]
    assert extender.count("stowage_decisions_total", rung="none_feasible") == before + 1


def test_a_retry_gets_the_same_answer_and_counts_once(extender: ExtenderProcess) -> None:
    first = prioritize(extender, "retried", NAMES, cpu="2")
    assumed = extender.ask("GET", "/state").json()["assumed"]

    assert prioritize(extender, "retried", NAMES, cpu="2") == first
    assert extender.ask("GET", "/state").json()["assumed"] == assumed


def test_filter_leaves_out_nodes_without_a_device_and_says_why(extender: ExtenderProcess) -> None:
    body = extender_args(pod("two", {"nvidia.com/gpu": "2"}), ["cpu-00", "gpu-0", "new"])
    answer = extender.ask("POST", "/filter", body).json()

    assert answer["NodeNames"] == ["new"]
    assert answer["FailedNodes"]["cpu-00"] == "the node has no GPU"
    assert answer["FailedNodes"]["gpu-0"].startswith("2 whole GPUs wanted:")
    assert answer["Error"] == ""


def test_filter_keeps_every_node_for_a_pod_without_gpu(extender: ExtenderProcess) -> None:
    answer = extender.ask("POST", "/filter", extender_args(pod("huge", {"cpu": "900"}), ["cpu-00", "new"])).json()

    assert (answer["NodeNames"], answer["FailedNodes"]) == (["cpu-00", "new"], {})


def test_filter_answers_whole_nodes_with_whole_nodes(extender: ExtenderProcess) -> None:
    items = [node("cpu-00"), node("new")]
    body = json.dumps({"Pod": pod("one", {"nvidia.com/gpu": "1"}), "Nodes": {"items": items}}).encode()
    answer = extender.ask("POST", "/filter", body).json()

    assert answer["Nodes"]["items"] == [items[1]]
    assert answer["NodeNames"] is None


def test_a_node_that_filter_left_to_one_pod_alone_is_not_left_to_the_next(extender: ExtenderProcess) -> None:
    def ask(name: str) -> list[str]:
        body = extender_args(pod(name, {"nvidia.com/gpu": "1"}), ["cpu-00", "single"])
        names: list[str] = extender.ask("POST", "/filter", body).json()["NodeNames"]
        return names

    assert (ask("first"), ask("second"), ask("first")) == (["single"], [], ["single"])


def test_preempt_passes_on_what_can_be_used(extender: ExtenderProcess) -> None:
    victims = {"gpu-0": {"Pods": [{"UID": "v"}], "NumPDBViolations": 1}, "gpu-1": {"Pods": [], "NumPDBViolations": 0}}
    question = {"Pod": pod("p", {"nvidia.com/gpu": "1"}), "NodeNameToMetaVictims": victims}
    answer = extender.ask("POST", "/preempt", json.dumps(question).encode()).json()

    assert answer == {"NodeNameToMetaVictims": {"gpu-0": victims["gpu-0"]}}


def test_a_senseless_gpu_request_fits_nowhere_and_prioritize_has_no_opinion(extender: ExtenderProcess) -> None:
    asked = {"stowage.dev/gpu-milli": "1500"}
    answer = extender.ask("POST", "/filter", extender_args(pod("odd", asked), ["gpu-0"])).json()

    assert "expected less than 1000" in answer["FailedNodes"]["gpu-0"]
    assert answer["NodeNames"] == []
    assert prioritize(extender, "odd", ["gpu-0"], **asked) == []


def test_some_unknown_nodes_are_left_out_and_counted(extender: ExtenderProcess) -> None:
    before = extender.count("stowage_unknown_nodes_total")

    assert prioritize(extender, "some", ["new-1", "cpu-29", "new-2"]) == [("cpu-29", 10)]
    assert extender.count("stowage_unknown_nodes_total") == before + 2


REFUSED = [
    ("POST", "/prioritize", b"{", 400, "expected an ExtenderArgs object"),
    ("POST", "/prioritize", b"", 400, "expected an ExtenderArgs object"),
    ("POST", "/filter", b'{"Pod": {"metadata": {"name": "p"}}}', 400, "NodeNames"),
    ("POST", "/prioritize", b'{"Pod": {}, "NodeNames": ["cpu-00"]}', 400, "neither name nor uid"),
    ("POST", "/prioritize", extender_args(pod("p", {"cpu": "lots"}), ["cpu-00"]), 400, "'lots' is not a quantity"),
    ("POST", "/filter", extender_args(pod("p", {"cpu": "lots"}), ["cpu-00"]), 400, "'lots' is not a quantity"),
    (
        "POST",
        "/prioritize",
        extender_args(pod("p"), ["new-1", "new-2"]),
        422,
        "none of the 2 nodes asked about is known",
    ),
    ("POST", "/prioritize", b" " * (MAX_BODY_BYTES + 1), 413, "more than 65536 bytes"),
    ("GET", "/prioritize", None, 405, "expected POST"),
    ("POST", "/healthz", b"", 405, "expected GET"),
    ("POST", "/preempt", b"{}", 400, 'ExtenderPreemptionArgs without "Pod"'),
    ("POST", "/bind", b"{}", 404, "expected one of POST /prioritize"),
    ("POST", "/scheduler/prioritize", b"{}", 404, "Check urlPrefix and the verbs"),
    ("GET", "/", None, 404, "urlPrefix"),
]


@pytest.mark.parametrize(("method", "path", "body", "status", "reason"), REFUSED)
def test_what_cannot_be_answered_is_refused_counted_and_survived(
    extender: ExtenderProcess, method: str, path: str, body: bytes | None, status: int, reason: str
) -> None:
    verb = path[1:] if path[1:] in ("prioritize", "filter", "preempt", "healthz") else "unknown"
    before = extender.count("stowage_requests_total", verb=verb, code=str(status))

    reply = extender.ask(method, path, body)

    assert reply.status == status
    assert reason in reply.json()["error"]
    assert extender.count("stowage_requests_total", verb=verb, code=str(status)) == before + 1
    assert extender.ask("GET", "/healthz").status == 200


def test_a_wrong_method_is_told_the_right_one(extender: ExtenderProcess) -> None:
    assert extender.ask("GET", "/filter").headers["allow"] == "POST"


def test_a_body_of_unstated_length_is_limited_too(extender: ExtenderProcess) -> None:
    host, port = extender.http_address.split(":")
    with socket.create_connection((host, int(port)), timeout=60.0) as connection:
        connection.sendall(b"POST /filter HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(5):
            connection.sendall(b"4000\r\n" + b" " * 0x4000 + b"\r\n")
        connection.sendall(b"0\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 413 ")


def test_a_client_that_leaves_in_the_middle_is_counted_and_forgotten(extender: ExtenderProcess) -> None:
    before = extender.count("stowage_requests_total", code="499")
    host, port = extender.http_address.split(":")
    with socket.create_connection((host, int(port)), timeout=60.0) as connection:
        connection.sendall(b"POST /filter HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf")
    eventually(lambda: extender.count("stowage_requests_total", code="499") == before + 1)


@given(st.binary(max_size=200) | st.text(max_size=100).map(lambda text: json.dumps({"Pod": text}).encode()))
def test_no_body_whatsoever_causes_an_error_of_ours(extender: ExtenderProcess, body: bytes) -> None:
    for verb in ("/prioritize", "/filter"):
        assert extender.ask("POST", verb, body).status == 400


VALID = extender_args(pod("mutated", {"cpu": "1500m", "nvidia.com/gpu": "1"}, priority=7), ["cpu-00", "gpu-1"])
HOSTILE = st.sampled_from(
    [b"null", b"-1", b"1e999", b"9E", b"[[[[", b"{}", b'"', b"\\ud800", b"\xff", b"\x00", b"9" * 40, b"[" * 5000]
)


@given(st.lists(st.tuples(st.integers(0, len(VALID) - 1), st.integers(0, 12), HOSTILE), min_size=1, max_size=4))
def test_a_mutated_request_is_answered_or_refused_but_never_fails(
    extender: ExtenderProcess, mutations: list[tuple[int, int, bytes]]
) -> None:
    body = VALID
    for place, length, replacement in mutations:
        body = body[:place] + replacement + body[place + length :]
    for verb in ("/prioritize", "/filter"):
        assert extender.ask("POST", verb, body).status in (200, 400, 422)


def test_health_and_readiness(extender: ExtenderProcess) -> None:
    assert extender.ask("GET", "/healthz").json() == {"alive": True}
    assert extender.ask("GET", "/readyz").json() == {"ready": True, "reason": "nodes and pods are watched"}


def test_the_state_shows_what_each_node_offers_and_has_given(tmp_path: Path) -> None:
    cluster = cluster_list(node("n", gpus="2"), pod("p", {"cpu": "1500m", "nvidia.com/gpu": "1"}, "n", "Running"))
    with serve(cluster, tmp_path) as extender:
        assert extender.ask("GET", "/state").json() == {
            "resources": ["cpu", "memory", "gpu"],
            "nodes": {"n": {"allocatable": [8000, 32 * 2**30, 2000], "requested": [1500, 0, 1000]}},
            "pods": 1,
            "assumed": 0,
            "reservations": [],
        }


def test_metrics_are_in_the_format_of_prometheus(extender: ExtenderProcess) -> None:
    reply = extender.ask("GET", "/metrics")

    assert reply.headers["content-type"].startswith("text/plain")
    assert extender.count("stowage_policy_info", name="least-allocated") == 1
    assert extender.count("stowage_nodes") == len(NAMES) + 3
    assert extender.count("stowage_request_seconds_count", verb="prioritize") > 0
    assert extender.count("stowage_decisions_total", rung="heuristic") == 0
