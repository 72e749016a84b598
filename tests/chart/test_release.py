"""Releases of the chart in a real API server: accepted whole, changed, rolled back, and gone without a trace."""

import base64
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from extender.renewal import renew
from tests.chart.rendering import ROOT, Document, HelmError, Rendered, render, run_helm, set_values
from tests.cluster.api import Api
from tests.cluster.control_plane import ControlPlane, run_control_plane

pytestmark = pytest.mark.cluster

NAMESPACE = "scheduling"
COLLECTIONS = {
    "ClusterRole": "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    "CronJob": "/apis/batch/v1/namespaces/{namespace}/cronjobs",
    "ConfigMap": "/api/v1/namespaces/{namespace}/configmaps",
    "Deployment": "/apis/apps/v1/namespaces/{namespace}/deployments",
    "Lease": "/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases",
    "NetworkPolicy": "/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies",
    "Pod": "/api/v1/namespaces/{namespace}/pods",
    "PodDisruptionBudget": "/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets",
    "Role": "/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/roles",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings",
    "Secret": "/api/v1/namespaces/{namespace}/secrets",
    "Service": "/api/v1/namespaces/{namespace}/services",
    "ServiceAccount": "/api/v1/namespaces/{namespace}/serviceaccounts",
}
EVERYTHING: Document = {
    "metrics.enabled": True,
    "networkPolicy": {"enabled": True, "metricsFrom": [{"podSelector": {}}]},
    "policy.from.image": {"reference": "example/policy:1", "path": "policy.onnx"},
    "extender.scoring": {"resources": [{"name": "cpu", "weight": 2}]},
    "extender.decisionLog.enabled": True,
    "extender.reservations": {"after": 60, "events": True},
    "extender.preempt": "fewest",
    "extender.extraArgs": ["--list-page-size=100"],
    "scheduler.extraArgs": ["--kube-api-qps=100"],
    "tolerations": [{"operator": "Exists"}],
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "affinity": {"podAffinity": {}},
    "priorityClassName": "system-cluster-critical",
    "imagePullSecrets": [{"name": "registry"}],
}
ALONE: Document = EVERYTHING | {"scheduler.enabled": False}
CHOICES = {"defaults": {}, "everything": EVERYTHING, "the extender alone": ALONE}


@pytest.fixture(scope="module")
def control_plane(tools: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with run_control_plane(tools, tmp_path_factory.mktemp("chart")) as control_plane:
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        control_plane.api.create(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}
        )
        yield control_plane


@pytest.fixture
def in_cluster(helm: Path, control_plane: ControlPlane, tmp_path: Path) -> Iterator["Cluster"]:
    cluster = Cluster(helm, control_plane, tmp_path)
    yield cluster
    if cluster.helm("list", "--short").strip():
        cluster.helm("uninstall", "stowage")


class Cluster:
    """helm against the API server."""

    def __init__(self, helm: Path, control_plane: ControlPlane, home: Path) -> None:
        self.api: Api = control_plane.api
        self._helm = helm
        self._environment = os.environ | {
            "KUBECONFIG": str(control_plane.admin_kubeconfig()),
            **{f"HELM_{kind}_HOME": str(home / kind) for kind in ("CACHE", "CONFIG", "DATA")},
        }

    def helm(self, *arguments: str | Path) -> str:
        return run_helm(self._helm, *arguments, f"--namespace={NAMESPACE}", environment=self._environment)

    def release(self, command: str, values: Document | None = None, *arguments: str) -> str:
        # There is no controller manager that would make pods, so there is nothing to wait for.
        return self.helm(command, "stowage", ROOT, "--wait=hookOnly", *set_values(values or {}), *arguments)

    def names(self) -> set[tuple[str, str, str]]:
        """Every object of the kinds that the chart makes: kind, namespace and name."""
        found = set()
        for kind, path in COLLECTIONS.items():
            for namespace in (NAMESPACE, "kube-system"):
                for item in self.api.get(path.format(namespace=namespace))["items"]:
                    metadata = item["metadata"]
                    found.add((kind, metadata.get("namespace", ""), metadata["name"]))
        return found

    def object(self, kind: str, name: str) -> Document:
        return self.api.get(f"{COLLECTIONS[kind].format(namespace=NAMESPACE)}/{name}")


@pytest.mark.parametrize("values", CHOICES.values(), ids=CHOICES)
def test_every_object_is_accepted_field_by_field(helm: Path, control_plane: ControlPlane, values: Document) -> None:
    rendered = render(helm, values)
    for document in rendered.documents:
        path = COLLECTIONS[document["kind"]].format(namespace=document["metadata"].get("namespace"))
        control_plane.api.apply(path, document, dry_run=True)


@pytest.mark.parametrize("values", CHOICES.values(), ids=CHOICES)
def test_every_pod_keeps_to_restricted_pod_security(helm: Path, control_plane: ControlPlane, values: Document) -> None:
    rendered = render(helm, values)
    path = COLLECTIONS["Pod"].format(namespace=NAMESPACE)
    renewals = [cronjob["spec"]["jobTemplate"]["spec"]["template"] for cronjob in rendered.all("CronJob")]
    for pod in [*rendered.all("Pod"), pod_of(rendered), *map(pod_from, renewals)]:
        control_plane.api.apply(path, pod, dry_run=True)
    careless = pod_of(rendered)
    del careless["spec"]["containers"][0]["securityContext"]["capabilities"]
    with pytest.raises(AssertionError, match="violates PodSecurity"):
        control_plane.api.apply(path, careless, dry_run=True)


def pod_of(rendered: Rendered) -> Document:
    """A pod as the deployment would make it."""
    return pod_from(rendered.one("Deployment")["spec"]["template"])


def pod_from(template: Document) -> Document:
    """A pod of a template."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": template["metadata"] | {"name": "x"},
        "spec": template["spec"],
    }


def test_install_upgrade_rollback_and_uninstall_leave_nothing(in_cluster: Cluster) -> None:
    before = in_cluster.names()
    in_cluster.release("install")
    assert policy(in_cluster) == "--policy=bundled:latency"
    assert ("Lease", NAMESPACE, "stowage-scheduler") in in_cluster.names()

    in_cluster.release("upgrade", EVERYTHING | {"policy.from": {}, "policy.name": "heuristic:best-fit"})
    assert policy(in_cluster) == "--policy=heuristic:best-fit"
    assert ("NetworkPolicy", NAMESPACE, "stowage") in in_cluster.names()

    in_cluster.helm("rollback", "stowage", "1", "--wait=hookOnly")
    assert policy(in_cluster) == "--policy=bundled:latency"
    assert ("NetworkPolicy", NAMESPACE, "stowage") not in in_cluster.names()

    in_cluster.helm("uninstall", "stowage")
    assert in_cluster.names() == before


def policy(cluster: Cluster) -> str:
    (extender,) = cluster.object("Deployment", "stowage")["spec"]["template"]["spec"]["initContainers"]
    (argument,) = [argument for argument in extender["args"] if argument.startswith("--policy=")]
    return str(argument)


def test_the_leader_stays_over_an_upgrade(in_cluster: Cluster) -> None:
    in_cluster.release("install")
    path = f"{COLLECTIONS['Lease'].format(namespace=NAMESPACE)}/stowage-scheduler"
    in_cluster.api.patch(path, {"spec": {"holderIdentity": "pod-1", "leaseDurationSeconds": 15}})

    in_cluster.release("upgrade", {"replicas": 3})

    assert in_cluster.object("Lease", "stowage-scheduler")["spec"]["holderIdentity"] == "pod-1"


def test_a_certificate_is_kept_until_half_of_its_time_has_passed(in_cluster: Cluster) -> None:
    def secret(name: str) -> Document:
        data: Document = in_cluster.object("Secret", name)["data"]
        return data

    alone = {"scheduler.enabled": False}
    before = in_cluster.names()
    in_cluster.release("install", alone)
    first, authority = secret("stowage-tls"), secret("stowage-ca")

    in_cluster.release("upgrade", alone | {"replicas": 1})
    assert secret("stowage-tls") == first
    configuration = in_cluster.object("ConfigMap", "stowage-scheduler")["data"]["configuration.yaml"]
    address = in_cluster.object("Service", "stowage")["spec"]["clusterIP"]
    assert f"urlPrefix: https://{address}:8888" in configuration

    half_a_year_ago = str(int(time.time()) - 183 * 86400)
    path = f"{COLLECTIONS['Secret'].format(namespace=NAMESPACE)}/stowage-tls"
    in_cluster.api.patch(path, {"metadata": {"annotations": {"stowage.dev/issued": half_a_year_ago}}})
    # It was issued for a year: that new ones are to last longer gives it no more time.
    in_cluster.release("upgrade", alone | {"tls.selfSigned.days": 3650}, "--force-conflicts")
    renewed = secret("stowage-tls")
    assert renewed["tls.crt"] != first["tls.crt"]
    assert renewed["tls.key"] != first["tls.key"]
    assert renewed["ca.crt"] == first["ca.crt"]
    assert secret("stowage-ca") == authority

    in_cluster.helm("uninstall", "stowage")
    assert in_cluster.names() == before


def test_a_certificate_is_renewed_by_rights_for_it_alone_and_helm_goes_on(
    in_cluster: Cluster, control_plane: ControlPlane, tmp_path: Path
) -> None:
    in_cluster.release("install", {"scheduler.enabled": False})
    first, authority = (in_cluster.object("Secret", f"stowage-{name}")["data"] for name in ("tls", "ca"))
    for name in ("tls.crt", "tls.key"):
        (tmp_path / name).write_bytes(base64.b64decode(authority[name]))
    kubeconfig = control_plane.kubeconfig(NAMESPACE, "stowage-renewal")
    api = client.CoreV1Api(config.new_client_from_config(str(kubeconfig)))
    names, now = ["stowage.scheduling.svc"], time.time()

    assert not renew(api, "stowage-tls", NAMESPACE, tmp_path, names, 365, now + 182 * 86400)
    assert in_cluster.object("Secret", "stowage-tls")["data"] == first
    assert renew(api, "stowage-tls", NAMESPACE, tmp_path, names, 365, now + 183 * 86400)
    renewed = in_cluster.object("Secret", "stowage-tls")["data"]
    assert renewed["tls.crt"] != first["tls.crt"]
    assert renewed["ca.crt"] == first["ca.crt"]
    with pytest.raises(ApiException, match="Forbidden"):
        api.read_namespaced_secret("stowage-ca", NAMESPACE)

    in_cluster.release("upgrade", {"scheduler.enabled": False, "replicas": 1})
    assert in_cluster.object("Secret", "stowage-tls")["data"] == renewed
    in_cluster.helm("rollback", "stowage", "1", "--wait=hookOnly")
    assert in_cluster.object("Secret", "stowage-tls")["data"] == first


def test_a_release_that_is_refused_leaves_nothing(in_cluster: Cluster) -> None:
    before = in_cluster.names()
    with pytest.raises(HelmError, match="values don't meet the specifications"):
        in_cluster.release("install", {"polcy": {}})
    assert in_cluster.names() == before


def test_the_service_account_may_do_what_it_needs_and_no_more(in_cluster: Cluster) -> None:
    in_cluster.release("install")
    user = f"system:serviceaccount:{NAMESPACE}:stowage"

    def may(verb: str, resource: str, group: str = "", namespace: str = "", name: str = "") -> bool:
        attributes = {"verb": verb, "resource": resource, "group": group, "namespace": namespace, "name": name}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {"user": user, "resourceAttributes": attributes},
        }
        answer = in_cluster.api.apply("/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
        return bool(answer["status"]["allowed"])

    lease = {"resource": "leases", "group": "coordination.k8s.io", "namespace": NAMESPACE}
    assert may("watch", "nodes")
    assert may("watch", "pods")
    assert may("update", **lease, name="stowage-scheduler")
    assert not may("update", **lease, name="another")
    for verb, resource in [("list", "secrets"), ("create", "deployments"), ("delete", "nodes"), ("create", "pods")]:
        assert not may(verb, resource), f"{verb} {resource}"
