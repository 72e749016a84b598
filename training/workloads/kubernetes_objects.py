"""Nodes and pods of a real cluster with what a trace needs of them, and files full of these.

The extender's own `wire` objects have what requests are made of and where a pod may run; here they get times and
owners. `kubectl` makes a population of them. Source: k8s.io/api/core/v1/types.go.
"""

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
from msgspec import Struct, field

from extender import wire
from training.workloads.tables import TraceError

Decoded = TypeVar("Decoded")
Time = Annotated[datetime, msgspec.Meta(tz=True)]


class OwnerReference(Struct, rename="camel", gc=False):
    """metav1.OwnerReference."""

    kind: str = ""


class RecordedMeta(wire.ObjectMeta, rename="camel", gc=False):
    """metav1.ObjectMeta with what a trace needs of it."""

    labels: dict[str, str] | None = None
    creation_timestamp: Time | None = None
    owner_references: list[OwnerReference] | None = None


class Terminated(Struct, rename="camel", gc=False):
    """v1.ContainerStateTerminated."""

    finished_at: Time | None = None


class ContainerState(Struct, rename="camel", gc=False):
    """v1.ContainerState."""

    terminated: Terminated | None = None


class RecordedContainerStatus(wire.ContainerStatus, rename="camel", gc=False):
    """v1.ContainerStatus with its end."""

    state: ContainerState = field(default_factory=ContainerState)


class RecordedPodStatus(wire.PodStatus, rename="camel", gc=False):
    """v1.PodStatus with its times."""

    start_time: Time | None = None
    container_statuses: list[RecordedContainerStatus] | None = None


class RecordedPod(wire.WatchedPod, rename="camel", gc=False):
    """v1.Pod as it was recorded."""

    metadata: RecordedMeta = field(default_factory=RecordedMeta)
    status: RecordedPodStatus = field(default_factory=RecordedPodStatus)


class RecordedNode(wire.Node, rename="camel", gc=False):
    """v1.Node as it was recorded."""

    metadata: RecordedMeta = field(default_factory=RecordedMeta)


class RecordedList(Struct, rename="camel", gc=False):
    """v1.List of whatever kinds."""

    items: list[msgspec.Raw]


def read_objects(paths: Sequence[Path]) -> tuple[list[tuple[str, RecordedNode]], list[tuple[str, RecordedPod]]]:
    """Read nodes and pods, each with where it was found; raises TraceError."""
    nodes, pods = [], []
    for path in paths:
        for index, raw in enumerate(_decode(path, "", read_bytes(path), RecordedList).items):
            where = f"{path}: items[{index}]"
            kind = _decode(path, where, raw, wire.AnyObject).kind
            if kind == "Node":
                node = _decode(path, where, raw, RecordedNode)
                nodes.append((f"{where} (node {node.metadata.name})", node))
            elif kind == "Pod":
                pod = _decode(path, where, raw, RecordedPod)
                pods.append((f"{where} (pod {pod.metadata.namespace}/{pod.metadata.name})", pod))
            else:
                raise TraceError(f"{where}.kind: {kind!r} where Node or Pod was expected")
    return nodes, pods


def read_bytes(path: Path) -> bytes:
    """Read a file; raises TraceError."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise TraceError(f"{path}: no such file") from None
    except OSError as error:
        raise TraceError(f"{path}: cannot be read: {error.strerror}") from error


def _decode(path: Path, where: str, raw: bytes | msgspec.Raw, kind: type[Decoded]) -> Decoded:
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.ValidationError as error:
        raise TraceError(f"{where or path}: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise TraceError(f"{path}{_line_of_error(bytes(raw))}: {error}") from error


def _line_of_error(content: bytes) -> str:
    """Line and column of what is wrong with JSON, `:3:14`; empty where that cannot be told."""
    try:
        json.loads(content)
    except json.JSONDecodeError as error:
        return f":{error.lineno}:{error.colno}"
    except (UnicodeDecodeError, RecursionError):
        return ""
    return ""
