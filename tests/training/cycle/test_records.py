import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from training.cycle.records import Book, Found, GivenError, Verdict, changed

HOLDS = """
import sys, time
from pathlib import Path
from training.cycle.records import Book
with Book(Path(sys.argv[1])).alone():
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_step_leaves_a_note_while_it_is_done_and_a_record_when_it_has_ended(tmp_path: Path) -> None:
    book = Book(tmp_path / "cycle")
    assert book.read("fit") is None
    note = book.note("fit", kept=1)
    assert book.note("fit") == note
    book.close("fit", {"seeds": 3}, Found(Verdict.DONE, "done", {"a": 1}, {"file": "ab"}))
    record = book.read("fit")
    assert (record.verdict, record.given, record.made) == (Verdict.DONE, {"seeds": 3}, {"file": "ab"})
    assert record.began == note["began"]
    assert book.begun("fit") is None


def test_what_is_done_again_keeps_the_record_before(tmp_path: Path) -> None:
    book = Book(tmp_path)
    for number in range(3):
        book.set_aside("gate")
        book.close("gate", {}, Found(Verdict.REFUSED, str(number)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gate.json", "gate.json.1", "gate.json.2"]
    assert book.read("gate").said == "2"


def test_a_record_that_is_none_is_refused_and_named(tmp_path: Path) -> None:
    (tmp_path / "fit.json").write_text("{")
    with pytest.raises(GivenError, match=r"fit\.json is no record"):
        Book(tmp_path).read("fit")


def test_two_commands_do_not_work_on_a_cycle_and_one_that_was_killed_keeps_nobody_off(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDS, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        assert Book(tmp_path).busy()
        with pytest.raises(GivenError, match="another command is at work"), Book(tmp_path).alone():
            pass
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait(60)
    assert not Book(tmp_path).busy()


def test_whoever_only_looks_leaves_nothing_behind_and_needs_no_right_to_write(tmp_path: Path) -> None:
    assert not Book(tmp_path / "cycle").busy()
    assert os.listdir(tmp_path) == []


def test_what_differs_is_named_with_what_it_lies_in() -> None:
    before = {"gate": {"seeds": 1, "margin": 0.1}, "files": {"a": "1"}, "log": "x"}
    now = {"gate": {"seeds": 2, "margin": 0.1}, "files": {"a": "1", "b": "2"}, "log": "x"}
    assert changed(before, now) == ["files.b", "gate.seeds"]
