"""How a policy comes into service, and goes out of it again, while pods are being scheduled.

The policy file is looked at every few seconds. Another file in its place is loaded, verified and warmed up in a thread,
and scores what was asked about lately beside the policy in service; only then, between two requests, it takes over. A
file that cannot be served, or not in time, changes nothing; why is logged and shown at GET /policy. POST /rollback
brings back the policy before. A policy that `outcome` finds to do worse than the rule behind it is stepped down from:
the rule answers alone, until another policy comes or POST /resume brings this one back.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from extender.decision import Step
from extender.policies.base import PolicyError
from extender.server.candidate import Candidate
from extender.server.examination import examine, look
from extender.server.policy import ServedPolicy
from extender.server.scoring import Scorer
from extender.server.trial import among
from extender.settings import HEURISTIC_PREFIX

log = logging.getLogger(__name__)


class Swap(StrEnum):
    """What became of a policy file."""

    SERVED = "served"
    REFUSED = "refused"
    ROLLED_BACK = "rolled_back"
    STEPPED_DOWN = "stepped_down"
    RESUMED = "resumed"


class NothingToRollBackError(Exception):
    """There was no policy before this one since the start."""


class NotSteppedDownError(Exception):
    """The policy is in service: there is nothing to bring back."""


class Down(NamedTuple):
    """A policy that was stepped down from; `since` in Unix seconds, `answering` is the rule in its place."""

    since: float
    reason: str
    answering: str


def steers(mode: str, canary_percent: float) -> Callable[[str], bool]:
    """Whether kube-scheduler is told the answer for a pod, by the pod's uid.

    Example:
        >>> canary = steers("canary", 25.0)
        >>> sum(canary(f"uid-{number}") for number in range(10_000)) // 100
        24
    """
    if mode != "canary":
        return lambda uid: mode == "active"
    return among(canary_percent, "mode")


class Rollout:
    """Which policy is in service."""

    def __init__(
        self,
        served: ServedPolicy,
        path: Path | None,
        scorer: Scorer,
        ladder_of: Callable[[ServedPolicy], Sequence[Step]],
        score_seconds: float,
        report: Callable[[Swap, ServedPolicy], None],
        candidate: Candidate | None = None,
    ) -> None:
        """Begin with the policy that is in service.

        Args:
            served: the policy.
            path: its file; None for a rule, of which there is no other version.
            scorer: what it is in service of.
            ladder_of: a policy and what stands behind it.
            score_seconds: how long a policy may take to score what was asked about lately, each.
            report: told of every change, with the policy in service then.
            candidate: what may be tried beside it, if anything may.
        """
        self._served = served
        self._before: ServedPolicy | None = None
        self._path = path
        self._seen = look(path)
        self._filed = served.digest
        self._scorer = scorer
        self._ladder_of = ladder_of
        self._score_seconds = score_seconds
        self._report = report
        self._candidate = candidate
        self._since = time.time()
        self._refusal = ""
        self._agreement: float | None = None
        self._down: Down | None = None

    @property
    def served(self) -> ServedPolicy:
        """The policy in service, also while the rule behind it answers in its place."""
        return self._served

    @property
    def rolled_back(self) -> bool:
        """Whether the file holds another policy than the one in service, which a restart would serve."""
        return self._served.digest != self._filed

    @property
    def down(self) -> Down | None:
        """Since when and why the rule behind the policy answers in its place, if it does."""
        return self._down

    async def watch(self, poll_seconds: float) -> None:
        """Look at the file, and at that of the candidate, again and again, until cancelled."""
        while self._path is not None or self._candidate is not None:
            for review in (self._review_candidate, self.review):
                try:
                    await review()
                except Exception:  # a mistake of ours must not end the watch
                    log.exception("policy files were not looked at, because of an error in the extender")
            await asyncio.sleep(poll_seconds)

    async def _review_candidate(self) -> None:
        if self._candidate is not None:
            await self._candidate.review(self._served.policy)

    async def review(self) -> None:
        """Take another file into service, if there is one and it can be served."""
        seen = look(self._path)
        if self._path is None or seen is None or seen == self._seen:
            return  # a file that is gone is about to be replaced, or will be missed at the next start
        self._seen = seen
        sample = self._scorer.sample()
        try:
            served, agreement = await asyncio.to_thread(
                examine, self._path, self._scorer, self._served.policy, sample, self._score_seconds
            )
            ladder = self._ladder_of(served)
        except PolicyError as error:
            self._refusal = str(error)
            log.error("policy %s stays in service, its file is not taken: %s", self._served.name, error)
            self._report(Swap.REFUSED, self._served)
            return
        self._filed = served.digest
        if served.digest == self._served.digest:
            self._refusal = ""  # what was refused is no longer there
            return
        self._agreement = agreement
        self._put_in_service(served, ladder, Swap.SERVED)

    def roll_back(self) -> None:
        """Put the policy before back into service; its file is not touched, so a restart serves what is there.

        Raises:
            NothingToRollBackError: there is none.
        """
        if self._before is None:
            raise NothingToRollBackError(
                f"{self._served.name} has been in service since the start: no policy before it"
            )
        self._agreement = None
        self._put_in_service(self._before, self._ladder_of(self._before), Swap.ROLLED_BACK)

    def step_down(self, reason: str, since: float | None = None) -> None:
        """Let the rule behind the policy answer alone.

        Args:
            reason: for people.
            since: Unix seconds, where it was so before a restart; else from now on.
        """
        behind = self._ladder_of(self._served)[1:]
        rule = behind[0].rater.name
        self._down = Down(time.time() if since is None else since, reason, rule)
        self._scorer.serve(behind, f"{HEURISTIC_PREFIX}{rule}")
        served = self._served
        log.error("policy %s (%s) is stepped down from, %s answers: %s", served.name, served.digest, rule, reason)
        self._report(Swap.STEPPED_DOWN, self._served)

    def resume(self) -> None:
        """Put the policy back into service that was stepped down from.

        Raises:
            NotSteppedDownError: it is in service.
        """
        if self._down is None:
            raise NotSteppedDownError(f"{self._served.name} was not stepped down from: there is nothing to resume")
        self._down = None
        self._scorer.serve(self._ladder_of(self._served), self._served.digest)
        log.info("policy %s (%s) is in service: %s", self._served.name, self._served.digest, Swap.RESUMED)
        self._report(Swap.RESUMED, self._served)

    def describe(self) -> dict[str, Any]:
        """What is in service, for people."""
        return {
            "name": self._served.name,
            "digest": self._served.digest,
            "since": self._since,
            "before": self._before.digest if self._before is not None else None,
            "agreement_with_before": self._agreement,
            "last_refusal": self._refusal,
            "stepped_down": self._down._asdict() if self._down is not None else None,
            "candidate": self._candidate.describe() if self._candidate is not None else None,
        }

    def _put_in_service(self, served: ServedPolicy, ladder: Sequence[Step], swap: Swap) -> None:
        self._before, self._served, self._down = self._served, served, None
        self._since, self._refusal = time.time(), ""
        self._scorer.serve(ladder, served.digest)
        log.info("policy %s (%s) is in service: %s", served.name, served.digest, swap)
        self._report(swap, served)
