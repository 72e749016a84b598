"""Our rules give kube-scheduler's own scores, decision by decision and node by node."""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from tests.cluster.control_plane import run_control_plane
from tests.cluster.decision_replay import Comparison, ReplayedCluster, compare, request_of
from tests.cluster.scheduler import run_scheduler
from tests.cluster.scheduler_log import VMODULE, Attempt, SchedulerLog
from tests.cluster.scored_workload import make_node, varied_nodes, varied_pods
from tests.cluster.tools.build import DEFAULT_KUBERNETES
from tests.cluster.waves import Waves
from tests.cluster.workload import make_pod

pytestmark = pytest.mark.cluster

PROFILES = Path(__file__).with_name("scoring_profiles.yaml")
KUBERNETES = os.environ.get("STOWAGE_KUBERNETES", DEFAULT_KUBERNETES)
# BalancedAllocation scores how a placement changes a node's balance since 1.36, as our rule does; before it scored the
# balance afterwards.
SCORINGS = (
    *("least-allocated", "most-allocated", "requested-to-capacity-ratio"),
    *(("balanced-allocation", "kube-scheduler-default") if KUBERNETES not in ("1.34", "1.35") else ()),
)
SEED = 20261121
VARIED_NODES = 36
WAVES = 14
PODS_A_WAVE = 120
DECISIONS = 1000
AGREEING_SHARE = 0.99
NEARLY_FULL = 0.85

SAMPLED = "sampled"
SAMPLES_A_SIZE = 8
FURTHER = [{"cpu": cpu, "memory": "64Gi", "pods": "110"} for cpu in ("16", "64", "64", "64")]
# By number of nodes: below 100 every node with room (two of the odd ones have none), then
# max(100, nodes * (50 - nodes / 125) / 100), every division truncating. numFeasibleNodesToFind, schedule_one.go.
SAMPLE_OF = {99: 97, 120: 100, 230: 112, 300: 144}


@pytest.fixture(scope="module")
def waves(tools: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Waves]:
    """A control plane with varied nodes, and a kube-scheduler that has a profile for each scoring."""
    directory = tmp_path_factory.mktemp("scores")
    with ExitStack() as stack:
        control_plane = stack.enter_context(run_control_plane(tools, directory))
        kubeconfig = control_plane.admin_kubeconfig()
        scheduler = stack.enter_context(run_scheduler(tools, directory, kubeconfig, PROFILES, vmodule=VMODULE))
        waves = Waves(control_plane.api, SchedulerLog(scheduler.log))
        waves.join(varied_nodes(VARIED_NODES, np.random.default_rng(SEED)))
        yield waves


@pytest.fixture(scope="module")
def comparisons(waves: Waves) -> list[Comparison]:
    """The cluster fills up until pods find no room, empties in part, and fills again."""
    random = np.random.default_rng(SEED + 1)
    for wave in range(WAVES):
        rejected = waves.arrive(varied_pods(PODS_A_WAVE, SCORINGS, f"wave-{wave}", random))
        leaving = 0.6 if len(rejected) > PODS_A_WAVE // 4 else 0.15
        waves.leave([name for name in waves.present if random.random() < leaving])
    return compare(waves.api.list_nodes(), waves.pods, waves.log.events)


def test_there_are_enough_decisions_in_different_states(
    comparisons: list[Comparison], capsys: pytest.CaptureFixture[str]
) -> None:
    with capsys.disabled():
        print(f"\n{table(comparisons)}")
    nearly_full = [comparison for comparison in comparisons if comparison.fullness >= NEARLY_FULL]
    falls = [before for before, after in pairwise(comparisons) if after.fullness < before.fullness - 0.1]

    assert len(comparisons) >= DECISIONS
    assert 0.2 <= len(nearly_full) / len(comparisons) <= 0.6
    assert len(falls) >= 2


@pytest.mark.parametrize("scoring", SCORINGS)
def test_the_score_of_every_node_is_kube_schedulers(comparisons: list[Comparison], scoring: str) -> None:
    decisions = [comparison for comparison in comparisons if comparison.scoring == scoring]

    assert len(decisions) >= DECISIONS // (2 * len(SCORINGS))
    assert_agree(decisions)


@pytest.mark.parametrize("scoring", SCORINGS)
def test_kube_scheduler_chooses_one_of_our_best(comparisons: list[Comparison], scoring: str) -> None:
    decisions = [comparison for comparison in comparisons if comparison.scoring == scoring]
    others = [comparison.pod for comparison in decisions if not comparison.chosen_is_best]

    assert len(others) <= (1 - AGREEING_SHARE) * len(decisions), f"of {len(decisions)} decisions not {others[:10]}"


def test_pods_with_a_total_are_counted_by_it(waves: Waves, comparisons: list[Comparison]) -> None:
    random = np.random.default_rng(SEED + 2)
    arrangements = {"one container": 0.5, "pod total": 0.5}
    waves.leave(waves.present)
    waves.arrive(varied_pods(150, SCORINGS, "total", random, arrangements))

    decisions = compare(waves.api.list_nodes(), waves.pods, waves.log.events)[len(comparisons) :]

    assert len(decisions) >= 100
    assert_agree(decisions)


@pytest.fixture(scope="module")
def samples(waves: Waves, comparisons: list[Comparison]) -> dict[int, list[Attempt]]:
    """Pods that fit nearly anywhere, placed one after the other on more and more nodes; by number of nodes."""
    waves.leave(waves.present)
    attempts = {}
    for nodes in SAMPLE_OF:
        numbers = range(len(waves.log.nodes), nodes)
        waves.join([make_node(f"further-{number}", FURTHER[number % len(FURTHER)]) for number in numbers])
        attempts[nodes] = attempts_at(waves, [{"cpu": "1"}] * SAMPLES_A_SIZE, f"on-{nodes}", SAMPLED)
    return attempts


@pytest.mark.parametrize("nodes", SAMPLE_OF)
def test_so_many_nodes_are_scored(samples: dict[int, list[Attempt]], nodes: int) -> None:
    assert [len(attempt.totals) for attempt in samples[nodes]] == [SAMPLE_OF[nodes]] * SAMPLES_A_SIZE


def test_a_sample_ends_before_the_next_node_with_room(waves: Waves, samples: dict[int, list[Attempt]]) -> None:
    waves.leave(waves.present)
    nodes = waves.api.list_nodes()
    (everywhere,) = attempts_at(waves, [{}], "everywhere", SCORINGS[0])
    small_and_large = [{"cpu": "30"}, {"cpu": "10m"}, {"cpu": "30"}] * SAMPLES_A_SIZE

    attempts = attempts_at(waves, small_and_large, "in-turn", SAMPLED)

    order = list(everywhere.totals)  # in which the nodes are looked at, from where the next sample starts
    cluster = ReplayedCluster(nodes)
    start = 0
    for attempt in attempts:
        request = request_of(waves.pods[attempt.pod])
        with_room = {cluster.names[row] for row in cluster.feasible(request)}
        expected, start = sample(order, start, with_room, SAMPLE_OF[len(nodes)])
        assert list(attempt.totals) == expected, attempt.pod
        assert attempt.node is not None
        cluster.place(attempt.pod, request, attempt.node)


def sample(order: list[str], start: int, with_room: set[str], enough: int) -> tuple[list[str], int]:
    """The nodes that are scored, and where the next search starts: at the first node with room that was not needed.

    Source: pkg/scheduler/schedule_one.go (findNodesThatPassFilters stops when it has found one too many, and counts
    the nodes without room that it passed on the way).
    """
    found: list[str] = []
    for passed, node in enumerate(order[start:] + order[:start]):
        if node in with_room:
            if len(found) == enough:
                return found, (start + passed) % len(order)
            found.append(node)
    return found, start


def attempts_at(waves: Waves, requests: Sequence[dict[str, str]], prefix: str, scheduler: str) -> list[Attempt]:
    """Let pods arrive; returns how each was placed."""
    first = len(waves.log.events)
    waves.arrive([make_pod(f"{prefix}-{number}", each, scheduler=scheduler) for number, each in enumerate(requests)])
    return [event for event in waves.log.events[first:] if isinstance(event, Attempt)]


def assert_agree(decisions: Sequence[Comparison]) -> None:
    agreeing = [decision for decision in decisions if not decision.differences]
    differences = [line for decision in decisions for line in decision.differences]
    assert len(agreeing) >= AGREEING_SHARE * len(decisions), "\n".join(
        [f"{len(agreeing)} of {len(decisions)} decisions agree", *differences[:10]]
    )


def table(comparisons: Sequence[Comparison]) -> str:
    """Decisions, and how many agree, by scoring."""
    lines = [f"{'scoring':28} decisions  agree  best  nearly full  nodes"]
    for scoring in SCORINGS:
        decisions = [comparison for comparison in comparisons if comparison.scoring == scoring]
        agree = sum(not decision.differences for decision in decisions)
        best = sum(decision.chosen_is_best for decision in decisions)
        full = sum(decision.fullness >= NEARLY_FULL for decision in decisions)
        nodes = np.mean([decision.nodes for decision in decisions])
        lines.append(f"{scoring:28} {len(decisions):9}  {agree:5}  {best:4}  {full:11}  {nodes:5.1f}")
    return "\n".join(lines)
