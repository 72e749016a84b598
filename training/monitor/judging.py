"""From what happened, and what was simulated, to a verdict that the extender can step down by.

The same recorded pods are played under the policy and under rules; what is compared is simulated with simulated, paired
by period, so that a simulator that is wrong about a cluster is wrong on both sides. How wrong it is is told beside it:
what was observed against what was simulated for the policy.

*Worse* is meant in the mean wait and against the extender's own fallback, as that is what stepping down leads to: over
enough periods the interval of the difference has to lie above 0, and the difference above a margin that is worth the
trouble. *Regret* is the difference to the best of all rules. That one is chosen by the same periods, which flatters it:
regret is a little too high, the more so the more rules are compared.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from extender.telemetry.verdict import VERSION, Interval, Verdict
from training.evaluation.report import HEADLINE
from training.evaluation.runner import Evaluation
from training.evaluation.statistics import Comparison, mean_intervals
from training.monitor.observed import Experience
from training.workloads.distribution import Drift, Level
from training.workloads.periods import Period

ALLOCATION = "gpu_allocation"


@dataclass(frozen=True)
class Judged:
    """What was judged.

    Attributes:
        policy: name of the policy among the contenders.
        digest: SHA-256 of its file, or "heuristic:NAME".
        fallback: the rule behind it in the extender.
        periods: those that were played.
        midnight: what their times count from, Unix seconds.
        speed: how many of their seconds were one of the clock.
        experiences: what became of their pods.
        evaluation: what was simulated.
        drifts: of the pods, by feature; empty where it is not known what the policy was trained on.
    """

    policy: str
    digest: str
    fallback: str
    periods: Sequence[Period]
    midnight: float
    speed: float
    experiences: Sequence[Experience]
    evaluation: Evaluation
    drifts: Mapping[str, Drift]

    def clock(self, period: Period) -> float:
        """When a period began, Unix seconds."""
        return self.midnight + period.begin / self.speed

    @property
    def best(self) -> str:
        """The rule with the shortest mean wait in these periods."""
        others = [name for name in self.evaluation.policies if name != self.policy]
        return min(others, key=lambda name: self.evaluation.mean(name, HEADLINE))

    def against(self, rule: str) -> Comparison:
        """The policy's mean wait against a rule's."""
        (found,) = [
            entry for entry in self.evaluation.comparisons if entry.metric == HEADLINE and entry.baseline == rule
        ]
        return found

    def simulated(self, name: str, metric: str) -> list[float]:
        """A metric of a contender, by period."""
        return [result.metrics[metric] for result in sorted(self.evaluation.of(name), key=lambda each: each.seed)]

    def observed(self, metric: str) -> list[float]:
        """The same as it was observed."""
        return [each.mean_wait_seconds if metric == HEADLINE else each.gpu_allocation for each in self.experiences]

    def beyond_simulation(self) -> Interval | None:
        """Observed mean wait minus the one simulated for the policy, over the periods in which anything is known."""
        difference = np.array(self.observed(HEADLINE)) - np.array(self.simulated(self.policy, HEADLINE))
        return _interval(*mean_intervals(difference[None])[0].tolist())


@dataclass(frozen=True)
class Bar:
    """When a policy counts as worse.

    Attributes:
        least_periods: with fewer nothing is said; below 6 no test of pairs could reach 5 %.
        margin: share of the fallback's mean wait by which the policy's has to be longer.
    """

    least_periods: int
    margin: float


def is_worse(entry: Comparison, bar: Bar) -> tuple[bool, str]:
    """Whether the policy waits longer than the rule, and that in words."""
    spread = f"[{entry.difference_low:+.1f}, {entry.difference_high:+.1f}]"
    said = f"mean wait {entry.difference:+.1f} s {spread} against {entry.baseline} over {entry.pairs} periods"
    if entry.pairs < bar.least_periods:
        return False, f"too few periods to tell: {entry.pairs} of {bar.least_periods}"
    if not entry.difference_low > 0:
        return False, f"not worse: {said}"
    if entry.relative_difference <= bar.margin:  # not where it is NaN: the rule never waits, the policy does
        return False, f"not worse by more than {100 * bar.margin:g} %: {said}"
    return True, f"worse: {said}"


def verdict_of(judged: Judged, bar: Bar, now: float, valid_seconds: float, previous: Verdict | None) -> Verdict:
    """The verdict.

    Args:
        judged: what was found.
        bar: when a policy counts as worse.
        now: Unix seconds.
        valid_seconds: how long it counts.
        previous: the verdict before; where it said "worse" of the same policy and counted until now, this one goes on
            from there, also where there is too little to tell.
    """
    against = judged.against(judged.fallback)
    worse, reason = is_worse(against, bar)
    goes_on = (
        previous is not None
        and (previous.policy, previous.fallback) == (judged.digest, judged.fallback)
        and previous.worse_since is not None
        and now <= previous.valid_until
    )
    if goes_on and against.pairs < bar.least_periods:  # a log that begins anew speaks for nobody
        worse, reason = True, f"{reason}; the verdict before said that it is worse"
    since = None
    if worse:
        since = previous.worse_since if goes_on and previous is not None else now
    best = judged.best
    regret = judged.against(best)
    return Verdict(
        version=VERSION,
        written=now,
        valid_until=now + valid_seconds,
        policy=judged.digest,
        fallback=judged.fallback,
        worse=worse,
        worse_since=since,
        reason=reason,
        periods=len(judged.periods),
        best_heuristic=best,
        wait_seconds=_means(judged, HEADLINE),
        gpu_allocation=_means(judged, ALLOCATION),
        regret_seconds=_interval(regret.difference, regret.difference_low, regret.difference_high),
        drift={name: found.index for name, found in judged.drifts.items() if found.level is not Level.TOO_FEW},
    )


def summary(judged: Judged, verdict: Verdict) -> dict[str, Any]:
    """Everything that was found, for monitor.json; figures that there are not are null."""
    columns = {
        "observed_wait_seconds": judged.observed(HEADLINE),
        "policy_wait_seconds": judged.simulated(judged.policy, HEADLINE),
        "fallback_wait_seconds": judged.simulated(judged.fallback, HEADLINE),
        "best_wait_seconds": judged.simulated(judged.best, HEADLINE),
        "observed_gpu_allocation": judged.observed(ALLOCATION),
        "policy_gpu_allocation": judged.simulated(judged.policy, ALLOCATION),
    }
    beyond = judged.beyond_simulation()
    return {
        "verdict": {name: getattr(verdict, name) for name in verdict.__struct_fields__ if name != "regret_seconds"},
        "regret_seconds": _triple(verdict.regret_seconds),
        "observed_minus_simulated_seconds": _triple(beyond),
        "rules": {
            name: {
                "mean_wait_seconds": _known(judged.evaluation.mean(name, HEADLINE)),
                "gpu_allocation": _known(judged.evaluation.mean(name, ALLOCATION)),
                "policy_minus_rule_seconds": _known(judged.against(name).difference),
                "p_value_holm": _known(judged.against(name).p_value_holm),
            }
            for name in judged.evaluation.policies
            if name != judged.policy
        },
        "drift": {
            name: {"index": found.index, "chance": found.chance, "level": found.level, "pods": found.pods}
            for name, found in judged.drifts.items()
        },
        "periods": [
            {
                "begin": judged.clock(period),
                "seconds": period.end - period.begin,
                "pods": seen.pods,
                "answered": _known(seen.answered),
                "unknown": seen.unknown,
                **{name: _known(values[number]) for name, values in columns.items()},
            }
            for number, (period, seen) in enumerate(zip(judged.periods, judged.experiences, strict=True))
        ],
    }


def _means(judged: Judged, metric: str) -> dict[str, float]:
    found = {
        "observed": judged.observed(metric),
        "policy": judged.simulated(judged.policy, metric),
        "fallback": judged.simulated(judged.fallback, metric),
        "best": judged.simulated(judged.best, metric),
    }
    return {name: float(np.nanmean(values)) for name, values in found.items() if not np.isnan(values).all()}


def _interval(mean: float, low: float, high: float) -> Interval | None:
    return Interval(mean, low, high) if all(map(math.isfinite, (mean, low, high))) else None


def _triple(interval: Interval | None) -> dict[str, float] | None:
    return None if interval is None else {"mean": interval.mean, "low": interval.low, "high": interval.high}


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
