"""A policy file decides alike whether its network is compiled or ONNX Runtime evaluates it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from extender.features import feature_names, placement_features
from extender.fragmentation import fragmentation_tables
from extender.placement import ANY_DEVICE, Candidates, list_candidates
from extender.policies.onnx import OnnxPolicy
from extender.typical import typical_arrays
from tests.clusters import GIB, Node, clusters, pods
from tests.policy_files import policy_file
from tests.training.small_workloads import Pod, workload_of, workloads
from training.benchmarks.openb import read_mix
from training.export import export_policy
from training.networks import NetworkArguments, score_network
from training.simulator import learned
from training.simulator.learned import choose, network_of, play_network, refresh
from training.simulator.scheduling import SchedulerArguments, play_policy, prepare
from training.simulator.state import CHANGES, CURRENT
from training.workloads.base import BASE_RESOURCES, typical_pods

BOTH = pytest.mark.parametrize("pooled_context", [True, False])
FEATURES = len(feature_names(BASE_RESOURCES))
TIE = 1e-5
ONE_DEVICE = Node(8000, 8 * GIB, (1000,))


class Following:
    """Judges decisions, one of so many, by ONNX Runtime and decides as another episode was played."""

    name = "following"

    def __init__(self, policy: OnnxPolicy, workload, played, one_of: int) -> None:
        self._policy, self._played, self._one_of = policy, played, one_of
        self._tables = fragmentation_tables(workload.typical)
        self.worst = 0.0
        self.decisions = 0

    def scores(self, nodes, pod, candidates):
        current = self.episode.counters[CURRENT]
        row, taken = self._played.pods.node[current], self._played.pods.taken[current]
        shared = candidates.devices != ANY_DEVICE
        chosen = (candidates.rows == row) & (~shared | (taken >> np.maximum(candidates.devices, 0) & 1 == 1))
        assert chosen.sum() == 1
        if self.decisions % self._one_of == 0:
            scores = self._policy.score_features(placement_features(nodes, pod, candidates, self._tables))
            self.worst = max(self.worst, float(scores.max() - scores[chosen][0]))
        self.decisions += 1
        return chosen.astype(np.float64)


_FILES: dict[tuple[bool, int], bytes] = {}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("policies")


def policy_of(folder: Path, pooled_context: bool, hidden: int = 32, workload=None) -> OnnxPolicy:
    key = (pooled_context, hidden)
    if key not in _FILES:
        torch.manual_seed(3)
        network = score_network(FEATURES, NetworkArguments(hidden=hidden, pooled_context=pooled_context))
        nn.init.orthogonal_(network.score.weight)  # scores that differ visibly
        typical = workloads_typical()
        path = folder / f"{pooled_context}-{hidden}.onnx"
        export_policy(
            network, path, resources=BASE_RESOURCES, typical=typical, models=("",), algorithm="none",
            config_digest="", workload="",
        )  # fmt: skip
        _FILES[key] = path.read_bytes()
    return OnnxPolicy("policy", _FILES[key])


def workloads_typical():
    workload = workload_of(
        [ONE_DEVICE], [Pod(0, 1, 1000, GIB, 1, 500), Pod(1, 1, 2000, GIB, 1, 1000), Pod(2, 1, 4000, GIB)]
    )
    return typical_pods(workload.shapes, workload.shape)


def largest_regret(workload, policy: OnnxPolicy, arguments: SchedulerArguments, one_of: int = 1) -> tuple[float, int]:
    """By how much ONNX Runtime thinks a choice of the compiled network worse than the best, and how many there were."""
    network = network_of(policy.content)
    assert network is not None
    played, followed = prepare(workload, arguments), prepare(workload, arguments)
    play_network(played, network, played.tables, np.random.default_rng(0))
    following = Following(policy, workload, played, one_of)
    following.episode = followed
    play_policy(followed, following, workload.typical, np.random.default_rng(0))
    for field in ("node", "taken", "started", "finishes", "waited"):
        np.testing.assert_array_equal(getattr(followed.pods, field), getattr(played.pods, field))
    np.testing.assert_array_equal(followed.counters[:4], played.counters[:4])
    return following.worst, following.decisions


@BOTH
@settings(max_examples=40)
@given(workload=workloads(), percentage=st.sampled_from((100, 0)), reserving=st.booleans())
def test_small_episodes_are_played_alike(folder, pooled_context, workload, percentage, reserving):
    arguments = SchedulerArguments(
        percentage_of_nodes_to_score=percentage, reservation_after_seconds=2.0 if reserving else 0.0, reservation_gpus=1
    )
    assert largest_regret(workload, policy_of(folder, pooled_context), arguments)[0] <= TIE


@BOTH
def test_an_episode_of_openb_is_played_alike(folder, openb_traces, pooled_context):
    workload = read_mix(openb_traces, "default").workload(42)
    worst, decisions = largest_regret(workload, policy_of(folder, pooled_context), SchedulerArguments(), one_of=4)
    assert decisions > 5000
    assert worst <= TIE


@BOTH
def test_nodes_are_sampled_alike(folder, openb_traces, pooled_context):
    workload = read_mix(openb_traces, "default").workload(43)
    first = replace(
        workload, **{name: getattr(workload, name)[:400] for name in ("shape", "arrival", "duration", "priority")},
        expected=np.zeros(400),
    )  # fmt: skip
    arguments = SchedulerArguments(percentage_of_nodes_to_score=10)
    assert largest_regret(first, policy_of(folder, pooled_context), arguments)[0] <= TIE


@BOTH
@settings(max_examples=40)
@given(workload=workloads(), seed=st.integers(0, 99))
def test_pods_are_told_apart_by_priority_and_expected_duration(folder, pooled_context, workload, seed):
    generator = np.random.default_rng(seed)
    workload = replace(
        workload,
        shape=generator.integers(min(3, len(workload.shapes)), size=len(workload)),
        priority=generator.integers(3, size=len(workload)) * 100_000_000,
        expected=generator.choice([0.0, 60.0, 6000.0], len(workload)),
    )
    assert largest_regret(workload, policy_of(folder, pooled_context), SchedulerArguments())[0] <= TIE


@BOTH
@pytest.mark.parametrize("hidden", [8, 32, 50])
@settings(max_examples=25)
@given(nodes=clusters(), pod=pods())
def test_scores_are_those_of_onnx_runtime(folder, pooled_context, hidden, nodes, pod):
    policy = policy_of(folder, pooled_context, hidden)
    network, workload = network_of(policy.content), workload_of([ONE_DEVICE], [Pod(0, 1)])
    workload = workload_of(
        [Node(int(cpu), int(memory), (1000,) * int(gpu // 1000)) for cpu, memory, gpu in nodes.allocatable],
        [Pod(0, 1, int(pod.request[0]), int(pod.request[1]), pod.gpu_count, pod.gpu_milli)],
        workload.typical,
        device_slots=4,
    )
    episode = prepare(workload, SchedulerArguments())
    for name in ("requested", "nonzero", "gpu_pods"):
        getattr(episode.cluster.nodes, name)[:] = getattr(nodes, name)
    episode.cluster.nodes.device_free[:, :4] = nodes.device_free
    tables = fragmentation_tables(typical_arrays(policy.metadata.typical_pods, workload.models))
    kinds, places = learned._kinds_of(episode, network)
    cache = learned._empty_cache(episode, network, places)
    room = learned._room(episode, network, cache.occupied.shape[1])
    at, changes = int(places[0]), int(episode.counters[CHANGES])
    refresh(
        cache, network, episode.cluster, episode.shapes, 0, 0, 0.0, int(kinds[0]), at, changes, room, tables
    )  # fmt: skip
    candidates = list_candidates(episode.cluster.nodes, pod, np.arange(len(nodes.allocatable)), 1000)
    assert cache.total[at] == len(candidates.rows)
    if len(candidates.rows) == 0:
        return
    choose(cache, network, at, room)
    wanted = policy.score_features(
        placement_features(episode.cluster.nodes, pod._replace(priority=0, expected_seconds=0.0), candidates, tables)
    )
    for row, device, score in zip(*candidates, wanted, strict=True):
        lanes = cache.lanes[at, cache.group[at, row], : cache.size[at, cache.group[at, row]]]
        (lane,) = [lane for lane in lanes if cache.device[at, lane] == device]
        assert room.scores.ravel()[lane] == pytest.approx(score, abs=1e-4)


@given(nodes=clusters(at_most=1), pod=pods(), silent=st.integers(1, 5))
def test_features_do_not_look_at_what_groups_do_not(nodes, pod, silent):
    tables = fragmentation_tables(workloads_typical())
    other = nodes._replace(nonzero=nodes.nonzero + silent, gpu_pods=nodes.gpu_pods + silent)
    candidates = Candidates(np.array([0]), np.array([ANY_DEVICE]))
    np.testing.assert_array_equal(
        placement_features(nodes, pod, candidates, tables), placement_features(other, pod, candidates, tables)
    )


def test_a_place_that_is_shared_forgets_the_request_before(folder):
    """Requests that come once share a place: each has to begin anew."""
    cluster = [Node(8000, 8 * GIB, (1000, 1000)), Node(16000, 8 * GIB, (1000, 1000)), Node(8000, 16 * GIB)]
    arriving = [Pod(time, 3, 100 * (time % 7), GIB, time % 2, 100 * (time % 2) * (1 + time % 5)) for time in range(60)]
    workload = replace(workload_of(cluster, arriving), expected=np.arange(60.0))
    assert largest_regret(workload, policy_of(folder, True), SchedulerArguments())[0] <= TIE


def test_another_graph_is_left_to_onnx_runtime():
    assert network_of(policy_file()) is None


@BOTH
def test_a_graph_that_differs_in_one_operation_is_left_to_onnx_runtime(folder, pooled_context):
    model = onnx.load_from_string(policy_of(folder, pooled_context).content)
    assert network_of(model.SerializeToString()) is not None
    for position, node in enumerate(model.graph.node):
        if node.op_type == "Relu":
            changed = onnx.load_from_string(model.SerializeToString())
            changed.graph.node[position].op_type = "Tanh"
            assert network_of(changed.SerializeToString()) is None


def test_weights_that_are_no_numbers_are_left_to_onnx_runtime(folder):
    model = onnx.load_from_string(policy_of(folder, True).content)
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name.endswith("own.bias"))
    values = onnx.numpy_helper.to_array(tensor).copy()
    values[0] = np.nan
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    assert network_of(model.SerializeToString()) is None
