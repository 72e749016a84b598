import asyncio
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from extender.cluster.api import ApiServer, connect
from extender.cluster.feed import Event, Gone, Kind, Listed
from extender.cluster.reflector import PODS, ListWatch
from extender.cluster.requests import BASE_RESOURCES
from extender.cluster.watcher import EVENTS_PER_TURN, Handoff, Watcher
from tests.extender.cluster.api_server import FakeApiServer, query_of
from tests.extender.cluster.test_reflector import Counters
from tests.extender.objects import pod

LIMIT_SECONDS = 120.0


class Served:
    """A fake API server over HTTP; watches stay open until they are cut."""

    def __init__(self) -> None:
        self.api = FakeApiServer("Pod")
        self.tokens: list[str | None] = []
        self.watches = 0
        self.cut = threading.Event()
        served = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                served.tokens.append(self.headers["Authorization"])
                query = query_of(self.path)
                code, body = served.api.watch(query) if "watch" in query else served.api.page(query)
                if "watch" not in query or code != 200:
                    self.send_response(code)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)
                    return
                served.watches += 1
                self.send_response(200)
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                self.wfile.write(f"{len(body):x}\r\n".encode() + body + b"\r\n")
                self.wfile.flush()
                served.cut.wait(LIMIT_SECONDS)
                self.close_connection = True

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    @property
    def port(self) -> int:
        return self.http.server_port


@pytest.fixture
def served() -> Iterator[Served]:
    made = Served()
    yield made
    made.cut.set()
    made.http.shutdown()
    made.http.server_close()


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    thread = threading.Thread(target=made.run_forever, daemon=True)
    thread.start()
    yield made
    made.call_soon_threadsafe(made.stop)
    thread.join()
    made.close()


def kubeconfig(folder: Path, port: int, **user: str) -> Path:
    """A kubeconfig file for the server."""
    path = folder / "kubeconfig"
    path.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
                "users": [{"name": "u", "user": user}],
                "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                "current-context": "x",
            }
        )
    )
    return path


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.005)


def watch(
    api: ApiServer, loop: asyncio.AbstractEventLoop, received: list[Event], counters: Counters | None = None
) -> Watcher:
    reflector = ListWatch(PODS, BASE_RESOURCES, 2, lambda: 0.5, counters or Counters())
    watcher = Watcher(reflector, api, Handoff(loop, received.extend))
    watcher.start()
    return watcher


def test_it_lists_page_by_page_and_then_watches(
    served: Served, loop: asyncio.AbstractEventLoop, tmp_path: Path
) -> None:
    for name in "abcde":
        served.api.put(name, pod(name, node_name="n"))
    received: list[Event] = []
    watcher = watch(connect(kubeconfig(tmp_path, served.port), 5.0), loop, received)
    eventually(lambda: served.watches == 1)
    served.api.delete("a")
    served.cut.set()
    eventually(lambda: any(isinstance(each, Gone) for each in received))
    watcher.stop()

    assert received[5] == Listed(Kind.PODS, frozenset(f"uid-{name}" for name in "abcde"))
    assert received[6] == Gone(Kind.PODS, "uid-a", 106)


def test_a_silent_watch_is_begun_anew(served: Served, loop: asyncio.AbstractEventLoop, tmp_path: Path) -> None:
    counters = Counters()
    watcher = watch(connect(kubeconfig(tmp_path, served.port), 0.2), loop, [], counters)
    eventually(lambda: served.watches >= 2)
    watcher.stop()

    assert counters.lists == {"start": 1}
    assert counters.failures["ReadTimeoutError"] >= 1


def test_it_waits_for_an_api_server_that_is_not_up_yet(
    loop: asyncio.AbstractEventLoop, tmp_path: Path, served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    port = served.port
    served.http.shutdown()
    served.http.server_close()
    counters = Counters()
    with caplog.at_level(logging.WARNING):
        watcher = watch(connect(kubeconfig(tmp_path, port), 5.0), loop, [], counters)
        eventually(lambda: counters.failures["NewConnectionError"] >= 2)
        watcher.stop()

    assert f"/api/v1/pods from http://127.0.0.1:{port} failed" in caplog.text


def test_stopping_does_not_wait_for_the_watch_to_end(
    served: Served, loop: asyncio.AbstractEventLoop, tmp_path: Path
) -> None:
    watcher = watch(connect(kubeconfig(tmp_path, served.port), 10 * LIMIT_SECONDS), loop, [])
    eventually(lambda: served.watches == 1)
    time.sleep(0.1)  # let it read what there is, and wait for more

    watcher.stop()

    eventually(lambda: not watcher._thread.is_alive())


def test_events_are_applied_in_order_and_in_small_batches(loop: asyncio.AbstractEventLoop) -> None:
    batches: list[Sequence[Event]] = []
    handoff = Handoff(loop, batches.append)
    events = [Gone(Kind.PODS, str(number), None) for number in range(5 * EVENTS_PER_TURN)]
    for start in range(0, len(events), 10):
        handoff.post(events[start : start + 10])
    eventually(lambda: sum(map(len, batches)) == len(events))

    assert [each for batch in batches for each in batch] == events
    assert max(map(len, batches)) <= EVENTS_PER_TURN


def test_a_batch_that_fails_does_not_stop_those_after_it(loop: asyncio.AbstractEventLoop) -> None:
    applied: list[Event] = []

    def apply(batch: Sequence[Event]) -> None:
        if not applied and batch[0] == Gone(Kind.PODS, "0", None):
            raise RuntimeError("a fault in the state")
        applied.extend(batch)

    loop.set_exception_handler(lambda loop, context: None)
    handoff = Handoff(loop, apply)
    handoff.post([Gone(Kind.PODS, str(number), None) for number in range(EVENTS_PER_TURN + 1)])
    eventually(lambda: len(applied) == 1)
    handoff.post([Gone(Kind.PODS, "last", None)])
    eventually(lambda: len(applied) == 2)


def test_a_line_of_rubbish_does_not_end_the_thread(
    served: Served, loop: asyncio.AbstractEventLoop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([(200, b"<html>a proxy's greeting</html>\n")])
    real = served.api.watch
    monkeypatch.setattr(served.api, "watch", lambda query: next(answers, None) or real(query))
    counters = Counters()
    received: list[Event] = []
    served.cut.set()
    watcher = watch(connect(kubeconfig(tmp_path, served.port), 5.0), loop, received, counters)
    eventually(lambda: counters.failures["WireError"] == 1)
    served.api.put("a", pod("a", node_name="n"))
    eventually(lambda: len(received) >= 2)
    watcher.stop()
