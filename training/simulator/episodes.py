"""From workloads to the arrays of the event loop, one episode or a batch of them.

A batch is an `Episode` whose arrays have a leading dimension; `view` gives one of its episodes without copying.
"""

import numpy as np
from numba import njit

from extender.placement import ABSENT_DEVICE, WHOLE_DEVICE_MILLI
from training.simulator.event_loop import CLOCKS, COUNTERS, PODS, Episode, start
from training.workloads.base import Workload

DEVICE_SLOTS = 8  # the largest GPU node of the known traces; wider nodes widen the arrays of their episodes


def allocate(
    batch: int, *, nodes: int, resources: int, shapes: int, pods: int, typical: int, device_slots: int = DEVICE_SLOTS
) -> Episode:
    """Empty arrays for `batch` episodes of at most this size."""

    def integers(*dimensions: int) -> np.ndarray:
        return np.zeros((batch, *dimensions), dtype=np.int64)

    def floats(*dimensions: int) -> np.ndarray:
        return np.zeros((batch, *dimensions), dtype=np.float64)

    return Episode(
        allocatable=integers(nodes, resources),
        requested=integers(nodes, resources),
        device_free=integers(nodes, device_slots),
        fragmented=floats(nodes),
        shape_request=integers(shapes, resources),
        shape_gpu_count=integers(shapes),
        shape_gpu_milli=integers(shapes),
        shape=integers(pods),
        arrival=floats(pods),
        duration=floats(pods),
        priority=integers(pods),
        expected=floats(pods),
        node=integers(pods),
        taken=integers(pods),
        started=floats(pods),
        typical_cpu=integers(typical),
        typical_gpu_count=integers(typical),
        typical_gpu_milli=integers(typical),
        typical_share=floats(typical),
        finish_time=floats(pods),
        finish_pod=integers(pods),
        queue_key=floats(pods),
        queue_pod=integers(pods),
        parked=integers(pods),
        counters=integers(COUNTERS),
        clock=floats(CLOCKS),
    )


def view(batch: Episode, index: int) -> Episode:
    """One episode of a batch, sharing its memory."""
    return Episode(*(array[index] for array in batch))


def load(episode: Episode, workload: Workload) -> None:
    """Fill an episode's arrays with a workload and bring it to its start.

    Raises:
        ValueError: the workload does not have the size that the arrays were allocated for.
    """
    given = (workload.allocatable.shape, len(workload), len(workload.shapes))
    wanted = (episode.allocatable.shape, len(episode.shape), len(episode.shape_gpu_count))
    if given != wanted or workload.devices.max(initial=0) > episode.device_free.shape[1]:
        raise ValueError(f"workload of (nodes, resources), pods, shapes {given}, arrays for {wanted}")
    episode.allocatable[:] = workload.allocatable
    slots = np.arange(episode.device_free.shape[1])
    episode.device_free[:] = np.where(slots < workload.devices[:, None], WHOLE_DEVICE_MILLI, ABSENT_DEVICE)
    episode.shape_request[:] = workload.shapes.request
    episode.shape_gpu_count[:] = workload.shapes.gpu_count
    episode.shape_gpu_milli[:] = workload.shapes.gpu_milli
    episode.shape[:] = workload.shape
    episode.arrival[:] = workload.arrival
    episode.duration[:] = workload.duration
    episode.priority[:] = workload.priority
    episode.expected[:] = workload.expected
    for name in ("cpu", "gpu_count", "gpu_milli", "share"):
        target = getattr(episode, f"typical_{name}")
        values = getattr(workload.typical, name)
        target[: len(values)] = values
        target[len(values) :] = 0  # a share of 0 adds nothing
    episode.counters[PODS] = len(workload)
    start(episode)


def episode_of(workload: Workload) -> Episode:
    """A single episode at its start."""
    batch = allocate(
        1,
        nodes=len(workload.allocatable),
        resources=len(workload.resources),
        shapes=len(workload.shapes),
        pods=len(workload),
        typical=len(workload.typical.share),
        device_slots=max(DEVICE_SLOTS, int(workload.devices.max(initial=0))),
    )
    episode = view(batch, 0)
    load(episode, workload)
    return episode


@njit(cache=True)
def view_compiled(batch, index):
    """`view` for compiled code, which cannot iterate over the fields."""
    return Episode(
        batch.allocatable[index],
        batch.requested[index],
        batch.device_free[index],
        batch.fragmented[index],
        batch.shape_request[index],
        batch.shape_gpu_count[index],
        batch.shape_gpu_milli[index],
        batch.shape[index],
        batch.arrival[index],
        batch.duration[index],
        batch.priority[index],
        batch.expected[index],
        batch.node[index],
        batch.taken[index],
        batch.started[index],
        batch.typical_cpu[index],
        batch.typical_gpu_count[index],
        batch.typical_gpu_milli[index],
        batch.typical_share[index],
        batch.finish_time[index],
        batch.finish_pod[index],
        batch.queue_key[index],
        batch.queue_pod[index],
        batch.parked[index],
        batch.counters[index],
        batch.clock[index],
    )
