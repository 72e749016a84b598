"""Why a pod was sent there: the last answers, with what the policy was told of the nodes in them.

`scoring` keeps them as it answers, GET /explain shows one, and `stowage-extender explain` prints it for people.
"""

from collections import OrderedDict
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
import numpy as np

from extender.cluster.reservations import Reservation
from extender.policies.contributions import contributions
from extender.policies.onnx import Described

REMEMBERED_AT_MOST = 1000  # some 5 kB each
NOT_ASKED = "not_asked"  # in the place of a rung: kube-scheduler has not asked to rank nodes for the pod
WITHHELD_AT_MOST = 10  # nodes that are named
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


class Withheld(NamedTuple):
    """Nodes that `filter` kept off a pod because they are reserved for others.

    Attributes:
        time: Unix seconds.
        uid: the pod's.
        reasons: by node.
    """

    time: float
    uid: str
    reasons: dict[str, str]


class Explanations:
    """The last answers, by the pod's namespace/name."""

    def __init__(self) -> None:
        self._answers: OrderedDict[str, Explained] = OrderedDict()
        self._withheld: OrderedDict[str, Withheld] = OrderedDict()

    def remember(self, answer: Explained) -> None:
        """Keep an answer; one for the same pod takes the place of an earlier one."""
        _keep(self._answers, answer.pod, answer)

    def withhold(self, pod: str, withheld: Withheld) -> None:
        """Keep what was withheld from the pod when it was last asked for; nothing as well."""
        if withheld.reasons:
            _keep(self._withheld, pod, withheld)
        else:
            self._withheld.pop(pod, None)

    def of(self, pod: str, reservation: Reservation | None = None) -> dict[str, Any] | None:
        """The explanation of the pod's last answer; None if nothing is known of the pod, or not any more.

        Args:
            pod: namespace/name.
            reservation: what the pod has reserved. One that waits may not have been asked about.
        """
        answer, withheld = self._answers.get(pod), self._withheld.get(pod)
        if answer is None:
            if reservation is not None:
                time, uid = reservation.made, reservation.uid
            elif withheld is not None:
                time, uid = withheld.time, withheld.uid
            else:
                return None
            answer = Explained(time, pod, uid, NOT_ASKED, False, "", 0, [], [], None)
        reasons = withheld.reasons if withheld is not None else {}
        return describe(answer) | {
            "reservation": msgspec.to_builtins(reservation),
            "withheld": [{"node": node, "reason": reason} for node, reason in list(reasons.items())[:WITHHELD_AT_MOST]],
            "withheld_nodes": len(reasons),
        }


def _keep(remembered: OrderedDict[str, Any], pod: str, entry: Any) -> None:
    remembered[pod] = entry
    remembered.move_to_end(pod)
    if len(remembered) > REMEMBERED_AT_MOST:
        remembered.popitem(last=False)


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
    pod = f"{shown['pod']} ({shown['uid']})"
    if shown["rung"] == NOT_ASKED:
        lines = [f"{pod}: kube-scheduler has not asked to rank nodes for it, or too long ago"]
    else:
        told = "kube-scheduler was told" if shown["told"] else "kube-scheduler was not told"
        lines = [
            f"{pod}: {shown['rung']}, {shown['candidates']} candidates, {told}",
            f"policy {shown['policy']}",
            *(f"failed: {reason}" for reason in shown["failures"]),
        ]
        if not shown["nodes"]:
            lines.append("no node was ranked")
    lines += _of_reservations(shown)
    for node in shown["nodes"]:
        lines.append(f"{node['rank']:>2}. {node['name']}  score {node['score']:.6g}  priority {node['priority']}")
        for feature in node["features"][:SHOWN_AT_MOST]:
            if feature["contribution"]:
                lines.append(f"      {feature['contribution']:+10.4f}  {feature['name']} = {feature['value']:.4g}")
    if shown["manner"] == "occlusion":
        lines.append("Contributions: how much higher the score is than with the mean of these nodes' values.")
    return "\n".join(lines) + "\n"


def _of_reservations(shown: dict[str, Any]) -> list[str]:
    lines = []
    if (kept := shown["reservation"]) is not None:
        lines.append(
            f"has reserved {kept['node']} for its {kept['gpus']} GPUs: believed to be free from "
            f"{_clock(kept['until'])}, lapses {_clock(kept['expires'])}"
        )
    if shown["withheld_nodes"]:
        lines.append(f"nodes kept off it when it was last filtered: {shown['withheld_nodes']}")
        lines += [f"      {each['node']}: {each['reason']}" for each in shown["withheld"]]
    return lines


def _clock(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).isoformat(sep=" ", timespec="seconds")
