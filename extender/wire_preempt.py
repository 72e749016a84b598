"""The JSON of the extender protocol's `preempt` verb.

kube-scheduler sends nodes with their victims, by uid when it is `nodeCacheCapable` and else as whole pods; the answer
is always by uid. Source: k8s.io/kube-scheduler/extender/v1/types.go.
"""

from typing import NamedTuple

import msgspec
from msgspec import Struct, field

from extender.wire import Pod, WireError


class Victims(NamedTuple):
    """Who would have to leave a node, and how many disruption budgets that would violate."""

    uids: list[str]
    violations: int


class PreemptionArgs(NamedTuple):
    """What kube-scheduler asks about: the pod, and the victims by node."""

    pod: Pod
    victims: dict[str, Victims]


class _MetaPod(Struct, gc=False):
    uid: str = field(default="", name="UID")


class _MetaVictims(Struct, rename="pascal", gc=False):
    pods: list[_MetaPod] | None = None
    num_pdb_violations: int = field(default=0, name="NumPDBViolations")


class _PodVictims(Struct, rename="pascal", gc=False):
    pods: list[Pod] | None = None
    num_pdb_violations: int = field(default=0, name="NumPDBViolations")


class _Args(Struct, rename="pascal", gc=False):
    pod: Pod | None = None
    node_name_to_victims: dict[str, _PodVictims | None] | None = None
    node_name_to_meta_victims: dict[str, _MetaVictims | None] | None = None


class _Result(Struct, rename="pascal", gc=False):
    node_name_to_meta_victims: dict[str, _MetaVictims]


_ARGS = msgspec.json.Decoder(_Args)
_ENCODER = msgspec.json.Encoder()


def decode_preemption(body: bytes) -> PreemptionArgs:
    """Decode the body of `preempt`.

    Raises:
        WireError: the body is no JSON, or no ExtenderPreemptionArgs with a pod and victims.
    """
    try:
        args = _ARGS.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:  # the last: nested without end
        raise WireError(f"expected an ExtenderPreemptionArgs object: {error}") from error
    if args.pod is None:
        raise WireError('ExtenderPreemptionArgs without "Pod": expected {"Pod": {...}, "NodeNameToMetaVictims": {...}}')
    by_uid, whole = args.node_name_to_meta_victims, args.node_name_to_victims
    if by_uid is None and whole is None:
        raise WireError('ExtenderPreemptionArgs with neither "NodeNameToMetaVictims" nor "NodeNameToVictims"')
    victims: dict[str, Victims] = {}
    for node, given in (whole or {}).items():
        if given is not None:
            victims[node] = Victims([pod.metadata.uid for pod in given.pods or ()], given.num_pdb_violations)
    for node, meta in (by_uid or {}).items():
        if meta is not None:
            victims[node] = Victims([pod.uid for pod in meta.pods or ()], meta.num_pdb_violations)
    return PreemptionArgs(args.pod, victims)


def encode_preemption(victims: dict[str, Victims]) -> bytes:
    """Encode the answer to `preempt`."""
    nodes = {
        node: _MetaVictims([_MetaPod(uid) for uid in chosen.uids], chosen.violations)
        for node, chosen in victims.items()
    }
    return _ENCODER.encode(_Result(nodes))
