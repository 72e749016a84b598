"""What is kept is what would be made anew, to the last bit, whatever happened to the cluster in between."""

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extender.cluster.state import ClusterState
from extender.decision import rank
from extender.features import feature_names
from extender.placement import PodRequest
from extender.policies.base import NodeView
from extender.policies.bundled import policy_path
from extender.policies.kept import ONE_BY_ONE, KeptInputs, UnpreparedError
from extender.policies.onnx import OnnxPolicy, load_policy
from extender.policies.raters import candidates_on
from extender.typical import TypicalPodRecord
from tests.extender.objects import request
from tests.policy_files import RESOURCES, policy_file

MODELS = ("", "T4", "A100")
SEEING = OnnxPolicy("seeing", policy_file(np.zeros(len(feature_names(RESOURCES)))))
WEIGHING = load_policy(policy_path("bundled:packing"))
SHAPES = (
    request(500, 2**30),
    request(4000, 2**34),
    request(1000, 2**30, 1, 300),
    request(2000, 2**31, 1, 700),
    request(3000, 2**32, 1, 1000),
    request(9000, 2**33, 3, 1000),
    request(0),
)


def put_node(state: ClusterState, number: int, devices: int, cores: int) -> None:
    allocatable = np.array([1000 * cores, 2**37, 1000 * devices])
    state.put_node(f"n{number}", allocatable, devices, MODELS[number % 3])


def assert_as_made_anew(
    kept: KeptInputs, policy: OnnxPolicy, state: ClusterState, pod: PodRequest, names: list[str]
) -> None:
    rows = state.rows_of(names)
    view = NodeView(state.nodes, state.generation)
    candidates, inputs = kept.look(view, pod, rows, math.inf)
    wanted = candidates_on(view.nodes, pod, rows)
    assert candidates.rows.tolist() == wanted.rows.tolist()
    assert candidates.devices.tolist() == wanted.devices.tolist()
    if len(wanted.rows):
        made = policy.inputs(view.nodes, pod, wanted)
        assert inputs.dtype == np.float32
        np.testing.assert_array_equal(inputs.view(np.int32), made.view(np.int32))
    if policy.weighs:
        scored = kept.score(view, pod, rows, math.inf, policy.score_features)
        assert scored is not None
        assert scored.candidates.rows.tolist() == wanted.rows.tolist()
        assert scored.candidates.devices.tolist() == wanted.devices.tolist()
        if len(wanted.rows):
            scores = policy.scores(view.nodes, pod, wanted)
            np.testing.assert_allclose(scored.scores, scores, rtol=1e-4, atol=1e-4)
            assert rank(scored.scores, wanted).rows.tolist() == rank(scores, wanted).rows.tolist()


@pytest.mark.parametrize("policy", [SEEING, WEIGHING], ids=["features", "valuation"])
@given(data=st.data(), seed=st.integers(0, 2**32 - 1), nodes=st.integers(1, 2 * ONE_BY_ONE))
@settings(max_examples=30, deadline=None)
def test_inputs_are_as_if_they_were_made_anew(policy: OnnxPolicy, data: st.DataObject, seed: int, nodes: int) -> None:
    generator = np.random.default_rng(seed)
    state = ClusterState(RESOURCES)
    for number in generator.permutation(nodes).tolist():
        put_node(state, number, int(generator.choice([0, 1, 2, 8])), int(generator.choice([4, 32])))
    models, bound = state.models, policy.for_workload(state.models)
    kept = KeptInputs(bound)
    for step in range(data.draw(st.integers(1, 12))):
        for _ in range(data.draw(st.sampled_from([0, 1, 2, 40]))):
            what, number = generator.integers(12), int(generator.integers(nodes + 2))
            pod = SHAPES[generator.integers(len(SHAPES))]
            if what == 0:
                state.remove_node(f"n{number}")
            elif what == 1:
                put_node(state, number, int(generator.choice([0, 1, 2, 8])), int(generator.choice([4, 32])))
            elif what < 4 and state.pods:
                state.remove_pod(next(iter(state.pods)))
            else:
                state.put_pod(f"p{step}-{generator.integers(2**60)}", f"n{number}", pod)
        if state.models is not models:
            models, bound = state.models, policy.for_workload(state.models)
            kept = KeptInputs(bound)
        known = state.node_names()
        if data.draw(st.booleans()):
            some = state.rows_of(known)[: generator.integers(4)]
            kept.refresh(NodeView(state.nodes, state.generation), SHAPES[generator.integers(len(SHAPES))], some)
        names = [known[at] for at in generator.permutation(len(known))[: generator.integers(len(known) + 1)]]
        assert_as_made_anew(kept, bound, state, SHAPES[generator.integers(len(SHAPES))], names)


def test_what_was_described_before_time_ran_out_is_there_for_the_next_try() -> None:
    state = ClusterState(RESOURCES)
    for number in range(1500):
        put_node(state, number, 2, 32)
    kept, rows = KeptInputs(WEIGHING.for_workload(state.models)), np.arange(1500)
    view = NodeView(state.nodes, state.generation)
    tries = 0
    while True:
        tries += 1
        assert tries < 1000
        try:
            # Long enough for one piece, not for all of them.
            kept.look(view, SHAPES[2], rows, time.perf_counter() + 0.001)
        except UnpreparedError:
            continue
        break

    assert tries > 1


@pytest.mark.parametrize("policy", [SEEING, WEIGHING], ids=["features", "valuation"])
def test_what_was_refreshed_need_not_be_described_when_it_is_asked_for(policy: OnnxPolicy) -> None:
    state = ClusterState(RESOURCES)
    for number in range(50):
        put_node(state, number, 2, 32)
    kept, rows, changed = KeptInputs(policy.for_workload(state.models)), np.arange(50), state.rows_of(["n7"])
    kept.look(NodeView(state.nodes, state.generation), SHAPES[2], rows, math.inf)
    state.put_pod("p", "n7", SHAPES[3])
    with pytest.raises(UnpreparedError):
        kept.look(NodeView(state.nodes, state.generation), SHAPES[2], rows, 0.0)

    kept.refresh(NodeView(state.nodes, state.generation), SHAPES[2], changed)

    kept.look(NodeView(state.nodes, state.generation), SHAPES[2], rows, 0.0)


def test_a_node_more_among_many_is_no_other_inventory() -> None:
    state = ClusterState(RESOURCES)
    for number in range(300):
        put_node(state, number, 2, 32)
    recent = (TypicalPodRecord(1000, 1, 500, 0.5, ()), TypicalPodRecord(1000, 1, 1000, 0.5, ("T4",)))
    bound = WEIGHING.for_workload(state.models, recent)  # half of the pods press on one model
    kept, rows = KeptInputs(bound), np.arange(300)
    kept.look(NodeView(state.nodes, state.generation), SHAPES[2], rows, math.inf)
    profile = bound.profile_of(state.nodes)

    put_node(state, 300, 2, 32)
    assert_as_made_anew(kept, bound, state, SHAPES[2], state.node_names())
    kept.look(NodeView(state.nodes, state.generation), SHAPES[2], rows, 0.0)
    assert bound.profile_of(state.nodes) is profile

    for number in range(301, 330):
        put_node(state, 3 * number, 2, 32)
    with pytest.raises(UnpreparedError):
        kept.look(NodeView(state.nodes, state.generation), SHAPES[2], rows, 0.0)
    assert bound.profile_of(state.nodes) is not profile


def test_what_is_kept_is_limited() -> None:
    state = ClusterState(RESOURCES)
    for number in range(5000):
        put_node(state, number, 2, 32)
    kept, rows = KeptInputs(WEIGHING.for_workload(state.models)), np.arange(0, 5000, 50)
    view = NodeView(state.nodes, state.generation)
    for cpu in range(1, 60):
        kept.look(view, request(cpu), rows, math.inf)

    assert sum(shape.size for shape in kept._shapes.values()) < 50 * 2**20
    assert len(kept._shapes) > 10
