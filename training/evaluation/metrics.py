"""What an episode came to: waiting, slowdown and allocation, after the warm-up.

An empty cluster serves the first pods whatever the policy, so pods that arrive during the warm-up are not counted.
A pod that never started counts as waiting until the last event of the episode.
"""

from dataclasses import dataclass

import numpy as np

from extender.placement import GPU, WHOLE_DEVICE_MILLI
from training.simulator.event_loop import NOW, Episode
from training.workloads.base import FloatArray, Workload

CURVE_POINTS = 120
METRICS = {
    "mean_wait_seconds": "mean wait, s",
    "p95_wait_seconds": "95 % wait, s",
    "p99_wait_seconds": "99 % wait, s",
    "mean_wait_several_devices_seconds": "mean wait of pods with several GPUs, s",
    "mean_wait_others_seconds": "mean wait of all others, s",
    "mean_slowdown": "mean slowdown",
    "gpu_allocation": "GPU allocation",
    "unfinished": "pods that never started",
}
"""Every metric by its key in evaluation.json, with what a table calls it."""


@dataclass(frozen=True)
class EpisodeResult:
    """One episode of one policy.

    Attributes:
        policy: its name.
        load: offered load.
        seed: of the workload; results of one seed and load are paired.
        metrics: by the keys of `METRICS`; NaN where the episode had no such pod.
        waits: (P',) seconds, of the pods after the warm-up.
        allocation: (CURVE_POINTS,) share of the GPUs in use, at equal steps from the first to the last arrival.
    """

    policy: str
    load: float
    seed: int
    metrics: dict[str, float]
    waits: FloatArray
    allocation: FloatArray


def measure(
    policy: str, load: float, seed: int, workload: Workload, episode: Episode, samples: FloatArray, warm_up: float
) -> EpisodeResult:
    """Measure a finished episode.

    Args:
        policy: its name.
        load: offered load.
        seed: of the workload.
        workload: what was played.
        episode: in its final state.
        samples: (n, 2), the clock and the GPU seconds at each decision.
        warm_up: share of the pods that are not counted.
    """
    end = float(episode.clock[NOW])
    counted = slice(int(warm_up * len(workload)), None)
    started = episode.started
    waits = np.where(np.isnan(started), end, started)[counted] - workload.arrival[counted]
    several = workload.shapes.gpu_count[workload.shape[counted]] > 1
    slowdown = (waits + workload.duration[counted]) / workload.duration[counted]

    capacity = workload.allocatable[:, GPU].sum() / WHOLE_DEVICE_MILLI
    first, last = workload.arrival[counted][0], workload.arrival[-1]
    in_use = np.interp([first, last], samples[:, 0], samples[:, 1])
    grid = np.linspace(workload.arrival[0], last, CURVE_POINTS + 1)
    curve = np.diff(np.interp(grid, samples[:, 0], samples[:, 1])) / np.diff(grid) / max(capacity, 1)
    return EpisodeResult(
        policy=policy,
        load=load,
        seed=seed,
        metrics={
            "mean_wait_seconds": float(waits.mean()),
            "p95_wait_seconds": float(np.quantile(waits, 0.95)),
            "p99_wait_seconds": float(np.quantile(waits, 0.99)),
            "mean_wait_several_devices_seconds": _mean(waits[several]),
            "mean_wait_others_seconds": _mean(waits[~several]),
            "mean_slowdown": float(slowdown.mean()),
            "gpu_allocation": float((in_use[1] - in_use[0]) / (last - first) / max(capacity, 1)),
            "unfinished": float(np.isnan(started).sum()),
        },
        waits=waits,
        allocation=curve,
    )


def _mean(values: FloatArray) -> float:
    return float(values.mean()) if len(values) else float("nan")
