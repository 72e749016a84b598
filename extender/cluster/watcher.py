"""The I/O around `reflector`: a thread per kind, and the way to the event loop.

The threads read and decode; the state has one writer, so what they decoded is handed to the event loop in small
batches that leave room for requests in between.
"""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence

import urllib3
from kubernetes.config import ConfigException

from extender.cluster.api import ApiServer
from extender.cluster.feed import Event
from extender.cluster.reflector import ListWatch, Request
from extender.wire import WireError

EVENTS_PER_TURN = 64  # about half a millisecond of the event loop
STOP_TIMEOUT_SECONDS = 0.5
_CHUNK_BYTES = 1 << 16
_ERROR_BODY_BYTES = 1 << 16

log = logging.getLogger(__name__)


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
