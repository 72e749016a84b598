"""An extender that is told how its policy did, and steps down from it."""

import hashlib
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import schemathesis

from extender.server.outcome import Standing
from tests.extender.cluster.test_watcher import eventually
from tests.extender.objects import cluster_list, extender_args, node, pod
from tests.extender.server.process import ExtenderProcess, serve
from tests.extender.server.test_fuzz import CONFORMANCE
from tests.extender.verdicts import put_verdict, verdict_of, worse_for
from tests.policy_files import FEATURES, policy_file

NODES = [node("small", cpu="4"), node("large", cpu="64")]
TO_THE_SMALL_ONE = policy_file(-np.eye(FEATURES)[1])  # the fallback, least-allocated, prefers the large one
TO_THE_LARGE_ONE = policy_file(np.eye(FEATURES)[1])
AFTER = 60.0


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


SMALL = digest(TO_THE_SMALL_ONE)


class Room(NamedTuple):
    """The files of an extender."""

    folder: Path
    policy: Path
    verdict: Path


@pytest.fixture
def room(tmp_path: Path) -> Room:
    made = Room(tmp_path, tmp_path / "policy.onnx", tmp_path / "verdict.json")
    made.policy.write_bytes(TO_THE_SMALL_ONE)
    return made


def started(room: Room, *arguments: str) -> AbstractContextManager[ExtenderProcess]:
    flags = ("--policy-poll", "0.05", "--outcome-file", str(room.verdict), "--step-down-after", str(AFTER))
    return serve(cluster_list(*NODES), room.folder, *flags, *arguments, policy=str(room.policy))


def first(extender: ExtenderProcess) -> str:
    reply = extender.ask("POST", "/prioritize", extender_args(pod("p", {"cpu": "2"}), ["small", "large"]))
    host: str = reply.json()[0]["Host"]
    return host


def stands(extender: ExtenderProcess, standing: Standing) -> None:
    eventually(lambda: extender.count("stowage_outcome_standing", standing=standing) == 1)
    assert extender.count("stowage_outcome_standing") == 1
    assert extender.ask("GET", "/policy").json()["outcome"]["standing"] == standing


def test_what_says_nothing_of_the_policy_in_service_changes_nothing_and_is_visible(room: Room) -> None:
    old = {"written": 1.0, "valid_until": 2.0}
    with started(room) as extender:
        stands(extender, Standing.ABSENT)
        for standing, verdict in (
            (Standing.OTHER_POLICY, worse_for(2 * AFTER, "0" * 64)),
            (Standing.OTHER_FALLBACK, worse_for(2 * AFTER, SMALL, fallback="best-fit")),
            (Standing.EXPIRED, worse_for(2 * AFTER, SMALL, **old)),
            (Standing.WORSE, worse_for(AFTER / 2, SMALL)),
            (Standing.FINE, verdict_of(SMALL)),
        ):
            put_verdict(room.verdict, verdict)
            stands(extender, standing)
            assert first(extender) == "small"
            assert extender.count("stowage_stepped_down") == 0
        assert extender.count("stowage_drift_index", feature="duration") == 0.5
        assert extender.count("stowage_outcome_wait_seconds", of="observed") == 31.0
        assert extender.count("stowage_outcome_regret_seconds", bound="low") == -7.0

        room.verdict.write_bytes(b'{"version": 1, "wri')
        stands(extender, Standing.UNREADABLE)
        assert "truncated" in extender.ask("GET", "/policy").json()["outcome"]["why"]
        assert extender.count("stowage_drift_index", feature="duration") == 0.0
        assert first(extender) == "small"
        assert extender.ask("POST", "/resume", b"").status == 409


def test_it_steps_down_says_so_stays_down_over_restarts_and_is_up_again_with_another_policy(room: Room) -> None:
    with started(room) as extender:
        assert first(extender) == "small"
        put_verdict(room.verdict, worse_for(AFTER + 1, SMALL))
        eventually(lambda: extender.count("stowage_stepped_down") == 1)

        assert first(extender) == "large"
        assert extender.count("stowage_policy_swaps_total", result="stepped_down") == 1
        assert extender.count("stowage_outcome_worse_seconds") > AFTER
        described = schemathesis.openapi.from_url(f"http://{extender.http_address}/openapi.json")
        shown = described["/policy"]["GET"].Case().call_and_validate(checks=CONFORMANCE).json()
        assert shown["digest"] == SMALL
        assert shown["stepped_down"]["answering"] == "least-allocated"
        assert "waits are longer" in shown["stepped_down"]["reason"]
        explained = extender.ask("GET", "/explain?pod=default/p").json()
        assert (explained["rung"], explained["policy"]) == ("heuristic", "heuristic:least-allocated")
        put_verdict(room.verdict, verdict_of(SMALL))  # of itself it does not go up again
        stands(extender, Standing.FINE)
        assert first(extender) == "large"
        put_verdict(room.verdict, worse_for(AFTER + 1, SMALL, valid_until=2.0))
        stands(extender, Standing.EXPIRED)
        assert first(extender) == "large"
        status, errors = extender.terminate()
    assert (status, "is stepped down from, least-allocated answers" in errors) == (0, True)

    with started(room) as extender:  # nobody has said since that the policy does better
        assert first(extender) == "large"
        assert extender.count("stowage_stepped_down") == 1
        room.policy.write_bytes(b"no policy")
        eventually(lambda: extender.count("stowage_policy_swaps_total", result="refused") == 1)
        assert extender.count("stowage_stepped_down") == 1
        (room.folder / "next").write_bytes(TO_THE_LARGE_ONE)
        (room.folder / "next").replace(room.policy)
        eventually(lambda: extender.count("stowage_policy_swaps_total", result="served") == 1)

        assert extender.count("stowage_stepped_down") == 0
        assert extender.ask("GET", "/policy").json()["stepped_down"] is None
        assert extender.count("stowage_decisions_total", rung="policy") == 0
        assert first(extender) == "large"
        assert extender.count("stowage_decisions_total", rung="policy") == 1
        stands(extender, Standing.OTHER_POLICY)


@pytest.mark.parametrize("left", [None, b'{"version": 1, "wri'], ids=repr)
def test_what_is_stepped_down_from_stays_so_when_it_is_killed_whatever_became_of_the_verdict(
    left: bytes | None, room: Room
) -> None:
    put_verdict(room.verdict, worse_for(AFTER + 1, SMALL))
    with started(room) as extender:
        down = extender.ask("GET", "/policy").json()["stepped_down"]
        extender.process.kill()
    if left is None:
        room.verdict.unlink()
    else:
        room.verdict.write_bytes(left)
    with started(room) as extender:
        assert first(extender) == "large"
        assert extender.ask("GET", "/policy").json()["stepped_down"] == down  # since when and why, too
        assert extender.ask("POST", "/resume", b"").status == 200
        extender.process.kill()
    with started(room) as extender:
        assert first(extender) == "small"


def test_another_policy_is_not_held_down_by_what_was_kept_of_the_one_before(room: Room) -> None:
    put_verdict(room.verdict, worse_for(AFTER + 1, SMALL))
    kept = room.folder / "verdict.json.stepped-down"
    with started(room):
        assert SMALL.encode() in kept.read_bytes()
    room.verdict.unlink()
    room.policy.write_bytes(TO_THE_LARGE_ONE)
    with started(room) as extender:
        assert extender.count("stowage_stepped_down") == 0
        assert not kept.exists()
        put_verdict(room.verdict, worse_for(AFTER + 1, digest(TO_THE_LARGE_ONE)))
        eventually(kept.exists)
        (room.folder / "next").write_bytes(TO_THE_SMALL_ONE)
        (room.folder / "next").replace(room.policy)
        eventually(lambda: not kept.exists())
        assert first(extender) == "small"


def test_a_rollback_leaves_what_a_restart_would_serve_stepped_down_from(room: Room) -> None:
    room.policy.write_bytes(TO_THE_LARGE_ONE)
    with started(room) as extender:
        (room.folder / "next").write_bytes(TO_THE_SMALL_ONE)
        (room.folder / "next").replace(room.policy)
        eventually(lambda: extender.count("stowage_policy_swaps_total", result="served") == 1)
        put_verdict(room.verdict, worse_for(AFTER + 1, SMALL))
        eventually((room.folder / "verdict.json.stepped-down").exists)
        extender.ask("POST", "/rollback", b"")
        room.verdict.unlink()
        stands(extender, Standing.ABSENT)
    with started(room) as extender:
        assert extender.count("stowage_stepped_down") == 1


def test_a_folder_that_cannot_be_written_is_said_once_and_stops_nothing(room: Room) -> None:
    (room.folder / ".verdict.json.stepped-down.partial").mkdir()
    put_verdict(room.verdict, worse_for(AFTER + 1, SMALL))
    with started(room) as extender:
        assert first(extender) == "large"
        put_verdict(room.verdict, verdict_of(SMALL))
        stands(extender, Standing.FINE)
        put_verdict(room.verdict, worse_for(AFTER + 1, SMALL))
        stands(extender, Standing.WORSE)
        _, errors = extender.terminate()
    assert errors.count("verdict.json.stepped-down cannot be written") == 1


def test_never_stepping_down_is_a_way_up_too(room: Room) -> None:
    put_verdict(room.verdict, worse_for(AFTER + 1, SMALL))
    with started(room) as extender:
        assert first(extender) == "large"
    with started(room, "--step-down-after", "0") as extender:
        assert first(extender) == "small"
    room.verdict.unlink()
    with started(room) as extender:
        assert first(extender) == "small"


def test_a_candidate_keeps_its_share_of_the_pods_when_the_policy_is_stepped_down_from(room: Room) -> None:
    put_verdict(room.verdict, worse_for(AFTER + 1, SMALL))
    candidate = room.folder / "candidate.json"
    (room.folder / "candidate.onnx").write_bytes(policy_file(-2 * np.eye(FEATURES)[1]))
    candidate.write_text('{"policy": "candidate.onnx", "percent": 100}')
    with started(room, "--candidate", str(candidate)) as extender:
        eventually(lambda: extender.ask("GET", "/policy").json()["candidate"] is not None)
        eventually(lambda: first(extender) == "small")
        assert extender.count("stowage_stepped_down") == 1
        candidate.unlink()
        eventually(lambda: first(extender) == "large")


def test_one_verdict_is_not_enough_however_long_it_stands(room: Room) -> None:
    written = time.time() - 2 * AFTER
    alone = verdict_of(SMALL, worse=True, worse_since=written, written=written, valid_until=written + 1e6)
    put_verdict(room.verdict, alone)
    with started(room) as extender:
        stands(extender, Standing.WORSE)
        assert extender.count("stowage_outcome_worse_seconds") == 0
        assert first(extender) == "small"


def test_an_operator_brings_it_back_and_verdicts_count_from_then_on(room: Room) -> None:
    put_verdict(room.verdict, worse_for(AFTER + 1, SMALL))
    with started(room) as extender:
        assert first(extender) == "large"

        assert extender.ask("POST", "/resume", b"").json()["stepped_down"] is None
        assert first(extender) == "small"
        assert extender.count("stowage_policy_swaps_total", result="resumed") == 1
        put_verdict(room.verdict, worse_for(2 * AFTER, SMALL, periods=8))
        eventually(lambda: extender.ask("GET", "/policy").json()["outcome"]["verdict"]["periods"] == 8)
        assert extender.count("stowage_outcome_worse_seconds") < AFTER
        assert first(extender) == "small"


def test_a_verdict_is_only_shown_where_stepping_down_is_not_asked_for(room: Room) -> None:
    put_verdict(room.verdict, worse_for(2 * AFTER, SMALL))
    with started(room, "--step-down-after", "0") as extender:
        stands(extender, Standing.WORSE)
        assert first(extender) == "small"


def test_without_a_verdict_file_there_is_nothing_to_resume(tmp_path: Path) -> None:
    with serve(cluster_list(*NODES), tmp_path) as extender:
        assert extender.ask("POST", "/resume", b"").status == 404
        assert extender.ask("GET", "/policy").json()["outcome"] is None
