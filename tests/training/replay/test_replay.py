"""The command from its arguments to its files, in a cluster where nothing takes time."""

import json
import math
from datetime import UTC, datetime
from pathlib import Path

from tests.training.replay.api_server import StubApiServer
from tests.training.replay.conftest import SMALL, Say
from training.replay.results import Compared
from training.replay.simulated import COURSES
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
        assert run["courses"] == COURSES
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


def runs_of(folder: Path) -> list[Path]:
    return sorted((folder / "runs").iterdir())


def test_runs_of_another_cluster_are_not_mixed_with_those_to_be_played(
    server: StubApiServer, replay: Say, tmp_path: Path
) -> None:
    code, _, errors = replay(*SMALL, "--schedulers", "stowage", "--out", str(tmp_path))
    assert code == 0, errors
    server.objects.clear()
    server.put("namespaces", "kube-system", metadata={"uid": "another cluster's"})
    before = dict(server.objects)

    code, _, errors = replay(*SMALL, "--out", str(tmp_path))

    assert code == 2
    assert f"were played in another cluster ({server.address})" in errors
    assert "give another --out, or choose that cluster" in errors
    assert server.objects == before
    assert len(runs_of(tmp_path)) == 1


def test_runs_that_are_only_shown_say_when_and_where_they_were_played(
    server: StubApiServer, replay: Say, tmp_path: Path
) -> None:
    arguments = (*SMALL, "--schedulers", "stowage", "--out", str(tmp_path))
    before = datetime.now(UTC)
    code, output, errors = replay(*arguments)
    assert code == 0, errors
    assert "nothing is left" not in output
    server.rights.clear()

    code, output, errors = replay(*arguments, "--compare-simulator", "--kubeconfig", "/nonexistent")

    assert code == 0, errors
    assert f"these runs were, from {before:%Y-%m-%d %H:%M}" in output or before.minute != datetime.now(UTC).minute
    assert f"UTC, in {server.address}; another --out has them played anew" in output
    assert not server.rights
    assert (
        json.loads(runs_of(tmp_path)[0].read_text())["cluster"]["address"] == server.address
    )  # saved with the comparison


def test_runs_that_were_kept_before_clusters_were_noted_are_still_read_and_added_to(
    replay: Say, tmp_path: Path
) -> None:
    arguments = (*SMALL, "--out", str(tmp_path))
    code, _, errors = replay(*arguments, "--schedulers", "stowage")
    assert code == 0, errors
    (old,) = runs_of(tmp_path)
    content = json.loads(old.read_text())
    del content["cluster"]
    old.write_text(json.dumps(content))

    code, output, errors = replay(*arguments, "--schedulers", "stowage")
    assert code == 0, errors
    assert "in a cluster that they do not name" in output

    code, output, errors = replay(*arguments)
    assert code == 0, errors
    assert "2 runs, 1 of them played before" in output
