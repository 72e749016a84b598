"""A collector of spans: takes OTLP over HTTP, in protobuf, as the specification has it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

LIMIT_SECONDS = 60.0


class Received(NamedTuple):
    """A span as it came over the wire; ids in hexadecimal digits."""

    name: str
    trace_id: str
    parent_id: str
    attributes: dict[str, Any]
    events: list[dict[str, Any]]
    failed: bool
    server: bool
    nanoseconds: int


class Collector(ThreadingHTTPServer):
    """Keeps what it receives, unless it is told to fail.

    Attributes:
        answers: the status of its answers; 0 for none at all.
        requests: how many came.
        resources: attributes of what sent spans.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = 200
        self.requests = 0
        self.resources: list[dict[str, Any]] = []
        self._spans: list[Received] = []
        self._changed = threading.Condition()
        self.ended = threading.Event()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def take(self, body: bytes) -> None:
        """An export has come."""
        sent = ExportTraceServiceRequest.FromString(body)
        with self._changed:
            self.requests += 1
            if self.answers == 200:
                for resource_spans in sent.resource_spans:
                    self.resources.append(_attributes(resource_spans.resource.attributes))
                    self._spans += [_received(span) for scope in resource_spans.scope_spans for span in scope.spans]
            self._changed.notify_all()

    def wait_for_requests(self, count: int) -> None:
        """Wait until so many exports have come."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.requests >= count, LIMIT_SECONDS)

    def spans(self, count: int) -> list[Received]:
        """What came, in the order in which it began, once there are so many."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self._spans) >= count, LIMIT_SECONDS), self._spans
            return list(self._spans)


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        known = self.path == "/v1/traces" and self.headers["content-type"] == "application/x-protobuf"
        if known:
            self.server.take(body)
        if self.server.answers == 0:
            self.server.ended.wait(LIMIT_SECONDS)
            return
        self.send_response(self.server.answers if known else 404)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def _received(span: Any) -> Received:
    return Received(
        span.name,
        span.trace_id.hex(),
        span.parent_span_id.hex(),
        _attributes(span.attributes),
        [_attributes(event.attributes) for event in span.events],
        span.status.code == span.status.STATUS_CODE_ERROR,
        span.kind == span.SPAN_KIND_SERVER,
        span.end_time_unix_nano - span.start_time_unix_nano,
    )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


@contextmanager
def collector() -> Iterator[Collector]:
    """Receive until the block ends."""
    server = Collector()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.ended.set()
        server.shutdown()
        thread.join()
        server.server_close()
