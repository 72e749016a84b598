"""The same run in the simulator: the pods that really came, when they came, for as long as they really ran.

Two questions. Would the simulator's policy have chosen the same node, each time, in the state that the cluster really
was in (`decide_again`)? And if the simulator is let go by itself, do waits, allocation and stranded GPUs come out alike
(`simulate`)? It plays in seconds of the machine, so that kube-scheduler's backoff and its attempts are as long as they
really are, tries all waiting pods whenever one leaves, and the node samples of a scheduler without a policy file are
kube-scheduler's own.

The typical pods are those of the policy file, as the extender's are with `--typical-pods policy`; one that estimates
them from recent pods (its default) may decide differently where the trace is another than the policy was made for.
A scheduler without the extender adds up the thousandths of a node's GPUs; so does the simulated one then (`summed`).
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from extender.placement import ANY_DEVICE, IntArray, NodeArrays, empty_nodes, list_candidates, release
from extender.policies.base import Policy
from extender.policies.bundled import policy_path
from extender.policies.heuristics import RULES
from extender.policies.onnx import OnnxPolicy, load_policy
from extender.typical import typical_arrays
from training.replay.limits import Limits
from training.replay.measuring import Course, course_of_outcome, occupancy, put, request_of
from training.simulator.scheduling import Outcome, SchedulerArguments, play
from training.workloads.base import Workload

DEFAULT_POLICIES = {"stowage": "bundled:latency", "default-scheduler": "kube-scheduler-default"}
COURSES = 25
DECIDING_SECONDS = 0.25
"""Of the machine: a scheduler that has room for a pod binds it in less."""
LEAVES, OPENS, STARTS = range(3)  # of what happens in the same instant, in this order


@dataclass(frozen=True)
class Decisions:
    """The decisions of a run beside the policy's own.

    Attributes:
        devices: (P,) int64, the device that the policy shares on the node where the pod went; `ANY_DEVICE` where it
            shares none or would not have gone there.
        compared: how many pods that had a choice were placed while nobody waited.
        agreed: how many of them went where the policy ranks first.
        compared_waiting, agreed_waiting: the same while others waited.
    """

    devices: IntArray
    compared: int
    agreed: int
    compared_waiting: int
    agreed_waiting: int


def load(policy: str) -> str | Policy:
    """What the simulator plays for a scheduler: a rule by its name, or a policy file.

    Raises:
        PolicyError: there is no such file, or it holds no policy.
    """
    return policy if policy in RULES else load_policy(policy_path(policy))


def told(workload: Workload, policy: str | Policy) -> Workload:
    """The workload with the typical pods that the extender takes from its policy file."""
    if isinstance(policy, OnnxPolicy):
        return replace(workload, typical=typical_arrays(policy.metadata.typical_pods, workload.models))
    return workload


def summed(workload: Workload) -> Workload:
    """The workload for a scheduler that adds up thousandths of GPUs, and knows of no devices."""
    shapes = workload.shapes
    return replace(
        workload,
        shapes=replace(shapes, gpu_count=np.zeros_like(shapes.gpu_count), gpu_milli=np.zeros_like(shapes.gpu_milli)),
    )


def decide_again(workload: Workload, course: Course, policy: OnnxPolicy, window_seconds: float) -> Decisions:
    """Let the policy decide on every pod in the states that the cluster was in while the scheduler decided.

    When exactly it did is not known: after the news that the pod exists, before the news that it is bound, and not long
    before that. If the cluster changed in between, a decision agrees that is the policy's in one of these states.

    Args:
        workload: its pods in the order of the course.
        course: where they went, and when.
        policy: of the scheduler's extender.
        window_seconds: of the trace, how long before the news of a binding the decision can have been.
    """
    policy = policy.for_workload(workload.models)
    nodes = empty_nodes(workload.allocatable, workload.devices, workload.model)
    devices = np.full(len(course.arrival), ANY_DEVICE, np.int64)
    pods_on = np.zeros(len(workload.allocatable), np.int64)
    taken: dict[int, int] = {}
    open_ones: dict[int, _Opinion] = {}
    counts = np.zeros((2, 2), np.int64)

    def look(pod: int) -> None:
        open_ones[pod] = _opinion(nodes, pods_on, workload, policy, pod, int(course.node[pod]), open_ones[pod])

    for moment, kind, pod in _decisions(course, window_seconds):
        row, request = int(course.node[pod]), request_of(workload, pod)
        if kind == OPENS:
            open_ones[pod] = _Opinion(False, False, ANY_DEVICE)
            look(pod)
            continue
        if kind == LEAVES:
            release(nodes, request, row, taken.pop(pod))
            pods_on[row] -= 1
        else:
            opinion = open_ones.pop(pod)
            devices[pod] = opinion.device
            if opinion.had_choice:
                others = np.any((course.arrival < course.arrival[pod]) & ~(course.started < moment))
                counts[int(others)] += 1, int(opinion.agrees)
            taken[pod] = put(nodes, request, row, opinion.device)
            pods_on[row] += 1
        for waiting in open_ones:
            look(waiting)
    free, busy = counts
    return Decisions(devices, int(free[0]), int(free[1]), int(busy[0]), int(busy[1]))


class _Opinion(NamedTuple):
    """What a policy says of the node where a pod went: whether there was another, whether it is the first choice."""

    had_choice: bool
    agrees: bool
    device: int


def _opinion(
    nodes: NodeArrays,
    pods_on: IntArray,
    workload: Workload,
    policy: OnnxPolicy,
    pod: int,
    real: int,
    before: _Opinion,
) -> _Opinion:
    request = request_of(workload, pod)
    rows = np.flatnonzero(workload.admits[workload.shape[pod]] & (pods_on < workload.pod_limit))
    candidates = list_candidates(nodes, request, rows, nodes.device_free.size)
    here = np.flatnonzero(candidates.rows == real)
    if not len(here):
        return before
    scores = policy.scores(nodes, request, candidates)
    best = np.flatnonzero(scores == scores.max())
    had_choice = before.had_choice or len(np.unique(candidates.rows)) > 1
    agrees = bool(candidates.rows[best].min() == real)
    if before.agrees and not agrees:  # it was decided earlier
        return before._replace(had_choice=had_choice)
    return _Opinion(had_choice, agrees, int(candidates.devices[here[np.argmax(scores[here])]]))


def _decisions(course: Course, window_seconds: float) -> list[tuple[float, int, int]]:
    events = []
    for pod in np.flatnonzero(course.node >= 0).tolist():
        begun = float(course.started[pod])
        events.append((max(float(course.arrival[pod]), begun - window_seconds), OPENS, pod))
        events.append((begun, STARTS, pod))
        events.append((max(float(course.finished[pod]), np.nextafter(begun, np.inf)), LEAVES, pod))
    return sorted(events)


def simulate(
    workload: Workload,
    course: Course,
    policy: str | Policy,
    speed: float,
    seed: int,
    limits: Limits,
    courses: int = COURSES,
) -> list[Outcome]:
    """Play the pods of a course, from their arrivals on, by the simulator alone.

    What happened is one course of many: rules leave ties to chance, and a millisecond decides which of two waiting pods
    gets a node, and with it hours of waiting later on. So several are played, with other ties, and with pods that hold
    their nodes longer or shorter by up to the time that placing one takes on the machine.

    Args:
        workload: its pods in the order of the course.
        course: when they came, and how long they held their nodes.
        policy: a rule, or a policy.
        speed: seconds of the trace in a second.
        seed: decides among equals.
        limits: of the run, say how long attempts take.
        courses: how often it is played.

    Returns:
        in seconds of the trace, with the devices that the policy shared; a scheduler that knows of none has the
        tightest ones, as in the cluster.
    """
    ran = course.finished - course.started
    duration = np.where(np.isnan(ran), workload.duration, ran)
    real = replace(told(workload, policy), arrival=workload.arrival / speed, duration=duration / speed)
    # The profile of the chart asks about every node; kube-scheduler's own takes a sample of a large cluster.
    sample = 100 if isinstance(policy, OnnxPolicy) else 0
    arguments = SchedulerArguments(
        percentage_of_nodes_to_score=sample,
        futile_attempts=True,
        attempt_seconds=limits.attempt,
        failed_attempt_seconds=limits.failed_attempt,
        horizon_seconds=course.end / speed,
    )
    known = real if isinstance(policy, OnnxPolicy) else summed(real)
    scatter = np.nan_to_num(limits.placing_median)
    generator = np.random.default_rng(seed)
    played = []
    for number in range(courses):
        held = np.maximum(known.duration + generator.uniform(-scatter, scatter, len(known.duration)), 0.0)
        outcome = _in_trace(play(replace(known, duration=held), policy, arguments, seed + number), speed)
        if known is not real:
            outcome = occupancy(workload, course_of_outcome(workload, outcome)).outcome
        played.append(outcome)
    return played


def _in_trace(outcome: Outcome, speed: float) -> Outcome:
    """The outcome in seconds of the trace instead of the machine's; its integrals are over time as well."""
    timed = ("started", "finished", "waited", "times", "integrals")
    return replace(outcome, **{name: getattr(outcome, name) * speed for name in timed})
