"""The command from its arguments to its files, in a cluster where nothing takes time."""

import json
import math
from pathlib import Path

from tests.training.replay.conftest import SMALL, Say
from training.replay.results import Compared
from training.replay.tables import COMPARED, comparison_json


def test_what_the_simulator_table_is_made_of_is_in_the_evaluation(replay: Say, tmp_path: Path) -> None:
    code, _, errors = replay(*SMALL, "--compare-simulator", "--out", str(tmp_path))

    assert code == 0, errors
    found = {
        run["policy"]: run["comparison"] for run in json.loads((tmp_path / "evaluation.json").read_text())["replay"]
    }
    assert found["default-scheduler"]["policy"] == "kube-scheduler-default"
    assert set(found["default-scheduler"]["decisions"].values()) == {
        0
    }  # of a rule, which decides among equals at random
    compared, agreed, *_ = found["stowage"]["decisions"].values()
    table = (tmp_path / "evaluation.md").read_text()
    assert compared > 0
    assert f"decisions alike, nobody waiting | {compared} | {100 * agreed / compared:.2f} %" in table
    for run in found.values():
        assert run["courses"] == 20
        assert (
            f"| {100 * run['cluster']['gpu_allocation']:.1f} % | {100 * run['simulator']['gpu_allocation']:.1f} %"
            in table
        )


def test_a_comparison_has_the_metrics_of_the_table_and_no_nan() -> None:
    real = dict.fromkeys(COMPARED, 2.0) | {"mean_wait_several_devices_seconds": math.nan, "cost": 7.0}
    courses = [real | {"mean_wait_seconds": wait} for wait in (3.0, 5.0)]

    found = comparison_json(Compared("best-fit", 0.3, (9, 8, 7, 6), real, courses))

    assert found["decisions"] == {"compared": 9, "agreed": 8, "compared_waiting": 7, "agreed_waiting": 6}
    assert found["cluster"]["mean_wait_seconds"] == 2.0
    assert found["simulator"]["mean_wait_seconds"] == 4.0
    assert set(found["cluster"]) == set(found["simulator"]) == set(COMPARED)
    assert found["cluster"]["mean_wait_several_devices_seconds"] is None
    assert found["simulator"]["mean_wait_several_devices_seconds"] is None


def test_without_the_simulator_there_is_no_comparison(replay: Say, tmp_path: Path) -> None:
    code, _, errors = replay(*SMALL, "--schedulers", "stowage", "--out", str(tmp_path))

    assert code == 0, errors
    (run,) = json.loads((tmp_path / "evaluation.json").read_text())["replay"]
    assert run["comparison"] is None
