"""Which of the nodes that kube-scheduler offers to preempt on are left, given to `preempt`.

kube-scheduler has already chosen victims on each node and will choose among the nodes that it gets back. By default it
gets all of them back but those that it cannot use: without victims (it would take that for an error), or kept for
another pod. By `fewest` it gets back the one node whose victims cost least. Nothing here changes the state.
"""

from collections.abc import Collection, Mapping
from enum import StrEnum

from extender.cluster.state import UNKNOWN_ROW, ClusterState
from extender.placement import CPU, GPU, PodRequest
from extender.wire_preempt import Victims


class PreemptionMode(StrEnum):
    """What `preempt` does."""

    PASS_THROUGH = "pass-through"
    FEWEST = "fewest"


def choose_nodes(
    mode: PreemptionMode,
    state: ClusterState,
    pod: PodRequest,
    victims: Mapping[str, Victims],
    withheld: Collection[str],
    now: float,
) -> dict[str, Victims]:
    """The nodes that remain, with their victims.

    Args:
        mode: what to do.
        state: of the cluster.
        pod: what the pod asks for that others are to make way for.
        victims: what kube-scheduler offers, by node.
        withheld: nodes that are kept for others.
        now: Unix seconds.
    """
    usable = {node: chosen for node, chosen in victims.items() if chosen.uids and node not in withheld}
    if mode is PreemptionMode.PASS_THROUGH or not usable:
        return usable
    able = {node: chosen for node, chosen in usable.items() if has_devices_after(state, pod, node, chosen)}
    if not able:
        return {}
    best = min(able, key=lambda node: (*cost_of(state, able[node], now), node))
    return {best: able[best]}


def cost_of(state: ClusterState, victims: Victims, now: float) -> tuple[int, int, int, float, float]:
    """What it costs to let the victims go, to be compared from the left.

    Disruption budgets violated, the highest priority among the victims, their number, the work that is lost (device
    seconds, core seconds since they started). A victim that is not known costs nothing but counts.
    """
    known = [state.pods[uid] for uid in victims.uids if uid in state.pods]
    highest = max((pod.request.priority for pod in known), default=0)
    lost_gpu, lost_cpu = 0.0, 0.0
    for pod in known:
        ran = max(now - pod.began, 0.0) if pod.began else 0.0
        lost_gpu += ran * int(pod.request.request[GPU])
        lost_cpu += ran * int(pod.request.request[CPU])
    return victims.violations, highest, len(victims.uids), lost_gpu, lost_cpu


def has_devices_after(state: ClusterState, pod: PodRequest, node: str, victims: Victims) -> bool:
    """Whether the node has devices for the pod once the victims are gone.

    kube-scheduler adds up thousandths per node; that no single device would have room only we know. A node or a victim
    that we do not know is not held against it.
    """
    row = state.row_of(node)
    if pod.gpu_count == 0 or row == UNKNOWN_ROW or any(uid not in state.pods for uid in victims.uids):
        return True
    devices = state.arrays.device_free[row].tolist()
    for uid in victims.uids:
        victim = state.pods[uid]
        if victim.row == row:
            for device in range(len(devices)):
                if victim.taken >> device & 1:
                    devices[device] += victim.request.gpu_milli
    enough: bool = sum(free >= pod.gpu_milli for free in devices) >= pod.gpu_count
    return enough
