"""The extender as a process, and everything it tells about itself."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.cluster.api import ANSWER_SECONDS
from tests.cluster.processes import Process

READY_LIMIT_SECONDS = 180.0


class Decision(NamedTuple):
    """A line of the decision log.

    Attributes:
        chosen: the node that was ranked first; None for an answer without opinion.
        rung: who decided: "policy", or what the extender fell back to.
        candidates: how many places were scored.
        policy: digest of the policy that was asked.
    """

    uid: str
    pod: str
    chosen: str | None
    rung: str
    candidates: int
    policy: str


class NodeView(NamedTuple):
    """A node as the extender sees it, amounts by resource: CPU in milli, memory in bytes, GPU in milli-devices."""

    allocatable: dict[str, int]
    requested: dict[str, int]


class ExtenderProcess:
    """The extender, at an address that stays when it is started again."""

    def __init__(
        self, directory: Path, kubeconfig: Path, policy: Path, http_port: int, flags: Sequence[str] = ()
    ) -> None:
        """Start it; `wait_ready` waits.

        Args:
            directory: for its log and its decision log.
            kubeconfig: of the service account that it runs as.
            policy: the ONNX file.
            http_port: where kube-scheduler looks for it.
            flags: further ones.
        """
        self._decision_log = directory / "decisions.jsonl"
        self._url = f"http://127.0.0.1:{http_port}"
        self._directory = directory
        self._command: list[str | Path] = [
            *(sys.executable, "-m", "extender", "serve"),
            *("--kubeconfig", kubeconfig),
            *("--policy", policy),
            *("--http-port", str(http_port)),
            *("--grpc-port", "0"),
            *("--deadline", "10"),  # the machine is busy with a whole control plane
            *("--decision-log", self._decision_log),
            *flags,
        ]
        self.start()

    def start(self) -> None:
        """Start it, again after `kill`."""
        # A record is lost by a crash only if it was made within this time before.
        self._process = Process("extender", self._command, self._directory, {"STOWAGE_DECISION_LOG_FLUSH": "0.05"})

    def wait_ready(self) -> None:
        """Wait until it knows the cluster."""
        self._process.wait_until(self._is_ready, READY_LIMIT_SECONDS)

    def stop(self) -> None:
        """Let it end."""
        self._process.stop()

    def kill(self) -> None:
        """End it without a farewell."""
        self._process.kill()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def decision_log(self) -> Path:
        """Where it writes down what it decides."""
        return self._decision_log

    @property
    def url(self) -> str:
        """Its address."""
        return self._url

    def prioritize(self, pod: Mapping[str, Any], nodes: list[str]) -> list[dict[str, Any]]:
        """Ask as kube-scheduler does."""
        body = {"Pod": pod, "Nodes": None, "NodeNames": nodes}
        answer = httpx.post(f"{self._url}/prioritize", json=body, timeout=ANSWER_SECONDS).raise_for_status()
        priorities: list[dict[str, Any]] = answer.json()
        return priorities

    def nodes(self) -> dict[str, NodeView]:
        """Its view of every node."""
        state = self._state()
        resources = state["resources"]
        return {
            name: NodeView(
                dict(zip(resources, node["allocatable"], strict=True)),
                dict(zip(resources, node["requested"], strict=True)),
            )
            for name, node in state["nodes"].items()
        }

    def assumed(self) -> int:
        """How many of its choices it counts although the watch has not confirmed them."""
        count: int = self._state()["assumed"]
        return count

    def reserved(self) -> dict[str, str]:
        """The node that is reserved for each pod that has one, by name."""
        return {each["pod"]: each["node"] for each in self._state()["reservations"]}

    def decisions(self, tried: bool = False) -> list[Decision]:
        """The decision log so far, oldest first.

        Args:
            tried: what a candidate in shadow thought, instead of what was answered.
        """
        return [
            Decision(**{field: record[field] for field in Decision._fields})
            for record in self._records()
            if record["kind"] == "decision" and record.get("tried", False) is tried
        ]

    def unasked(self) -> list[str]:
        """Names of the pods that are in the decision log though nobody was asked about them."""
        return [record["pod"] for record in self._records() if record["kind"] == "unasked"]

    def _records(self) -> list[dict[str, Any]]:
        text = self._decision_log.read_text() if self._decision_log.exists() else ""
        return [json.loads(line) for line in text.splitlines()]

    def policy(self) -> dict[str, Any]:
        """What is in service, and what is tried."""
        shown: dict[str, Any] = httpx.get(f"{self._url}/policy", timeout=ANSWER_SECONDS).raise_for_status().json()
        return shown

    def explain(self, pod: str) -> dict[str, Any]:
        """What is known of a pod of the default namespace."""
        url = f"{self._url}/explain?pod=default/{pod}"
        shown: dict[str, Any] = httpx.get(url, timeout=ANSWER_SECONDS).raise_for_status().json()
        return shown

    def counted(self, name: str) -> list[dict[str, str]]:
        """The labels of a counter's series, those that counted anything."""
        return [labels for labels, value in self.samples(name) if value]

    def samples(self, name: str) -> list[tuple[dict[str, str], float]]:
        """The series of a metric."""
        text = httpx.get(f"{self._url}/metrics", timeout=ANSWER_SECONDS).raise_for_status().text
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        return [(sample.labels, sample.value) for sample in samples if sample.name == name]

    def _state(self) -> dict[str, Any]:
        state: dict[str, Any] = httpx.get(f"{self._url}/state", timeout=ANSWER_SECONDS).raise_for_status().json()
        return state

    def _is_ready(self) -> bool:
        try:
            return httpx.get(f"{self._url}/readyz", timeout=5.0).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False
