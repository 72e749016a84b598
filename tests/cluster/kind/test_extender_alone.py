"""The chart without a scheduler: the cluster's own kube-scheduler, a static pod, asks the extender over TLS."""

import base64
from collections.abc import Iterator

import pytest
import yaml

from tests.cluster.api import Api
from tests.cluster.kind.arriving import arriving
from tests.cluster.kind.cluster import KindCluster
from tests.cluster.kind.ranked import assert_pods_go_where_ranked_first
from tests.cluster.kind.release import NAMESPACE, Release, everything
from tests.cluster.processes import wait_for

pytestmark = [pytest.mark.kind, pytest.mark.timeout(900)]

ADDRESS = "10.96.200.200"
MANIFEST = "/etc/kubernetes/manifests/kube-scheduler.yaml"
CONFIGURATION = "/etc/kubernetes/stowage.yaml"
RESTART_LIMIT_SECONDS = 120.0


@pytest.fixture(scope="module")
def alone(release: Release) -> Iterator[Release]:
    before = everything(release.cluster)
    release.install({"scheduler.enabled": False, "service.clusterIP": ADDRESS, "replicas": 1})
    yield release
    release.uninstall()
    release.cluster.kubectl("delete", "namespace", NAMESPACE)
    wait_for(lambda: everything(release.cluster) <= before, 60.0, "everything of the release to be gone", 1.0)


@pytest.fixture(scope="module")
def asked(alone: Release, api: Api) -> Iterator[Release]:
    """The release, and the static kube-scheduler told to ask it, by what the chart's ConfigMap says."""
    cluster = alone.cluster
    data = api.get(f"/api/v1/namespaces/{NAMESPACE}/configmaps/stowage-scheduler")["data"]
    configuration = yaml.safe_load(data["configuration.yaml"])
    configuration["clientConnection"] = {"kubeconfig": "/etc/kubernetes/scheduler.conf"}
    manifest = cluster.in_node("cat", MANIFEST)
    pod = yaml.safe_load(manifest)
    (container,) = pod["spec"]["containers"]
    container["command"].append(f"--config={CONFIGURATION}")
    container["volumeMounts"].append({"name": "stowage", "mountPath": CONFIGURATION, "readOnly": True})
    pod["spec"]["volumes"].append({"name": "stowage", "hostPath": {"path": CONFIGURATION, "type": "File"}})
    write(cluster, CONFIGURATION, yaml.safe_dump(configuration))
    restart_scheduler(cluster, api, yaml.safe_dump(pod))
    yield alone
    restart_scheduler(cluster, api, manifest)


def write(cluster: KindCluster, path: str, content: str) -> None:
    """Write a file on the node."""
    encoded = base64.b64encode(content.encode()).decode()
    cluster.in_node("sh", "-c", f"echo {encoded} | base64 --decode > {path}.new && mv {path}.new {path}")


def restart_scheduler(cluster: KindCluster, api: Api, manifest: str) -> None:
    """Give the kubelet another static pod of kube-scheduler and wait until that one is ready."""
    path = f"/api/v1/namespaces/kube-system/pods/kube-scheduler-{cluster.node}"

    def identity() -> str:
        pods = api.get("/api/v1/namespaces/kube-system/pods?labelSelector=component%3Dkube-scheduler")["items"]
        ready = [
            pod
            for pod in pods
            if any(each["type"] == "Ready" and each["status"] == "True" for each in pod["status"].get("conditions", []))
        ]
        return str(ready[0]["metadata"]["annotations"]["kubernetes.io/config.hash"]) if ready else ""

    before = api.get(path)["metadata"]["annotations"]["kubernetes.io/config.hash"]
    # The kubelet reads every file of the folder, so the new one is not written there.
    encoded = base64.b64encode(manifest.encode()).decode()
    cluster.in_node("sh", "-c", f"echo {encoded} | base64 --decode > /tmp/scheduler && mv /tmp/scheduler {MANIFEST}")
    wait_for(lambda: identity() not in ("", before), RESTART_LIMIT_SECONDS, "another kube-scheduler to be ready", 1.0)


def test_helm_test_gets_an_answer_that_its_ca_vouches_for(alone: Release) -> None:
    alone.helm("test", "stowage", "--timeout=240s")


def test_the_clusters_own_scheduler_follows_the_policy(asked: Release, api: Api) -> None:
    (pod,) = asked.pods()
    with asked.extender_of(pod["metadata"]["name"], "https") as extender:
        assert_pods_go_where_ranked_first(api, extender, "default-scheduler")


def test_an_upgrade_costs_no_pod(asked: Release, api: Api) -> None:
    with arriving(api, "alone", scheduler="default-scheduler"):
        asked.upgrade(
            {
                "scheduler.enabled": False,
                "service.clusterIP": ADDRESS,
                "replicas": 1,
                "policy.name": "heuristic:best-fit",
            }
        )
