"""Pods that keep arriving while something else happens to the cluster."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.cluster.api import PODS, Api, Document
from tests.cluster.workload import SCHEDULER_NAME, make_pod

BOUND_LIMIT_SECONDS = 180.0
SIMULATED_NODE = {"key": "kwok.x-k8s.io/node", "operator": "Exists"}


def tolerant_pod(name: str, requests: dict[str, str], seconds: float | None = None) -> Document:
    """A pod for the simulated nodes, and for no other, to be placed by Stowage."""
    pod = make_pod(name, requests, seconds)
    pod["spec"]["tolerations"] = [SIMULATED_NODE]
    pod["spec"]["nodeSelector"] = {"type": "kwok"}
    pod["spec"]["terminationGracePeriodSeconds"] = 0
    return pod


class Stream:
    """Pods at a steady pace, from a thread of its own.

    Attributes:
        created: the names of those that were.
    """

    def __init__(self, api: Api, prefix: str, every_seconds: float, scheduler: str) -> None:
        self.created: list[str] = []
        self._api = api
        self._prefix = prefix
        self._every_seconds = every_seconds
        self._scheduler = scheduler
        self._ended = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        """Let the first arrive."""
        self._thread.start()

    def stop(self) -> None:
        """Let no more arrive.

        Raises:
            Exception: a pod could not be created.
        """
        self._ended.set()
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            while not self._ended.wait(self._every_seconds):
                name = f"{self._prefix}-{len(self.created)}"
                pod = tolerant_pod(name, {"cpu": "250m", "memory": "256Mi"}, seconds=8.0)
                pod["spec"]["schedulerName"] = self._scheduler
                self._api.create(pod)
                self.created.append(name)
        except Exception as error:  # told to whoever stops the stream
            self._failure = error


@contextmanager
def arriving(api: Api, prefix: str, every_seconds: float = 0.2, scheduler: str = SCHEDULER_NAME) -> Iterator[Stream]:
    """Let pods arrive while the block runs; at its end every one of them has been bound, and none has failed."""
    stream = Stream(api, prefix, every_seconds, scheduler)
    stream.start()
    try:
        yield stream
    finally:
        stream.stop()
    assert stream.created
    deadline = time.monotonic() + BOUND_LIMIT_SECONDS
    while True:
        pods = {pod["metadata"]["name"]: pod for pod in api.get(PODS)["items"]}
        waiting = [name for name in stream.created if "nodeName" not in pods[name]["spec"]]
        if not waiting:
            break
        assert time.monotonic() < deadline, (
            f"{len(waiting)} of {len(stream.created)} pods were not bound: {waiting[:5]}"
        )
        time.sleep(0.5)
    failed = [name for name in stream.created if pods[name]["status"]["phase"] == "Failed"]
    assert failed == []
    for name in stream.created:
        api.delete(f"{PODS}/{name}")
