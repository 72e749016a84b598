"""The I/O around `reflector`: a thread per kind, the kubernetes package's transport, and the way to the event loop.

The threads read and decode; the state has one writer, so what they decoded is handed to the event loop in small
batches that leave room for requests in between.
"""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

import urllib3
import yaml
from kubernetes.client.configuration import Configuration
from kubernetes.client.rest import RESTClientObject
from kubernetes.config import ConfigException, load_incluster_config, load_kube_config

from extender.cluster.feed import Event
from extender.cluster.reflector import ListWatch, Request
from extender.wire import WireError

EVENTS_PER_TURN = 64  # about half a millisecond of the event loop
CONNECT_TIMEOUT_SECONDS = 10.0
STOP_TIMEOUT_SECONDS = 0.5
_CHUNK_BYTES = 1 << 16
_ERROR_BODY_BYTES = 1 << 16

log = logging.getLogger(__name__)


class ClusterAccessError(Exception):
    """There is no usable configuration to reach an API server; the message says what was tried."""


class ApiServer:
    """GETs with the address and credentials of a kubeconfig file, or of the pod's service account.

    Tokens are read anew for every request, as often as their source allows, so rotation needs no restart.
    """

    def __init__(self, configuration: Configuration, read_timeout_seconds: float) -> None:
        self._configuration = configuration
        self._timeout = urllib3.Timeout(connect=CONNECT_TIMEOUT_SECONDS, read=read_timeout_seconds)
        self._pool: urllib3.PoolManager = RESTClientObject(configuration).pool_manager

    @property
    def address(self) -> str:
        """Where it is."""
        return str(self._configuration.host)

    def get(self, request: Request) -> urllib3.BaseHTTPResponse:
        """Begin a GET; the body is left to be read.

        Raises:
            urllib3.exceptions.HTTPError: no connection, or no answer in time.
            ConfigException: the credentials cannot be renewed.
        """
        headers = {"Accept": "application/json", "User-Agent": "stowage-extender"}
        token = self._configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
        if token:
            headers["Authorization"] = token
        return self._pool.request(
            "GET",
            self.address.rstrip("/") + request.path,
            fields=request.query,
            headers=headers,
            timeout=self._timeout,
            retries=False,
            preload_content=False,
        )


def connect(kubeconfig: Path | None, read_timeout_seconds: float) -> ApiServer:
    """Read the kubeconfig file, or without one the service account that Kubernetes mounts into a pod.

    Raises:
        ClusterAccessError: there is none, or it cannot be used.
    """
    configuration = Configuration()
    try:
        if kubeconfig is None:
            load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        else:
            load_kube_config(  # type: ignore[no-untyped-call]
                config_file=str(kubeconfig), client_configuration=configuration, persist_config=False
            )
    # The package checks little: what it stumbles over in a file that is no kubeconfig comes as ValueError, TypeError
    # or AttributeError.
    except (ConfigException, OSError, yaml.YAMLError, ValueError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())  # YAML errors have several lines
        tried = "the service account of a pod" if kubeconfig is None else f"kubeconfig {kubeconfig}"
        raise ClusterAccessError(
            f"cannot reach an API server by {tried}: {reason}. Give --kubeconfig FILE, or --cluster-file FILE to run "
            f"without an API server"
        ) from error
    return ApiServer(configuration, read_timeout_seconds)


class Handoff:
    """Carries events from the threads to the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, apply: Callable[[Sequence[Event]], None]) -> None:
        self._loop = loop
        self._apply = apply
        self._pending: deque[Event] = deque()
        self._lock = threading.Lock()
        self._scheduled = False

    def post(self, events: Sequence[Event]) -> None:
        """Hand over events, from any thread; they are applied in the order they were posted."""
        if not events:
            return
        with self._lock:
            self._pending.extend(events)
            if self._scheduled:
                return
            self._scheduled = True
        self._loop.call_soon_threadsafe(self._turn)

    def _turn(self) -> None:
        with self._lock:
            batch = [self._pending.popleft() for _ in range(min(len(self._pending), EVENTS_PER_TURN))]
            self._scheduled = bool(self._pending)
            if self._scheduled:
                self._loop.call_soon(self._turn)
        self._apply(batch)


class Watcher:
    """Runs one `ListWatch` in a thread of its own."""

    def __init__(self, list_watch: ListWatch, api: ApiServer, handoff: Handoff) -> None:
        self._list_watch = list_watch
        self._api = api
        self._handoff = handoff
        self._stop = threading.Event()
        self._response: urllib3.BaseHTTPResponse | None = None
        self._thread = threading.Thread(target=self._run, name=f"watch-{list_watch.watched.kind}", daemon=True)

    def start(self) -> None:
        """Begin to list."""
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end, also while it waits for the next event; `join` waits until it has."""
        self._stop.set()
        response = self._response
        if response is not None:
            try:
                response.shutdown()
            except (OSError, RuntimeError, ValueError) as error:  # urllib3 has one for each way to be late
                log.debug("the watch had already ended: %s", error)

    def join(self) -> None:
        """Wait a moment for the end. A thread that is still connecting ends with the process."""
        self._thread.join(STOP_TIMEOUT_SECONDS)

    def _run(self) -> None:
        while not self._stop.wait(self._list_watch.delay()):
            try:
                self._ask(self._list_watch.next_request())
            except (urllib3.exceptions.HTTPError, OSError, WireError, ConfigException) as error:
                if self._stop.is_set():
                    return
                log.warning("%s from %s failed: %s", self._list_watch.watched.path, self._api.address, error)
                self._list_watch.broken(type(error).__name__)

    def _ask(self, request: Request) -> None:
        response = self._api.get(request)
        self._response = response
        try:
            if response.status != 200:
                reason = self._list_watch.refused(response.status, response.read(_ERROR_BODY_BYTES))
                log.warning("%s from %s: %d %s", request.path, self._api.address, response.status, reason)
            elif request.watch:
                for chunk in response.stream(_CHUNK_BYTES):
                    self._post(self._list_watch.take_bytes(chunk))
                    if self._stop.is_set() or self._list_watch.listing:
                        return
                self._list_watch.watch_ended()
            else:
                self._post(self._list_watch.take_page(response.read()))
        finally:
            self._response = None
            response.close()

    def _post(self, events: Sequence[Event]) -> None:
        if not self._stop.is_set():  # the event loop may be closed by then
            self._handoff.post(events)
