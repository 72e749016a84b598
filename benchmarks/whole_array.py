"""FGD as one writes it with numpy at first: for every pod, whole-array expressions over all nodes.

The yardstick of the simulator's speed. It decides as the rule `fgd` does: integer scores, the tightest device among
equally good ones, and the node that a given order names among equally good ones.
"""

from collections.abc import Callable

import numpy as np

from extender.fragmentation import FloatArray, TypicalPods
from extender.placement import CPU, WHOLE_DEVICE_MILLI, IntArray, empty_nodes
from training.workloads.base import Workload

UNMEASURABLE = 1e-6
NOWHERE = -1


def fragmentation(typical: TypicalPods, model: IntArray, cpu_free: IntArray, device_free: IntArray) -> FloatArray:
    """Free GPU that the typical pods cannot use, in thousandths of a device; (N,), (N,), (D, N) -> (N,)."""
    free = np.maximum(device_free, 0)
    left = free.sum(axis=0)
    total = np.zeros(len(left))
    fitting, useless = {}, {}
    for milli in np.unique(typical.gpu_milli):
        large = free >= milli
        fitting[milli], useless[milli] = large.sum(axis=0), np.where(large, 0, free).sum(axis=0)
    for cpu, gpu_count, gpu_milli, share, admits in zip(*typical, strict=True):
        if gpu_count == 0:
            total += share * left
            continue
        servable = admits[model] & (fitting[gpu_milli] >= gpu_count) & (cpu_free >= cpu)
        total += share * np.where(servable, useless[gpu_milli], left)
    return total


def play_fgd(workload: Workload, ties: IntArray, report: Callable[[int], None] = lambda _: None) -> IntArray:
    """Place the pods one after the other; none leaves, and one that fits nowhere is dropped.

    Args:
        workload: the nodes and the pods.
        ties: (N,) int64, the smallest wins among equals.
        report: called now and then with the number of pods that are done.

    Returns:
        (P,) int64, each pod's node, -1 for a pod that was dropped.
    """
    typical, model = workload.typical, workload.model
    free = workload.allocatable.copy()
    devices = empty_nodes(workload.allocatable, workload.devices).device_free.T.copy()  # (D, N)
    before = fragmentation(typical, model, free[:, CPU], devices)
    placed = np.full(len(workload), NOWHERE)
    for pod, shape in enumerate(workload.shape):
        if pod % 100 == 0:
            report(pod)
        request, count = workload.shapes.request[shape], int(workload.shapes.gpu_count[shape])
        milli = int(workload.shapes.gpu_milli[shape])
        large = devices >= milli
        feasible = workload.admits[shape] & (free >= request).all(axis=1) & (large.sum(axis=0) >= count)
        if not feasible.any():
            continue
        cpu_left = free[:, CPU] - request[CPU]
        shares = count == 1 and milli < WHOLE_DEVICE_MILLI
        if shares:
            best, device = np.full(len(free), -1.0), np.zeros(len(free), np.int64)
            least = np.full(len(free), WHOLE_DEVICE_MILLI + 1)
            for index in range(len(devices)):
                after = devices.copy()
                after[index] -= milli
                score = _score(before - fragmentation(typical, model, cpu_left, after))
                better = large[index] & ((score > best) | ((score == best) & (devices[index] < least)))
                best, device = np.where(better, score, best), np.where(better, index, device)
                least = np.where(better, devices[index], least)
        else:
            after = devices - np.where(large & (np.cumsum(large, axis=0) <= count), milli, 0)
            best = _score(before - fragmentation(typical, model, cpu_left, after))
        best[~feasible] = -1.0
        equals = np.flatnonzero(best == best.max())
        chosen = equals[np.argmin(ties[equals])]
        placed[pod] = chosen
        free[chosen] -= request
        if shares:
            devices[device[chosen], chosen] -= milli
        else:
            devices[:, chosen] = after[:, chosen]
        there = slice(chosen, chosen + 1)
        before[there] = fragmentation(typical, model[there], free[there, CPU], devices[:, there])
    report(len(workload))
    return placed


def _score(change: FloatArray) -> FloatArray:
    change = np.where(np.abs(change) < UNMEASURABLE, 0.0, change)
    scores: FloatArray = np.trunc(100.0 / (1.0 + np.exp(-change / 1000.0)))
    return scores
