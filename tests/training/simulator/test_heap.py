import heapq

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from training.simulator.heap import pop, push

CAPACITY = 64
OPERATIONS = st.lists(st.one_of(st.none(), st.integers(0, 4).map(float)), max_size=CAPACITY)


@given(OPERATIONS)
def test_the_smallest_key_leaves_first_and_the_smaller_item_among_equals(operations):
    keys, items, size = np.zeros(CAPACITY), np.zeros(CAPACITY, np.int64), 0
    reference: list[tuple[float, int]] = []
    for number, key in enumerate(operations):
        if key is not None:
            item = -number if number % 2 else number  # items in no order
            heapq.heappush(reference, (key, item))
            size = push(keys, items, size, key, item)
        elif reference:
            assert pop(keys, items, size) == heapq.heappop(reference)[1]
            size -= 1
        assert size == len(reference)
    while reference:
        assert pop(keys, items, size) == heapq.heappop(reference)[1]
        size -= 1


@given(OPERATIONS)
def test_a_copy_of_the_arrays_is_a_copy_of_the_heap(operations):
    keys, items, size = np.zeros(CAPACITY), np.zeros(CAPACITY, np.int64), 0
    for number, key in enumerate(operations):
        if key is not None:
            size = push(keys, items, size, key, number)
    copied = keys.copy(), items.copy()
    for left in range(size, 0, -1):
        assert pop(keys, items, left) == pop(*copied, left)
