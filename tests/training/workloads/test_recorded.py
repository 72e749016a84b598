import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from extender.telemetry.decision_log import DecisionLog
from extender.telemetry.decision_records import BoundRecord, DecisionRecord, EndedRecord, Record, UnaskedRecord
from tests.training.workloads.test_kubectl import node
from training.monitor.observed import read_observed
from training.workloads.base import Population
from training.workloads.recorded import LOG_FILE, main, read_population
from training.workloads.tables import TraceError

GIB = 1024**3
MIDNIGHT = 1_795_219_200.0  # 2026-11-21
NODES = "name,cpu,memory,gpus,gpu_model,price\na,8,32Gi,2,T4,2.5\n"


def record(**changes: Any) -> DecisionRecord:
    plain = {
        "time": MIDNIGHT + 60.0,
        "namespace": "default",
        "pod": "p",
        "uid": "uid-p",
        "pod_class": "share",
        "features": "00",
        "propensity": 1.0,
        "request": [500, GIB, 250],
        "gpu_count": 1,
        "gpu_milli": 250,
        "priority": 1000,
        "expected_seconds": 0.0,
        "candidates": 2,
        "chosen": "a",
        "rung": "policy",
        "scores": [("a", 1.0)],
        "policy": "best-fit",
        "latency": 0.001,
    }
    return DecisionRecord(**plain | changes)


def line(**changes: Any) -> str:
    return msgspec.json.encode(record(**changes)).decode()


def read(folder: Path, *lines: str, nodes: str | None = NODES) -> Population:
    (folder / LOG_FILE).write_text("\n".join(lines) + "\n")
    if nodes is not None:
        (folder / "nodes.csv").write_text(nodes)
    return read_population(folder, assumed_seconds=600.0)


def test_what_the_extender_writes_is_read(tmp_path):
    log = DecisionLog(tmp_path / LOG_FILE, 0.01, lambda outcome, count: None)
    log.start()
    log.append(record())
    log.stop()
    (tmp_path / "nodes.csv").write_text(NODES)
    population = read_population(tmp_path, assumed_seconds=600.0)
    assert population.shapes.request.tolist() == [[500, GIB, 250]]
    assert population.priority.tolist() == [1000]
    assert population.arrival.tolist() == [60.0]


def test_a_duration_is_what_the_pod_announced_or_what_is_assumed(tmp_path):
    population = read(tmp_path, line(), line(uid="uid-q", expected_seconds=90.0))
    assert population.duration.tolist() == [600.0, 90.0]
    assert population.expected.tolist() == [0.0, 90.0]
    assert "0 of which have ended and 1 are assumed to run 600 s" in population.name


def test_what_a_candidate_in_shadow_thought_of_a_pod_is_no_question(tmp_path):
    population = read(tmp_path, line(time=MIDNIGHT + 50.0, rung="shadow", tried=True), line(), line(uid="uid-q"))
    assert population.arrival.tolist() == [60.0, 60.0]


def test_a_pod_asked_about_again_arrives_with_the_first_question(tmp_path):
    population = read(tmp_path, line(), line(time=MIDNIGHT + 70.0), line(time=MIDNIGHT + 80.0, uid="uid-q"))
    assert population.arrival.tolist() == [60.0, 80.0]


def test_the_nodes_may_come_from_kubectl(tmp_path):
    (tmp_path / "nodes.json").write_text(json.dumps({"kind": "List", "items": [node(), node("b")]}))
    assert read(tmp_path, line(), nodes=None).devices.tolist() == [2, 2]


def test_the_nodes_may_come_from_a_csv_file(tmp_path):
    population = read(tmp_path, line())
    assert population.price.tolist() == [2.5]
    assert population.models == ("", "T4")


def test_without_nodes_there_is_no_population(tmp_path):
    with pytest.raises(TraceError, match=r"does not tell the nodes: expected nodes\.json .* or nodes\.csv beside it"):
        read(tmp_path, line(), nodes=None)


def test_further_resources_have_no_names_and_are_left_out(tmp_path):
    assert read(tmp_path, line(request=[500, GIB, 250, 7])).resources == ("cpu", "memory", "gpu")


def test_a_torn_line_is_skipped_and_counted(tmp_path):
    population = read(tmp_path, line()[:40], line())
    assert len(population.shape) == 1
    assert "1 torn lines skipped" in population.name


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ('{"kind": "decision", "time": 1}', r"decisions\.jsonl:2: Object missing required field `namespace`"),
        (line(request=[1, 2]), r"decisions\.jsonl:2: request: \[1, 2\] where an amount of each of cpu, memory, gpu"),
        (line(request=[-1, 2, 3]), r"decisions\.jsonl:2: request: \[-1, 2, 3\] where amounts of 0 or more"),
        (line(time=-5.0), r"decisions\.jsonl:2: time: -5\.0 where Unix seconds"),
        (line(expected_seconds=-5.0), r"decisions\.jsonl:2: expected_seconds: -5\.0 where 0 or more"),
        (line(gpu_milli=2000), r"decisions\.jsonl:2: gpu_count and gpu_milli: 1 and 2000 where"),
        (line(priority=2**40), r"decisions\.jsonl:2: priority: 1099511627776 where a 32-bit number"),
    ],
)
def test_a_line_that_is_no_decision_is_named(tmp_path, second, message):
    with pytest.raises(TraceError, match=message):
        read(tmp_path, line(), second)


def test_an_empty_log_is_refused(tmp_path):
    with pytest.raises(TraceError, match=r"decisions\.jsonl: there is no decision in it"):
        read(tmp_path, "")


def test_a_missing_log_is_named(tmp_path):
    with pytest.raises(TraceError, match=r"decisions\.jsonl: no such file"):
        read_population(tmp_path, assumed_seconds=600.0)


def test_what_a_pod_really_took_outweighs_what_it_announced(tmp_path):
    ended = [EndedRecord(MIDNIGHT + 90.0, "uid-p", "a", 25.0), EndedRecord(MIDNIGHT + 95.0, "uid-r", "", -1.0)]
    bound = BoundRecord(MIDNIGHT + 65.0, "uid-p", "a", 5.0)
    others = [msgspec.json.encode(each).decode() for each in (bound, *ended)]
    announced = {"expected_seconds": 900.0}
    population = read(
        tmp_path, line(**announced), line(uid="uid-q", **announced), line(uid="uid-r", time=MIDNIGHT + 70.0), *others
    )
    assert population.duration.tolist() == [25.0, 900.0, 600.0]


def test_files_that_were_rotated_away_come_first(tmp_path):
    (tmp_path / f"{LOG_FILE}.2").write_text(line(uid="uid-1", time=MIDNIGHT + 1.0) + "\n")
    (tmp_path / f"{LOG_FILE}.1").write_text(line(uid="uid-2", time=MIDNIGHT + 2.0) + "\n")
    population = read(tmp_path, line(uid="uid-3", time=MIDNIGHT + 3.0), line(uid="uid-1", time=MIDNIGHT + 4.0))
    assert population.arrival.tolist() == [1.0, 2.0, 3.0]


def test_the_command_says_what_is_in_a_log(tmp_path, capsys):
    read(tmp_path, line(), line(uid="uid-q", gpu_count=2, gpu_milli=1000, pod_class="gpu-2"), '{"torn')
    assert main([str(tmp_path)]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["pods"], shown["nodes"]) == (2, 1)
    assert shown["records"] == {"decision": 2}
    assert shown["classes"] == {"share": 1, "gpu-2": 1}
    assert "1 torn lines skipped" in shown["workload"]


def test_the_command_says_why_a_log_cannot_be_read(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert "no such file" in capsys.readouterr().err


@pytest.mark.parametrize("given", ["-5", "0", "nan", "inf", "-inf", "long"])
def test_a_duration_that_no_pod_can_have_is_refused(tmp_path, capsys, given):
    read(tmp_path, line())
    with pytest.raises(SystemExit) as ended:
        main([str(tmp_path), f"--assumed-seconds={given}"])
    assert ended.value.code == 2
    assert f"--assumed-seconds: '{given}': expected a number above 0" in capsys.readouterr().err


def test_a_pod_that_was_asked_about_at_once_arrives_then_whatever_second_it_was_created_in(tmp_path):
    at_once = BoundRecord(MIDNIGHT + 60.95, "uid-p", "a", 0.95)  # asked about at 60.9, created in the second 60
    asked = line(time=MIDNIGHT + 60.9)
    population = read(tmp_path, asked, msgspec.json.encode(at_once).decode())
    assert population.arrival.tolist() == pytest.approx([60.9])


def test_a_pod_that_waited_for_room_before_anybody_was_asked_arrives_when_it_was_created(tmp_path):
    waited = BoundRecord(MIDNIGHT + 101.0, "uid-p", "a", 61.0)  # asked about at 60, created in the second 40
    at_once = BoundRecord(MIDNIGHT + 71.0, "uid-q", "a", 1.0)
    others = [msgspec.json.encode(each).decode() for each in (waited, at_once)]
    population = read(tmp_path, line(), line(uid="uid-q", time=MIDNIGHT + 70.2), *others)
    assert population.arrival.tolist() == [pytest.approx(40.5), pytest.approx(70.2)]


def test_a_pod_that_nobody_asked_about_came_too(tmp_path):
    when = MIDNIGHT + 90.0
    unasked = UnaskedRecord(when, "default", "q", "uid-q", "gpu-1", [2000, GIB, 1000], 1, 1000, 5, 0.0)
    records = [unasked, BoundRecord(when, "uid-q", "a", 20.0), EndedRecord(when + 40.0, "uid-q", "a", 40.0)]
    population = read(tmp_path, line(), *(msgspec.json.encode(each).decode() for each in records))

    assert len(population.shape) == 2
    assert population.arrival.tolist() == [60.0, 70.5]
    assert population.duration.tolist() == [600.0, 40.0]
    assert population.priority.tolist() == [1000, 5]


def write(path: Path, *records: Record) -> None:
    path.write_bytes(b"".join(msgspec.json.encode(each) + b"\n" for each in records))


def replicas(folder: Path) -> None:
    """The logs of two replicas, one of which takes over, and of one that the rollout before has removed."""
    asked, unasked = record(uid="uid-1"), UnaskedRecord(MIDNIGHT + 62.0, *([""] * 4), [500, GIB, 250], 1, 250, 0, 0.0)
    unasked.uid = "uid-1"
    bound = [BoundRecord(MIDNIGHT + 61.9 + shift, "uid-1", "a", -1.0) for shift in (0.0, 0.1)]
    ended = [EndedRecord(MIDNIGHT + 100.0 + shift, "uid-1", "a", 38.0) for shift in (0.0, 0.1)]
    write(folder / "stowage-1.jsonl", asked, bound[0], ended[0])
    write(folder / "stowage-2.jsonl", unasked, bound[1], ended[1], record(uid="uid-2", time=MIDNIGHT + 200.0))
    write(folder / "stowage-2.jsonl.1", BoundRecord(MIDNIGHT + 30.0, "uid-0", "a", -1.0))
    write(folder / "stowage-0.jsonl", record(uid="uid-0", time=MIDNIGHT + 10.0))
    (folder / "nodes.csv").write_text(NODES)


def test_the_logs_of_replicas_are_one_and_a_pod_in_several_of_them_is_one_pod(tmp_path, capsys):
    replicas(tmp_path)
    population = read_population(tmp_path, assumed_seconds=600.0)
    assert population.arrival.tolist() == [10.0, 60.0, 200.0]
    assert population.duration.tolist() == [600.0, pytest.approx(38.1), 600.0]
    assert main([str(tmp_path)]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["records"] == {"decision": 3, "bound": 2, "ended": 1}
    assert shown["workload"].startswith(f"{tmp_path}, ")


def test_a_pod_decided_in_one_log_and_bound_in_another_is_observed_as_one(tmp_path):
    replicas(tmp_path)
    observed = read_observed(tmp_path, "best-fit")
    assert observed.started.tolist()[:2] == [30.0, pytest.approx(61.9)]
    assert observed.answered.tolist() == [True] * 3
