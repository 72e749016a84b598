from pathlib import Path

import numpy as np
import pytest

from extender.placement import list_candidates
from extender.policies.base import PolicyError
from extender.policies.bundled import bundled_names, policy_path
from extender.policies.onnx import load_policy
from tests.clusters import GIB, Node, cluster_of, pod_of

NAMES = ("latency", "packing")


def test_these_policies_come_with_stowage():
    assert bundled_names() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_bundled_policy_is_served_and_has_a_model_card(name):
    path = policy_path(f"bundled:{name}")
    policy = load_policy(path)
    nodes = cluster_of(Node(8000, 8 * GIB, (1000, 400), cpu_used=1000), Node(64000, 64 * GIB, (1000, 1000)))
    pod = pod_of(1000, GIB, 1, 300)
    candidates = list_candidates(nodes, pod, np.arange(2), 10)
    scores = policy.scores(nodes, pod, candidates)
    assert np.isfinite(scores).all()
    assert len(set(scores.tolist())) > 1
    assert policy.digest in path.with_suffix(".md").read_text()


def test_a_path_is_a_path():
    assert policy_path("runs/a/policy.onnx") == Path("runs/a/policy.onnx")


def test_a_policy_that_does_not_come_with_stowage_is_refused_with_those_that_do():
    with pytest.raises(PolicyError, match="bundled:best: no such policy; there are bundled:latency, bundled:packing"):
        policy_path("bundled:best")
