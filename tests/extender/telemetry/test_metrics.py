from prometheus_client import CollectorRegistry

from extender.telemetry.metrics import SECONDS_BUCKETS, Metrics


def test_two_extenders_in_one_process_count_apart() -> None:
    one, other = Metrics(CollectorRegistry()), Metrics(CollectorRegistry())
    one.unknown_nodes.inc(3)

    assert b"stowage_unknown_nodes_total 3.0" in one.expose()
    assert b"stowage_unknown_nodes_total 0.0" in other.expose()


def test_reflectors_are_told_apart_by_what_they_watch() -> None:
    metrics = Metrics(CollectorRegistry())
    metrics.reflector("nodes").event("ADDED")
    pods = metrics.reflector("pods")
    pods.listing("expired")
    pods.watching()
    pods.failure("410")
    exposed = metrics.expose().decode()

    assert 'stowage_reflector_events_total{kind="nodes",type="ADDED"} 1.0' in exposed
    assert 'stowage_reflector_lists_total{kind="pods",reason="expired"} 1.0' in exposed
    assert 'stowage_reflector_watches_total{kind="pods"} 1.0' in exposed
    assert 'stowage_reflector_failures_total{kind="pods",reason="410"} 1.0' in exposed


def test_times_are_told_apart_from_a_tenth_of_a_millisecond_to_five_seconds() -> None:
    assert SECONDS_BUCKETS[0] == 0.0001
    assert SECONDS_BUCKETS[-1] == 5.0
    assert list(SECONDS_BUCKETS) == sorted(set(SECONDS_BUCKETS))
