import time
from pathlib import Path

import msgspec

from extender.telemetry.decision_log import DecisionLog
from extender.telemetry.decision_records import BoundRecord, DecisionRecord, EndedRecord, Record
from tests.training.workloads.test_recorded import MIDNIGHT, record
from training.cycle.decision_lines import Follower, snapshot, written


def write(path: Path, *records: Record) -> None:
    path.write_bytes(b"".join(msgspec.json.encode(each) + b"\n" for each in records))


def uids(records: list[Record]) -> list[str]:
    return [each.uid for each in records if isinstance(each, DecisionRecord)]


def test_a_snapshot_has_the_decisions_of_its_time_and_what_became_of_the_pods(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    at = [record(time=MIDNIGHT + second, uid=f"uid-{second}") for second in (0, 10, 20)]
    later = EndedRecord(MIDNIGHT + 500.0, "uid-10", "a", 490.0), EndedRecord(MIDNIGHT + 500.0, "uid-20", "a", 480.0)
    write(path, *at, *later)
    found = snapshot(path, MIDNIGHT + 5.0, MIDNIGHT + 15.0)
    assert uids(found) == ["uid-10"]
    assert [each.uid for each in found if isinstance(each, EndedRecord)] == ["uid-10"]


def test_a_snapshot_of_the_logs_end_counts_from_there(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    write(path, *(record(time=MIDNIGHT + second, uid=f"uid-{second}") for second in (0, 10, 20)))
    assert uids(snapshot(path, 0.0, time.time(), 15.0)) == ["uid-10", "uid-20"]


def test_a_log_of_which_the_newest_file_was_just_rotated_away_is_there(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    assert not written(path)
    write(path.with_name("decisions.jsonl.1"), record())
    assert written(path)


def test_a_snapshot_goes_over_rotated_files(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    write(path.with_name("decisions.jsonl.1"), record(uid="old"))
    write(path, record(uid="new", time=MIDNIGHT + 70.0))
    assert uids(snapshot(path, 0.0, MIDNIGHT * 2)) == ["old", "new"]


def test_a_follower_gives_every_record_once_over_rotations(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    log = DecisionLog(path, 60.0, lambda outcome, count: None, file_bytes=1024, files=50)
    follower, seen = Follower(path, 0.0), []
    for number in range(40):
        log.append(record(uid=f"uid-{number}", time=MIDNIGHT + number))
        if number % 3 == 0:
            log._write([log._waiting.popleft() for _ in range(len(log._waiting))])
        if number % 7 == 0:
            seen += uids(list(follower.read()))
    log._write([log._waiting.popleft() for _ in range(len(log._waiting))])
    seen += uids(list(follower.read()))
    assert len(list(tmp_path.iterdir())) > 3
    assert seen == [f"uid-{number}" for number in range(40)]


def test_a_new_file_with_the_inode_of_one_that_was_removed_is_read_from_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    write(path, *(record(uid=f"old-{number}") for number in range(3)))
    inode, follower = path.stat().st_ino, Follower(path, 0.0)
    assert len(uids(list(follower.read()))) == 3
    for new in (["a"], ["b", "c", "d", "e"]):  # shorter than what was read, and longer
        write(path, *(record(uid=uid) for uid in new))
        assert path.stat().st_ino == inode
        assert uids(list(follower.read())) == new
        assert list(follower.read()) == []


def test_a_follower_loses_nothing_where_few_rotated_files_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    log = DecisionLog(path, 60.0, lambda outcome, count: None, file_bytes=2048, files=2)
    follower, seen = Follower(path, 0.0), []
    for number in range(100):
        log.append(record(uid=f"uid-{number}", time=MIDNIGHT + number))
        log._write([log._waiting.popleft() for _ in range(len(log._waiting))])
        seen += uids(list(follower.read()))
    assert seen == [f"uid-{number}" for number in range(100)]


def test_a_line_that_is_not_whole_yet_is_given_when_it_is(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    line = msgspec.json.encode(record()) + b"\n"
    path.write_bytes(line + line[:20])
    follower = Follower(path, 0.0)
    assert len(list(follower.read())) == 1
    path.write_bytes(line + line)
    assert len(list(follower.read())) == 1
    assert list(follower.read()) == []


def test_what_is_older_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    write(
        path, record(uid="old"), record(uid="new", time=MIDNIGHT + 70.0), BoundRecord(MIDNIGHT + 71.0, "new", "a", 1.0)
    )
    assert [each.uid for each in Follower(path, MIDNIGHT + 65.0).read()] == ["new", "new"]


def test_a_folder_with_the_logs_of_replicas_is_followed_as_one_log(tmp_path: Path) -> None:
    assert not written(tmp_path)
    bound = BoundRecord(MIDNIGHT + 61.0, "uid-p", "a", 1.0)
    write(tmp_path / "stowage-1.jsonl", bound)
    write(tmp_path / "stowage-2.jsonl", record(time=MIDNIGHT + 60.0))
    assert written(tmp_path)
    follower = Follower(tmp_path, 0.0)
    assert [type(each) for each in follower.read()] == [DecisionRecord, BoundRecord]
    write(tmp_path / "stowage-3.jsonl", record(uid="uid-q", time=MIDNIGHT + 70.0))  # of a pod that has come since
    assert uids(list(follower.read())) == ["uid-q"]
    assert uids(snapshot(tmp_path, 0.0, MIDNIGHT * 2)) == ["uid-p", "uid-q"]
