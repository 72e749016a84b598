"""Plays whole episodes: with a rule, compiled from end to end, or with any policy, decision by decision."""

import numpy as np
from numba import njit

from extender.policies.base import Policy
from extender.policies.heuristics import (
    best_fit,
    kube_scheduler_default,
    least_allocated,
    most_allocated,
    random_choice,
)
from extender.policies.onnx import OnnxPolicy
from training.simulator.event_loop import (
    DECISION,
    FINISHED,
    GPU_SECONDS,
    NOW,
    Episode,
    advance,
    describe_candidates,
    head_of_queue,
    nodes_of,
    place,
    request_of,
)

RULE_NUMBERS = {
    "random": 0,
    "kube-scheduler-default": 1,
    "least-allocated": 2,
    "most-allocated": 3,
    "best-fit": 4,
}
"""The number of each rule of `extender.policies.heuristics.RULES` in compiled code."""


@njit(cache=True)
def rule_scores(number, nodes, pod, candidates):
    """Scores by the rule of this number; (K,) float64."""
    if number == 0:
        return random_choice(nodes, pod, candidates)
    if number == 1:
        return kube_scheduler_default(nodes, pod, candidates)
    if number == 2:
        return least_allocated(nodes, pod, candidates)
    if number == 3:
        return most_allocated(nodes, pod, candidates)
    return best_fit(nodes, pod, candidates)


@njit(cache=True)
def best_candidate(scores, rows, generator):
    """The best node's best candidate; among nodes that are equally good one at random, as kube-scheduler chooses.

    Candidates come with every node's tightest choice first; an equally good looser device is no second ticket.
    """
    best, ties, looser = 0, 1, False
    for index in range(1, scores.shape[0]):
        looser = looser or rows[index] <= rows[index - 1]
        if scores[index] > scores[best]:
            best, ties = index, 1
        elif scores[index] == scores[best] and not looser:
            ties += 1
            if generator.random() * ties < 1.0:
                best = index
    return best


@njit(cache=True)
def play_rule(episode, number, generator, samples):
    """Play an episode to its end with a rule.

    Args:
        episode: changed in place.
        number: of `RULE_NUMBERS`.
        generator: numpy Generator, decides among equals.
        samples: (P, 2) float64, receives the clock and the GPU seconds at each decision.

    Returns:
        number of decisions, i.e. of samples that were filled in.
    """
    limit = 2 * episode.allocatable.shape[0]
    decisions = 0
    while True:
        state, candidates = advance(episode, limit)
        if state == FINISHED:
            return decisions
        scores = rule_scores(number, nodes_of(episode), request_of(episode, head_of_queue(episode)), candidates)
        chosen = best_candidate(scores, candidates.rows, generator)
        samples[decisions, 0] = episode.clock[NOW]
        samples[decisions, 1] = episode.clock[GPU_SECONDS]
        decisions += 1
        place(episode, candidates.rows[chosen], candidates.devices[chosen])


def play_policy(episode: Episode, policy: Policy, samples: np.ndarray) -> int:
    """Play an episode to its end with a policy; `samples` and the result are as for `play_rule`.

    Of equally good candidates the first wins, as in the extender.
    """
    limit = 2 * len(episode.allocatable)
    nodes = nodes_of(episode)
    decisions = 0
    while True:
        state, candidates = advance(episode, limit)
        if state != DECISION:
            return decisions
        if isinstance(policy, OnnxPolicy):  # the same features, compiled
            scores = policy.score_features(describe_candidates(episode, candidates, policy.typical))
        else:
            scores = policy.scores(nodes, request_of(episode, head_of_queue(episode)), candidates)
        chosen = int(np.argmax(scores))
        samples[decisions] = episode.clock[NOW], episode.clock[GPU_SECONDS]
        decisions += 1
        place(episode, candidates.rows[chosen], candidates.devices[chosen])
