import json
import os
import time
from collections import Counter
from pathlib import Path

import pytest

from extender.telemetry import decision_log
from extender.telemetry.decision_log import DecisionLog
from extender.telemetry.decision_records import DecisionRecord


def record(pod: str) -> DecisionRecord:
    return DecisionRecord(
        time=1.0,
        namespace="default",
        pod=pod,
        uid=f"uid-{pod}",
        pod_class="cpu",
        request=[1, 2, 0],
        gpu_count=0,
        gpu_milli=0,
        priority=0,
        expected_seconds=0.0,
        candidates=2,
        features="00",
        chosen="n",
        propensity=1.0,
        rung="policy",
        scores=[("n", 0.5)],
        policy="digest",
        latency=0.001,
    )


def log_to(path: Path, flush_seconds: float = 3600.0) -> tuple[DecisionLog, Counter[str]]:
    counts: Counter[str] = Counter()

    def count(result: str, number: int) -> None:
        counts[result] += number

    return DecisionLog(path, flush_seconds, count), counts


def pods_in(path: Path) -> list[str]:
    pods = []
    for line in path.read_bytes().splitlines():
        try:
            pods.append(json.loads(line)["pod"])
        except json.JSONDecodeError:
            pods.append("torn")
    return pods


def test_what_was_appended_is_written_when_it_stops(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "decisions.jsonl"
    log, counts = log_to(path)
    log.start()
    for pod in "abc":
        log.append(record(pod))
    log.stop()

    assert pods_in(path) == ["a", "b", "c"]
    assert counts == {"written": 3}


def test_a_record_is_on_the_disk_within_the_flush_interval(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    log, _ = log_to(path, flush_seconds=0.02)
    log.start()
    log.append(record("a"))
    deadline = time.monotonic() + 60.0
    while not path.exists() or not path.read_bytes():
        assert time.monotonic() < deadline
        time.sleep(0.005)
    log.stop()


def test_it_appends_to_what_is_there_and_ends_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    path.write_bytes(json.dumps({"pod": "before"}).encode() + b'\n{"pod": "to')
    log, _ = log_to(path)
    log.start()
    log.append(record("after"))
    log.stop()

    assert pods_in(path) == ["before", "torn", "after"]


def test_a_log_that_was_rotated_away_is_begun_again(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    log, counts = log_to(path, flush_seconds=0.01)
    log.start()
    log.append(record("a"))
    while not counts["written"]:
        time.sleep(0.005)
    os.rename(path, tmp_path / "decisions.jsonl.1")
    log.append(record("b"))
    log.stop()

    assert pods_in(path) == ["b"]


def test_a_full_disk_costs_records_which_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    log, counts = log_to(Path("/dev/full"))
    log.start()
    for pod in "abc":
        log.append(record(pod))
    log.stop()

    assert counts == {"lost": 3}
    assert "No space left on device" in caplog.text


def test_what_the_disk_cannot_take_in_time_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decision_log, "RECORDS_AT_MOST", 2)
    log, counts = log_to(tmp_path / "decisions.jsonl")
    for pod in "abc":
        log.append(record(pod))

    assert counts == {"lost": 1}


def test_a_file_that_has_its_size_is_renamed_and_the_oldest_deleted(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    log = DecisionLog(path, 3600.0, lambda result, number: None, file_bytes=1, files=2)
    for pod in "abcd":
        log._write([record(pod)])

    assert not path.exists()
    assert {file.name: pods_in(file) for file in tmp_path.iterdir()} == {
        "decisions.jsonl.1": ["d"],
        "decisions.jsonl.2": ["c"],
    }


def test_without_older_files_the_log_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    log = DecisionLog(path, 3600.0, lambda result, number: None, file_bytes=1, files=0)
    log._write([record("a")])

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fsync", [False, True])
def test_each_flush_waits_for_the_disk_if_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fsync: bool) -> None:
    synced: list[int] = []
    monkeypatch.setattr(decision_log.os, "fsync", synced.append)
    DecisionLog(tmp_path / "d", 3600.0, lambda result, number: None, fsync=fsync)._write([record("a")])

    assert bool(synced) is fsync
