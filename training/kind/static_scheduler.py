"""A cluster's own kube-scheduler, a static pod of kubeadm's, told to ask the extender.

kubelet runs what lies in a folder of the control plane's node; a manifest that is replaced there is another pod.
"""

import base64
import json
import time
from typing import Any, Protocol

import yaml

MANIFEST = "/etc/kubernetes/manifests/kube-scheduler.yaml"
CONFIGURATION = "/etc/kubernetes/stowage.yaml"
HASH = "kubernetes.io/config.hash"  # kubelet's, of the manifest that a static pod came from
RESTART_LIMIT_SECONDS = 180.0
LOOK_SECONDS = 1.0


class Node(Protocol):
    """A cluster with one control plane's node, and a shell on it."""

    def kubectl(self, *arguments: str) -> str:
        """Run kubectl as the administrator."""
        ...

    def in_node(self, *command: str) -> str:
        """Run a command on the node."""
        ...


class SchedulerNotReadyError(Exception):
    """The other kube-scheduler did not become ready in time."""


def asking(manifest: str) -> str:
    """What kubeadm made of kube-scheduler, reading its configuration from `CONFIGURATION` (docs/install.md)."""
    pod: dict[str, Any] = yaml.safe_load(manifest)
    (container,) = pod["spec"]["containers"]
    container["command"].append(f"--config={CONFIGURATION}")
    container["volumeMounts"].append({"name": "stowage", "mountPath": CONFIGURATION, "readOnly": True})
    pod["spec"]["volumes"].append({"name": "stowage", "hostPath": {"path": CONFIGURATION, "type": "File"}})
    return yaml.safe_dump(pod)


def ask_extender(node: Node, namespace: str, config_map: str) -> str:
    """Have the cluster's kube-scheduler ask the extender, by what the chart's ConfigMap says; wait until it is ready.

    Returns:
        The manifest as it was, for `run_scheduler`.
    """
    found = json.loads(node.kubectl(f"--namespace={namespace}", "get", "configmap", config_map, "--output=json"))
    before = node.in_node("cat", MANIFEST)
    _write(node, CONFIGURATION, found["data"]["configuration.yaml"])
    run_scheduler(node, asking(before))
    return before


def run_scheduler(node: Node, manifest: str) -> None:
    """Give kubelet another kube-scheduler and wait until that one is ready.

    Raises:
        SchedulerNotReadyError: it did not become so.
    """
    before = _ready(node)
    _write(node, MANIFEST, manifest)
    deadline = time.monotonic() + RESTART_LIMIT_SECONDS
    while not _ready(node) - before:
        if time.monotonic() > deadline:
            raise SchedulerNotReadyError(
                f"no kube-scheduler was ready {RESTART_LIMIT_SECONDS:g} s after its manifest {MANIFEST} was replaced"
            )
        time.sleep(LOOK_SECONDS)


def _ready(node: Node) -> set[str]:
    """The hashes of the manifests whose kube-scheduler is ready."""
    pods = node.kubectl(
        "--namespace=kube-system", "get", "pods", "--selector=component=kube-scheduler", "--output=json"
    )
    return {
        pod["metadata"]["annotations"][HASH]
        for pod in json.loads(pods)["items"]
        if any(each["type"] == "Ready" and each["status"] == "True" for each in pod["status"].get("conditions", []))
    }


def _write(node: Node, path: str, content: str) -> None:
    """Write a file on the node at once: kubelet reads every file of its folder, half-written ones too."""
    encoded = base64.b64encode(content.encode()).decode()
    node.in_node("sh", "-c", f"echo {encoded} | base64 --decode > /etc/kubernetes/new && mv /etc/kubernetes/new {path}")
