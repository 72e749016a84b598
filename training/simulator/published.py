"""Fragmentation summed as in the published openb runs: the same number as `extender.fragmentation`, but its rounding.

Where a placement changes a node's fragmentation by nothing at all, the rounding of two sums decides whether FGD's
score is 50 or 49. To meet published numbers to the last digit, such sums are done again here as the public simulator of
the FGD paper does them: by what the node lacks for a typical pod, then in total (its pkg/utils/frag.go).
"""

from extender.placement import CPU, GPU
from training.simulator.compiled import inner


@inner
def published_change(nodes, pod, row, around, typical):
    """By how much placing the pod lowers the fragmentation of a node, in thousandths of a device.

    Args:
        nodes: NodeArrays.
        pod: PodRequest.
        row: the node.
        around: its `devices` hold what the devices would have left.
        typical: TypicalPods in the published order.
    """
    cpu = nodes.allocatable[row, CPU] - nodes.requested[row, CPU]
    gpu = nodes.allocatable[row, GPU] - nodes.requested[row, GPU]
    model = nodes.model[row]
    before = _summed_by_reason(typical, model, cpu, gpu, nodes.device_free[row])
    return before - _summed_by_reason(typical, model, cpu - pod.request[CPU], gpu - pod.request[GPU], around.devices)


@inner
def _summed_by_reason(typical, model, cpu, gpu_free, devices):
    lack_both, lack_gpu, lack_cpu, cpu_served, cpu_unserved, no_access = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for index in range(typical.share.shape[0]):
        share, enough_cpu = typical.share[index], cpu >= typical.cpu[index]
        size = typical.gpu_milli[index]
        if size == 0:
            if enough_cpu:
                cpu_served += share * gpu_free
            else:
                cpu_unserved += share * gpu_free
            continue
        if not typical.admits[index, model]:
            no_access += share * gpu_free
            continue
        fitting, remainder = 0, 0
        for device in range(devices.shape[0]):
            if devices[device] >= size:
                fitting += 1
            elif devices[device] > 0:
                remainder += devices[device]
        if fitting >= typical.gpu_count[index]:
            if enough_cpu:
                lack_gpu += share * remainder
            else:
                lack_cpu += share * gpu_free
        elif enough_cpu:
            lack_gpu += share * gpu_free
        else:
            lack_both += share * gpu_free
    return lack_both + lack_gpu + lack_cpu + cpu_served + cpu_unserved + no_access
