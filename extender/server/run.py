"""Puts the extender together and runs it: one event loop for the servers, threads only where something waits.

The extender announces itself when both servers listen and the cluster has been listed once. SIGTERM and SIGINT end it
in order: no new connections, requests in flight finish, the decision log is written out.
"""

import asyncio
import logging
import random
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from extender.cluster.assume import Assumptions
from extender.cluster.feed import ClusterFeed, Event, Kind, Listed, PodSeen
from extender.cluster.file_source import decode_file
from extender.cluster.recent import RecentPods
from extender.cluster.reflector import NODES, PODS, ListWatch
from extender.cluster.state import ClusterState
from extender.decision import Rung, Step
from extender.policies.breaker import Breaker
from extender.policies.bundled import policy_path
from extender.policies.raters import DirectRater, rater_of
from extender.policies.worker import Worker
from extender.preemption import PreemptionMode
from extender.quantity import QuantityError
from extender.reservations import ReservationRule
from extender.server.candidate import Candidate
from extender.server.http import HttpApp
from extender.server.listening import StartError, address, bind, http_server
from extender.server.outcome import OutcomeWatch
from extender.server.policy import ServedPolicy, choose_heuristic, choose_policy
from extender.server.rollout import Rollout, Swap, steers
from extender.server.rpc import RpcServer
from extender.server.scoring import Scorer
from extender.server.tls import ServerTls, TlsError, TlsFiles
from extender.server.trial import Limits, Ways
from extender.server.waiting import ReservationKeeper
from extender.settings import HEURISTIC_PREFIX, Settings
from extender.telemetry.decision_log import DecisionLog
from extender.telemetry.metrics import Metrics, ReflectorMetrics
from extender.telemetry.outcomes import Outcomes
from extender.telemetry.tracing import NoOpenTelemetryError, Tracer, connect
from extender.wire import WireError

if TYPE_CHECKING:
    from extender.cluster.watcher import Watcher

POLICY_SHARE = 0.8  # of a deadline; the rest is for the fallback and for sending the answer
EXPIRY_SECONDS = 1.0  # how often assumptions are looked through when no request does it

log = logging.getLogger(__name__)


class Extender:
    """Everything that runs, wired together.

    Attributes:
        http_address: host:port, once it listens.
        grpc_address: host:port, once it listens.
    """

    def __init__(self, settings: Settings) -> None:
        """Load the policy and build the parts; nothing listens yet. To be called on the running event loop.

        Raises:
            PolicyError: the policy or the fallback cannot be served.
            StartError: the TLS files cannot be used.
        """
        served = choose_policy(settings.policy, settings.scoring)
        self._worker = Worker("policy")
        self._settings = settings
        self.http_address = ""
        self.grpc_address = ""
        self._metrics = Metrics(CollectorRegistry())
        self._metrics.serving(served.name, served.digest)
        for swap in Swap:
            self._metrics.policy_swaps.labels(swap)
        self._metrics.hung_calls.set_function(self._hung_calls)
        self._reflectors: dict[Kind, ReflectorMetrics] = {}
        self._state = ClusterState(served.resources)
        self._assumptions = Assumptions(
            self._state, settings.assume_ttl, time.monotonic, lambda what: self._metrics.assumptions.labels(what).inc()
        )
        self._metrics.nodes.set_function(lambda: len(self._state))
        self._metrics.pods.set_function(lambda: len(self._state.pods))
        self._metrics.assumed.set_function(lambda: len(self._assumptions))
        self._decision_log: DecisionLog | None = None
        if settings.decision_log is not None:
            self._decision_log = DecisionLog(
                settings.decision_log,
                settings.decision_log_flush,
                lambda result, count: self._metrics.decision_log_records.labels(result).inc(count),
                settings.decision_log_file_bytes,
                settings.decision_log_files,
                settings.decision_log_fsync,
            )
        outcomes = Outcomes(time.time, self._decision_log.append) if self._decision_log is not None else None
        self._keeper: ReservationKeeper | None = None
        if settings.reserve_after > 0:
            rule = ReservationRule(settings.reserve_after, settings.reserve_gpus, settings.reservation_ttl)
            self._keeper = ReservationKeeper(
                self._state, rule, settings.scheduler_name, settings.reservation_file, self._metrics
            )
        reservations = self._keeper.reservations if self._keeper is not None else None
        recent_pods = RecentPods() if settings.typical_pods == "recent" else None
        self._feed = ClusterFeed(
            self._state, self._assumptions, reservations, outcomes, recent_pods, settings.scheduler_name
        )
        self._scorer = Scorer(
            self._state,
            self._assumptions,
            self._feed,
            self._ladder_of(served),
            served.digest,
            self._metrics,
            self._decision_log,
            settings.deadline,
            self._is_stale,
            outcomes,
            steers(settings.mode, settings.canary_percent),
            recent_pods,
            asyncio.get_running_loop().call_soon,
        )
        self._candidate = self._candidate_of(settings.candidate) if settings.candidate is not None else None
        file = None if settings.policy.startswith(HEURISTIC_PREFIX) else policy_path(settings.policy)
        self._rollout = Rollout(
            served,
            file,
            self._scorer,
            self._ladder_of,
            POLICY_SHARE * settings.deadline,
            self._swapped,
            self._candidate,
        )
        self._outcome: OutcomeWatch | None = None
        if settings.outcome_file is not None:
            self._outcome = OutcomeWatch(
                settings.outcome_file, settings.step_down_after, self._rollout, settings.fallback, self._metrics
            )
            self._outcome.begin()
        self._reviews: list[asyncio.Task[None]] = []
        self._watchers: list[Watcher] = []
        self._synced = asyncio.Event()
        self._expiry: asyncio.TimerHandle | None = None

        self._tracer = _tracer(settings, self._metrics)
        tls = _server_tls(settings, self._metrics)
        app = HttpApp(
            self._scorer,
            self._state,
            self._assumptions,
            self._feed,
            self._metrics,
            settings.max_body_bytes,
            reservations,
            PreemptionMode(settings.preempt),
            self._rollout,
            self._tracer,
            self._outcome,
        )
        self._http = http_server(app, settings, tls, self._metrics)
        self._rpc = RpcServer(
            self._scorer,
            self._metrics,
            settings.max_body_bytes,
            tls.grpc_credentials() if tls is not None else None,
            self._tracer,
        )

    def _ladder_of(self, served: ServedPolicy) -> tuple[Step, ...]:
        """The policy, and the rule that stands behind it.

        Raises:
            PolicyError: the rule cannot stand behind this policy.
        """
        settings = self._settings
        breaker = Breaker(settings.breaker_failures, settings.breaker_pause, time.monotonic)
        fallback = choose_heuristic(settings.fallback, served.policy, settings.scoring)
        return (
            Step(Rung.POLICY, rater_of(served.policy, self._worker), breaker, POLICY_SHARE),
            Step(Rung.HEURISTIC, DirectRater(fallback)),
        )

    def _candidate_of(self, file: Path) -> Candidate:
        limits = Limits(self._settings.breaker_failures, POLICY_SHARE * self._settings.deadline)
        record = self._decision_log.append if self._decision_log is not None else None
        return Candidate(file, self._scorer, limits, Ways(self._metrics, record, asyncio.get_running_loop().call_soon))

    def _hung_calls(self) -> int:
        return self._worker.hung + (self._candidate.hung if self._candidate is not None else 0)

    def _swapped(self, swap: Swap, served: ServedPolicy) -> None:
        self._metrics.policy_swaps.labels(swap).inc()
        self._metrics.serving(served.name, served.digest)
        self._metrics.stepped_down.set(self._rollout.down is not None)

    async def run(self, announce: Callable[["Extender"], None]) -> None:
        """Serve until SIGTERM or SIGINT; calls `announce` when both servers listen and the cluster has been listed.

        Raises:
            StartError: an address is taken, or nodes and pods can be had from nowhere.
        """
        listener = bind(self._settings.host, self._settings.http_port)
        self.http_address = address(listener.getsockname())
        serving = asyncio.create_task(self._http.serve(sockets=[listener]))
        try:
            await self._start()
            log.info("http on %s, grpc on %s", self.http_address, self.grpc_address)
            synced = asyncio.create_task(self._synced.wait())
            await asyncio.wait((serving, synced), return_when=asyncio.FIRST_COMPLETED)
            if synced.done():
                await self._rpc.set_serving(True)
                log.info("%d nodes and %d pods listed", len(self._state), len(self._state.pods))
                announce(self)
            synced.cancel()
        finally:
            if sys.exception() is not None:
                self._http.should_exit = True
            await serving
            await self._stop()

    async def _start(self) -> None:
        if self._decision_log is not None:
            self._decision_log.start()
        host, port = self._settings.host, self._settings.grpc_port
        try:
            bound = await self._rpc.start(address((host, port)))
        except RuntimeError as error:
            raise StartError(f"--grpc-port: cannot use {host}:{port}: {error}; 0 takes a free port") from error
        self.grpc_address = address((host, bound))
        self._expire()
        self._reviews.append(asyncio.create_task(self._rollout.watch(self._settings.policy_poll)))
        if self._outcome is not None:
            self._reviews.append(asyncio.create_task(self._outcome.watch(self._settings.policy_poll)))
        if self._keeper is not None:
            self._keeper.start(lambda: self._feed.ready)
        if self._settings.cluster_file is not None:
            self._apply(_read_cluster(self._settings.cluster_file, self._state.resources))
        else:
            self._watch()

    async def _stop(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
        for review in self._reviews:
            review.cancel()
        for watcher in self._watchers:
            watcher.stop()
        for watcher in self._watchers:
            watcher.join()
        await self._rpc.stop(self._settings.shutdown_grace)
        self._worker.stop()
        if self._candidate is not None:
            self._candidate.stop()
        if self._keeper is not None:
            self._keeper.stop()
        if self._decision_log is not None:
            self._decision_log.stop()
        if self._tracer is not None:
            self._tracer.stop(self._settings.shutdown_grace)

    def _watch(self) -> None:
        # Imported here: a run from a file needs neither the package nor the memory it takes.
        from extender.cluster import api as api_server
        from extender.cluster import events, watcher

        try:
            api = api_server.connect(
                self._settings.kubeconfig,
                self._settings.watch_read_timeout,
                lambda result: self._metrics.credentials.labels(result).inc(),
            )
        except api_server.ClusterAccessError as error:
            raise StartError(str(error)) from error
        if self._keeper is not None and self._settings.reservation_events:
            self._keeper.tell(events.EventRecorder(api, lambda result: self._metrics.pod_events.labels(result).inc()))
        handoff = watcher.Handoff(asyncio.get_running_loop(), self._apply)
        for watched in (NODES, PODS):
            self._reflectors[watched.kind] = self._metrics.reflector(watched.kind)
            list_watch = ListWatch(
                watched,
                self._state.resources,
                self._settings.list_page_size,
                random.random,
                self._reflectors[watched.kind],
            )
            self._watchers.append(watcher.Watcher(list_watch, api, handoff))
        for each in self._watchers:
            each.start()

    def _apply(self, events: Sequence[Event]) -> None:
        self._feed.apply(events)
        for event in events:
            if type(event) is PodSeen and event.node:
                self._scorer.pod_on(event.uid, event.node)
            elif type(event) is Listed and event.kind in self._reflectors:
                self._reflectors[event.kind].heard()
        if self._feed.ready and not self._synced.is_set():
            self._synced.set()

    def _is_stale(self) -> bool:
        limit = self._settings.staleness_limit
        return any(reflector.silent_seconds() > limit for reflector in self._reflectors.values())

    def _expire(self) -> None:
        expired = self._assumptions.expire()
        if expired:
            log.warning("%d assumed pods were not seen on any node within %g s", expired, self._settings.assume_ttl)
        self._expiry = asyncio.get_running_loop().call_later(EXPIRY_SECONDS, self._expire)


def _server_tls(settings: Settings, metrics: Metrics) -> ServerTls | None:
    if settings.tls_certificate is None or settings.tls_key is None:
        return None
    files = TlsFiles(settings.tls_certificate, settings.tls_key, settings.tls_client_ca)
    try:
        return ServerTls(files, lambda result: metrics.tls_files.labels(result).inc())
    except TlsError as error:
        raise StartError(str(error)) from error


def _tracer(settings: Settings, metrics: Metrics) -> Tracer | None:
    if settings.trace_collector is None:
        return None
    try:
        return connect(
            settings.trace_collector,
            settings.trace_share,
            lambda result, count: metrics.spans.labels(result).inc(count),
        )
    except NoOpenTelemetryError as error:
        raise StartError(f"--trace-collector {settings.trace_collector}: {error}") from error


def _read_cluster(path: Path, resources: Sequence[str]) -> Sequence[Event]:
    try:
        return decode_file(path.read_bytes(), resources)
    except (OSError, WireError, QuantityError) as error:
        raise StartError(f"--cluster-file {path}: {error}") from error
