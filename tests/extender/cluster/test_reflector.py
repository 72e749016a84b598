import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.cluster.assume import Assumptions
from extender.cluster.feed import ClusterFeed, Event, Gone, Kind, Listed, NodeSeen, PodSeen
from extender.cluster.reflector import (
    FAILURES_BEFORE_LISTING,
    FIRST_BACKOFF_SECONDS,
    LONGEST_BACKOFF_SECONDS,
    NODES,
    PODS,
    ListWatch,
    Watched,
)
from extender.cluster.requests import BASE_RESOURCES
from extender.cluster.state import ClusterState
from extender.wire import WireError
from tests.extender.cluster.api_server import FakeApiServer, event, status
from tests.extender.objects import node, pod


class Counters:
    def __init__(self) -> None:
        self.lists: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.events: Counter[str] = Counter()
        self.watches = 0
        self.waited = 0.0

    def listing(self, reason: str) -> None:
        self.lists[reason] += 1

    def watching(self) -> None:
        self.watches += 1

    def event(self, type_: str) -> None:
        self.events[type_] += 1

    def failure(self, reason: str) -> None:
        self.failures[reason] += 1

    def backoff(self, seconds: float) -> None:
        self.waited += seconds


def list_watch(watched: Watched = PODS, page_size: int = 500) -> tuple[ListWatch, Counters]:
    counters = Counters()
    return ListWatch(watched, BASE_RESOURCES, page_size, lambda: 1.0, counters), counters


def a_list(version: int, *items: dict[str, Any], token: str = "") -> bytes:
    return json.dumps({"metadata": {"resourceVersion": str(version), "continue": token}, "items": items}).encode()


def watching(watched: Watched = PODS, version: int = 100) -> tuple[ListWatch, Counters]:
    """One that has listed nothing at the version and begun to watch."""
    reflector, counters = list_watch(watched)
    reflector.next_request()
    reflector.take_page(a_list(version))
    reflector.next_request()
    return reflector, counters


def test_it_begins_with_a_list_of_large_pages() -> None:
    reflector, _ = list_watch(page_size=250)
    request = reflector.next_request()
    assert (request.path, request.watch) == ("/api/v1/pods", False)
    assert request.query == {"fieldSelector": "status.phase!=Succeeded,status.phase!=Failed", "limit": "1000"}


def test_it_follows_the_pages_and_then_watches_from_their_version() -> None:
    reflector, counters = list_watch(NODES)
    reflector.next_request()
    first = reflector.take_page(a_list(7, node("a"), token="more"))
    assert reflector.next_request().query["continue"] == "more"
    second = reflector.take_page(a_list(7, node("b")))

    assert [type(each) for each in first] == [NodeSeen]
    assert second[-1] == Listed(Kind.NODES, frozenset(["a", "b"]))
    request = reflector.next_request()
    assert request.watch
    assert request.query["resourceVersion"] == "7"
    assert request.query["allowWatchBookmarks"] == "true"
    assert counters.lists == {"start": 1}


def test_lines_become_events_wherever_the_bytes_are_cut() -> None:
    lines = event("ADDED", pod("ä", node_name="n", version=101)) + event("DELETED", pod("ä", version=102))
    for cut in range(len(lines)):
        reflector, _ = watching()
        events = reflector.take_bytes(lines[:cut]) + reflector.take_bytes(lines[cut:])
        assert [type(each) for each in events] == [PodSeen, Gone]


def test_the_next_watch_goes_on_from_the_last_line_or_bookmark() -> None:
    reflector, _ = watching()
    reflector.take_bytes(event("ADDED", pod("a", version=101)))
    reflector.watch_ended()
    assert reflector.next_request().query["resourceVersion"] == "101"

    reflector.take_bytes(event("BOOKMARK", {"kind": "Pod", "metadata": {"resourceVersion": "500"}}))
    reflector.broken("ReadTimeoutError")
    assert reflector.next_request().query["resourceVersion"] == "500"


def test_half_a_line_is_dropped_with_its_connection() -> None:
    reflector, _ = watching()
    reflector.take_bytes(b'{"type": "ADD')
    reflector.broken("ProtocolError")
    reflector.next_request()
    assert len(reflector.take_bytes(event("ADDED", pod("a", version=101)))) == 1


@pytest.mark.parametrize("inside", [True, False])
def test_a_version_that_is_gone_is_listed_anew(inside: bool) -> None:
    reflector, counters = watching()
    if inside:
        reflector.take_bytes(event("ERROR", json.loads(status(410, "too old resource version"))))
    else:
        assert reflector.refused(410, status(410, "too old resource version")) == "too old resource version"

    request = reflector.next_request()
    assert not request.watch
    assert request.query["limit"] == "500"
    assert counters.lists == {"start": 1, "expired": 1}


def test_what_follows_the_error_in_the_same_bytes_does_not_bring_the_old_version_back() -> None:
    reflector, _ = watching()
    expired = event("ERROR", json.loads(status(410, "too old resource version")))
    reflector.take_bytes(expired + event("ADDED", pod("a", version=101)))

    assert not reflector.next_request().watch


def test_an_expired_page_begins_the_list_again() -> None:
    reflector, _ = list_watch()
    reflector.next_request()
    reflector.take_page(a_list(7, pod("a"), token="more"))
    reflector.next_request()
    reflector.refused(410, status(410, "expired"))

    assert "continue" not in reflector.next_request().query
    assert reflector.take_page(a_list(9, pod("b")))[-1] == Listed(Kind.PODS, frozenset(["uid-b"]))


@pytest.mark.parametrize(("status_code", "times"), [(400, 1), (403, 1), (500, FAILURES_BEFORE_LISTING)])
def test_a_page_that_cannot_be_had_begins_the_list_again(status_code: int, times: int) -> None:
    # As after an upgrade of the API server that cannot read its predecessor's continue token.
    reflector, counters = list_watch()
    reflector.next_request()
    reflector.take_page(a_list(7, pod("a"), token="more"))
    for _ in range(times):
        assert reflector.next_request().query["continue"] == "more"
        reflector.refused(status_code, status(status_code, "continue key is not valid"))

    assert "continue" not in reflector.next_request().query
    assert counters.lists == {"start": 1, "refused": 1}


def test_a_page_that_cannot_be_read_begins_the_list_again() -> None:
    reflector, _ = list_watch()
    reflector.next_request()
    reflector.take_page(a_list(7, pod("a"), token="more"))
    for _ in range(FAILURES_BEFORE_LISTING):
        reflector.broken("WireError")

    assert "continue" not in reflector.next_request().query


def test_a_busy_api_server_is_asked_again_from_the_same_version() -> None:
    reflector, _ = watching()
    reflector.refused(429, b"")
    assert reflector.next_request().query["resourceVersion"] == "100"


def test_a_watch_that_is_refused_for_another_reason_is_given_up_for_a_list() -> None:
    reflector, counters = watching()
    reflector.refused(403, status(403, "forbidden"))
    assert not reflector.next_request().watch
    assert counters.lists["refused"] == 1


def test_a_watch_that_keeps_failing_is_given_up_for_a_list() -> None:
    reflector, _ = watching()
    for _ in range(FAILURES_BEFORE_LISTING):
        assert reflector.next_request().watch
        reflector.broken("ProtocolError")
    assert not reflector.next_request().watch


def test_waiting_grows_with_failures_up_to_a_limit_and_ends_with_success() -> None:
    reflector, _ = list_watch()
    assert reflector.delay() == 0.0
    delays = []
    for _ in range(12):
        reflector.next_request()
        reflector.broken("NewConnectionError")
        delays.append(reflector.delay())
    assert delays[:3] == [FIRST_BACKOFF_SECONDS, 2 * FIRST_BACKOFF_SECONDS, 4 * FIRST_BACKOFF_SECONDS]
    assert delays[-1] == LONGEST_BACKOFF_SECONDS
    reflector.next_request()
    reflector.take_page(a_list(7))
    assert reflector.delay() == 0.0


def test_waiting_is_jittered_down_to_a_half() -> None:
    reflector = ListWatch(PODS, BASE_RESOURCES, 500, lambda: 0.0, Counters())
    reflector.broken("NewConnectionError")
    assert reflector.delay() == FIRST_BACKOFF_SECONDS / 2


def test_waiting_is_counted() -> None:
    reflector, counters = list_watch()
    reflector.delay()
    assert counters.waited == 0.0
    reflector.broken("NewConnectionError")
    assert counters.waited == 0.0
    reflector.delay()
    assert counters.waited == FIRST_BACKOFF_SECONDS


def test_watches_that_expire_at_once_are_not_listed_in_a_tight_loop() -> None:
    reflector, _ = list_watch()
    delays = []
    for _ in range(4):
        reflector.next_request()
        reflector.take_page(a_list(7))
        reflector.next_request()
        reflector.refused(410, status(410, "expired"))
        delays.append(reflector.delay())
    assert delays == sorted(delays)
    assert delays[-1] >= 4 * delays[0]


def test_an_empty_watch_is_not_begun_again_in_a_tight_loop() -> None:
    reflector, counters = watching()
    reflector.watch_ended()
    assert reflector.delay() > 0.0
    assert counters.failures == {"empty watch": 1}


def test_an_object_with_a_quantity_from_the_future_does_not_hide_the_others() -> None:
    reflector, counters = list_watch(NODES)
    reflector.next_request()
    events = reflector.take_page(a_list(7, node("odd", cpu="4 cores"), node("even")))
    assert [each.name for each in events if isinstance(each, NodeSeen)] == ["even"]
    assert counters.failures == {"quantity": 1}


@pytest.mark.parametrize("line", [b"<html>\n", b'{"type": "GREETING", "object": {}}\n', b'{"object": {}}\n'])
def test_a_line_that_is_no_watch_event_is_an_error(line: bytes) -> None:
    reflector, _ = watching()
    with pytest.raises(WireError):
        reflector.take_bytes(line)


def test_a_list_without_a_version_is_an_error() -> None:
    reflector, _ = list_watch()
    reflector.next_request()
    with pytest.raises(WireError, match=r"without metadata\.resourceVersion"):
        reflector.take_page(b'{"items": []}')


# What can happen between and during requests.
actions = st.one_of(
    st.tuples(st.just("put"), st.sampled_from("pqrst"), st.sampled_from("mn")),
    st.tuples(st.just("delete"), st.sampled_from("pqrst"), st.none()),
    st.tuples(st.just("ask"), st.none(), st.none()),
    st.tuples(st.just("cut"), st.floats(0, 1), st.none()),
    st.tuples(st.just("refuse"), st.sampled_from([429, 500, 503, 403]), st.none()),
    st.tuples(st.just("drop"), st.none(), st.none()),
    st.tuples(st.just("forget"), st.none(), st.none()),
)


@given(st.lists(actions, max_size=60), st.integers(1, 3))
def test_after_any_outages_the_state_equals_the_api_servers(taken: list[tuple[str, Any, Any]], page_size: int) -> None:
    server = FakeApiServer("Pod")
    reflector, _ = list_watch(page_size=page_size)
    state = ClusterState(BASE_RESOURCES)
    feed = ClusterFeed(state, Assumptions(state, 30.0, lambda: 0.0, lambda outcome: None))
    for action, what, where in taken:
        if action == "put":
            # A pod stays on the node it was bound to; only its size changes.
            on = server.objects[what]["spec"]["nodeName"] if what in server.objects else where
            server.put(what, pod(what, {"cpu": str(server.version)}, on))
        elif action == "delete":
            server.delete(what)
        elif action == "forget":
            server.forget_history()
        else:
            feed.apply(converse(server, reflector, action, what))
    for _ in range(40):
        feed.apply(converse(server, reflector, "ask", None))

    expected = {f"uid-{name}": made["spec"] for name, made in server.objects.items()}
    assert {uid: placed.node for uid, placed in state.pods.items()} == {
        uid: spec["nodeName"] for uid, spec in expected.items()
    }
    for uid, spec in expected.items():
        cpu = spec["containers"][0]["resources"]["requests"]["cpu"]
        assert state.pods[uid].request.request[0] == 1000 * int(cpu)


def converse(server: FakeApiServer, reflector: ListWatch, action: str, what: Any) -> list[Event]:
    """One request and its answer, with what goes wrong on the way."""
    request = reflector.next_request()
    if action == "refuse":
        reflector.refused(what, status(what, "no"))
        return []
    if action == "drop":
        reflector.broken("ReadTimeoutError")
        return []
    code, body = server.watch(request.query) if request.watch else server.page(request.query)
    if code != 200:
        reflector.refused(code, body)
        return []
    if not request.watch:
        return reflector.take_page(body)
    if action == "cut":
        events = reflector.take_bytes(body[: int(len(body) * what)])
        reflector.broken("ProtocolError")
        return events
    events = reflector.take_bytes(body)
    reflector.watch_ended()
    return events
