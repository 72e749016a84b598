import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from extender import wire
from extender.cluster.feed import seen_node
from extender.cluster.state import ClusterState
from extender.features import feature_count, placement_features
from extender.fragmentation import fragmentation_tables
from extender.placement import Candidates, list_candidates
from extender.policies.onnx import OnnxPolicy
from extender.typical import TypicalPodRecord, typical_arrays
from tests.clusters import typical_pods
from tests.policy_files import metadata_of, policy_file
from tests.training.simulator.played import until
from tests.training.simulator.schedulers import schedulers
from tests.training.small_workloads import workloads
from training.replay.manifests import node_manifest, node_name
from training.simulator.compiled import entry
from training.simulator.described import describe_each
from training.simulator.state import pod_request_of

PLENTY = 1000


@entry
def _describe_each(episode, pod, rows, devices, tables, after, features):
    describe_each(episode, pod, rows, devices, tables, after, features)


@given(workloads(), schedulers(), typical_pods(models=2), st.integers(0, 80))
def test_candidates_are_described_as_by_the_extender_to_the_last_bit(workload, arguments, typical, quarters):
    episode = until(workload, quarters / 4, arguments)
    nodes, tables = episode.cluster.nodes, fragmentation_tables(typical)
    after = np.empty(nodes.device_free.shape[1], np.int64)
    for shape in range(len(workload.shapes)):
        pod = int(np.flatnonzero(workload.shape == shape)[0])
        request = pod_request_of(episode, pod)
        candidates = list_candidates(nodes, request, np.arange(len(nodes.allocatable)), PLENTY)
        wanted = placement_features(nodes, request, candidates, tables)
        described = np.full((len(candidates.rows), feature_count(len(workload.resources))), np.nan, np.float32)
        _describe_each(episode, pod, *candidates, tables, after, described)
        np.testing.assert_array_equal(described, wanted)


RECORDS = tuple(
    TypicalPodRecord(1000, 1, milli, 0.25, models)
    for milli, models in ((500, ()), (1000, ("model-1",)), (700, ("model-2",)), (300, ("model-2", "model-1")))
)


@given(workloads(), schedulers(), st.integers(0, 80), st.integers(0, 9))
def test_the_extender_describes_nodes_whose_models_it_reads_from_labels_as_the_simulator_does(
    workload, arguments, quarters, seed
):
    episode = until(workload, quarters / 4, arguments)
    policy = OnnxPolicy("trained", policy_file(properties=metadata_of(typical_pods=RECORDS).to_properties()))
    count = len(workload.allocatable)
    state = ClusterState(workload.resources)
    for row in np.random.default_rng(seed).permutation(count):  # so that rows and models get other numbers
        seen = seen_node(
            wire.decode_node(json.dumps(node_manifest(workload, int(row))).encode()), workload.resources, True
        )
        state.put_node(seen.name, seen.allocatable, seen.devices, seen.model)
    rows = state.rows_of([node_name(row) for row in range(count)])
    nodes, slots = episode.cluster.nodes, state.arrays.device_free.shape[1]
    state.arrays.requested[rows], state.arrays.nonzero[rows] = nodes.requested, nodes.nonzero
    state.arrays.device_free[rows] = nodes.device_free[:, :slots]

    tables = fragmentation_tables(typical_arrays(policy.metadata.typical_pods, workload.models))
    after = np.empty(nodes.device_free.shape[1], np.int64)
    for shape in range(len(workload.shapes)):
        pod = int(np.flatnonzero(workload.shape == shape)[0])
        request = pod_request_of(episode, pod)
        candidates = list_candidates(nodes, request, np.arange(count), PLENTY)
        there = Candidates(rows[candidates.rows], candidates.devices)
        described = np.full((len(candidates.rows), feature_count(len(workload.resources))), np.nan, np.float32)
        _describe_each(episode, pod, *candidates, tables, after, described)
        served = placement_features(state.nodes, request, there, policy.for_workload(state.models).tables)
        np.testing.assert_array_equal(served, described)
