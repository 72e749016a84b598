"""The gRPC server: `stowage.v1.Scoring/Score` and `ScoreStream`, with the standard health service and reflection.

The methods are registered by name over the generated messages, so that no generated service code is needed.
"""

import time
from collections.abc import AsyncIterator

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from extender.cluster.amounts import nano_list
from extender.cluster.requests import RequestError, build_request, gpu_request
from extender.quantity import QuantityError
from extender.server.answers import PodIdentity
from extender.server.scoring import Scorer, UnknownNodesError
from extender.server.scoring_pb2 import DESCRIPTOR, RankedNode, ScoreRequest, ScoreResponse
from extender.telemetry.logs import TRACE_HEADER, about_trace
from extender.telemetry.metrics import Metrics
from extender.telemetry.tracing import Tracer, begin_span, end_span, trace_pod

SERVICE = DESCRIPTOR.services_by_name["Scoring"].full_name
VERB, STREAM_VERB = "Score", "ScoreStream"
_ACCEPTABLE_SECONDS = 1e12  # beyond any duration; also refuses NaN


class RpcServer:
    """Serves a `Scorer` over gRPC."""

    def __init__(
        self,
        scorer: Scorer,
        metrics: Metrics,
        max_body_bytes: int,
        credentials: grpc.ServerCredentials | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        self._tracer = tracer
        self._scorer = scorer
        self._metrics = metrics
        self._credentials = credentials
        # Without so_reuseport a second extender on the same port is refused rather than given half of the calls.
        options = (("grpc.max_receive_message_length", max_body_bytes), ("grpc.so_reuseport", 0))
        self._server = grpc.aio.server(options=options)
        self._health = health.aio.HealthServicer()
        method = grpc.unary_unary_rpc_method_handler(
            self._score,
            response_serializer=ScoreResponse.SerializeToString,
        )
        stream = grpc.stream_stream_rpc_method_handler(
            self._score_stream,
            response_serializer=ScoreResponse.SerializeToString,
        )
        methods = {VERB: method, STREAM_VERB: stream}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server)

    async def start(self, address: str) -> int:
        """Listen; returns the port.

        Raises:
            RuntimeError: the address cannot be bound.
        """
        if self._credentials is not None:
            port = self._server.add_secure_port(address, self._credentials)
        else:
            port = self._server.add_insecure_port(address)
        await self.set_serving(False)
        await self._server.start()
        return int(port)

    async def set_serving(self, serving: bool) -> None:
        """Tell the health service's clients whether answers rest on a complete view of the cluster."""
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for service in ("", SERVICE):
            await self._health.set(service, status)

    async def stop(self, grace_seconds: float) -> None:
        """End; calls in flight have so long to finish."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace_seconds)

    async def _score(self, request: bytes, context: grpc.aio.ServicerContext) -> ScoreResponse:
        code, reason, response = self._try(VERB, request, context)
        if code is not grpc.StatusCode.OK:
            await context.abort(code, reason)
        return response

    async def _score_stream(
        self, requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[ScoreResponse]:
        async for request in requests:
            code, reason, response = self._try(STREAM_VERB, request, context)
            if code is not grpc.StatusCode.OK:
                await context.abort(code, reason)
            yield response

    def _try(
        self, verb: str, request: bytes, context: grpc.aio.ServicerContext
    ) -> tuple[grpc.StatusCode, str, ScoreResponse]:
        """Answer one request and count it; a status and a reason if it is refused."""
        started = time.perf_counter()
        span = None
        if self._tracer is None:
            about_trace(_trace_parent(context))
        else:
            about = {"rpc.system.name": "grpc", "rpc.method": f"{SERVICE}/{verb}"}
            span = begin_span(self._tracer, f"{SERVICE}/{verb}", context.invocation_metadata() or (), about)
        code, reason, response = grpc.StatusCode.UNKNOWN, "", ScoreResponse()
        try:
            response = self._answer(_decode(request), started)
            code = grpc.StatusCode.OK
        except (QuantityError, RequestError, InvalidRequestError) as error:
            code, reason = grpc.StatusCode.INVALID_ARGUMENT, str(error)
        except UnknownNodesError as error:
            code, reason = grpc.StatusCode.NOT_FOUND, str(error)
        finally:
            self._metrics.requests.labels(verb, code.name).inc()
            self._metrics.request_seconds.labels(verb).observe(time.perf_counter() - started)
            if self._tracer is not None and span is not None:
                failure = "a mistake of the extender" if code is grpc.StatusCode.UNKNOWN else ""
                end_span(self._tracer, span, {"rpc.response.status_code": code.name}, failure)
        return code, reason, response

    def _answer(self, request: ScoreRequest, started: float) -> ScoreResponse:
        identity = request.pod
        if not identity.uid and not identity.name:
            raise InvalidRequestError("pod has neither name nor uid: expected the pod to be placed")
        if not 0.0 <= request.expected_seconds <= _ACCEPTABLE_SECONDS:
            raise InvalidRequestError(
                f"expected_seconds is {request.expected_seconds}: expected seconds, 0 for unknown"
            )
        pod = PodIdentity(identity.namespace, identity.name, identity.uid or f"{identity.namespace}/{identity.name}")
        trace_pod(*pod, len(request.node_names))
        amounts = nano_list(request.requests)
        asked = build_request(
            amounts, gpu_request(amounts), self._scorer.resources, request.priority, request.expected_seconds
        )
        answer = self._scorer.prioritize(pod, asked, list(request.node_names), started)
        return ScoreResponse(
            nodes=[RankedNode(name=node.name, score=node.score, priority=node.priority) for node in answer.nodes],
            rung=answer.rung,
            policy_digest=answer.policy,
        )


def _trace_parent(context: grpc.aio.ServicerContext) -> str:
    return next((str(value) for name, value in context.invocation_metadata() or () if name == TRACE_HEADER), "")


class InvalidRequestError(ValueError):
    """A request is none, or lacks what it must have."""


def _decode(message: bytes) -> ScoreRequest:
    # Left to grpc, a message that is none would end the call with UNKNOWN, as a mistake of ours does.
    try:
        return ScoreRequest.FromString(message)
    except DecodeError as error:
        raise InvalidRequestError(f"not a ScoreRequest: {error}") from error
