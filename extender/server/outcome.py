"""The outcome watch: whether the policy in service does worse than the heuristic, and stepping down if so for long.

Simulating what a heuristic would have made of the same pods takes what the extender does not have. `training.monitor`
does it, elsewhere, and leaves a verdict in a file, which is looked at here every few seconds and shown in the metrics
and at GET /policy. A verdict counts if it is about the policy in service and the fallback behind it, and not too old.

What makes the extender step down is in the file alone: since when all verdicts have said "worse". That it has done so
is kept in a file of its own (`stepped_down`), so that a restart changes nothing, whatever became of the verdict. Both
are looked at before the first pod is asked about, and there also an old verdict counts, as nothing has been said
against it since. Nothing that is read here brings a policy back up: another policy does, or POST /resume.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec

from extender.server.rollout import Rollout
from extender.server.stepped_down import SteppedDown, SteppedDownFile
from extender.telemetry.metrics import Metrics
from extender.telemetry.verdict import Verdict, VerdictError, read_verdict

log = logging.getLogger(__name__)


class Standing(StrEnum):
    """What a verdict file has to say about the policy in service."""

    ABSENT = "absent"  # there is no file
    UNREADABLE = "unreadable"  # it is torn, or no verdict
    OTHER_POLICY = "other_policy"  # it is about another policy
    OTHER_FALLBACK = "other_fallback"  # it compares with another heuristic than the one behind the policy
    EXPIRED = "expired"  # it is too old
    FINE = "fine"  # the policy does not do worse
    WORSE = "worse"  # it does


class OutcomeWatch:
    """Looks at the verdict file, tells the rollout to step down, and keeps that it has."""

    def __init__(
        self,
        path: Path,
        step_down_after: float,
        rollout: Rollout,
        fallback: str,
        metrics: Metrics,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Know nothing yet; `review` looks.

        Args:
            path: the verdict file, which need not exist.
            step_down_after: seconds of verdicts without a break that say "worse"; 0: never step down.
            rollout: of the policy.
            fallback: the heuristic behind it.
            metrics: where it is shown.
            clock: Unix seconds.
        """
        self._path = path
        self._kept = SteppedDownFile(path)
        self._step_down_after = step_down_after
        self._rollout = rollout
        self._fallback = fallback
        self._metrics = metrics
        self._clock = clock
        self._verdict: Verdict | None = None
        self._unreadable = ""
        self._standing = Standing.ABSENT
        self._resumed = float("-inf")
        metrics.outcome_age.set_function(self._age)
        self._show()

    async def watch(self, poll_seconds: float) -> None:
        """Look at the file again and again, until cancelled."""
        while True:
            await asyncio.sleep(poll_seconds)
            try:
                self._take(*await asyncio.to_thread(_read, self._path))
                await asyncio.to_thread(self._keep)
            except Exception:  # a mistake of ours must not end the watch
                log.exception("the verdict in %s was not taken in, because of an error in the extender", self._path)

    def begin(self) -> None:
        """Look before the first pod is asked about; an old verdict stands until another one is written."""
        before = self._kept.read()
        if before is not None and before.policy == self._rollout.served.digest and self._step_down_after > 0:
            self._rollout.step_down(before.reason, before.since)
        self._take(*_read(self._path))
        verdict = self._verdict
        if self._standing is Standing.EXPIRED and verdict is not None:
            self._step_down_if_due(verdict, self._said_worse_for(verdict))
        self._keep()

    def resume(self) -> None:
        """Put the policy back that was stepped down from; what verdicts said until now no longer counts.

        Raises:
            NotSteppedDownError: it is in service.
        """
        self._rollout.resume()
        self._keep()  # before it is answered that the policy is back
        self._resumed = self._clock()
        self._show()

    def describe(self) -> dict[str, Any]:
        """What the verdict is and whether it counts, for people."""
        standing, why = self._judge()
        return {
            "file": str(self._path),
            "standing": standing,
            "why": why,
            "step_down_after": self._step_down_after,
            "worse_seconds": self._worse_seconds(),
            "verdict": msgspec.to_builtins(self._verdict) if self._verdict is not None else None,
        }

    def _take(self, verdict: Verdict | None, problem: str) -> None:
        before = self._standing
        self._verdict, self._unreadable = verdict, problem
        self._standing, why = self._judge()
        if self._standing is not before:
            level = logging.WARNING if self._standing in (Standing.WORSE, Standing.UNREADABLE) else logging.INFO
            log.log(level, "verdict on policy %s is %s: %s", self._rollout.served.name, self._standing, why or "-")
        if verdict is not None and self._standing is Standing.WORSE:
            self._step_down_if_due(verdict, self._worse_seconds())
        self._show()

    def _judge(self) -> tuple[Standing, str]:
        """What the verdict says of the policy that is in service now, and why."""
        verdict, in_service = self._verdict, self._rollout.served.digest
        if verdict is None:
            return (Standing.UNREADABLE if self._unreadable else Standing.ABSENT), self._unreadable
        if verdict.policy != in_service:
            return Standing.OTHER_POLICY, f"it is about {verdict.policy}, in service is {in_service}"
        if verdict.fallback != self._fallback:
            return Standing.OTHER_FALLBACK, f"it compares with {verdict.fallback}, the fallback is {self._fallback}"
        if self._clock() > verdict.valid_until:
            late = self._clock() - verdict.valid_until
            return Standing.EXPIRED, f"it has not counted for {late:.0f} s, and nothing newer was written"
        return (Standing.WORSE if verdict.worse else Standing.FINE), verdict.reason

    def _step_down_if_due(self, verdict: Verdict, worse_seconds: float) -> None:
        if self._step_down_after > 0 and worse_seconds >= self._step_down_after and self._rollout.down is None:
            self._rollout.step_down(
                f"worse than {verdict.fallback} for {worse_seconds:.0f} s by the verdicts in {self._path}: "
                f"{verdict.reason}"
            )

    def _keep(self) -> None:
        """Have the next start know what it has to of the policy that it will find in the policy file."""
        if self._rollout.rolled_back:
            return  # that is not the one in service, and what was kept of it still holds
        digest, down = self._rollout.served.digest, self._rollout.down
        self._kept.keep(SteppedDown(digest, down.since, down.reason) if down is not None else None)

    def _worse_seconds(self) -> float:
        verdict = self._verdict
        if self._standing is not Standing.WORSE or verdict is None:
            return 0.0
        return self._said_worse_for(verdict)

    def _said_worse_for(self, verdict: Verdict) -> float:
        """Up to the last verdict, as none has said so since: a single one says so for no time at all."""
        if verdict.worse_since is None:
            return 0.0
        return max(0.0, verdict.written - max(verdict.worse_since, self._resumed))

    def _age(self) -> float:
        return self._clock() - self._verdict.written if self._verdict is not None else float("nan")

    def _show(self) -> None:
        for standing in Standing:
            self._metrics.outcome_standing.labels(standing).set(standing is self._standing)
        self._metrics.outcome_worse.set(self._worse_seconds())
        counts = self._standing in (Standing.FINE, Standing.WORSE)
        self._metrics.show_verdict(self._verdict if counts else None)


def _read(path: Path) -> tuple[Verdict | None, str]:
    """The verdict, and why there is none where there is a file."""
    try:
        return read_verdict(path), ""
    except VerdictError as error:
        return None, str(error)
