"""The cluster as a struct of arrays: a row per node, kept up to date pod by pod.

`cluster.feed` and `cluster.assume` are its only writers, all on the event loop; `decision` reads the arrays. Rows are
reused when nodes leave, arrays grow by doubling, and a pod event costs the same at ten nodes and at ten thousand.
Pods are kept by uid with the node they are on, also when that node is not known (yet): nodes and pods are watched
separately, so either can arrive first.
"""

from itertools import repeat

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from extender.placement import (
    ABSENT_DEVICE,
    ANY_DEVICE,
    GPU,
    WHOLE_DEVICE_MILLI,
    IntArray,
    NodeArrays,
    PodRequest,
    empty_nodes,
    occupy,
    release,
    shares_device,
)

UNKNOWN_ROW = -1
UNKNOWN_MODEL = ""
_FIRST_ROWS = 64
_FIRST_DEVICES = 1


class PlacedPod(Struct, gc=False):
    """A pod on a node.

    Attributes:
        node: the node's name.
        request: what the pod takes.
        row: the node's row, `UNKNOWN_ROW` while the node is not known.
        taken: bit mask of the devices it has, as `placement.occupy` gave it.
        began: when it started to run, Unix seconds; 0.0 until its kubelet has said so.
    """

    node: str
    request: PodRequest
    row: int
    taken: int
    began: float = 0.0

    def lacks_devices(self) -> bool:
        """Whether it is on the node without enough devices for it in our books: placed there by others."""
        return self.row != UNKNOWN_ROW and self.taken.bit_count() < self.request.gpu_count


class ClusterState:
    """Nodes and the pods on them.

    Attributes:
        resources: names of the columns.
        arrays: the rows; unused rows are zero and in no candidate list. Growing replaces it, so do not keep it.
        models: names of the GPU models seen so far, in the order of their numbers in `arrays.model`; number 0 is
            `UNKNOWN_MODEL`. A name keeps its number, so the tuple is replaced only when a new name is appended.
        generation: (N,) int64, counts the changes of a row, also across its reuse.
        pods: by uid, what is on nodes, known or not.
    """

    def __init__(self, resources: tuple[str, ...]) -> None:
        self.resources = resources
        self.arrays = _unused(_FIRST_ROWS, len(resources), _FIRST_DEVICES)
        self.models: tuple[str, ...] = (UNKNOWN_MODEL,)
        self.generation: NDArray[np.int64] = np.zeros(_FIRST_ROWS, dtype=np.int64)
        self.pods: dict[str, PlacedPod] = {}
        self._row_of: dict[str, int] = {}
        self._names: list[str] = [""] * _FIRST_ROWS
        self._unused_rows = list(range(_FIRST_ROWS - 1, -1, -1))
        self._rows_used = 0
        self._ordered = True  # whether `arrays.order` is that of the names
        self._pods_on: dict[str, dict[str, None]] = {}  # node name -> uids, in the order they came

    def __len__(self) -> int:
        """Number of nodes."""
        return len(self._row_of)

    def __contains__(self, node: object) -> bool:
        """Whether a node of that name is known."""
        return node in self._row_of

    @property
    def nodes(self) -> NodeArrays:
        """The rows that have been in use, views of `arrays`: what policies look at."""
        used = self._rows_used
        if not self._ordered:
            self._order_by_name()
        return NodeArrays._make(array[:used] for array in self.arrays)

    def node_names(self) -> list[str]:
        """The known nodes."""
        return list(self._row_of)

    def name_of(self, row: int) -> str:
        """Name of the node in the row."""
        return self._names[row]

    def row_of(self, node: str) -> int:
        """Row of the node, `UNKNOWN_ROW` if there is none of that name."""
        return self._row_of.get(node, UNKNOWN_ROW)

    def rows_of(self, nodes: list[str]) -> IntArray:
        """Rows of the nodes, (len(nodes),) int64, `UNKNOWN_ROW` for each that is not known."""
        return np.fromiter(map(self._row_of.get, nodes, repeat(UNKNOWN_ROW)), dtype=np.int64, count=len(nodes))

    def put_node(self, node: str, allocatable: IntArray, devices: int, model: str = UNKNOWN_MODEL) -> None:
        """Add the node, or take over what it offers now; pods that are on it stay counted.

        Args:
            allocatable: (R,) int64.
            devices: number of GPUs.
            model: name of their model.
        """
        number = self._model_number(model)
        row = self._row_of.get(node)
        if row is None:
            row = self._take_row()
            self._row_of[node] = row
            self._names[row] = node
            self._ordered = False
            self._set_devices(row, devices)
            self._repack(node, row)
        elif devices != self._device_count(row):
            self._set_devices(row, devices)
            self._repack(node, row)
        elif number == self.arrays.model[row] and np.array_equal(self.arrays.allocatable[row], allocatable):
            return  # kubelets report every few minutes, mostly what they reported before
        self.arrays.allocatable[row] = allocatable
        self.arrays.model[row] = number
        self.generation[row] += 1

    def remove_node(self, node: str) -> bool:
        """Forget the node; its pods are kept until they are removed themselves. Returns whether it was known."""
        row = self._row_of.pop(node, None)
        if row is None:
            return False
        for uid in self._pods_on.get(node, ()):
            pod = self.pods[uid]
            pod.row, pod.taken = UNKNOWN_ROW, 0
        self.arrays.allocatable[row] = 0
        self.arrays.model[row] = 0
        self._clear(row)
        self.arrays.device_free[row] = ABSENT_DEVICE
        self.generation[row] += 1
        self._names[row] = ""
        self._ordered = False
        self._unused_rows.append(row)
        return True

    def pods_on(self, node: str) -> list[PlacedPod]:
        """The pods on the node, in the order they came."""
        return [self.pods[uid] for uid in self._pods_on.get(node, ())]

    def put_pod(self, uid: str, node: str, request: PodRequest, device: int = ANY_DEVICE, began: float = 0.0) -> None:
        """Put the pod on the node, away from wherever it was; the same place and size again changes nothing.

        A pod that stays on its node with the same GPU request keeps its devices.

        Args:
            device: the device that it shares, `ANY_DEVICE` if that is not known.
            began: when it started to run, Unix seconds; 0.0 if that is not known.
        """
        known = self.pods.get(uid)
        if known is not None:
            if known.node == node and _same_devices(known.request, request):
                known.began = began or known.began
                self._resize(known, request)
                return
            self.remove_pod(uid)
        row = self.row_of(node)
        pod = PlacedPod(node, request, row, 0, began)
        self.pods[uid] = pod
        self._pods_on.setdefault(node, {})[uid] = None
        if row == UNKNOWN_ROW:
            return
        pod.taken = occupy(self.arrays, request, row, device)
        if pod.lacks_devices():
            self._repack(node, row)
        self.generation[row] += 1

    def remove_pod(self, uid: str) -> bool:
        """Take the pod off its node. Returns whether it was on one."""
        pod = self.pods.pop(uid, None)
        if pod is None:
            return False
        on_node = self._pods_on[pod.node]
        del on_node[uid]
        if not on_node:
            del self._pods_on[pod.node]
        if pod.row != UNKNOWN_ROW:
            release(self.arrays, pod.request, pod.row, pod.taken)
            if pod.taken and any(self.pods[other].lacks_devices() for other in on_node):
                self._repack(pod.node, pod.row)
            self.generation[pod.row] += 1
        return True

    def _resize(self, pod: PlacedPod, request: PodRequest) -> None:
        change = request.request - pod.request.request
        nonzero_change = request.nonzero - pod.request.nonzero
        pod.request = request
        if pod.row != UNKNOWN_ROW and (np.any(change) or np.any(nonzero_change)):
            self.arrays.requested[pod.row] += change
            self.arrays.nonzero[pod.row] += nonzero_change
            self.generation[pod.row] += 1

    def _repack(self, node: str, row: int) -> None:
        """Count the node's pods anew, the largest GPU requests first, so that as many as possible find devices.

        The devices of pods that were placed by others, or before a restart, are a guess; the guess must not leave a
        pod without a device where another guess has one for it.
        """
        self._clear(row)
        self._set_devices(row, self._device_count(row))
        pods = self.pods_on(node)
        pods.sort(key=lambda pod: (shares_device(pod.request), -int(pod.request.request[GPU])))
        for pod in pods:
            pod.row = row
            pod.taken = occupy(self.arrays, pod.request, row, ANY_DEVICE)

    def _order_by_name(self) -> None:
        """Number the nodes by name, which a restart does not change."""
        names = sorted(self._row_of)
        self.arrays.order[self.rows_of(names)] = np.arange(len(names)) / max(len(names), 1)
        self._ordered = True

    def _clear(self, row: int) -> None:
        for array in (self.arrays.requested, self.arrays.nonzero, self.arrays.gpu_pods):
            array[row] = 0

    def _model_number(self, model: str) -> int:
        if model not in self.models:  # a cluster has a handful
            self.models = (*self.models, model)
        return self.models.index(model)

    def _device_count(self, row: int) -> int:
        return int(np.count_nonzero(self.arrays.device_free[row] != ABSENT_DEVICE))

    def _set_devices(self, row: int, count: int) -> None:
        missing = count - self.arrays.device_free.shape[1]
        if missing > 0:
            extra = np.full((self.arrays.device_free.shape[0], missing), ABSENT_DEVICE, dtype=np.int64)
            self.arrays = self.arrays._replace(device_free=np.hstack((self.arrays.device_free, extra)))
        self.arrays.device_free[row] = ABSENT_DEVICE
        self.arrays.device_free[row, :count] = WHOLE_DEVICE_MILLI

    def _take_row(self) -> int:
        if not self._unused_rows:
            rows = len(self._names)
            more = _unused(rows, len(self.resources), self.arrays.device_free.shape[1])
            self.arrays = NodeArrays._make(map(np.concatenate, zip(self.arrays, more, strict=True)))
            self.generation = np.concatenate((self.generation, np.zeros_like(self.generation)))
            self._names.extend(repeat("", rows))
            self._unused_rows = list(range(2 * rows - 1, rows - 1, -1))
        row = self._unused_rows.pop()
        self._rows_used = max(self._rows_used, row + 1)
        return row


def _unused(rows: int, resources: int, devices: int) -> NodeArrays:
    """Rows without nodes."""
    nothing = empty_nodes(np.zeros((rows, resources), np.int64), np.zeros(rows, np.int64))
    return nothing._replace(device_free=np.full((rows, devices), ABSENT_DEVICE, dtype=np.int64))


def _same_devices(one: PodRequest, other: PodRequest) -> bool:
    return one.gpu_count == other.gpu_count and one.gpu_milli == other.gpu_milli
