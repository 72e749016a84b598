"""The HTTP server that kube-scheduler asks: a raw ASGI application.

`POST /prioritize`, `/filter`, `/preempt` speak the extender protocol; `GET /healthz`, `/readyz`, `/metrics`, `/state`,
`/explain`, `/policy`, `POST /rollback` and `/resume` are for operators. Whatever cannot be answered is refused with a
status and `{"error": ...}` saying what was given and what was expected, and counted. A framework would cost three times
the time of everything here.
"""

import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from http import HTTPStatus
from itertools import compress
from typing import Any, NamedTuple
from urllib.parse import parse_qs

from extender import wire
from extender.cluster.assume import Assumptions
from extender.cluster.feed import ClusterFeed, pod_uid
from extender.cluster.requests import RequestError, pod_request
from extender.cluster.reservations import Reservations
from extender.cluster.state import ClusterState
from extender.placement import PodRequest
from extender.preemption import PreemptionMode, choose_nodes
from extender.quantity import QuantityError
from extender.server.answers import PodIdentity
from extender.server.explain import Withheld
from extender.server.guarded import COMPLETE
from extender.server.health import readiness
from extender.server.openapi import describe
from extender.server.outcome import OutcomeWatch
from extender.server.rollout import NothingToRollBackError, NotSteppedDownError, Rollout
from extender.server.scoring import Scorer, UnknownNodesError
from extender.telemetry import metrics as telemetry
from extender.telemetry.logs import about_trace, trace_parent_of
from extender.telemetry.metrics import Metrics
from extender.telemetry.tracing import Span, Tracer, begin_span, end_span, trace_pod
from extender.wire import ExtenderArgs, HostPriority, Pod, WireError
from extender.wire_preempt import decode_preemption, encode_preemption

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

JSON = b"application/json"
CLIENT_CLOSED_REQUEST = 499  # nginx's code for a client that left; it is only ever counted
_TRACED = ("prioritize", "filter", "preempt")
_DISCARDED_AT_MOST = 64 * 1024 * 1024  # of a body that is too large; whoever sends more is cut off


class RefusedError(Exception):
    """A request that is not answered; `reason` is shown to the client."""

    def __init__(self, status: HTTPStatus, reason: str, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.headers = headers


class ClientDisconnectedError(Exception):
    """The client left before its request was complete."""


class Response(NamedTuple):
    """An answer before it is sent."""

    status: HTTPStatus
    content_type: bytes
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()


class Route(NamedTuple):
    """A path: its method, its name in metrics, and what answers, given the body and when it was complete."""

    method: str
    verb: str
    answer: Callable[[bytes, float], Response]


class HttpApp:
    """The application; an instance is what uvicorn calls."""

    def __init__(
        self,
        scorer: Scorer,
        state: ClusterState,
        assumptions: Assumptions,
        feed: ClusterFeed,
        metrics: Metrics,
        max_body_bytes: int,
        reservations: Reservations | None = None,
        preemption: PreemptionMode = PreemptionMode.PASS_THROUGH,
        rollout: Rollout | None = None,
        tracer: Tracer | None = None,
        outcome: OutcomeWatch | None = None,
    ) -> None:
        self._rollout = rollout
        self._outcome = outcome
        self._tracer = tracer
        self._scorer = scorer
        self._state = state
        self._assumptions = assumptions
        self._feed = feed
        self._metrics = metrics
        self._max_body_bytes = max_body_bytes
        self._reservations = reservations
        self._preemption = preemption
        self._routes = {
            "/prioritize": Route("POST", "prioritize", self._prioritize),
            "/filter": Route("POST", "filter", self._filter),
            "/preempt": Route("POST", "preempt", self._preempt),
            "/healthz": Route("GET", "healthz", self._healthz),
            "/readyz": Route("GET", "readyz", self._readyz),
            "/metrics": Route("GET", "metrics", self._expose_metrics),
            "/state": Route("GET", "state", self._show_state),
            "/explain": Route("GET", "explain", self._explain),
            "/openapi.json": Route("GET", "openapi", self._show_description),
            "/policy": Route("GET", "policy", self._show_policy),
            "/rollback": Route("POST", "rollback", self._roll_back),
            "/resume": Route("POST", "resume", self._resume),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            raise RuntimeError(f"ASGI scope {scope['type']!r}: expected http; run uvicorn with lifespan off, ws none")
        route = self._routes.get(scope["path"])
        verb = route.verb if route is not None else "unknown"
        span = self._begin_span(verb, scope)
        started = time.perf_counter()
        code = int(HTTPStatus.INTERNAL_SERVER_ERROR)  # what uvicorn answers if anything here raises
        try:
            try:
                body = await self._read_body(scope, receive)
                started = scope["state"].get(COMPLETE, started)
                answer = self._find(route, scope)
                response = answer(scope["query_string"] if verb == "explain" else body, started)
            except RefusedError as refusal:
                error = wire.encode_json({"error": refusal.reason})
                response = Response(refusal.status, JSON, error, refusal.headers)
            await _send(send, response)
            code = int(response.status)
        except ClientDisconnectedError:
            code = CLIENT_CLOSED_REQUEST
        finally:
            self._metrics.requests.labels(verb, code).inc()
            self._metrics.request_seconds.labels(verb).observe(time.perf_counter() - started)
            if self._tracer is not None and span is not None:
                failure = HTTPStatus(code).phrase if code >= HTTPStatus.INTERNAL_SERVER_ERROR else ""
                end_span(self._tracer, span, {"http.response.status_code": code}, failure)

    def _begin_span(self, verb: str, scope: Scope) -> Span | None:
        """Only what kube-scheduler asks is traced; probes and scrapes would hide it."""
        if self._tracer is None or verb not in _TRACED:
            about_trace(trace_parent_of(scope["headers"]))
            return None
        method, path = scope["method"], scope["path"]
        about = {"http.request.method": method, "url.path": path}
        return begin_span(self._tracer, f"{method} {path}", scope["headers"], about)

    def _find(self, route: Route | None, scope: Scope) -> Callable[[bytes, float], Response]:
        if route is None:
            known = ", ".join(f"{known.method} {path}" for path, known in self._routes.items())
            raise RefusedError(
                HTTPStatus.NOT_FOUND,
                f"nothing at {scope['path']}: expected one of {known}. Check urlPrefix and the verbs in the extender's "
                f"section of KubeSchedulerConfiguration",
            )
        if scope["method"] != route.method:
            raise RefusedError(
                HTTPStatus.METHOD_NOT_ALLOWED,
                f"{scope['method']} {scope['path']}: expected {route.method}",
                ((b"allow", route.method.encode()),),
            )
        return route.answer

    async def _read_body(self, scope: Scope, receive: Receive) -> bytes:
        message = await receive()
        if message["type"] == "http.request" and not message.get("more_body", False):
            body: bytes = message.get("body", b"")
            if len(body) <= self._max_body_bytes:
                return body
        chunks: list[bytes] = []
        size = 0
        while True:
            if message["type"] == "http.disconnect":
                raise ClientDisconnectedError
            chunk: bytes = message.get("body", b"")
            size += len(chunk)
            if size <= self._max_body_bytes:
                chunks.append(chunk)
            elif size > _DISCARDED_AT_MOST:
                break
            # The rest of a body that is too large is read and dropped: a client that is still sending would not
            # see the answer.
            if not message.get("more_body", False):
                break
            message = await receive()
        if size > self._max_body_bytes:
            raise RefusedError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"the body has more than {self._max_body_bytes} bytes: set nodeCacheCapable: true, so that requests "
                f"carry names only, or raise --max-body-bytes",
                ((b"connection", b"close"),),
            )
        return b"".join(chunks)

    def _prioritize(self, body: bytes, started: float) -> Response:
        args = _decode(body)
        pod = _identify(args.pod, len(args.node_names))
        try:
            answer = self._scorer.prioritize(
                pod, pod_request(args.pod, self._scorer.resources), args.node_names, started
            )
        except RequestError as error:
            answer = self._scorer.refuse(pod, str(error))
        except QuantityError as error:
            raise RefusedError(HTTPStatus.BAD_REQUEST, f"pod {pod.namespace}/{pod.name}: {error}") from error
        except UnknownNodesError as error:
            raise RefusedError(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from error
        ranked = [HostPriority(node.name, node.priority) for node in answer.nodes]
        return Response(HTTPStatus.OK, JSON, wire.encode_priorities(ranked))

    def _filter(self, body: bytes, started: float) -> Response:
        args = _decode(body)
        pod = _identify(args.pod, len(args.node_names))
        try:
            request = pod_request(args.pod, self._scorer.resources)
            failed = self._scorer.lacking_devices(pod, request, args.node_names)
            withheld = self._withheld(pod, request, args.node_names)
            if self._reservations is not None:
                known = Withheld(time.time(), pod.uid, withheld)
                self._scorer.explanations.withhold(f"{pod.namespace}/{pod.name}", known)
        except RequestError as error:
            failed, withheld = dict.fromkeys(args.node_names, str(error)), {}
        except QuantityError as error:
            raise RefusedError(HTTPStatus.BAD_REQUEST, f"pod {pod.namespace}/{pod.name}: {error}") from error
        self._metrics.withheld_nodes.inc(len(withheld))
        left_out = failed.keys() | withheld.keys()
        kept = [name not in left_out for name in args.node_names] if left_out else None
        left = args.node_names if kept is None else list(compress(args.node_names, kept))
        if len(left) == 1:
            self._scorer.one_left(pod, request, left[0], started)
        return Response(HTTPStatus.OK, JSON, wire.encode_filter_result(args, kept, failed, withheld))

    def _preempt(self, body: bytes, started: float) -> Response:
        try:
            args = decode_preemption(body)
        except WireError as error:
            raise RefusedError(HTTPStatus.BAD_REQUEST, str(error)) from error
        pod = _identify(args.pod, len(args.victims))
        try:
            request = pod_request(args.pod, self._scorer.resources)
        except (RequestError, QuantityError) as error:
            raise RefusedError(HTTPStatus.BAD_REQUEST, f"pod {pod.namespace}/{pod.name}: {error}") from error
        withheld = self._withheld(pod, request, args.victims)
        chosen = choose_nodes(self._preemption, self._state, request, args.victims, withheld, time.time())
        return Response(HTTPStatus.OK, JSON, encode_preemption(chosen))

    def _withheld(self, pod: PodIdentity, request: PodRequest, names: Iterable[str]) -> dict[str, str]:
        return self._reservations.withheld(pod.uid, request, names) if self._reservations is not None else {}

    def _healthz(self, body: bytes, started: float) -> Response:
        return Response(HTTPStatus.OK, JSON, wire.encode_json({"alive": True}))

    def _readyz(self, body: bytes, started: float) -> Response:
        ready, reason = readiness(self._feed)
        if not ready:
            raise RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, reason)
        return Response(HTTPStatus.OK, JSON, wire.encode_json({"ready": True, "reason": reason}))

    def _expose_metrics(self, body: bytes, started: float) -> Response:
        return Response(HTTPStatus.OK, telemetry.CONTENT_TYPE.encode(), self._metrics.expose())

    def _explain(self, query: bytes, started: float) -> Response:
        pod = parse_qs(query.decode("ascii", "replace")).get("pod", [""])[0]
        if pod.count("/") != 1:
            raise RefusedError(HTTPStatus.BAD_REQUEST, f"pod is {pod!r}: expected GET /explain?pod=NAMESPACE/NAME")
        kept = self._reservations.of(*pod.split("/")) if self._reservations is not None else None
        shown = self._scorer.explanations.of(pod, kept)
        if shown is None:
            raise RefusedError(
                HTTPStatus.NOT_FOUND,
                f"nothing is known of pod {pod}: it was not asked about since the start, or too many were since then. "
                f"kube-scheduler does not ask about a pod for which only one node is feasible",
            )
        return Response(HTTPStatus.OK, JSON, wire.encode_json(shown))

    def _show_policy(self, body: bytes, started: float) -> Response:
        if self._rollout is None:
            raise RefusedError(HTTPStatus.NOT_FOUND, "there is no policy that could be replaced")
        outcome = self._outcome.describe() if self._outcome is not None else None
        return Response(HTTPStatus.OK, JSON, wire.encode_json(self._rollout.describe() | {"outcome": outcome}))

    def _roll_back(self, body: bytes, started: float) -> Response:
        if self._rollout is None:
            raise RefusedError(HTTPStatus.NOT_FOUND, "there is no policy that could be replaced")
        try:
            self._rollout.roll_back()
        except NothingToRollBackError as error:
            raise RefusedError(HTTPStatus.CONFLICT, str(error)) from error
        return self._show_policy(body, started)

    def _resume(self, body: bytes, started: float) -> Response:
        if self._outcome is None:
            raise RefusedError(HTTPStatus.NOT_FOUND, "no outcome_file is set: no policy is ever stepped down from")
        try:
            self._outcome.resume()
        except NotSteppedDownError as error:
            raise RefusedError(HTTPStatus.CONFLICT, str(error)) from error
        return self._show_policy(body, started)

    def _show_description(self, body: bytes, started: float) -> Response:
        description = describe((path, route.method) for path, route in self._routes.items())
        return Response(HTTPStatus.OK, JSON, wire.encode_json(description))

    def _show_state(self, body: bytes, started: float) -> Response:
        arrays = self._state.arrays
        nodes = {}
        for name in self._state.node_names():
            row = self._state.row_of(name)
            nodes[name] = {
                "allocatable": arrays.allocatable[row].tolist(),
                "requested": arrays.requested[row].tolist(),
            }
        shown = {
            "resources": self._state.resources,
            "nodes": nodes,
            "pods": len(self._state.pods),
            "assumed": len(self._assumptions),
            "reservations": self._reservations.held() if self._reservations is not None else [],
        }
        return Response(HTTPStatus.OK, JSON, wire.encode_json(shown))


def _decode(body: bytes) -> ExtenderArgs:
    try:
        return wire.decode_args(body)
    except WireError as error:
        raise RefusedError(HTTPStatus.BAD_REQUEST, str(error)) from error


def _identify(pod: Pod, nodes: int) -> PodIdentity:
    metadata = pod.metadata
    if not metadata.name and not metadata.uid:
        raise RefusedError(
            HTTPStatus.BAD_REQUEST, "Pod.metadata has neither name nor uid: expected the pod to be placed"
        )
    identity = PodIdentity(metadata.namespace, metadata.name, pod_uid(metadata))
    trace_pod(*identity, nodes)
    return identity


async def _send(send: Send, response: Response) -> None:
    # Without a Content-Length the answer would be chunked, and Go would not reuse the connection.
    length = str(len(response.body)).encode()
    headers = [(b"content-type", response.content_type), (b"content-length", length), *response.headers]
    await send({"type": "http.response.start", "status": int(response.status), "headers": headers})
    await send({"type": "http.response.body", "body": response.body})
