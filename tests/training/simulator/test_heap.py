import heapq

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.simulator.compiled import outer
from training.simulator.heap import Heap, pop, push, remove

CAPACITY = 64
ENTRY = st.tuples(st.integers(0, 4).map(float), st.integers(0, 2).map(float))
# None takes the smallest entry out, a number takes out one of those that are in.
OPERATIONS = st.lists(st.one_of(st.none(), ENTRY, ENTRY, st.integers(0, CAPACITY)), max_size=CAPACITY)


# Compiled functions cannot be handed over as arguments by a loop in Python without being compiled for it.
@outer
def _push(heap, key, order, rank, item):
    push(heap, key, order, rank, item)


@outer
def _pop(heap):
    return pop(heap)


@outer
def _remove(heap, item):
    remove(heap, item)


def empty_heap() -> Heap:
    keys, orders = np.full(CAPACITY, np.nan), np.full(CAPACITY, np.nan)
    return Heap(keys, orders, np.full(CAPACITY, -7), np.full(CAPACITY, -7), np.zeros(1, np.int64))


@given(OPERATIONS)
def test_entries_leave_by_key_then_order_then_rank_whoever_was_removed_meanwhile(operations):
    heap, reference = empty_heap(), []
    for number, operation in enumerate(operations):
        if isinstance(operation, tuple):
            rank = -number if number % 2 else number  # ranks in no order
            reference.append((*operation, rank, number))
            _push(heap, *operation, rank, number)
        elif reference and operation is None:
            heapq.heapify(reference)
            assert _pop(heap) == heapq.heappop(reference)[-1]
        elif reference:
            removed = reference.pop(operation % len(reference))
            _remove(heap, removed[-1])
        assert heap.size[0] == len(reference)
    assert [_pop(heap) for _ in reference] == [item for *_, item in sorted(reference)]


@given(st.lists(ENTRY, min_size=1, max_size=CAPACITY), st.data())
def test_an_entry_can_be_removed_wherever_it_is(entries, data):
    heap = empty_heap()
    for number, entry in enumerate(entries):
        _push(heap, *entry, number, number)
    gone = data.draw(st.integers(0, len(entries) - 1))
    _remove(heap, gone)
    left = sorted((*entry, number) for number, entry in enumerate(entries) if number != gone)
    assert [_pop(heap) for _ in left] == [number for *_, number in left]


@pytest.mark.parametrize("key", [np.inf, -np.inf, 0.0])
def test_infinite_keys_are_keys(key):
    heap = empty_heap()
    _push(heap, np.inf, 0.0, 0, 0)
    _push(heap, key, 0.0, 1, 1)
    assert _pop(heap) == (1 if key < np.inf else 0)


@given(st.lists(ENTRY, max_size=CAPACITY))
def test_a_copy_of_the_arrays_is_a_copy_of_the_heap(entries):
    heap = empty_heap()
    for number, entry in enumerate(entries):
        _push(heap, *entry, number, number)
    copied = Heap(*(array.copy() for array in heap))
    assert [_pop(heap) for _ in entries] == [_pop(copied) for _ in entries]
