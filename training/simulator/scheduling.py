"""Plays whole episodes: with a rule, compiled from end to end, or with any policy, decision by decision."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
from pydantic import Field

from extender.features import placement_features
from extender.fragmentation import TypicalPods
from extender.placement import Candidates
from extender.policies.base import Policy, PolicyError
from extender.policies.heuristics import Surroundings
from extender.policies.onnx import OnnxPolicy
from extender.profile import DEFAULT_WEIGHTS, ScoringProfile, ScoringWeights, weights_of
from extender.valuation import valuation_columns, workload_profile
from training.simulator.compiled import entry
from training.simulator.episodes import episode_of
from training.simulator.event_loop import fail, list_feasible, next_attempt, next_decision, place
from training.simulator.learned import network_of, play_network
from training.simulator.published import published_pods
from training.simulator.scoring import (
    INFEASIBLE,
    RULE_NUMBERS,
    ScoreCache,
    choose_node,
    empty_cache,
    refresh,
)
from training.simulator.state import (
    CURRENT,
    NOBODY,
    NODES_TO_FIND,
    NOW,
    NOWHERE,
    RESERVATIONS,
    Episode,
    pod_request_of,
)
from training.simulator.valued import ValuedPlay, weight_table
from training.workloads.base import FloatArray, IntArray, Workload

LEAST_NODES_TO_FIND = 100  # minFeasibleNodesToFind
LEAST_PERCENTAGE = 5  # minFeasibleNodesPercentageToFind
RANDOM_TIES: IntArray = np.empty(0, np.int64)


@dataclass
class SchedulerArguments:
    """kube-scheduler's settings, and the fixed rules that can be put beside its own."""

    ordering: Annotated[
        str,
        Field(
            pattern="^(priority|fifo|shortest-expected-first|least-work-first|smallest-first)$",
            description="order of the queue: priority (kube-scheduler's), fifo, shortest-expected-first, "
            "least-work-first, smallest-first; unknown durations come last",
        ),
    ] = "priority"
    percentage_of_nodes_to_score: Annotated[
        int, Field(ge=0, le=100, description="stop looking when so many nodes fit; 0: by the size of the cluster")
    ] = 100
    backoff_initial_seconds: Annotated[float, Field(ge=0, description="wait after a first failed attempt")] = 1.0
    backoff_max_seconds: Annotated[float, Field(ge=0, description="longest wait after a failed attempt; 0: none")] = (
        10.0
    )
    pop_from_backoff: Annotated[
        bool, Field(description="try pods that back off while the active queue is empty (Kubernetes 1.33 and later)")
    ] = True
    futile_attempts: Annotated[
        bool,
        Field(
            description="try every waiting pod whenever a pod leaves, as kube-scheduler does; waits change, and it is "
            "slow where many wait"
        ),
    ] = False
    preemption: Annotated[bool, Field(description="evict pods of lower priority for a pod that fits nowhere")] = False
    reservation_after_seconds: Annotated[
        float, Field(ge=0, description="reserve a node for a pod that has waited so long; 0: never")
    ] = 0.0
    reservation_gpus: Annotated[int, Field(ge=0, description="… if it wants at least so many GPUs")] = 2
    reservations_at_most: Annotated[
        float, Field(gt=0, le=1, description="share of the nodes that may be reserved at a time (at least one node)")
    ] = 1.0
    attempt_seconds: Annotated[
        float, Field(ge=0, description="how long placing a pod takes; until then no other is tried")
    ] = 0.0
    failed_attempt_seconds: Annotated[
        float, Field(ge=0, description="how long an attempt takes that finds no node")
    ] = 0.0
    horizon_seconds: Annotated[float, Field(gt=0, description="stop there, whatever still waits")] = math.inf
    scoring: ScoringProfile = field(default_factory=ScoringProfile)


@dataclass(frozen=True)
class Outcome:
    """What became of the pods of an episode.

    Attributes:
        started: (P,) float64, the first start in seconds; NaN for a pod that never started.
        finished: (P,) float64, NaN for a pod that never started or was evicted and did not start again.
        waited: (P,) float64, seconds it was pending in all, up to the end of the episode.
        node: (P,) int64, where it ran last, -1 never.
        preempted: (P,) int64, how often it was evicted.
        times: (P + 1,) float64, the arrivals, then the end of the episode, which is when nothing waited any more after
            the last arrival, or the horizon; pods that had not arrived by then have the end as their time.
        integrals: (P + 1, RESOURCES + R) float64, at these times the integrals since 0 of: pods that wait; free
            devices that the typical pods cannot use; empty nodes; price of the nodes that are not empty, per hour; then
            the amount of each resource in use, in base units. The positions are `WAITING`, `FRAGMENTED`,
            `EMPTY_NODES`, `COST` and `RESOURCES` of `simulator.state`.
    """

    started: FloatArray
    finished: FloatArray
    waited: FloatArray
    node: IntArray
    preempted: IntArray
    times: FloatArray
    integrals: FloatArray


def nodes_to_find(nodes: int, percentage: int) -> int:
    """How many feasible nodes kube-scheduler looks for before it stops; 0 % is its default, by the cluster's size.

    Source: pkg/scheduler/schedule_one.go (numFeasibleNodesToFind).

    Example:
        >>> nodes_to_find(500, 0), nodes_to_find(5000, 0), nodes_to_find(64, 0), nodes_to_find(5000, 100)
        (230, 500, 64, 5000)
    """
    if nodes < LEAST_NODES_TO_FIND:
        return nodes
    if percentage == 0:
        percentage = max(50 - nodes // 125, LEAST_PERCENTAGE)
    return max(nodes * percentage // 100, LEAST_NODES_TO_FIND)


def settings_of(arguments: SchedulerArguments, nodes: int) -> FloatArray:
    """The arguments as the event loop takes them, in the order of the positions in `state`."""
    return np.array(
        [
            nodes_to_find(nodes, arguments.percentage_of_nodes_to_score),
            arguments.backoff_initial_seconds,
            arguments.backoff_max_seconds,
            arguments.pop_from_backoff,
            arguments.preemption,
            arguments.reservation_after_seconds,
            arguments.reservation_gpus,
            arguments.horizon_seconds,
            arguments.futile_attempts,
            max(1, math.floor(arguments.reservations_at_most * nodes)),
            arguments.attempt_seconds,
            arguments.failed_attempt_seconds,
        ],
        dtype=np.float64,
    )


def order_of(workload: Workload, ordering: str) -> FloatArray:
    """What the queue is sorted by, the smallest first; equals are in the order in which they came or last failed.

    Args:
        workload: its `expected` durations are used; pods for which nothing is known come last.
        ordering: see `SchedulerArguments.ordering`.

    Returns:
        (P,) float64: minus the priority; 0; expected seconds; expected seconds times the pod's share of the cluster's
        scarcest resource; that share.
    """
    expected = np.where(workload.expected > 0, workload.expected, np.inf)
    capacity = np.maximum(workload.allocatable.sum(axis=0), 1)
    size = (workload.shapes.request / capacity).max(axis=1)[workload.shape]
    orders: dict[str, Callable[[], FloatArray]] = {
        "priority": lambda: -workload.priority.astype(np.float64),
        "fifo": lambda: np.zeros(len(workload)),
        "shortest-expected-first": lambda: expected,
        "least-work-first": lambda: expected * np.maximum(size, np.finfo(float).tiny),
        "smallest-first": lambda: size,
    }
    return orders[ordering]()


def prepare(workload: Workload, arguments: SchedulerArguments, *, sampled: bool = False) -> Episode:
    """An episode at its start."""
    settings = settings_of(arguments, len(workload.allocatable))
    return episode_of(workload, settings, order_of(workload, arguments.ordering), sampled=sampled)


def play(workload: Workload, policy: str | Policy, arguments: SchedulerArguments, seed: int) -> Outcome:
    """Play a workload to its end.

    Args:
        workload: the cluster and its pods.
        policy: a rule's name, see `extender.policies.heuristics.RULES`, or any policy.
        arguments: of the scheduler.
        seed: decides among equally good nodes, as kube-scheduler does.

    Raises:
        ValueError: there is no such rule, or the scoring names a resource that the cluster does not have.
    """
    episode = prepare(workload, arguments, sampled=True)
    generator = np.random.default_rng(seed)
    if isinstance(policy, str):
        if policy not in RULE_NUMBERS:
            raise ValueError(f"no rule is named {policy!r}; there are: {', '.join(RULE_NUMBERS)}")
        cache = empty_cache(len(workload.shapes), len(workload.allocatable))
        weights = weights_of(arguments.scoring, workload.resources)
        play_rule(episode, RULE_NUMBERS[policy], cache, workload.typical, RANDOM_TIES, generator, weights)
    else:
        play_policy(episode, policy, workload.typical, generator)
    return outcome_of(episode)


def play_rule(
    episode: Episode,
    number: int,
    cache: ScoreCache,
    typical: TypicalPods,
    ties: IntArray,
    generator: np.random.Generator,
    weights: ScoringWeights = DEFAULT_WEIGHTS,
) -> None:
    """Play an episode to its end with a rule.

    Args:
        episode: changed in place.
        number: of `RULE_NUMBERS`, or `PUBLISHED_FGD`.
        cache: an empty `ScoreCache`.
        typical: the typical pods in their published order; of interest for `PUBLISHED_FGD` only.
        ties: (N,) int64, the smallest wins among equals; (0,) for a random one, as kube-scheduler chooses.
        generator: numpy Generator.
        weights: how kube-scheduler's scorings are configured.
    """
    count, slots = episode.cluster.nodes.device_free.shape
    around = Surroundings(
        episode.cluster.largest, episode.tables, episode.cluster.fragmentation, np.empty(slots, np.int64), weights
    )
    rows, listed = np.empty(count, np.int64), np.empty(count, np.int32)
    _play_rule(episode, number, cache, published_pods(typical), ties, generator, around, rows, listed)


@entry
def _play_rule(episode, number, cache, published, ties, generator, around, rows, listed):
    everywhere = episode.settings[NODES_TO_FIND] >= rows.shape[0]
    while True:
        pod = next_attempt(episode)
        if pod == NOBODY:
            return
        shape = episode.pods.shape[pod]
        if episode.shapes.hopeless[shape]:
            fail(episode, pod, False, generator)
            continue
        refresh(cache, number, episode, shape, around, published)
        withheld = False
        if everywhere and episode.counters[RESERVATIONS] == 0:
            chosen = choose_node(cache.score[shape], ties, generator)
        else:
            found, withheld = list_feasible(episode, pod, rows)
            listed[:] = INFEASIBLE
            for index in range(found):
                listed[rows[index]] = cache.score[shape, rows[index]]
            chosen = choose_node(listed, ties, generator)
        if chosen == NOWHERE:
            fail(episode, pod, withheld, generator)
        else:
            place(episode, pod, chosen, cache.device[shape, chosen])


def play_policy(episode: Episode, policy: Policy, typical: TypicalPods, generator: np.random.Generator) -> None:
    """Play an episode to its end with a policy.

    Of equally good candidates the one on the first node wins, there the tightest, as in `extender.decision.rank`.

    Like kube-scheduler, this asks nobody where there is only one way to place a pod. A policy file with one of our own
    networks is played compiled (`learned`, `valued`); any other policy is asked decision by decision.

    Args:
        episode: changed in place.
        policy: what scores.
        typical: what usually arrives; a policy file is told this rather than what it was trained on.
        generator: preemption draws from it.

    Raises:
        PolicyError: the policy was made for another number of resources, or gives scores that are not finite.
    """
    if isinstance(policy, OnnxPolicy):
        known = len(policy.resources)
        if known != episode.cluster.nodes.allocatable.shape[1]:
            raise PolicyError(
                f"{policy.name}: made for {known} resources ({', '.join(policy.resources)}), the workload has "
                f"{episode.cluster.nodes.allocatable.shape[1]}"
            )
        if policy.weighs:
            profile = workload_profile(typical, episode.cluster.nodes)
            weights = weight_table(policy.score_decisions, profile)
            if weights is not None:
                ValuedPlay(episode, weights, profile).play(generator)
                return
        elif (network := network_of(policy.content)) is not None:
            play_network(episode, network, episode.tables, generator)
            return
    nodes = episode.cluster.nodes
    count, slots = nodes.device_free.shape
    feasible, rows, devices = (np.empty(size, np.int64) for size in (count, count * slots, count * slots))
    while (listed := play_to_decision(episode, feasible, rows, devices, generator)) > 0:
        request = pod_request_of(episode, int(episode.counters[CURRENT]))
        candidates = Candidates(rows[:listed], devices[:listed])
        if isinstance(policy, OnnxPolicy):
            scores = policy.score_features(
                valuation_columns(nodes, request, candidates, episode.tables, profile)
                if policy.weighs
                else placement_features(nodes, request, candidates, episode.tables)
            )
        else:
            scores = policy.scores(nodes, request, candidates)
        if not np.isfinite(scores).all():
            raise PolicyError(f"{policy.name}: {np.sum(~np.isfinite(scores))} of {listed} scores are not finite")
        equals = np.flatnonzero(scores == scores.max())
        best = equals[np.argmin(rows[equals])]
        carry_out(episode, rows[best], devices[best])


@entry
def play_to_decision(episode, feasible, rows, devices, generator):
    """`event_loop.next_decision`, for callers in Python."""
    return next_decision(episode, feasible, rows, devices, generator)


@entry
def carry_out(episode, row, device):
    """Place the pod that is being decided on."""
    place(episode, episode.counters[CURRENT], row, device)


def outcome_of(episode: Episode) -> Outcome:
    """What became of the pods of an episode that was played to its end with samples."""
    pods = episode.pods
    end = episode.clock[NOW]
    waiting = np.isnan(pods.finishes) & (pods.arrival <= end)
    waited = pods.waited + np.where(waiting, end - pods.pending_since, 0.0)
    times = np.append(np.minimum(pods.arrival, end), end)
    return Outcome(
        started=pods.started.copy(),
        finished=pods.finishes.copy(),
        waited=np.where(pods.arrival <= end, waited, 0.0),
        node=pods.node.copy(),
        preempted=pods.preempted.copy(),
        times=times,
        integrals=episode.samples[:, 1:].copy(),
    )
