"""The Prometheus metrics, in a registry that is passed in.

Names and labels are an interface: dashboards and alerts are written against them. Every label has few values.
"""

import time

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from extender.telemetry.verdict import Verdict

CONTENT_TYPE = CONTENT_TYPE_LATEST
# From what a handful of nodes takes to kube-scheduler's default timeout for an extender.
SECONDS_BUCKETS = (
    0.0001, 0.00025, 0.0005, 0.00075, 0.001, 0.0015, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
)  # fmt: skip
REGRET_BUCKETS = (0.0, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
CANDIDATE_BUCKETS = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)


class Metrics:
    """Everything that is counted. Counters of one kind of watched object come from `reflector`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self.requests = Counter(
            "stowage_requests_total", "Requests answered, by verb and status code.", ["verb", "code"], registry=registry
        )
        self.request_seconds = Histogram(
            "stowage_request_seconds",
            "Time from the complete request to the answer.",
            ["verb"],
            buckets=SECONDS_BUCKETS,
            registry=registry,
        )
        self.decisions = Counter(
            "stowage_decisions_total", "Prioritize answers, by what gave them.", ["rung"], registry=registry
        )
        self.policy_failures = Counter(
            "stowage_policy_failures_total",
            "Decisions to which a policy had no usable scores, by why: error, deadline, breaker (not asked).",
            ["rung", "kind"],
            registry=registry,
        )
        self.breaker_open = Gauge(
            "stowage_breaker_open", "1 while the policy is not asked because it failed too often.", registry=registry
        )
        self.hung_calls = Gauge(
            "stowage_hung_calls", "Computations of policies that were given up and have not ended.", registry=registry
        )
        self.staleness = Gauge(
            "stowage_staleness_seconds",
            "Time since the API server was last heard of, by what is watched.",
            ["kind"],
            registry=registry,
        )
        self.candidates = Histogram(
            "stowage_candidates", "Candidates scored per decision.", buckets=CANDIDATE_BUCKETS, registry=registry
        )
        self.unknown_nodes = Counter(
            "stowage_unknown_nodes_total", "Node names in requests that the state does not know.", registry=registry
        )
        self.filtered_nodes = Counter(
            "stowage_filtered_nodes_total", "Nodes left out by filter, lacking devices.", registry=registry
        )
        self.withheld_nodes = Counter(
            "stowage_withheld_nodes_total", "Nodes left out by filter, reserved for other pods.", registry=registry
        )
        self.reservations = Counter(
            "stowage_reservations_total",
            "Reservations made and ended, by what became of them.",
            ["outcome"],
            registry=registry,
        )
        self.reserved = Gauge("stowage_reserved_nodes", "Nodes reserved for pods that wait now.", registry=registry)
        self.pod_events = Counter(
            "stowage_pod_events_total", "Events on pods, by whether they were written.", ["result"], registry=registry
        )
        self.cut_connections = Counter(
            "stowage_cut_connections_total",
            "Clients cut off: their head was too large, they sent no whole request or did not read the answer in time.",
            ["reason"],
            registry=registry,
        )
        self.tls_files = Counter(
            "stowage_tls_files_total",
            "New versions of the TLS files, by whether they are used.",
            ["result"],
            registry=registry,
        )
        self.assumptions = Counter(
            "stowage_assumptions_total", "Assumptions ended, by what became of them.", ["outcome"], registry=registry
        )
        self.assumed = Gauge("stowage_assumed_pods", "Pods counted by assumption now.", registry=registry)
        self.nodes = Gauge("stowage_nodes", "Nodes in the state.", registry=registry)
        self.pods = Gauge("stowage_pods", "Pods on nodes in the state.", registry=registry)
        self.typical_estimates = Counter(
            "stowage_typical_pods_estimates_total",
            "Times that other typical pods were estimated from recent pods.",
            registry=registry,
        )
        self.policy_info = Gauge(
            "stowage_policy_info", "1 for the policy that is served.", ["name", "digest"], registry=registry
        )
        self.policy_swaps = Counter(
            "stowage_policy_swaps_total",
            "Policy files that took over, were refused, rolled back, stepped down from, or resumed.",
            ["result"],
            registry=registry,
        )
        self.stepped_down = Gauge(
            "stowage_stepped_down",
            "1 while the fallback answers alone, because the policy did worse than it.",
            registry=registry,
        )
        self.outcome_standing = Gauge(
            "stowage_outcome_standing",
            "1 for what the verdict file says of the policy in service, or for why it says nothing.",
            ["standing"],
            registry=registry,
        )
        self.outcome_age = Gauge(
            "stowage_outcome_age_seconds", "Time since the verdict was written; NaN without one.", registry=registry
        )
        self.outcome_age.set(float("nan"))
        self.outcome_worse = Gauge(
            "stowage_outcome_worse_seconds",
            "For how long all verdicts have said that the policy does worse than the fallback.",
            registry=registry,
        )
        self.outcome_wait = Gauge(
            "stowage_outcome_wait_seconds",
            "Mean wait in the verdict: observed, and simulated of the policy, the fallback and the best heuristic.",
            ["of"],
            registry=registry,
        )
        self.outcome_allocation = Gauge(
            "stowage_outcome_gpu_allocation_ratio", "Share of GPUs in use in the verdict.", ["of"], registry=registry
        )
        self.outcome_regret = Gauge(
            "stowage_outcome_regret_seconds",
            "Simulated mean wait of the policy minus that of the best heuristic: mean and 95 % interval.",
            ["bound"],
            registry=registry,
        )
        self.drift = Gauge(
            "stowage_drift_index",
            "Population stability index of the pods against those of the training, by feature.",
            ["feature"],
            registry=registry,
        )
        self.candidate_info = Gauge(
            "stowage_candidate_info",
            "1 for the policy that is tried beside the one in service.",
            ["name", "digest"],
            registry=registry,
        )
        self.candidate_percent = Gauge(
            "stowage_candidate_percent",
            "Percent of the pods that the candidate answers for; 0 in shadow and without one.",
            registry=registry,
        )
        self.candidate_changes = Counter(
            "stowage_candidate_changes_total",
            "Candidates that came to a stage, were refused or withdrawn, or whose trial was ended.",
            ["result"],
            registry=registry,
        )
        self.candidate_pods = Counter(
            "stowage_candidate_pods_total",
            "Pods of a candidate: answered, or in shadow sent to the same node, another, not comparable, skipped.",
            ["result"],
            registry=registry,
        )
        self.candidate_failures = Counter(
            "stowage_candidate_failures_total",
            "Decisions to which a candidate had no usable scores, by why: error, deadline.",
            ["kind"],
            registry=registry,
        )
        self.agreements = Counter(
            "stowage_agreement_total",
            "Pods seen on a node, by where that is in the policy's answer, and whether kube-scheduler was told it.",
            ["steered", "result"],
            registry=registry,
        )
        self.regret = Histogram(
            "stowage_regret",
            "How much worse the policy finds a pod's node than its best: 0 .. 1, its worst candidate.",
            ["steered"],
            buckets=REGRET_BUCKETS,
            registry=registry,
        )
        self.decision_log_records = Counter(
            "stowage_decision_log_records_total",
            "Records of the decision log, by whether they were written or lost.",
            ["result"],
            registry=registry,
        )
        self.spans = Counter(
            "stowage_spans_total",
            "Spans recorded, exported or failed to be; those recorded that are neither wait or were dropped.",
            ["result"],
            registry=registry,
        )
        self._lists = Counter(
            "stowage_reflector_lists_total", "Lists begun, by reason.", ["kind", "reason"], registry=registry
        )
        self._watches = Counter("stowage_reflector_watches_total", "Watches begun.", ["kind"], registry=registry)
        self._events = Counter(
            "stowage_reflector_events_total", "Watch events received.", ["kind", "type"], registry=registry
        )
        self._failures = Counter(
            "stowage_reflector_failures_total",
            "Failed requests to the API server and objects that could not be read.",
            ["kind", "reason"],
            registry=registry,
        )

        self._backoff = Counter(
            "stowage_reflector_backoff_seconds_total",
            "Seconds waited before requests to the API server, because the last one failed.",
            ["kind"],
            registry=registry,
        )
        self.credentials = Counter(
            "stowage_api_credentials_total",
            "Times that the credentials for the API server were read, by whether they were new.",
            ["result"],
            registry=registry,
        )

    def reflector(self, kind: str) -> "ReflectorMetrics":
        """The counters of one kind of watched object."""
        counted = ReflectorMetrics(kind, self._lists, self._watches, self._events, self._failures, self._backoff)
        self.staleness.labels(kind).set_function(counted.silent_seconds)
        return counted

    def agree(self, steered: bool, agreement: str, regret: float | None) -> None:
        """A pod that the policy was asked about is on a node; see `agreement`."""
        told = "true" if steered else "false"
        self.agreements.labels(told, agreement).inc()
        if regret is not None:
            self.regret.labels(told).observe(regret)

    def serving(self, name: str, digest: str) -> None:
        """This policy is served from now on, and none else."""
        self.policy_info.clear()
        self.policy_info.labels(name, digest).set(1)

    def show_verdict(self, verdict: Verdict | None) -> None:
        """The figures of this verdict, or none."""
        for gauge in (self.outcome_wait, self.outcome_allocation, self.outcome_regret, self.drift):
            gauge.clear()
        if verdict is None:
            return
        for gauge, figures in (
            (self.outcome_wait, verdict.wait_seconds),
            (self.outcome_allocation, verdict.gpu_allocation),
            (self.outcome_regret, msgspec.to_builtins(verdict.regret_seconds) or {}),
            (self.drift, verdict.drift),
        ):
            for label, value in figures.items():
                gauge.labels(label).set(value)

    def expose(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self._registry)


class ReflectorMetrics:
    """Counters of one reflector; safe to use from its thread."""

    def __init__(
        self, kind: str, lists: Counter, watches: Counter, events: Counter, failures: Counter, backoff: Counter
    ) -> None:
        self._kind = kind
        self._lists = lists
        self._watches = watches
        self._events = events
        self._failures = failures
        self._backoff = backoff
        self._heard = time.monotonic()

    def silent_seconds(self) -> float:
        """Time since the API server last said something, at first since the start."""
        return time.monotonic() - self._heard

    def heard(self) -> None:
        """The API server said something that is as good as an event."""
        self._heard = time.monotonic()

    def listing(self, reason: str) -> None:
        """A list is begun."""
        self._lists.labels(self._kind, reason).inc()

    def watching(self) -> None:
        """A watch is begun."""
        self._watches.labels(self._kind).inc()

    def event(self, type_: str) -> None:
        """An event was received."""
        self.heard()
        self._events.labels(self._kind, type_).inc()

    def failure(self, reason: str) -> None:
        """A request failed, or an object could not be read."""
        self._failures.labels(self._kind, reason).inc()

    def backoff(self, seconds: float) -> None:
        """The next request waits so long."""
        self._backoff.labels(self._kind).inc(seconds)
