"""A learned policy's score network, compiled, and evaluated again only where a node has changed.

What the network makes of a candidate on its own (the features, their embedding, and `own`, see `training.networks`)
depends on the node and on what the pod asks for. There are far fewer different requests than pods, so it is kept per
(request, node) and, as in `scoring`, brought up to date when such a pod arrives. Only the context of all candidates and
the last layer are evaluated for every pod, over memory that lies in the order in which it is read. A network without
context needs a look at one number per candidate.

Many nodes are in the same state as others (an empty cluster has a handful of different states). Nodes in equal states
form a group that is described once and counts as often as it has members; the memory that is read for every pod is that
of the groups.

`network_of` reads the graph that `training.export` writes; any other graph is played by ONNX Runtime (`scheduling`).
"""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from extender.features import describe
from extender.fragmentation import FragmentationTables
from extender.placement import (
    ANY_DEVICE,
    WHOLE_DEVICE_MILLI,
    Candidates,
    PodRequest,
    is_alternative,
    shares_device,
    tightest_device,
)
from extender.policies.onnx import INPUT, OUTPUT
from training.simulator.compiled import entry, inner
from training.simulator.event_loop import fail, list_feasible, next_attempt, place
from training.simulator.occupancy import has_room
from training.simulator.state import (
    CHANGES,
    FORCED,
    NOBODY,
    NODES_TO_FIND,
    NOWHERE,
    RESERVATIONS,
    Episode,
)

Float32Array = NDArray[np.float32]

LANES = 64  # nodes whose numbers lie side by side, so that one instruction works on many of them
WIDTH = 16  # layers are widened to a multiple of it by numbers that are 0
AT_ONCE = 4  # inputs that are added up at once
DEVICE_BITS = 7  # a node has fewer devices than this has numbers: extender.cluster.requests.DEVICES_AT_MOST
CACHE_BYTES = 1 << 30  # at most this is kept of what depends on single nodes
NOTHING = np.float32(0.0)
NO_CANDIDATE = np.float32(-np.inf)
NO_GROUP = -1
GROUPS, LANES_USED, GROUPS_FREE, LANES_FREE = range(4)  # positions in LearnedCache.used
MULTIPLIER = 0x2545F4914F6CDD1D  # of xorshift64*


class Network(NamedTuple):
    """The weights; layers are widened with zeros to multiples of `WIDTH`, the features to one of `AT_ONCE`."""

    embed: np.ndarray  # (F, H) float32
    embed_bias: np.ndarray  # (H,)
    embed_again: np.ndarray  # (H, H)
    embed_again_bias: np.ndarray  # (H,)
    own: np.ndarray  # (H, H)
    own_bias: np.ndarray  # (H,)
    context: np.ndarray  # (2 H, H), from mean and maximum; (0, H) for a network without
    context_bias: np.ndarray  # (H,)
    score: np.ndarray  # (H,)
    score_bias: np.ndarray  # (1,)


class LearnedCache(NamedTuple):
    """What is known of the candidates, for C kinds of requests, N nodes, L candidates a node at most.

    Nodes in equal states are a group of at most N. A group has as many lanes as each of its nodes has candidates, the
    tightest first; lanes lie in B blocks of `LANES`, the lowest that are free.
    """

    kept_at: np.ndarray  # (kinds,) int64, which of the C a kind of request is kept in; the last is shared by the rest
    owner: np.ndarray  # (C,) int64, the kind that is kept there now, -1 for none
    looked: np.ndarray  # (C,) int64, the change of the cluster up to which it is up to date
    total: np.ndarray  # (C,) int64, all candidates
    seen: np.ndarray  # (C, N) int32, the node's version when it was last looked at
    group: np.ndarray  # (C, N) int32, the node's group, NO_GROUP for a node that is no candidate
    members: np.ndarray  # (C, N) int32, the nodes of a group
    size: np.ndarray  # (C, N) int32, the lanes of a group
    lanes: np.ndarray  # (C, N, L) int32, which they are
    state: np.ndarray  # (C, N, 1 + 2 R + D) int64, the state of a group's nodes
    by_digest: np.ndarray  # (C, 2^n) int32, the last group of a state with this digest, NO_GROUP
    free_groups: np.ndarray  # (C, N) int32, a stack
    free_lanes: np.ndarray  # (C, B LANES) int32, a stack
    used: np.ndarray  # (C, 4) int64: groups and lanes that were ever in use, then the heights of the two stacks
    lane_group: np.ndarray  # (C, B LANES) int32
    device: np.ndarray  # (C, B LANES) int8, the shared device
    occupied: np.ndarray  # (C, B) int32, lanes in use
    weight: np.ndarray  # (C, B, LANES) float32, how many candidates a lane stands for
    score: np.ndarray  # (C, B, LANES) float32, the score or, with context, its bias; NO_CANDIDATE where there is none
    own: np.ndarray  # (B, C, H, LANES) float32, with context only; so are the following. The first blocks are used most
    embedding: np.ndarray  # (B, C, LANES, H) float32, 0 where there is no candidate
    sums: np.ndarray  # (C, B, H) float32, of a block's embeddings
    maxima: np.ndarray  # (C, B, H) float32


class Room(NamedTuple):
    """Room to work in."""

    rows: np.ndarray  # (N,) int64
    after: np.ndarray  # (D,) int64
    features: np.ndarray  # (F,) float32
    hidden: np.ndarray  # (H,) float32
    embedded: np.ndarray  # (H,) float32
    result: np.ndarray  # (H,) float32
    pooled: np.ndarray  # (2 H,) float32
    scores: np.ndarray  # (B, LANES) float32
    stale: np.ndarray  # (B,) bool, blocks whose sums are not up to date


# The graph of `training.export`, operation by operation: inputs, output, attributes. Names with a capital are weights.
_EMBED = [
    ("Unsqueeze", (INPUT, "=0"), "batch"),
    ("MatMul", ("batch", "Embed"), "embed.0"),
    ("Add", ("embed.0", "EmbedBias"), "embed.1"),
    ("Relu", ("embed.1",), "embed.2"),
    ("MatMul", ("embed.2", "EmbedAgain"), "embed.3"),
    ("Add", ("embed.3", "EmbedAgainBias"), "embed.4"),
    ("Relu", ("embed.4",), "embedded"),
    ("MatMul", ("embedded", "Own"), "own.0"),
    ("Add", ("own.0", "OwnBias"), "own"),
]
_CONTEXT = [
    ("ReduceMean", ("embedded", "=1"), "mean", {"keepdims": 0}),
    ("ReduceMax", ("embedded", "=1"), "maximum", {"keepdims": 0}),
    ("Concat", ("mean", "maximum"), "pooled", {"axis": -1}),
    ("Gemm", ("pooled", "Context", "ContextBias"), "context.0", {"transB": 1}),
    ("Unsqueeze", ("context.0", "=1"), "context"),
    ("Add", ("own", "context"), "hidden"),
]
_SCORE = [
    ("Relu", ("hidden",), "score.0"),
    ("MatMul", ("score.0", "Score"), "score.1"),
    ("Add", ("score.1", "ScoreBias"), "score.2"),
    ("Squeeze", ("score.2", "=-1"), "score.3"),
    ("Squeeze", ("score.3", "=0"), OUTPUT),
]
_WITHOUT_CONTEXT = [*_EMBED, ("Relu", ("own",), "score.0"), *_SCORE[1:]]
_WITH_CONTEXT = [*_EMBED, *_CONTEXT, *_SCORE]
_DEFAULTS = {"alpha": 1.0, "beta": 1.0, "transA": 0, "noop_with_empty_axes": 0}  # these say nothing


@lru_cache(maxsize=8)  # every episode of an evaluation asks again
def network_of(content: bytes) -> Network | None:
    """The weights in a policy file.

    Returns:
        them, or None where the graph is another than the one that `training.export` writes.
    """
    graph = onnx.load_from_string(content).graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for pattern in (_WITH_CONTEXT, _WITHOUT_CONTEXT):
        weights = _match(graph.node, constants, pattern)
        if weights is not None:
            return _network(weights)
    return None


def _match(
    nodes: Any, constants: dict[str, np.ndarray], pattern: list[tuple[Any, ...]]
) -> dict[str, np.ndarray] | None:
    """The weights by their names in the pattern, None where the graph does not follow it."""
    if len(nodes) != len(pattern):
        return None
    names = {INPUT: INPUT}  # of the graph's values in the pattern
    weights: dict[str, np.ndarray] = {}
    for node, (operation, inputs, output, *attributes) in zip(nodes, pattern, strict=True):
        given = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        given = {name: value for name, value in given.items() if _DEFAULTS.get(name) != value}
        if node.op_type != operation or len(node.input) != len(inputs) or given != dict(*attributes):
            return None
        for name, wanted in zip(node.input, inputs, strict=True):
            if wanted.startswith("="):
                if name not in constants or constants[name].tolist() != [int(wanted[1:])]:
                    return None
            elif wanted[0].isupper():
                if name not in constants:
                    return None
                weights[wanted] = constants[name]
            elif names.get(name) != wanted:
                return None
        names[node.output[0]] = output
    return weights


def _network(weights: dict[str, np.ndarray]) -> Network | None:
    features, hidden = weights["Embed"].shape
    width = -(-hidden // WIDTH) * WIDTH
    shapes = {
        "Embed": (features, hidden),
        "EmbedAgain": (hidden, hidden),
        "Own": (hidden, hidden),
        "Score": (hidden, 1),
        "Context": (hidden, 2 * hidden),
        **dict.fromkeys(("EmbedBias", "EmbedAgainBias", "OwnBias", "ContextBias"), (hidden,)),
        "ScoreBias": (1,),
    }
    if any(array.shape != shapes[name] or array.dtype != np.float32 for name, array in weights.items()):
        return None
    if not all(np.isfinite(array).all() for array in weights.values()):
        return None

    def widened(array: np.ndarray, *shape: int) -> Float32Array:
        result = np.zeros(shape, np.float32)
        result[tuple(slice(size) for size in array.shape)] = array
        return result

    context = np.zeros((0, width), np.float32)
    if "Context" in weights:
        mean, maximum = weights["Context"].T.reshape(2, hidden, hidden)
        context = np.concatenate([widened(mean, width, width), widened(maximum, width, width)])
    return Network(
        widened(weights["Embed"], -(-features // AT_ONCE) * AT_ONCE, width),
        widened(weights["EmbedBias"], width),
        widened(weights["EmbedAgain"], width, width),
        widened(weights["EmbedAgainBias"], width),
        widened(weights["Own"], width, width),
        widened(weights["OwnBias"], width),
        context,
        widened(weights.get("ContextBias", np.zeros(0, np.float32)), width),
        widened(weights["Score"][:, 0], width),
        weights["ScoreBias"].copy(),
    )


def blank_network(features: int) -> Network:
    """A network of the smallest size that scores everything alike."""
    sides = {"EmbedAgain": (1, 1), "Own": (1, 1), "Score": (1, 1), "Context": (1, 2), "Embed": (features, 1)}
    biases = dict.fromkeys(("EmbedBias", "EmbedAgainBias", "OwnBias", "ContextBias", "ScoreBias"), (1,))
    network = _network({name: np.zeros(shape, np.float32) for name, shape in (sides | biases).items()})
    assert network is not None
    return network


def play_network(
    episode: Episode, network: Network, tables: FragmentationTables, generator: np.random.Generator
) -> None:
    """Play an episode to its end with a network; see `scheduling.play_policy`.

    Args:
        episode: changed in place.
        network: of a policy file.
        tables: the typical pods that its features are measured against.
        generator: preemption draws from it.
    """
    kinds, places = _kinds_of(episode, network)
    cache = _empty_cache(episode, network, places)
    room = _room(episode, network, cache.occupied.shape[1])
    _play(episode, network, kinds, cache, room, tables, generator)


def _levels(episode: Episode) -> int:
    """The most candidates that a node can have."""
    sharing = (episode.shapes.gpu_count == 1) & (episode.shapes.gpu_milli < WHOLE_DEVICE_MILLI)
    return episode.cluster.nodes.device_free.shape[1] if sharing.any() else 1


def _kinds_of(episode: Episode, network: Network) -> tuple[np.ndarray, np.ndarray]:
    """The different requests of the pods: each pod's (P,), and where each is kept (kinds,).

    Requests that come once share one place, and so do the rarest where there is no room for all.
    """
    pods = episode.pods
    kinds = pods.shape
    for column in (pods.priority, pods.expected):
        values, position = np.unique(column, return_inverse=True)
        if len(values) > 1:
            _, kinds = np.unique(kinds * len(values) + position.reshape(-1), return_inverse=True)
    kinds = kinds.reshape(-1).astype(np.int64)
    often = np.bincount(kinds)
    hidden = network.own.shape[1] if len(network.context) else 0
    lanes = len(episode.cluster.version) * _levels(episode)
    order = np.argsort(-often, kind="stable")
    own_place = min(int((often > 1).sum()), max(CACHE_BYTES // (lanes * (8 * hidden + 32)) - 1, 0))
    places = np.full(len(often), own_place, np.int64)
    places[order[:own_place]] = np.arange(own_place)
    return kinds, places


def _empty_cache(episode: Episode, network: Network, places: np.ndarray) -> LearnedCache:
    nodes = episode.cluster.nodes
    kinds, count, levels = int(places.max(initial=0)) + 1, len(nodes.model), _levels(episode)
    blocks = -(-count * levels // LANES)
    kept = blocks if len(network.context) else 0
    hidden = network.own.shape[1]
    state = 1 + 2 * nodes.allocatable.shape[1] + nodes.device_free.shape[1]

    def integers(*dimensions: int, fill: int = 0) -> np.ndarray:
        # Memory that is 0 costs nothing before it is used.
        return np.zeros(dimensions, np.int32) if fill == 0 else np.full(dimensions, fill, np.int32)

    return LearnedCache(
        kept_at=places,
        owner=np.full(kinds, -1, np.int64),
        looked=np.full(kinds, -1, np.int64),
        total=np.zeros(kinds, np.int64),
        seen=integers(kinds, count),
        group=integers(kinds, count),
        members=integers(kinds, count),
        size=integers(kinds, count),
        lanes=integers(kinds, count, levels),
        state=np.zeros((kinds, count, state), np.int64),
        by_digest=integers(kinds, 1 << (2 * count - 1).bit_length()),
        free_groups=integers(kinds, count),
        free_lanes=integers(kinds, blocks * LANES),
        used=np.zeros((kinds, 4), np.int64),
        lane_group=integers(kinds, blocks * LANES),
        device=np.zeros((kinds, blocks * LANES), np.int8),
        occupied=integers(kinds, blocks),
        weight=np.zeros((kinds, blocks, LANES), np.float32),
        score=np.zeros((kinds, blocks, LANES), np.float32),
        own=np.zeros((kept, kinds, hidden, LANES), np.float32),
        embedding=np.zeros((kept, kinds, LANES, hidden), np.float32),
        sums=np.zeros((kinds, kept, hidden), np.float32),
        maxima=np.zeros((kinds, kept, hidden), np.float32),
    )


def _room(episode: Episode, network: Network, blocks: int) -> Room:
    nodes = episode.cluster.nodes
    inputs, hidden = network.embed.shape
    return Room(
        rows=np.empty(len(nodes.model), np.int64),
        after=np.empty(nodes.device_free.shape[1], np.int64),
        features=np.zeros(inputs, np.float32),
        hidden=np.empty(hidden, np.float32),
        embedded=np.empty(hidden, np.float32),
        result=np.empty(hidden, np.float32),
        pooled=np.empty(2 * hidden, np.float32),
        scores=np.empty((blocks, LANES), np.float32),
        stale=np.zeros(blocks, np.bool_),
    )


@entry
def _play(episode, network, kinds, cache, room, tables, generator):
    everywhere = episode.settings[NODES_TO_FIND] >= room.rows.shape[0]
    while True:
        pod = next_attempt(episode)
        if pod == NOBODY:
            return
        if episode.shapes.hopeless[episode.pods.shape[pod]]:
            fail(episode, pod, False, generator)
            continue
        at = cache.kept_at[kinds[pod]]
        refresh(
            cache,
            network,
            episode.cluster,
            episode.shapes,
            episode.pods.shape[pod],
            episode.pods.priority[pod],
            episode.pods.expected[pod],
            kinds[pod],
            at,
            episode.counters[CHANGES],
            room,
            tables,
        )
        if everywhere and episode.counters[RESERVATIONS] == 0:
            if cache.total[at] == 0:
                fail(episode, pod, False, generator)
                continue
            if cache.total[at] == 1:
                episode.counters[FORCED] += 1
            row, device = choose(cache, network, at, room)
        else:
            found, withheld = list_feasible(episode, pod, room.rows)
            if found == 0:
                fail(episode, pod, withheld, generator)
                continue
            if found == 1 and cache.size[at, cache.group[at, room.rows[0]]] == 1:
                episode.counters[FORCED] += 1
            row, device = choose_among(cache, network, at, room, found)
        place(episode, pod, row, device)


@inner
def _layer(inputs, weights, bias, outputs):
    """A linear layer: (I,), (I, H), (H,) -> (H,); the sums are always added up in the same order."""
    for unit in range(outputs.shape[0]):
        outputs[unit] = bias[unit]
    for start in range(0, weights.shape[0], AT_ONCE):
        first, second, third, fourth = inputs[start], inputs[start + 1], inputs[start + 2], inputs[start + 3]
        for unit in range(outputs.shape[0]):
            outputs[unit] += (
                first * weights[start, unit]
                + second * weights[start + 1, unit]
                + third * weights[start + 2, unit]
                + fourth * weights[start + 3, unit]
            )


@inner
def _rectify(values):
    for unit in range(values.shape[0]):
        values[unit] = values[unit] if values[unit] > NOTHING else NOTHING


@inner
def _rectified_sum(network, values):
    """The last layer for one candidate."""
    total = network.score_bias[0]
    for unit in range(values.shape[0]):
        value = values[unit]
        total += network.score[unit] * (value if value > NOTHING else NOTHING)
    return total


@entry
def refresh(cache, network, cluster, shapes, shape, priority, expected, kind, at, changes, room, tables):
    """Describe the nodes that have changed since such pods were last looked at.

    Compiled by itself, as are `choose` and `choose_among`: all in one takes far longer to compile.

    Args:
        cache: changed in place.
        network: what scores.
        cluster: where.
        shapes: of the pods.
        shape: the pod's; so are the next two its own.
        priority: integer.
        expected: seconds.
        kind: of the three.
        at: where in the cache that is kept.
        changes: of the cluster, so far.
        room: to work in.
        tables: the policy's typical pods.
    """
    request = PodRequest(
        shapes.request[shape],
        shapes.nonzero[shape],
        shapes.gpu_count[shape],
        shapes.gpu_milli[shape],
        priority,
        expected,
    )
    count = cluster.version.shape[0]
    if cache.owner[at] != kind:
        cache.owner[at] = kind
        _forget(cache, at)
    looked = cache.looked[at]
    cache.looked[at] = changes
    everything = looked < 0 or changes - looked > count
    for index in range(count if everything else changes - looked):
        row = index if everything else cluster.changed[(looked + index) % count]
        if cache.seen[at, row] == cluster.version[row]:
            continue
        cache.seen[at, row] = cluster.version[row]
        before = cache.group[at, row]
        if not has_room(cluster, shapes, shape, row):
            if before != NO_GROUP:
                _leave(cache, at, before, room)
                cache.group[at, row] = NO_GROUP
            continue
        digest = _digest(cluster.nodes, row) & (cache.by_digest.shape[1] - 1)
        group = cache.by_digest[at, digest]
        if (
            group == NO_GROUP
            or cache.members[at, group] == 0
            or not _is_state(cluster.nodes, row, cache.state[at, group])
        ):
            group = NO_GROUP
        if group != NO_GROUP and group == before:
            continue
        if before != NO_GROUP:
            _leave(cache, at, before, room)
        if group == NO_GROUP:
            group = _found(cache, network, cluster.nodes, request, at, row, room, tables)
            cache.by_digest[at, digest] = group
        cache.group[at, row] = group
        _change_members(cache, at, group, 1, room)
    if cache.own.shape[0] > 0:
        for block in range(room.stale.shape[0]):
            if room.stale[block]:
                _sum_up(
                    cache.embedding[block, at], cache.weight[at, block], cache.sums[at, block], cache.maxima[at, block]
                )
    room.stale[:] = False


@inner
def _forget(cache, at):
    """Begin anew."""
    cache.looked[at] = -1
    cache.total[at] = 0
    cache.seen[at, :] = -1
    cache.group[at, :] = NO_GROUP
    cache.members[at, :] = 0
    cache.by_digest[at, :] = NO_GROUP
    blocks = (cache.used[at, LANES_USED] + LANES - 1) // LANES
    for block in range(blocks):
        cache.occupied[at, block] = 0
        cache.weight[at, block, :] = NOTHING
        if cache.own.shape[0] > 0:
            cache.embedding[block, at, :, :] = NOTHING
    cache.used[at, :] = 0


@inner
def _digest(nodes, row):
    """A number that nodes in equal states have in common."""
    digest = nodes.model[row]
    for resource in range(nodes.allocatable.shape[1]):
        digest = (digest ^ nodes.allocatable[row, resource]) * MULTIPLIER
        digest = (digest ^ (digest >> 29) ^ nodes.requested[row, resource]) * MULTIPLIER
    for device in range(nodes.device_free.shape[1]):
        digest = (digest ^ (digest >> 29) ^ nodes.device_free[row, device]) * MULTIPLIER
    return digest ^ (digest >> 32)


@inner
def _is_state(nodes, row, state):
    """Whether a node is in this state: all of it that `features.describe` looks at."""
    resources = nodes.allocatable.shape[1]
    if state[0] != nodes.model[row]:
        return False
    for resource in range(resources):
        if state[1 + resource] != nodes.requested[row, resource]:
            return False
        if state[1 + resources + resource] != nodes.allocatable[row, resource]:
            return False
    for device in range(nodes.device_free.shape[1]):
        if state[1 + 2 * resources + device] != nodes.device_free[row, device]:
            return False
    return True


@inner
def _keep_state(nodes, row, state):
    resources = nodes.allocatable.shape[1]
    state[0] = nodes.model[row]
    for resource in range(resources):
        state[1 + resource] = nodes.requested[row, resource]
        state[1 + resources + resource] = nodes.allocatable[row, resource]
    for device in range(nodes.device_free.shape[1]):
        state[1 + 2 * resources + device] = nodes.device_free[row, device]


@inner
def _change_members(cache, at, group, change, room):
    """A node joins the group, or one leaves it."""
    cache.members[at, group] += change
    cache.total[at] += change * cache.size[at, group]
    for level in range(cache.size[at, group]):
        lane = cache.lanes[at, group, level]
        cache.weight[at, lane // LANES, lane % LANES] = cache.members[at, group]
        room.stale[lane // LANES] = True


@inner
def _leave(cache, at, group, room):
    """A node leaves the group, which ends with its last member."""
    _change_members(cache, at, group, -1, room)
    if cache.members[at, group] > 0:
        return
    for level in range(cache.size[at, group]):
        lane = cache.lanes[at, group, level]
        block = lane // LANES
        cache.score[at, block, lane % LANES] = NO_CANDIDATE
        if cache.own.shape[0] > 0:
            cache.embedding[block, at, lane % LANES, :] = NOTHING
        cache.occupied[at, block] -= 1
        cache.free_lanes[at, cache.used[at, LANES_FREE]] = lane
        cache.used[at, LANES_FREE] += 1
    cache.free_groups[at, cache.used[at, GROUPS_FREE]] = group
    cache.used[at, GROUPS_FREE] += 1


@inner
def _take(stack, used, ever, free):
    """A number that is free: the last that was given back, else a new one."""
    if used[free] > 0:
        used[free] -= 1
        return int(stack[used[free]])
    used[ever] += 1
    return int(used[ever] - 1)


@inner
def _found(cache, network, nodes, request, at, row, room, tables):
    """Found a group, still without members, for nodes in the state of this one; returns it."""
    group = _take(cache.free_groups[at], cache.used[at], GROUPS, GROUPS_FREE)
    _keep_state(nodes, row, cache.state[at, group])
    shares = shares_device(request)
    tightest = tightest_device(nodes, request, row) if shares else ANY_DEVICE
    size = 0
    for index in range(-1, nodes.device_free.shape[1] if shares else 0):
        if index >= 0 and not is_alternative(nodes, request, row, index, tightest):
            continue
        device = tightest if index < 0 else index
        lane = _take(cache.free_lanes[at], cache.used[at], LANES_USED, LANES_FREE)
        if lane % LANES == 0 and lane == cache.used[at, LANES_USED] - 1:
            cache.score[at, lane // LANES, :] = NO_CANDIDATE
        cache.lanes[at, group, size] = lane
        cache.lane_group[at, lane] = group
        cache.device[at, lane] = device
        cache.occupied[at, lane // LANES] += 1
        size += 1
        describe(nodes, request, Candidates(row, device), tables, room.after, room.features)
        _embed(cache, network, at, lane // LANES, lane % LANES, room)
    cache.size[at, group] = size
    return group


@inner
def _embed(cache, network, at, block, lane, room):
    """Evaluate what depends on the candidate in `room.features` alone."""
    _layer(room.features, network.embed, network.embed_bias, room.hidden)
    _rectify(room.hidden)
    _layer(room.hidden, network.embed_again, network.embed_again_bias, room.embedded)
    _rectify(room.embedded)
    _layer(room.embedded, network.own, network.own_bias, room.result)
    if cache.own.shape[0] == 0:
        cache.score[at, block, lane] = _rectified_sum(network, room.result)
        return
    cache.score[at, block, lane] = network.score_bias[0]
    for unit in range(room.result.shape[0]):
        cache.own[block, at, unit, lane] = room.result[unit]
        cache.embedding[block, at, lane, unit] = room.embedded[unit]


@inner
def _sum_up(embedding, weight, sums, maxima):
    """Sums and maxima of a block; embeddings are never below 0, which is what lanes without candidate hold."""
    for unit in range(sums.shape[0]):
        sums[unit] = NOTHING
        maxima[unit] = NOTHING
    for lane in range(0, LANES, AT_ONCE):
        for unit in range(sums.shape[0]):
            first, second = embedding[lane, unit], embedding[lane + 1, unit]
            third, fourth = embedding[lane + 2, unit], embedding[lane + 3, unit]
            sums[unit] += (
                weight[lane] * first + weight[lane + 1] * second + weight[lane + 2] * third + weight[lane + 3] * fourth
            )
            larger = first if first > second else second
            other = third if third > fourth else fourth
            larger = larger if larger > other else other
            maxima[unit] = larger if larger > maxima[unit] else maxima[unit]


@inner
def _take_in(sums, maxima, pooled):
    """Add sums and maxima of some candidates to those of others."""
    hidden = sums.shape[0]
    for unit in range(hidden):
        pooled[unit] += sums[unit]
        if maxima[unit] > pooled[hidden + unit]:
            pooled[hidden + unit] = maxima[unit]


@inner
def _context_of(network, pooled, candidates, context):
    """The context of so many candidates from the sums and maxima of their embeddings."""
    share = np.float32(1.0 / candidates)
    for unit in range(context.shape[0]):
        pooled[unit] *= share
    _layer(pooled, network.context, network.context_bias, context)


@entry
def choose(cache, network, at, room):
    """The best candidate of all that there are, of equals the one that the extender would take (`_key`).

    Returns:
        node and device.
    """
    blocks = (cache.used[at, LANES_USED] + LANES - 1) // LANES
    with_context = cache.own.shape[0] > 0
    if with_context:
        room.pooled[:] = NOTHING
        for block in range(blocks):
            if cache.occupied[at, block] > 0:
                _take_in(cache.sums[at, block], cache.maxima[at, block], room.pooled)
        _context_of(network, room.pooled, cache.total[at], room.hidden)
    best = NO_CANDIDATE
    for block in range(blocks):
        if cache.occupied[at, block] == 0:
            continue
        if with_context:
            _score_block(cache.own[block, at], cache.score[at, block], network.score, room.hidden, room.scores[block])
        else:
            for lane in range(LANES):
                room.scores[block, lane] = cache.score[at, block, lane]
        for lane in range(LANES):
            best = max(best, room.scores[block, lane])
    chosen, chosen_device, chosen_key = NOWHERE, ANY_DEVICE, -1
    for block in range(blocks):
        if cache.occupied[at, block] == 0:
            continue
        for within in range(LANES):
            if room.scores[block, within] == best:
                lane = block * LANES + within
                group = cache.lane_group[at, lane]
                row = 0
                while cache.group[at, row] != group:
                    row += 1
                device = cache.device[at, lane]
                key = _key(cache.lanes[at, group, 0] != lane, device, row)
                if chosen == NOWHERE or key < chosen_key:
                    chosen, chosen_device, chosen_key = row, device, key
    return chosen, int(chosen_device)


@inner
def _key(alternative, device, row):
    """What decides among equal scores, as in `extender.decision.rank`: the row, the tightest device, the device."""
    return (row << DEVICE_BITS) + (1 + device if alternative else 0)


@inner
def _score_block(own, bias, weights, context, scores):
    """The scores of a block in this context; (H, LANES), (LANES,), (H,), (H,) -> (LANES,)."""
    for lane in range(LANES):
        scores[lane] = bias[lane]
    for start in range(0, weights.shape[0], AT_ONCE):
        first, second, third, fourth = context[start], context[start + 1], context[start + 2], context[start + 3]
        for lane in range(LANES):
            a, b = own[start, lane] + first, own[start + 1, lane] + second
            c, d = own[start + 2, lane] + third, own[start + 3, lane] + fourth
            scores[lane] += (
                weights[start] * (a if a > NOTHING else NOTHING)
                + weights[start + 1] * (b if b > NOTHING else NOTHING)
                + weights[start + 2] * (c if c > NOTHING else NOTHING)
                + weights[start + 3] * (d if d > NOTHING else NOTHING)
            )


@entry
def choose_among(cache, network, at, room, found):
    """`choose`, where only the first `found` nodes of `room.rows` may be taken."""
    with_context = cache.own.shape[0] > 0
    if with_context:
        room.pooled[:] = NOTHING
        candidates = 0
        for position in range(found):
            group = cache.group[at, room.rows[position]]
            candidates += cache.size[at, group]
            for level in range(cache.size[at, group]):
                lane = cache.lanes[at, group, level]
                embedding = cache.embedding[lane // LANES, at, lane % LANES]
                _take_in(embedding, embedding, room.pooled)
        _context_of(network, room.pooled, candidates, room.hidden)
    best, chosen, chosen_device, chosen_key = NO_CANDIDATE, NOWHERE, ANY_DEVICE, -1
    for position in range(found):
        row = room.rows[position]
        group = cache.group[at, row]
        for level in range(cache.size[at, group]):
            lane = cache.lanes[at, group, level]
            score = cache.score[at, lane // LANES, lane % LANES]
            if with_context:
                for unit in range(room.result.shape[0]):
                    room.result[unit] = cache.own[lane // LANES, at, unit, lane % LANES] + room.hidden[unit]
                score = _rectified_sum(network, room.result)
            device = cache.device[at, lane]
            key = _key(level > 0, device, row)
            if chosen == NOWHERE or score > best or (score == best and key < chosen_key):
                best, chosen, chosen_device, chosen_key = score, row, device, key
    return chosen, int(chosen_device)
