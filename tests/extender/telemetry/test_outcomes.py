from extender.telemetry import outcomes
from extender.telemetry.decision_records import BoundRecord, EndedRecord, UnaskedRecord
from extender.telemetry.outcomes import Outcomes


class Bench:
    def __init__(self) -> None:
        self.now = 1000.0
        self.records: list[UnaskedRecord | BoundRecord | EndedRecord] = []
        self.outcomes = Outcomes(lambda: self.now, self.records.append)


def unasked(now: float) -> UnaskedRecord:
    return UnaskedRecord(now, "default", "p", "u", "cpu", [500, 0, 0], 0, 0, 0, 0.0)


def test_a_pod_that_was_decided_on_is_followed_to_its_end() -> None:
    bench = Bench()
    bench.outcomes.decided("u")
    bench.outcomes.pod_on("u", "a", created=990.0, began=0.0)
    bench.now = 1002.0
    bench.outcomes.pod_on("u", "a", created=990.0, began=1001.0)
    bench.now = 1060.5
    bench.outcomes.pod_left("u")

    assert bench.records == [BoundRecord(1000.0, "u", "a", 10.0), EndedRecord(1060.5, "u", "a", 59.5)]


def test_others_are_not() -> None:
    bench = Bench()
    bench.outcomes.pod_on("u", "a", 990.0, 0.0)
    bench.outcomes.pod_left("u")

    assert bench.records == []


def test_a_pod_that_never_ran_has_no_duration() -> None:
    bench = Bench()
    bench.outcomes.decided("u")
    bench.outcomes.pod_left("u")

    assert bench.records == [EndedRecord(1000.0, "u", "", -1.0)]


def test_what_is_not_known_is_not_made_up() -> None:
    bench = Bench()
    bench.outcomes.decided("u")
    bench.outcomes.pod_on("u", "a", created=0.0, began=0.0)
    bench.now = 1003.0
    bench.outcomes.pod_left("u")

    assert bench.records == [BoundRecord(1000.0, "u", "a", -1.0), EndedRecord(1003.0, "u", "a", 3.0)]


def test_no_more_pods_are_remembered_than_there_is_room_for(monkeypatch) -> None:
    monkeypatch.setattr(outcomes, "REMEMBERED_AT_MOST", 2)
    bench = Bench()
    for uid in "abc":
        bench.outcomes.decided(uid)
    for uid in "abc":
        bench.outcomes.pod_left(uid)

    assert [record.uid for record in bench.records] == ["b", "c"]


def test_a_pod_that_nobody_asked_about_is_followed_from_its_binding_on() -> None:
    bench = Bench()
    bench.outcomes.decided("another")
    bench.now = 1010.0
    bench.outcomes.pod_on("u", "a", created=1004.0, began=0.0, unasked=unasked)
    bench.outcomes.pod_on("u", "a", created=1004.0, began=1010.0, unasked=unasked)
    bench.now = 1030.0
    bench.outcomes.pod_left("u")

    assert bench.records == [unasked(1010.0), BoundRecord(1010.0, "u", "a", 6.0), EndedRecord(1030.0, "u", "a", 20.0)]


def test_a_pod_that_was_there_before_or_that_another_replica_was_asked_about_is_not() -> None:
    bench = Bench()
    bench.outcomes.pod_on("u", "a", created=1000.0, began=0.0, unasked=unasked)  # nobody asks here
    bench.outcomes.decided("another")
    bench.outcomes.pod_on("u", "a", created=999.0, began=0.0, unasked=unasked)
    bench.now += outcomes.ASKED_WITHIN + 1.0
    bench.outcomes.pod_on("u", "a", created=1000.0, began=0.0, unasked=unasked)

    assert bench.records == []
