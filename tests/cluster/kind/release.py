"""A release of the chart in the kind cluster, and the extenders in its pods."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.chart.rendering import ROOT, run_helm, set_values
from tests.cluster.api import Api, Document
from tests.cluster.kind.application_image import REPOSITORY, TAG
from tests.cluster.kind.cluster import KindCluster
from tests.cluster.processes import Process, free_port

NAMESPACE = "scheduling"
NAME = "stowage"
WAIT = ("--wait", "--timeout=240s")
# The image is on the node already, and is in no registry. A busy machine answers late, and which rung answers then is
# tried elsewhere.
VALUES: Mapping[str, object] = {
    "image": {"repository": REPOSITORY, "tag": TAG, "pullPolicy": "Never"},
    "extender.deadline": 0.9,
}
FORWARD_LIMIT_SECONDS = 120.0


class Release:
    """helm, for this one release."""

    def __init__(self, cluster: KindCluster, api: Api) -> None:
        self.cluster = cluster
        self.api = api
        home = cluster.directory / "helm"
        directories = {f"HELM_{kind}_HOME": str(home / kind) for kind in ("CACHE", "CONFIG", "DATA")}
        self._environment = os.environ | cluster.environment | directories

    def helm(self, *arguments: str) -> str:
        """Run helm in the release's namespace."""
        helm = self.cluster.tools / "helm"
        return run_helm(helm, *arguments, f"--namespace={NAMESPACE}", environment=self._environment)

    def install(self, values: Document | None = None) -> None:
        """Install it into a namespace that holds pods to the restricted level, and wait until it is ready."""
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}
        self.cluster.apply(namespace)
        self.helm("install", NAME, str(ROOT), *set_values({**VALUES, **(values or {})}), *WAIT)

    def upgrade(self, values: Document) -> None:
        """Change values and wait until it is ready again."""
        self.helm("upgrade", NAME, str(ROOT), *set_values({**VALUES, **values}), *WAIT)

    def rollback(self) -> None:
        """Go back to the revision before."""
        self.helm("rollback", NAME, *WAIT)

    def uninstall(self) -> None:
        """Remove it and wait until its objects are gone."""
        self.helm("uninstall", NAME, *WAIT)

    def pods(self) -> list[Document]:
        """Its pods that are not about to end."""
        pods = self.api.get(f"/api/v1/namespaces/{NAMESPACE}/pods?labelSelector=app.kubernetes.io/instance%3D{NAME}")
        return [pod for pod in pods["items"] if "deletionTimestamp" not in pod["metadata"]]

    def leader(self) -> str:
        """The name of the pod whose kube-scheduler leads; empty if none does."""
        lease = self.api.get(f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/{NAME}-scheduler")
        holder = str(lease["spec"].get("holderIdentity") or "").partition("_")[0]
        return holder if holder in {pod["metadata"]["name"] for pod in self.pods()} else ""

    @contextmanager
    def extender_of(self, pod: str, scheme: str = "http") -> Iterator["Extender"]:
        """The extender in a pod, by a port that kubectl forwards to its loopback."""
        port = free_port()
        process = Process(
            "port-forward",
            [
                *(self.cluster.kubectl_path, f"--namespace={NAMESPACE}", "port-forward", f"pod/{pod}"),
                *("--address=127.0.0.1", f"{port}:8888"),
            ],
            self.cluster.directory,
            self.cluster.environment,
        )
        extender = Extender(f"{scheme}://127.0.0.1:{port}")
        try:
            process.wait_until(extender.answers, FORWARD_LIMIT_SECONDS)
            yield extender
        finally:
            process.stop()


class Extender:
    """What an extender in a pod tells."""

    def __init__(self, url: str) -> None:
        # By this way its name is not the one that its certificate is for; helm's test checks the certificate.
        self._client = httpx.Client(base_url=url, timeout=60.0, verify=False)

    def answers(self) -> bool:
        """Whether it can be asked."""
        try:
            return self._client.get("/healthz").status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def ranked_first(self, pod: Mapping[str, Any], nodes: list[str]) -> str:
        """The node that it prefers for a pod."""
        body = {"Pod": pod, "Nodes": None, "NodeNames": nodes}
        answer = self._client.post("/prioritize", json=body).raise_for_status().json()
        return str(max(answer, key=lambda priority: priority["Score"])["Host"])

    def candidate(self) -> dict[str, Any] | None:
        """What it tries beside the policy in service."""
        candidate: dict[str, Any] | None = self._client.get("/policy").raise_for_status().json()["candidate"]
        return candidate

    def counted(self, name: str) -> dict[str, float]:
        """The values of a metric by its first label."""
        text = self._client.get("/metrics").raise_for_status().text
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        return {next(iter(sample.labels.values()), ""): sample.value for sample in samples if sample.name == name}


def everything(cluster: KindCluster) -> set[str]:
    """All objects that a release could leave behind: kind/name, with the namespace for those that have one."""
    kinds = cluster.kubectl("api-resources", "--verbs=list,delete", "--output=name").split()
    looked_at = [kind for kind in kinds if not kind.startswith(("events", "nodes", "namespaces", "csinodes"))]
    table = cluster.kubectl(
        *("get", ",".join(looked_at), "--all-namespaces", "--ignore-not-found"),
        "--output=custom-columns=KIND:.kind,NAMESPACE:.metadata.namespace,NAME:.metadata.name",
    )
    found = {"/".join(line.split()) for line in table.splitlines()}
    # Leases of nodes are renewed under their names, and a namespace has these two from its first moment.
    own = (f"ServiceAccount/{NAMESPACE}/default", f"ConfigMap/{NAMESPACE}/kube-root-ca.crt")
    return {line for line in found if not line.startswith(("Lease/kube-node-lease", "Pod/kube-system", *own))}
