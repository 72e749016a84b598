"""The steps `shadow` and `canary`: the candidate beside the incumbent on the pods that really come.

In shadow the candidate answers nobody and says what it would have done; in canary it answers for a share of the pods.
Either ends when enough pods were decided on, or when something speaks against the candidate: then it is withdrawn, and
the incumbent is alone again. What happened is read from the decision log, which outlives a restart of the extender;
failures and refusals are what GET /policy tells.

A canary's pods and the others share one cluster and one queue, so their waits say little of how well a policy packs:
that is the gate's affair. A candidate whose pods wait longer than the others' beyond chance does something wrong.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy
from rich.console import Console

from extender.telemetry.decision_records import BoundRecord, DecisionRecord
from training.cycle.contents import CANARY, CANDIDATE, SHADOW
from training.cycle.decision_lines import Follower, written
from training.cycle.records import Book, CycleError, Found, GivenError, Say, Verdict
from training.cycle.serving import (
    Extender,
    candidate_file,
    is_named,
    lying_name,
    refuse_what_was_taken_back,
    try_out,
    withdraw,
)
from training.cycle.settings import CanarySettings, Settings, ShadowSettings, named
from training.cycle.traffic import pods_coming
from training.progress import track

LOOK_SECONDS = 1.0
RESAMPLES = 2000
CONFIDENCE = 0.95
SETTLED_SHARE = 0.95  # of a canary's pods that have to be on a node before their waits are compared


@dataclass
class _Pod:
    """A pod that came during the trial.

    Attributes:
        asked: when it was first asked about, Unix seconds.
        policy: digest or name of what answered, the last time.
        node: where that sent it.
        opinion: where the candidate in shadow would have sent it; None without an opinion.
        wait: seconds until it was on a node; NaN before it is.
    """

    asked: float
    policy: str = ""
    node: str | None = None
    opinion: str | None = None
    shadowed: bool = False
    wait: float = math.nan


class Course:
    """What the decision log tells of a trial.

    Args:
        log: the decision log.
        begin: Unix seconds, when the trial began.
        candidate: digest of the policy that is tried.
    """

    def __init__(self, log: Path, begin: float, candidate: str) -> None:
        self._follower, self._candidate = Follower(log, begin), candidate
        self._pods: dict[str, _Pod] = {}

    def look(self) -> None:
        """Read on."""
        for record in self._follower.read():
            if isinstance(record, BoundRecord):
                if record.uid in self._pods and record.wait >= 0:
                    self._pods[record.uid].wait = record.wait
            elif isinstance(record, DecisionRecord):
                pod = self._pods.setdefault(record.uid, _Pod(record.time))
                if not record.tried:
                    pod.policy, pod.node = record.policy, record.chosen
                elif record.policy == self._candidate:
                    pod.shadowed, pod.opinion = True, record.chosen

    @property
    def shadowed(self) -> int:
        """Pods on which the candidate had an opinion."""
        return sum(pod.shadowed for pod in self._pods.values())

    @property
    def agreement(self) -> float | None:
        """The share of them that it would have sent where they were sent."""
        both = [pod for pod in self._pods.values() if pod.shadowed and pod.node and pod.opinion]
        return sum(pod.node == pod.opinion for pod in both) / len(both) if both else None

    @property
    def answered(self) -> int:
        """Pods that the candidate answered for."""
        return sum(pod.policy == self._candidate for pod in self._pods.values())

    @property
    def settled(self) -> float:
        """The share of the pods that it answered for which are on a node."""
        ours = [pod.wait for pod in self._pods.values() if pod.policy == self._candidate]
        return float(np.mean(~np.isnan(ours))) if ours else 0.0

    def waits(self, now: float) -> tuple[list[float], list[float]]:
        """Waits in seconds of the candidate's pods and of the others; one that waits still counts as long as it has."""
        ours: list[float] = []
        theirs: list[float] = []
        for pod in self._pods.values():
            if pod.policy:
                wait = now - pod.asked if math.isnan(pod.wait) else pod.wait
                (ours if pod.policy == self._candidate else theirs).append(wait)
        return ours, theirs


def shadow(book: Book, settings: Settings, console: Console, say: Say) -> Found:
    """Do the step shadow; raises GivenError, also where the cycle is rolled back meanwhile, and CycleError."""
    wanted = settings.shadow

    def enough(course: Course) -> bool:
        return course.shadowed >= wanted.pods

    course, seen, in_time = _watch(book, settings, SHADOW, 0.0, enough, console, say)
    figures = {"shadowed": course.shadowed, "agreement": course.agreement, **seen}
    reasons = [*refused_by_extender(seen, wanted.failures), *_disagreement(course.agreement, wanted)]
    return _conclude(book, figures, reasons, in_time, f"{course.shadowed:,} pods, {_agreed(course.agreement)}")


def canary(book: Book, settings: Settings, console: Console, say: Say) -> Found:
    """Do the step canary; raises GivenError, also where the cycle is rolled back meanwhile, and CycleError."""
    wanted = settings.canary
    reached: list[float] = []

    def enough(course: Course) -> bool:
        if course.answered >= wanted.pods and not reached:
            reached.append(time.monotonic())
        waited = bool(reached) and time.monotonic() - reached[0] > wanted.settle_seconds
        return bool(reached) and (course.settled >= SETTLED_SHARE or waited)

    course, seen, in_time = _watch(book, settings, CANARY, wanted.percent, enough, console, say)
    ours, theirs = course.waits(time.time())
    waits = compare_waits(ours, theirs)
    figures = {"answered": course.answered, "others": len(theirs), "waits": waits, **seen}
    reasons = [*refused_by_extender(seen, wanted.failures), *longer_waits(waits, wanted)]
    said = f"{course.answered:,} pods waited {_told(waits)}"
    return _conclude(book, figures, reasons, in_time, said)


def outlook(settings: Settings) -> None:
    """Refuse what neither step could be done with, whatever comes of the steps before; nothing is touched.

    Raises:
        GivenError: a setting is missing, or the folder that it names.
        CycleError: the extender does not answer, or knows of no candidates.
    """
    named(settings.decision_log, "decision_log", "the extender's decision log")
    extender = Extender(settings)
    candidate_file(settings)
    if "candidate" not in extender.policy():
        raise CycleError("the extender knows of no candidates: it was made before there were any; install a newer one")


def check(book: Book, settings: Settings) -> None:
    """Refuse what neither step could be done with now; nothing is touched.

    Raises:
        GivenError: a setting is missing, or a file that it names.
        CycleError: the extender does not answer.
    """
    log = named(settings.decision_log, "decision_log", "the extender's decision log")
    begins_with_our_pods = settings.replay is not None and log.parent.is_dir()
    if not written(log) and not begins_with_our_pods:
        raise GivenError(
            f"decision_log={log}: there is no such file; it should be the log that the extender writes now"
        )
    policy = book.folder / CANDIDATE
    if not policy.is_file():
        raise GivenError(f"{policy}: there is no candidate: do the step train first")
    outlook(settings)


def refused_by_extender(seen: dict[str, Any], failures: int) -> list[str]:
    """What the extender says against a candidate: it was refused or withdrawn, or failed too often."""
    reasons = []
    if seen.get("refusal"):
        reasons.append(f"the extender gave it up: {seen['refusal']}")
    if seen["failures"] > failures:
        reasons.append(f"it failed {seen['failures']} times, {failures} are tolerated")
    return reasons


def longer_waits(waits: dict[str, float | None], wanted: CanarySettings) -> list[str]:
    """Whether the candidate's pods wait longer than the others', beyond chance."""
    difference, low = waits["difference"], waits["low"]
    if difference is None or low is None or low <= 0 or difference <= wanted.floor_seconds:
        return []
    return [f"its pods wait {_told(waits)}, beyond chance"]


def compare_waits(ours: Sequence[float], theirs: Sequence[float], seed: int = 0) -> dict[str, float | None]:
    """Mean waits of two groups of pods, their difference, and its 95 % interval where there are pods enough."""
    means = [float(np.mean(each)) if len(each) else None for each in (ours, theirs)]
    found: dict[str, float | None] = {"candidate": means[0], "others": means[1]}
    found |= {"difference": None, "low": None, "high": None}
    if means[0] is None or means[1] is None:
        return found
    found["difference"] = means[0] - means[1]
    if len(ours) > 1 and len(theirs) > 1:
        interval = scipy.stats.bootstrap(
            (np.array(ours), np.array(theirs)),
            lambda one, other, axis=-1: one.mean(axis=axis) - other.mean(axis=axis),
            vectorized=True,
            n_resamples=RESAMPLES,
            batch=100,
            confidence_level=CONFIDENCE,
            method="percentile",
            rng=np.random.default_rng(seed),
        ).confidence_interval
        found |= {"low": float(interval.low), "high": float(interval.high)}
    return found


def _watch(
    book: Book,
    settings: Settings,
    stage: str,
    percent: float,
    enough: Callable[[Course], bool],
    console: Console,
    say: Say,
) -> tuple[Course, dict[str, Any], bool]:
    """Bring the candidate to a stage, and follow it until there are pods enough, or something speaks against it.

    Returns:
        what happened, what the extender says of it, and whether there were pods enough in time.

    Raises:
        TakenBackError: the cycle was rolled back meanwhile.
    """
    log = named(settings.decision_log, "decision_log", "the extender's decision log")
    extender = Extender(settings)
    wanted: ShadowSettings | CanarySettings = settings.shadow if stage == SHADOW else settings.canary
    known = try_out(settings, book, percent, book.folder / CANDIDATE)
    note = book.note(stage, candidate=known)
    what = f"to take the candidate into {stage} (is it told of {settings.candidate_file} by --candidate?)"
    said = extender.until(
        lambda answer: _arrived(answer, known, percent), what, unless=lambda: refuse_what_was_taken_back(book)
    )
    if "since" not in note:
        note = book.note(stage, since=time.time())
        say(f"{stage}: {said['candidate']['name']} is in {stage}")
    seen = _seen(said)
    course = Course(log, note["since"], known)
    with (
        pods_coming(settings.replay, book.folder / stage, say) as look_after,
        track(console, stage, wanted.pods) as tracker,
    ):
        while not refused_by_extender(seen, wanted.failures):
            course.look()
            count = course.shadowed if stage == SHADOW else course.answered
            tracker.update(min(count, wanted.pods - 1), f"{seen['failures']} failures")
            if enough(course):
                tracker.update(wanted.pods)
                return course, seen, True
            if time.time() - note["since"] > wanted.limit_seconds:
                break
            look_after()
            time.sleep(LOOK_SECONDS)
            seen = _ask(extender, seen, known)
            refuse_what_was_taken_back(book)  # then it is no verdict on the candidate that it is gone
    return course, seen, False


def _arrived(answer: dict[str, Any], candidate: str, percent: float) -> bool:
    """Whether the extender tries what it should; also when it has refused it, which is looked at afterwards.

    What it says of another candidate, before it has looked at the file again, counts for nothing.
    """
    tried = answer["candidate"]
    if tried is None:
        return False
    lying, refusal = lying_name(candidate), str(tried["last_refusal"] or "")
    # One that goes on running beside a refused file is what is named: then the refusal names the file.
    refused = bool(refusal) and (is_named(tried, lying) or lying.removesuffix(".onnx") in refusal)
    return refused or (tried["digest"] == candidate and float(tried["percent"]) == percent)


def _ask(extender: Extender, before: dict[str, Any], candidate: str) -> dict[str, Any]:
    """What the extender says now; what it said before while it does not answer, as when it is started again."""
    try:
        answer = extender.policy()
    except CycleError:
        return before
    tried = answer.get("candidate")
    if tried is None or (tried["digest"] and tried["digest"] != candidate):
        return before | {"refusal": "the candidate file was removed or replaced by somebody else"}
    now = _seen(answer)
    # Its counts begin anew when it is started again.
    return now | {"failures": max(now["failures"], before["failures"])}


def _seen(answer: dict[str, Any]) -> dict[str, Any]:
    tried = answer["candidate"]
    return {
        "incumbent": answer.get("digest", ""),
        "failures": int(tried["failures"]),
        "refusal": tried["last_refusal"],
        "agreement_by_extender": tried["agreement"],
    }


def _conclude(book: Book, figures: dict[str, Any], reasons: list[str], in_time: bool, said: str) -> Found:
    """The step's end; a candidate that is refused, or that too few pods came for, is withdrawn."""
    if reasons:
        withdraw(book)
        return Found(Verdict.REFUSED, f"refused and withdrawn: {'; '.join(reasons)}", figures)
    if not in_time:
        withdraw(book)
        return Found(Verdict.UNDECIDED, f"withdrawn: too few pods came in time ({said})", figures)
    return Found(Verdict.DONE, said, figures)


def _disagreement(agreement: float | None, wanted: ShadowSettings) -> list[str]:
    if wanted.agreement == 0 or (agreement is not None and agreement >= wanted.agreement):
        return []
    return [f"{_agreed(agreement)}, at least {100 * wanted.agreement:g} % are wanted"]


def _agreed(agreement: float | None) -> str:
    if agreement is None:
        return "none of which can be compared"
    return f"{100 * agreement:.1f} % of which it would have sent where the incumbent did"


def _told(waits: dict[str, float | None]) -> str:
    if waits["difference"] is None:
        return "as long as nobody knows, as there are none of the others"
    text = f"{waits['candidate']:.1f} s against {waits['others']:.1f} s of the others"
    return (
        text
        if waits["low"] is None
        else f"{text} ({waits['difference']:+.1f} s [{waits['low']:+.1f}, {waits['high']:+.1f}])"
    )
