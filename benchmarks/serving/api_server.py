"""The part of an API server that the extender talks to, with pods that come and go at a given rate.

Usage: `python -m benchmarks.serving.api_server CLUSTER_FILE`; prints its port. Each SIGUSR1 begins or ends the events.
"""

import itertools
import json
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from benchmarks.serving.requests import NODES, node_name, pod

EVENTS_PER_SECOND = 1_000
EVENTS_AT_ONCE = 20
BOOKMARK_SECONDS = 10.0
FIRST_VERSION = 1_000_000


def event_lines() -> Any:
    """Pods that are bound and, a little later, deleted; a line of a watch each."""
    for number in itertools.count():
        arriving = pod(f"passing-{number}", {"cpu": "500m", "memory": "1Gi"})
        arriving["spec"]["nodeName"] = node_name(number * 7919 % NODES)
        for type_, offset in (("ADDED", 1), ("DELETED", 2)):
            arriving["metadata"]["resourceVersion"] = str(FIRST_VERSION + 2 * number + offset)
            yield json.dumps({"type": type_, "object": arriving}).encode() + b"\n"


class Server(ThreadingHTTPServer):
    """Answers lists from a file and keeps watches open."""

    daemon_threads = True

    def __init__(self, cluster: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        items = json.loads(cluster.read_bytes())["items"]
        self.lists = {}
        for kind, path in (("Node", "/api/v1/nodes"), ("Pod", "/api/v1/pods")):
            listed = {
                "kind": f"{kind}List",
                "metadata": {"resourceVersion": str(FIRST_VERSION)},
                "items": [item for item in items if item["kind"] == kind],
            }
            self.lists[path] = json.dumps(listed).encode()
        self.busy = threading.Event()
        # Made beforehand: what the events cost here would be taken from the extender.
        self.lines = list(itertools.islice(event_lines(), 60 * EVENTS_PER_SECOND))


class Handler(BaseHTTPRequestHandler):
    """GETs of lists and watches."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        """Answer."""
        path, _, query = self.path.partition("?")
        self.send_response(200)
        if "watch=true" in query:
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self._watch(path)
            return
        body = self.server.lists[path]
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _watch(self, path: str) -> None:
        kind, sent = ("Node" if path.endswith("nodes") else "Pod"), 0
        last = 0.0
        while True:
            if time.monotonic() - last > BOOKMARK_SECONDS:
                last = time.monotonic()
                version = str(FIRST_VERSION + 2 * sent)
                bookmark = {"type": "BOOKMARK", "object": {"kind": kind, "metadata": {"resourceVersion": version}}}
                self._chunk(json.dumps(bookmark).encode() + b"\n")
            if kind == "Pod" and self.server.busy.is_set():
                self._chunk(
                    b"".join(
                        self.server.lines[at % len(self.server.lines)] for at in range(sent, sent + EVENTS_AT_ONCE)
                    )
                )
                sent += EVENTS_AT_ONCE
            time.sleep(EVENTS_AT_ONCE / EVENTS_PER_SECOND)

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def main() -> None:
    """Serve until killed."""
    server = Server(Path(sys.argv[1]))

    def toggle(number: int, frame: object) -> None:
        (server.busy.clear if server.busy.is_set() else server.busy.set)()

    signal.signal(signal.SIGUSR1, toggle)
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()
