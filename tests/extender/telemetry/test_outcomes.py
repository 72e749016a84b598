from extender.telemetry import outcomes
from extender.telemetry.decision_records import BoundRecord, EndedRecord
from extender.telemetry.outcomes import Outcomes


class Bench:
    def __init__(self) -> None:
        self.now = 1000.0
        self.records: list[BoundRecord | EndedRecord] = []
        self.outcomes = Outcomes(lambda: self.now, self.records.append)


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
