"""Whether the extender should be asked: alive as long as it answers, ready once the cluster has been listed."""

from typing import NamedTuple

from extender.cluster.feed import ClusterFeed, Kind


class Readiness(NamedTuple):
    """Whether answers rest on a complete view, and if not, what is missing."""

    ready: bool
    reason: str


def readiness(feed: ClusterFeed) -> Readiness:
    """Ready when nodes and pods have both been listed once."""
    missing = [kind.value for kind in Kind if kind not in feed.synced]
    if missing:
        return Readiness(False, f"{' and '.join(missing)} have not been listed yet")
    return Readiness(True, "nodes and pods are watched")
