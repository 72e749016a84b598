"""Why a pod was sent there: the last answers, with what the policy was told of the nodes in them.

`scoring` keeps them as it answers, GET /explain shows one, and `stowage-extender explain` prints it for people.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from extender.policies.contributions import contributions
from extender.policies.onnx import Described

REMEMBERED_AT_MOST = 1000  # some 5 kB each
SHOWN_AT_MOST = 8  # features a node, in the table for people


class Explained(NamedTuple):
    """An answer that may be asked about.

    Attributes:
        time: Unix seconds.
        pod: namespace/name.
        uid: the pod's.
        rung: what gave the answer.
        told: whether kube-scheduler was told it.
        policy: digest of the policy, or the rule's name.
        candidates: how many were scored.
        nodes: [(name, score, priority), ...], best first.
        failures: why policies further up gave none.
        described: what a policy file was told of these nodes; None where a rule or nothing decided.
    """

    time: float
    pod: str
    uid: str
    rung: str
    told: bool
    policy: str
    candidates: int
    nodes: Sequence[tuple[str, float, int]]
    failures: list[str]
    described: Described | None


class Explanations:
    """The last answers, by the pod's namespace/name and by its uid."""

    def __init__(self) -> None:
        self._answers: OrderedDict[str, Explained] = OrderedDict()

    def remember(self, answer: Explained) -> None:
        """Keep an answer; one for the same pod takes the place of an earlier one."""
        self._answers[answer.pod] = answer
        self._answers.move_to_end(answer.pod)
        if len(self._answers) > REMEMBERED_AT_MOST:
            self._answers.popitem(last=False)

    def of(self, pod: str) -> dict[str, Any] | None:
        """The explanation of the pod's last answer; None if it is not (any more) known.

        Args:
            pod: namespace/name.
        """
        answer = self._answers.get(pod)
        return None if answer is None else describe(answer)


def describe(answer: Explained) -> dict[str, Any]:
    """An answer with each feature's part in each score, largest parts first."""
    shown = answer._asdict()
    del shown["described"]
    nodes = [
        {"name": name, "score": score, "priority": priority, "rank": rank, "features": []}
        for rank, (name, score, priority) in enumerate(answer.nodes, 1)
    ]
    shown |= {"manner": None, "nodes": nodes}
    if answer.described is not None:
        found = contributions(answer.described.policy, answer.described.inputs)
        shown["manner"] = found.manner
        for node, values, parts in zip(nodes, found.values.tolist(), found.parts.tolist(), strict=True):
            order = np.argsort(-np.abs(parts), kind="stable").tolist()
            node["features"] = [
                {"name": found.names[at], "value": values[at], "contribution": parts[at]} for at in order
            ]
    return shown


def as_text(shown: dict[str, Any]) -> str:
    """An explanation as a table for people; takes what GET /explain answers."""
    told = "kube-scheduler was told" if shown["told"] else "kube-scheduler was not told"
    lines = [
        f"{shown['pod']} ({shown['uid']}): {shown['rung']}, {shown['candidates']} candidates, {told}",
        f"policy {shown['policy']}",
        *(f"failed: {reason}" for reason in shown["failures"]),
    ]
    if not shown["nodes"]:
        lines.append("no node was ranked")
    for node in shown["nodes"]:
        lines.append(f"{node['rank']:>2}. {node['name']}  score {node['score']:.6g}  priority {node['priority']}")
        for feature in node["features"][:SHOWN_AT_MOST]:
            if feature["contribution"]:
                lines.append(f"      {feature['contribution']:+10.4f}  {feature['name']} = {feature['value']:.4g}")
    if shown["manner"] == "occlusion":
        lines.append("Contributions: how much higher the score is than with the mean of these nodes' values.")
    return "\n".join(lines) + "\n"
