"""What is made in a cluster means what the workload says."""

from dataclasses import replace

import numpy as np
import pytest

from training.replay.objects import (
    DURATION_ANNOTATION,
    MARK,
    Session,
    constraints_of,
    made_ground,
    nodes_of,
    pods_of,
    priority_classes,
    refuse_unspeakable,
)
from training.workloads.base import Workload
from training.workloads.selection import WorkloadArguments, draw, load_population

SESSION = Session("cafe0123", "replays")
SPEED = 40.0


@pytest.fixture(scope="module")
def workload() -> Workload:
    arguments = WorkloadArguments(source="synthetic")
    drawn = draw(
        load_population(arguments, 3), arguments, nodes=10, pods=80, load=0.5, generator=np.random.default_rng(3)
    )
    admits = drawn.admits.copy()
    admits[drawn.shape[0], ::2] = False
    admits[drawn.shape[1], 1:] = False
    return replace(drawn, admits=admits)


def test_a_pod_may_go_exactly_where_its_shape_is_admitted(workload: Workload) -> None:
    nodes = nodes_of(SESSION, workload, "n")
    pods = pods_of(SESSION, workload, made_ground(SESSION, workload, "n"), "p", "run", "stowage", SPEED)

    for pod, shape in zip(pods, workload.shape, strict=True):
        wanted = pod["spec"]["nodeSelector"].items()
        admitted = [wanted <= node["metadata"]["labels"].items() for node in nodes]
        assert admitted == workload.admits[shape].tolist()


def test_equal_constraints_are_one_label(workload: Workload) -> None:
    of_shape, admitted = constraints_of(workload)

    assert len(admitted) == len(np.unique(workload.admits[~workload.admits.all(axis=1)], axis=0))
    assert max(of_shape) == len(admitted) - 1


def test_nobody_else_may_use_the_nodes_and_everything_is_marked(workload: Workload) -> None:
    objects = [
        *nodes_of(SESSION, workload, "n"),
        *pods_of(SESSION, workload, made_ground(SESSION, workload, "n"), "p", "run", "stowage", SPEED),
        *priority_classes(SESSION, workload),
    ]

    assert all(each["metadata"]["labels"][MARK] == SESSION.id for each in objects)
    assert all(node["spec"]["taints"][0]["effect"] == "NoSchedule" for node in objects[:10])


def test_durations_are_divided_by_the_speed(workload: Workload) -> None:
    pods = pods_of(SESSION, workload, made_ground(SESSION, workload, "n"), "p", "run", "stowage", SPEED)

    for pod, seconds in zip(pods, workload.duration, strict=True):
        written = pod["metadata"]["annotations"][DURATION_ANNOTATION]
        assert written.endswith("ms")
        assert float(written[:-2]) / 1000 == pytest.approx(seconds / SPEED, abs=0.001)


def test_priorities_are_classes_that_do_not_preempt(workload: Workload) -> None:
    mixed = replace(workload, priority=np.where(np.arange(len(workload)) % 2, 1000, -5))
    classes = {each["metadata"]["name"]: each for each in priority_classes(SESSION, mixed)}
    pods = pods_of(SESSION, mixed, made_ground(SESSION, mixed, "n"), "p", "run", "stowage", SPEED)

    assert {each["value"] for each in classes.values()} == {1000, -5}
    assert {each["preemptionPolicy"] for each in classes.values()} == {"Never"}
    for pod, priority in zip(pods, mixed.priority, strict=True):
        assert classes[pod["spec"]["priorityClassName"]]["value"] == priority
        assert "priority" not in pod["spec"]


def test_nodes_are_in_the_order_of_their_names(workload: Workload) -> None:
    names = [node["metadata"]["name"] for node in nodes_of(SESSION, workload, "n")]

    assert names == sorted(names)


@pytest.mark.parametrize(
    ("changed", "message"),
    [({"models": ("", "A 100!")}, "GPU model 'A 100!'"), ({"priority": np.array([2**30])}, "priority 1073741824")],
)
def test_what_kubernetes_cannot_express_is_refused(workload: Workload, changed: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        refuse_unspeakable(replace(workload, **changed))
