import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from extender.features import feature_count, placement_features
from extender.fragmentation import fragmentation_tables
from extender.placement import list_candidates
from tests.clusters import typical_pods
from tests.training.simulator.played import until
from tests.training.simulator.schedulers import schedulers
from tests.training.small_workloads import workloads
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
