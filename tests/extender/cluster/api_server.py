"""An API server in memory: one kind of object, its versions, pages and watches, and whatever can go wrong with them."""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.extender.objects import Document


class FakeApiServer:
    """Holds the objects of one kind and their history.

    Attributes:
        oldest: the oldest version that a watch can still begin from.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.version = 100
        self.oldest = 100
        self.objects: dict[str, Document] = {}
        self._history: list[tuple[int, str, Document]] = []
        self._snapshots: dict[str, tuple[int, list[Document]]] = {}

    def put(self, name: str, made: Document) -> None:
        """Create or change an object."""
        self.version += 1
        type_ = "MODIFIED" if name in self.objects else "ADDED"
        self.objects[name] = _at(made, self.version)
        self._history.append((self.version, type_, self.objects[name]))

    def delete(self, name: str) -> None:
        """Delete an object, if it exists."""
        if name in self.objects:
            self.version += 1
            self._history.append((self.version, "DELETED", _at(self.objects.pop(name), self.version)))

    def forget_history(self) -> None:
        """Compact: watches and pages of older versions are answered with 410 from now on."""
        self.oldest = self.version
        self._snapshots.clear()

    def page(self, query: Mapping[str, str]) -> tuple[int, bytes]:
        """Answer a list; returns status and body."""
        limit = int(query["limit"])
        if "continue" in query:
            if query["continue"] not in self._snapshots:
                return 410, status(410, "The provided continue parameter is too old")
            version, rest = self._snapshots[query["continue"]]
        else:
            version, rest = self.version, list(self.objects.values())
        metadata: Document = {"resourceVersion": str(version)}
        if len(rest) > limit:
            token = f"{version}-{len(rest) - limit}"
            self._snapshots[token] = (version, rest[limit:])
            metadata["continue"] = token
        return 200, json.dumps({"kind": f"{self.kind}List", "metadata": metadata, "items": rest[:limit]}).encode()

    def watch(self, query: Mapping[str, str]) -> tuple[int, bytes]:
        """Answer a watch with what has happened since its version, and end it; returns status and body."""
        since = int(query["resourceVersion"])
        if since < self.oldest:
            return 410, status(410, "too old resource version")
        lines = [event(type_, made) for version, type_, made in self._history if version > since]
        bookmark = {"kind": self.kind, "metadata": {"resourceVersion": str(self.version)}}
        return 200, b"".join([*lines, event("BOOKMARK", bookmark)])


def event(type_: str, made: Document) -> bytes:
    """A line of a watch."""
    return json.dumps({"type": type_, "object": made}).encode() + b"\n"


def status(code: int, message: str) -> bytes:
    """The body of an error."""
    return json.dumps({"kind": "Status", "status": "Failure", "code": code, "message": message}).encode()


def query_of(target: str) -> dict[str, str]:
    """The query of a request line's target."""
    return {name: values[0] for name, values in parse_qs(urlsplit(target).query).items()}


def _at(made: Document, version: int) -> Document:
    metadata: dict[str, Any] = made["metadata"] | {"resourceVersion": str(version)}
    return made | {"metadata": metadata}
