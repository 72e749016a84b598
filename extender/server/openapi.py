"""What the HTTP server offers, as an OpenAPI document: for people, for generated clients and for tests that try it out.

What is particular to a path is written here; a path that is not named here is described by what holds for all.
"""

from collections.abc import Iterable
from typing import Any

Document = dict[str, Any]

_ERROR: Document = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
_REFUSALS = {
    "400": "the body is not what the verb expects",
    "413": "the body is too large",
    "422": "none of the nodes is known",
    "431": "the head is too large",
    "503": "there are too many connections",
}
_OF_BODIES = ("400", "413", "422")
_TEXTS: Document = {"type": "object", "additionalProperties": {"type": "string"}}
_POD: Document = {
    "type": "object",
    "description": "v1.Pod",
    "required": ["metadata"],
    "properties": {
        "metadata": {
            "type": "object",
            "required": ["name"],
            "properties": {
                "name": {"type": "string", "minLength": 1},
                "namespace": {"type": "string"},
                "uid": {"type": "string"},
                "annotations": _TEXTS,
            },
        },
        "spec": {"type": "object", "properties": {"priority": {"type": "integer", "format": "int32"}}},
    },
}
_NAMES: Document = {"type": "array", "items": {"type": "string"}}
_ARGS: Document = {
    "type": "object",
    "description": "ExtenderArgs of kube-scheduler with nodeCacheCapable",
    "required": ["Pod", "NodeNames"],
    "properties": {"Pod": _POD, "NodeNames": _NAMES},
}
_META_VICTIMS: Document = {
    "type": "object",
    "properties": {
        "Pods": {"type": "array", "items": {"type": "object", "properties": {"UID": {"type": "string"}}}},
        "NumPDBViolations": {"type": "integer", "format": "int64"},
    },
}
_VICTIMS: Document = {"type": "object", "additionalProperties": _META_VICTIMS}
_PRIORITIES: Document = {
    "type": "array",
    "maxItems": 10,
    "items": {
        "type": "object",
        "required": ["Host", "Score"],
        "properties": {"Host": {"type": "string"}, "Score": {"type": "integer", "minimum": 0, "maximum": 10}},
    },
}
_FILTERED: Document = {
    "type": "object",
    "required": ["NodeNames", "FailedNodes", "FailedAndUnresolvableNodes", "Error"],
    "properties": {
        "NodeNames": _NAMES | {"nullable": True},
        "FailedNodes": _TEXTS,
        "FailedAndUnresolvableNodes": _TEXTS,
        "Error": {"type": "string"},
    },
}
_PREEMPTION: Document = {
    "type": "object",
    "required": ["Pod", "NodeNameToMetaVictims"],
    "properties": {"Pod": _POD, "NodeNameToMetaVictims": _VICTIMS},
}
_PREEMPTED: Document = {
    "type": "object",
    "required": ["NodeNameToMetaVictims"],
    "properties": {"NodeNameToMetaVictims": _VICTIMS},
}
_OBJECT: Document = {"type": "object"}

# Path: summary, body, answer.
_KNOWN: dict[str, tuple[str, Document | None, Document]] = {
    "/prioritize": ("rank nodes for a pod, the best at 10, at most ten of them", _ARGS, _PRIORITIES),
    "/filter": ("leave out nodes without a device for the pod, or reserved for others", _ARGS, _FILTERED),
    "/preempt": ("say on which of the nodes offered pods may be preempted", _PREEMPTION, _PREEMPTED),
    "/healthz": ("whether the process answers", None, _OBJECT),
    "/readyz": ("whether nodes and pods have been listed", None, _OBJECT),
    "/state": ("what each node offers and has given, and the reservations", None, _OBJECT),
    "/openapi.json": ("this document", None, _OBJECT),
}


def describe(routes: Iterable[tuple[str, str]]) -> Document:
    """The document.

    Args:
        routes: path and method of everything that is served.
    """
    paths = {path: {method.lower(): _operation(path)} for path, method in routes}
    return {
        "openapi": "3.0.3",
        "info": {
            "title": "Stowage",
            "version": "1",
            "description": "A scheduler extender for kube-scheduler, and what operators ask it.",
        },
        "paths": paths,
    }


def _operation(path: str) -> Document:
    if path not in _KNOWN:
        return {"responses": {"default": {"description": "see the documentation"}}}
    summary, body, answer = _KNOWN[path]
    refused = {
        code: _response(reason, _ERROR) for code, reason in _REFUSALS.items() if body is not None or code > "430"
    }
    operation: Document = {"summary": summary, "responses": {"200": _response("the answer", answer)} | refused}
    if body is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    return operation


def _response(description: str, schema: Document) -> Document:
    return {"description": description, "content": {"application/json": {"schema": schema}}}
