"""Another policy takes over from shadow over canary, by files alone, while a real kube-scheduler places pods."""

import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from extender.policies.bundled import policy_path
from tests.cluster.checks import assert_bound_where_ranked_first, assert_no_fallback, assert_nothing_assumed
from tests.cluster.extender_process import ExtenderProcess
from tests.cluster.processes import wait_for
from tests.cluster.replay import Replay
from tests.cluster.testbed import Testbed
from tests.cluster.workload import arrivals
from tests.extender.server.test_rollout import put

pytestmark = pytest.mark.cluster

SEED = 20261122
POLL = ("--policy-poll", "0.2")
LIMIT_SECONDS = 180.0


@pytest.fixture
def extender(testbed: Testbed, policy: Path, tmp_path: Path) -> Iterator[ExtenderProcess]:
    """In service is the policy that training exported, in a file that can be replaced."""
    put(tmp_path / "policy.onnx", policy.read_bytes())
    flags = (*POLL, "--candidate", str(tmp_path / "candidate.json"))
    process = ExtenderProcess(
        tmp_path, testbed.extender_kubeconfig, tmp_path / "policy.onnx", testbed.extender_port, flags
    )
    try:
        process.wait_ready()
        yield process
    finally:
        process.stop()


def test_a_candidate_becomes_the_policy_and_no_pod_fails(
    testbed: Testbed, extender: ExtenderProcess, tmp_path: Path
) -> None:
    failures_before = len(testbed.scheduler.extender_failures())
    before, content = extender.policy()["digest"], policy_path("bundled:packing").read_bytes()
    put(tmp_path / "candidate.onnx", content)

    def stage(percent: float) -> None:
        put(tmp_path / "candidate.json", json.dumps({"policy": "candidate.onnx", "percent": percent}).encode())
        wait_for(lambda: (extender.policy()["candidate"] or {}).get("percent") == percent, LIMIT_SECONDS, "the stage")

    def place(count: int) -> Replay:
        random = np.random.default_rng(SEED)
        replay = Replay(testbed.api, arrivals(count, math.inf, random, longest_seconds=5.0))
        replay.run_until(replay.all_arrived_and_bound, LIMIT_SECONDS)
        return replay

    def answered(replay: Replay) -> set[str]:
        assert_bound_where_ranked_first(replay, extender.decisions(), replay.created)
        by = {each.uid: each.policy for each in extender.decisions()}
        replay.run_until(replay.all_left, LIMIT_SECONDS)
        return {by[uid] for uid in replay.created}

    stage(0.0)
    wait_for(lambda: extender.policy()["candidate"]["stage"] == "shadow", LIMIT_SECONDS, "the shadow")
    digest = extender.policy()["candidate"]["digest"]
    assert answered(place(25)) == {before}
    wait_for(lambda: len(extender.decisions(tried=True)) > 0, LIMIT_SECONDS, "an opinion of the shadow's")
    assert {(each.policy, each.rung) for each in extender.decisions(tried=True)} == {(digest, "shadow")}
    assert extender.policy()["candidate"]["agreement"] is not None

    stage(50.0)
    assert answered(place(25)) == {before, digest}

    put(tmp_path / "policy.onnx", content)
    wait_for(lambda: extender.policy()["digest"] == digest, LIMIT_SECONDS, "the candidate to take over")
    (tmp_path / "candidate.json").unlink()
    wait_for(lambda: extender.policy()["candidate"] is None, LIMIT_SECONDS, "the end of the trial")
    assert answered(place(25)) == {digest}

    assert testbed.scheduler.extender_failures()[failures_before:] == []
    assert_nothing_assumed(extender)
    assert_no_fallback(extender)
