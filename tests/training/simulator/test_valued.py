"""A valuing policy decides alike whether it is played from its table of weights or asked decision by decision."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from extender.fragmentation import fragmentation_tables
from extender.placement import ANY_DEVICE, Candidates, list_candidates
from extender.policies.onnx import OnnxPolicy
from extender.valuation import COLUMNS, TERMS, terms, valuation_columns, workload_profile
from tests.clusters import typical_of
from tests.training.simulator.played import until
from tests.training.simulator.schedulers import schedulers
from tests.training.small_workloads import workloads
from training.export import export_policy
from training.simulator.compiled import entry
from training.simulator.scheduling import SchedulerArguments, play_policy, prepare
from training.simulator.state import CURRENT, pod_request_of, shape_request
from training.simulator.valued import ValuedPlay, weight_table
from training.value_network import ValueNetwork
from training.workloads.base import BASE_RESOURCES

TIE = 1e-4
PLENTY = 1000


@entry
def _terms(nodes, shapes, shape, row, device, tables, profile, after, columns):
    terms(nodes, shape_request(shapes, shape), Candidates(row, device), tables, profile, after, columns)


@pytest.fixture(scope="module")
def policy(tmp_path_factory) -> OnnxPolicy:
    network = ValueNetwork()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for values in (*network.parameters(), network.estimated):
            values.add_(torch.randn(values.shape, generator=generator))
    path = tmp_path_factory.mktemp("policies") / "values.onnx"
    return export_policy(
        network, path, resources=BASE_RESOURCES, typical=typical_of((1000, 1, 500, 1.0)), models=("",),
        algorithm="es", config_digest="", workload="",
    )  # fmt: skip


@given(workloads(), schedulers(), st.integers(0, 80))
def test_terms_are_those_of_the_extender_to_the_last_bit(workload, arguments, quarters):
    episode = until(workload, quarters / 4, arguments)
    nodes, tables = episode.cluster.nodes, episode.tables
    profile = workload_profile(workload.typical, nodes)
    after = np.empty(nodes.device_free.shape[1], np.int64)
    for shape in range(len(workload.shapes)):
        pod = int(np.flatnonzero(workload.shape == shape)[0])
        candidates = list_candidates(nodes, pod_request_of(episode, pod), np.arange(len(nodes.allocatable)), PLENTY)
        wanted = valuation_columns(nodes, pod_request_of(episode, pod), candidates, tables, profile)
        for index in range(len(candidates.rows)):
            columns = np.zeros(len(COLUMNS), np.float32)
            row, device = int(candidates.rows[index]), int(candidates.devices[index])
            _terms(nodes, episode.shapes, shape, row, device, tables, profile, after, columns)
            np.testing.assert_array_equal(columns[: len(TERMS)], wanted[index, : len(TERMS)])


class Following:
    """Judges each decision by ONNX Runtime and then decides as another episode was played."""

    name = "following"

    def __init__(self, policy: OnnxPolicy, workload, played, followed) -> None:
        self._policy, self._workload, self._played, self._followed = policy, workload, played, followed
        self.worst = 0.0

    def scores(self, nodes, pod, candidates):
        tables = fragmentation_tables(self._workload.typical)
        profile = workload_profile(self._workload.typical, nodes)
        scores = self._policy.score_features(valuation_columns(nodes, pod, candidates, tables, profile))
        current = self._followed.counters[CURRENT]
        row, taken = self._played.pods.node[current], self._played.pods.taken[current]
        shared = candidates.devices != ANY_DEVICE
        chosen = (candidates.rows == row) & (~shared | (taken >> np.maximum(candidates.devices, 0) & 1 == 1))
        assert chosen.sum() == 1
        self.worst = max(self.worst, float(scores.max() - scores[chosen][0]))
        return chosen.astype(np.float64)


@settings(max_examples=40)
@given(workload=workloads(), percentage=st.sampled_from((100, 0)), reserving=st.booleans())
def test_small_episodes_are_played_alike(policy, workload, percentage, reserving):
    arguments = SchedulerArguments(
        percentage_of_nodes_to_score=percentage, reservation_after_seconds=1.0 if reserving else 0.0, reservation_gpus=1
    )
    played, followed = prepare(workload, arguments), prepare(workload, arguments)
    play_policy(played, policy, workload.typical, np.random.default_rng(0))
    following = Following(policy, workload, played, followed)
    play_policy(followed, following, workload.typical, np.random.default_rng(0))
    assert following.worst < TIE
    for field in ("node", "taken", "started", "finishes", "waited"):
        np.testing.assert_array_equal(getattr(followed.pods, field), getattr(played.pods, field))


@given(workloads(), st.integers(1, 20))
def test_an_episode_that_is_played_in_parts_ends_as_in_one_go(policy, workload, step):
    episodes = [prepare(workload, SchedulerArguments()) for _ in range(2)]
    profile = workload_profile(workload.typical, episodes[0].cluster.nodes)
    weights = weight_table(policy.score_decisions, profile)
    for episode, stops in zip(episodes, ((), range(1, step)), strict=True):
        play = ValuedPlay(episode, weights, profile)
        over = False
        for stop in stops:
            over = over or play.play(np.random.default_rng(0), stop)
            assert over or play.fullness >= stop
        assert over or play.play(np.random.default_rng(0))
    np.testing.assert_array_equal(episodes[0].pods.node, episodes[1].pods.node)
    np.testing.assert_array_equal(episodes[0].pods.waited, episodes[1].pods.waited)
