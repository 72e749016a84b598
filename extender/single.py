"""The functions of `placement`, `features` and `valuation` for one candidate, on plain numbers.

A node that changed has to be described anew before the next answer, and an expression over arrays costs as much for one
node as for five hundred: 2 ms. These functions were written for a single row as well, for the simulator to compile
(`elementwise`); without a compiler at hand they are run here as they stand, on Python's own numbers, which takes some
20 to 80 µs. They are the same code objects, looking up `where` and NumPy's functions elsewhere, so there is nothing to
keep in step; that both ways agree to the last bit is tested.
"""

import math
from array import array
from bisect import bisect_right
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any

import numpy as np

from extender import features, fragmentation, placement, valuation
from extender.fragmentation import FragmentationTables
from extender.placement import ANY_DEVICE, Candidates, NodeArrays, PodRequest, shares_device
from extender.valuation import WorkloadProfile

REMEMBERED_AT_MOST = 4000  # of each kind, some 300 bytes each; a node's changes in succession are near each other
MODULES = (placement, fragmentation, features, valuation)


class SingleNode:
    """Lists and describes the candidates of one node, measured against these typical pods."""

    def __init__(self, tables: FragmentationTables, profile: WorkloadProfile | None, width: int) -> None:
        """Take the constants over as plain numbers.

        Args:
            tables: the workload's typical pods.
            profile: what follows from them, for `valuation.terms`; None for `features.describe`.
            width: how many numbers are told of a candidate; those that the function does not set stay 0.
        """
        self._tables = _Tables._make(map(_table, tables))
        self._tables.known = {}
        self._profile = None if profile is None else WorkloadProfile._make(map(_table, profile))
        self._zeros = bytes(4 * width)

    def candidates(self, nodes: NodeArrays, pod: PodRequest, row: int) -> "list[tuple[int, array[float]]]":
        """The node's candidates in the order of `placement.list_candidates`, each with its device and description."""
        node, plain = _only(nodes, row), pod._replace(request=_List(pod.request.tolist()))  # type: ignore[arg-type]
        if not _FUNCTIONS["fits"](node, plain, 0):
            return []
        slots = node.device_free.shape[1]
        devices = [ANY_DEVICE]
        if shares_device(pod):
            tightest, looser = _FUNCTIONS["tightest_device"](node, plain, 0), _FUNCTIONS["is_alternative"]
            devices = [tightest, *(each for each in range(slots) if looser(node, plain, 0, each, tightest))]
        if self._profile is None:
            return [self._described(node, plain, device) for device in devices]
        standing = array("f", self._zeros)
        wasted = _FUNCTIONS["as_it_stands"](node, 0, self._tables, self._profile, standing)
        return [self._valued(node, plain, device, wasted, standing) for device in devices]

    def _described(self, node: NodeArrays, pod: PodRequest, device: int) -> "tuple[int, array[float]]":
        described, after = array("f", self._zeros), _List([0] * node.device_free.shape[1])
        _FUNCTIONS["describe"](node, pod, Candidates(0, device), self._tables, after, described)
        return device, described

    def _valued(
        self, node: NodeArrays, pod: PodRequest, device: int, wasted: float, standing: "array[float]"
    ) -> "tuple[int, array[float]]":
        described, after = array("f", standing), _List([0] * node.device_free.shape[1])
        candidate = Candidates(0, device)
        _FUNCTIONS["with_the_pod"](node, pod, candidate, self._tables, self._profile, wasted, after, described)
        return device, described


def fullness(in_use: list[int], capacity: list[int]) -> int:
    """`valuation.fullness` of plain numbers."""
    return int(_FUNCTIONS["fullness"](in_use, capacity))


class _List(list[Any]):
    """A list where an array of one dimension is expected."""

    @property
    def shape(self) -> tuple[int]:
        return (len(self),)

    @property
    def T(self) -> "_List":  # noqa: N802 - as arrays call it
        return self


class _Tables(FragmentationTables):
    """Typical pods by size, with the fragmentations that were looked up already."""

    known: dict[tuple[int, int, tuple[int, ...]], float]


class _Row:
    """The only row of an array of nodes, whatever row is asked for."""

    __slots__ = ("shape", "values")

    def __init__(self, values: list[Any]) -> None:
        self.values = values
        self.shape = (1, len(values))

    def __getitem__(self, at: Any) -> Any:
        return self.values[at[1]] if type(at) is tuple else _List(self.values)


class _Number:
    """The only entry of an array with one number per node."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __getitem__(self, at: int) -> Any:
        return self.value


class _Table:
    """A constant array of several dimensions."""

    __slots__ = ("values",)

    def __init__(self, values: list[Any]) -> None:
        self.values = values

    def __getitem__(self, at: tuple[int, ...]) -> Any:
        found = self.values
        for index in at:
            found = found[index]
        return found


class _Numbers:
    """The functions of NumPy that the compilable ones call, for plain numbers."""

    sqrt = staticmethod(math.sqrt)  # rounded correctly by either, so they agree
    log1p = staticmethod(np.log1p)  # the C library's need not be NumPy's

    @staticmethod
    def maximum(one: Any, other: Any) -> Any:
        return one if one >= other else other

    @staticmethod
    def minimum(one: Any, other: Any) -> Any:
        return one if one <= other else other

    @staticmethod
    def searchsorted(edges: list[int], value: Any, side: str) -> int:
        return bisect_right(edges, value)  # the side that is asked for everywhere is "right"


def _where(condition: Any, yes: Any, no: Any) -> Any:
    return yes if condition else no


def _add_at(additions: list[tuple[int, float]], position: float, amount: float) -> None:
    if amount != 0.0:
        additions.append((int(position), amount))


def _only(nodes: NodeArrays, row: int) -> NodeArrays:
    """One node. Devices that it does not have, the last columns, contribute nothing to any sum and are left out."""
    free = nodes.device_free[row].tolist()
    while free and free[-1] == placement.ABSENT_DEVICE:
        free.pop()
    return NodeArrays(
        _Row(nodes.allocatable[row].tolist()),  # type: ignore[arg-type]
        _Row(nodes.requested[row].tolist()),  # type: ignore[arg-type]
        nodes.nonzero,
        _Row(free),  # type: ignore[arg-type]
        nodes.gpu_pods,
        _Number(int(nodes.model[row])),  # type: ignore[arg-type]
        _Number(float(nodes.order[row])),  # type: ignore[arg-type]
    )


def _table(constant: Any) -> Any:
    return _List(constant.tolist()) if constant.ndim == 1 else _Table(constant.tolist())


def _run_as_they_stand(modules: tuple[ModuleType, ...]) -> dict[str, Callable[..., Any]]:
    """The compilable functions of these modules, calling each other and the stand-ins above."""
    found: dict[str, Callable[..., Any]] = {}
    scopes = []
    for module in modules:
        constants = {name: _List(value.tolist()) for name, value in vars(module).items() if type(value) is np.ndarray}
        scope = vars(module) | constants | {"where": _where, "add_at": _add_at, "np": _Numbers}
        scopes.append(scope)
        for function in module.COMPILABLE:
            name = function.__name__
            found[name] = FunctionType(function.__code__, scope, name, function.__defaults__)
            if name in _REMEMBERED:
                found[name] = _REMEMBERED[name](found[name])
    for scope in scopes:
        scope.update({name: function for name, function in found.items() if name in scope})
    return found


def _remember_fragmentation(compute: Callable[..., float]) -> Callable[..., float]:
    """Nodes with as much left on their devices are common, and of the CPU only its bin counts."""

    def fragmentation(tables: _Tables, model: int, cpu_free: int, device_free: list[int]) -> float:
        key = (model, bisect_right(tables.cpu_edges, cpu_free), tuple(device_free))
        found = tables.known.get(key)
        if found is None:
            if len(tables.known) >= REMEMBERED_AT_MOST:
                tables.known.clear()
            found = tables.known[key] = compute(tables, model, cpu_free, device_free)
        return found

    return fragmentation


def _remember_levels(compute: Callable[..., None]) -> Callable[..., None]:
    """Devices of a node with equally much left add the same to the same columns."""
    known: dict[tuple[int, float, float], list[tuple[int, float]]] = {}

    def count_level(columns: Any, free: int, share: float, sign: float) -> None:
        key = (free, share, sign)
        additions = known.get(key)
        if additions is None:
            if len(known) >= REMEMBERED_AT_MOST:
                known.clear()
            additions = known[key] = []
            compute(additions, free, share, sign)
        for position, amount in additions:
            columns[position] += amount

    return count_level


_REMEMBERED: dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]] = {
    "fragmentation": _remember_fragmentation,
    "count_level": _remember_levels,
}
_FUNCTIONS = _run_as_they_stand(MODULES)
