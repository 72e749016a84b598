"""What the HTTP server offers, as an OpenAPI document: for people, for generated clients and for tests that try it out.

What is particular to a path is written here; a path that is not named here is described by what holds for all.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

from extender.telemetry.metrics import CONTENT_TYPE

Document = dict[str, Any]

_ERROR: Document = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
_REFUSALS = {
    "400": "the body or a parameter is not what is expected",
    "404": "there is no such thing",
    "409": "there was no policy before, or none was stepped down from",
    "413": "the body is too large",
    "422": "none of the nodes is known",
    "431": "the head is too large",
    "503": "there are too many connections, or nodes and pods have not been listed yet",
}
_FOR_ALL = ("431", "503")
_OF_BODIES = ("400", "413", "422", *_FOR_ALL)
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
_NUMBERS: Document = {"type": "array", "items": {"type": "integer", "format": "int64"}}
_TEXT: Document = {"type": "string"}
_NUMBER: Document = {"type": "number"}


def _all_of(**properties: Document) -> Document:
    """An object with just these properties."""
    return {
        "type": "object",
        "required": list(properties),
        "properties": properties,
        "additionalProperties": False,
    }


_EXPLAINED_NODE = _all_of(
    name=_TEXT,
    score=_NUMBER,
    priority={"type": "integer", "minimum": 1, "maximum": 10},
    rank={"type": "integer", "minimum": 1, "maximum": 10},
    features={"type": "array", "items": _all_of(name=_TEXT, value=_NUMBER, contribution=_NUMBER)},
)
_RESERVATION = _all_of(
    uid=_TEXT,
    namespace=_TEXT,
    pod=_TEXT,
    node=_TEXT,
    gpus={"type": "integer", "minimum": 1},
    made=_NUMBER | {"description": "Unix seconds"},
    until=_NUMBER | {"description": "when the node is believed to be free enough, Unix seconds"},
    expires=_NUMBER | {"description": "when it lapses at the latest, Unix seconds"},
)
_EXPLANATION = _all_of(
    time=_NUMBER | {"description": "Unix seconds"},
    pod=_TEXT | {"description": "NAMESPACE/NAME"},
    uid=_TEXT,
    rung=_TEXT | {"description": "what gave the answer; not_asked where there was none yet"},
    told={"type": "boolean", "description": "whether kube-scheduler was told it"},
    policy=_TEXT | {"description": "digest of the policy file, or the rule"},
    candidates={"type": "integer", "minimum": 0},
    nodes={"type": "array", "maxItems": 10, "items": _EXPLAINED_NODE},
    failures={"type": "array", "items": _TEXT, "description": "why policies further up gave no answer"},
    manner=_TEXT | {"nullable": True, "description": "how contributions were found, if there are any"},
    reservation=_RESERVATION | {"nullable": True, "description": "the node that is kept for the pod"},
    withheld={
        "type": "array",
        "maxItems": 10,
        "items": _all_of(node=_TEXT, reason=_TEXT),
        "description": "nodes that are kept for others, when the pod was last filtered",
    },
    withheld_nodes={"type": "integer", "minimum": 0, "description": "how many those are"},
)
_STEPPED_DOWN = _all_of(
    since=_NUMBER | {"description": "Unix seconds"},
    reason=_TEXT,
    answering=_TEXT | {"description": "the rule that answers in the policy's place"},
)
_OUTCOME = _all_of(
    file=_TEXT,
    standing=_TEXT | {"description": "whether the verdict counts, and what it says"},
    why=_TEXT | {"description": "the same in words"},
    step_down_after=_NUMBER | {"minimum": 0, "description": "seconds of verdicts that say worse; 0: never"},
    worse_seconds=_NUMBER | {"minimum": 0, "description": "since when all verdicts have said worse"},
    verdict=_OBJECT | {"nullable": True, "description": "what training.monitor wrote"},
)
_CANDIDATE = _all_of(
    name=_TEXT,
    digest=_TEXT | {"description": "empty where it could not be loaded"},
    stage={"type": "string", "enum": ["loading", "shadow", "canary", "withdrawn", "refused"]},
    percent=_NUMBER | {"minimum": 0, "maximum": 100, "description": "of the pods that it answers for now"},
    since=_NUMBER | {"description": "Unix seconds"},
    answered={"type": "integer", "minimum": 0},
    shadowed={"type": "integer", "minimum": 0},
    failures={"type": "integer", "minimum": 0},
    agreement={"type": "number", "nullable": True, "minimum": 0, "maximum": 1},
    last_refusal=_TEXT | {"description": "why it is not tried, or not as the file says; empty if it is"},
)
_SERVED_POLICY = _all_of(
    name=_TEXT,
    digest=_TEXT,
    since=_NUMBER | {"description": "Unix seconds"},
    before=_TEXT | {"nullable": True, "description": "digest of what a rollback brings back"},
    agreement_with_before={"type": "number", "nullable": True, "minimum": 0, "maximum": 1},
    last_refusal=_TEXT | {"description": "why the last file that was seen is not served; empty if it is"},
    stepped_down=_STEPPED_DOWN | {"nullable": True},
    outcome=_OUTCOME | {"nullable": True},
    candidate=_CANDIDATE | {"nullable": True, "description": "what is tried beside it"},
)
_STATE = _all_of(
    resources={"type": "array", "items": _TEXT},
    nodes={"type": "object", "additionalProperties": _all_of(allocatable=_NUMBERS, requested=_NUMBERS)},
    pods={"type": "integer", "minimum": 0},
    assumed={"type": "integer", "minimum": 0},
    reservations={"type": "array", "items": _RESERVATION},
)
_ASKED_POD: Document = {
    "name": "pod",
    "in": "query",
    "required": True,
    "description": "NAMESPACE/NAME",
    "schema": {"type": "string", "pattern": "^[^/]*/[^/]*$"},
    "example": "default/training-0",
}


class Described(NamedTuple):
    """A path.

    Attributes:
        summary: what it is for.
        answer: schema of what it answers with 200.
        body: schema of what it is asked, None where it needs nothing.
        parameters: of the query.
        refused: statuses of refusals.
        media: content type of the answer.
    """

    summary: str
    answer: Document
    body: Document | None = None
    parameters: tuple[Document, ...] = ()
    refused: tuple[str, ...] = _FOR_ALL
    media: str = "application/json"


_KNOWN = {
    "/prioritize": Described(
        "rank nodes for a pod, the best at 10, at most ten of them", _PRIORITIES, _ARGS, refused=_OF_BODIES
    ),
    "/filter": Described(
        "leave out nodes without a device for the pod, or reserved for others", _FILTERED, _ARGS, refused=_OF_BODIES
    ),
    "/preempt": Described(
        "say on which of the nodes offered pods may be preempted", _PREEMPTED, _PREEMPTION, refused=_OF_BODIES
    ),
    "/healthz": Described("whether the process answers", _all_of(alive={"type": "boolean"})),
    "/readyz": Described("whether nodes and pods have been listed", _all_of(ready={"type": "boolean"}, reason=_TEXT)),
    "/metrics": Described("what Prometheus reads", _TEXT, media=CONTENT_TYPE),
    "/state": Described("what each node offers and has given, and the reservations", _STATE),
    "/explain": Described(
        "the last answer for a pod: nodes, scores, and each feature's part in them",
        _EXPLANATION,
        parameters=(_ASKED_POD,),
        refused=("400", "404", *_FOR_ALL),
    ),
    "/policy": Described("which policy is in service", _SERVED_POLICY, refused=("404", *_FOR_ALL)),
    "/rollback": Described(
        "bring back the policy before, and say which one that is; what is sent along does not matter",
        _SERVED_POLICY,
        refused=("404", "409", "413", *_FOR_ALL),
    ),
    "/resume": Described(
        "put the policy back that was stepped down from; what is sent along does not matter",
        _SERVED_POLICY,
        refused=("404", "409", "413", *_FOR_ALL),
    ),
    "/openapi.json": Described("this document", _OBJECT),
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
    known = _KNOWN.get(path)
    if known is None:
        return {"responses": {"default": {"description": "see the documentation"}}}
    refused = {code: _response(_REFUSALS[code], _ERROR, "application/json") for code in known.refused}
    operation: Document = {
        "summary": known.summary,
        "responses": {"200": _response("the answer", known.answer, known.media)} | refused,
    }
    if known.parameters:
        operation["parameters"] = list(known.parameters)
    if known.body is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": known.body}}}
    return operation


def _response(description: str, schema: Document, media: str) -> Document:
    return {"description": description, "content": {media: {"schema": schema}}}
