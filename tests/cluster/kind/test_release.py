"""A release of the chart in a real cluster, from its installation to the last trace of it, in the order of a life."""

import json
import re
import time
from collections.abc import Iterator

import pytest

from extender.policies.bundled import policy_path
from tests.cluster.api import PODS, Api, Document
from tests.cluster.kind.application_image import NAME as IMAGE
from tests.cluster.kind.arriving import arriving, tolerant_pod
from tests.cluster.kind.ranked import BOUND_LIMIT_SECONDS, assert_pods_go_where_ranked_first, is_bound
from tests.cluster.kind.release import NAMESPACE, Release, everything
from tests.cluster.processes import wait_for
from tests.cluster.workload import make_pod

pytestmark = [pytest.mark.kind, pytest.mark.timeout(900)]

LEADER_LIMIT_SECONDS = 180.0
RESTART_LIMIT_SECONDS = 180.0
SYNC_LIMIT_SECONDS = 180.0


@pytest.fixture(scope="module")
def before(release: Release) -> set[str]:
    """Every object in the cluster before the release was installed."""
    return everything(release.cluster)


@pytest.fixture(scope="module")
def installed(release: Release, before: set[str]) -> Iterator[Release]:
    """The chart with its defaults, but for the name of the image and a place for a candidate, where nothing is yet."""
    release.install({"policy.candidate.configMap": {"name": "candidate", "key": "candidate.json"}})
    yield release
    if release.helm("list", "--short").strip():
        release.uninstall()
    release.cluster.kubectl("delete", "namespace", NAMESPACE)


def wait_for_leader(release: Release) -> str:
    """The pod that leads."""
    wait_for(lambda: bool(release.leader()), LEADER_LIMIT_SECONDS, "a kube-scheduler to lead", 0.5)
    return release.leader()


def test_its_pods_run_and_are_ready(installed: Release) -> None:
    pods = installed.pods()
    assert len(pods) == 2
    for pod in pods:
        statuses = [*pod["status"]["initContainerStatuses"], *pod["status"]["containerStatuses"]]
        assert {status["name"] for status in statuses} == {"extender", "kube-scheduler"}
        assert all(status["ready"] and status["restartCount"] == 0 for status in statuses)


def test_helm_test_succeeds_and_cleans_up(installed: Release, api: Api) -> None:
    installed.helm("test", "stowage", "--timeout=240s")
    names = {pod["metadata"]["name"] for pod in api.get(f"/api/v1/namespaces/{NAMESPACE}/pods")["items"]}
    assert not any("test" in name for name in names)


def test_a_pod_on_the_real_node_runs(installed: Release, api: Api) -> None:
    pod = make_pod("real", {"cpu": "10m", "memory": "16Mi"})
    pod["spec"]["containers"][0] |= {"image": IMAGE, "imagePullPolicy": "Never", "command": ["python", "-c", "pass"]}
    api.create(pod)
    wait_for(lambda: api.get(f"{PODS}/real")["status"]["phase"] == "Succeeded", 120.0, "the pod to succeed", 0.5)
    assert api.get(f"{PODS}/real")["spec"]["nodeName"] == installed.cluster.node
    api.delete(f"{PODS}/real")


def test_pods_go_where_the_policy_ranks_first(installed: Release, api: Api) -> None:
    with installed.extender_of(wait_for_leader(installed)) as extender:
        assert_pods_go_where_ranked_first(api, extender, "stowage")


def test_a_candidate_comes_and_goes_with_its_configmap(installed: Release, api: Api) -> None:
    leader = wait_for_leader(installed)

    def kubectl(*arguments: str) -> None:
        installed.cluster.kubectl(f"--namespace={NAMESPACE}", *arguments)
        # The kubelet looks at once at a pod that changes, and else within a minute.
        installed.cluster.kubectl(
            f"--namespace={NAMESPACE}", "annotate", "pod", leader, "--overwrite", f"looked-at={time.monotonic()}"
        )

    with installed.extender_of(leader) as extender:
        assert extender.candidate() is None
        said = 'candidate.json={"policy": "candidate.onnx", "percent": 0}'
        file = f"--from-file=candidate.onnx={policy_path('bundled:packing')}"
        kubectl("create", "configmap", "candidate", file, f"--from-literal={said}")
        wait_for(lambda: (extender.candidate() or {}).get("stage") == "shadow", SYNC_LIMIT_SECONDS, "the shadow", 1.0)
        changed = '{"data": {"candidate.json": "{\\"policy\\": \\"candidate.onnx\\", \\"percent\\": 5}"}}'
        kubectl("patch", "configmap", "candidate", "--patch", changed)
        wait_for(lambda: (extender.candidate() or {}).get("percent") == 5, SYNC_LIMIT_SECONDS, "the canary", 1.0)
        kubectl("delete", "configmap", "candidate")
        wait_for(lambda: extender.candidate() is None, SYNC_LIMIT_SECONDS, "the end of the trial", 1.0)


def test_a_hung_extender_is_restarted_and_nobody_waits_for_it(installed: Release, api: Api) -> None:
    leader = wait_for_leader(installed)

    def status() -> dict[str, object]:
        pods = {pod["metadata"]["name"]: pod for pod in installed.pods()}
        (extender,) = pods[leader]["status"]["initContainerStatuses"]
        return dict(extender)

    identity = str(status()["containerID"]).rpartition("/")[2]
    task = installed.cluster.in_node("ctr", "--namespace=k8s.io", "tasks", "list")
    (pid,) = [line.split()[1] for line in task.splitlines() if line.startswith(identity)]
    installed.cluster.in_node("kill", "-STOP", pid)

    api.create(tolerant_pod("meanwhile", {"cpu": "1"}))
    wait_for(lambda: is_bound(api, "meanwhile"), BOUND_LIMIT_SECONDS, "a pod to be bound without the extender", 0.5)
    api.delete(f"{PODS}/meanwhile")
    wait_for(lambda: status()["restartCount"] == 1 and bool(status()["ready"]), RESTART_LIMIT_SECONDS, "a restart", 1.0)


def test_an_upgrade_to_another_policy_and_back_costs_no_pod(installed: Release, api: Api) -> None:
    def served() -> str:
        with installed.extender_of(wait_for_leader(installed)) as extender:
            return next(name for name, value in extender.counted("stowage_policy_info").items() if value)

    bundled = served()
    with arriving(api, "upgrade"):
        installed.upgrade({"policy.name": "heuristic:best-fit"})
        wait_for_leader(installed)
    assert served() != bundled
    with arriving(api, "rollback"):
        installed.rollback()
        wait_for_leader(installed)
    assert served() == bundled


def test_no_event_tells_of_a_failure_that_time_has_healed(installed: Release, api: Api) -> None:
    events = api.get(f"/api/v1/namespaces/{NAMESPACE}/events")["items"]
    grave = {"FailedMount", "FailedCreate", "FailedScheduling", "BackOff", "ErrImageNeverPull", "Failed"}
    found = [
        json.dumps({key: event[key] for key in ("reason", "message")})
        for event in events
        if event["reason"] in grave and not _went_while_it_started(event, api) and not _was_told_first(event)
    ]
    assert found == []


def _went_while_it_started(event: Document, api: Api) -> bool:
    """Whether kubelet gave up a pod whose folder it had cleared: an upgrade had replaced it before it ran."""
    about = event["involvedObject"]["uid"]
    cleared = rf"Error: open /var/lib/kubelet/pods/{about}/\S+: no such file or directory"
    there = {each["metadata"]["uid"] for each in api.get(f"/api/v1/namespaces/{NAMESPACE}/pods")["items"]}
    return about not in there and re.fullmatch(cleared, event["message"]) is not None


def _was_told_first(event: Document) -> bool:
    """Whether kubelet asked for a pod's token before the API server's own cache knew that the pod is on its node.

    Source: plugin/pkg/admission/noderestriction/admission.go (admitServiceAccount); kubelet asks again.
    """
    return event["message"].endswith("node requested token bound to a pod scheduled on a different node")


def test_uninstalled_it_leaves_nothing(installed: Release, before: set[str]) -> None:
    installed.uninstall()
    wait_for(lambda: not everything(installed.cluster) - before, 180.0, "everything of the release to be gone", 1.0)
