"""The checks themselves, on pods that no cluster has seen."""

from typing import cast

import pytest

from tests.cluster.api import Api
from tests.cluster.checks import assert_bound_where_ranked_first
from tests.cluster.extender_process import Decision
from tests.cluster.replay import Replay


def bound_to(node: str, pods: int) -> Replay:
    replay = Replay(cast(Api, None), [])
    replay.created = {f"uid-{number}": f"pod-{number}" for number in range(pods)}
    replay.placements = dict.fromkeys(replay.created, node)
    return replay


def decided(pods: range, chosen: str) -> list[Decision]:
    return [Decision(f"uid-{number}", f"pod-{number}", chosen, "policy", 9, "digest") for number in pods]


def test_one_pod_in_a_hundred_may_be_elsewhere() -> None:
    decisions = decided(range(99), "a") + decided(range(99, 100), "b")

    assert_bound_where_ranked_first(bound_to("a", 100), decisions, [f"uid-{number}" for number in range(100)])


def test_two_pods_in_a_hundred_may_not() -> None:
    decisions = decided(range(98), "a") + decided(range(98, 100), "b")

    with pytest.raises(AssertionError, match=r"98 of 100 pods .*\npod-98: b was ranked first, bound to a"):
        assert_bound_where_ranked_first(bound_to("a", 100), decisions, [f"uid-{number}" for number in range(100)])


def test_a_pod_that_was_not_decided_is_a_miss() -> None:
    with pytest.raises(AssertionError, match=r"98 of 100 pods .*\npod-98: nothing was ranked first, bound to a"):
        assert_bound_where_ranked_first(
            bound_to("a", 100), decided(range(98), "a"), [f"uid-{number}" for number in range(100)]
        )
