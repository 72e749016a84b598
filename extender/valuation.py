"""What a placement changes, and the situation in which that is weighed: the inputs of a valuing policy.

Such a policy (`training.networks.ValueNetwork`) adds up, for each candidate, what the placement changes and how the
node would stand, each with a weight. The weights are the policy's; they depend on the kind of pod, on how full the
cluster is, and on what the workload usually brings. So the greedy choice follows the difference of two node values, in
the context of the cluster, and one policy adapts to many workloads.

The columns are *terms*, which are weighted, then the *situation*, which the weights depend on and which is the same for
every candidate of a decision. Like `features`, the functions serve many candidates or, compiled, a single one.
Source of the idea that free capacity has a value by its level and by the CPU beside it: afterstate value functions
(Sutton and Barto, Reinforcement Learning, 6.8); fragmentation as one of the terms: `fragmentation`.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from extender.elementwise import add_at, where
from extender.fragmentation import FloatArray, FragmentationTables, TypicalPods, fragmentation
from extender.placement import (
    CPU,
    GPU,
    MEMORY,
    WHOLE_DEVICE_MILLI,
    Candidates,
    NodeArrays,
    PodRequest,
    devices_after,
    shares_device,
)

DEVICES_AT_MOST = 8.0  # scale of device counts, as in `features`
LEVELS = 10  # free parts of a device are told apart by tenths
RATIOS = 3  # nodes with little, fitting and ample CPU beside their free devices
RATIO_FIRST, RATIO_STEP = 0.25, 0.25  # where these lie on the scale of `cpu_share`
PRESSURE_AT_MOST = 3.0
FULLNESS_STEPS = 21  # 0: at least 84 % is free; each four steps halve what is free; 20: less than 3.1 %
FREE_ABOVE: FloatArray = 2.0 ** (-np.arange(1, FULLNESS_STEPS) / 4.0)

NODE_TERMS = (
    "fragmentation-change",
    "order",
    "waste-change",
    "stranded-gpu-change",
    "stranded-cpu-change",
    "devices",
    "whole-devices-after",
    "gpu-used-after",
    "cpu-beside-gpu-before",
    "cpu-beside-gpu-after",
    "empty-before",
    "cpu-free-after",
    "memory-free-after",
    "model-pressure",
    "devices-opened",
    "device-left",
    "cpu-left",
    "gpu-left",
)
LEVEL_TERMS = tuple(
    f"level-{10 * level}%-cpu-{ratio}-change"
    for level in range(1, LEVELS + 1)
    for ratio in ("little", "fitting", "ample")
)
HOSTING_TERMS = tuple(f"hosts-{count}-devices-change" for count in range(1, int(DEVICES_AT_MOST) + 1))
TERMS = NODE_TERMS + LEVEL_TERMS + HOSTING_TERMS
POD_KINDS = ("pod/cpu-only", "pod/shares-device", "pod/one-device", "pod/several-devices")
PROFILE = (
    "workload/cpu-supply",
    "workload/shared-demand",
    "workload/several-demand",
    "workload/restricted-demand",
    "workload/shared-size",
)
SITUATION = (*POD_KINDS, "cluster/fullness", *PROFILE)
COLUMNS = TERMS + SITUATION
"""Names of the columns, in order."""

ValueArray = NDArray[np.float32]


class WorkloadProfile(NamedTuple):
    """What follows from a workload's typical pods and the cluster's inventory.

    Attributes:
        cpu_per_device: (1,) float64 milli, what the typical GPU pods ask for beside one device.
        cpu_per_device_of_several: (1,) float64 milli, the same for the pods that want several devices.
        largest: (R,) float64, the largest allocatable amounts of the nodes.
        waste: (1001,) float64, of a device with so many thousandths free: what is left in the end if typical pods of at
            most one device fill it at random, in thousandths.
        pressure: (G,) float64, of each GPU model: demand that has to go to few models, relative to the model's share of
            all devices.
        shares: (5,) float64, each 0..1, in the order of `PROFILE`: the cluster's CPU as a share of it and the demand's
            (0.5: CPU and GPUs run out together); shares of the GPU demand by pods that share a device, that want
            several, that are restricted to some models; mean size of a shared part.
    """

    cpu_per_device: FloatArray
    cpu_per_device_of_several: FloatArray
    largest: FloatArray
    waste: FloatArray
    pressure: FloatArray
    shares: FloatArray


def workload_profile(typical: TypicalPods, nodes: NodeArrays) -> WorkloadProfile:
    """Derive the profile.

    Args:
        typical: the workload's typical pods.
        nodes: the inventory; what is placed does not matter.
    """
    demand = typical.share * typical.gpu_count * typical.gpu_milli / WHOLE_DEVICE_MILLI  # in devices a pod
    total = float(demand.sum())
    with_gpu = typical.gpu_milli > 0
    sharing = (typical.gpu_count == 1) & (typical.gpu_milli < WHOLE_DEVICE_MILLI) & with_gpu
    models = typical.admits.shape[1]
    devices = np.bincount(nodes.model, weights=nodes.allocatable[:, GPU], minlength=models) / WHOLE_DEVICE_MILLI
    restricted = with_gpu & ~typical.admits[:, devices > 0].all(axis=1)
    offered = float(nodes.allocatable[:, CPU].sum()) / max(float(devices.sum()), 1e-9)
    wanted = float((typical.share * typical.cpu).sum()) / max(total, 1e-9)
    per_device = _cpu_per_device(typical, demand, with_gpu)
    several = typical.gpu_count > 1
    return WorkloadProfile(
        per_device,
        _cpu_per_device(typical, demand, several) if several.any() else per_device,
        np.maximum(nodes.allocatable.max(axis=0), 1).astype(np.float64),
        _waste(typical),
        _pressure(demand, typical.admits, restricted, devices),
        np.array(
            [
                offered / max(offered + wanted, 1e-9),
                demand[sharing].sum() / max(total, 1e-9),
                demand[several].sum() / max(total, 1e-9),
                demand[restricted].sum() / max(total, 1e-9),
                demand[sharing].sum() / max(float(typical.share[sharing].sum()), 1e-9),
            ]
        ),
    )


def _cpu_per_device(typical: TypicalPods, demand: FloatArray, of: Any) -> FloatArray:
    """What the chosen typical pods ask for beside a device; (1,) float64 milli."""
    asked = float((typical.share * typical.cpu)[of].sum())
    return np.array([max(asked / max(float(demand[of].sum()), 1e-9), 1.0)])


def _waste(typical: TypicalPods) -> FloatArray:
    """What stays of a device that is filled at random; (1001,) float64 thousandths."""
    one = (typical.gpu_count == 1) & (typical.gpu_milli > 0)
    sizes, position = np.unique(typical.gpu_milli[one], return_inverse=True)
    often = np.bincount(position, weights=typical.share[one], minlength=len(sizes))
    waste = np.arange(WHOLE_DEVICE_MILLI + 1, dtype=np.float64)
    for level in range(WHOLE_DEVICE_MILLI + 1):
        fitting = int(np.searchsorted(sizes, level, side="right"))
        if fitting > 0:
            weights = often[:fitting]
            waste[level] = weights @ waste[level - sizes[:fitting]] / weights.sum()
    return waste


def _pressure(demand: FloatArray, admits: Any, restricted: Any, devices: FloatArray) -> FloatArray:
    """How much of each model the pods need that cannot go elsewhere; (G,) float64."""
    pressure = np.zeros(len(devices))
    for index in np.flatnonzero(restricted):
        admitted = np.where(admits[index], devices, 0.0)
        if admitted.sum() > 0:
            pressure += demand[index] * admitted / admitted.sum()
    total = max(float(demand.sum()), 1e-9)
    supply = np.where(devices > 0, devices, 1.0) / max(float(devices.sum()), 1e-9)
    return np.where(devices > 0, np.minimum(pressure / total / supply, PRESSURE_AT_MOST), 0.0)


def valuation_columns(
    nodes: NodeArrays, pod: PodRequest, candidates: Candidates, tables: FragmentationTables, profile: WorkloadProfile
) -> ValueArray:
    """Terms and situation of each candidate; (K, len(COLUMNS)) float32.

    Args:
        tables: the workload's typical pods.
        profile: what follows from them and the inventory.
    """
    count = len(candidates.rows)
    columns = np.zeros((len(COLUMNS), count), dtype=np.float32)
    after = np.empty((nodes.device_free.shape[1], count), dtype=np.int64)
    terms(nodes, pod, candidates, tables, profile, after, columns)
    step = fullness(nodes.requested.sum(axis=0), nodes.allocatable.sum(axis=0))
    columns[len(TERMS) + pod_kind(pod)] = 1.0
    columns[len(TERMS) + len(POD_KINDS)] = step / (FULLNESS_STEPS - 1)
    columns[len(TERMS) + len(POD_KINDS) + 1 :] = profile.shares[:, None]
    return np.ascontiguousarray(columns.T)


def pod_kind(pod: PodRequest) -> int:
    """Position of the pod's kind in `POD_KINDS`."""
    if pod.gpu_count == 0:
        return 0
    if pod.gpu_count > 1:
        return 3
    return 1 if shares_device(pod) else 2


def fullness(in_use: Any, capacity: Any) -> int:
    """How full the cluster is, in steps from 0 to `FULLNESS_STEPS` - 1: of GPUs, or of CPU where it has none.

    Steps, because whoever keeps scores has to look at every node again when this changes.

    Args:
        in_use: (R,) int64.
        capacity: (R,) int64.
    """
    resource = GPU if capacity[GPU] > 0 else CPU
    free = 1.0 - in_use[resource] / max(capacity[resource], 1)
    step = 0
    for edge in range(FREE_ABOVE.shape[0]):
        if free <= FREE_ABOVE[edge]:
            step = edge + 1
    return step


def cpu_share(cpu_free: Any, gpu_free: Any, cpu_per_device: float) -> Any:
    """Free CPU as a share of it and of what the free devices call for: 0..1, 0.5 where they fit.

    Args:
        cpu_free: milli.
        gpu_free: thousandths of a device.
        cpu_per_device: milli.
    """
    called_for = gpu_free * (cpu_per_device / WHOLE_DEVICE_MILLI)
    cpu = np.maximum(cpu_free, 0)
    return cpu / np.maximum(cpu + called_for, 1.0)


def terms(
    nodes: NodeArrays,
    pod: PodRequest,
    candidates: Candidates,
    tables: FragmentationTables,
    profile: WorkloadProfile,
    after: Any,
    columns: Any,
) -> None:
    """The terms of one candidate or of many, into arrays that are there already.

    Args:
        after: (D, K) int64 for K candidates, (D,) for a single one; receives the devices with the pod placed.
        columns: (len(TERMS) or more, K) float32 zeros, or (…,); receives the terms.
    """
    wasted = as_it_stands(nodes, candidates.rows, tables, profile, columns)
    with_the_pod(nodes, pod, candidates, tables, profile, wasted, after, columns)


def as_it_stands(
    nodes: NodeArrays, rows: Any, tables: FragmentationTables, profile: WorkloadProfile, columns: Any
) -> Any:
    """Take in what the terms owe to a node whatever pod comes: its devices count among the levels, negatively.

    Args:
        rows: (K,) int64, or one.
        columns: (len(TERMS) or more, K) float32, (…,) for one; changed in place.

    Returns:
        its fragmentation; (K,) float64, or one.
    """
    cpu_free = nodes.allocatable[rows, CPU] - nodes.requested[rows, CPU]
    gpu_free = 0 * rows
    for device in range(nodes.device_free.shape[1]):
        gpu_free = gpu_free + np.maximum(nodes.device_free[rows, device], 0)
    share = cpu_share(cpu_free, gpu_free, profile.cpu_per_device[0])
    for device in range(nodes.device_free.shape[1]):
        count_level(columns, nodes.device_free[rows, device], share, -1.0)
    return fragmentation(tables, nodes.model[rows], cpu_free, nodes.device_free[rows].T)


def with_the_pod(
    nodes: NodeArrays,
    pod: PodRequest,
    candidates: Candidates,
    tables: FragmentationTables,
    profile: WorkloadProfile,
    wasted: Any,
    after: Any,
    columns: Any,
) -> None:
    """The terms, where the nodes as they stand have been taken in already.

    Args:
        wasted: what `as_it_stands` gave.
        after: as of `terms`.
        columns: what `as_it_stands` left; receives the terms.
    """
    rows = candidates.rows
    per_device = profile.cpu_per_device[0]
    devices_after(nodes, pod, candidates, after)
    cpu_before = nodes.allocatable[rows, CPU] - nodes.requested[rows, CPU]
    cpu_after = cpu_before - pod.request[CPU]
    gpu_before = 0 * rows
    gpu_after = 0 * rows
    present = 0 * rows
    whole_before = 0 * rows
    whole_after = 0 * rows
    left = 0 * rows
    waste = 0.0 * rows
    for device in range(nodes.device_free.shape[1]):
        free = nodes.device_free[rows, device]
        gpu_before = gpu_before + np.maximum(free, 0)
        gpu_after = gpu_after + np.maximum(after[device], 0)
        present = present + where(free >= 0, 1, 0)
        whole_before = whole_before + where(free == WHOLE_DEVICE_MILLI, 1, 0)
        whole_after = whole_after + where(after[device] == WHOLE_DEVICE_MILLI, 1, 0)
        left = where(after[device] != free, after[device], left)
        waste = waste + profile.waste[np.maximum(after[device], 0)] - profile.waste[np.maximum(free, 0)]
    share_before = cpu_share(cpu_before, gpu_before, per_device)
    share_after = cpu_share(cpu_after, gpu_after, per_device)
    model = nodes.model[rows]
    wasted_after = fragmentation(tables, model, cpu_after, after)
    fed_before, fed_after = np.maximum(cpu_before, 0) / per_device, np.maximum(cpu_after, 0) / per_device
    free_before, free_after = gpu_before / WHOLE_DEVICE_MILLI, gpu_after / WHOLE_DEVICE_MILLI

    columns[0] = (wasted_after - wasted) / WHOLE_DEVICE_MILLI
    columns[1] = nodes.order[rows]
    columns[2] = waste / WHOLE_DEVICE_MILLI
    columns[3] = np.maximum(free_after - fed_after, 0.0) - np.maximum(free_before - fed_before, 0.0)
    columns[4] = (np.maximum(fed_after - free_after, 0.0) - np.maximum(fed_before - free_before, 0.0)) / DEVICES_AT_MOST
    columns[5] = present / DEVICES_AT_MOST
    columns[6] = whole_after / DEVICES_AT_MOST
    columns[7] = 1.0 - free_after / np.maximum(present, 1)
    columns[8] = share_before
    columns[9] = share_after
    columns[10] = where(nodes.requested[rows, CPU] == 0, 1.0, 0.0)
    columns[11] = cpu_after / np.maximum(nodes.allocatable[rows, CPU], 1)
    memory_after = nodes.allocatable[rows, MEMORY] - nodes.requested[rows, MEMORY] - pod.request[MEMORY]
    columns[12] = memory_after / np.maximum(nodes.allocatable[rows, MEMORY], 1)
    columns[13] = profile.pressure[model]
    columns[14] = (whole_before - whole_after) / DEVICES_AT_MOST
    columns[15] = left / WHOLE_DEVICE_MILLI
    columns[16] = cpu_after / profile.largest[CPU]
    columns[17] = gpu_after / np.maximum(profile.largest[GPU], WHOLE_DEVICE_MILLI)
    for device in range(nodes.device_free.shape[1]):
        count_level(columns, after[device], share_after, 1.0)
    fed = np.maximum(cpu_before, 0) / profile.cpu_per_device_of_several[0]
    hosts_before = np.minimum(whole_before, fed)
    hosts_after = np.minimum(whole_after, np.maximum(cpu_after, 0) / profile.cpu_per_device_of_several[0])
    for count in range(len(HOSTING_TERMS)):
        columns[len(NODE_TERMS) + len(LEVEL_TERMS) + count] = np.minimum(
            np.maximum(hosts_after - count, 0.0), 1.0
        ) - np.minimum(np.maximum(hosts_before - count, 0.0), 1.0)


def count_level(columns: Any, free: Any, share: Any, sign: float) -> None:
    """Count a device among the levels, spread over the two nearest levels and the two nearest ratios of CPU.

    Args:
        columns: (len(TERMS) or more, K) float32, or (…,); changed in place.
        free: thousandths of the device, int64; absent and full devices count nowhere.
        share: `cpu_share` of its node.
        sign: what a device counts.
    """
    level = np.maximum(free, 0) * LEVELS / WHOLE_DEVICE_MILLI
    ratio = np.minimum(np.maximum((share - RATIO_FIRST) / RATIO_STEP, 0.0), RATIOS - 1.0)
    lower = np.minimum(level, LEVELS - 1.0) // 1.0
    first = np.minimum(ratio, RATIOS - 2.0) // 1.0
    above, beyond = level - lower, ratio - first
    weight = where(free > 0, sign, 0.0)
    # Level 0, a device without anything free, is worth nothing and has no column.
    at = len(NODE_TERMS) + RATIOS * (lower - 1.0) + first
    below = where(lower > 0.0, weight * (1.0 - above), 0.0)
    start = where(lower > 0.0, at, 0.0 * at + len(NODE_TERMS))
    add_at(columns, start, below * (1.0 - beyond))
    add_at(columns, start + 1.0, below * beyond)
    add_at(columns, at + RATIOS, weight * above * (1.0 - beyond))
    add_at(columns, at + RATIOS + 1.0, weight * above * beyond)


COMPILABLE: tuple[Any, ...] = (pod_kind, fullness, cpu_share, count_level, as_it_stands, with_the_pod, terms)
"""What the simulator compiles, callees before callers."""
