"""Verdicts for tests, as `training.monitor` writes them."""

import os
import time
from pathlib import Path

import msgspec

from extender.telemetry.verdict import VERSION, Interval, Verdict


def verdict_of(policy: str, **changes: object) -> Verdict:
    """A verdict of now that finds nothing wrong with the policy, but for the changes."""
    return msgspec.structs.replace(
        Verdict(
            version=VERSION,
            written=time.time(),
            valid_until=time.time() + 3600,
            policy=policy,
            fallback="least-allocated",
            worse=False,
            reason="waits are shorter",
            periods=7,
            best_heuristic="best-fit",
            wait_seconds={"observed": 31.0, "policy": 30.0, "fallback": 40.0, "best": 35.0},
            gpu_allocation={"observed": 0.5, "policy": 0.75},
            regret_seconds=Interval(-5.0, -7.0, -3.0),
            drift={"cpu": 0.05, "duration": 0.5},
        ),
        **changes,
    )


def worse_for(seconds: float, policy: str, **changes: object) -> Verdict:
    """A verdict that the policy has been worse for so long."""
    return verdict_of(policy, worse=True, worse_since=time.time() - seconds, reason="waits are longer", **changes)


def put_verdict(path: Path, verdict: Verdict) -> None:
    """Write it whole, as the monitor does."""
    partial = path.with_suffix(".partial")
    partial.write_bytes(msgspec.json.encode(verdict))
    os.replace(partial, path)
