import json
from typing import Any

import pytest

from extender import wire
from extender.wire import HostPriority, WireError
from tests.extender.objects import cluster_list, extender_args, node, pod


def test_a_request_with_names_is_read() -> None:
    args = wire.decode_args(extender_args(pod("a", {"cpu": "250m"}, priority=7), ["n1", "n2"]))

    assert args.node_names == ["n1", "n2"]
    assert args.raw_nodes is None
    assert args.pod.metadata.uid == "uid-a"
    assert args.pod.spec.priority == 7
    containers = args.pod.spec.containers
    assert containers is not None
    assert containers[0].resources is not None
    assert containers[0].resources.requests == {"cpu": "250m"}


def test_a_request_with_whole_nodes_gives_their_names() -> None:
    body = json.dumps({"Pod": pod("a"), "Nodes": {"metadata": {}, "items": [node("n1"), node("n2")]}}).encode()

    assert wire.decode_args(body).node_names == ["n1", "n2"]


def test_whole_nodes_are_answered_with_the_very_same_nodes() -> None:
    items = [node("n1"), node("n2") | {"spec": {"unread": [1.5, None]}}]
    args = wire.decode_args(json.dumps({"Pod": pod("a"), "Nodes": {"items": items}}).encode())

    answer = json.loads(wire.encode_filter_result(args, [False, True], {"n1": "full"}, {}))

    assert answer["Nodes"]["items"] == [items[1]]
    assert answer["NodeNames"] is None


def test_names_are_answered_with_names() -> None:
    args = wire.decode_args(extender_args(pod("a"), ["n1", "n2"]))

    answer = json.loads(wire.encode_filter_result(args, [False, True], {"n1": "full"}, {}))

    assert answer == {
        "Nodes": None,
        "NodeNames": ["n2"],
        "FailedNodes": {"n1": "full"},
        "FailedAndUnresolvableNodes": {},
        "Error": "",
    }


def test_a_filter_answer_never_lacks_both_lists_even_when_no_node_stays() -> None:
    args = wire.decode_args(extender_args(pod("a"), ["n1"]))

    assert json.loads(wire.encode_filter_result(args, [False], {"n1": "full"}, {}))["NodeNames"] == []


def test_priorities_are_a_bare_array_of_integers() -> None:
    assert wire.encode_priorities([HostPriority("n1", 10)]) == b'[{"Host":"n1","Score":10}]'
    assert wire.encode_priorities([]) == b"[]"


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"", "expected an ExtenderArgs object"),
        (b"{", "expected an ExtenderArgs object"),
        (b"[]", "expected an ExtenderArgs object"),
        (b'"\xff"', "expected an ExtenderArgs object"),
        (b"{}", 'without "Pod"'),
        (b'{"Pod": null, "NodeNames": ["a"]}', 'without "Pod"'),
        (b'{"Pod": {}}', 'neither "NodeNames" nor "Nodes"'),
        (b'{"Pod": {}, "NodeNames": "a"}', "NodeNames"),
        (b'{"Pod": {}, "NodeNames": [1]}', "NodeNames"),
        (b'{"Pod": {"spec": {"priority": "high"}}, "NodeNames": []}', "priority"),
        (b'{"Pod": {"spec": {"priority": 2147483648}}, "NodeNames": []}', "priority"),
        (b'{"Pod": {"unread": ' + b"[" * 100_000, "expected an ExtenderArgs object"),
        (b'{"Pod": {}, "Nodes": {"items": [7]}}', "Node in Nodes.items"),
    ],
)
def test_what_is_no_extender_request_is_refused_with_the_place(body: bytes, complaint: str) -> None:
    with pytest.raises(WireError, match=complaint):
        wire.decode_args(body)


def test_explicit_nulls_are_read_as_absent() -> None:
    spec: dict[str, Any] = {"containers": None, "initContainers": None, "overhead": None, "priority": None}
    read = wire.decode_pod(json.dumps({"metadata": {"name": "a", "annotations": None}, "spec": spec}).encode())

    assert read.spec.containers is None


def test_a_list_of_nodes_and_pods_is_told_apart() -> None:
    nodes, pods = wire.decode_mixed_list(cluster_list(node("n"), pod("p"), node("m")))

    assert [each.metadata.name for each in nodes] == ["n", "m"]
    assert [each.metadata.name for each in pods] == ["p"]


def test_a_list_of_something_else_is_refused() -> None:
    with pytest.raises(WireError, match=r"items\[0\] is of kind 'Service'"):
        wire.decode_mixed_list(cluster_list({"kind": "Service"}))
    with pytest.raises(WireError, match='expected "kind": "List"'):
        wire.decode_mixed_list(b'{"kind": "PodList", "items": []}')
