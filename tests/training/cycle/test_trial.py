"""Shadow, canary, activation and rollback beside a real extender that is asked as kube-scheduler asks."""

import itertools
import json
import math
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from extender.policies.bundled import policy_path
from extender.telemetry.decision_records import BoundRecord
from extender.whole_file import put_whole
from tests.extender.objects import cluster_list, extender_args, node, pod
from tests.extender.server.process import ExtenderProcess, exchange, serve
from tests.training.workloads.test_recorded import MIDNIGHT, record
from training.cycle import activation, execution, steps, trial
from training.cycle.contents import ACTIVATE, CANARY, CANDIDATE, INCUMBENT, SHADOW
from training.cycle.records import Book, CycleError, Found, GivenError, TakenBackError, Verdict, digest, write_json
from training.cycle.rollback import take_back
from training.cycle.serving import Extender, try_out
from training.cycle.settings import CanarySettings, Settings, ShadowSettings
from training.cycle.trial import Course, compare_waits, longer_waits

QUIET = Console(quiet=True)
NODES = [node(f"n{number}", gpus="4") for number in range(4)]
INCUMBENT_POLICY, CANDIDATE_POLICY = (policy_path(f"bundled:{name}").read_bytes() for name in ("latency", "packing"))


def silent(text: str) -> None:
    """Say nothing."""


def come_to(step: str, book: Book, settings: Settings) -> None:
    """Let the steps before one be done."""
    for before in steps.STEPS[: steps.NAMES.index(step)]:
        book.close(before.name, steps.given_to(before, book, settings), Found(Verdict.DONE, "done", {"speed": 1.0}))


@contextmanager
def asked(extender: ExtenderProcess) -> Iterator[None]:
    """Pods come, one after the other."""
    over = threading.Event()

    def ask() -> None:
        connection, number = extender.connect(), 0
        while not over.is_set():
            body = extender_args(pod(f"p{number}", {"cpu": "100m"}), [each["metadata"]["name"] for each in NODES])
            exchange(connection, "POST", "/prioritize", body)
            number += 1
            time.sleep(0.01)
        connection.close()

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield
    finally:
        over.set()
        asking.join()


@pytest.fixture
def trying(tmp_path: Path) -> Iterator[tuple[Book, Settings]]:
    """A cycle that comes to its candidate, and the extender that serves its incumbent."""
    book = Book(tmp_path / "cycle")
    put_whole(tmp_path / "policy.onnx", INCUMBENT_POLICY)
    put_whole(book.folder / INCUMBENT, INCUMBENT_POLICY)
    put_whole(book.folder / CANDIDATE, CANDIDATE_POLICY)
    log, wanted = tmp_path / "decisions.jsonl", tmp_path / "candidate.json"
    flags = ("--decision-log", str(log), "--decision-log-flush", "0.05", "--policy-poll", "0.1")
    flags += ("--deadline", "10")  # the incumbent has its say also where the machine is busy
    policy = str(tmp_path / "policy.onnx")
    with serve(cluster_list(*NODES), tmp_path, *flags, "--candidate", str(wanted), policy=policy) as extender:
        settings = Settings(
            decision_log=str(log),
            policy_file=policy,
            candidate_file=str(wanted),
            extender=f"http://{extender.http_address}",
            patience_seconds=300.0,
            shadow=ShadowSettings(pods=20, limit_seconds=300.0),
            canary=CanarySettings(percent=50.0, pods=20, limit_seconds=300.0, settle_seconds=0.0),
        )
        with asked(extender):
            deadline = time.monotonic() + 120.0
            while not log.exists():
                assert time.monotonic() < deadline
                time.sleep(0.05)
            yield book, settings


def test_a_candidate_goes_from_shadow_over_canary_into_service_and_back(trying: tuple[Book, Settings]) -> None:
    book, settings = trying
    target = Path(settings.policy_file)
    watched = trial.shadow(book, settings, QUIET, silent)
    assert watched.verdict is Verdict.DONE, watched.said
    assert watched.figures["shadowed"] >= 20
    assert 0.0 <= watched.figures["agreement"] <= 1.0

    answered = trial.canary(book, settings, QUIET, silent)
    assert answered.verdict is Verdict.DONE, answered.said
    assert answered.figures["answered"] >= 20
    assert answered.figures["others"] > 0

    active = activation.activate(book, settings, silent)
    assert active.verdict is Verdict.DONE, active.said
    assert target.read_bytes() == CANDIDATE_POLICY
    assert not Path(settings.candidate_file).exists()
    assert list(target.parent.glob("candidate-*.onnx")) == []

    book.close(ACTIVATE, {}, active)
    back = take_back(book, settings, silent, force=False)
    assert target.read_bytes() == INCUMBENT_POLICY
    assert (back.said, back.made) == ("the policy before is back", {"policy": digest(target)})
    assert back.figures == {"file": str(target), "replaced": digest(book.folder / CANDIDATE)}
    assert take_back(book, settings, silent, force=False) == back  # once is enough


@pytest.mark.parametrize("step", [SHADOW, CANARY])
def test_a_rollback_in_the_middle_of_a_trial_withdraws_the_candidate_and_leaves_no_verdict_on_it(
    step: str, trying: tuple[Book, Settings]
) -> None:
    book, settings = trying
    never = replace(settings, shadow=ShadowSettings(pods=10_000), canary=CanarySettings(percent=50.0, pods=10_000))
    come_to(step, book, never)
    with ThreadPoolExecutor() as pool:
        running = pool.submit(execution.do, step, book, never, QUIET, silent)
        while "since" not in (book.begun(step) or {}):
            assert not running.done(), running.result()
            time.sleep(0.05)
        assert take_back(book, settings, silent, force=False).said == "the candidate is withdrawn"
        assert Extender(settings).policy()["candidate"] is None  # it was waited for
        with pytest.raises(TakenBackError, match=f"{step} has ended without a verdict: .* was rolled back"):
            running.result(300)
    assert book.read(step) is None
    assert {row["step"]: row["state"] for row in steps.rows(book, never)}[step] == "rolled back"
    assert Path(settings.policy_file).read_bytes() == INCUMBENT_POLICY


def test_a_rollback_while_the_extender_is_waited_for_ends_the_waiting(trying: tuple[Book, Settings]) -> None:
    book, settings = trying
    elsewhere = Path(settings.policy_file).with_name("elsewhere.onnx")  # the extender does not look at it
    put_whole(elsewhere, INCUMBENT_POLICY)
    away = replace(settings, policy_file=str(elsewhere), candidate_file=f"{settings.candidate_file}.not")
    for step, begun in ((SHADOW, "candidate"), (ACTIVATE, ACTIVATE)):
        come_to(step, book, away)
        with ThreadPoolExecutor() as pool:
            running = pool.submit(execution.do, step, book, away, QUIET, silent)
            while not book.has(begun) or (step == ACTIVATE and elsewhere.read_bytes() != CANDIDATE_POLICY):
                assert not running.done(), running.result()
                time.sleep(0.05)
            take_back(book, replace(away, extender=None), silent, force=False)
            with pytest.raises(TakenBackError, match=f"{step} has ended without a verdict"):
                running.result(60)  # no matter that patience_seconds are many
        assert elsewhere.read_bytes() == INCUMBENT_POLICY
        assert book.read(step) is None
        (book.folder / "rollback.json").unlink()


def test_too_few_pods_are_no_verdict_and_the_candidate_is_withdrawn(trying: tuple[Book, Settings]) -> None:
    book, settings = trying
    hasty = replace(settings, shadow=ShadowSettings(pods=100_000, limit_seconds=1.0))
    found = trial.shadow(book, hasty, QUIET, silent)
    assert (found.verdict, Path(settings.candidate_file).exists()) == (Verdict.UNDECIDED, False)


def test_what_the_extender_cannot_load_is_refused_and_the_incumbent_stays(trying: tuple[Book, Settings]) -> None:
    book, settings = trying
    put_whole(book.folder / CANDIDATE, b"no policy")
    found = trial.shadow(book, settings, QUIET, silent)
    assert found.verdict is Verdict.REFUSED
    assert "gave it up" in found.said
    found = activation.activate(book, settings, silent)
    assert found.verdict is Verdict.REFUSED
    assert Path(settings.policy_file).read_bytes() == INCUMBENT_POLICY


def test_disagreement_refuses_where_agreement_is_asked_for(trying: tuple[Book, Settings]) -> None:
    book, settings = trying
    strict = replace(settings, shadow=ShadowSettings(pods=20, limit_seconds=300.0, agreement=1.0))
    found = trial.shadow(book, strict, QUIET, silent)
    assert (found.verdict is Verdict.REFUSED) == (found.figures["agreement"] < 1.0)


def test_a_policy_file_that_somebody_has_replaced_is_not_overwritten(trying: tuple[Book, Settings]) -> None:
    book, settings = trying
    target = Path(settings.policy_file)
    active = activation.activate(book, settings, silent)
    book.close(ACTIVATE, {}, active)
    put_whole(target, policy_path("bundled:packing").read_bytes() + b"\x00")
    with pytest.raises(GivenError, match="--force"):
        take_back(book, settings, silent, force=False)
    assert not book.taken_back()
    assert "the policy before is back" in take_back(book, settings, silent, force=True).said
    assert digest(target) == digest(book.folder / INCUMBENT)


def test_a_rollback_that_is_not_confirmed_shows_so_and_is_finished_by_another(trying: tuple[Book, Settings]) -> None:
    book, settings = trying
    come_to(ACTIVATE, book, settings)
    assert execution.do(ACTIVATE, book, settings, QUIET, silent).verdict is Verdict.DONE
    try_out(settings, book, 0.0, book.folder / CANDIDATE)
    away = replace(settings, extender="http://127.0.0.1:9", patience_seconds=0.1)
    for _ in range(2):
        with pytest.raises(CycleError, match="the extender has not confirmed it; repeat rollback"):
            take_back(book, away, silent, force=False)
        assert Path(settings.policy_file).read_bytes() == INCUMBENT_POLICY
        assert steps.rows(book, away)[-1] | {"since": None} == {
            "step": "rollback", "state": "unconfirmed", "since": None, "changed": [],
            "said": "not confirmed by the extender: repeat rollback until it is",
        }  # fmt: skip
        with pytest.raises(TakenBackError, match="has not confirmed yet"):
            execution.run(book, away, QUIET, silent)

    back = take_back(book, settings, silent, force=False)
    assert back.said == "the candidate is withdrawn and the policy before is back"
    assert back.made == {"policy": digest(book.folder / INCUMBENT)}
    assert back.figures["replaced"] == digest(book.folder / CANDIDATE)
    assert [row["state"] for row in steps.rows(book, settings) if row["step"] == "rollback"] == ["done"]


def test_a_rollback_whose_policy_before_is_gone_is_refused_before_anything_is_taken_back(
    trying: tuple[Book, Settings],
) -> None:
    book, settings = trying
    come_to(ACTIVATE, book, settings)
    assert execution.do(ACTIVATE, book, settings, QUIET, silent).verdict is Verdict.DONE
    [kept] = book.folder.glob("before-*.onnx")
    for spoil, complaint in ((lambda: put_whole(kept, b"torn"), "does not hold"), (kept.unlink, "is not there")):
        spoil()
        with pytest.raises(GivenError, match=rf"before-\w+\.onnx {complaint}.*nothing was taken back"):
            take_back(book, settings, silent, force=True)
        assert not book.taken_back()
        assert Path(settings.policy_file).read_bytes() == CANDIDATE_POLICY
    put_whole(kept, INCUMBENT_POLICY)
    assert take_back(book, settings, silent, force=False).said == "the policy before is back"


def test_the_refusal_of_another_candidate_is_not_held_against_this_one(trying: tuple[Book, Settings]) -> None:
    book, settings = trying
    wanted = Path(settings.candidate_file)
    put_whole(wanted.with_name("torn.onnx"), b"no policy")
    put_whole(wanted, b'{"policy": "torn.onnx", "percent": 0}')
    Extender(settings).until(lambda answer: (answer["candidate"] or {}).get("stage") == "refused", "to refuse it")
    found = trial.shadow(book, settings, QUIET, silent)
    assert found.verdict is Verdict.DONE, found.said


def test_what_the_extender_does_not_take_into_service_in_time_is_not_left_in_its_place(
    trying: tuple[Book, Settings],
) -> None:
    book, settings = trying
    elsewhere = Path(settings.policy_file).with_name("elsewhere.onnx")  # the extender does not look at it
    put_whole(elsewhere, INCUMBENT_POLICY)
    hasty = replace(settings, policy_file=str(elsewhere), patience_seconds=1.0)
    for _ in range(2):
        with pytest.raises(CycleError, match="is the policy before again"):
            activation.activate(book, hasty, silent)
        assert elsewhere.read_bytes() == INCUMBENT_POLICY

    assert activation.activate(book, settings, silent).verdict is Verdict.DONE
    put_whole(book.folder / INCUMBENT, CANDIDATE_POLICY)
    put_whole(book.folder / CANDIDATE, b"no policy")
    assert activation.activate(book, settings, silent).verdict is Verdict.REFUSED
    assert Path(settings.policy_file).read_bytes() == CANDIDATE_POLICY
    assert "the policy before is back" in take_back(book, settings, silent, force=False).said
    assert Path(settings.policy_file).read_bytes() == INCUMBENT_POLICY  # as it was before the cycle's first


def test_a_rollback_takes_back_what_was_activated_before_an_earlier_step_was_repeated(
    trying: tuple[Book, Settings],
) -> None:
    book, settings = trying
    come_to(ACTIVATE, book, settings)
    assert execution.do(ACTIVATE, book, settings, QUIET, silent).verdict is Verdict.DONE
    with pytest.raises(GivenError, match="no such file"):
        execution.do("gate", book, settings, QUIET, silent)
    assert book.read(ACTIVATE) is None
    put_whole(book.folder / CANDIDATE, b"of another training")
    assert "the policy before is back" in take_back(book, settings, silent, force=False).said
    assert Path(settings.policy_file).read_bytes() == INCUMBENT_POLICY


def test_a_forced_rollback_after_an_activation_that_was_refused_puts_the_policy_before_back(
    trying: tuple[Book, Settings],
) -> None:
    book, settings = trying
    come_to(ACTIVATE, book, settings)
    assert execution.do(ACTIVATE, book, settings, QUIET, silent).verdict is Verdict.DONE
    put_whole(Path(settings.policy_file), policy_path("bundled:packing").read_bytes() + b"\x00")
    for _ in range(2):
        with pytest.raises(GivenError, match="somebody has replaced it since"):
            execution.do(ACTIVATE, book, settings, QUIET, silent)
    assert "the policy before is back" in take_back(book, settings, silent, force=True).said
    assert Path(settings.policy_file).read_bytes() == INCUMBENT_POLICY


def test_an_activation_that_is_killed_before_any_of_its_writes_is_taken_back(
    trying: tuple[Book, Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    book, settings = trying
    come_to(ACTIVATE, book, settings)
    for killed_at in range(1, 4):
        writes = itertools.count(1)

        def until_killed(path: Path, content: Any, at: int = killed_at, writes: Iterator[int] = writes) -> None:
            if next(writes) == at:
                raise KeyboardInterrupt
            write_json(path, content) if isinstance(content, dict) else put_whole(path, content)

        monkeypatch.setattr(activation, "put_whole", until_killed)
        monkeypatch.setattr(activation, "write_json", until_killed)
        with pytest.raises(KeyboardInterrupt):
            execution.do(ACTIVATE, book, settings, QUIET, silent)
        monkeypatch.undo()
        assert take_back(book, settings, silent, force=False).verdict is Verdict.DONE
        assert Path(settings.policy_file).read_bytes() == INCUMBENT_POLICY
        (book.folder / "rollback.json").unlink()


def test_a_log_that_is_not_there_is_refused_at_once(trying: tuple[Book, Settings]) -> None:
    book, settings = trying
    elsewhere = replace(settings, decision_log=f"{book.folder}/elsewhere")
    for step in (SHADOW, CANARY):
        come_to(step, book, elsewhere)
        with pytest.raises(GivenError, match=r"decision_log=.*elsewhere: there is no such file"):
            execution.do(step, book, elsewhere, QUIET, silent)
    assert not Path(settings.candidate_file).exists()


def test_an_extender_that_is_not_there_is_named(tmp_path: Path) -> None:
    put_whole(tmp_path / CANDIDATE, CANDIDATE_POLICY)
    put_whole(tmp_path / "log", b"")
    settings = Settings(
        decision_log=str(tmp_path / "log"), candidate_file=str(tmp_path / "c.json"), extender="http://127.0.0.1:9"
    )
    with pytest.raises(CycleError, match=r"127\.0\.0\.1:9 does not answer"):
        trial.check(Book(tmp_path), settings)
    assert not (tmp_path / "c.json").exists()


def test_a_course_tells_the_candidates_pods_from_the_others(tmp_path: Path) -> None:
    log = tmp_path / "decisions.jsonl"
    lines = [
        record(uid="old", time=MIDNIGHT - 1.0, policy="candidate"),
        record(uid="ours", policy="candidate"),
        record(uid="theirs", policy="incumbent", chosen="a"),
        record(uid="theirs", policy="candidate", rung="shadow", tried=True, chosen="b"),
        record(uid="waits", policy="candidate", time=MIDNIGHT + 100.0),
        BoundRecord(MIDNIGHT + 70.0, "ours", "a", 4.0),
        BoundRecord(MIDNIGHT + 75.0, "theirs", "a", 5.0),
    ]
    log.write_bytes(b"".join(msgspec.json.encode(each) + b"\n" for each in lines))
    course = Course(log, MIDNIGHT, "candidate")
    course.look()
    assert (course.answered, course.shadowed, course.agreement, course.settled) == (2, 1, 0.0, 0.5)
    assert course.waits(MIDNIGHT + 130.0) == ([4.0, 30.0], [5.0])


def test_longer_waits_beyond_chance_refuse() -> None:
    wanted = CanarySettings(floor_seconds=1.0)
    longer = compare_waits([30.0 + each % 7 for each in range(50)], [10.0 + each % 7 for each in range(200)])
    assert longer["difference"] == pytest.approx(20.0, abs=0.2)
    assert longer_waits(longer, wanted)
    assert not longer_waits(compare_waits([1.0, 100.0, 3.0], [2.0, 3.0, 90.0, 4.0]), wanted)
    assert not longer_waits(compare_waits([10.8] * 50, [10.0] * 50), wanted)  # less than the floor
    assert not longer_waits(compare_waits([10.0], []), wanted)
    assert all(value is None or math.isfinite(value) for value in json.loads(json.dumps(longer)).values())
