"""Which cycle `make cycle` goes on with; the clusters of it are in test_cycle."""

from pathlib import Path
from typing import Any

import pytest

from tests.cluster import cycle_cluster
from tests.cluster.cycle_cluster import CLUSTER_LOCK, COMMAND, begun_by, main
from training.cycle import steps
from training.cycle.records import ROLLBACK, Book, Found, Verdict, write_json

ASKED: dict[str, Any] = {"incumbent": "bundled:latency", "settings": ["gate.seeds=3"]}


def begin(folder: Path, name: str, *ended: Verdict, asked: dict[str, Any] = ASKED) -> Book:
    """A cycle whose first steps have ended."""
    book = Book(folder / name)
    write_json(book.folder / COMMAND, asked)
    for step, verdict in zip(steps.NAMES, ended, strict=False):
        book.close(step, {}, Found(verdict, verdict))
    return book


def test_the_last_cycle_of_the_same_command_is_gone_on_with(tmp_path: Path) -> None:
    assert begun_by(tmp_path, ASKED) is None
    begin(tmp_path, "local-20261101-000000")
    begin(tmp_path, "local-20261102-000000", Verdict.DONE, Verdict.UNDECIDED)
    begin(tmp_path, "local-20261103-000000", asked=ASKED | {"settings": []})
    assert begun_by(tmp_path, ASKED) == "local-20261102-000000"


@pytest.mark.parametrize("ended", [[Verdict.DONE] * len(steps.NAMES), [Verdict.DONE, Verdict.REFUSED]])
def test_after_a_cycle_that_has_ended_another_begins(ended: list[Verdict], tmp_path: Path) -> None:
    begin(tmp_path, "local-20261101-000000")
    begin(tmp_path, "local-20261102-000000", *ended)
    assert begun_by(tmp_path, ASKED) is None


def test_one_that_was_taken_back_or_is_at_work_is_left_alone(tmp_path: Path) -> None:
    book = begin(tmp_path, "local-20261101-000000", Verdict.DONE)
    with book.alone():
        assert begun_by(tmp_path, ASKED) is None
    book.note(ROLLBACK)
    assert begun_by(tmp_path, ASKED) is None


def test_what_was_begun_with_the_cluster_that_is_gone_begins_anew_and_it_says_which_cycle_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cycle_cluster, "carry_out", lambda options, name: 0)
    words = ["--folder", str(tmp_path), "gate.seeds=3"]
    assert main(words) == 0
    [folder] = tmp_path.iterdir()
    assert capsys.readouterr().out == f"beginning the cycle {folder.name}\n"
    book = Book(folder)
    for name in ("record", "train", "shadow", "canary", "candidate"):
        book.note(name)
    (folder / "cluster-left" / "etcd").mkdir(parents=True)  # by the one that was killed
    assert main(words) == 0
    assert not (folder / "cluster-left").exists()
    assert f"going on with the cycle {folder.name}" in capsys.readouterr().out
    assert sorted(path.name for path in folder.glob("*.begun.json")) == ["train.begun.json"]
    assert list(tmp_path.iterdir()) == [folder]
    with book.alone(CLUSTER_LOCK):
        assert main([*words, "--name", folder.name]) == 2
    assert "another command is at work" in capsys.readouterr().err


def test_a_torn_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (begin(tmp_path, "local-20261101-000000").folder / COMMAND).write_text("{")
    assert main(["--folder", str(tmp_path)]) == 2
    assert "local-20261101-000000/command.json cannot be read" in capsys.readouterr().err
