"""Fragmentation summed as in the published openb runs: the same number as `extender.fragmentation`, but its rounding.

Where a placement changes a node's fragmentation by nothing at all, the rounding of two sums decides whether FGD's
score is 50 or 49. To meet published numbers to the last digit, such sums are done again here as the public simulator of
the FGD paper does them: by what the node lacks for a typical pod, then in total (its pkg/utils/frag.go).
"""

from typing import NamedTuple

import numpy as np

from extender.fragmentation import TypicalPods
from extender.placement import CPU, GPU
from training.simulator.compiled import inner


class PublishedPods(NamedTuple):
    """Typical pods in their published order, and room to look at a node's devices once per size of pod."""

    typical: TypicalPods
    size: np.ndarray  # (L,) int64, the distinct sizes, thousandths of a device
    size_of: np.ndarray  # (T,) int64, index into `size`
    fitting: np.ndarray  # (L,) int64, room for: how many devices have so much left
    remainder: np.ndarray  # (L,) int64, room for: what the others have left


def published_pods(typical: TypicalPods) -> PublishedPods:
    """Look up the sizes of typical pods."""
    size, size_of = np.unique(typical.gpu_milli, return_inverse=True)
    return PublishedPods(typical, size, size_of.reshape(-1), np.zeros_like(size), np.zeros_like(size))


@inner
def published_change(nodes, pod, row, around, published):
    """By how much placing the pod lowers the fragmentation of a node, in thousandths of a device.

    Args:
        nodes: NodeArrays.
        pod: PodRequest.
        row: the node.
        around: its `devices` hold what the devices would have left.
        published: PublishedPods.
    """
    cpu = nodes.allocatable[row, CPU] - nodes.requested[row, CPU]
    gpu = nodes.allocatable[row, GPU] - nodes.requested[row, GPU]
    model = nodes.model[row]
    before = _summed_by_reason(published, model, cpu, gpu, nodes.device_free[row])
    return before - _summed_by_reason(published, model, cpu - pod.request[CPU], gpu - pod.request[GPU], around.devices)


@inner
def _summed_by_reason(published, model, cpu, gpu_free, devices):
    typical = published.typical
    for level in range(published.size.shape[0]):
        fitting, remainder = 0, 0
        for device in range(devices.shape[0]):
            if devices[device] >= published.size[level]:
                fitting += 1
            elif devices[device] > 0:
                remainder += devices[device]
        published.fitting[level] = fitting
        published.remainder[level] = remainder
    lack_both, lack_gpu, lack_cpu, cpu_served, cpu_unserved, no_access = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for index in range(typical.share.shape[0]):
        share, enough_cpu = typical.share[index], cpu >= typical.cpu[index]
        if typical.gpu_milli[index] == 0:
            if enough_cpu:
                cpu_served += share * gpu_free
            else:
                cpu_unserved += share * gpu_free
            continue
        if not typical.admits[index, model]:
            no_access += share * gpu_free
            continue
        level = published.size_of[index]
        if published.fitting[level] >= typical.gpu_count[index]:
            if enough_cpu:
                lack_gpu += share * published.remainder[level]
            else:
                lack_cpu += share * gpu_free
        elif enough_cpu:
            lack_gpu += share * gpu_free
        else:
            lack_both += share * gpu_free
    return lack_both + lack_gpu + lack_cpu + cpu_served + cpu_unserved + no_access
