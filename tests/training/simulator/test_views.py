import numba
import numpy as np

from tests.clusters import GIB, Node, typical_of
from tests.training.small_workloads import Pod, slots, workload_of
from training.simulator.compiled import ENTRY
from training.simulator.episodes import allocate, sizes_of
from training.simulator.state import GROUPS, NODES, Episode
from training.simulator.views import arrays_of, view, view_compiled

THREE_NODES = workload_of(
    [Node(1000, GIB, (1000,)), *slots(2)], [Pod(0, 1, 1000), Pod(0, 1, 500)], typical_of((1000, 1, 500, 1.0))
)


def compiled_view_reader(batch: Episode):
    """A compiled function that writes the first number of each array of an episode of the batch."""
    lines = [
        f"    firsts[{number}] = episode.{name}[{', '.join(['0'] * (array.ndim - 1))}]"
        for number, (name, array) in enumerate(arrays_of(batch).items())
    ]
    source = "\n".join(["def read(batch, index, firsts):", "    episode = view_compiled(batch, index)", *lines])
    namespace = {"view_compiled": view_compiled}
    exec(source, namespace)
    return numba.njit(**ENTRY)(namespace["read"])


def test_a_view_shares_the_batchs_memory():
    batch = allocate(2, sizes_of(THREE_NODES))
    view(batch, 1).cluster.nodes.requested[2, 0] = 7
    assert batch.cluster.nodes.requested[:, 2, 0].tolist() == [0, 7]


def test_arrays_have_dotted_names_and_are_the_batchs_own():
    batch = allocate(2, sizes_of(THREE_NODES))
    arrays = arrays_of(batch)
    assert arrays["cluster.nodes.requested"] is batch.cluster.nodes.requested
    assert arrays["backoff.keys"] is batch.backoff.keys
    assert arrays["clock"] is batch.clock
    assert all(len(array) == 2 for array in arrays.values())


def test_compiled_code_sees_the_same_view():
    batch = allocate(2, sizes_of(THREE_NODES), sampled=True)
    arrays = arrays_of(batch)
    for number, array in enumerate(arrays.values()):
        array[1] = number % 2 if array.dtype == np.bool_ else number
    batch.sizes[1, NODES], batch.sizes[1, GROUPS] = 3, 1
    firsts = np.full(len(arrays), np.nan)
    compiled_view_reader(batch)(batch, 1, firsts)
    wanted = {name: float(array.flat[0]) for name, array in arrays_of(view(batch, 1)).items()}
    assert dict(zip(arrays, firsts.tolist(), strict=True)) == wanted
