"""The lines of the decision log: a decision, and later what became of the pod.

Each is a JSON object that says by `kind` what it is. Training reads them back (`training.workloads.recorded`).
"""

import msgspec


class PodRecord(msgspec.Struct, gc=False):
    """What a pod wants, and when that became known.

    Attributes:
        time: Unix seconds.
        namespace: the pod's.
        pod: its name.
        uid: its uid.
        pod_class: "cpu", "share" (of a GPU) or "gpu-N" (whole GPUs).
        request: what it asks for, a number per resource of the policy, in base units.
        gpu_count: devices it asks for.
        gpu_milli: thousandths of each.
        priority: the pod's priority value.
        expected_seconds: how long it says it will run, 0 if it does not say.
    """

    time: float
    namespace: str
    pod: str
    uid: str
    pod_class: str
    request: list[int]
    gpu_count: int
    gpu_milli: int
    priority: int
    expected_seconds: float


class DecisionRecord(PodRecord, gc=False, tag_field="kind", tag="decision", omit_defaults=True):
    """One answer to prioritize, or what a policy on trial would have answered.

    Attributes:
        candidates: how many candidates were scored.
        features: digest of what the features of the ranked nodes are computed from (`features_digest`), empty for an
            answer without opinion.
        chosen: the node ranked first, null for an answer without opinion.
        propensity: with which probability the policy ranks this node first; 1 for policies that draw no lots.
        rung: what gave the answer.
        scores: [[node, score], ...], best first, at most ten.
        policy: SHA-256 of the policy file, or the heuristic's name.
        latency: seconds from the complete request to the answer.
        tried: whether nobody was answered that: what a candidate in shadow thinks, beside the record of the answer.
            Left out of the line where it is false.
    """

    candidates: int
    features: str
    chosen: str | None
    propensity: float
    rung: str
    scores: list[tuple[str, float]]
    policy: str
    latency: float
    tried: bool = False


class UnaskedRecord(PodRecord, gc=False, tag_field="kind", tag="unasked"):
    """A pod is on a node, and nobody had asked about it: kube-scheduler does not where a single node is feasible.

    Its time is when the watch told so.
    """


class BoundRecord(msgspec.Struct, gc=False, tag_field="kind", tag="bound"):
    """A pod that was decided on, or that nobody asked about, is on a node.

    Attributes:
        time: when the watch told so, Unix seconds.
        uid: the pod's.
        node: where it is.
        wait: seconds since the pod was created, which is known to the second; -1 if that is not known.
    """

    time: float
    uid: str
    node: str
    wait: float


class EndedRecord(msgspec.Struct, gc=False, tag_field="kind", tag="ended"):
    """A pod of which there are such records has ended, or was deleted.

    Attributes:
        time: when the watch told so, Unix seconds.
        uid: the pod's.
        node: where it was; empty if it never was on one.
        duration: seconds since its kubelet started it, or since it was on the node; -1 if it never was.
    """

    time: float
    uid: str
    node: str
    duration: float


Record = DecisionRecord | UnaskedRecord | BoundRecord | EndedRecord
