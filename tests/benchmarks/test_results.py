import json
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.results import Result, publish

RESULTS = [Result("a case", "time", 2.0, "s", baseline=8.0), Result("a case", "pods", 5.0, "pods/s")]


def test_a_file_holds_every_number_with_its_baseline(tmp_path: Path) -> None:
    path = publish("speed", "Speed", RESULTS, Console(quiet=True), tmp_path / "results")
    assert json.loads(path.read_text()) == [
        {"case": "a case", "metric": "time", "value": 2.0, "unit": "s", "baseline": 8.0, "ratio": 0.25},
        {"case": "a case", "metric": "pods", "value": 5.0, "unit": "pods/s", "baseline": None, "ratio": None},
    ]
    assert [file.name for file in path.parent.iterdir()] == ["speed.json"]


def test_the_table_names_a_case_once(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    publish("speed", "Speed", RESULTS, Console(width=100), tmp_path)
    assert capsys.readouterr().out.count("a case") == 1


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_what_is_no_number_is_no_result(number: float) -> None:
    with pytest.raises(ValueError, match=r"a case, time: .* is no result"):
        Result("a case", "time", number, "s")
    with pytest.raises(ValueError, match="is no result"):
        Result("a case", "time", 1.0, "s", baseline=number)
