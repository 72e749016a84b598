"""Whatever the dashboard and the alerts ask for is served, under the labels that they select by."""

import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from extender.cluster.assume import Outcome
from extender.decision import FailureKind, Rung
from extender.server.outcome import Standing
from extender.server.rollout import Swap
from extender.server.trial import Change, Fate
from extender.telemetry.agreement import Agreement
from extender.telemetry.metrics import Metrics
from tests.extender.objects import cluster_list, extender_args, node, pod
from tests.extender.server.process import serve
from tests.monitoring.expressions import alerts, dashboard

EXPRESSIONS = [rule["expr"] for rule in alerts()] + list(dashboard().values())
# Values of labels that expressions select; what is not here is free text.
VALUES = {
    "rung": set(Rung),
    "outcome": set(Outcome),
    "steered": {"true", "false"},
    "standing": set(Standing),
    "verb": {"prioritize", "filter", "preempt", "Score", "ScoreStream", "metrics", "healthz", "readyz"},
}
RESULTS = {
    "stowage_policy_swaps_total": set(Swap),
    "stowage_agreement_total": set(Agreement),
    "stowage_candidate_changes_total": set(Change),
    "stowage_candidate_pods_total": set(Fate),
    "stowage_decision_log_records_total": {"written", "lost"},
}


def labels_by_sample() -> dict[str, set[str]]:
    """Names of the samples that there can be, and the labels of each."""
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    metrics.reflector("nodes")
    found: dict[str, set[str]] = {}
    for collector in list(registry._collector_to_names):
        names = {"le", *collector._labelnames}  # type: ignore[attr-defined]
        for sample in registry._collector_to_names[collector]:
            found[sample] = names
    return found


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_metric_and_label_exists(expression: str) -> None:
    known = labels_by_sample()
    bare = re.sub(r"\{[^}]*\}", "", expression)
    names = re.findall(r"\bstowage_\w+", bare)
    assert names
    assert set(names) <= known.keys()
    grouped = {label.strip() for group in re.findall(r"\b(?:by|on) \(([^)]*)\)", bare) for label in group.split(",")}
    assert grouped <= set.union(*(known[name] for name in names))
    for name, selector in re.findall(r"\b(stowage_\w+)\{([^}]*)\}", expression):
        for label, value in re.findall(r'(\w+)[!=~]+"([^"]*)"', selector):
            assert label in known[name]
            allowed = RESULTS[name] if label == "result" else VALUES.get(label)
            assert allowed is None or set(value.split("|")) <= allowed


def test_what_alerts_compare_with_is_served_from_the_start(tmp_path: Path) -> None:
    with serve(cluster_list(node("n")), tmp_path) as extender:
        extender.ask("POST", "/prioritize", extender_args(pod("p"), ["n"]))
        text = extender.ask("GET", "/metrics").body.decode()

    for sample in (
        *(f'stowage_decisions_total{{rung="{rung}"}}' for rung in Rung),
        *(f'stowage_policy_failures_total{{kind="{kind}",rung="policy"}}' for kind in FailureKind),
        *(f'stowage_policy_swaps_total{{result="{swap}"}}' for swap in Swap),
        "stowage_breaker_open",
        "stowage_hung_calls",
        "stowage_stepped_down",
        "stowage_nodes",
        'stowage_request_seconds_bucket{le="0.025",verb="prioritize"}',
    ):
        assert f"\n{sample} " in text


def test_every_alert_says_how_bad_it_is_and_what_to_do() -> None:
    for rule in alerts():
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert rule["annotations"].keys() == {"summary", "description"}
