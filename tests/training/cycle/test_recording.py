"""When what is replayed for a record came, however often it was interrupted; the replay itself is stood in for."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from training.cycle import recording
from training.cycle.contents import RECORD
from training.cycle.records import Book, Found, Verdict
from training.replay.results import FOLDER as RESULTS

LONG = 1000.0


class Killed(BaseException):
    """What kill -9 does here."""


def silent(text: str) -> None:
    """Say nothing."""


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that were played in: what is over in one is not played again, as `training.replay` does it."""
    folders: list[Path] = []

    def play(replay: str, folder: Path, say: Callable[[str], None]) -> None:
        result = folder / RESULTS / "stowage-load-1-seed-0.json"
        if result.exists():
            return
        folders.append(folder)
        result.parent.mkdir(parents=True)
        result.write_text(json.dumps({"records": {"sent_wall": [None, time.time() + LONG / 2]}}))

    monkeypatch.setattr(recording, "replay_whole", play)
    monkeypatch.setattr(recording, "FLUSHED_SECONDS", 0.01)
    return folders


def test_a_replay_that_is_over_and_was_not_noted_is_recorded_by_its_own_time(
    played: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = Book(tmp_path)

    def killed(seconds: float) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(recording.time, "sleep", killed)
        with pytest.raises(Killed):
            recording.replayed(book, "--load 1", silent)
    [folder] = played
    over = time.time() + LONG
    os.utime(folder / RESULTS / "stowage-load-1-seed-0.json", (over, over))

    begin, end = recording.replayed(book, "--load 1", silent)
    assert played == [folder]
    # What came before the run's own pods, as the one that the cluster is tried out with, is not of it.
    assert (begin, end) == pytest.approx((over - LONG / 2, over), abs=5.0)
    assert recording.replayed(book, "--load 1", silent) == (begin, end)  # refused afterwards, as with too few pods


def test_a_record_that_is_made_again_has_a_replay_of_its_own(played: list[Path], tmp_path: Path) -> None:
    book = Book(tmp_path)
    first = recording.replayed(book, "--load 1", silent)
    book.close(RECORD, {}, Found(Verdict.DONE, "recorded"))
    second = recording.replayed(book, "--load 1", silent)
    third = recording.replayed(book, "--load 2", silent)
    assert first[0] < second[0] < third[0]
    assert [folder.name for folder in played] == ["replay-1", "replay-2", "replay-3"]
