"""What a policy file is told of the candidates, kept from one pod to the next of the same shape.

Most nodes have not changed since a pod of that shape was last asked about, and what is told of a candidate depends on
its node and the pod alone, or on what is the same for all candidates and filled in at the end. So the rows of the
network's input are kept per shape, and only those of nodes that changed are made anew: a few of them one by one
(`single`), many with expressions over arrays. What is handed out is what `OnnxPolicy.inputs` makes, to the last bit.

A weighing policy's scores are sums of terms, each times a weight that follows from the situation. Its weights are kept
as well, and so are the scores, until the situation is another: the graph is asked for weights only. The simulator plays
such policies in the same way (`training.simulator.valued`).

Source of the manner: the generations of kube-scheduler's cache (pkg/scheduler/backend/cache/cache.go, UpdateSnapshot).
"""

import math
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from extender.features import FeatureArray, describe
from extender.placement import Candidates, IntArray, NodeArrays, PodRequest, list_candidates
from extender.policies.base import NodeView, ScoreArray, Scored
from extender.policies.onnx import OnnxPolicy
from extender.policies.worker import DeadlineError
from extender.single import SingleNode, fullness
from extender.valuation import FULLNESS_STEPS, NODE_TERMS, POD_KINDS, TERMS, WorkloadProfile, pod_kind, terms

BYTES_AT_MOST = 48 * 1024 * 1024
ONE_BY_ONE = 24  # so many nodes are described one by one in the time that it takes over arrays
ROWS_AT_ONCE = 512
ORDER = NODE_TERMS.index("order")  # changes with the names of other nodes


class UnpreparedError(DeadlineError):
    """Too many nodes had to be described for the first time; those that were need not be again."""


class KeptInputs:
    """The inputs of a policy file, for nodes with the GPU models that it is bound to."""

    def __init__(self, policy: OnnxPolicy) -> None:
        self._policy = policy
        self._width = len(policy.metadata.feature_names)
        self._totals = _Totals()
        self._profile: WorkloadProfile | None = None
        self._inventory = -1
        self._told: FeatureArray = np.zeros(0, np.float32)  # the situation that was told last
        self._order: NDArray[np.float64] = np.zeros(0)
        self._weights: dict[tuple[int, int], FeatureArray | None] = {}
        self._single = SingleNode(policy.tables, None, self._width)
        self._shapes: dict[tuple[object, ...], _Shape] = {}  # the one that was asked for last comes last

    def look(self, view: NodeView, pod: PodRequest, rows: IntArray, until: float) -> tuple[Candidates, FeatureArray]:
        """List the candidates and what the policy is told of each.

        Args:
            view: all nodes.
            pod: to be placed.
            rows: (n,) int64, the nodes to look at.
            until: `time.perf_counter()` at which there is no use in going on.

        Returns:
            K candidates as `placement.list_candidates` lists them, and (K, F) float32.

        Raises:
            UnpreparedError: there was not enough time.
        """
        shape, changed = self._up_to_date(view, pod, rows, until)
        if len(changed):
            shape.weights = None  # they have no scores yet
        candidates, inputs = shape.listed(rows, [layer.inputs for layer in shape.layers], self._width)
        if self._policy.weighs:
            inputs[:, len(TERMS) :] = self._situation(pod)
        return candidates, inputs

    def score(
        self, view: NodeView, pod: PodRequest, rows: IntArray, until: float, ask: Callable[[FeatureArray], ScoreArray]
    ) -> Scored | None:
        """List the candidates and score them, if the policy weighs terms.

        Args:
            view: all nodes.
            pod: to be placed.
            rows: (n,) int64, the nodes to look at.
            until: `time.perf_counter()` at which there is no use in going on.
            ask: scores of the policy file for (K, F) inputs.

        Returns:
            Candidates as `placement.list_candidates` lists them, and float32 scores; None where the policy's scores are
            no sums of weighted terms.

        Raises:
            UnpreparedError: there was not enough time.
        """
        shape, changed = self._up_to_date(view, pod, rows, until)
        situation = self._situation(pod)
        key = (pod_kind(pod), round(float(situation[len(POD_KINDS)]) * (FULLNESS_STEPS - 1)))
        if key not in self._weights:
            self._weights[key] = weights_in(situation, ask)
        weights = self._weights[key]
        if weights is None:
            return None
        if shape.weights is not weights:
            shape.weights = weights
            for layer in shape.layers:
                layer.scores = layer.inputs[:, : len(TERMS)] @ weights
        elif len(changed):
            shape.score(changed, weights)
        return Scored(*shape.listed(rows, [layer.scores for layer in shape.layers], None))

    def refresh(self, view: NodeView, pod: PodRequest, rows: IntArray) -> None:
        """Describe these rows, and score them as those that have not changed are, before they are looked at again."""
        shape, changed = self._up_to_date(view, pod, rows, math.inf)
        if len(changed) and shape.weights is not None:
            shape.score(changed, shape.weights)

    def told_of(self, chosen: Candidates) -> FeatureArray:
        """What the policy was told of some of the candidates that were listed last; (K, F) float32."""
        shape = self._shapes[next(reversed(self._shapes))]
        inputs: FeatureArray = shape.layers[0].inputs[chosen.rows]
        for place, layer in enumerate(shape.layers[1:], 1):
            here = (shape.count[chosen.rows] > place) & (layer.device[chosen.rows] == chosen.devices)
            inputs[here] = layer.inputs[chosen.rows[here]]
        if self._policy.weighs:
            inputs[:, len(TERMS) :] = self._told
        return inputs

    def _up_to_date(self, view: NodeView, pod: PodRequest, rows: IntArray, until: float) -> tuple["_Shape", IntArray]:
        """What is kept of the pod's shape, with these rows as they are now; and which of them had changed."""
        self._totals.update(view)
        if self._policy.weighs:
            if self._inventory != self._totals.inventory:
                self._take_profile(view.nodes)
            if not np.array_equal(self._order, view.nodes.order):
                self._take_order(view.nodes.order)
        shape = self._shape_of(pod, view.generation.shape[0])
        changed = rows[shape.seen[rows] != view.generation[rows]]
        if len(changed):
            self._describe(shape, view, pod, changed, until)
        return shape, changed

    def _situation(self, pod: PodRequest) -> FeatureArray:
        """The columns of `valuation.SITUATION`."""
        assert self._profile is not None
        situation = np.zeros(self._width - len(TERMS), np.float32)
        situation[pod_kind(pod)] = 1.0
        step = fullness(self._totals.requested.tolist(), self._totals.allocatable.tolist())
        situation[len(POD_KINDS)] = step / (FULLNESS_STEPS - 1)
        situation[len(POD_KINDS) + 1 :] = self._profile.shares
        self._told = situation
        return situation

    def _take_order(self, order: NDArray[np.float64]) -> None:
        """Names came or went, so that all others have another place among them."""
        self._order = order.copy()
        for shape in self._shapes.values():
            shape.weights = None
            for layer in shape.layers:
                layer.inputs[: len(order), ORDER] = order

    def _take_profile(self, nodes: NodeArrays) -> None:
        self._inventory = self._totals.inventory
        known, self._profile = self._profile, self._policy.profile_of(nodes)
        if known is self._profile:
            return
        self._weights = {}
        if known is None or not (
            np.array_equal(known.pressure, self._profile.pressure)
            and np.array_equal(known.largest, self._profile.largest)
        ):
            self._shapes.clear()  # nothing else of a profile that terms depend on moves with the inventory
            self._single = SingleNode(self._policy.tables, self._profile, self._width)

    def _shape_of(self, pod: PodRequest, room: int) -> "_Shape":
        key = (pod.request.tobytes(), pod.gpu_count, pod.gpu_milli, pod.priority, pod.expected_seconds)
        shape = self._shapes.pop(key, None)
        if shape is None or shape.seen.shape[0] != room:
            shape = _Shape(room)
        self._shapes[key] = shape
        return shape

    def _describe(self, shape: "_Shape", view: NodeView, pod: PodRequest, rows: IntArray, until: float) -> None:
        nodes = view.nodes
        one_by_one = len(rows) <= ONE_BY_ONE
        if not one_by_one:
            shape.weights = None  # some may stay without scores when time runs out
        for start in range(0, len(rows), ROWS_AT_ONCE):
            if time.perf_counter() >= until:
                raise UnpreparedError(f"{len(rows) - start} of {len(rows)} nodes that changed were not described yet")
            some = rows[start : start + ROWS_AT_ONCE]
            if one_by_one:
                for row in some.tolist():
                    found = self._single.candidates(nodes, pod, row)
                    shape.count[row] = len(found)
                    for place, (device, described) in enumerate(found):
                        layer = shape.layer(place, self._width)
                        layer.device[row] = device
                        layer.inputs[row] = described
            else:
                candidates = list_candidates(nodes, pod, some, len(some) * max(nodes.device_free.shape[1], 1))
                shape.take(some, candidates, self._columns(nodes, pod, candidates), self._width)
            shape.seen[some] = view.generation[some]
        if not one_by_one:
            self._forget()

    def _columns(self, nodes: NodeArrays, pod: PodRequest, candidates: Candidates) -> FeatureArray:
        count = len(candidates.rows)
        columns = np.zeros((self._width, count), np.float32)
        after = np.empty((nodes.device_free.shape[1], count), np.int64)
        if self._policy.weighs:
            assert self._profile is not None
            terms(nodes, pod, candidates, self._policy.tables, self._profile, after, columns)
        else:
            describe(nodes, pod, candidates, self._policy.tables, after, columns)
        return columns.T

    def _forget(self) -> None:
        """Drop the shapes that were not asked for the longest, until what is kept is within its limit."""
        kept = sum(shape.size for shape in self._shapes.values())
        while kept > BYTES_AT_MOST and len(self._shapes) > 1:
            kept -= self._shapes.pop(next(iter(self._shapes))).size


def weights_in(situation: FeatureArray, ask: Callable[[FeatureArray], ScoreArray]) -> FeatureArray | None:
    """The weight that a policy gives to each term in a situation; (len(TERMS),) float32.

    A term's weight is the score of a candidate that has one unit of it and nothing else. None where the scores of
    candidates that have several are not the sums.

    Args:
        situation: (len(SITUATION),) float32.
        ask: scores of the policy file.
    """
    count = len(TERMS)
    probe = np.zeros((count + 1, count + len(situation)), np.float32)
    probe[:count, :count] = np.eye(count)
    probe[count, :count] = np.random.default_rng(0).uniform(-1.0, 1.0, count)
    probe[:, count:] = situation
    found = np.asarray(ask(probe), np.float32)
    weights = np.ascontiguousarray(found[:count])
    return weights if np.allclose(weights @ probe[count, :count], found[count], rtol=1e-3, atol=1e-3) else None


class _Layer:
    """One candidate of each of N nodes: its device, what is told of it, and its score if that is kept."""

    def __init__(self, room: int, width: int) -> None:
        self.device: NDArray[np.int64] = np.zeros(room, np.int64)
        self.inputs: FeatureArray = np.zeros((room, width), np.float32)
        self.scores: FeatureArray = np.zeros(room, np.float32)


class _Shape:
    """What is known of one shape of pods: layer 0 has each node's first candidate, layer 1 its second, and so on.

    Attributes:
        seen: (N,) int64, the generation in which a row was described, -1 if it never was.
        count: (N,) int64, how many candidates it has.
        layers: as many as any row has had candidates.
        weights: those that the scores were made with.
    """

    def __init__(self, room: int) -> None:
        self.seen: IntArray = np.full(room, -1, np.int64)
        self.count: IntArray = np.zeros(room, np.int64)
        self.layers: list[_Layer] = []
        self.weights: FeatureArray | None = None

    @property
    def size(self) -> int:
        """Bytes."""
        return (
            self.seen.nbytes
            + self.count.nbytes
            + sum(each.inputs.nbytes + each.device.nbytes + each.scores.nbytes for each in self.layers)
        )

    def layer(self, place: int, width: int) -> _Layer:
        """The layer, made when it is first needed."""
        while len(self.layers) <= place:
            self.layers.append(_Layer(self.seen.shape[0], width))
        return self.layers[place]

    def score(self, rows: IntArray, weights: FeatureArray) -> None:
        """Score the candidates on these rows with the weights that the others were scored with."""
        for layer in self.layers:
            layer.scores[rows] = layer.inputs[rows, : len(TERMS)] @ weights

    def take(self, rows: IntArray, candidates: Candidates, inputs: FeatureArray, width: int) -> None:
        """Put the candidates of these rows, all of them, in place of what is known."""
        self.count[rows] = 0
        order = np.argsort(candidates.rows, kind="stable")
        sorted_rows = candidates.rows[order]
        starts = np.searchsorted(sorted_rows, sorted_rows, side="left")
        places = np.arange(len(order)) - starts
        for place in range(int(places.max(initial=-1)) + 1):
            chosen = order[places == place]
            layer, on = self.layer(place, width), candidates.rows[chosen]
            layer.device[on] = candidates.devices[chosen]
            layer.inputs[on] = inputs[chosen]
            self.count[on] += 1

    def listed(self, rows: IntArray, values: list[FeatureArray], width: int | None) -> tuple[Candidates, FeatureArray]:
        """The candidates on these rows in the order of `placement.list_candidates`, and a copy of a value of each.

        Args:
            rows: (n,) int64.
            values: per layer, (N,) or (N, width).
            width: of the values, None for one number each.
        """
        counts = self.count[rows]
        deepest = int(counts.max(initial=0))
        if deepest == 0:
            nothing = np.empty(0, np.int64)
            return Candidates(nothing, nothing), np.empty((0, width) if width else 0, np.float32)
        first = rows if counts.min() > 0 else rows[counts > 0]
        devices = self.layers[0].device.take(first)
        if deepest == 1:
            return Candidates(first, devices), values[0].take(first, axis=0)
        # After all the first ones come the others of device 0, then those of device 1: by device, then as in `rows`.
        positions = [np.flatnonzero(counts > place) for place in range(1, deepest)]
        others = [rows[at] for at in positions]
        other_devices = np.concatenate([self.layers[place].device[on] for place, on in enumerate(others, 1)])
        order = np.lexsort((np.concatenate(positions), other_devices))
        other_values = np.concatenate([values[place][on] for place, on in enumerate(others, 1)])
        return (
            Candidates(
                np.concatenate((first, np.concatenate(others)[order])), np.concatenate((devices, other_devices[order]))
            ),
            np.concatenate((values[0][first], other_values[order])),
        )


class _Totals:
    """Sums over all nodes, kept up to date by the rows that changed.

    Attributes:
        requested: (R,) int64.
        allocatable: (R,) int64.
        inventory: counts the changes of what nodes offer.
    """

    def __init__(self) -> None:
        self.requested: IntArray = np.zeros(0, np.int64)
        self.allocatable: IntArray = np.zeros(0, np.int64)
        self.inventory = 0
        self._seen: IntArray = np.zeros(0, np.int64)
        self._nodes: tuple[IntArray, IntArray, IntArray] | None = None

    def update(self, view: NodeView) -> None:
        """Take the changes over."""
        nodes = view.nodes
        used = nodes.allocatable.shape[0]
        generation = view.generation[:used]
        if self._nodes is None or self._seen.shape[0] != used:
            self.requested, self.allocatable = nodes.requested.sum(axis=0), nodes.allocatable.sum(axis=0)
            self._nodes = (nodes.requested.copy(), nodes.allocatable.copy(), nodes.model.copy())
            self._seen = generation.copy()
            self.inventory += 1
            return
        changed = np.flatnonzero(self._seen != generation)
        if len(changed) == 0:
            return
        requested, allocatable, model = self._nodes
        now = nodes.requested[changed]
        self.requested = self.requested + (now - requested[changed]).sum(axis=0)
        requested[changed] = now
        now = nodes.allocatable[changed]
        if not np.array_equal(now, allocatable[changed]) or not np.array_equal(nodes.model[changed], model[changed]):
            self.allocatable = self.allocatable + (now - allocatable[changed]).sum(axis=0)
            allocatable[changed] = now
            model[changed] = nodes.model[changed]
            self.inventory += 1
        self._seen[changed] = generation[changed]
