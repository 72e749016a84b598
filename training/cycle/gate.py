"""The step `gate`: the candidate against the incumbent in the simulator, and a candidate that is worse goes no further.

Both play three kinds of episodes, paired: the recorded periods that were learned from, those that were held back, and
freshly generated ones. A candidate is refused by any of the three where its mean wait

- is above the incumbent's beyond chance (the whole 95 % interval of the difference), by more than `gate.floor_seconds`;
- or is above it by more than `gate.margin`, chance or not;
- or, on the generated episodes, of which there are enough to tell, may be above it by more than `gate.margin`: the
  upper end of the interval is.

Few recorded periods have wide intervals, so the last is not asked of them.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from extender.policies.base import PolicyError
from extender.policies.onnx import load_policy
from training.cycle import recording
from training.cycle.contents import CANDIDATE, INCUMBENT
from training.cycle.fitting import fitted_workload
from training.cycle.recording import Recorded
from training.cycle.records import Book, CycleError, Found, GivenError, Verdict
from training.cycle.settings import GateSettings, Settings
from training.evaluation.periods import evaluate_periods, judged_on
from training.evaluation.report import html_report, json_report, markdown_table, write_whole
from training.evaluation.runner import Contender, Evaluation, EvaluationArguments, evaluate
from training.evaluation.statistics import Comparison
from training.progress import Tracker, track
from training.workloads.selection import load_population

REPORT = "gate.md"
METRIC = "mean_wait_seconds"
FRESH_SEED = 2_000_000  # nobody trains, chooses or judges a training by episodes from here on
LOAD_AT_LEAST = 0.8
RECORDED, HELD_BACK, GENERATED = "recorded", "held-back", "generated"
HEADINGS = ("episodes", "pairs", "incumbent", "candidate", "difference [95 %]", "P(better)", "verdict")


@dataclass(frozen=True)
class Judgement:
    """What one kind of episodes says.

    Attributes:
        episodes: which kind.
        comparison: of the mean waits.
        incumbent_wait, candidate_wait: mean waits in seconds.
        refusals: why the candidate is refused, in words; none if it is not.
    """

    episodes: str
    comparison: Comparison
    incumbent_wait: float
    candidate_wait: float
    refusals: list[str]


def gate(book: Book, settings: Settings, console: Console) -> Found:
    """Do the step.

    Raises:
        GivenError: nothing is recorded.
        CycleError: a policy cannot be played.
    """
    speed = recording.recorded_speed(book)
    recorded = recording.read(book.folder, settings, speed)
    incumbent, candidate = book.folder / INCUMBENT, book.folder / CANDIDATE
    try:
        evaluations = play(book.folder, settings, recorded, console)
    except PolicyError as error:
        raise CycleError(f"the gate cannot play both policies: {error}") from error
    judgements = [judge(kind, evaluation, settings.gate) for kind, evaluation in evaluations.items()]
    refusals = [f"{each.episodes}: {refusal}" for each in judgements for refusal in each.refusals]
    verdict = Verdict.REFUSED if refusals else Verdict.DONE
    console.print(table_of(judgements))
    said = f"refused: {'; '.join(refusals)}" if refusals else "the candidate is no worse than the incumbent"
    digests = {"candidate": load_policy(candidate).digest, "incumbent": load_policy(incumbent).digest}
    _write(book.folder, evaluations, judgements, recorded, said, digests)
    figures = {
        "metric": METRIC,
        "judgements": [_finite(asdict(each)) | {"comparison": _finite(asdict(each.comparison))} for each in judgements],
        "refusals": refusals,
        "report": str(book.folder / REPORT),
    }
    return Found(verdict, said, figures, digests)


def check(book: Book, settings: Settings) -> None:
    """Refuse what the step could not be done with: raises GivenError where there is no candidate."""
    candidate = book.folder / CANDIDATE
    if not candidate.is_file():
        raise GivenError(f"{candidate}: there is no candidate: do the step train first, or put a policy file there")


def play(folder: Path, settings: Settings, recorded: Recorded, console: Console) -> dict[str, Evaluation]:
    """Let both play all three kinds of episodes.

    Raises:
        PolicyError: one of the files holds no policy, or not one for these resources.
    """
    ours, theirs = [Contender("candidate", folder / CANDIDATE)], [Contender("incumbent", folder / INCUMBENT)]
    found = {}
    for kind, periods in ((RECORDED, recorded.fitted), (HELD_BACK, recorded.held)):
        with track(console, f"{kind} periods", 2 * len(periods)) as tracker:
            found[kind] = evaluate_periods(
                ours,
                theirs,
                periods,
                recorded.population.name,
                report=_following(tracker),
            )
    workload, wanted = fitted_workload(folder), settings.gate
    arguments = EvaluationArguments(
        nodes=max(len(recorded.population.devices), 2),
        pods=wanted.pods,
        loads=[round(wanted.load or min(max(recorded.load, LOAD_AT_LEAST), 3.0), 3)],
        seeds=wanted.seeds,
        first_seed=FRESH_SEED,
        processes=2,
    )
    population = load_population(workload, len(recorded.population.resources))
    with track(console, "generated episodes", 2 * wanted.seeds) as tracker:
        found[GENERATED] = evaluate(
            ours,
            theirs,
            arguments,
            population,
            workload,
            report=_following(tracker),
        )
    return found


def _following(tracker: Tracker) -> Callable[[int, int, str], None]:
    return lambda done, _total, what: tracker.update(done, what)


def judge(episodes: str, evaluation: Evaluation, settings: GateSettings) -> Judgement:
    """What an evaluation of the candidate against the incumbent says.

    Args:
        episodes: which kind they are.
        evaluation: of the two.
        settings: how much worse is tolerated.
    """
    [entry] = [each for each in evaluation.comparisons if each.metric == METRIC]
    before, now = entry_means(evaluation, entry)
    return Judgement(episodes, entry, before, now, refusals_of(entry, before, settings, episodes == GENERATED))


def entry_means(evaluation: Evaluation, entry: Comparison) -> tuple[float, float]:
    """Mean waits of the baseline and of the policy."""
    return evaluation.mean(entry.baseline, entry.metric), evaluation.mean(entry.policy, entry.metric)


def refusals_of(entry: Comparison, incumbent_wait: float, settings: GateSettings, enough: bool) -> list[str]:
    """Why a difference in mean wait is not accepted; nothing where it is.

    Args:
        entry: candidate against incumbent.
        incumbent_wait: the incumbent's mean wait in seconds.
        settings: how much worse is tolerated.
        enough: whether there are episodes enough to ask that it can hardly be worse by more than that.
    """
    if math.isnan(entry.difference):
        return ["nothing can be said of the mean waits: no pod was counted"]
    tolerated = max(settings.floor_seconds, settings.margin * incumbent_wait)
    interval = f"{entry.difference:+.1f} s [{entry.difference_low:+.1f}, {entry.difference_high:+.1f}]"
    if entry.difference > tolerated:
        return [f"its mean wait is longer by {interval}, where {tolerated:.1f} s are tolerated"]
    if entry.difference > settings.floor_seconds and entry.difference_low > 0:
        return [f"its mean wait is longer beyond chance, by {interval}"]
    if enough and entry.difference_high > tolerated:
        return [f"its mean wait may be longer by more than the {tolerated:.1f} s that are tolerated: {interval}"]
    return []


def table_of(judgements: list[Judgement]) -> Table:
    """The judgements, for a terminal."""
    table = Table(title="The candidate against the incumbent: mean wait, s")
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading in ("episodes", "verdict") else "right")
    for each in judgements:
        table.add_row(*_cells(each))
    return table


def _cells(each: Judgement) -> list[str]:
    entry = each.comparison
    return [
        each.episodes,
        str(entry.pairs),
        f"{each.incumbent_wait:,.1f}",
        f"{each.candidate_wait:,.1f}",
        f"{entry.difference:+,.1f} [{entry.difference_low:+,.1f}, {entry.difference_high:+,.1f}]",
        f"{entry.probability_of_improvement:.2f}",
        "refused" if each.refusals else "passed",
    ]


def _write(
    folder: Path,
    evaluations: Mapping[str, Evaluation],
    judgements: list[Judgement],
    recorded: Recorded,
    said: str,
    digests: Mapping[str, str],
) -> None:
    """Write gate.md, and a page and a JSON file for each kind of episodes."""
    parts = [
        f"# Gate of {folder.name}",
        said[0].upper() + said[1:] + ".",
        "\n".join(f"- {name}: `{digest}`" for name, digest in digests.items()),
        markdown_table(HEADINGS, [_cells(each) for each in judgements]),
        "Mean waits in seconds, paired by period or episode, with 95 % bootstrap intervals of the difference. Each "
        f"kind of episodes has a page of its own: {', '.join(f'[{kind}](gate/{kind}.html)' for kind in evaluations)}.",
    ]
    texts = {folder / REPORT: "\n\n".join(parts) + "\n"}
    judged = {RECORDED: judged_on(recorded.fitted), HELD_BACK: judged_on(recorded.held)}
    for kind, evaluation in evaluations.items():
        facts = {"Judged on": judged[kind]} if kind in judged else {}
        page = html_report(f"Gate of {folder.name}: {kind} episodes", evaluation, facts)
        texts[folder / "gate" / f"{kind}.html"] = page
        texts[folder / "gate" / f"{kind}.json"] = json_report(evaluation)
    write_whole(texts)


def _finite(content: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in content.items()
    }
