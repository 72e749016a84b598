"""A run on nodes that are there already: which pods can go there, how they get there, and what they run."""

import numpy as np
import pytest

from tests.training.populations import population_of
from training.replay.objects import Session, pods_of
from training.replay.real_nodes import RealNodes
from training.workloads.assembly import NodeColumns, on_nodes, with_all_nodes
from training.workloads.base import Population
from training.workloads.selection import WorkloadArguments, draw

SESSION = Session("cafe0123", "replays")
ALLOCATABLE = np.array([[64000, 2**38, 2000], [32000, 2**37, 0], [96000, 2**39, 8000]])
COLUMNS = NodeColumns(ALLOCATABLE, np.array([2, 0, 8]), ["T4", "", "A100"], np.array([110, 110, 30]))
HOSTNAMES = ("host-a", "host-b", "host-c")
SPEED = 10.0


def real_nodes(whole_devices: bool) -> RealNodes:
    return RealNodes(("a", "b", "c"), HOSTNAMES, COLUMNS, whole_devices, "sleeper:1")


def population(*pods: tuple[int, int, int, int]) -> Population:
    """The first of the pods admits T4 only."""
    return population_of(
        [(64000, 2**18, 2), (64000, 2**18, 8), (64000, 2**18, 2)],
        list(pods),
        models=["T4", "V100", "T4"],
        constraints=np.array([1] + [0] * (len(pods) - 1)),
        admitted=np.array([[True, True, True], [True, False, True]]),
    )


def test_pods_keep_to_the_gpu_models_that_they_admit() -> None:
    moved = on_nodes(population((1000, 1024, 1, 1000), (2000, 1024, 0, 0), (3000, 1024, 4, 1000)), COLUMNS, "others")

    admitted = {int(moved.shapes.request[shape, 0]): moved.admits[shape].tolist() for shape in moved.shape}
    assert admitted == {1000: [True, False, False], 2000: [True] * 3, 3000: [True] * 3}
    assert [moved.models[model] for model in moved.model] == ["T4", "", "A100"]
    assert moved.pod_limit.tolist() == [110, 110, 30]


def test_pods_that_are_kept_from_nodes_by_more_than_their_models_are_refused() -> None:
    chosen = population_of(
        [(64000, 2**18, 2), (64000, 2**18, 2)],
        [(1000, 1024, 1, 1000)],
        models=["T4", "T4"],
        constraints=np.array([0]),
        admitted=np.array([[True, False]]),
    )

    with pytest.raises(ValueError, match="only GPU models do"):
        on_nodes(chosen, COLUMNS, "others")


@pytest.mark.parametrize("whole_devices", [True, False])
def test_a_pod_sleeps_on_a_node_that_its_shape_admits(whole_devices: bool) -> None:
    moved = on_nodes(population((1000, 1024, 1, 1000), (2000, 1024, 0, 0), (3000, 1024, 4, 1000)), COLUMNS, "others")
    arguments = WorkloadArguments()
    drawn = draw(moved, arguments, nodes=3, pods=40, load=0.5, generator=np.random.default_rng(1))
    workload = with_all_nodes(drawn, moved)
    ground = real_nodes(whole_devices).ground(workload)

    pods = pods_of(SESSION, workload, ground, "p", "run", "stowage", SPEED)

    assert (ground.names, ground.made) == (("a", "b", "c"), [])
    assert workload.allocatable.tolist() == ALLOCATABLE.tolist()
    for pod, shape, seconds in zip(pods, workload.shape, workload.duration, strict=True):
        required = pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        (chosen,) = required["nodeSelectorTerms"][0]["matchExpressions"]
        assert chosen["values"] == [HOSTNAMES[row] for row in np.flatnonzero(workload.admits[shape])]
        (container,) = pod["spec"]["containers"]
        assert container["image"] == "sleeper:1"
        assert container["command"] == ["sleep", f"{seconds / SPEED:.3f}"]
        gpus = int(workload.shapes.gpu_count[shape])
        offered = ("nvidia.com/gpu", gpus) if whole_devices else ("stowage.dev/gpu-milli", 1000 * gpus)
        asked = {name: text for name, text in container["resources"]["requests"].items() if "/" in name}
        assert asked == ({offered[0]: str(offered[1])} if gpus else {})


def test_parts_of_gpus_are_refused_where_nodes_offer_whole_ones() -> None:
    moved = on_nodes(population((1000, 1024, 1, 1000), (2000, 1024, 1, 300)), COLUMNS, "others")

    with pytest.raises(ValueError, match="take parts of GPUs, and the nodes offer whole ones"):
        real_nodes(True).refuse_shares(moved)

    real_nodes(False).refuse_shares(moved)
    without = NodeColumns(ALLOCATABLE * [1, 1, 0], np.zeros(3, np.int64))
    real_nodes(True).refuse_shares(on_nodes(moved, without, "nodes without GPUs"))  # no such pod is ever drawn there
