"""Spans as OpenTelemetry makes them, on their way to a collector: OTLP over HTTP, in protobuf.

Ending a span appends it to a queue; a thread sends what is in it. A collector that is slow, broken or gone costs spans,
which are counted, and never an answer: the queue holds `WAITING_AT_MOST`, then the oldest are dropped, an export is
given up after `EXPORT_SECONDS`, and so is the last one when the extender ends. Batches are small because encoding one
holds the interpreter, and with it requests, for 50 µs a span.

Only loaded where a collector is named; OpenTelemetry comes with the extra `tracing`. Its own environment variables say
the rest: `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_EXPORTER_OTLP_CERTIFICATE`, `OTEL_RESOURCE_ATTRIBUTES`.
"""

import logging
import threading
from collections.abc import Callable, Sequence

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from extender.telemetry.tracing import Attributes, Headers, Span, SpanResult, carried

SERVICE = "stowage-extender"
TRACES_PATH = "/v1/traces"  # https://opentelemetry.io/docs/specs/otlp/#otlphttp-request
WAITING_AT_MOST = 2048
BATCH = 64
FLUSH_SECONDS = 1.0
EXPORT_SECONDS = 5.0

log = logging.getLogger(__name__)


class OtlpTracer:
    """Begins and ends spans, and has them sent."""

    def __init__(self, collector: str, share: float, count: Callable[[SpanResult, int], None]) -> None:
        """Begin to send.

        Args:
            collector: its address, such as "http://collector:4318".
            share: of the requests that are traced, among those whose callers do not say; a caller's word goes first.
            count: told what became of how many spans, also from another thread.
        """
        self._count = count
        self._exporter = _CountingExporter(collector, count)
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(share)),
            resource=Resource.create({"service.name": SERVICE}),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(
            BatchSpanProcessor(
                self._exporter,
                max_queue_size=WAITING_AT_MOST,
                schedule_delay_millis=1e3 * FLUSH_SECONDS,
                max_export_batch_size=BATCH,
            )
        )
        self._tracer = self._provider.get_tracer("stowage")
        self._propagator = TraceContextTextMapPropagator()

    def begin(self, name: str, headers: Headers, attributes: Attributes) -> tuple[Span, str]:
        """A span, and its trace's id; see `tracing.Tracer`."""
        parent = self._propagator.extract(carried(headers))
        span = self._tracer.start_span(name, parent, trace.SpanKind.SERVER, attributes)
        context = span.get_span_context()  # an invalid one where OTEL_SDK_DISABLED says so
        return span, trace.format_trace_id(context.trace_id) if context.is_valid else ""

    def end(self, span: Span, attributes: Attributes, failure: str) -> None:
        """The answer is given; see `tracing.Tracer`."""
        assert isinstance(span, trace.Span)
        if not span.is_recording():
            return
        span.set_attributes(attributes)
        if failure:
            span.set_status(trace.Status(trace.StatusCode.ERROR, failure))
        self._count(SpanResult.RECORDED, 1)
        span.end()

    def stop(self, grace_seconds: float) -> None:
        """Send what is waiting, as far as that goes within the time."""
        closing = threading.Thread(target=self._provider.shutdown, name="last-spans", daemon=True)
        closing.start()
        closing.join(grace_seconds)
        if closing.is_alive():
            self._exporter.shutdown()


class _CountingExporter(SpanExporter):
    """Sends spans, and tells once when that begins to fail and once when it works again."""

    def __init__(self, collector: str, count: Callable[[SpanResult, int], None]) -> None:
        self._collector = collector
        self._count = count
        self._failing = False
        self._complaints = _LastComplaint()
        self._otlp = OTLPSpanExporter(collector.rstrip("/") + TRACES_PATH, timeout=EXPORT_SECONDS)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans; in the thread of the batch processor."""
        result = self._otlp.export(spans)
        failed = result is not SpanExportResult.SUCCESS
        self._count(SpanResult.FAILED if failed else SpanResult.EXPORTED, len(spans))
        if failed and not self._failing:
            log.warning("spans cannot be sent to %s, they are lost until they can: %s", self._collector, self._why())
        elif self._failing and not failed:
            log.warning("spans can be sent to %s again", self._collector)
        self._failing = failed
        return result

    def shutdown(self) -> None:
        """Give up what is being sent."""
        self._otlp.shutdown()  # type: ignore[no-untyped-call]

    def _why(self) -> str:
        return self._complaints.message or "no reason given"


class _LastComplaint(logging.Handler):
    """Keeps the last thing that OpenTelemetry complained about, which it would otherwise repeat at every export."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.message = ""
        source = logging.getLogger("opentelemetry")
        source.propagate = False
        source.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.message = record.getMessage()
