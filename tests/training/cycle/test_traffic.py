from pathlib import Path

import pytest

from training.cycle.traffic import replay_whole


def test_what_a_replay_prints_is_kept_off_stdout(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    replay_whole("--help", tmp_path, lambda text: None)
    printed = capfd.readouterr()
    assert printed.out == ""
    assert "usage: python -m training.replay" in printed.err
