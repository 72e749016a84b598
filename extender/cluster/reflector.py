"""List and watch without I/O: builds the next request, digests what comes back, knows no socket and no clock.

One `ListWatch` per kind. It lists page by page, watches from the version of the list, follows bookmarks, and lists anew
when the API server has forgotten that version (410). `cluster.watcher` moves the bytes and waits; the events go to
`cluster.feed`.

Source: k8s.io/client-go/tools/cache/reflector.go; API concepts, "Efficient detection of changes".
"""

from collections.abc import Callable, Sequence
from enum import StrEnum
from http import HTTPStatus
from typing import NamedTuple, Protocol

from extender import wire
from extender.cluster.feed import Event, Gone, Kind, Listed, pod_uid, seen_node, seen_pod, version_of
from extender.quantity import QuantityError
from extender.wire import ListMeta, Node, WatchedPod, WireError

FIRST_BACKOFF_SECONDS = 0.2
LONGEST_BACKOFF_SECONDS = 30.0
FIRST_PAGES = 4  # as large as later ones: while the first list is read nobody gets an answer that they could delay
FAILURES_BEFORE_LISTING = 5  # a version or a page that cannot be had so often is given up, whatever the reason is
SHORTEST_WATCH_SECONDS = 240  # the API server ends a watch after a time drawn from this to twice this

Uniform = Callable[[], float]
"""Draws from 0 .. 1."""


class ListReason(StrEnum):
    """Why a list was begun."""

    START = "start"
    EXPIRED = "expired"  # 410: the API server no longer has the version
    REFUSED = "refused"  # the watch or the next page was refused for another reason, or too often


class ReflectorCounters(Protocol):
    """Where a `ListWatch` reports; all for one kind of object."""

    def listing(self, reason: str) -> None:
        """A list is begun."""

    def watching(self) -> None:
        """A watch is begun."""

    def event(self, type_: str) -> None:
        """An event was received."""

    def failure(self, reason: str) -> None:
        """A request failed, or an object could not be read."""

    def backoff(self, seconds: float) -> None:
        """The next request waits so long, because the last one failed."""


class Request(NamedTuple):
    """A GET to the API server; a watch is read line by line."""

    path: str
    query: dict[str, str]
    watch: bool


class Watched(NamedTuple):
    """What is listed and watched."""

    kind: Kind
    path: str
    field_selector: str


NODES = Watched(Kind.NODES, "/api/v1/nodes", "")
# Ended pods take nothing; with this selector the API server reports the end of a pod as its deletion, as it does for
# kube-scheduler (pkg/scheduler/scheduler.go, NewInformerFactory).
PODS = Watched(Kind.PODS, "/api/v1/pods", "status.phase!=Succeeded,status.phase!=Failed")


class ListWatch:
    """The state of one list-and-watch.

    The shell asks `delay` and `next_request`, and answers with `take_page` for a list, or for a watch any number of
    `take_bytes` and then `watch_ended`; with `refused` or `broken` when it did not go well.
    """

    def __init__(
        self, watched: Watched, resources: Sequence[str], page_size: int, uniform: Uniform, counters: ReflectorCounters
    ) -> None:
        self.watched = watched
        self._resources = resources
        self._page_size = page_size
        self._uniform = uniform
        self._counters = counters
        self._version: str | None = None  # None: to be listed
        self._continue = ""
        self._listed_keys: set[str] = set()
        self._list_reason = ListReason.START
        self._partial_line = b""
        self._failures = 0  # since a watch last brought something; a list alone is no sign that all is well again
        self._failed_last = False
        self._list_due = True
        self._watch_was_empty = True

    @property
    def listing(self) -> bool:
        """Whether the next request is (a page of) a list."""
        return self._version is None

    def delay(self) -> float:
        """Seconds to wait before the next request: 0 unless something failed, then growing and jittered."""
        if not self._failed_last:
            return 0.0
        longest = min(LONGEST_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2.0 ** min(self._failures - 1, 16))
        seconds = longest * (0.5 + 0.5 * self._uniform())
        self._counters.backoff(seconds)
        return seconds

    def next_request(self) -> Request:
        """What to ask the API server next."""
        query: dict[str, str] = {}
        if self.watched.field_selector:
            query["fieldSelector"] = self.watched.field_selector
        if self._version is None:
            larger = FIRST_PAGES if self._list_reason is ListReason.START else 1
            query["limit"] = str(larger * self._page_size)
            if self._continue:
                query["continue"] = self._continue
            elif self._list_due:
                self._counters.listing(self._list_reason)
                self._list_due = False
            return Request(self.watched.path, query, False)
        self._partial_line = b""
        self._watch_was_empty = True
        self._counters.watching()
        seconds = SHORTEST_WATCH_SECONDS * (1.0 + self._uniform())
        query |= {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": str(int(seconds)),
        }
        return Request(self.watched.path, query, True)

    def take_page(self, body: bytes) -> list[Event]:
        """Digest one page of a list; the last one ends with `Listed`.

        Raises:
            WireError: the body is no list of the kind.
        """
        events: list[Event] = []
        metadata: ListMeta
        if self.watched.kind is Kind.NODES:
            nodes = wire.decode_node_list(body)
            metadata = nodes.metadata
            for node in nodes.items or ():
                self._listed_keys.add(node.metadata.name)
                self._append(events, node, True)
        else:
            pods = wire.decode_pod_list(body)
            metadata = pods.metadata
            for pod in pods.items or ():
                self._listed_keys.add(pod_uid(pod.metadata))
                self._append(events, pod, True)
        self._failed_last = False
        self._continue = metadata.continue_token
        if not self._continue:
            if not metadata.resource_version:
                raise WireError(f"list of {self.watched.kind} without metadata.resourceVersion: cannot watch from it")
            events.append(Listed(self.watched.kind, frozenset(self._listed_keys)))
            self._listed_keys = set()
            self._version = metadata.resource_version
        return events

    def take_bytes(self, chunk: bytes) -> list[Event]:
        """Digest some bytes of a watch, which need not end where a line does.

        Raises:
            WireError: a line is no watch event.
        """
        *lines, self._partial_line = (self._partial_line + chunk).split(b"\n")
        events: list[Event] = []
        for line in lines:
            if line.strip():
                self._take_line(line, events)
        return events

    def watch_ended(self) -> None:
        """The API server ended the watch; the next one goes on from the last version, at once unless it was empty."""
        if self._watch_was_empty:
            self.broken("empty watch")

    def refused(self, status: int, body: bytes) -> str:
        """The API server answered with an error; returns the reason, to be logged."""
        try:
            reason = wire.decode_status(body).message
        except WireError:
            reason = body[:200].decode("utf-8", "replace")
        self._refused(status)
        return reason

    def broken(self, reason: str) -> None:
        """The request or the connection failed, or what came could not be read: try again from the last version."""
        self._counters.failure(reason)
        self._failures += 1
        self._failed_last = True
        self._give_up_if(self._failures % FAILURES_BEFORE_LISTING == 0)

    def _take_line(self, line: bytes, events: list[Event]) -> None:
        event = wire.decode_event(line)
        self._watch_was_empty = False
        self._counters.event(event.type)
        if event.type == "ERROR":
            self._refused(wire.decode_status(event.object).code)
            return
        item: Node | WatchedPod
        item = wire.decode_node(event.object) if self.watched.kind is Kind.NODES else wire.decode_pod(event.object)
        if event.type == "DELETED":
            key = item.metadata.name if self.watched.kind is Kind.NODES else pod_uid(item.metadata)
            events.append(Gone(self.watched.kind, key, version_of(item.metadata)))
        elif event.type in ("ADDED", "MODIFIED"):
            self._append(events, item, False)
        elif event.type != "BOOKMARK":
            raise WireError(f"watch event of type {event.type!r}: expected ADDED, MODIFIED, DELETED, BOOKMARK or ERROR")
        # After an ERROR line the version is to be listed anew; nothing that follows it may bring the old one back.
        if self._version is not None:
            self._version = item.metadata.resource_version
            self._failures = 0
            self._failed_last = False

    def _append(self, events: list[Event], item: Node | WatchedPod, listed: bool) -> None:
        try:
            if isinstance(item, Node):
                events.append(seen_node(item, self._resources, listed))
            else:
                events.append(seen_pod(item, self._resources, listed))
        except QuantityError:
            # The API server checks quantities, so this is an object of a newer kind of API; the others still count.
            self._counters.failure("quantity")

    def _refused(self, status: int) -> None:
        self._counters.failure(str(status))
        self._failures += 1
        self._failed_last = True
        if status == HTTPStatus.GONE:
            self._list_anew(ListReason.EXPIRED)
            return
        retryable = status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR
        self._give_up_if(not retryable or self._failures % FAILURES_BEFORE_LISTING == 0)

    def _give_up_if(self, hopeless: bool) -> None:
        """List from the beginning, where there is a version or a page to go on from that leads nowhere."""
        if hopeless and (self._version is not None or self._continue):
            self._list_anew(ListReason.REFUSED)

    def _list_anew(self, reason: ListReason) -> None:
        self._version = None
        self._continue = ""
        self._listed_keys = set()
        self._list_reason = reason
        self._list_due = True
