import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.placement import DEFAULT_CPU_MILLI, DEFAULT_MEMORY_BYTES
from training.workloads.base import Population
from training.workloads.kubectl import NODE_FILE, POD_FILE, read_population
from training.workloads.tables import TraceError

GIB = 1024**3
MIDNIGHT = "2026-11-21T00:00:00Z"


def at(minute: int) -> str:
    return f"2026-11-21T{minute // 60:02}:{minute % 60:02}:00Z"


def node(name: str = "a", labels: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    allocatable = {"cpu": "8", "memory": "32Gi", "nvidia.com/gpu": "2", "pods": "58"}
    return {
        "kind": "Node",
        "metadata": {"name": name, "labels": labels or {}},
        "spec": spec,
        "status": {"allocatable": allocatable},
    }


def pod(
    name: str = "p",
    *,
    requests: dict[str, str] | None = None,
    created: str | None = MIDNIGHT,
    started: str | None = at(1),
    finished: str | None = at(11),
    metadata: dict[str, Any] | None = None,
    **spec: Any,
) -> dict[str, Any]:
    status: dict[str, Any] = {"phase": "Pending" if started is None else "Running"}
    if started is not None:
        status["startTime"] = started
    if finished is not None:
        status["phase"] = "Succeeded"
        status["containerStatuses"] = [{"state": {"terminated": {"finishedAt": finished, "exitCode": 0}}}]
    given = {"cpu": "500m", "memory": "1Gi"} if requests is None else requests
    return {
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "creationTimestamp": created} | (metadata or {}),
        "spec": {"containers": [{"resources": {"requests": given}}]} | spec,
        "status": status,
    }


def read(folder: Path, nodes: list[dict[str, Any]], pods: list[dict[str, Any]]) -> Population:
    (folder / NODE_FILE).write_text(json.dumps({"kind": "List", "items": nodes}))
    (folder / POD_FILE).write_text(json.dumps({"kind": "List", "items": pods}))
    return read_population(folder)


def test_requests_are_counted_as_the_extender_counts_them(tmp_path):
    wanted = pod(requests={"cpu": "500m", "memory": "1Gi", "stowage.dev/gpu-milli": "250"})
    wanted["spec"]["initContainers"] = [{"resources": {"requests": {"cpu": "2"}}}]
    population = read(tmp_path, [node()], [wanted])
    assert population.shapes.request.tolist() == [[2000, GIB, 250]]
    assert (population.shapes.gpu_count.tolist(), population.shapes.gpu_milli.tolist()) == ([1], [250])


def test_a_node_offers_what_is_allocatable(tmp_path):
    population = read(tmp_path, [node()], [pod()])
    assert population.allocatable.tolist() == [[8000, 32 * GIB, 2000]]
    assert population.devices.tolist() == [2]
    assert population.pod_limit.tolist() == [58]


def test_containers_without_requests_count_in_scores_each(tmp_path):
    population = read(tmp_path, [node()], [pod(containers=[{}, {}])])
    assert population.shapes.request.tolist() == [[0, 0, 0]]
    assert population.shapes.nonzero.tolist() == [[2 * DEFAULT_CPU_MILLI, 2 * DEFAULT_MEMORY_BYTES]]


def test_both_kinds_may_be_in_one_file(tmp_path):
    path = tmp_path / "cluster.json"
    path.write_text(json.dumps({"kind": "List", "items": [pod(), node()]}))
    assert len(read_population(path).devices) == 1


def test_a_pod_arrives_when_it_was_created(tmp_path):
    population = read(tmp_path, [node()], [pod(created=at(90)), pod("q", created=at(30))])
    assert population.arrival.tolist() == [90 * 60, 30 * 60]


def test_a_pod_runs_from_its_start_to_the_end_of_its_last_container(tmp_path):
    ended = pod(started=at(5), finished=at(15))
    ended["status"]["containerStatuses"].append({"state": {"terminated": {"finishedAt": at(25)}}})
    assert read(tmp_path, [node()], [ended]).duration.tolist() == [20 * 60]


def test_a_running_pod_has_run_until_the_latest_time_in_the_files(tmp_path):
    population = read(tmp_path, [node()], [pod(started=at(5), finished=None), pod("q", finished=at(65))])
    assert population.duration[0] == 60 * 60
    assert "1 of which still ran" in population.name


def test_a_pod_that_never_started_is_taken_to_run_as_long_as_the_others(tmp_path):
    ended = [pod("p", started=at(1), finished=at(3)), pod("q", started=at(1), finished=at(7))]
    population = read(tmp_path, [node()], [pod("r", started=None, finished=None), *ended])
    assert population.duration[0] == 4 * 60
    assert "1 of which have no known duration" in population.name


def test_without_any_start_nothing_is_known_of_durations(tmp_path):
    with pytest.raises(TraceError, match=r"no pod has a status\.startTime"):
        read(tmp_path, [node()], [pod(started=None, finished=None)])


def test_priority_and_announced_duration_are_kept(tmp_path):
    annotated = {"annotations": {"stowage.dev/expected-seconds": "90"}}
    population = read(tmp_path, [node()], [pod(priority=1000, metadata=annotated)])
    assert population.priority.tolist() == [1000]
    assert population.expected.tolist() == [90.0]


def test_the_gpu_model_is_a_label_of_the_node(tmp_path):
    nodes = [node("a", {"nvidia.com/gpu.product": "Tesla-T4"}), node("b", {"cloud.google.com/gke-accelerator": "a100"})]
    population = read(tmp_path, nodes, [pod(), pod("q", nodeSelector={"nvidia.com/gpu.product": "Tesla-T4"})])
    assert [population.models[number] for number in population.model] == ["Tesla-T4", "a100"]
    assert population.admits[population.shape].tolist() == [[True, True], [True, False]]
    models = dict(zip(population.models, population.shapes.models[population.shape[1]].tolist(), strict=True))
    assert models == {"": False, "Tesla-T4": True, "a100": False}


def required(*terms: dict[str, Any]) -> dict[str, Any]:
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(terms)}}}


def test_required_node_affinity_limits_the_nodes(tmp_path):
    zone = {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["x"]}]}
    name = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["c"]}]}
    nodes = [node("a", {"zone": "x"}), node("b"), node("c")]
    assert read(tmp_path, nodes, [pod(affinity=required(zone, name))]).admits.tolist() == [[True, False, True]]


def test_taints_and_cordons_keep_pods_off(tmp_path):
    tainted = node("b", taints=[{"key": "gpu", "value": "yes", "effect": "NoSchedule"}])
    nodes = [node("a"), tainted, node("c", unschedulable=True)]
    tolerating = pod("q", tolerations=[{"key": "gpu", "operator": "Exists"}])
    population = read(tmp_path, nodes, [pod(), tolerating])
    assert population.admits[population.shape].tolist() == [[True, False, False], [True, True, False]]


def test_pods_of_daemon_sets_are_taken_off_their_node_and_do_not_arrive(tmp_path):
    daemon = pod("d", finished=None, metadata={"ownerReferences": [{"kind": "DaemonSet"}]}, nodeName="a")
    population = read(tmp_path, [node()], [daemon, pod()])
    assert len(population.shape) == 1
    assert population.allocatable.tolist() == [[7500, 31 * GIB, 2000]]
    assert population.pod_limit.tolist() == [57]


def test_other_resources_are_columns_most_requested_first(tmp_path):
    pods = [pod("p", requests={"x/a": "1", "x/b": "1"}), pod("q", requests={"x/b": "2"})]
    assert read(tmp_path, [node()], [*pods, pod("r")]).resources == ("cpu", "memory", "gpu", "x/b", "x/a")


def test_a_gpu_request_of_no_possible_shape_counts_as_on_a_node(tmp_path):
    population = read(tmp_path, [node()], [pod(requests={"stowage.dev/gpu-milli": "1500"})])
    assert population.shapes.gpu_count.tolist() == [2]


@pytest.mark.parametrize(
    ("nodes", "pods", "message"),
    [
        ([node()], [], r"there is no pod: expected what kubectl get nodes,pods"),
        ([], [pod()], r"there is no node: expected what kubectl get nodes,pods"),
        (
            [node(), node()],
            [pod()],
            r"nodes\.json: items\[1\] \(node a\): metadata\.name: 'a' where a name",
        ),
        ([{"kind": "Service"}], [pod()], r"nodes\.json: items\[0\]\.kind: 'Service' where Node or Pod was expected"),
        ([node()], [pod(created=None)], r"pods\.json: items\[0\] \(pod default/p\): metadata\.creationTimestamp: miss"),
        ([node()], [pod(created="today")], r"pods\.json: items\[0\]: .* at `\$\.metadata\.creationTimestamp`"),
        ([node()], [pod(requests={"cpu": "many"})], r"pods\.json: items\[0\] \(pod default/p\): spec: cpu: 'many'"),
        ([node()], [pod(requests={"nvidia.com/gpu": "3"})], r"none of the 1 pods fits on any of the 1 nodes"),
    ],
)
def test_what_cannot_be_read_is_named_by_file_item_and_field(tmp_path, nodes, pods, message):
    with pytest.raises(TraceError, match=message):
        read(tmp_path, nodes, pods)


def test_what_is_no_json_is_named_by_line_and_column(tmp_path):
    path = tmp_path / "cluster.json"
    path.write_text('{"items": [\n  {"kind": }\n]}')
    with pytest.raises(TraceError, match=r"cluster\.json:2:12: JSON is malformed"):
        read_population(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(TraceError, match=r"nodes\.json: no such file"):
        read_population(tmp_path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
PLACES = [
    ("metadata",),
    ("metadata", "name"),
    ("metadata", "creationTimestamp"),
    ("metadata", "labels"),
    ("metadata", "ownerReferences"),
    ("spec",),
    ("spec", "containers"),
    ("spec", "nodeName"),
    ("spec", "nodeSelector"),
    ("spec", "tolerations"),
    ("spec", "affinity"),
    ("spec", "taints"),
    ("spec", "priority"),
    ("status",),
    ("status", "startTime"),
    ("status", "allocatable"),
    ("status", "containerStatuses"),
]


@given(st.booleans(), st.sampled_from(PLACES), JSON | st.sampled_from(["2026-11-21T00:00:00", "0001-01-01T00:00:00Z"]))
def test_any_field_is_read_or_refused(tmp_path_factory, of_node, place, value):
    objects = [node(), pod(), pod("q")]
    target = objects[0 if of_node else 1]
    for key in place[:-1]:
        target = target[key]
    target[place[-1]] = value
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps({"items": objects}))
    try:
        population = read_population(path)
    except TraceError as error:
        message = str(error)
    else:
        message = str(path)
        assert np.all(population.duration >= 0)
        assert np.all(population.arrival >= 0)
    assert message.startswith(str(path))
