import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender import wire
from extender.cluster.requests import (
    AMOUNT_AT_MOST,
    BASE_RESOURCES,
    RequestError,
    bound_pod_request,
    build_request,
    expected_seconds,
    gpu_model,
    has_ended,
    node_capacity,
    pod_request,
)
from extender.placement import DEFAULT_CPU_MILLI, DEFAULT_MEMORY_BYTES, PodRequest
from extender.quantity import QuantityError
from tests.extender.objects import GIB, node, pod

MIB = 2**20


def container(limits: dict[str, str] | None = None, sidecar: bool = False, **requests: str) -> dict[str, Any]:
    made: dict[str, Any] = {"resources": {"requests": requests}}
    if limits is not None:
        made["resources"]["limits"] = limits
    return made | {"restartPolicy": "Always"} if sidecar else made


def ask(columns: tuple[str, ...] = BASE_RESOURCES, **spec: Any) -> PodRequest:
    return pod_request(wire.decode_pod(json.dumps({"metadata": {"name": "p"}, "spec": spec}).encode()), columns)


def on_a_node(status: dict[str, Any] | None = None, **spec: Any) -> PodRequest:
    """What the pod takes once it is on a node."""
    made = {"metadata": {"name": "p"}, "spec": spec, "status": status or {}}
    return bound_pod_request(wire.decode_pod(json.dumps(made).encode()), BASE_RESOURCES)


def cpu(**spec: Any) -> int:
    return int(ask(**spec).request[0])


def test_containers_are_added_up() -> None:
    asked = ask(containers=[container(cpu="500m", memory="1Gi"), container(cpu="1", memory="512Mi")])

    assert asked.request.tolist() == [1500, 3 * GIB // 2, 0]


def test_parts_of_a_milli_are_added_up_before_rounding() -> None:
    assert cpu(containers=[container(cpu="100200u"), container(cpu="100200u")]) == 201


def test_a_pod_without_requests_asks_for_nothing() -> None:
    assert ask(containers=[{}]).request.tolist() == [0, 0, 0]
    assert ask().request.tolist() == [0, 0, 0]


def test_the_largest_init_container_counts_when_it_exceeds_the_containers() -> None:
    inits = [container(cpu="3"), container(cpu="2")]

    assert cpu(containers=[container(cpu="1")], initContainers=inits) == 3000
    assert cpu(containers=[container(cpu="4")], initContainers=inits) == 4000


def test_sidecars_run_beside_the_containers_and_the_init_containers_after_them() -> None:
    sidecar, init = container(cpu="1", sidecar=True), container(cpu="3")

    assert cpu(containers=[container(cpu="1")], initContainers=[sidecar]) == 2000
    assert cpu(containers=[container(cpu="1")], initContainers=[sidecar, init]) == 4000
    assert cpu(containers=[container(cpu="1")], initContainers=[init, sidecar]) == 3000
    assert cpu(containers=[container(cpu="1")], initContainers=[sidecar, sidecar]) == 3000


def test_each_resource_has_its_own_largest_init_container() -> None:
    asked = ask(
        containers=[container(cpu="1", memory="4Gi")],
        initContainers=[container(cpu="2", memory="1Gi"), container(cpu="1", memory="8Gi")],
    )

    assert asked.request.tolist() == [2000, 8 * GIB, 0]


def test_a_container_counts_in_scores_what_it_asks_for_and_a_default_for_what_it_does_not() -> None:
    containers = [container(cpu="500m"), container(memory="1Gi"), {}]

    assert ask(containers=containers).request.tolist() == [500, GIB, 0]
    assert ask(containers=containers).nonzero.tolist() == [500 + 2 * 100, GIB + 2 * 200 * MIB]


def test_a_container_that_asks_for_none_explicitly_counts_none_in_scores() -> None:
    assert ask(containers=[container(cpu="0", memory="0")]).nonzero.tolist() == [0, 0]


def test_a_limit_is_a_request_in_scores_too() -> None:
    assert ask(containers=[container(limits={"cpu": "3"})]).nonzero.tolist() == [3000, 200 * MIB]


def test_init_containers_and_sidecars_that_ask_for_nothing_count_the_default_in_scores() -> None:
    sidecar = container(sidecar=True)

    assert ask(containers=[container(cpu="50m", memory="1Mi")], initContainers=[{}]).nonzero.tolist() == [
        100,
        200 * MIB,
    ]
    assert ask(containers=[{}], initContainers=[sidecar, sidecar]).nonzero.tolist() == [300, 600 * MIB]
    assert ask(containers=[{}], initContainers=[sidecar, container(cpu="1")]).nonzero.tolist() == [1100, 400 * MIB]


def test_overhead_is_added_to_the_defaults_in_scores() -> None:
    assert ask(containers=[{}], overhead={"cpu": "250m"}).nonzero.tolist() == [350, 200 * MIB]


def test_pod_level_requests_replace_the_defaults_in_scores() -> None:
    at_pod_level = {"requests": {"cpu": "5", "memory": "1Gi"}}

    assert ask(containers=[{}, {}], resources=at_pod_level).nonzero.tolist() == [5000, GIB]


def test_on_a_node_what_a_pod_with_pod_level_requests_leaves_open_has_no_default_beside_another_container() -> None:
    # kube-scheduler itself counts such a pod differently before and after: resource_allocation.go, framework/types.go.
    spec = {"containers": [container(memory="1Gi"), {}], "resources": {"requests": {"cpu": "5"}}}

    assert ask(**spec).nonzero.tolist() == [5000, GIB + 200 * MIB]
    assert on_a_node(**spec).nonzero.tolist() == [5000, GIB]


def test_on_a_node_a_request_of_nothing_anywhere_in_such_a_pod_leaves_nothing_open() -> None:
    at_pod_level = {"requests": {"cpu": "5"}}

    spec = {"containers": [{}], "initContainers": [container(memory="0")], "resources": at_pod_level}

    assert on_a_node(**spec).nonzero.tolist() == [5000, 0]


def test_amounts_without_a_pod_are_those_of_one_container() -> None:
    asked = build_request({"memory": 5 * 10**9}, (0, 0), BASE_RESOURCES, priority=0, seconds=0.0)

    assert asked.nonzero.tolist() == [100, 5]


ResourceList = dict[str, int]
DEFAULTS = {"cpu": DEFAULT_CPU_MILLI, "memory": DEFAULT_MEMORY_BYTES}


def add_resource_list(total: ResourceList, more: ResourceList) -> None:
    for name, amount in more.items():
        total[name] = total.get(name, 0) + amount


def max_resource_list(total: ResourceList, other: ResourceList) -> None:
    for name, amount in other.items():
        if name not in total or amount > total[name]:
            total[name] = amount


def apply_non_missing(requests: ResourceList, non_missing: ResourceList) -> ResourceList:
    copy = dict(requests)
    for name, amount in non_missing.items():
        if name not in requests:
            copy[name] = copy.get(name, 0) + amount
    return copy


def determine_effective_requests(spec: dict[str, Any], each: dict[str, Any], requests: ResourceList) -> ResourceList:
    if each["status"] is None:
        return requests
    effective: ResourceList = {} if spec["infeasible"] else dict(requests)
    for part in ("actuated", "allocated"):
        max_resource_list(effective, each["status"][part])
    return effective


def aggregate_container_requests(spec: dict[str, Any], non_missing: ResourceList) -> ResourceList:
    requests: ResourceList = {}
    for each in spec["containers"]:
        own = determine_effective_requests(spec, each, each["requests"])
        add_resource_list(requests, apply_non_missing(own, non_missing))
    restartable: ResourceList = {}
    init_requests: ResourceList = {}
    for each in spec["init_containers"]:
        own = each["requests"]
        if each["sidecar"]:
            own = determine_effective_requests(spec, each, own)
        own = apply_non_missing(own, non_missing)
        if each["sidecar"]:
            add_resource_list(requests, own)
            add_resource_list(restartable, own)
            own = restartable
        else:
            together: ResourceList = {}
            add_resource_list(together, own)
            add_resource_list(together, restartable)
            own = together
        max_resource_list(init_requests, own)
    max_resource_list(requests, init_requests)
    return requests


def pod_requests(spec: dict[str, Any], non_missing: ResourceList) -> ResourceList:
    """PodRequests of k8s.io/component-helpers/resource/helpers.go, as the functions above are of their names there."""
    requests = aggregate_container_requests(spec, non_missing)
    effective = determine_effective_requests(spec, spec, spec["pod_level"])
    requests.update({name: effective.get(name, 0) for name in spec["pod_level"]})
    add_resource_list(requests, spec["overhead"])
    return requests


def non_missing_container_requests(requests: ResourceList, pod_level_resources_set: bool) -> ResourceList:
    """getNonMissingContainerRequests of pkg/scheduler/framework/types.go."""
    if not pod_level_resources_set:
        return DEFAULTS
    return {name: amount for name, amount in DEFAULTS.items() if name not in requests}


def cpu_and_memory(amounts: ResourceList) -> list[int]:
    return [amounts.get("cpu", 0), amounts.get("memory", 0)]


def quantities(amounts: ResourceList) -> dict[str, str]:
    return {name: f"{amount}m" if name == "cpu" else str(amount) for name, amount in amounts.items()}


def document(spec: dict[str, Any]) -> dict[str, Any]:
    """The same pod as Kubernetes writes it: its spec."""

    def made(prefix: str, number: int, each: dict[str, Any], sidecar: bool) -> dict[str, Any]:
        return container(sidecar=sidecar, **quantities(each["requests"])) | {"name": f"{prefix}{number}"}

    return {
        "containers": [made("c", number, each, False) for number, each in enumerate(spec["containers"])],
        "initContainers": [
            made("i", number, each, each["sidecar"]) for number, each in enumerate(spec["init_containers"])
        ],
        "resources": {"requests": quantities(spec["pod_level"])},
        "overhead": quantities(spec["overhead"]),
    }


def status_document(spec: dict[str, Any]) -> dict[str, Any]:
    """The same pod as Kubernetes writes it: its status."""

    def got(each: dict[str, Any]) -> dict[str, Any]:
        if each["status"] is None:
            return {}
        return {
            "resources": {"requests": quantities(each["status"]["actuated"])},
            "allocatedResources": quantities(each["status"]["allocated"]),
        }

    def statuses(prefix: str, group: str) -> list[dict[str, Any]]:
        return [{"name": f"{prefix}{number}"} | got(each) for number, each in enumerate(spec[group])]

    pending = {"type": "PodResizePending", "reason": "Infeasible" if spec["infeasible"] else "Deferred"}
    return got(spec) | {
        "conditions": [{"type": "Ready"}, pending],
        "containerStatuses": statuses("c", "containers"),
        "initContainerStatuses": statuses("i", "init_containers"),
    }


amounts = st.fixed_dictionaries(
    {}, optional={"cpu": st.sampled_from((0, 50, 150, 2000)), "memory": st.sampled_from((0, MIB, 300 * MIB, GIB))}
)
got = st.none() | st.fixed_dictionaries({"actuated": amounts, "allocated": amounts})


def specs_with(status: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    each = st.fixed_dictionaries({"requests": amounts, "sidecar": st.booleans(), "status": status})
    containers = st.lists(each, max_size=3)
    return st.fixed_dictionaries(
        {
            "containers": containers,
            "init_containers": containers,
            "pod_level": amounts,
            "overhead": amounts,
            "status": status,
            "infeasible": st.booleans(),
        }
    )


@given(specs_with(st.none()))
def test_a_pod_to_be_placed_counts_as_kube_scheduler_counts_it(spec: dict[str, Any]) -> None:
    asked = ask(**document(spec))

    assert asked.request[:2].tolist() == cpu_and_memory(pod_requests(spec, {}))
    # calculatePodResourceRequest of pkg/scheduler/framework/plugins/noderesources/resource_allocation.go
    assert asked.nonzero.tolist() == cpu_and_memory(pod_requests(spec, DEFAULTS))


@given(specs_with(got))
def test_a_pod_on_a_node_counts_as_kube_scheduler_counts_it(spec: dict[str, Any]) -> None:
    counted = on_a_node(status_document(spec), **document(spec))

    # CalculateResource of pkg/scheduler/framework/types.go
    requests = pod_requests(spec, {})
    non_missing = non_missing_container_requests(requests, bool(spec["pod_level"]))
    assert counted.request[:2].tolist() == cpu_and_memory(requests)
    assert counted.nonzero.tolist() == cpu_and_memory(pod_requests(spec, non_missing) if non_missing else requests)


def resizing(cpu: str, reason: str = "") -> dict[str, Any]:
    """The status of a pod whose container `main` has got so much CPU."""
    got = {"name": "main", "resources": {"requests": {"cpu": cpu}}, "allocatedResources": {"cpu": cpu}}
    return {
        "containerStatuses": [got],
        "conditions": [{"type": "PodResizePending", "reason": reason}] if reason else [],
    }


@pytest.mark.parametrize(
    ("asked", "status", "counted"),
    [
        ("2", resizing("2"), 2000),
        ("3", resizing("2"), 3000),  # growing: what is asked for may be given at any moment
        ("1", resizing("2"), 2000),  # shrinking: what it has is not free yet
        ("3", resizing("2", "Deferred"), 3000),
        ("9", resizing("2", "Infeasible"), 2000),
    ],
)
def test_a_pod_that_is_resized_in_place_counts_the_larger_of_both_sizes(
    asked: str, status: dict[str, Any], counted: int
) -> None:
    main = container(cpu=asked) | {"name": "main"}

    assert on_a_node(status, containers=[main]).request[0] == counted


def test_overhead_is_added() -> None:
    assert cpu(containers=[container(cpu="1")], overhead={"cpu": "250m"}) == 1250


def test_pod_level_requests_replace_the_sum_and_overhead_comes_on_top() -> None:
    asked = ask(
        containers=[container(cpu="1", memory="1Gi")],
        resources={"requests": {"cpu": "5", "nvidia.com/gpu": "9"}},
        overhead={"cpu": "250m"},
    )

    assert asked.request.tolist() == [5250, GIB, 0]


def test_limits_stand_in_for_requests_that_are_not_given() -> None:
    asked = ask(containers=[container(limits={"cpu": "3", "nvidia.com/gpu": "2"}, cpu="1")])

    assert asked.request.tolist() == [1000, 0, 2000]


def test_further_resources_are_read_in_base_units_in_the_policys_order() -> None:
    columns = (*BASE_RESOURCES, "ephemeral-storage", "example.com/nic")
    asked = ask(columns, containers=[container(**{"example.com/nic": "2", "ephemeral-storage": "1Ki"})])

    assert asked.request.tolist() == [0, 0, 0, 1024, 2]


@pytest.mark.parametrize(
    ("requests", "devices"),
    [
        ({}, (0, 0)),
        ({"nvidia.com/gpu": "0"}, (0, 0)),
        ({"nvidia.com/gpu": "1"}, (1, 1000)),
        ({"nvidia.com/gpu": "8"}, (8, 1000)),
        ({"stowage.dev/gpu-milli": "250"}, (1, 250)),
        ({"stowage.dev/gpu-milli": "999"}, (1, 999)),
        ({"stowage.dev/gpu-milli": "1k"}, (1, 1000)),
        ({"stowage.dev/gpu-milli": "4000"}, (4, 1000)),
    ],
)
def test_gpus_are_whole_devices_or_a_share_of_one(requests: dict[str, str], devices: tuple[int, int]) -> None:
    asked = ask(containers=[container(**requests)])

    assert (asked.gpu_count, asked.gpu_milli) == devices
    assert asked.request[2] == devices[0] * devices[1]


@pytest.mark.parametrize(
    ("requests", "reason"),
    [
        ({"stowage.dev/gpu-milli": "1500"}, "gpu-milli is 1500: expected less than 1000"),
        ({"stowage.dev/gpu-milli": "500", "nvidia.com/gpu": "1"}, "expected only one of them"),
    ],
)
def test_other_gpu_requests_are_refused_with_the_reason(requests: dict[str, str], reason: str) -> None:
    with pytest.raises(RequestError, match=reason):
        ask(containers=[container(**requests)])


@pytest.mark.parametrize(
    ("requests", "devices"),
    [
        ({"stowage.dev/gpu-milli": "1500"}, 2),
        ({"stowage.dev/gpu-milli": "500", "nvidia.com/gpu": "1"}, 2),
        ({"stowage.dev/gpu-milli": "4000"}, 4),
    ],
)
def test_a_pod_that_somebody_placed_anyway_counts_as_whole_devices(requests: dict[str, str], devices: int) -> None:
    placed = bound_pod_request(wire.decode_pod(json.dumps(pod("p", requests, "n")).encode()), BASE_RESOURCES)

    assert (placed.gpu_count, placed.gpu_milli) == (devices, 1000)


def test_pods_of_one_template_share_what_was_worked_out() -> None:
    spec = {"containers": [container(cpu="250m"), container(memory="1Gi")], "priority": 7}

    assert ask(**spec) is ask(**spec)
    assert ask(**spec).priority == 7
    assert ask(**spec | {"priority": 8}).priority == 8
    assert on_a_node(**spec) is on_a_node(**spec | {"nodeName": "n"})


def test_amounts_of_more_than_64_bits_count_as_the_most_there_is() -> None:
    assert ask(containers=[{"resources": {"requests": {"cpu": 10**30}}}]).request[0] == AMOUNT_AT_MOST


def test_a_bad_quantity_is_named_with_its_resource() -> None:
    with pytest.raises(QuantityError, match="cpu: 'two' is not a quantity"):
        ask(containers=[container(cpu="two")])


def test_a_negative_amount_is_refused() -> None:
    with pytest.raises(QuantityError, match="cpu: '-1' is negative: expected 0 or more"):
        ask(containers=[container(cpu="-1")])


@pytest.mark.parametrize("resource", ["cpu", "memory", "nvidia.com/gpu", "stowage.dev/gpu-milli"])
def test_absurd_amounts_of_many_pods_still_add_up(resource: str) -> None:
    asked = ask(containers=[container(**{resource: "9E"})])

    assert 2**40 <= asked.request.max() <= 2**53


@pytest.mark.parametrize(
    ("phase", "ended"), [("Pending", False), ("Running", False), ("Succeeded", True), ("Failed", True)]
)
def test_succeeded_and_failed_pods_have_ended(phase: str, ended: bool) -> None:
    assert has_ended(wire.decode_pod(json.dumps(pod("p", phase=phase)).encode())) is ended


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90.0), ("1.5e3", 1500.0), ("soon", 0.0), ("-5", 0.0), ("nan", 0.0), ("inf", 0.0)]
)
def test_the_expected_duration_is_a_hint_that_may_be_useless(text: str, seconds: float) -> None:
    made = pod("p")
    made["metadata"]["annotations"] = {"stowage.dev/expected-seconds": text}

    assert expected_seconds(wire.decode_pod(json.dumps(made).encode())) == seconds


@pytest.mark.parametrize(
    ("extended", "devices"),
    [({}, 0), ({"gpus": "4"}, 4), ({"gpu_milli": "2000"}, 2), ({"gpus": "1", "gpu_milli": "2999"}, 3)],
)
def test_a_nodes_devices_are_its_gpus_and_its_whole_thousands_of_gpu_milli(
    extended: dict[str, str], devices: int
) -> None:
    allocatable, count = node_capacity(wire.decode_node(json.dumps(node("n", **extended)).encode()), BASE_RESOURCES)

    assert count == devices
    np.testing.assert_array_equal(allocatable, [8000, 32 * GIB, devices * 1000])


@pytest.mark.parametrize(
    ("labels", "model"),
    [
        (None, ""),
        ({}, ""),
        ({"kubernetes.io/hostname": "n"}, ""),
        ({"k8s.amazonaws.com/accelerator": "nvidia-tesla-v100"}, "nvidia-tesla-v100"),
        ({"cloud.google.com/gke-accelerator": "nvidia-l4", "nvidia.com/gpu.product": "NVIDIA-L4"}, "NVIDIA-L4"),
        ({"nvidia.com/gpu.product": "", "cloud.google.com/gke-accelerator": "nvidia-l4"}, "nvidia-l4"),
    ],
)
def test_the_gpu_model_is_what_the_first_label_says_that_names_one(labels: dict[str, str] | None, model: str) -> None:
    assert gpu_model(labels) == model
