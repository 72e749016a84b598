import os
import subprocess
import sys
from pathlib import Path

import pytest

from extender.closed_pipe import CLOSED_PIPE, quiet_on_closed_pipe

HELP = [sys.executable, "-m", "extender.probe", "--help"]


def test_a_process_whose_reader_has_gone_leaves_nothing_for_the_interpreter_to_complain_about() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    ended = subprocess.run(HELP, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (CLOSED_PIPE, "")


def test_a_process_without_standard_output_ends_as_usual() -> None:
    ended = subprocess.run(["sh", "-c", f"{' '.join(HELP)} >&-"], stderr=subprocess.PIPE, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_no_handler_of_the_command_takes_it_for_its_own_and_what_is_to_be_said_after_it_hurts_no_clean_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    cleaned_up = []

    @quiet_on_closed_pipe
    def main() -> int:
        try:
            print("at work", flush=True)
        except OSError:
            return 1
        finally:
            print("cleaning up", flush=True)
            cleaned_up.append(True)
        return 0

    with os.fdopen(writer, "w") as closed_pipe:
        monkeypatch.setattr("sys.stdout", closed_pipe)
        with pytest.raises(SystemExit) as ended:
            main()
    assert (ended.value.code, cleaned_up) == (CLOSED_PIPE, [True])


def test_what_a_command_says_and_returns_stays_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @quiet_on_closed_pipe
    def main(answer: int) -> int:
        print("done")
        return answer

    with (tmp_path / "said").open("w") as file:
        monkeypatch.setattr("sys.stdout", file)
        assert main(3) == 3
        assert sys.stdout is file
    assert (tmp_path / "said").read_text() == "done\n"
