"""What a pod takes of each resource, added up as kube-scheduler adds it.

Containers, the largest init container, native sidecars, overhead, pod-level resources; while a pod on a node is resized
in place, the larger of what it asks for and what it has got (`Resizes`). Amounts are in billionths, so that sums are
exact; `cluster.requests` puts them into columns.

Source: k8s.io/component-helpers/resource/helpers.go, k8s.io/kubernetes/pkg/apis/core/v1/defaults.go.
"""

from collections.abc import Mapping
from typing import NamedTuple

from extender import quantity
from extender.quantity import QuantityError
from extender.wire import Container, Pod, PodCondition, PodStatus, QuantityText, ResourceList, ResourceRequirements

CPU_NAME = "cpu"
MEMORY_NAME = "memory"

_POD_LEVEL_RESOURCES = frozenset({CPU_NAME, MEMORY_NAME})
_POD_LEVEL_PREFIX = "hugepages-"

NanoAmounts = dict[str, int]
"""Amount by Kubernetes resource name, in billionths, so that sums are exact."""

NOTHING: NanoAmounts = {}
_RESIZE_PENDING, _INFEASIBLE = "PodResizePending", "Infeasible"  # v1.PodResizePending, v1.PodReasonInfeasible


class Resizes(NamedTuple):
    """What the status of a pod on a node says that it has got, which counts until a resize in place is through.

    Attributes:
        containers: amounts by container, the larger of those allocated and those in force.
        whole: the same of the pod as a whole, None if nothing is said.
        infeasible: whether the node can never give what is asked for, so that only what it gave counts.
    """

    containers: dict[str, NanoAmounts]
    whole: NanoAmounts | None
    infeasible: bool

    def effective(self, asked: NanoAmounts, got: NanoAmounts | None) -> NanoAmounts:
        """What counts: determineEffectiveRequests of component-helpers."""
        if got is None:
            return asked
        counted = {} if self.infeasible else dict(asked)
        _raise_to(counted, got)
        return counted


NO_RESIZES = Resizes({}, None, False)


def told_of_resizes(status: PodStatus) -> PodStatus:
    """As much of a status as `resizes` looks at."""
    pending = [PodCondition(each.type, each.reason) for each in status.conditions or () if each.type == _RESIZE_PENDING]
    return PodStatus(
        conditions=pending,
        container_statuses=status.container_statuses,
        init_container_statuses=status.init_container_statuses,
        resources=status.resources,
        allocated_resources=status.allocated_resources,
    )


def resizes(pod: Pod) -> Resizes:
    """What the pod's status says about its resources; raises QuantityError."""
    status = pod.status
    containers = {
        container.name: _got(container.resources, container.allocated_resources)
        for container in (*(status.container_statuses or ()), *(status.init_container_statuses or ()))
        if container.resources is not None
    }
    whole = _got(status.resources, status.allocated_resources) if status.resources is not None else None
    if not containers and whole is None:
        return NO_RESIZES
    pending = next((each for each in status.conditions or () if each.type == _RESIZE_PENDING), None)
    return Resizes(containers, whole, pending is not None and pending.reason == _INFEASIBLE)


def pod_amounts(pod: Pod, missing: NanoAmounts = NOTHING, resized: Resizes = NO_RESIZES) -> NanoAmounts:
    """What the pod takes of each resource while it runs or starts.

    Args:
        missing: what each container takes that does not say how much.
        resized: of a pod on a node, what it has got.

    Raises:
        QuantityError: an amount is no quantity, or negative.
    """
    spec = pod.spec
    amounts: NanoAmounts = {}
    got = resized.containers
    for container in spec.containers or ():
        own = _container_amounts(container)
        _add(amounts, missing | (resized.effective(own, got.get(container.name)) if got else own))
    if spec.init_containers:
        sidecars: NanoAmounts = {}
        starting: NanoAmounts = {}
        for container in spec.init_containers:
            own = _container_amounts(container)
            if container.restart_policy == "Always":
                own = missing | resized.effective(own, got.get(container.name))
                _add(amounts, own)
                _add(sidecars, own)
                _raise_to(starting, sidecars)
            else:
                own = missing | own
                _add(own, sidecars)
                _raise_to(starting, own)
        _raise_to(amounts, starting)
    whole = pod_level(pod)
    if whole and resized.whole is not None:
        counted = resized.effective(whole, resized.whole)
        whole = {name: counted.get(name, 0) for name in whole}
    amounts.update(whole)
    if spec.overhead:
        _add(amounts, nano_list(spec.overhead))
    return amounts


def pod_level(pod: Pod) -> NanoAmounts:
    """Requests of the pod as a whole, of the resources that can be requested so."""
    if pod.spec.resources is None:
        return {}
    return {
        name: _nano(name, text)
        for name, text in (pod.spec.resources.requests or {}).items()
        if name in _POD_LEVEL_RESOURCES or name.startswith(_POD_LEVEL_PREFIX)
    }


def _container_amounts(container: Container) -> NanoAmounts:
    """Requests, completed from the limits as the API server does when it stores a pod."""
    resources: ResourceRequirements | None = container.resources
    if resources is None:
        return {}
    amounts = nano_list(resources.limits)
    amounts.update(nano_list(resources.requests))
    return amounts


def _got(in_force: ResourceRequirements | None, allocated: ResourceList | None) -> NanoAmounts:
    amounts = nano_list(in_force.requests if in_force is not None else None)
    _raise_to(amounts, nano_list(allocated))
    return amounts


def nano_list(resources: Mapping[str, QuantityText] | None) -> NanoAmounts:
    """Quantities by name in billionths; raises QuantityError."""
    return {name: _nano(name, text) for name, text in resources.items()} if resources else {}


def _nano(name: str, text: object) -> int:
    try:
        amount = quantity.nano(str(text))
    except QuantityError as error:
        raise QuantityError(f"{name}: {error}") from error
    if amount < 0:
        raise QuantityError(f"{name}: {text!r} is negative: expected 0 or more")
    return amount


def _add(total: NanoAmounts, more: NanoAmounts) -> None:
    for name, amount in more.items():
        total[name] = total.get(name, 0) + amount


def _raise_to(total: NanoAmounts, least: NanoAmounts) -> None:
    for name, amount in least.items():
        if amount > total.get(name, -1):  # 0 is an amount too: it says that nothing is wanted
            total[name] = amount
