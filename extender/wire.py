"""The JSON that kube-scheduler and the API server speak, reduced to the fields that are read here.

The envelope of the extender protocol is PascalCase, because Go marshals it without tags; Pod and Node inside it are
the usual camelCase. Everything else in the project sees only the structs, and fields that nobody reads are skipped
while decoding. Requests arrive in `server.http`, watch events in `cluster.reflector`.

Source: k8s.io/kube-scheduler/extender/v1/types.go, k8s.io/api/core/v1/types.go.
"""

from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Struct, field

QuantityText = str | int | float
"""A quantity in JSON: a string as Go writes it, or the bare number that Kubernetes also reads."""

ResourceList = dict[str, QuantityText]

Int32 = Annotated[int, msgspec.Meta(ge=-(2**31), lt=2**31)]

Item = TypeVar("Item")
Decoded = TypeVar("Decoded")


class WireError(ValueError):
    """Bytes are not what the protocol says; the message names the place and what was expected."""


class ObjectMeta(Struct, rename="camel", gc=False):
    """metav1.ObjectMeta."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    annotations: dict[str, str] | None = None


class NodeMeta(ObjectMeta, rename="camel", gc=False):
    """metav1.ObjectMeta with what is read of a node's; nobody reads the labels of pods."""

    labels: dict[str, str] | None = None


class ResourceRequirements(Struct, rename="camel", gc=False):
    """v1.ResourceRequirements, of a container or of a whole pod."""

    requests: ResourceList | None = None
    limits: ResourceList | None = None


class Container(Struct, rename="camel", gc=False):
    """v1.Container; `restart_policy` "Always" makes an init container a sidecar."""

    name: str = ""
    resources: ResourceRequirements | None = None
    restart_policy: str | None = None


class PodSpec(Struct, rename="camel", gc=False):
    """v1.PodSpec."""

    containers: list[Container] | None = None
    init_containers: list[Container] | None = None
    overhead: ResourceList | None = None
    resources: ResourceRequirements | None = None
    node_name: str | None = None
    priority: Int32 | None = None


class SelectorRequirement(Struct, rename="camel", gc=False):
    """v1.NodeSelectorRequirement."""

    key: str
    operator: str
    values: list[str] | None = None


class SelectorTerm(Struct, rename="camel", gc=False):
    """v1.NodeSelectorTerm."""

    match_expressions: list[SelectorRequirement] | None = None
    match_fields: list[SelectorRequirement] | None = None


class NodeSelector(Struct, rename="camel", gc=False):
    """v1.NodeSelector."""

    node_selector_terms: list[SelectorTerm]


class NodeAffinity(Struct, rename={"required": "requiredDuringSchedulingIgnoredDuringExecution"}, gc=False):
    """v1.NodeAffinity, without preferences."""

    required: NodeSelector | None = None


class Affinity(Struct, rename="camel", gc=False):
    """v1.Affinity, without what is about other pods."""

    node_affinity: NodeAffinity | None = None


class PodToleration(Struct, rename="camel", gc=False):
    """v1.Toleration."""

    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""


class WatchedPodSpec(PodSpec, rename="camel", gc=False):
    """v1.PodSpec with who places the pod and where it may run."""

    scheduler_name: str = ""
    node_selector: dict[str, str] | None = None
    affinity: Affinity | None = None
    tolerations: list[PodToleration] | None = None


class PodCondition(Struct, rename="camel", gc=False):
    """v1.PodCondition."""

    type: str = ""
    reason: str = ""
    last_transition_time: str | None = None


class ContainerStatus(Struct, rename="camel", gc=False):
    """v1.ContainerStatus, as far as it tells what a container has got while its requests are changed in place."""

    name: str = ""
    resources: ResourceRequirements | None = None
    allocated_resources: ResourceList | None = None


class PodStatus(Struct, rename="camel", gc=False):
    """v1.PodStatus; `resources` and `allocated_resources` are of the pod as a whole."""

    phase: str = ""
    start_time: str | None = None
    conditions: list[PodCondition] | None = None
    container_statuses: list[ContainerStatus] | None = None
    init_container_statuses: list[ContainerStatus] | None = None
    resources: ResourceRequirements | None = None
    allocated_resources: ResourceList | None = None


class Pod(Struct, rename="camel", gc=False):
    """v1.Pod."""

    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    spec: PodSpec = field(default_factory=PodSpec)
    status: PodStatus = field(default_factory=PodStatus)


class WatchedPodMeta(ObjectMeta, rename="camel", gc=False):
    """metav1.ObjectMeta with what is read of a pod's."""

    creation_timestamp: str | None = None


class WatchedPod(Pod, rename="camel", gc=False):
    """v1.Pod as it is read from the API server; from a question of kube-scheduler's less is."""

    metadata: WatchedPodMeta = field(default_factory=WatchedPodMeta)
    spec: WatchedPodSpec = field(default_factory=WatchedPodSpec)


class NodeTaint(Struct, rename="camel", gc=False):
    """v1.Taint."""

    key: str
    effect: str
    value: str = ""


class NodeSpec(Struct, rename="camel", gc=False):
    """v1.NodeSpec."""

    taints: list[NodeTaint] | None = None
    unschedulable: bool = False


class NodeStatus(Struct, rename="camel", gc=False):
    """v1.NodeStatus."""

    allocatable: ResourceList | None = None


class Node(Struct, rename="camel", gc=False):
    """v1.Node."""

    metadata: NodeMeta = field(default_factory=NodeMeta)
    spec: NodeSpec = field(default_factory=NodeSpec)
    status: NodeStatus = field(default_factory=NodeStatus)


class ListMeta(Struct, rename={"resource_version": "resourceVersion", "continue_token": "continue"}, gc=False):
    """metav1.ListMeta; `continue_token` asks for the next page."""

    resource_version: str = ""
    continue_token: str = ""


class PodList(Struct, rename="camel", gc=False):
    """v1.PodList."""

    metadata: ListMeta = field(default_factory=ListMeta)
    items: list[WatchedPod] | None = None


class NodeList(Struct, rename="camel", gc=False):
    """v1.NodeList."""

    metadata: ListMeta = field(default_factory=ListMeta)
    items: list[Node] | None = None


class WatchEvent(Struct, rename="camel", gc=False):
    """metav1.WatchEvent; `object` is decoded by whoever knows its kind."""

    type: str
    object: msgspec.Raw


class Status(Struct, rename="camel", gc=False):
    """metav1.Status: why the API server refused."""

    code: int = 0
    reason: str = ""
    message: str = ""


class AnyObject(Struct, rename="camel", gc=False):
    """An item of a list of mixed kinds, as `kubectl get nodes,pods -o json` prints it."""

    kind: str = ""


class MixedList(Struct, rename="camel", gc=False):
    """v1.List."""

    kind: str = ""
    items: list[msgspec.Raw] | None = None


class _RawNodeList(Struct, rename="camel", gc=False):
    items: list[msgspec.Raw] | None = None


class _ExtenderArgs(Struct, rename="pascal", gc=False):
    pod: Pod | None = None
    nodes: _RawNodeList | None = None
    node_names: list[str] | None = None


class ExtenderArgs(Struct, gc=False):
    """What kube-scheduler asks about.

    Attributes:
        pod: the pod to be placed.
        node_names: the nodes it could go to.
        raw_nodes: the same nodes as JSON, when the request carried whole nodes (not `nodeCacheCapable`).
    """

    pod: Pod
    node_names: list[str]
    raw_nodes: list[msgspec.Raw] | None


class HostPriority(Struct, rename="pascal", gc=False):
    """A node and its priority, 0 .. 10; Go reads integers only."""

    host: str
    score: int


class _FilterResult(Struct, rename="pascal", gc=False):
    nodes: dict[str, Any] | None
    node_names: list[str] | None
    failed_nodes: dict[str, str]
    failed_and_unresolvable_nodes: dict[str, str]
    error: str


_ARGS = msgspec.json.Decoder(_ExtenderArgs)
_POD = msgspec.json.Decoder(WatchedPod)
_NODE = msgspec.json.Decoder(Node)
_POD_LIST = msgspec.json.Decoder(PodList)
_NODE_LIST = msgspec.json.Decoder(NodeList)
_EVENT = msgspec.json.Decoder(WatchEvent)
_STATUS = msgspec.json.Decoder(Status)
_MIXED = msgspec.json.Decoder(MixedList)
_ANY = msgspec.json.Decoder(AnyObject)
_ENCODER = msgspec.json.Encoder()
_PACKER = msgspec.msgpack.Encoder()


def decode_args(body: bytes) -> ExtenderArgs:
    """Decode the body of `prioritize` or `filter`.

    Raises:
        WireError: the body is no JSON, or no ExtenderArgs with a pod and nodes.
    """
    args = _decode(_ARGS, body, "an ExtenderArgs object")
    if args.pod is None:
        raise WireError('ExtenderArgs without "Pod": expected {"Pod": {...}, "NodeNames": [...]}')
    if args.node_names is not None:
        return ExtenderArgs(args.pod, args.node_names, None)
    if args.nodes is None:
        raise WireError('ExtenderArgs with neither "NodeNames" nor "Nodes": set nodeCacheCapable: true')
    raw_nodes = args.nodes.items or []
    names = [_decode(_NODE, raw, "a Node in Nodes.items").metadata.name for raw in raw_nodes]
    return ExtenderArgs(args.pod, names, raw_nodes)


def encode_priorities(priorities: list[HostPriority]) -> bytes:
    """Encode the answer to `prioritize`: a bare array."""
    return _ENCODER.encode(priorities)


def encode_filter_result(
    args: ExtenderArgs, kept: list[bool] | None, failed: dict[str, str], hopeless: dict[str, str]
) -> bytes:
    """Encode the answer to `filter`, with whole nodes if the request had them.

    Args:
        kept: for each of `args.node_names` whether it stays; None keeps all.
        failed: reason by name, of nodes left out.
        hopeless: the same, of those on which preemption would not help.
    """
    names: list[str] | None = args.node_names
    nodes: dict[str, Any] | None = None
    if args.raw_nodes is not None:
        names = None
        nodes = {"metadata": {}, "items": _kept(args.raw_nodes, kept)}
    else:
        names = _kept(args.node_names, kept)
    return _ENCODER.encode(_FilterResult(nodes, names, failed, hopeless, ""))


def encode_json(value: Any) -> bytes:
    """Encode plain data for answers that are ours alone (`/state`, errors, log lines)."""
    return _ENCODER.encode(value)


def decode_pod(raw: bytes | msgspec.Raw) -> WatchedPod:
    """Decode a pod; raises WireError."""
    return _decode(_POD, raw, "a Pod")


def pack_pod(pod: Pod) -> bytes:
    """Bytes that are the same for pods with the same fields, and for no others.

    Raises:
        OverflowError: a number has more than 64 bits.
    """
    return _PACKER.encode(pod)


def decode_node(raw: bytes | msgspec.Raw) -> Node:
    """Decode a node; raises WireError."""
    return _decode(_NODE, raw, "a Node")


def decode_pod_list(body: bytes) -> PodList:
    """Decode a page of pods; raises WireError."""
    return _decode(_POD_LIST, body, "a PodList")


def decode_node_list(body: bytes) -> NodeList:
    """Decode a page of nodes; raises WireError."""
    return _decode(_NODE_LIST, body, "a NodeList")


def decode_event(line: bytes) -> WatchEvent:
    """Decode one line of a watch; raises WireError."""
    return _decode(_EVENT, line, "a watch event")


def decode_status(raw: bytes | msgspec.Raw) -> Status:
    """Decode the API server's reason for a refusal; raises WireError."""
    return _decode(_STATUS, raw, "a Status")


def decode_mixed_list(body: bytes) -> tuple[list[Node], list[WatchedPod]]:
    """Decode a `List` of nodes and pods, as `kubectl get nodes,pods -A -o json` prints it.

    Raises:
        WireError: it is no List, or an item is neither a Node nor a Pod.
    """
    listed = _decode(_MIXED, body, "a List of nodes and pods")
    if listed.kind != "List":
        raise WireError(f'expected "kind": "List" (kubectl get nodes,pods -A -o json), got {listed.kind!r}')
    nodes: list[Node] = []
    pods: list[WatchedPod] = []
    for position, raw in enumerate(listed.items or []):
        kind = _decode(_ANY, raw, "an object").kind
        if kind == "Node":
            nodes.append(decode_node(raw))
        elif kind == "Pod":
            pods.append(decode_pod(raw))
        else:
            raise WireError(f"items[{position}] is of kind {kind!r}: expected Node or Pod")
    return nodes, pods


def _kept(items: list[Item], kept: list[bool] | None) -> list[Item]:
    if kept is None:
        return items
    return [item for item, stays in zip(items, kept, strict=True) if stays]


def _decode(decoder: msgspec.json.Decoder[Decoded], raw: bytes | msgspec.Raw, what: str) -> Decoded:
    try:
        return decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:  # the last: nested without end
        raise WireError(f"expected {what}: {error}") from error
