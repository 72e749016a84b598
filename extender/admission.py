"""Where a pod may run: GPU models, node selectors, affinity and taints.

Only what keeps a pod off a node counts; preferences do not, nor does anything about other pods (inter-pod affinity,
topology spread). kube-scheduler filters by these itself; `cluster.reservations` needs them for pods that nobody asks
about, and training for pods of a trace.

Source: k8s.io/component-helpers/scheduling/corev1/nodeaffinity, k8s.io/api/core/v1/toleration.go,
pkg/scheduler/framework/plugins/{nodeaffinity,tainttoleration,nodeunschedulable}.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from extender.wire import Node, SelectorTerm, WatchedPodSpec

EFFECTS_THAT_BLOCK = ("NoSchedule", "NoExecute")
EFFECTS = (*EFFECTS_THAT_BLOCK, "PreferNoSchedule")
NAME_FIELD = ":metadata.name"  # stands for the field beside labels, whose names never begin so


@dataclass(frozen=True)
class Taint:
    """v1.Taint."""

    key: str
    value: str = ""
    effect: str = "NoSchedule"


@dataclass(frozen=True)
class Toleration:
    """v1.Toleration; an empty key tolerates every key, an empty effect every effect."""

    key: str = ""
    operator: str = "Exists"
    value: str = ""
    effect: str = ""

    def covers(self, taint: Taint) -> bool:
        """Whether a pod with this toleration may run in spite of the taint."""
        if self.effect not in ("", taint.effect) or self.key not in ("", taint.key):
            return False
        return self.operator == "Exists" or (self.operator in ("", "Equal") and self.value == taint.value)


@dataclass(frozen=True)
class Requirement:
    """v1.NodeSelectorRequirement, about a label."""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Whether these labels meet it."""
        value = labels.get(self.key)
        match self.operator:
            case "In":
                return value is not None and value in self.values
            case "NotIn":
                return value is None or value not in self.values
            case "Exists":
                return value is not None
            case "DoesNotExist":
                return value is None
            case "Gt" | "Lt":
                try:
                    given, bound = int(value or ""), int(self.values[0])
                except (ValueError, IndexError):
                    return False
                return given > bound if self.operator == "Gt" else given < bound
        return False


@dataclass(frozen=True)
class Constraint:
    """What keeps a pod off nodes.

    Attributes:
        models: GPU models it may run on; empty for any.
        required: all of these hold for the node's labels.
        any_of: at least one of these groups holds as a whole; None for no such condition, and an empty group never
            holds. Requirements on `NAME_FIELD` are about the node's name.
        tolerations: taints that do not matter.
    """

    models: frozenset[str] = frozenset()
    required: tuple[Requirement, ...] = ()
    any_of: tuple[tuple[Requirement, ...], ...] | None = None
    tolerations: tuple[Toleration, ...] = ()

    def admits(self, node: "Place") -> bool:
        """Whether the node may take the pod."""
        if self.models and node.model not in self.models:
            return False
        if any(
            taint.effect in EFFECTS_THAT_BLOCK and not any(toleration.covers(taint) for toleration in self.tolerations)
            for taint in node.taints
        ):
            return False
        if not self.required and self.any_of is None:
            return True
        labels = {**node.labels, NAME_FIELD: node.name}
        if not all(requirement.holds(labels) for requirement in self.required):
            return False
        return self.any_of is None or any(
            group and all(requirement.holds(labels) for requirement in group) for group in self.any_of
        )


@dataclass(frozen=True)
class Place:
    """What constraints look at of a node."""

    name: str
    model: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()


UNSCHEDULABLE = Taint("node.kubernetes.io/unschedulable", effect="NoSchedule")


def place_of(node: Node, model: str) -> Place:
    """What constraints look at of the node; a cordoned one counts as tainted, as for kube-scheduler."""
    labels = node.metadata.labels or {}
    taints = [Taint(taint.key, taint.value, taint.effect) for taint in node.spec.taints or ()]
    if node.spec.unschedulable:
        taints.append(UNSCHEDULABLE)
    return Place(node.metadata.name, model, labels, tuple(taints))


ANYWHERE = Constraint()


def constraint_of(spec: WatchedPodSpec) -> Constraint:
    """Where the pod may run: its node selector, required node affinity and tolerations."""
    tolerations = tuple(
        Toleration(given.key, given.operator, given.value, given.effect) for given in spec.tolerations or ()
    )
    return replace(selection_of(spec), tolerations=tolerations)


def selection_of(spec: WatchedPodSpec) -> Constraint:
    """Which nodes the pod selects: its node selector and required node affinity, whatever it tolerates."""
    if not spec.node_selector and spec.affinity is None:
        return ANYWHERE
    selector = [Requirement(key, "In", (value,)) for key, value in sorted((spec.node_selector or {}).items())]
    any_of = None
    if spec.affinity and spec.affinity.node_affinity and spec.affinity.node_affinity.required:
        any_of = tuple(_group_of(term) for term in spec.affinity.node_affinity.required.node_selector_terms)
    return Constraint(required=tuple(selector), any_of=any_of)


def names_its_node(selects: Constraint) -> bool:
    """Whether the pod names the node that it is for, as those of a DaemonSet do."""
    return any(each.key == NAME_FIELD for group in selects.any_of or () for each in group)


def _group_of(term: SelectorTerm) -> tuple[Requirement, ...]:
    expressions = [
        Requirement(given.key, given.operator, tuple(given.values or ())) for given in term.match_expressions or ()
    ]
    fields = [Requirement(NAME_FIELD, given.operator, tuple(given.values or ())) for given in term.match_fields or ()]
    return (*expressions, *fields)
