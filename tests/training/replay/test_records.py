"""What a run's journal makes of the watch."""

import numpy as np

from training.replay.records import Journal, Records, empty_records

PODS, ROWS = {"a": 0, "b": 1}, {"n-0": 0, "n-1": 1}


def pod(name: str, node: str = "", phase: str = "Pending", scheduled: str = "") -> dict:
    conditions = [{"type": "PodScheduled", "status": "True", "lastTransitionTime": scheduled}] if scheduled else []
    return {
        "metadata": {"name": name, "creationTimestamp": "1970-01-01T00:01:40Z"},
        "spec": {"nodeName": node} if node else {},
        "status": {"phase": phase, "conditions": conditions},
    }


def journal() -> tuple[Journal, Records]:
    records = empty_records(np.array([0.0, 1.0]))
    return Journal(records, PODS, ROWS), records


def test_the_first_news_of_each_step_counts() -> None:
    told, records = journal()
    told.take("ADDED", pod("a"), 1.0, 101.0)
    told.take("MODIFIED", pod("a", "n-1", scheduled="1970-01-01T00:01:42Z"), 2.5, 102.5)
    told.take("MODIFIED", pod("a", "n-1", "Running"), 3.0, 103.0)
    told.take("MODIFIED", pod("a", "n-1", "Running"), 3.5, 103.5)
    told.take("MODIFIED", pod("a", "n-1", "Succeeded"), 9.0, 109.0)
    told.take("DELETED", pod("a", "n-1", "Succeeded"), 11.0, 111.0)

    assert (records.created[0], records.bound[0], records.running[0], records.ended[0]) == (1.0, 2.5, 3.0, 9.0)
    assert (records.created_stamp[0], records.bound_stamp[0], records.bound_wall[0]) == (100.0, 102.0, 102.5)
    assert records.node.tolist() == [1, -1]
    assert not records.failed[0]
    assert not records.waiting().any()


def test_a_pod_waits_until_it_is_bound_or_gone() -> None:
    told, records = journal()
    told.take("ADDED", pod("a"), 1.0, 101.0)
    told.take("ADDED", pod("b"), 1.5, 101.5)
    assert records.waiting().tolist() == [True, True]

    told.take("MODIFIED", pod("a", "n-0"), 2.0, 102.0)
    told.take("DELETED", pod("b"), 3.0, 103.0)

    assert not records.waiting().any()
    assert records.failed.tolist() == [False, True]


def test_strangers_are_named() -> None:
    told, records = journal()
    told.take("ADDED", pod("c"), 1.0, 101.0)
    told.take("ADDED", pod("a", "elsewhere"), 1.0, 101.0)

    assert told.strangers == {"c", "elsewhere"}
    assert records.node[0] == -1


def test_the_schedulers_own_event_is_kept_with_its_microseconds() -> None:
    told, records = journal()
    event = {"regarding": {"name": "b"}, "eventTime": "1970-01-01T00:01:42.250000Z"}
    told.take_event({**event, "reason": "Scheduled"})
    told.take_event({**event, "regarding": {"name": "a"}, "reason": "FailedScheduling"})

    assert records.event_stamp[1] == 102.25
    assert np.isnan(records.event_stamp[0])


def test_records_survive_being_written_down() -> None:
    told, records = journal()
    told.take("ADDED", pod("a", "n-1", "Failed"), 1.0, 101.0)

    again = Records.from_json(records.to_json())

    for name, value in vars(records).items():
        np.testing.assert_array_equal(getattr(again, name), value)
        assert getattr(again, name).dtype == value.dtype
