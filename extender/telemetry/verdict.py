"""The verdict on the policy in service: what `training.monitor` found out about it and the extender shows and heeds.

A JSON file, written whole or not at all. The extender cannot simulate, so whoever writes it says with numbers how the
policy did and in `worse` whether that is enough to step down; `server.outcome` decides whether the verdict counts here.
"""

import math
from pathlib import Path

import msgspec

VERSION = 1
MAX_BYTES = 1024 * 1024


class VerdictError(Exception):
    """There is a file, but no verdict in it; the message says why."""


class Interval(msgspec.Struct, frozen=True):
    """A mean and its confidence interval."""

    mean: float
    low: float
    high: float


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """How the policy in service did.

    Attributes:
        version: of this format.
        written: Unix seconds.
        valid_until: Unix seconds after which it says nothing any more.
        policy: SHA-256 of the policy file, or "heuristic:NAME".
        fallback: the heuristic that it was compared with to say whether it is worse.
        worse: whether it does worse than that heuristic.
        worse_since: Unix seconds since when all verdicts have said so, None where this one does not.
        reason: the same in words.
        periods: how many periods were compared.
        best_heuristic: the one with the shortest mean wait in these periods.
        wait_seconds: mean wait of the pods by whose it is: "observed", and simulated "policy", "fallback" and "best".
        gpu_allocation: share of the GPUs that are in use, by the same; empty for clusters without GPUs.
        regret_seconds: simulated mean wait of the policy minus that of the best heuristic, None where it is not known.
        drift: how far the pods are from those of the training, an index by feature (population stability index).
    """

    version: int
    written: float
    valid_until: float
    policy: str
    fallback: str
    worse: bool
    worse_since: float | None = None
    reason: str = ""
    periods: int = 0
    best_heuristic: str = ""
    wait_seconds: dict[str, float] = {}
    gpu_allocation: dict[str, float] = {}
    regret_seconds: Interval | None = None
    drift: dict[str, float] = {}


def read_verdict(path: Path) -> Verdict | None:
    """The verdict in the file; None where there is no file.

    Raises:
        VerdictError: the file cannot be read, or is no verdict; the message says what is wrong.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise VerdictError(f"{path}: cannot be read: {error.strerror}") from error
    if len(content) > MAX_BYTES:
        raise VerdictError(f"{path}: more than {MAX_BYTES} bytes, which no verdict has")
    try:
        verdict = msgspec.json.decode(content, type=Verdict)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise VerdictError(f"{path}: {error}; was it written by `python -m training.monitor`?") from error
    if verdict.version != VERSION:
        raise VerdictError(f"{path}: version is {verdict.version}, this extender reads {VERSION}")
    if verdict.worse and verdict.worse_since is None:
        raise VerdictError(f"{path}: worse is true, but worse_since does not say since when")
    regret = verdict.regret_seconds
    figures = [verdict.written, verdict.valid_until, verdict.worse_since or 0.0, *verdict.wait_seconds.values()]
    figures += [*verdict.gpu_allocation.values(), *verdict.drift.values()]
    figures += [] if regret is None else [regret.mean, regret.low, regret.high]
    if not all(map(math.isfinite, figures)):
        raise VerdictError(f"{path}: a figure in it is not finite")
    return verdict
