"""What a replay makes in a cluster, as Kubernetes objects; every one carries the label `MARK` with the session's id.

Nodes that are made carry a taint with it, so that nobody else's pods end up on nodes without machines, and pods
tolerate that and select these nodes; `real_nodes` has the other ground that pods can go to. Where a pod may run (GPU
models, selectors, taints of the trace) is written as one label per distinct answer to that question, which is exact for
every source of workloads.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from extender.cluster.requests import EXPECTED_SECONDS_ANNOTATION, MODEL_LABELS
from training.replay.manifests import Manifest, quantities
from training.workloads.base import Workload

MARK = "stowage.dev/replay"
RUN_LABEL = "stowage.dev/replay-run"
ADMITS_PREFIX = "admits.stowage.dev/"
DURATION_ANNOTATION = "stowage.dev/duration"  # manifests/kwok/stages.yaml
KWOK_ANNOTATION = "kwok.x-k8s.io/node"
LABEL_VALUE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
HIGHEST_PRIORITY = 1_000_000_000  # HighestUserDefinablePriority, pkg/apis/scheduling/types.go
KWOK_IMAGE = "stowage.invalid/replayed"  # never pulled: KWOK runs nothing


class Session(NamedTuple):
    """Who makes the objects, and where.

    Attributes:
        id: the label's value.
        namespace: of the pods.
    """

    id: str
    namespace: str

    @property
    def pods(self) -> str:
        """The collection of the pods."""
        return f"/api/v1/namespaces/{self.namespace}/pods"


def constraints_of(workload: Workload) -> tuple[list[int], list[list[int]]]:
    """Where shapes may run, as numbers.

    Returns:
        for each shape the number of its constraint, -1 for one that may run on every node; and for each number the rows
        of the nodes that it admits.
    """
    numbers: dict[bytes, int] = {}
    admitted: list[list[int]] = []
    of_shape = []
    for mask in workload.admits:
        if mask.all():
            of_shape.append(-1)
            continue
        key = mask.tobytes()
        if key not in numbers:
            numbers[key] = len(numbers)
            admitted.append([int(row) for row in np.flatnonzero(mask)])
        of_shape.append(numbers[key])
    return of_shape, admitted


def refuse_unspeakable(workload: Workload) -> None:
    """Refuse what Kubernetes cannot express.

    Raises:
        ValueError: a GPU model is no value of a label, or a priority is above those that users may give.
    """
    for model in workload.models:
        if model and not LABEL_VALUE.fullmatch(model):
            raise ValueError(f"GPU model {model!r}: expected a label's value (letters, digits, -_., at most 63)")
    highest = int(workload.priority.max(initial=0))
    if highest > HIGHEST_PRIORITY:
        raise ValueError(f"priority {highest}: Kubernetes lets users give at most {HIGHEST_PRIORITY}")


def priority_class_name(session: Session, priority: int) -> str:
    """Name of the class of this priority."""
    return f"replay-{session.id}-{'minus-' if priority < 0 else ''}{abs(priority)}"


def priority_classes(session: Session, workload: Workload) -> list[Manifest]:
    """A class for each priority; none of them preempts, as the simulator's pods by default do not."""
    return [
        {
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": priority_class_name(session, int(priority)), "labels": {MARK: session.id}},
            "value": int(priority),
            "preemptionPolicy": "Never",
        }
        for priority in np.unique(workload.priority)
    ]


def nodes_of(session: Session, workload: Workload, prefix: str) -> list[Manifest]:
    """Nodes for KWOK to answer for, `<prefix>-<row>`: in the order of their rows by name, as the extender has them."""
    _, admitted = constraints_of(workload)
    labels: list[dict[str, str]] = [{} for _ in workload.allocatable]
    for number, rows in enumerate(admitted):
        for row in rows:
            labels[row][f"{ADMITS_PREFIX}{number}"] = "true"
    nodes = []
    for row, further in enumerate(labels):
        name = node_name(prefix, row)
        amounts = quantities(workload.resources, workload.allocatable[row])
        amounts["pods"] = str(int(workload.pod_limit[row]))
        model = workload.models[workload.model[row]]
        nodes.append(
            {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {
                    "name": name,
                    "annotations": {KWOK_ANNOTATION: "fake"},
                    "labels": {
                        MARK: session.id,
                        "kubernetes.io/hostname": name,
                        "kubernetes.io/os": "linux",
                        **({MODEL_LABELS[0]: model} if model else {}),
                        **further,
                    },
                },
                "spec": {"taints": [{"key": MARK, "value": session.id, "effect": "NoSchedule"}]},
                "status": {"allocatable": amounts, "capacity": amounts},
            }
        )
    return nodes


def node_name(prefix: str, row: int) -> str:
    """Name of the node of this row."""
    return f"{prefix}-{row:05d}"


def pod_name(prefix: str, pod: int) -> str:
    """Name of the pod of this index."""
    return f"{prefix}-{pod:06d}"


@dataclass(frozen=True)
class Ground:
    """The nodes of a run, and how pods get there and nowhere else.

    Attributes:
        names: of the nodes, by their rows.
        made: those that have to be made.
        placing: by shape, what a pod's spec says of where it goes.
        running: what a container is, besides its name and its resources, by the seconds that it runs.
        whole_devices: whether nodes offer GPUs as devices, not as thousandths.
    """

    names: tuple[str, ...]
    made: list[Manifest]
    placing: list[Manifest]
    running: Callable[[float], Manifest]
    whole_devices: bool


def made_ground(session: Session, workload: Workload, prefix: str) -> Ground:
    """Nodes for KWOK to answer for, which nobody else's pods can get onto."""
    of_shape, _ = constraints_of(workload)
    nodes = nodes_of(session, workload, prefix)
    toleration = {"key": MARK, "operator": "Exists", "effect": "NoSchedule"}
    placing = []
    for number in of_shape:
        selector = {MARK: session.id, **({f"{ADMITS_PREFIX}{number}": "true"} if number >= 0 else {})}
        placing.append({"nodeSelector": selector, "tolerations": [toleration]})
    names = tuple(node["metadata"]["name"] for node in nodes)
    return Ground(names, nodes, placing, lambda seconds: {"image": KWOK_IMAGE}, False)


def pods_of(
    session: Session, workload: Workload, ground: Ground, prefix: str, run: str, scheduler: str, speed: float
) -> list[Manifest]:
    """The pods, in order of arrival; they run their durations divided by `speed`.

    Args:
        session: who makes them.
        workload: whose pods they are.
        ground: where they go.
        prefix: of their names.
        run: value of the label by which a run's pods are watched and deleted.
        scheduler: the `schedulerName` that they name.
        speed: seconds of the trace in a second.
    """
    spelled = [quantities(workload.resources, request, ground.whole_devices) for request in workload.shapes.request]
    pods = []
    for pod, shape in enumerate(workload.shape.tolist()):
        seconds = float(workload.duration[pod]) / speed
        annotations = {DURATION_ANNOTATION: f"{max(math.ceil(seconds * 1000), 1)}ms"}
        if workload.expected[pod] > 0:
            annotations[EXPECTED_SECONDS_ANNOTATION] = f"{workload.expected[pod] / speed:.3f}"
        amounts = spelled[shape]
        pods.append(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    "name": pod_name(prefix, pod),
                    "labels": {MARK: session.id, RUN_LABEL: run},
                    "annotations": annotations,
                },
                "spec": {
                    "schedulerName": scheduler,
                    "priorityClassName": priority_class_name(session, int(workload.priority[pod])),
                    "restartPolicy": "Never",
                    "automountServiceAccountToken": False,
                    "terminationGracePeriodSeconds": 0,
                    **ground.placing[shape],
                    "containers": [
                        {
                            "name": "main",
                            "resources": {"requests": amounts, "limits": amounts},
                            **ground.running(seconds),
                        }
                    ],
                },
            }
        )
    return pods
