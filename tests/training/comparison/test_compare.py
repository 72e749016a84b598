"""The command on a comparison that is small enough; every run is a real one."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from tests.training.test_sweep import TINY
from training import compare
from training.comparison.definition import Definition
from training.config import ConfigError, register

SMALL = Definition(
    title="Two small ones",
    seeds=2,
    settings=[*(each for each in TINY if not each.startswith("evaluation.baselines")), "algorithm=ppo"],
    variants={"wide": ["network.hidden=16"], "narrow": ["network.hidden=8"]},
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished comparison."""
    folder = tmp_path_factory.mktemp("compared")
    carry_out(folder)
    return folder


def carry_out(folder: Path) -> list[Path]:
    register()
    request = compare.Request(experiment="small", output=folder / "results")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compare, "RUNS", folder / "runs")
        return compare.compare(request, SMALL, Console(file=(folder / "log.txt").open("a"), width=120))


def test_page_pictures_and_figures_are_written(finished: Path) -> None:
    page = (finished / "results" / "small.md").read_text()
    assert page.startswith("# Two small ones\n")
    assert "| narrow against wide | mean wait, s |" in page or "| narrow against wide | mean wait |" in page
    for picture in ("small-curves.svg", "small-seconds.svg", "small-final.svg"):
        assert f"({picture})" in page
        assert (finished / "results" / picture).read_text().rstrip().endswith("</svg>")
    content = json.loads((finished / "results" / "small.json").read_text())
    assert set(content["variants"]) == {"wide", "narrow"}
    wide = content["variants"]["wide"]
    assert wide["curve"]["steps"] == [0, 256, 512]
    assert [len(row) for row in wide["curve"]["mean_wait_seconds"]] == [2, 2, 2]
    assert len(wide["final"]["mean_wait_seconds"]) == 2
    assert set(content["rules"]) == {"kube-scheduler-default", "best-fit", "fgd"}


def test_what_is_finished_is_not_run_again_and_what_a_person_wrote_stays(finished: Path) -> None:
    policy = finished / "runs" / "small" / "wide" / "seed1" / "policy.onnx"
    before = policy.stat().st_mtime_ns
    page = finished / "results" / "small.md"
    page.write_text(f"{page.read_text()}\n## What to make of it\n\nNothing.\n")
    text = page.read_text()
    carry_out(finished)
    assert policy.stat().st_mtime_ns == before
    assert page.read_text() == text


def test_an_interrupted_run_is_resumed_to_the_same_figures(finished: Path) -> None:
    run = finished / "runs" / "small" / "narrow" / "seed0"
    before = json.loads((run / "result.json").read_text())
    for name in ("result.json", "policy.onnx", "evaluation.json"):  # as if it had been killed after its last checkpoint
        (run / name).unlink()
    carry_out(finished)
    assert json.loads((run / "result.json").read_text()) == before
    assert "resuming at 512 steps" in (run / "log.txt").read_text()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], r"experiment=…: there are ablations, algorithms"),
        (["experiment=algorithms", "seeds=1"], r"seeds=1: Input should be greater than or equal to 2"),
        (["experiment=algorithms", "launcher=slurm"], r"launcher=slurm: String should match pattern"),
    ],
)
def test_a_request_that_cannot_be_met_is_refused(arguments: list[str], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        compare.parse(arguments)
