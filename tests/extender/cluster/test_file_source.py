import pytest

from extender.cluster.assume import Assumptions
from extender.cluster.feed import ClusterFeed
from extender.cluster.file_source import decode_file
from extender.cluster.requests import BASE_RESOURCES
from extender.cluster.state import ClusterState
from extender.quantity import QuantityError
from extender.wire import WireError
from tests.extender.objects import cluster_list, node, pod


def test_a_file_is_a_complete_list_of_nodes_and_pods() -> None:
    state = ClusterState(BASE_RESOURCES)
    feed = ClusterFeed(state, Assumptions(state, 30.0, lambda: 0.0, lambda outcome: None))
    body = cluster_list(
        pod("p", {"cpu": "2"}, "n"), node("n", gpus="2"), pod("waiting"), pod("done", None, "n", "Failed")
    )

    feed.apply(decode_file(body, BASE_RESOURCES))

    assert feed.ready
    assert state.arrays.requested[state.row_of("n")].tolist() == [2000, 0, 0]
    assert list(state.pods) == ["uid-p"]


def test_a_pod_without_uid_is_known_by_its_name() -> None:
    made = pod("p", {"cpu": "2"}, "n")
    del made["metadata"]["uid"]
    state = ClusterState(BASE_RESOURCES)
    feed = ClusterFeed(state, Assumptions(state, 30.0, lambda: 0.0, lambda outcome: None))

    feed.apply(decode_file(cluster_list(made), BASE_RESOURCES))

    assert list(state.pods) == ["default/p"]


def test_a_file_that_is_no_list_says_so() -> None:
    with pytest.raises(WireError, match="expected a List of nodes and pods"):
        decode_file(b"nodes:", BASE_RESOURCES)


def test_a_bad_amount_says_which() -> None:
    with pytest.raises(QuantityError, match="cpu: 'many'"):
        decode_file(cluster_list(node("n", cpu="many")), BASE_RESOURCES)
