import math
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from extender.policies.bundled import policy_path
from extender.whole_file import put_whole
from tests.training.cycle import recordings
from training.cycle import gate, recording
from training.cycle.contents import CANDIDATE, FIT, RECORD
from training.cycle.fitting import fit
from training.cycle.gate import refusals_of
from training.cycle.records import Book, Found, Verdict
from training.cycle.settings import GateSettings, RecordSettings, Settings
from training.evaluation.statistics import Comparison

QUIET = Console(quiet=True)


def compared(difference: float, low: float, high: float) -> Comparison:
    nothing = math.nan
    return Comparison(
        *("candidate", "incumbent", "mean_wait_seconds", 0.9, 20),
        *(difference, low, high, nothing, nothing, nothing, nothing, nothing, 0.5, 0.3, 0.7, nothing, nothing),
    )


@pytest.mark.parametrize(
    ("difference", "low", "high", "enough", "refused"),
    [
        (-5.0, -9.0, -1.0, True, False),
        (0.5, 0.1, 0.9, True, False),  # less than the floor
        (3.0, 1.0, 5.0, False, True),  # beyond chance
        (3.0, -2.0, 8.0, False, False),  # could be chance, and within the margin
        (3.0, -2.0, 8.0, True, True),  # … but may be worse than the margin
        (7.0, -2.0, 16.0, False, True),  # above the margin
        (0.0, -4.0, 4.0, True, False),
        (math.nan, math.nan, math.nan, False, True),
    ],
)
def test_who_is_refused(difference: float, low: float, high: float, enough: bool, refused: bool) -> None:
    settings = GateSettings(margin=0.05, floor_seconds=1.0)
    assert bool(refusals_of(compared(difference, low, high), 100.0, settings, enough)) == refused


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Book, Settings]:
    """A cycle that has recorded and fitted, with the policy that comes with Stowage as its incumbent."""
    folder = tmp_path_factory.mktemp("gate")
    recorded = recordings.write(folder / "log", pods=400, load=1.1)
    policy = folder / "policy.onnx"
    policy.write_bytes(policy_path("bundled:latency").read_bytes())
    settings = Settings(
        decision_log=str(recorded.log),
        nodes=str(recorded.nodes),
        policy_file=str(policy),
        record=RecordSettings(periods=6),
        gate=GateSettings(seeds=6, pods=300, load=0.9),
    )
    book = Book(folder / "cycle")
    for step, work in ((RECORD, recording.record), (FIT, fit)):
        book.close(step, {}, work(book, settings, (lambda text: None) if step == RECORD else QUIET))
    return book, settings


def judged(fitted: tuple[Book, Settings], candidate: bytes) -> Found:
    book, settings = fitted
    put_whole(book.folder / CANDIDATE, candidate)
    return gate.gate(book, settings, QUIET)


def test_the_incumbent_itself_passes(fitted: tuple[Book, Settings]) -> None:
    found = judged(fitted, policy_path("bundled:latency").read_bytes())
    assert found.verdict is Verdict.DONE
    assert all(each["comparison"]["difference"] == 0.0 for each in found.figures["judgements"])


def test_a_policy_that_does_the_opposite_is_refused_with_intervals_and_a_report(
    fitted: tuple[Book, Settings], tmp_path: Path
) -> None:
    found = judged(fitted, recordings.worse_policy(tmp_path))
    assert found.verdict is Verdict.REFUSED
    generated = found.figures["judgements"][-1]
    assert generated["candidate_wait"] > generated["incumbent_wait"]
    assert np.isfinite(generated["comparison"]["difference_low"])
    book, _ = fitted
    report = (book.folder / gate.REPORT).read_text()
    assert "refused" in report
    assert "held-back" in report
    assert (book.folder / "gate" / "generated.html").is_file()
