"""What the workload's typical pods are, estimated from the pods that were created last.

A policy file brings the typical pods of the workload that it was trained on. In another cluster other pods come, and
GPU models have other names, so the estimate takes the place of these as soon as it rests on enough pods. It is made
anew as pods come, and handed out only when it is another one: whoever keeps something per typical pod starts over then.

Source of the rule (the most frequent shapes that make up 95 % of the pods): the FGD paper's simulator, as in
`training.workloads.base.typical_pods`.
"""

import heapq
from collections.abc import Mapping
from typing import NamedTuple

from extender.admission import Constraint, Requirement, names_its_node
from extender.placement import CPU, PodRequest
from extender.typical import AT_MOST, COVERAGE, Records, TypicalPodRecord, distance

PODS_KEPT = 2000
PODS_AT_LEAST = 200  # before that the shares of rare pods, which are the large ones, are chance
NEW_PODS_BETWEEN = 250
DISTANCE_AT_LEAST = 0.1  # two samples of 2,000 from one workload with 45 shapes differ by about 0.06
VALUES_AT_MOST = 64  # of a label; one with more tells nodes apart, not models


class Shape(NamedTuple):
    """What pods are told apart by."""

    cpu_milli: int
    gpu_count: int
    gpu_milli: int
    selects: Constraint


class LabelledModels:
    """Which GPU models occur on nodes with a label; labels go with the model in all node pools that we know of."""

    def __init__(self) -> None:
        self._models: dict[str, dict[str, set[str]] | None] = {}  # by label and value; None: too many values

    def note(self, labels: Mapping[str, str], model: str) -> None:
        """A node has these labels and this model."""
        for label, value in labels.items():
            values = self._models.setdefault(label, {})
            if values is None:
                continue
            values.setdefault(value, set()).add(model)
            if len(values) > VALUES_AT_MOST:
                self._models[label] = None

    def admitted(self, selects: Constraint) -> tuple[str, ...]:
        """Names of the models that a pod may run on, sorted; empty where any will do, or nothing is known."""
        found = self._on_all(selects.required)
        if selects.any_of is not None:
            groups = [self._on_all(group) for group in selects.any_of]
            if all(group is not None for group in groups):
                either = set().union(*(group for group in groups if group is not None))
                found = either if found is None else found & either
        return tuple(sorted(found - {""})) if found is not None else ()

    def _on_all(self, requirements: tuple[Requirement, ...]) -> set[str] | None:
        found: set[str] | None = None
        for requirement in requirements:
            models = self._on(requirement)
            if models is not None:
                found = models if found is None else found & models
        return found

    def _on(self, requirement: Requirement) -> set[str] | None:
        values = self._models.get(requirement.key)
        if values is None:
            return None
        if requirement.operator == "In":
            return set().union(*(values.get(value, set()) for value in requirement.values))
        if requirement.operator == "NotIn":
            return set().union(*(models for value, models in values.items() if value not in requirement.values))
        return set().union(*values.values()) if requirement.operator == "Exists" else None


class RecentPods:
    """Counts the shapes of the pods on nodes that were created last, `PODS_KEPT` of them."""

    def __init__(self) -> None:
        self._labelled = LabelledModels()
        self._youngest: list[tuple[float, int, str]] = []  # a heap: time of creation, number, uid
        self._shapes: dict[str, Shape] = {}  # of those, by uid
        self._seen = 0
        self._fresh = 0  # pods since the last estimate
        self._records: Records = ()

    def __len__(self) -> int:
        """Number of pods that the next estimate rests on."""
        return len(self._shapes)

    def typical(self) -> Records:
        """The typical pods, estimated anew where enough pods have come since.

        Not to be called while another thread tells of pods.

        Returns:
            the most frequent first; the same object until they differ, empty before there are enough.
        """
        enough = PODS_AT_LEAST if not self._records else NEW_PODS_BETWEEN
        if self._fresh >= enough:
            self._fresh = 0
            estimated = self._estimate()
            if distance(estimated, self._records) >= DISTANCE_AT_LEAST:
                self._records = estimated
        return self._records

    def node_seen(self, labels: Mapping[str, str], model: str) -> None:
        """A node exists, with these labels and this GPU model."""
        self._labelled.note(labels, model)

    def pod_seen(self, uid: str, created: float, request: PodRequest, selects: Constraint) -> None:
        """A pod is on a node. One that names its node, as a DaemonSet's does, was placed by nobody and is left out.

        Args:
            created: Unix seconds.
            selects: where it may run; tolerations do not matter.
        """
        if uid in self._shapes or (len(self._shapes) == PODS_KEPT and created < self._youngest[0][0]):
            return
        if names_its_node(selects):
            return
        self._seen += 1
        entry = (created, self._seen, uid)
        if len(self._shapes) == PODS_KEPT:
            del self._shapes[heapq.heapreplace(self._youngest, entry)[2]]
        else:
            heapq.heappush(self._youngest, entry)
        self._shapes[uid] = Shape(int(request.request[CPU]), request.gpu_count, request.gpu_milli, selects)
        self._fresh += 1

    def _estimate(self) -> Records:
        counts: dict[tuple[int, int, int, tuple[str, ...]], int] = {}
        models: dict[Constraint, tuple[str, ...]] = {}
        for _, _, uid in sorted(self._youngest):
            cpu, count, milli, selects = self._shapes[uid]
            if selects not in models:
                models[selects] = self._labelled.admitted(selects)
            key = (cpu, count, milli, models[selects] if count else ())
            counts[key] = counts.get(key, 0) + 1
        # The sort is stable: of equally frequent ones the first to come is first.
        ordered = sorted(counts.items(), key=lambda item: -item[1])
        taken, covered = [], 0
        for key, number in ordered[:AT_MOST]:
            taken.append((key, number))
            covered += number
            if covered >= COVERAGE * len(self._shapes):
                break
        return tuple(TypicalPodRecord(*key[:3], number / covered, key[3]) for key, number in taken)
