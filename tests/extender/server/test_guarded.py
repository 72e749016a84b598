"""Clients that take too much of us, over real sockets."""

import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.extender.cluster.test_watcher import eventually
from tests.extender.objects import cluster_list, extender_args, node, pod
from tests.extender.server.process import LIMIT_SECONDS, ExtenderProcess, exchange, serve

HEADER_BYTES = 2048


@pytest.fixture(scope="module")
def extender(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExtenderProcess]:
    limits = ("--max-header-bytes", str(HEADER_BYTES), "--client-timeout", "1", "--max-connections", "20")
    with serve(cluster_list(node("n")), tmp_path_factory.mktemp("guarded"), *limits) as running:
        yield running


def open_to(extender: ExtenderProcess) -> socket.socket:
    host, port = extender.http_address.rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=LIMIT_SECONDS)


def read_all(client: socket.socket) -> bytes:
    """What comes until the connection ends."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while chunk := client.recv(65536):
            received += chunk
    return received


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"GET /healthz HTTP/1.1\r\nx: " + b"a" * HEADER_BYTES + b"\r\n\r\n", id="a large header"),
        pytest.param(b"GET /healthz HTTP/1.1\r\n" + b"x: a\r\n" * HEADER_BYTES + b"\r\n", id="many headers"),
        pytest.param(b"GET /healthz HTTP/1.1\r\nx: " + b"a" * 3 * HEADER_BYTES, id="a header without end"),
        pytest.param(b"GET /" + b"a" * HEADER_BYTES + b" HTTP/1.1\r\n\r\n", id="a large path"),
        pytest.param(b"GET /" + b"a" * 3 * HEADER_BYTES, id="a path without end"),
    ],
)
def test_a_head_that_is_too_large_is_refused(extender: ExtenderProcess, head: bytes) -> None:
    before = extender.count("stowage_cut_connections_total", reason="header")
    with open_to(extender) as client:
        client.sendall(head)
        assert read_all(client).startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")
    assert extender.count("stowage_cut_connections_total", reason="header") == before + 1


def test_a_head_within_the_limit_is_served(extender: ExtenderProcess) -> None:
    with open_to(extender) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nconnection: close\r\nx: " + b"a" * (HEADER_BYTES - 100) + b"\r\n\r\n")
        assert read_all(client).startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize(
    "begun", [b"", b"POST /prioritize HTTP/1.1\r\n", b"POST /prioritize HTTP/1.1\r\ncontent-length: 9\r\n\r\n{"]
)
def test_who_sends_no_whole_request_is_cut_off(extender: ExtenderProcess, begun: bytes) -> None:
    before = extender.count("stowage_cut_connections_total", reason="request")
    with open_to(extender) as client:
        client.sendall(begun)
        assert read_all(client) == b""
    eventually(lambda: extender.count("stowage_cut_connections_total", reason="request") == before + 1)


def test_dripping_does_not_help(extender: ExtenderProcess) -> None:
    before = extender.count("stowage_cut_connections_total", reason="request")
    with open_to(extender) as client, contextlib.suppress(ConnectionError):
        client.sendall(b"POST /prioritize HTTP/1.1\r\ncontent-length: 100000\r\n\r\n")
        deadline = time.monotonic() + LIMIT_SECONDS
        while time.monotonic() < deadline:
            client.sendall(b" ")
            time.sleep(0.05)
    assert extender.count("stowage_cut_connections_total", reason="request") == before + 1


def test_a_connection_that_is_kept_alive_may_be_silent_for_longer(extender: ExtenderProcess) -> None:
    connection = extender.connect()
    body = extender_args(pod("p"), ["n"])
    assert exchange(connection, "POST", "/prioritize", body).status == 200
    time.sleep(1.5)
    assert exchange(connection, "POST", "/prioritize", body).status == 200
    connection.close()


def test_too_many_connections_are_told_so_and_others_are_served_again_later(extender: ExtenderProcess) -> None:
    with contextlib.ExitStack() as opened:
        for _ in range(20):
            opened.enter_context(open_to(extender))
        assert extender.ask("GET", "/healthz").status == 503
    eventually(lambda: extender.ask("GET", "/healthz").status == 200)


def test_who_does_not_read_a_large_answer_is_cut_off(tmp_path: Path) -> None:
    nodes = [node(f"a-node-with-a-long-name-{number:06d}") for number in range(8000)]
    with serve(cluster_list(*nodes), tmp_path, "--client-timeout", "1") as extender:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            host, port = extender.http_address.rsplit(":", 1)
            client.connect((host, int(port)))
            for _ in range(20):
                client.sendall(b"GET /state HTTP/1.1\r\nhost: x\r\n\r\n")
            eventually(lambda: extender.count("stowage_cut_connections_total", reason="answer") == 1)
        assert extender.ask("GET", "/healthz").status == 200
