"""Policies as they are served: what finds a pod's candidates and scores them before a deadline.

A hand-written rule is a few expressions over arrays and is computed where it is asked. What is in a policy file is
somebody else's, so its graph runs in a thread that can be given up (`worker`).
"""

import time
from collections.abc import Sequence

import numpy as np

from extender.placement import Candidates, IntArray, NodeArrays, PodRequest, list_candidates, shares_device
from extender.policies.base import NodeView, Policy, Rater, Scored, WorkloadAware
from extender.policies.kept import KeptInputs, UnpreparedError
from extender.policies.onnx import Described, OnnxPolicy, score_in_time
from extender.policies.worker import Worker
from extender.typical import Records


class DirectRater:
    """A policy that is trusted to answer in time."""

    def __init__(self, policy: Policy) -> None:
        self.name = policy.name
        self._policy = policy

    def rate(self, view: NodeView, pod: PodRequest, rows: IntArray, until: float) -> Scored:
        """See `base.Rater`."""
        candidates = candidates_on(view.nodes, pod, rows)
        if len(candidates.rows) == 0:
            return Scored(candidates, np.empty(0))
        return Scored(candidates, self._policy.scores(view.nodes, pod, candidates))

    def refresh(self, view: NodeView, pod: PodRequest, rows: IntArray) -> None:
        """See `base.Rater`."""

    def described(self, chosen: Candidates) -> None:
        """See `base.Rater`."""
        return None

    def for_workload(self, models: Sequence[str], recent: Records = ()) -> "DirectRater":
        """See `base.Rater`."""
        policy = self._policy
        return DirectRater(policy.for_workload(models, recent)) if isinstance(policy, WorkloadAware) else self


class FileRater:
    """A policy file, whose graph may take any time."""

    def __init__(self, policy: OnnxPolicy, worker: Worker) -> None:
        self.name = policy.name
        self._policy = policy
        self._worker = worker
        self._inputs = KeptInputs(policy)

    def rate(self, view: NodeView, pod: PodRequest, rows: IntArray, until: float) -> Scored:
        """See `base.Rater`."""
        if self._policy.weighs:
            scored = self._inputs.score(
                view, pod, rows, until, lambda inputs: score_in_time(self._policy, inputs, self._worker, until)
            )
            if scored is not None:
                return scored
        candidates, inputs = self._inputs.look(view, pod, rows, until)
        if len(candidates.rows) == 0:
            return Scored(candidates, np.empty(0))
        if time.perf_counter() >= until:
            raise UnpreparedError("describing the nodes left no time to score them")
        return Scored(candidates, score_in_time(self._policy, inputs, self._worker, until))

    def refresh(self, view: NodeView, pod: PodRequest, rows: IntArray) -> None:
        """See `base.Rater`."""
        self._inputs.refresh(view, pod, rows)

    def described(self, chosen: Candidates) -> Described:
        """See `base.Rater`."""
        return Described(self._policy, self._inputs.told_of(chosen))

    def for_workload(self, models: Sequence[str], recent: Records = ()) -> "FileRater":
        """See `base.Rater`."""
        return FileRater(self._policy.for_workload(models, recent), self._worker)


def rater_of(policy: Policy, worker: Worker) -> Rater:
    """How the policy is served."""
    return FileRater(policy, worker) if isinstance(policy, OnnxPolicy) else DirectRater(policy)


def candidates_on(nodes: NodeArrays, pod: PodRequest, rows: IntArray) -> Candidates:
    """All candidates on these rows."""
    devices = nodes.device_free.shape[1] if shares_device(pod) else 1
    return list_candidates(nodes, pod, rows, rows.shape[0] * max(devices, 1))
