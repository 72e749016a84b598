"""The step `fit`: the workload generator, fitted to the pods of the periods that may be learned from."""

from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from training.arguments import ArgumentError, checked
from training.cycle import recording
from training.cycle.contents import WORKLOAD
from training.cycle.records import Book, Found, GivenError, Verdict, digest, read_json, write_json
from training.cycle.settings import Settings
from training.progress import track
from training.workloads.refit import SEEDS_TRIED, refit
from training.workloads.selection import WorkloadArguments

FAR = 0.5  # from which distance on a feature is pointed out
REMEDY = "do the step fit again"


def fit(book: Book, settings: Settings, console: Console) -> Found:
    """Do the step.

    Raises:
        GivenError: nothing is recorded.
    """
    recorded = recording.read(book.folder, settings, recording.recorded_speed(book))
    with track(console, "fitting", SEEDS_TRIED) as tracker:
        fitted = refit(recorded.learned_from, lambda done, _total: tracker.update(done))
    workload = {
        "source": "generated",
        "process": fitted.process.value,
        "shortest_seconds": fitted.shortest_seconds,
        "longest_seconds": fitted.longest_seconds,
        "generator": asdict(fitted.generator),
    }
    write_json(book.folder / WORKLOAD, workload)
    worst = fitted.farthest
    figures = {
        "pods": len(recorded.learned_from.shape),
        "distances": {each.feature: asdict(each) for each in fitted.distances},
        "farthest": worst.feature,
        "far": [each.feature for each in fitted.distances if each.distance >= FAR],
        "workload": workload,
    }
    said = (
        f"a generator from {figures['pods']:,} pods; farthest from what was recorded is {worst.feature} "
        f"(distance {worst.distance:.2f} of 1)"
    )
    return Found(Verdict.DONE, said, figures, {WORKLOAD: digest(book.folder / WORKLOAD)})


def fitted_workload(folder: Path) -> WorkloadArguments:
    """What `fit` has made.

    Raises:
        GivenError: it has not been done, or its file is not what it has made.
    """
    content = read_json(folder / WORKLOAD, REMEDY)
    if content is None:
        raise GivenError("no workload is fitted yet: do the step fit first")
    try:
        return checked(WorkloadArguments, content, {})
    except ArgumentError as error:
        raise GivenError(f"{folder / WORKLOAD} describes no workload ({error}): {REMEDY}") from error
