"""kube-scheduler as a process, and what it says of itself."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.cluster.api import load_documents
from tests.cluster.processes import Process, free_port

READY_LIMIT_SECONDS = 180.0
# What it logs when the extender gave no usable answer and it went on without (pkg/scheduler/schedule_one.go).
EXTENDER_FAILURES = ("Skipping extender as it returned error", "Failed to run extender's priority function")


class Scheduler:
    """A running kube-scheduler.

    Attributes:
        log: everything it printed.
    """

    def __init__(self, process: Process, address: str) -> None:
        self._process = process
        self._address = address
        self.log = process.log

    def extender_failures(self) -> list[str]:
        """The lines in which it says that it went on without the extender, `EXTENDER_FAILURES`."""
        lines = self.log.read_text().splitlines()
        return [line for line in lines if any(failure in line for failure in EXTENDER_FAILURES)]

    def requested(self) -> dict[tuple[str, str], float]:
        """What it counts as requested on each node: amount by (node, resource), cores for CPU, bytes for memory.

        Kubernetes' own arithmetic over containers, init containers, sidecars and pod-level resources
        (pkg/scheduler/metrics/resources).
        """
        requested: dict[tuple[str, str], float] = {}
        text = httpx.get(f"{self._address}/metrics/resources", verify=False, timeout=60.0).raise_for_status().text
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == "kube_pod_resource_request" and sample.labels["node"]:
                    key = sample.labels["node"], sample.labels["resource"]
                    requested[key] = requested.get(key, 0.0) + sample.value
        return requested

    def metrics(self) -> str:
        """Its metrics, in Prometheus' text format."""
        return httpx.get(f"{self._address}/metrics", verify=False, timeout=60.0).raise_for_status().text


@contextmanager
def run_scheduler(
    tools: Path,
    directory: Path,
    kubeconfig: Path,
    configuration: Path,
    extender_url: str | None = None,
    vmodule: str = "schedule_one=5",  # or the second of `EXTENDER_FAILURES` would never be logged
) -> Iterator[Scheduler]:
    """Run kube-scheduler with the committed configuration; only addresses differ from it.

    Args:
        kubeconfig: how it reaches the API server; in a cluster it finds that out by itself.
        configuration: a KubeSchedulerConfiguration with one extender, or with none if there is no `extender_url`.
        extender_url: where the extender answers; it need not be there yet.
        vmodule: verbosity of the log by source file.
    """
    (document,) = load_documents(configuration)
    document.setdefault("clientConnection", {})["kubeconfig"] = str(kubeconfig)
    if extender_url is not None:
        (extender,) = document["extenders"]
        extender["urlPrefix"] = extender_url
    changed = directory / "kube-scheduler.yaml"
    changed.write_text(yaml.safe_dump(document))
    port = free_port()
    address = f"https://127.0.0.1:{port}"
    process = Process(
        "kube-scheduler",
        [
            tools / "kube-scheduler",
            f"--config={changed}",
            "--bind-address=127.0.0.1",
            f"--secure-port={port}",
            f"--cert-dir={directory / 'kube-scheduler-certificate'}",
            f"--vmodule={vmodule}",
            "--authorization-always-allow-paths=/healthz,/readyz,/livez,/metrics,/metrics/resources",
        ],
        directory,
    )
    try:
        process.wait_until(lambda: _is_ready(address), READY_LIMIT_SECONDS)
        yield Scheduler(process, address)
    finally:
        process.stop()


def _is_ready(address: str) -> bool:
    try:
        # Its certificate is of its own making and kept in memory; nothing secret is asked.
        return httpx.get(f"{address}/readyz", verify=False, timeout=5.0).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False
