"""Which policy is tried beside the one in service, as a small file says: `{"policy": "candidate.onnx", "percent": 5}`.

The file need not be there: then nothing is tried. It is looked at as often as the policy file, so putting it there,
replacing it and removing it are the steps of a trial, and a restart goes on where it was. With percent 0 the candidate
is in shadow, else it answers for that share of the pods (`trial`). It is examined as a policy file that is to take over
is; what cannot be tried changes nothing, and GET /policy says why.
"""

import asyncio
import logging
import time
from pathlib import Path
from typing import Annotated, Any

import msgspec

from extender.policies.base import Policy, PolicyError
from extender.policies.bundled import PREFIX, policy_path
from extender.server.examination import Seen, examine, look
from extender.server.policy import ServedPolicy
from extender.server.scoring import Scorer
from extender.server.trial import Change, Limits, Tally, Trial, Ways

log = logging.getLogger(__name__)


class Wanted(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What the file says.

    Attributes:
        policy: a file, its path from the folder of this one, or bundled:NAME.
        percent: of the pods that it answers for.
    """

    policy: Annotated[str, msgspec.Meta(pattern=r"^[^\x00]+$")]
    percent: Annotated[float, msgspec.Meta(ge=0, le=100)]


class Candidate:
    """The policy that is tried beside the one in service, if there is one."""

    def __init__(self, path: Path, scorer: Scorer, limits: Limits, ways: Ways) -> None:
        """Try nothing yet.

        Args:
            path: of the file that says what to try.
            scorer: what asks the candidate.
            limits: what it is held to.
            ways: how what comes of the trial gets out of it.
        """
        self._path = path
        self._scorer = scorer
        self._limits = limits
        self._ways = ways
        self._seen: Seen | None = None  # the file
        self._wanted: tuple[Wanted, Path] | None = None  # what it says, and which policy that is
        self._examined: tuple[Seen, Seen | None] | None = None  # the file, and the policy, that were done last
        self._loaded: tuple[Path, Seen | None] | None = None  # what the trial's policy was read from
        self._trial: Trial | None = None
        self._since = 0.0
        self._refusal = ""
        for change in Change:
            ways.metrics.candidate_changes.labels(change)

    @property
    def hung(self) -> int:
        """Computations of a candidate that were given up and have not ended."""
        return self._trial.hung if self._trial is not None else 0

    async def review(self, in_service: Policy) -> None:
        """Do what the file says, if it says something else than before.

        Args:
            in_service: the policy beside which one is tried.
        """
        self._let_go_if_withdrawn()
        seen = look(self._path)
        if seen is None:
            self._end()
            return
        if seen != self._seen:
            self._refusal = ""  # of what the file said before
            self._seen, self._wanted = seen, self._read()
        if self._wanted is None:
            return
        wanted, path = self._wanted
        found = look(path)
        gone = found is None and self._loaded is not None and self._loaded[0] == path
        if (seen, found) == self._examined or gone:  # a policy that is gone is about to be replaced
            return
        self._examined = seen, found
        try:
            await self._try(wanted.percent, path, found, in_service)
        except PolicyError as error:
            self._refuse(str(error))

    def describe(self) -> dict[str, Any] | None:
        """What is tried, for people; None if there is no file."""
        if self._seen is None:
            return None
        shown = {"name": self._wanted[0].policy if self._wanted is not None else "", "digest": ""}
        stage, percent, tally, why = "refused" if self._refusal else "loading", 0.0, Tally(), self._refusal
        if self._trial is not None:
            trial, tally = self._trial, self._trial.tally
            shown = {"name": trial.served.name, "digest": trial.digest}
            if trial.withdrawn:
                stage, why = "withdrawn", why or trial.withdrawn
            else:
                stage, percent = "canary" if trial.percent > 0 else "shadow", trial.percent
        return shown | {
            "stage": stage,
            "percent": percent,
            "since": self._since,
            "answered": tally.answered,
            "shadowed": tally.shadowed,
            "failures": tally.failures,
            "agreement": tally.agreement,
            "last_refusal": why,
        }

    def stop(self) -> None:
        """Try nothing any more."""
        self._scorer.try_beside(None)
        if self._trial is not None:
            self._trial.stop()

    def _read(self) -> tuple[Wanted, Path] | None:
        try:
            wanted = msgspec.json.decode(self._path.read_bytes(), type=Wanted)
            bundled = wanted.policy.startswith(PREFIX)
            return wanted, policy_path(wanted.policy) if bundled else self._path.parent / wanted.policy
        except (OSError, msgspec.DecodeError, UnicodeDecodeError, PolicyError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            self._refuse(f'{self._path}: {reason}; expected {{"policy": FILE, "percent": 0 to 100}}')
            return None

    async def _try(self, percent: float, path: Path, found: Seen | None, in_service: Policy) -> None:
        running = self._trial if self._trial is not None and not self._trial.withdrawn else None
        if running is not None and self._loaded == (path, found):
            self._begin(running.served, percent, running)
            return
        served, _ = await asyncio.to_thread(
            examine, path, self._scorer, in_service, self._scorer.sample(), self._limits.score_seconds
        )
        self._loaded = path, found
        same = running is not None and running.digest == served.digest
        self._begin(served, percent, running if same else None)

    def _begin(self, served: ServedPolicy, percent: float, before: Trial | None) -> None:
        """Take the candidate to a stage; `before` is its trial so far, which may be at this stage already."""
        self._refusal = ""
        if before is not None and before.percent == percent:
            return
        trial = Trial(served, percent, before.tally if before is not None else Tally(), self._limits, self._ways)
        self._scorer.try_beside(trial)
        if self._trial is not None:
            self._trial.stop()
        self._trial, self._since = trial, time.time()
        self._show(served, percent)
        self._ways.metrics.candidate_changes.labels(Change.BEGUN).inc()
        answers = f"answers for {percent:g} % of the pods" if percent > 0 else "is in shadow"
        log.info("candidate %s (%s) %s", served.name, served.digest, answers)

    def _refuse(self, reason: str) -> None:
        self._refusal = reason
        if self._trial is None:
            self._since = time.time()
        self._ways.metrics.candidate_changes.labels(Change.REFUSED).inc()
        log.error("candidate is not tried: %s", reason)

    def _let_go_if_withdrawn(self) -> None:
        """Nothing asks it any more; its thread and what it keeps can go."""
        if self._trial is not None and self._trial.withdrawn:
            self.stop()
            self._show(None, 0.0)

    def _end(self) -> None:
        if self._seen is None:
            return
        self._seen = self._wanted = self._examined = None
        self._refusal = ""
        if self._trial is not None:
            self.stop()
            self._ways.metrics.candidate_changes.labels(Change.ENDED).inc()
            log.info("candidate %s (%s) is tried no more", self._trial.served.name, self._trial.digest)
        self._trial = self._loaded = None
        self._show(None, 0.0)

    def _show(self, served: ServedPolicy | None, percent: float) -> None:
        self._ways.metrics.candidate_info.clear()
        if served is not None:
            self._ways.metrics.candidate_info.labels(served.name, served.digest).set(1)
        self._ways.metrics.candidate_percent.set(percent)
