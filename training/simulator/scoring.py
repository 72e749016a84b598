"""The rules' scores, kept per (pod shape, node) and computed again only where a node has changed.

A rule's score of a node depends on that node and the pod's shape alone, and there are far fewer shapes than pods. So
when a shape arrives, only the nodes that changed since it last did are scored; `occupancy` keeps the list of changes.
All rules give integers, which are compared as such. Choosing then looks at one row of integers per pod.
"""

from typing import NamedTuple

import numpy as np

from extender.placement import (
    ANY_DEVICE,
    Candidates,
    is_alternative,
    shares_device,
    tightest_device,
)
from extender.policies.heuristics import (
    NORMALISED,
    RULES,
    balanced_allocation,
    best_fit,
    dot_product,
    fgd,
    fgd_score,
    first_fit,
    gpu_clustering,
    gpu_packing,
    kube_scheduler_default,
    least_allocated,
    most_allocated,
    random_choice,
    requested_to_capacity_ratio,
)
from training.simulator.compiled import inner
from training.simulator.occupancy import has_room
from training.simulator.published import published_change
from training.simulator.state import CHANGES, NOWHERE, shape_request

INFEASIBLE = -(1 << 31)
RULE_NUMBERS = {name: number for number, name in enumerate(RULES)}
"""The number of each rule of `extender.policies.heuristics.RULES` in compiled code."""
FGD = RULE_NUMBERS["fgd"]
PUBLISHED_FGD = len(RULES)
"""FGD as in the published openb runs, to the last digit (`published`)."""
BEST_FIT = RULE_NUMBERS["best-fit"]
assert NORMALISED == ("best-fit",)


class ScoreCache(NamedTuple):
    """Scores of S shapes on N nodes."""

    score: np.ndarray  # (S, N) int32, INFEASIBLE where the shape does not fit
    device: np.ndarray  # (S, N) int8, the shared device
    seen: np.ndarray  # (S, N) int32, the node's version when it was scored
    looked: np.ndarray  # (S,) int64, the change of the cluster up to which a shape is up to date, -1 before


def empty_cache(shapes: int, nodes: int) -> ScoreCache:
    """A cache that knows nothing yet."""
    return ScoreCache(
        np.full((shapes, nodes), INFEASIBLE, np.int32),
        np.full((shapes, nodes), ANY_DEVICE, np.int8),
        np.full((shapes, nodes), -1, np.int32),
        np.full(shapes, -1, np.int64),
    )


@inner
def rule_score(number, nodes, pod, candidate, around):
    """The score of one candidate by the rule of this number."""
    if number == 0:
        return float(random_choice(nodes, pod, candidate, around))
    if number == 1:
        return float(first_fit(nodes, pod, candidate, around))
    if number == 2:
        return float(least_allocated(nodes, pod, candidate, around))
    if number == 3:
        return float(most_allocated(nodes, pod, candidate, around))
    if number == 4:
        return float(requested_to_capacity_ratio(nodes, pod, candidate, around))
    if number == 5:
        return float(balanced_allocation(nodes, pod, candidate, around))
    if number == 6:
        return float(kube_scheduler_default(nodes, pod, candidate, around))
    if number == 7:
        return float(best_fit(nodes, pod, candidate, around))
    if number == 8:
        return float(dot_product(nodes, pod, candidate, around))
    if number == 9:
        return float(gpu_packing(nodes, pod, candidate, around))
    if number == 10:
        return float(gpu_clustering(nodes, pod, candidate, around))
    return float(fgd(nodes, pod, candidate, around))


@inner
def _published_score(nodes, pod, candidate, around, published):
    score = fgd(nodes, pod, candidate, around)
    if score != 50.0:
        return score
    # Where nothing changes, rounding decides between 50 and 49.
    return fgd_score(published_change(nodes, pod, candidate.rows, around, published))


@inner
def score_node(number, nodes, pod, row, around, published):
    """A node's score, that of its best candidate, and the device of that candidate.

    Of equally good devices the tightest is taken, as the extender does; the published runs take the first.
    """
    if not shares_device(pod):
        candidate = Candidates(row, ANY_DEVICE)
        if number == PUBLISHED_FGD:
            return _published_score(nodes, pod, candidate, around, published), ANY_DEVICE
        return rule_score(number, nodes, pod, candidate, around), ANY_DEVICE
    tightest = tightest_device(nodes, pod, row)
    if number < FGD:  # these look at the node as a whole
        return rule_score(number, nodes, pod, Candidates(row, tightest), around), tightest
    best, best_device, listed = -np.inf, ANY_DEVICE, ANY_DEVICE
    if number == FGD:
        best, best_device = rule_score(number, nodes, pod, Candidates(row, tightest), around), tightest
        listed = tightest
    for device in range(nodes.device_free.shape[1]):
        if is_alternative(nodes, pod, row, device, listed):
            candidate = Candidates(row, device)
            if number == FGD:
                score = rule_score(number, nodes, pod, candidate, around)
            else:
                score = _published_score(nodes, pod, candidate, around, published)
            if score > best:
                best, best_device = score, device
    return best, best_device


@inner
def refresh(cache, number, episode, shape, around, published):
    """Score the nodes that have changed since this shape was last looked at."""
    cluster = episode.cluster
    count = cluster.version.shape[0]
    changes = episode.counters[CHANGES]
    looked = cache.looked[shape]
    cache.looked[shape] = changes
    everything = looked < 0 or changes - looked > count
    request = shape_request(episode.shapes, shape)
    for index in range(count if everything else changes - looked):
        row = index if everything else cluster.changed[(looked + index) % count]
        if cache.seen[shape, row] == cluster.version[row]:
            continue
        cache.seen[shape, row] = cluster.version[row]
        if has_room(cluster, episode.shapes, shape, row):
            score, device = score_node(number, cluster.nodes, request, row, around, published)
            cache.score[shape, row] = int(score)
            cache.device[shape, row] = device
        else:
            cache.score[shape, row] = INFEASIBLE


@inner
def choose_node(scores, ties, generator):
    """The node with the best score.

    `heuristics.normalised` spreads at most 100 integers over 0..100, so it never changes which node is the best.

    Args:
        scores: (N,) int32, INFEASIBLE for nodes that are no choice.
        ties: (N,) int64, the smallest wins among equals; or (0,), then one of them at random.
        generator: numpy Generator.

    Returns:
        its row, NOWHERE if there is no choice.
    """
    best = scores[0]
    for row in range(scores.shape[0]):
        best = max(best, scores[row])
    if best == INFEASIBLE:
        return NOWHERE
    chosen = NOWHERE
    if ties.shape[0] > 0:
        for row in range(scores.shape[0]):
            if scores[row] == best and (chosen == NOWHERE or ties[row] < ties[chosen]):
                chosen = row
        return chosen
    equals = 0
    for row in range(scores.shape[0]):
        equals += scores[row] == best
    remaining = int(generator.random() * equals) if equals > 1 else 0
    for row in range(scores.shape[0]):
        if scores[row] == best:
            chosen = row
            if remaining == 0:
                break
            remaining -= 1
    return chosen
