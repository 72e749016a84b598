"""What a pod takes and what a node offers, in the base units of `placement`.

`amounts` adds up what a pod takes; here the sums are put into columns. The GPU column joins two extended resources:
`nvidia.com/gpu` counts whole devices and `stowage.dev/gpu-milli` thousandths of one. `cluster.feed` calls this for pods
on nodes, `server.http` for the pod that is to be placed. Most pods are made from a template, so what was worked out for
one is kept for the others, which share its arrays.

Source: k8s.io/component-helpers/resource/helpers.go, k8s.io/kubernetes/pkg/apis/core/v1/defaults.go.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from extender import quantity
from extender.cluster.amounts import (
    CPU_NAME,
    MEMORY_NAME,
    NO_RESIZES,
    NOTHING,
    NanoAmounts,
    Resizes,
    nano_list,
    pod_amounts,
    pod_level,
    resizes,
    told_of_resizes,
)
from extender.placement import (
    DEFAULT_CPU_MILLI,
    DEFAULT_MEMORY_BYTES,
    GPU,
    WHOLE_DEVICE_MILLI,
    IntArray,
    PodRequest,
)
from extender.wire import Node, Pod, PodSpec, PodStatus, ResourceRequirements, pack_pod

GPU_NAME = "gpu"
DEVICE_RESOURCE = "nvidia.com/gpu"
SHARE_RESOURCE = "stowage.dev/gpu-milli"
EXPECTED_SECONDS_ANNOTATION = "stowage.dev/expected-seconds"
BASE_RESOURCES = (CPU_NAME, MEMORY_NAME, GPU_NAME)
MODEL_LABELS = (  # GPU feature discovery's, then those of two clouds' node pools
    "nvidia.com/gpu.product",
    "cloud.google.com/gke-accelerator",
    "k8s.amazonaws.com/accelerator",
)
AMOUNT_AT_MOST = 2**53  # of one pod or node; beyond all machines, and a thousand of them still add up in an int64
DEVICES_ASKED_AT_MOST = 2**40
DEVICES_AT_MOST = 62  # what a pod took is a bit mask in an int64; real nodes have 16 at most

KEPT_AT_MOST = 4096
KEPT_BYTES_AT_MOST = 4096  # of what one request follows from; a larger pod's is worked out each time

_ENDED_PHASES = frozenset({"Succeeded", "Failed"})
# What kube-scheduler's scores count for a container that does not say: pkg/scheduler/util/pod_resources.go.
NONZERO = {CPU_NAME: DEFAULT_CPU_MILLI * 10**6, MEMORY_NAME: DEFAULT_MEMORY_BYTES * 10**9}


class RequestError(ValueError):
    """A pod asks for something that cannot be placed by any policy; the message says what is allowed."""


def has_ended(pod: Pod) -> bool:
    """Whether the pod has run its course and takes nothing any more."""
    return pod.status.phase in _ENDED_PHASES


def gpu_request(amounts: NanoAmounts) -> tuple[int, int]:
    """Number of devices and thousandths of each.

    Raises:
        RequestError: no whole number of devices and no share of one device.
    """
    devices, milli = _devices_and_milli(amounts)
    if devices and milli:
        raise RequestError(
            f"{DEVICE_RESOURCE} is {devices} and {SHARE_RESOURCE} is {milli}: expected only one of them, "
            f"whole devices or a share"
        )
    if milli > WHOLE_DEVICE_MILLI and milli % WHOLE_DEVICE_MILLI:
        raise RequestError(
            f"{SHARE_RESOURCE} is {milli}: expected less than {WHOLE_DEVICE_MILLI} (a share of one device) "
            f"or a multiple of {WHOLE_DEVICE_MILLI} (whole devices)"
        )
    if devices or milli >= WHOLE_DEVICE_MILLI:
        return devices + milli // WHOLE_DEVICE_MILLI, WHOLE_DEVICE_MILLI
    return (1, milli) if milli else (0, 0)


def pod_request(pod: Pod, resources: Sequence[str]) -> PodRequest:
    """What a pod that is to be placed asks for.

    Args:
        resources: names in the order of the columns, `BASE_RESOURCES` first.

    Raises:
        RequestError: its GPU request fits no device arrangement.
        QuantityError: an amount is no quantity, or negative.
    """
    return _PENDING.of(pod, PodStatus(), resources)


def _pod_request(pod: Pod, resources: Sequence[str]) -> PodRequest:
    amounts = pod_amounts(pod)
    return _build(pod, amounts, gpu_request(amounts), resources, NONZERO, NO_RESIZES)


def bound_pod_request(pod: Pod, resources: Sequence[str]) -> PodRequest:
    """What a pod that is on a node takes; a GPU request that `pod_request` refuses counts as whole devices, rounded up.

    Somebody else placed it, so it has to be counted, and counting too much cannot overbook a device.

    Raises:
        QuantityError: an amount is no quantity, or negative.
    """
    return _BOUND.of(pod, told_of_resizes(pod.status), resources)


def _bound_pod_request(pod: Pod, resources: Sequence[str]) -> PodRequest:
    resized = resizes(pod)
    amounts = pod_amounts(pod, NOTHING, resized)
    try:
        gpus = gpu_request(amounts)
    except RequestError:
        devices, milli = _devices_and_milli(amounts)
        gpus = devices + math.ceil(milli / WHOLE_DEVICE_MILLI), WHOLE_DEVICE_MILLI
    # Once on a node, a pod with requests at pod level counts a default only for what none of its containers asks for:
    # getNonMissingContainerRequests, pkg/scheduler/framework/types.go.
    missing = {name: amount for name, amount in NONZERO.items() if name not in amounts}
    return _build(pod, amounts, gpus, resources, missing if pod_level(pod) else NONZERO, resized)


class _Kept:
    """Requests that were worked out, by all that they follow from."""

    def __init__(self, work_out: Callable[[Pod, Sequence[str]], PodRequest]) -> None:
        self._work_out = work_out
        self._kept: dict[tuple[bytes, float, tuple[str, ...]], PodRequest] = {}

    def of(self, pod: Pod, status: PodStatus, resources: Sequence[str]) -> PodRequest:
        """The pod's request; `status` is as much of its own as counts."""
        asked = pod.spec
        spec = PodSpec(
            containers=asked.containers,
            init_containers=asked.init_containers,
            overhead=asked.overhead,
            resources=asked.resources,
            priority=asked.priority,
        )
        try:
            packed = pack_pod(Pod(spec=spec, status=status))
        except OverflowError:
            return self._work_out(pod, resources)
        key = packed, expected_seconds(pod), tuple(resources)
        request = self._kept.get(key)
        if request is None:
            request = self._work_out(pod, resources)
            if len(packed) <= KEPT_BYTES_AT_MOST:
                if len(self._kept) >= KEPT_AT_MOST:
                    self._kept.clear()
                self._kept[key] = request
        return request


_PENDING, _BOUND = _Kept(_pod_request), _Kept(_bound_pod_request)


def build_request(
    amounts: NanoAmounts,
    gpus: tuple[int, int],
    resources: Sequence[str],
    priority: int,
    seconds: float,
    nonzero: NanoAmounts | None = None,
) -> PodRequest:
    """Put amounts into the columns named by `resources`.

    Args:
        amounts: what the pod takes.
        gpus: number of devices and thousandths of each.
        resources: names in the order of the columns.
        priority: the pod's priority value.
        seconds: how long it is expected to run.
        nonzero: CPU and memory as scores count them; left out for a pod of one container.
    """
    gpu_count, gpu_milli = gpus
    if nonzero is None:
        nonzero = NONZERO | amounts
    return PodRequest(
        _columns(amounts, gpu_count * gpu_milli, resources),
        _columns(nonzero, 0, BASE_RESOURCES[:GPU]),
        gpu_count,
        gpu_milli,
        priority,
        seconds,
    )


def node_capacity(node: Node, resources: Sequence[str]) -> tuple[IntArray, int]:
    """What the node offers to pods, and its number of GPUs.

    Returns:
        allocatable (R,) int64 and the device count; a device beyond `DEVICES_AT_MOST` is not counted.

    Raises:
        QuantityError: an amount is no quantity, or negative.
    """
    amounts = nano_list(node.status.allocatable)
    whole, milli = _devices_and_milli(amounts)
    devices = min(whole + milli // WHOLE_DEVICE_MILLI, DEVICES_AT_MOST)
    return _columns(amounts, devices * WHOLE_DEVICE_MILLI, resources), devices


def gpu_model(labels: Mapping[str, str] | None) -> str:
    """The GPU model that a node's labels name, the first of `MODEL_LABELS` that says one; empty where none does."""
    return next((labels[label] for label in MODEL_LABELS if labels.get(label)), "") if labels else ""


def expected_seconds(pod: Pod) -> float:
    """How long the pod says it will run, 0.0 where it does not say or says nothing usable."""
    text = (pod.metadata.annotations or {}).get(EXPECTED_SECONDS_ANNOTATION)
    if text is None:
        return 0.0
    try:
        seconds = float(text)
    except ValueError:
        return 0.0  # an annotation is free text; a hint that cannot be read is no hint
    return seconds if math.isfinite(seconds) and seconds > 0.0 else 0.0


def _build(
    pod: Pod,
    amounts: NanoAmounts,
    gpus: tuple[int, int],
    resources: Sequence[str],
    missing: NanoAmounts,
    resized: Resizes,
) -> PodRequest:
    complete = not resized.infeasible and _all_say(pod, missing)
    nonzero = amounts if complete else pod_amounts(pod, missing, resized)
    return build_request(amounts, gpus, resources, pod.spec.priority or 0, expected_seconds(pod), nonzero)


def _all_say(pod: Pod, names: Iterable[str]) -> bool:
    """Whether every container of the pod says how much it takes of these; most do, and need no second adding up."""
    for container in (*(pod.spec.containers or ()), *(pod.spec.init_containers or ())):
        resources = container.resources or ResourceRequirements()
        said = (resources.requests or {}).keys() | (resources.limits or {}).keys()
        if not said.issuperset(names):
            return False
    return True


def _columns(amounts: NanoAmounts, gpu_total_milli: int, resources: Sequence[str]) -> IntArray:
    columns = np.empty(len(resources), dtype=np.int64)
    for column, name in enumerate(resources):
        if name == GPU_NAME:
            columns[column] = gpu_total_milli
        elif name == CPU_NAME:
            columns[column] = min(quantity.to_milli(amounts.get(name, 0)), AMOUNT_AT_MOST)
        else:
            columns[column] = min(quantity.to_base(amounts.get(name, 0)), AMOUNT_AT_MOST)
    return columns


def _devices_and_milli(amounts: NanoAmounts) -> tuple[int, int]:
    whole = quantity.to_base(amounts.get(DEVICE_RESOURCE, 0))
    milli = quantity.to_base(amounts.get(SHARE_RESOURCE, 0))
    return min(whole, DEVICES_ASKED_AT_MOST), min(milli, DEVICES_ASKED_AT_MOST * WHOLE_DEVICE_MILLI)
