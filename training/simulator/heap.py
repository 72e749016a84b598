"""A binary heap in arrays: smallest key first, among equal keys the smallest order, then the smallest rank.

The arrays belong to the episode's state, so that a checkpoint of the arrays is a checkpoint of the heap. Ranks are
unique, so the order in which entries leave does not depend on the order in which they came.
"""

from typing import NamedTuple

import numpy as np

from training.simulator.compiled import inner


class Heap(NamedTuple):
    """Up to P entries."""

    keys: np.ndarray  # (P,) float64
    orders: np.ndarray  # (P,) float64
    ranks: np.ndarray  # (P,) int64
    items: np.ndarray  # (P,) int64
    size: np.ndarray  # (1,) int64


@inner
def _is_before(heap, key, order, rank, position):
    if key != heap.keys[position]:
        return key < heap.keys[position]
    if order != heap.orders[position]:
        return order < heap.orders[position]
    return rank < heap.ranks[position]


@inner
def _move(heap, source, target):
    heap.keys[target] = heap.keys[source]
    heap.orders[target] = heap.orders[source]
    heap.ranks[target] = heap.ranks[source]
    heap.items[target] = heap.items[source]


@inner
def _put(heap, position, key, order, rank, item):
    heap.keys[position] = key
    heap.orders[position] = order
    heap.ranks[position] = rank
    heap.items[position] = item


@inner
def push(heap, key, order, rank, item):
    """Insert an entry."""
    child = heap.size[0]
    heap.size[0] += 1
    while child > 0:
        parent = (child - 1) >> 1
        if not _is_before(heap, key, order, rank, parent):
            break
        _move(heap, parent, child)
        child = parent
    _put(heap, child, key, order, rank, item)


@inner
def pop(heap):
    """Remove the smallest entry; returns its item."""
    smallest = heap.items[0]
    heap.size[0] -= 1
    size = heap.size[0]
    key, order, rank, item = heap.keys[size], heap.orders[size], heap.ranks[size], heap.items[size]
    parent = 0
    while True:
        child = 2 * parent + 1
        if child >= size:
            break
        if child + 1 < size:
            other = child + 1
            if _is_before(heap, heap.keys[other], heap.orders[other], heap.ranks[other], child):
                child = other
        if _is_before(heap, key, order, rank, child):
            break
        _move(heap, child, parent)
        parent = child
    _put(heap, parent, key, order, rank, item)
    return smallest


@inner
def remove(heap, item):
    """Remove the entry of this item, which has to be there; takes a look at every entry."""
    position = 0
    while heap.items[position] != item:
        position += 1
    # Up to the top, whatever its key; then it is the one to pop.
    while position > 0:
        parent = (position - 1) >> 1
        _move(heap, parent, position)
        position = parent
    heap.items[0] = item
    pop(heap)
