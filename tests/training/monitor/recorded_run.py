"""A decision log of pods that were placed by a policy: played by the simulator, written by the extender's own log.

As kube-scheduler asks about a pod when there is a node for it, the decision stands in the log when the pod starts; that
it came before is told by how long it waited when it was bound.
"""

import math
from pathlib import Path

import numpy as np

from extender.policies.base import Policy
from extender.telemetry.decision_log import DecisionLog
from extender.telemetry.decision_records import BoundRecord, DecisionRecord, EndedRecord, Record
from training.simulator.scheduling import Outcome, SchedulerArguments, play
from training.workloads.base import Workload
from training.workloads.recorded import LOG_FILE


def record_run(
    folder: Path, workload: Workload, policy: str | Policy, digest: str, begin: float, answered: float = 1.0
) -> None:
    """Play it, and leave log and nodes in the folder.

    Args:
        folder: is made.
        workload: what comes.
        policy: what places it.
        digest: of the policy.
        begin: when the first second of the workload was, Unix seconds.
        answered: share of the pods that the policy answered for, the others were the fallback's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        f"node-{row},{cpu}m,{memory},{devices}"
        for row, ((cpu, memory, _), devices) in enumerate(
            zip(workload.allocatable[:, :3].tolist(), workload.devices.tolist(), strict=True)
        )
    ]
    (folder / "nodes.csv").write_text("\n".join(["name,cpu,memory,gpus", *rows]) + "\n")
    outcome = play(workload, policy, SchedulerArguments(), 0)
    end = float(workload.arrival[-1]) + 1.0
    generator = np.random.default_rng(0)
    records: list[Record] = []
    for pod in range(len(workload)):
        records += _of_pod(workload, outcome, pod, digest if generator.random() < answered else "", begin, end)
    log = DecisionLog(folder / LOG_FILE, 0.01, lambda result, count: None)
    log.start()
    for record in sorted(records, key=lambda each: each.time):
        log.append(record)
    log.stop()


def _of_pod(workload: Workload, outcome: Outcome, pod: int, digest: str, begin: float, end: float) -> list[Record]:
    started, finished = float(outcome.started[pod]), float(outcome.finished[pod])
    if math.isnan(started) or started > end:
        return []
    shapes, shape = workload.shapes, workload.shape[pod]
    uid, node = f"uid-{pod}", f"node-{outcome.node[pod]}"
    made: list[Record] = [
        DecisionRecord(
            time=begin + started,
            namespace="default",
            pod=f"pod-{pod}",
            uid=uid,
            pod_class="",
            request=shapes.request[shape].tolist(),
            gpu_count=int(shapes.gpu_count[shape]),
            gpu_milli=int(shapes.gpu_milli[shape]),
            priority=int(workload.priority[pod]),
            expected_seconds=0.0,
            candidates=2,
            features="",
            chosen=node,
            propensity=1.0,
            rung="policy" if digest else "heuristic",
            scores=[(node, 1.0)],
            policy=digest,
            latency=0.001,
        ),
        BoundRecord(begin + started, uid, node, begin + started - math.floor(begin + float(workload.arrival[pod]))),
    ]
    if finished <= end:
        made.append(EndedRecord(begin + finished, uid, node, round(finished - started)))
    return made
