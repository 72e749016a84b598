"""Events on pods, for those who ask `kubectl describe pod` why one waits or where it is expected to go.

They are written by a thread of their own: the API server may take its time, and what it does not take is counted and
let go. Needs the right to create events, and no other.
"""

import logging
import queue
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from http import HTTPStatus
from typing import NamedTuple

import urllib3
from kubernetes.config import ConfigException

from extender import wire
from extender.cluster.api import ApiServer

EVENTS_AT_MOST = 1000  # waiting to be sent
COMPONENT = "stowage-extender"

log = logging.getLogger(__name__)


class PodEvent(NamedTuple):
    """Something worth saying about a pod; `reason` is one word in CamelCase, `at` Unix seconds."""

    namespace: str
    pod: str
    uid: str
    reason: str
    message: str
    at: float


class EventRecorder:
    """Sends events."""

    def __init__(self, api: ApiServer, count: Callable[[str], None]) -> None:
        """Send nothing yet.

        Args:
            count: called with "written", "failed" or "dropped" for each event.
        """
        self._api = api
        self._count = count
        self._waiting: queue.Queue[PodEvent | None] = queue.Queue(EVENTS_AT_MOST)
        self._thread = threading.Thread(target=self._run, name="events", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def record(self, event: PodEvent) -> None:
        """Take the event; returns at once."""
        try:
            self._waiting.put_nowait(event)
        except queue.Full:
            self._count("dropped")

    def stop(self, seconds: float) -> None:
        """End; what is being sent has so long."""
        try:
            self._waiting.put_nowait(None)
        except queue.Full:
            return  # the thread is a daemon: it ends with the process
        self._thread.join(seconds)

    def _run(self) -> None:
        while (event := self._waiting.get()) is not None:
            try:
                self._send(event)
            except (urllib3.exceptions.HTTPError, OSError, ConfigException) as error:
                self._count("failed")
                log.warning("event for pod %s/%s not written: %s", event.namespace, event.pod, error)

    def _send(self, event: PodEvent) -> None:
        body = wire.encode_json(event_object(event))
        response = self._api.send("POST", f"/api/v1/namespaces/{event.namespace}/events", {}, body)
        answer = response.read(2000)
        response.close()
        if response.status in (HTTPStatus.CREATED, HTTPStatus.CONFLICT):  # a conflict: it is there already
            self._count("written")
            return
        self._count("failed")
        log.warning("event for pod %s/%s refused: %d %s", event.namespace, event.pod, response.status, answer[:300])


def event_object(event: PodEvent) -> dict[str, object]:
    """The event as v1.Event; its name tells events of one pod apart, and the same event twice is one."""
    time = datetime.fromtimestamp(event.at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{event.pod}.{round(event.at * 1e6):x}", "namespace": event.namespace},
        "involvedObject": {
            "apiVersion": "v1",
            "kind": "Pod",
            "namespace": event.namespace,
            "name": event.pod,
            "uid": event.uid,
        },
        "reason": event.reason,
        "message": event.message,
        "type": "Normal",
        "source": {"component": COMPONENT},
        "reportingComponent": COMPONENT,
        "firstTimestamp": time,
        "lastTimestamp": time,
        "count": 1,
    }
