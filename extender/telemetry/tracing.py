"""Spans about requests, where they are wanted: what the servers and the scorer see of tracing.

A span per question, from its head to its answer, that continues the caller's trace (W3C Trace Context). It is kept
beside the request while that is answered, so that who knows something of the answer can add it. Nothing here needs
OpenTelemetry, and without a tracer a request costs one look into a context variable; `otlp` makes the spans.
"""

from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from enum import StrEnum
from typing import Protocol

from extender.telemetry.logs import in_trace

Attributes = Mapping[str, str | int | float | bool]
Headers = Iterable[tuple[bytes | str, bytes | str]]

TRACE_HEADERS = ("traceparent", "tracestate")


class SpanResult(StrEnum):
    """What became of a span; those recorded that are neither of the others wait, or were dropped."""

    RECORDED = "recorded"
    EXPORTED = "exported"
    FAILED = "failed"


class NoOpenTelemetryError(Exception):
    """The packages that make spans are not installed; the message says which."""


class Span(Protocol):
    """A request that is being answered; as OpenTelemetry has it."""

    def set_attributes(self, attributes: Attributes) -> None:
        """Say something of the request."""

    def add_event(self, name: str, attributes: Attributes) -> None:
        """Say that something happened on the way."""


class Tracer(Protocol):
    """What begins and ends spans."""

    def begin(self, name: str, headers: Headers, attributes: Attributes) -> tuple[Span, str]:
        """A span and its trace's id.

        Args:
            name: of the span.
            headers: of the request, which may name the caller's span.
            attributes: what is known already.
        """

    def end(self, span: Span, attributes: Attributes, failure: str) -> None:
        """The answer is given; `failure` says what of ours went wrong, if anything."""

    def stop(self, grace_seconds: float) -> None:
        """Send what is waiting, as far as that goes within the time."""


_current: ContextVar[Span | None] = ContextVar("span", default=None)


def connect(collector: str, share: float, count: Callable[[SpanResult, int], None]) -> Tracer:
    """A tracer that sends its spans to a collector; see `otlp.OtlpTracer`.

    Raises:
        NoOpenTelemetryError: what that takes is not installed.
    """
    try:
        # Imported here: who wants no spans needs neither the packages nor the memory that they take.
        from extender.telemetry.otlp import OtlpTracer
    except ModuleNotFoundError as error:
        raise NoOpenTelemetryError(f"{error}; install stowage with the extra `tracing`") from error
    for result in SpanResult:
        count(result, 0)
    return OtlpTracer(collector, share, count)


def current_span() -> Span | None:
    """The span of the request that is being answered, if there is one."""
    return _current.get()


def trace_pod(namespace: str, name: str, uid: str, nodes: int) -> None:
    """The request that is being answered is about this pod and so many nodes."""
    span = _current.get()
    if span is not None:
        about = {"k8s.namespace.name": namespace, "k8s.pod.name": name, "k8s.pod.uid": uid}
        span.set_attributes(about | {"stowage.nodes": nodes})


def begin_span(tracer: Tracer, name: str, headers: Headers, attributes: Attributes) -> Span:
    """Begin a span; log lines of this request are about its trace from now on."""
    span, trace_id = tracer.begin(name, headers, attributes)
    _current.set(span)
    in_trace(trace_id)
    return span


def end_span(tracer: Tracer, span: Span, attributes: Attributes, failure: str) -> None:
    """End a span, which nobody is to add anything to any more."""
    _current.set(None)
    tracer.end(span, attributes, failure)


def carried(headers: Headers) -> dict[str, str]:
    """What of the headers is about traces; a `tracestate` in parts is put together.

    Example:
        >>> carried([(b"host", b"x"), (b"traceparent", b"00-ab"), (b"tracestate", b"a=1"), ("tracestate", "b=2")])
        {'traceparent': '00-ab', 'tracestate': 'a=1,b=2'}
    """
    found: dict[str, str] = {}
    for name, value in headers:
        key = name if isinstance(name, str) else name.decode("latin-1")
        if key in TRACE_HEADERS:
            text = value if isinstance(value, str) else value.decode("latin-1")
            found[key] = f"{found[key]},{text}" if key in found else text
    return found
