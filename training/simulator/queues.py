"""kube-scheduler's scheduling queue: who is tried next, and what brings a pod back that could not be placed.

Pods arrive in the active queue. One that fits nowhere is parked among the unschedulable pods until an event may help
it: a pod that leaves a node helps whoever fits there now; whatever happens may help a pod that an extender turned away
(here: that reservations kept from a node). A pod that failed a short while ago comes back through the backoff queue.
It is taken from there when its backoff (1 s, doubled with every failure, up to 10 s) is over, or as soon as nobody is
left in the active queue. Attempts that cannot succeed are not played: a shape that fits nowhere stays parked until
something is freed where it fits.

Source: pkg/scheduler/backend/queue/scheduling_queue.go (flushBackoffQCompleted), active_queue.go (unlockedPop),
backoff_queue.go (1.36);
pkg/scheduler/framework/plugins/noderesources/fit.go (isSchedulableAfterPodEvent).
"""

import math

import numpy as np

from training.simulator.compiled import inner
from training.simulator.heap import pop, push
from training.simulator.occupancy import has_room
from training.simulator.state import (
    BACKOFF_INITIAL,
    BACKOFF_MAX,
    FUTILE_ATTEMPTS,
    HOPELESS,
    NOBODY,
    NOW,
    PARKED,
    POP_FROM_BACKOFF,
    SEQUENCE,
    WITHHELD_NOW,
)


@inner
def enqueue(episode, pod):
    """Add a pod that has arrived, or was evicted, to the active queue."""
    pods, counters = episode.pods, episode.counters
    pods.pending_since[pod] = episode.clock[NOW]
    pods.attempts[pod] = 0
    pods.rank[pod] = counters[SEQUENCE]
    counters[SEQUENCE] += 1
    push(episode.active, pods.order[pod], 0.0, pods.rank[pod], pod)


@inner
def next_in_queue(episode):
    """Take the pod that is tried next out of the queue; NOBODY if there is none to try now."""
    active, backoff = episode.active, episode.backoff
    if active.size[0] == 0 and backoff.size[0] > 0 and episode.settings[POP_FROM_BACKOFF] > 0:
        return pop(backoff)
    return pop(active) if active.size[0] > 0 else NOBODY


@inner
def backoff_ends(episode):
    """When the next pod comes out of the backoff queue by itself; infinity if none does."""
    return episode.backoff.keys[0] if episode.backoff.size[0] > 0 else np.inf


@inner
def end_backoffs(episode):
    """Move the pods whose backoff is over by now to the active queue."""
    while backoff_ends(episode) <= episode.clock[NOW]:
        pod = pop(episode.backoff)
        push(episode.active, episode.pods.order[pod], 0.0, episode.pods.rank[pod], pod)


@inner
def park(episode, pod, withheld):
    """Set a pod aside that could not be placed.

    Args:
        withheld: whether it fits somewhere, but only where reservations keep it away.
    """
    pods, counters = episode.pods, episode.counters
    pods.attempts[pod] += 1
    pods.failed_at[pod] = episode.clock[NOW]
    pods.rank[pod] = counters[SEQUENCE]
    counters[SEQUENCE] += 1
    pods.withheld[pod] = withheld
    shapes, shape = episode.shapes, pods.shape[pod]
    if withheld:
        counters[WITHHELD_NOW] += 1
    elif not shapes.hopeless[shape]:
        shapes.hopeless[shape] = True
        shapes.hopeless_ones[counters[HOPELESS]] = shape
        counters[HOPELESS] += 1
    episode.parked[counters[PARKED]] = pod
    counters[PARKED] += 1


@inner
def wake_for_room(episode, row):
    """A pod has left the node: parked pods come back if they fit there, and those that reservations kept away."""
    shapes, counters = episode.shapes, episode.counters
    still_hopeless = 0
    for position in range(counters[HOPELESS]):  # there are far fewer shapes than pods
        shape = shapes.hopeless_ones[position]
        if has_room(episode.cluster, shapes, shape, row):
            shapes.hopeless[shape] = False
        else:
            shapes.hopeless_ones[still_hopeless] = shape
            still_hopeless += 1
    futile = episode.settings[FUTILE_ATTEMPTS] > 0
    if still_hopeless < counters[HOPELESS] or counters[WITHHELD_NOW] > 0 or futile:
        counters[HOPELESS] = still_hopeless
        _wake(episode, futile)


@inner
def wake_withheld(episode):
    """Something has happened: parked pods that reservations kept away come back."""
    if episode.counters[WITHHELD_NOW] > 0:
        _wake(episode, False)


@inner
def _wake(episode, everyone):
    """Bring back the parked pods that reservations kept away, and those whose shape is not hopeless any more."""
    pods, counters = episode.pods, episode.counters
    still_parked = 0
    for position in range(counters[PARKED]):
        pod = episode.parked[position]
        if everyone or pods.withheld[pod] or not episode.shapes.hopeless[pods.shape[pod]]:
            _come_back(episode, pod)
        else:
            episode.parked[still_parked] = pod
            still_parked += 1
    counters[PARKED] = still_parked


@inner
def _come_back(episode, pod):
    pods = episode.pods
    if pods.withheld[pod]:
        pods.withheld[pod] = False
        episode.counters[WITHHELD_NOW] -= 1
    expires = pods.failed_at[pod] + _backoff(episode.settings, pods.attempts[pod])
    if episode.settings[POP_FROM_BACKOFF] > 0:
        # Whole seconds, within which pods are in the order of the active queue; over when the second is over
        # (backoff_queue.go, alignToWindow and isPodBackingoff).
        expires = math.floor(expires) + 1.0
    if expires > episode.clock[NOW] and episode.settings[BACKOFF_MAX] > 0:
        push(episode.backoff, expires, pods.order[pod], pods.rank[pod], pod)
    else:
        push(episode.active, pods.order[pod], 0.0, pods.rank[pod], pod)


@inner
def _backoff(settings, attempts):
    return min(settings[BACKOFF_INITIAL] * 2.0 ** (attempts - 1), settings[BACKOFF_MAX])
