"""A learning curve is read as it was written, or refused with what is wrong."""

import math
import re
from pathlib import Path

import pytest

from training.evaluation.curve import CurvePoint
from training.recorder import CURVE_FILE, read_curve, write_curve


@pytest.fixture
def curve(tmp_path: Path) -> Path:
    write_curve(tmp_path / CURVE_FILE, [CurvePoint(1000, 1.5, -5.25, 30.0), CurvePoint(2000, 2.5, -4.0, 20.0)])
    return tmp_path / CURVE_FILE


def test_a_curve_comes_back_as_it_was(curve: Path) -> None:
    first, second = read_curve(curve)
    assert (first.steps, first.mean_return, second.mean_wait_seconds) == (1000, -5.25, 20.0)
    assert math.isnan(first.held_out_return)


def test_a_curve_that_is_cut_anywhere_within_a_row_is_refused(curve: Path) -> None:
    whole = curve.read_bytes()
    ends = [at + 1 for at, byte in enumerate(whole) if byte == ord("\n")]
    for length in range(ends[0] + 1, len(whole) - 1):
        if length not in ends and whole[length : length + 1] != b"\n":
            curve.write_bytes(whole[:length])
            with pytest.raises(ValueError, match=f"{re.escape(str(curve))}, line [23]: the file is cut off within it"):
                read_curve(curve)


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        ("", "is no learning curve: it begins with ''"),
        ("a,b\n1,2\n", "is no learning curve: it begins with 'a,b', expected steps,seconds,"),
        ("steps,seconds,mean_return,mean_wait_seconds\n1,2\n", "line 2: 2 figures, expected 4"),
        ("steps,seconds,mean_return,mean_wait_seconds\n1,2,3,four\n", "line 2: could not convert string to float"),
        ("steps,seconds,mean_return,mean_wait_seconds\n,2,3,4\n", "line 2: cannot convert float NaN"),
    ],
)
def test_what_is_no_curve_is_refused_with_the_files_name(tmp_path: Path, content: str, wrong: str) -> None:
    file = tmp_path / CURVE_FILE
    file.write_text(content)
    with pytest.raises(ValueError, match=f"{re.escape(str(file))}.*{wrong}"):
        read_curve(file)
