"""A valuing policy (`extender.valuation`), compiled: its score of a node is kept until the node changes.

Its weights depend on the kind of pod and on how full the cluster is, which comes in steps, and beyond that on what does
not change during an episode. So they are one table, and a score depends on the node, the pod's shape and the step. As
in `scoring`, when a shape arrives only those nodes are looked at again that changed since it last did. What a score is
made of is the same at every step, and its sums for all steps are hardly more work than for one, as an instruction takes
many numbers that lie side by side. So they are kept, where there is room, and another step is another choice of sums.
What the terms take from a node as it stands, whatever pod comes, is worked out once for all shapes.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from extender.placement import (
    ANY_DEVICE,
    WHOLE_DEVICE_MILLI,
    Candidates,
    is_alternative,
    shares_device,
    tightest_device,
)
from extender.valuation import (
    COLUMNS,
    FULLNESS_STEPS,
    LEVEL_TERMS,
    NODE_TERMS,
    POD_KINDS,
    TERMS,
    ValueArray,
    WorkloadProfile,
    as_it_stands,
    fullness,
    pod_kind,
    with_the_pod,
)
from training.simulator.compiled import entry, inner
from training.simulator.event_loop import fail, list_feasible, next_attempt, place
from training.simulator.occupancy import has_room
from training.simulator.state import (
    CHANGES,
    FORCED,
    NOBODY,
    NODES_TO_FIND,
    NOWHERE,
    RESERVATIONS,
    Episode,
    shape_request,
)

NO_CHOICE = np.float32(-np.inf)
KEPT_BYTES = 1 << 29  # what would take more is made anew at every step
LANES = 24  # numbers beside each other, at least FULLNESS_STEPS; a multiple of what one instruction works on
AT_ONCE = 4  # terms that are added up at once; there is a multiple of it


class ValueCache(NamedTuple):
    """Scores of S shapes on N nodes, and those of their E candidates at each step."""

    score: ValueArray  # (S, N) float32, NO_CHOICE where the shape does not fit
    device: NDArray[np.int8]  # (S, N), the shared device
    count: NDArray[np.int8]  # (S, N), how many candidates there are
    first: NDArray[np.int64]  # (S,), where the shape's candidates begin: the first one of each node, the second ones, …
    candidate: NDArray[np.int8]  # (E,), the shared device of each candidate
    sums: ValueArray  # (E, LANES) float32, the score at each step; none where they are not kept
    seen: NDArray[np.int32]  # (S, N), the node's version when it was scored
    looked: NDArray[np.int64]  # (S,), the change of the cluster up to which a shape is up to date, -1 before
    step: NDArray[np.int64]  # (S,), the fullness that it was scored at


class Standing(NamedTuple):
    """What the terms take from N nodes as they stand, whatever pod comes."""

    version: NDArray[np.int32]  # (N,), the node's version for which it was worked out
    wasted: NDArray[np.float64]  # (N,), fragmentation
    levels: ValueArray  # (N, len(LEVEL_TERMS)) float32


class Room(NamedTuple):
    """Room to work in."""

    rows: NDArray[np.int64]  # (N,)
    after: NDArray[np.int64]  # (D,)
    columns: ValueArray  # (len(COLUMNS),)
    sums: ValueArray  # (LANES,)
    capacity: NDArray[np.int64]  # (R,), of the whole cluster


def weight_table(scores: Callable[[ValueArray], ValueArray], profile: WorkloadProfile) -> ValueArray | None:
    """Every weight that a policy has on a cluster with this profile.

    A term's weight is the score of a candidate that has one unit of it and nothing else.

    Args:
        scores: decisions to scores, (B, K, len(COLUMNS)) -> (B, K).
        profile: of the workload on the cluster.

    Returns:
        (FULLNESS_STEPS, len(POD_KINDS), len(TERMS)) float32; None where the scores are no sums of weighted terms.
    """
    kinds, count = len(POD_KINDS), len(TERMS)
    probe = np.zeros((FULLNESS_STEPS, kinds, count + 1, len(COLUMNS)), np.float32)
    probe[:, :, :count, :count] = np.eye(count)
    probe[:, :, count, :count] = np.random.default_rng(0).uniform(-1.0, 1.0, count)
    for kind in range(kinds):
        probe[:, kind, :, count + kind] = 1.0
    probe[..., count + kinds] = (np.arange(FULLNESS_STEPS, dtype=np.float32) / (FULLNESS_STEPS - 1))[:, None, None]
    probe[..., count + kinds + 1 :] = profile.shares
    found = scores(probe.reshape(FULLNESS_STEPS * kinds, count + 1, len(COLUMNS)))
    table: ValueArray = found.astype(np.float32).reshape(FULLNESS_STEPS, kinds, count + 1)
    weights, mixed = table[..., :count], table[..., count]
    if not np.allclose(weights @ probe[0, 0, count, :count], mixed, rtol=1e-3, atol=1e-3):
        return None
    return np.ascontiguousarray(weights)


class ValuedPlay:
    """An episode that a valuing policy plays, as far as one likes."""

    def __init__(self, episode: Episode, weights: ValueArray, profile: WorkloadProfile) -> None:
        """Begin.

        Args:
            episode: changed in place, as it is played.
            weights: (FULLNESS_STEPS, len(POD_KINDS), len(TERMS)) float32.
            profile: of the workload on this cluster.
        """
        nodes = episode.cluster.nodes
        count, slots = nodes.device_free.shape
        shapes = len(episode.shapes.gpu_count)
        self.episode = episode
        self._weights = np.zeros((len(POD_KINDS), len(TERMS), LANES), np.float32)
        self._weights[..., :FULLNESS_STEPS] = weights.transpose(1, 2, 0)
        self._steady = bool((weights == weights[0]).all())
        self._profile = profile
        width = np.where((episode.shapes.gpu_count == 1) & (episode.shapes.gpu_milli < WHOLE_DEVICE_MILLI), slots, 1)
        first = np.cumsum(width * count) - width * count
        candidates = int((width * count).sum())
        kept = not self._steady and candidates * LANES * 4 <= KEPT_BYTES
        self._cache = ValueCache(
            np.full((shapes, count), NO_CHOICE, np.float32),
            np.full((shapes, count), ANY_DEVICE, np.int8),
            np.zeros((shapes, count), np.int8),
            first,
            np.full(candidates, ANY_DEVICE, np.int8),
            np.empty((candidates if kept else 0, LANES), np.float32),
            np.full((shapes, count), -1, np.int32),
            np.full(shapes, -1, np.int64),
            np.full(shapes, -1, np.int64),
        )
        self._standing = Standing(
            np.full(count, -1, np.int32), np.zeros(count), np.zeros((count, len(LEVEL_TERMS)), np.float32)
        )
        self._room = Room(
            np.empty(count, np.int64),
            np.empty(slots, np.int64),
            np.empty(len(COLUMNS), np.float32),
            np.empty(LANES, np.float32),
            nodes.allocatable.sum(axis=0),
        )

    @property
    def fullness(self) -> int:
        """The step at which the cluster is now, see `valuation.fullness`."""
        return fullness(self.episode.cluster.in_use, self._room.capacity)

    def play(self, generator: np.random.Generator, until: int = FULLNESS_STEPS) -> bool:
        """Play on until the cluster is that full, or to the end; returns whether that is the end.

        Args:
            generator: preemption draws from it.
            until: a step; by default one that is never reached.
        """
        arguments = (self.episode, self._weights, self._profile, self._cache, self._standing, self._room)
        return bool(_play(*arguments, self._steady, until, generator))


@entry
def _play(episode, weights, profile, cache, standing, room, steady, until, generator):
    everywhere = episode.settings[NODES_TO_FIND] >= room.rows.shape[0]
    while True:
        if fullness(episode.cluster.in_use, room.capacity) >= until:
            return False
        pod = next_attempt(episode)
        if pod == NOBODY:
            return True
        shape = episode.pods.shape[pod]
        if episode.shapes.hopeless[shape]:
            fail(episode, pod, False, generator)
            continue
        # Pods may have left since.
        step = 0 if steady else fullness(episode.cluster.in_use, room.capacity)
        _refresh(cache, standing, weights, episode, shape, step, profile, room)
        withheld = False
        chosen = NOWHERE
        if everywhere and episode.counters[RESERVATIONS] == 0:
            chosen = _best_of_all(cache.score[shape])
        else:
            found, withheld = list_feasible(episode, pod, room.rows)
            chosen = _best_of(cache.score[shape], room.rows[:found])
            episode.counters[FORCED] += found == 1
        if chosen == NOWHERE:
            fail(episode, pod, withheld, generator)
        else:
            place(episode, pod, chosen, cache.device[shape, chosen])


@inner
def _best_of_all(scores):
    """The node with the best score, the first among equals; NOWHERE if there is no choice."""
    best, chosen = NO_CHOICE, NOWHERE
    for row in range(scores.shape[0]):
        if scores[row] > best:
            best, chosen = scores[row], row
    return chosen


@inner
def _best_of(scores, rows):
    best, chosen = NO_CHOICE, NOWHERE
    for index in range(rows.shape[0]):
        row = rows[index]
        if chosen == NOWHERE or scores[row] > best or (scores[row] == best and row < chosen):
            best, chosen = scores[row], row
    return chosen


@inner
def _refresh(cache, standing, weights, episode, shape, step, profile, room):
    """Score the nodes that have changed since this shape was last looked at, at a step of fullness."""
    request = shape_request(episode.shapes, shape)
    at_another_step = cache.step[shape] != step
    kept = cache.sums.shape[0] > 0
    found = _look(cache, episode, shape, request, at_another_step and not kept, room.rows)
    cache.step[shape] = step
    if at_another_step and kept:
        _choose_again(cache, shape, step)
    if found > 0:
        rows, weight = room.rows[:found], weights[pod_kind(request)]
        nodes, tables = episode.cluster.nodes, episode.tables
        _stand(standing, episode.cluster, rows, tables, profile, room)
        _score(cache, standing, shape, step, weight, nodes, request, rows, tables, profile, room)


@inner
def _look(cache, episode, shape, request, everywhere, rows):
    """List the candidates of nodes that have changed.

    Args:
        everywhere: whether other nodes are to be scored again as well.
        rows: receives the nodes that are to be scored.

    Returns:
        how many they are.
    """
    cluster = episode.cluster
    count = cluster.version.shape[0]
    changes = episode.counters[CHANGES]
    looked = cache.looked[shape]
    cache.looked[shape] = changes
    everything = everywhere or looked < 0 or changes - looked > count
    found = 0
    for index in range(count if everything else changes - looked):
        row = index if everything else cluster.changed[(looked + index) % count]
        if cache.seen[shape, row] != cluster.version[row]:
            cache.seen[shape, row] = cluster.version[row]
            cache.count[shape, row] = 0
            cache.score[shape, row] = NO_CHOICE
            if has_room(cluster, episode.shapes, shape, row):
                candidate = cache.candidate[cache.first[shape] + row :: count]
                cache.count[shape, row] = _list(candidate, cluster.nodes, request, row)
        elif not everywhere:
            continue
        if cache.count[shape, row] > 0:
            rows[found] = row
            found += 1
    return found


@inner
def _choose_again(cache, shape, step):
    """Score all nodes by the sums that are kept for this step."""
    count = cache.score.shape[1]
    for row in range(count):
        best, best_device = NO_CHOICE, ANY_DEVICE
        for nth in range(cache.count[shape, row]):
            at = cache.first[shape] + nth * count + row
            if cache.sums[at, step] > best:
                best, best_device = cache.sums[at, step], cache.candidate[at]
        cache.score[shape, row] = best
        cache.device[shape, row] = best_device


@inner
def _list(candidate, nodes, request, row):
    """List the node's candidates, the tightest device first, then those that leave something else; returns how many."""
    if not shares_device(request):
        candidate[0] = ANY_DEVICE
        return 1
    tightest = tightest_device(nodes, request, row)
    candidate[0] = tightest
    found = 1
    for device in range(nodes.device_free.shape[1]):
        if is_alternative(nodes, request, row, device, tightest):
            candidate[found] = device
            found += 1
    return found


@entry
def _stand(standing, cluster, rows, tables, profile, room):
    """Take in nodes as they stand."""
    for index in range(rows.shape[0]):
        row = rows[index]
        if standing.version[row] != cluster.version[row]:
            standing.version[row] = cluster.version[row]
            room.columns[:] = np.float32(0.0)
            standing.wasted[row] = as_it_stands(cluster.nodes, row, tables, profile, room.columns)
            for level in range(len(LEVEL_TERMS)):
                standing.levels[row, level] = room.columns[len(NODE_TERMS) + level]


@entry
def _score(cache, standing, shape, step, weight, nodes, request, rows, tables, profile, room):
    """Describe the candidates on these nodes and add up what they are worth.

    Compiled by itself: as a part of the loop it takes far longer to compile. Called once for all nodes, because a call
    hands over each array in a dozen pieces.
    """
    count = cache.score.shape[1]
    for index in range(rows.shape[0]):
        row = rows[index]
        best, best_device = NO_CHOICE, ANY_DEVICE
        for nth in range(cache.count[shape, row]):
            at = cache.first[shape] + nth * count + row
            device = cache.candidate[at]
            room.columns[:] = np.float32(0.0)
            for level in range(len(LEVEL_TERMS)):
                room.columns[len(NODE_TERMS) + level] = standing.levels[row, level]
            candidate, wasted = Candidates(row, device), standing.wasted[row]
            with_the_pod(nodes, request, candidate, tables, profile, wasted, room.after, room.columns)
            sums = cache.sums[at] if cache.sums.shape[0] > 0 else room.sums
            _add_up(room.columns, weight, sums)
            if sums[step] > best:
                best, best_device = sums[step], device
        cache.score[shape, row] = best
        cache.device[shape, row] = best_device


@inner
def _add_up(columns, weight, sums):
    """What the terms are worth at each step; (len(COLUMNS),), (len(TERMS), LANES) -> (LANES,)."""
    for lane in range(LANES):
        sums[lane] = np.float32(0.0)
    for term in range(0, len(TERMS), AT_ONCE):
        first, second, third, fourth = columns[term], columns[term + 1], columns[term + 2], columns[term + 3]
        for lane in range(LANES):
            sums[lane] += (
                first * weight[term, lane]
                + second * weight[term + 1, lane]
                + third * weight[term + 2, lane]
                + fourth * weight[term + 3, lane]
            )
