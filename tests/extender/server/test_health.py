import pytest

from extender.cluster.assume import Assumptions
from extender.cluster.feed import ClusterFeed, Kind, Listed
from extender.cluster.state import ClusterState
from extender.server.health import readiness


@pytest.mark.parametrize(
    ("listed", "reason"),
    [
        ([], "nodes and pods have not been listed yet"),
        ([Kind.NODES], "pods have not been listed yet"),
        ([Kind.PODS], "nodes have not been listed yet"),
    ],
)
def test_what_is_missing_is_named(listed: list[Kind], reason: str) -> None:
    state = ClusterState(("cpu",))
    feed = ClusterFeed(state, Assumptions(state, 30.0, lambda: 0.0, lambda outcome: None))
    feed.apply([Listed(kind, frozenset()) for kind in listed])

    assert readiness(feed) == (False, reason)
