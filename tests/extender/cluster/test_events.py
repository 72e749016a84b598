import json
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from extender.cluster.api import connect
from extender.cluster.events import EventRecorder, PodEvent
from tests.extender.cluster.test_watcher import eventually, kubeconfig

EVENT = PodEvent("team", "p", "uid-p", "NodeReserved", "node a is reserved", 1_800_000_000.25)


class Posts:
    """Takes events, and answers with a status."""

    def __init__(self) -> None:
        self.received: list[tuple[str, dict[str, Any]]] = []
        self.status = 201
        posts = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                posts.received.append((self.path, json.loads(body)))
                self.send_response(posts.status)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


@pytest.fixture
def posts() -> Iterator[Posts]:
    made = Posts()
    yield made
    made.http.shutdown()
    made.http.server_close()


def test_an_event_names_the_pod_and_can_be_told_from_others(posts: Posts, tmp_path: Path) -> None:
    counted: Counter[str] = Counter()
    recorder = EventRecorder(
        connect(kubeconfig(tmp_path, posts.http.server_port), 5.0), lambda what: counted.update([what])
    )
    recorder.start()
    recorder.record(EVENT)
    recorder.record(EVENT._replace(at=EVENT.at + 1e-6))
    recorder.stop(30.0)

    (path, first), (_, second) = posts.received
    assert path == "/api/v1/namespaces/team/events"
    assert first["involvedObject"] == {
        "apiVersion": "v1",
        "kind": "Pod",
        "namespace": "team",
        "name": "p",
        "uid": "uid-p",
    }
    assert (first["reason"], first["message"], first["type"]) == ("NodeReserved", "node a is reserved", "Normal")
    assert first["firstTimestamp"] == "2027-01-15T08:00:00Z"
    assert first["metadata"]["name"].startswith("p.")
    assert first["metadata"]["name"] != second["metadata"]["name"]
    assert counted == {"written": 2}


@pytest.mark.parametrize(("status", "result"), [(409, "written"), (403, "failed"), (500, "failed")])
def test_what_the_api_server_does_not_take_is_counted(posts: Posts, tmp_path: Path, status: int, result: str) -> None:
    posts.status = status
    counted: Counter[str] = Counter()
    recorder = EventRecorder(
        connect(kubeconfig(tmp_path, posts.http.server_port), 5.0), lambda what: counted.update([what])
    )
    recorder.start()
    recorder.record(EVENT)
    eventually(lambda: counted == {result: 1})
    recorder.stop(30.0)


def test_an_api_server_that_is_away_holds_nobody_up(tmp_path: Path) -> None:
    counted: Counter[str] = Counter()
    recorder = EventRecorder(connect(kubeconfig(tmp_path, 1), 5.0), lambda what: counted.update([what]))
    for _ in range(1005):
        recorder.record(EVENT)
    assert counted == {"dropped": 5}
