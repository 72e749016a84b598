"""Fragmentation of one node by table, and by the published sum: the same number but for its rounding.

`features.fragmentation` is the definition, for many nodes and few typical pods. An openb run asks millions of times for
single nodes, so the typical pods are folded into tables here; `packing` uses them.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from training.simulator import compiled as compiled  # sets up the compilation cache

DEVICE_SLOTS = 8


class FragmentationTables(NamedTuple):
    """Typical pods by size, so that a node's fragmentation takes a look-up per size instead of a loop over pods.

    A group is a (GPU count, milli) that typical pods ask for. `served[model, group, bin]` is the share of the typical
    pods that are of this group, admit the model and need no more CPU than the bin's lower edge; `unserved` is the rest.
    """

    cpu_edges: np.ndarray  # (B - 1,) int64 ascending: bin b holds free CPU in [edge[b - 1], edge[b])
    level_milli: np.ndarray  # (L,) int64, the distinct sizes
    group_level: np.ndarray  # (G,) int64, index into level_milli
    group_count: np.ndarray  # (G,) int64
    served: np.ndarray  # (models, B, G) float64
    unserved: np.ndarray  # (models, B) float64
    cpu: np.ndarray  # (T,) int64: the typical pods themselves, in their published order
    gpu_count: np.ndarray  # (T,) int64
    gpu_milli: np.ndarray  # (T,) int64
    share: np.ndarray  # (T,) float64
    admits: np.ndarray  # (models, T) bool


@njit(cache=True)
def cpu_bin(tables, cpu):
    """Which bin of the tables so much free CPU is in."""
    low, high = 0, tables.cpu_edges.shape[0]
    while low < high:
        middle = (low + high) >> 1
        if tables.cpu_edges[middle] <= cpu:
            low = middle + 1
        else:
            high = middle
    return low


@njit(cache=True)
def split_by_size(devices, size):
    """How many devices have `size` milli left, and how many milli the others have together."""
    fitting, remainder = 0, 0
    for device in range(DEVICE_SLOTS):
        if devices[device] >= size:
            fitting += 1
        else:
            remainder += devices[device]
    return fitting, remainder


@njit(cache=True)
def fragmentation_of(tables, model, cpu, devices, gpu_free):
    """GPU milli that the next typical pod cannot use, in expectation; `features.fragmentation` of one node."""
    at = cpu_bin(tables, cpu)
    served = tables.served[model, at]
    wasted = tables.unserved[model, at] * gpu_free
    level, fitting, remainder = -1, 0, 0
    for group in range(tables.group_level.shape[0]):
        if tables.group_level[group] != level:
            level = tables.group_level[group]
            size = tables.level_milli[level]
            fitting, remainder = split_by_size(devices, size)
        wasted += served[group] * (remainder if fitting >= tables.group_count[group] else gpu_free)
    return wasted


@njit(cache=True)
def published_fragmentation(tables, model, cpu, devices, gpu_free):
    """`fragmentation_of`, summed in the published order: by what the node lacks for a typical pod, then in total."""
    lack_both, lack_gpu, lack_cpu, cpu_served, cpu_unserved, no_access = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for index in range(tables.share.shape[0]):
        share, enough_cpu = tables.share[index], cpu >= tables.cpu[index]
        size = tables.gpu_milli[index]
        if size == 0:
            if enough_cpu:
                cpu_served += share * gpu_free
            else:
                cpu_unserved += share * gpu_free
            continue
        if not tables.admits[model, index]:
            no_access += share * gpu_free
            continue
        fitting, remainder = split_by_size(devices, size)
        if fitting >= tables.gpu_count[index]:
            if enough_cpu:
                lack_gpu += share * remainder
            else:
                lack_cpu += share * gpu_free
        elif enough_cpu:
            lack_gpu += share * gpu_free
        else:
            lack_both += share * gpu_free
    return lack_both + lack_gpu + lack_cpu + cpu_served + cpu_unserved + no_access
