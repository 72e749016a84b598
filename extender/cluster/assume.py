"""Optimistic assumptions: a pod counts on the node that was ranked first until the watch says where it went.

kube-scheduler tells an extender neither that it took the advice nor that binding failed, and the next pod asks before
the watch has caught up: without assumptions two quick pods would both be sent to the same free space. `server.scoring`
assumes and lifts, `cluster.feed` settles, and what nobody settles expires.
"""

from collections.abc import Callable
from enum import StrEnum

from extender.cluster.state import ClusterState
from extender.placement import PodRequest

Clock = Callable[[], float]
"""Monotonic seconds."""


class Outcome(StrEnum):
    """What became of an assumption."""

    CONFIRMED = "confirmed"  # the pod is where we thought
    MOVED = "moved"  # it went to another node
    DROPPED = "dropped"  # it was deleted or ended
    EXPIRED = "expired"  # nothing was heard in time
    LIFTED = "lifted"  # kube-scheduler asked about the same pod again


class Assumptions:
    """Pods that are in the state because we expect them there.

    Example:
        >>> import numpy as np
        >>> from extender.placement import pod_request
        >>> state = ClusterState(("cpu", "memory", "gpu"))
        >>> state.put_node("a", np.array([4000, 64, 0]), devices=0)
        >>> assumptions = Assumptions(state, ttl_seconds=30.0, clock=lambda: 0.0, report=print)
        >>> assumptions.assume("uid-1", "a", pod_request(np.array([1500, 8, 0])), device=-1)
        >>> state.arrays.requested[state.row_of("a")]
        array([1500,    8,    0])
        >>> assumptions.lift("uid-1")
        lifted
        True
    """

    def __init__(
        self, state: ClusterState, ttl_seconds: float, clock: Clock, report: Callable[[Outcome], None]
    ) -> None:
        self._state = state
        self._ttl_seconds = ttl_seconds
        self._clock = clock
        self._report = report
        self._deadlines: dict[str, float] = {}  # in the order of the deadlines, as the TTL is the same for all

    def __len__(self) -> int:
        """Number of pods assumed."""
        return len(self._deadlines)

    def __contains__(self, uid: object) -> bool:
        """Whether the pod is assumed."""
        return uid in self._deadlines

    def assume(self, uid: str, node: str, request: PodRequest, device: int) -> None:
        """Count the pod on the node from now on; a pod that the watch has already placed stays where it is.

        Args:
            device: the device that it shares, or `placement.ANY_DEVICE`.
        """
        self.lift(uid)
        if uid in self._state.pods:
            return
        self._state.put_pod(uid, node, request, device)
        self._deadlines[uid] = self._clock() + self._ttl_seconds

    def lift(self, uid: str) -> bool:
        """Take back the assumption about the pod, so that it does not compete with itself; tells if there was one."""
        if self._deadlines.pop(uid, None) is None:
            return False
        self._state.remove_pod(uid)
        self._report(Outcome.LIFTED)
        return True

    def settle(self, uid: str, node: str | None) -> None:
        """The watch says that the pod is on `node`, or gone (None). The state itself is updated by the caller."""
        if self._deadlines.pop(uid, None) is None:
            return
        if node is None:
            self._report(Outcome.DROPPED)
        else:
            self._report(Outcome.CONFIRMED if self._state.pods[uid].node == node else Outcome.MOVED)

    def expire(self) -> int:
        """Take back the assumptions whose time is up; returns how many."""
        now = self._clock()
        overdue = []
        for uid, deadline in self._deadlines.items():
            if deadline > now:
                break
            overdue.append(uid)
        for uid in overdue:
            del self._deadlines[uid]
            self._state.remove_pod(uid)
            self._report(Outcome.EXPIRED)
        return len(overdue)
