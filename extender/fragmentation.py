"""How much of a node's free GPU capacity the workload cannot use.

The typical pods of a workload say what free capacity is good for (FGD, "Beware of Fragmentation", USENIX ATC'23,
section 4). For a typical pod that a node could serve, the parts of devices smaller than it needs are useless; for one
that it could not serve (too few devices, too little CPU, another GPU model) and for one without GPU, all of it is. The
expectation over the typical pods is the node's fragmentation. Typical pods are folded into tables once, so that a node
costs a look at its devices per size of pod rather than one per pod.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from extender.elementwise import where
from extender.placement import BoolArray, IntArray

FloatArray = NDArray[np.float64]


class TypicalPods(NamedTuple):
    """The pods that a workload usually brings.

    Attributes:
        cpu: (T,) int64 milli.
        gpu_count: (T,) int64.
        gpu_milli: (T,) int64, per device; 0 for pods without GPU.
        share: (T,) float64, how often each occurs; sums to 1.
        admits: (T, G) bool, which GPU models it may run on; models are numbered as in `NodeArrays.model`.
    """

    cpu: IntArray
    gpu_count: IntArray
    gpu_milli: IntArray
    share: FloatArray
    admits: BoolArray


class FragmentationTables(NamedTuple):
    """Typical pods by size.

    A group is a (GPU count, milli) that typical pods ask for. `served[model, bin, group]` is the share of the typical
    pods that are of this group, admit the model and need no more CPU than the bin's lower edge; `unserved` is the rest.
    """

    cpu_edges: IntArray  # (B - 1,) ascending: bin b holds free CPU in [edge[b - 1], edge[b])
    level_milli: IntArray  # (L,) the distinct sizes
    group_level: IntArray  # (H,) index into level_milli, ascending
    group_count: IntArray  # (H,)
    served: FloatArray  # (G, B, H)
    unserved: FloatArray  # (G, B)


def fragmentation_tables(typical: TypicalPods) -> FragmentationTables:
    """Fold typical pods into tables."""
    with_gpu = np.flatnonzero(typical.gpu_milli > 0)
    edges = np.unique(typical.cpu[with_gpu])
    sizes = np.stack([typical.gpu_milli[with_gpu], typical.gpu_count[with_gpu]], axis=1)
    groups, group_of = np.unique(sizes, axis=0, return_inverse=True)
    levels, group_level = np.unique(groups[:, 0], return_inverse=True)
    models = typical.admits.shape[1]
    served = np.zeros((models, len(edges) + 1, len(groups)))
    for index, group in zip(with_gpu, group_of.reshape(-1), strict=True):
        first_bin = np.searchsorted(edges, typical.cpu[index], side="right")
        served[typical.admits[index], first_bin:, group] += typical.share[index]
    return FragmentationTables(
        edges,
        levels,
        group_level.reshape(-1).astype(np.int64),
        groups[:, 1].copy(),
        served,
        typical.share.sum() - served.sum(axis=2),
    )


def fragmentation(tables: FragmentationTables, model: Any, cpu_free: Any, device_free: Any) -> Any:
    """GPU capacity that the next typical pod cannot use, in expectation, in thousandths of a device.

    Args:
        tables: the typical pods.
        model: the node's GPU model, int64; (K,) for K nodes.
        cpu_free: milli, int64; (K,) for K nodes.
        device_free: (D,) int64 thousandths of each device, `ABSENT_DEVICE` for none; (D, K) for K nodes.

    Example:
        >>> one_device = TypicalPods(*(np.array([value]) for value in (4000, 1, 1000, 1.0)), np.array([[True]]))
        >>> tables = fragmentation_tables(one_device)
        >>> fragmentation(tables, np.array([0, 0]), np.array([8000, 2000]), np.array([[1000, 1000], [400, 400]]))
        array([ 400., 1400.])
    """
    devices = device_free.shape[0]
    left = 0 * cpu_free
    for device in range(devices):
        left = left + np.maximum(device_free[device], 0)
    at = np.searchsorted(tables.cpu_edges, cpu_free, side="right")
    wasted = tables.unserved[model, at] * left
    level = -1
    fitting = 0 * cpu_free
    remainder = left
    for group in range(tables.group_level.shape[0]):
        if tables.group_level[group] != level:
            level = tables.group_level[group]
            size = tables.level_milli[level]
            fitting = 0 * cpu_free
            remainder = left
            for device in range(devices):
                large = device_free[device] >= size
                fitting = fitting + where(large, 1, 0)
                remainder = remainder - where(large, device_free[device], 0)
        useless = where(fitting >= tables.group_count[group], remainder, left)
        wasted = wasted + tables.served[model, at, group] * useless
    return wasted


COMPILABLE: tuple[Any, ...] = (fragmentation,)
"""What the simulator compiles."""
