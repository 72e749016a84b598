"""What a run came to, kept in a file of its own, so that an interrupted replay goes on where it was.

A file belongs to one load, scheduler and seed of one plan; the plan's digest is in it, and a folder with results of
another plan is refused rather than mixed. It holds what happened to each pod; metrics are computed anew, so they may be
others than when it was played (another warm-up, other promised waits, the simulator beside it). The cluster is noted
beside the plan and not in its digest, because none need be there to look at kept runs again.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from training.evaluation.metrics import EpisodeResult
from training.evaluation.report import write_whole
from training.replay.api import Origin
from training.replay.limits import Limits
from training.replay.play import Played
from training.replay.records import Records

FOLDER = "runs"


class OtherPlanError(Exception):
    """The folder holds results of another replay; the message says where."""


@dataclass(frozen=True)
class Compared:
    """A run beside the simulator's.

    Attributes:
        policy: what the simulator played.
        warm_up: share of the pods that is not counted.
        decisions: how many decisions of a policy were looked at, and how many agreed: while nobody waited, and while
            others did; all 0 for a rule, which decides among equals at random.
        real: metrics of the run, by key, less what pods wait that find room at once.
        simulated: for each time that the simulator played, metrics by key.
    """

    policy: str
    warm_up: float
    decisions: tuple[int, int, int, int]
    real: dict[str, float]
    simulated: list[dict[str, float]]


@dataclass(frozen=True)
class Kept:
    """A run as it is kept: what happened, from which everything else is computed.

    Attributes:
        played: what happened.
        seconds: of the machine that it took, with its clearing away.
        compared: with the simulator, where that was asked for; it takes longer than to read it.
        origin: the cluster in which it was played; None for a run of before that was noted.
    """

    played: Played
    seconds: float
    compared: Compared | None
    origin: Origin | None


@dataclass(frozen=True)
class RunResult:
    """One scheduler on one workload.

    Attributes:
        episode: metrics, as any evaluation has them; its policy is the scheduler's name.
        limits: of the harness.
        kept: what they were computed from.
    """

    episode: EpisodeResult
    limits: Limits
    kept: Kept


def digest_of(plan: Mapping[str, Any]) -> str:
    """Tells plans apart."""
    return hashlib.sha256(json.dumps(plan, sort_keys=True, default=str).encode()).hexdigest()[:16]


def file_of(folder: Path, load: float, scheduler: str, seed: int) -> Path:
    """Where a run's result is kept."""
    return folder / FOLDER / f"{scheduler}-load-{load:g}-seed-{seed}.json"


def save(folder: Path, digest: str, load: float, scheduler: str, seed: int, kept: Kept) -> None:
    """Keep a run; the file appears whole. Raises OSError."""
    played, compared = kept.played, kept.compared
    content = {
        "plan": digest,
        "cluster": kept.origin and kept.origin._asdict(),
        "seconds": kept.seconds,
        "end": played.end,
        "interruptions": played.interruptions,
        "throttled": played.throttled,
        "repeated": played.repeated,
        "compared": None
        if compared is None
        else {
            **asdict(compared),
            "real": nullable(compared.real),
            "simulated": [nullable(each) for each in compared.simulated],
        },
        "records": played.records.to_json(),
    }
    write_whole({file_of(folder, load, scheduler, seed): json.dumps(content, allow_nan=False) + "\n"})


def span(folder: Path) -> tuple[float, float]:
    """When the first pod of the runs that are kept in a folder was sent, and when the last of them was kept.

    The pod that the cluster was tried out with belongs to no run, nor do those of a replay that was killed.

    Returns:
        both in Unix seconds.
    """
    files = list((folder / FOLDER).iterdir())
    sent = [json.loads(file.read_text(encoding="utf-8"))["records"]["sent_wall"] for file in files]
    return min(at for run in sent for at in run if at is not None), max(file.stat().st_mtime for file in files)


def load(folder: Path, digest: str, load: float, scheduler: str, seed: int) -> Kept | None:
    """A run that was played before, None where it was not.

    Raises:
        OtherPlanError: there is one, of another plan, or it cannot be read.
    """
    path = file_of(folder, load, scheduler, seed)
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise OtherPlanError(f"{path}: not a run of a replay: {error}") from error
    if not isinstance(content, dict) or content.get("plan") != digest:
        raise OtherPlanError(
            f"{path} was played with other settings (nodes, pods, speed, workload, …): give another --out, or remove it"
        )
    compared = content["compared"]
    return Kept(
        Played(
            Records.from_json(content["records"]),
            *(content[name] for name in ("end", "interruptions", "throttled", "repeated")),
        ),
        content["seconds"],
        compared
        and Compared(
            compared["policy"],
            compared["warm_up"],
            tuple(compared["decisions"]),
            _numbers(compared["real"]),
            [_numbers(each) for each in compared["simulated"]],
        ),
        Origin(**content["cluster"]) if content.get("cluster") else None,
    )


def refuse_other_clusters(kept: Iterable[Kept], origin: Origin) -> None:
    """See that runs can stand beside those that are about to be played; a run that does not say where it was can.

    Raises:
        OtherPlanError: one was played in another cluster.
    """
    for run in kept:
        if run.origin is not None and run.origin.uid != origin.uid:
            raise OtherPlanError(
                f"runs that were kept were played in another cluster ({run.origin.address}) than the one in which the "
                f"rest would be ({origin.address}): give another --out, or choose that cluster"
            )


def told_of(kept: Sequence[Kept]) -> str:
    """When and where runs were played, for people: from the first pod sent to the last, in UTC."""
    sent = np.concatenate([run.played.records.sent_wall for run in kept])
    begin, end = (datetime.fromtimestamp(at, UTC) for at in (np.nanmin(sent), np.nanmax(sent)))
    where = dict.fromkeys(run.origin.address if run.origin else "a cluster that they do not name" for run in kept)
    until = f"{end:%H:%M}" if begin.date() == end.date() else f"{end:%Y-%m-%d %H:%M}"
    return f"from {begin:%Y-%m-%d %H:%M} to {until} UTC, in {' and '.join(where)}"


def nullable(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """Metrics as JSON can have them."""
    return {name: None if value != value else value for name, value in metrics.items()}


def _numbers(metrics: Mapping[str, float | None]) -> dict[str, float]:
    return {name: float("nan") if value is None else value for name, value in metrics.items()}


def by_scheduler(results: Sequence[RunResult]) -> dict[tuple[float, str], list[RunResult]]:
    """The results of each load and scheduler, in the order in which they are given."""
    groups: dict[tuple[float, str], list[RunResult]] = {}
    for result in results:
        groups.setdefault((result.episode.load, result.episode.policy), []).append(result)
    return groups
