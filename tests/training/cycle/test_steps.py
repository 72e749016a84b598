"""Which steps are done again, and what becomes of a candidate then; nobody serves here."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from extender.whole_file import put_whole
from tests.training.cycle.test_trial import CANDIDATE_POLICY, INCUMBENT_POLICY, QUIET, come_to, silent
from training.cycle import execution, steps
from training.cycle.contents import ACTIVATE, CANARY, CANDIDATE, INCUMBENT
from training.cycle.records import Book, GivenError
from training.cycle.rollback import take_back
from training.cycle.serving import try_out
from training.cycle.settings import Settings


def test_a_step_that_is_repeated_withdraws_the_candidate_of_an_interrupted_canary(tmp_path: Path) -> None:
    book, wanted = Book(tmp_path / "cycle"), tmp_path / "candidate.json"
    put_whole(book.folder / INCUMBENT, INCUMBENT_POLICY)
    put_whole(book.folder / CANDIDATE, CANDIDATE_POLICY)
    settings = Settings(candidate_file=str(wanted))
    come_to(CANARY, book, settings)
    book.note(CANARY, since=time.time())
    try_out(settings, book, 10.0, book.folder / CANDIDATE)
    with pytest.raises(GivenError):
        execution.do(CANARY, book, settings, QUIET, silent)  # goes on where it was
    with pytest.raises(GivenError, match="decision_log is not set"):
        execution.do("record", book, settings, QUIET, silent)  # refused before anything is touched
    assert wanted.exists()
    with pytest.raises(GivenError, match="no such file"):
        execution.do("gate", book, settings, QUIET, silent)
    assert [path.name for path in tmp_path.iterdir()] == ["cycle"]


def test_another_place_for_candidates_or_the_log_repeats_no_trial(tmp_path: Path) -> None:
    book, settings = Book(tmp_path / "cycle"), Settings(decision_log="log", candidate_file="here/candidate.json")
    put_whole(book.folder / INCUMBENT, INCUMBENT_POLICY)
    put_whole(book.folder / CANDIDATE, CANDIDATE_POLICY)
    come_to(ACTIVATE, book, settings)
    now = replace(settings, decision_log="rotated/log", candidate_file="there/candidate.json")
    assert {row["state"] for row in steps.rows(book, now)} == {"done", "to do"}


def test_a_candidate_is_tried_in_one_place_alone(tmp_path: Path) -> None:
    book = Book(tmp_path / "cycle")
    put_whole(book.folder / CANDIDATE, CANDIDATE_POLICY)
    places = [tmp_path / name / "candidate.json" for name in ("here", "there")]
    for path in places:
        path.parent.mkdir()
        try_out(Settings(candidate_file=str(path)), book, 10.0, book.folder / CANDIDATE)
    assert list(places[0].parent.iterdir()) == []
    said = "the candidate is withdrawn; no extender is set that could confirm it"
    assert take_back(book, Settings(), silent, force=False).said == said
    assert list(places[1].parent.iterdir()) == []


def test_a_candidate_that_somebody_else_tries_by_now_is_left_to_them(tmp_path: Path) -> None:
    book, wanted = Book(tmp_path / "cycle"), tmp_path / "candidate.json"
    put_whole(book.folder / CANDIDATE, CANDIDATE_POLICY)
    settings = Settings(candidate_file=str(wanted))
    try_out(settings, book, 10.0, book.folder / CANDIDATE)
    put_whole(tmp_path / "theirs.onnx", INCUMBENT_POLICY)
    put_whole(wanted, b'{"policy": "theirs.onnx", "percent": 5}')
    assert take_back(book, settings, silent, force=False).said.startswith("there was nothing to take back")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["candidate.json", "cycle", "theirs.onnx"]
