"""A binary heap in two arrays, smallest key first, the smaller item first among equal keys.

The arrays belong to the episode's state, so that a checkpoint of the arrays is a checkpoint of the heap.
"""

from numba import njit

from training.simulator import compiled as compiled  # sets up the compilation cache


@njit(cache=True)
def push(keys, items, size, key, item):
    """Insert (key, item) into the first `size` entries; returns the new size."""
    child = size
    while child > 0:
        parent = (child - 1) >> 1
        if keys[parent] < key or (keys[parent] == key and items[parent] <= item):
            break
        keys[child] = keys[parent]
        items[child] = items[parent]
        child = parent
    keys[child] = key
    items[child] = item
    return size + 1


@njit(cache=True)
def pop(keys, items, size):
    """Remove the smallest entry; returns its item. The heap then has `size - 1` entries."""
    smallest = items[0]
    size -= 1
    key, item = keys[size], items[size]
    parent = 0
    while True:
        child = 2 * parent + 1
        if child >= size:
            break
        right = child + 1
        if right < size and (keys[right] < keys[child] or (keys[right] == keys[child] and items[right] < items[child])):
            child = right
        if key < keys[child] or (key == keys[child] and item <= items[child]):
            break
        keys[parent] = keys[child]
        items[parent] = items[child]
        parent = child
    keys[parent] = key
    items[parent] = item
    return smallest
