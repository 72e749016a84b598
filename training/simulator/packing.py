"""The published openb experiment: pods arrive one by one and never leave, and a rule packs them.

The rules are those of the public simulator of the FGD paper ("Beware of Fragmentation", USENIX ATC'23), integer
truncation and tie-breaking included, so that published numbers can be met to the last digit. A node's score for a pod
shape depends on that node alone (BestFit's normalisation comes on top), so scores are kept per (shape, node) and
computed again only when the shape arrives and the node has changed: an episode costs a few passes over 1,213 integers
per pod. Fragmentation comes from tables (`fragmentation`); only where a placement changes it by nothing at all is the
published sum repeated term by term, because there its rounding decides.
"""

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from training.simulator.fragmentation import (
    DEVICE_SLOTS,
    fragmentation_of,
    published_fragmentation,
)

WHOLE = 1000
INFEASIBLE = -1
NO_DEVICE = -1
LARGEST_CPU_MILLI = 128_000  # the scale of the published rules: the largest node of the trace
LARGEST_GPU_MILLI = 8_000
ROUNDING_NOISE = 1e-6  # GPU milli: below this a change is none, and rounding says whether 50 is truncated to 49
CLASSES = DEVICE_SLOTS + 1  # GpuClustering's classes of pods: shares, 1 … 8 devices

BEST_FIT, DOT_PRODUCT, GPU_PACKING, GPU_CLUSTERING, FGD = range(5)
POLICY_NUMBERS = {
    "bestfit": BEST_FIT,
    "dotprod": DOT_PRODUCT,
    "gpupacking": GPU_PACKING,
    "gpuclustering": GPU_CLUSTERING,
    "fgd": FGD,
}


class PackingShapes(NamedTuple):
    """The distinct pods of a mix; S of them, on N nodes."""

    cpu: np.ndarray  # (S,) int64 milli
    memory: np.ndarray  # (S,) int64 MiB
    gpu_count: np.ndarray  # (S,) int64
    gpu_milli: np.ndarray  # (S,) int64, 0 without GPU
    admits: np.ndarray  # (S, N) bool, whether the pod's GPU models allow the node


class PackingNodes(NamedTuple):
    """The nodes, changed in place."""

    cpu_free: np.ndarray  # (N,) int64 milli
    memory_free: np.ndarray  # (N,) int64 MiB
    device_free: np.ndarray  # (N, 8) int64, 0 where there is no device
    device_count: np.ndarray  # (N,) int64
    gpu_free: np.ndarray  # (N,) int64, sum of device_free
    model: np.ndarray  # (N,) int64
    classes: np.ndarray  # (N, CLASSES) int64, placed GPU pods by class
    fragmentation: np.ndarray  # (N,) float64
    version: np.ndarray  # (N,) int32


@njit(cache=True)
def feasible(nodes, shapes, shape, row):
    """Whether the pod fits on the node."""
    if (
        nodes.cpu_free[row] < shapes.cpu[shape]
        or nodes.memory_free[row] < shapes.memory[shape]
        or not shapes.admits[shape, row]
    ):
        return False
    count, milli = shapes.gpu_count[shape], shapes.gpu_milli[shape]
    if count == 0:
        return True
    slots = 0
    for device in range(DEVICE_SLOTS):
        free = nodes.device_free[row, device]
        if count == 1:
            if free >= milli:
                return True
        else:
            slots += free // milli
    return count > 1 and slots >= count


@njit(cache=True)
def tightest_device(devices, milli):
    """The device with the least left that holds `milli`, the first among equals."""
    best = NO_DEVICE
    for device in range(DEVICE_SLOTS):
        if devices[device] >= milli and (best == NO_DEVICE or devices[device] < devices[best]):
            best = device
    return best


@njit(cache=True)
def take_whole(devices, count, milli):
    """Take devices by ascending free milli, those that hold `milli`, the first among equals; in place."""
    for _ in range(count):
        device = tightest_device(devices, milli)
        if device == NO_DEVICE:
            return
        devices[device] -= milli


@njit(cache=True)
def fgd_score(nodes, tables, row, cpu, devices, gpu_free):
    """The published score of leaving the node with so much CPU and GPU."""
    model = nodes.model[row]
    change = nodes.fragmentation[row] - fragmentation_of(tables, model, cpu, devices, gpu_free)
    if abs(change) < ROUNDING_NOISE:
        change = published_fragmentation(
            tables, model, nodes.cpu_free[row], nodes.device_free[row], nodes.gpu_free[row]
        ) - published_fragmentation(tables, model, cpu, devices, gpu_free)
    return int(100.0 * (1.0 / (1.0 + math.exp(-change / 1000.0))))


@njit(cache=True)
def score_fgd(nodes, shapes, tables, shape, row, scratch):
    """FGD's score, and for a pod that shares a device the device."""
    cpu = nodes.cpu_free[row] - shapes.cpu[shape]
    count, milli = shapes.gpu_count[shape], shapes.gpu_milli[shape]
    gpu_free = nodes.gpu_free[row] - count * milli
    scratch[:] = nodes.device_free[row]
    if count != 1 or milli == WHOLE:
        if count > 0:
            take_whole(scratch, count, milli)
        return fgd_score(nodes, tables, row, cpu, scratch, gpu_free), NO_DEVICE
    best, best_device = INFEASIBLE, NO_DEVICE
    for device in range(DEVICE_SLOTS):
        free = scratch[device]
        if free < milli:
            continue
        known = False
        for earlier in range(device):
            known = known or scratch[earlier] == free
        if known:
            continue
        scratch[device] = free - milli
        score = fgd_score(nodes, tables, row, cpu, scratch, gpu_free)
        scratch[device] = free
        if score > best:
            best, best_device = score, device
    return best, best_device


@njit(cache=True)
def score_best_fit(nodes, shapes, shape, row):
    """BestFit before its normalisation."""
    left = nodes.gpu_free[row] - shapes.gpu_count[shape] * shapes.gpu_milli[shape]
    cpu_left = nodes.cpu_free[row] - shapes.cpu[shape]
    return int((1.0 - (0.5 * cpu_left / LARGEST_CPU_MILLI + 0.5 * left / LARGEST_GPU_MILLI)) * 100.0)


@njit(cache=True)
def score_dot_product(nodes, shapes, shape, row):
    """DotProd: the pod's demand and the node's free amounts should point in different directions."""
    demand = shapes.gpu_count[shape] * shapes.gpu_milli[shape]
    product = (nodes.cpu_free[row] / LARGEST_CPU_MILLI) * (shapes.cpu[shape] / LARGEST_CPU_MILLI) + (
        nodes.gpu_free[row] / LARGEST_GPU_MILLI
    ) * (demand / LARGEST_GPU_MILLI)
    return int(100.0 * (1.0 - product / 2.0))


@njit(cache=True)
def score_gpu_packing(nodes, shapes, shape, row, scratch):
    """GpuPacking: occupied devices first, then idle devices of occupied nodes, idle nodes last."""
    count, milli = shapes.gpu_count[shape], shapes.gpu_milli[shape]
    if count == 0:
        return 0
    scratch[:] = nodes.device_free[row]
    whole = 0
    for device in range(DEVICE_SLOTS):
        if scratch[device] == WHOLE:
            whole += 1
    if whole == nodes.device_count[row]:
        return max(33 - whole, whole)
    ratio, opened = 0, 0
    for _ in range(count):
        device = tightest_device(scratch, milli)
        if device == NO_DEVICE:
            break
        ratio += scratch[device] * 100 // WHOLE
        if scratch[device] == WHOLE:
            opened += 1
        scratch[device] = -1  # walked over
    if opened > 0:
        return max(50 - opened, 33)
    return max(100 - ratio // 10, 50)


@njit(cache=True)
def pod_class(count, milli):
    """GpuClustering's class of a GPU pod: 0 if it shares, else the number of devices."""
    return 0 if count == 1 and milli < WHOLE else count


@njit(cache=True)
def score_gpu_clustering(nodes, shapes, shape, row):
    """GpuClustering: pods of one class together."""
    count, milli = shapes.gpu_count[shape], shapes.gpu_milli[shape]
    if count == 0:
        return 0
    base = 25 * (LARGEST_GPU_MILLI - nodes.gpu_free[row]) // LARGEST_GPU_MILLI
    present = 0
    for index in range(CLASSES):
        if nodes.classes[row, index] > 0:
            present += 1
    if nodes.classes[row, pod_class(count, milli)] > 0:
        return base + (75 if present == 1 else 50)
    return base + (25 if present == 0 else 0)


@njit(cache=True)
def play(policy, nodes, shapes, tables, arrivals, tiebreak):
    """Play one run.

    Args:
        policy: of `POLICY_NUMBERS`.
        nodes: changed in place.
        shapes: the pods' shapes.
        tables: typical pods.
        arrivals: (A,) int64, the shape of each pod in order of arrival.
        tiebreak: (N,) int64, the smallest wins among equal scores.

    Returns:
        (A,) int64, the node of each pod, -1 for a dropped one.
    """
    count = nodes.cpu_free.shape[0]
    shape_count = shapes.cpu.shape[0]
    scores = np.full((shape_count, count), INFEASIBLE, dtype=np.int32)
    devices = np.full((shape_count, count), NO_DEVICE, dtype=np.int8)
    seen = np.full((shape_count, count), -1, dtype=np.int32)
    scratch = np.zeros(DEVICE_SLOTS, dtype=np.int64)
    placed = np.full(arrivals.shape[0], -1, dtype=np.int64)
    for row in range(count):
        nodes.fragmentation[row] = fragmentation_of(
            tables, nodes.model[row], nodes.cpu_free[row], nodes.device_free[row], nodes.gpu_free[row]
        )
    for arrival in range(arrivals.shape[0]):
        shape = arrivals[arrival]
        for row in range(count):
            if seen[shape, row] != nodes.version[row]:
                seen[shape, row] = nodes.version[row]
                score, device = INFEASIBLE, NO_DEVICE
                if feasible(nodes, shapes, shape, row):
                    if policy == FGD:
                        score, device = score_fgd(nodes, shapes, tables, shape, row, scratch)
                    elif policy == BEST_FIT:
                        score = score_best_fit(nodes, shapes, shape, row)
                    elif policy == DOT_PRODUCT:
                        score = score_dot_product(nodes, shapes, shape, row)
                    elif policy == GPU_PACKING:
                        score = score_gpu_packing(nodes, shapes, shape, row, scratch)
                    else:
                        score = score_gpu_clustering(nodes, shapes, shape, row)
                scores[shape, row] = score
                devices[shape, row] = device
        chosen = choose(policy, scores[shape], tiebreak)
        if chosen < 0:
            continue
        placed[arrival] = chosen
        put(policy, nodes, shapes, tables, shape, chosen, devices[shape, chosen])
    return placed


@njit(cache=True)
def choose(policy, scores, tiebreak):
    """The best feasible node, -1 if there is none."""
    low, high = np.int64(1 << 30), np.int64(INFEASIBLE)
    for row in range(scores.shape[0]):
        score = scores[row]
        if score != INFEASIBLE:
            low = min(low, score)
        high = max(high, score)
    if high == INFEASIBLE:
        return -1
    best, best_score = -1, np.int64(INFEASIBLE)
    for row in range(scores.shape[0]):
        score = np.int64(scores[row])
        if score == INFEASIBLE:
            continue
        if policy == BEST_FIT:
            score = 0 if high == low else (score - low) * 100 // (high - low)
        if score > best_score or (score == best_score and tiebreak[row] < tiebreak[best]):
            best, best_score = row, score
    return best


@njit(cache=True)
def put(policy, nodes, shapes, tables, shape, row, device):
    """Place the pod and bring the node's derived values up to date."""
    count, milli = shapes.gpu_count[shape], shapes.gpu_milli[shape]
    nodes.cpu_free[row] -= shapes.cpu[shape]
    nodes.memory_free[row] -= shapes.memory[shape]
    if count > 0:
        nodes.gpu_free[row] -= count * milli
        nodes.classes[row, pod_class(count, milli)] += 1
        if device != NO_DEVICE:
            nodes.device_free[row, device] -= milli
        else:
            take_whole(nodes.device_free[row], count, milli)
    nodes.fragmentation[row] = fragmentation_of(
        tables, nodes.model[row], nodes.cpu_free[row], nodes.device_free[row], nodes.gpu_free[row]
    )
    nodes.version[row] += 1
