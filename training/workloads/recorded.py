"""What a cluster really asked: the extender's decision log as the pods of a workload.

A folder holds the log, `decisions.jsonl` with what was rotated away (`decisions.jsonl.1` and so on), and the nodes,
`nodes.json` (from kubectl) or `nodes.csv`. `python -m training.workloads.recorded FOLDER` says what is in it. There may
be several logs, as on the chart's volume, where each pod of the extender writes its own: all that end in `.jsonl` are
joined by time. A pod may be decided in one and end in another; what several replicas saw of it counts once.

The log was written for audits, so much of a workload is not in it:

- **Durations.** Those of pods that have ended while the extender ran are in the log: for how long they held their
  nodes, from the news of the binding to the news of the end, or, where the binding was missed, since the kubelet
  started them, which is known to the second. For the others a pod's own announcement (`expected_seconds`) is taken for
  its duration; where it made none, a duration has to be assumed, the same for all. The population's name says for how
  many.
- **Nodes.** Only the chosen one is named, so the nodes come from another file.
- **Where a pod may run.** Selectors, affinity and taints are not recorded: every node admits every pod.
- **Resources** beside CPU, memory and GPU have no names in the log and are left out.
- **Containers.** A pod is taken for one container where scores count requests that are missing.
- **Pods for which a single node was feasible** are there from their binding on, as kube-scheduler does not ask then;
  those that nobody asked about and that were never placed are not.

A pod that was asked about several times, because it could not be placed or bound, arrives with the first question;
one for which there was no room at first, so that nobody was asked, when it was created, which the news of its binding
tells to the second. What a candidate in shadow thought of it (`tried`) is no question.
"""

import argparse
import heapq
import json
import math
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np

from extender.closed_pipe import quiet_on_closed_pipe
from extender.placement import GPU, WHOLE_DEVICE_MILLI
from extender.telemetry.decision_log import rotated
from extender.telemetry.decision_records import (
    BoundRecord,
    DecisionRecord,
    EndedRecord,
    PodRecord,
    Record,
    UnaskedRecord,
)
from training.arguments import parse_positive
from training.workloads import csv_trace, kubectl
from training.workloads.arrivals import DAY_SECONDS
from training.workloads.assembly import NodeColumns, NodePrices, PodColumns, assemble, count_unplaceable
from training.workloads.base import BASE_RESOURCES, Population
from training.workloads.kubernetes_objects import read_bytes
from training.workloads.tables import LARGEST, TraceError

LOG_FILE = "decisions.jsonl"
LOG_NAME = re.compile(r"(.+\.jsonl)(\.\d+)?")  # with what rotation adds
FOLDER_HOLDS = (
    f"holds {LOG_FILE}, or the logs of several replicas (POD.jsonl, as on the chart's volume), what was rotated away, "
    "and the nodes: nodes.json (kubectl get nodes -o json) or nodes.csv"
)
ASSUMED_SECONDS = 3600.0
MIDDLE_OF_A_SECOND = 0.5
AT_ONCE_SECONDS = 1.25  # the second in which a pod was created, and what it may take until somebody is asked
EXAMPLES = """\
examples:
  python -m training.workloads.recorded /var/log/stowage
  python -m training.workloads.recorded recorded --assumed-seconds 300

Prints JSON. Exit codes: 0 done; 2 the folder cannot be read.
"""


def read_population(folder: Path, assumed_seconds: float, prices: NodePrices | None = None) -> Population:
    """Read a decision log.

    Args:
        folder: holds `decisions.jsonl`, or several logs, and `nodes.json` or `nodes.csv`.
        assumed_seconds: the duration of pods that announced none.
        prices: of nodes without a price.

    Raises:
        TraceError: a file is missing, or a line is no decision; the message names file, line and field.
    """
    path = named_after(folder)
    first: dict[str, PodRecord] = {}
    bound: dict[str, BoundRecord] = {}
    ran: dict[str, float] = {}
    torn = 0
    for record in read_records(folder):
        if record is None:
            torn += 1
        elif isinstance(record, PodRecord):
            if tells_of_pod(record):
                first.setdefault(record.uid or f"{record.namespace}/{record.pod}", record)
        elif isinstance(record, BoundRecord):
            bound[record.uid] = record
        elif record.duration > 0:
            ran[record.uid] = held(bound.get(record.uid), record)
    if not first:
        raise TraceError(f"{path}: there is no decision in it")
    records = list(first.values())
    measured = np.array([ran.get(uid, 0.0) for uid in first])
    time = np.array([came(record, bound.get(uid)) for uid, record in first.items()])
    announced = np.array([record.expected_seconds for record in records])
    gpu_count = np.array([record.gpu_count for record in records])
    gpu_milli = np.array([record.gpu_milli for record in records])
    request = np.array([record.request[: len(BASE_RESOURCES)] for record in records])
    request[:, GPU] = gpu_count * gpu_milli
    nodes = read_nodes(folder)
    lost = f" ({torn} torn lines skipped)" if torn else ""
    population = assemble(
        f"{path}, {len(nodes.devices)} nodes and {len(records)} pods of a decision log{lost}, "
        f"{int((measured > 0).sum())} of which have ended and {int(((announced == 0) & (measured == 0)).sum())} are "
        f"assumed to run {assumed_seconds:g} s",
        nodes,
        PodColumns(
            request,
            gpu_count,
            gpu_milli,
            duration=np.where(measured > 0, measured, np.where(announced > 0, announced, assumed_seconds)),
            priority=np.array([record.priority for record in records]),
            arrival=time - time.min() // DAY_SECONDS * DAY_SECONDS,
            expected=announced,
        ),
        prices=prices,
    )
    return count_unplaceable(population, path)


def tells_of_pod(record: Record) -> bool:
    """Whether the record says that a pod came, and what it wants; a candidate's opinion in shadow does not."""
    return isinstance(record, PodRecord) and not (isinstance(record, DecisionRecord) and record.tried)


def came(asked: PodRecord, bound: BoundRecord | None) -> float:
    """When a pod came, Unix seconds: when it was asked about or, if it was created before that, in that second."""
    if bound is None or bound.wait < 0:
        return asked.time
    created = bound.time - bound.wait  # in whole seconds: one that was asked about at once may seem to be this late
    return asked.time if asked.time < created + AT_ONCE_SECONDS else created + MIDDLE_OF_A_SECOND


def held(bound: BoundRecord | None, ended: EndedRecord) -> float:
    """Seconds that a pod held its node."""
    if bound is None or bound.node != ended.node or ended.time <= bound.time:
        return ended.duration
    return ended.time - bound.time


def read_nodes(folder: Path) -> NodeColumns:
    """The nodes that lie beside a log, with the base resources; raises TraceError."""
    if (folder / kubectl.NODE_FILE).is_file():
        return kubectl.read_nodes(folder / kubectl.NODE_FILE)
    if (folder / csv_trace.NODE_FILE).is_file():
        nodes, _, _ = csv_trace.read_nodes(folder / csv_trace.NODE_FILE)
        return NodeColumns(
            nodes.allocatable[:, : len(BASE_RESOURCES)], nodes.devices, nodes.model, nodes.pod_limit, nodes.price
        )
    raise TraceError(
        f"{folder}: a decision log does not tell the nodes: expected {kubectl.NODE_FILE} (kubectl get nodes -o json) "
        f"or {csv_trace.NODE_FILE} beside it"
    )


def files_of(path: Path) -> list[Path]:
    """The files of a log, the oldest first."""
    older: list[Path] = []
    while (name := rotated(path, len(older) + 1)).is_file():
        older.append(name)
    return [*reversed(older), *([path] if path.is_file() or not older else [])]


def logs_of(path: Path) -> list[Path]:
    """The logs in a folder, by name, or the one that a file is; where there is none, the one that was expected."""
    if not path.is_dir():
        return [path]
    names = {found[1] for file in path.iterdir() if (found := LOG_NAME.fullmatch(file.name)) and file.is_file()}
    return [path / name for name in sorted(names or {LOG_FILE})]


def named_after(folder: Path) -> Path:
    """What a message names: the log of a folder, or the folder where there are several."""
    logs = logs_of(folder)
    return logs[0] if len(logs) == 1 else folder


def read_records(path: Path) -> Iterator[Record | None]:
    """The records of a log, or of all logs in a folder; None for a line that a full disk or a crash has torn.

    Raises:
        TraceError: there is no such file, or a line is JSON but no record.
    """
    logs = logs_of(path)
    yield from _read_log(logs[0]) if len(logs) == 1 else _joined(logs)


def _read_log(log: Path) -> Iterator[Record | None]:
    for file in files_of(log):
        yield from _read_file(file)


def _joined(logs: Sequence[Path]) -> Iterator[Record | None]:
    """The records of several logs by time; that a pod came unasked, was bound and ended, once each."""
    known: set[tuple[str, str]] = set()
    for _, record in heapq.merge(*map(_timed, logs), key=lambda each: each[0]):
        if isinstance(record, PodRecord):
            # The replica that was not asked saw the pod on its node, and took it for one that nobody was asked about.
            if isinstance(record, UnaskedRecord) and ("came", record.uid) in known:
                continue
            known.add(("came", record.uid))
        elif isinstance(record, BoundRecord | EndedRecord):
            what = type(record).__name__, record.uid
            if what in known:
                continue
            known.add(what)
        yield record


def _timed(log: Path) -> Iterator[tuple[float, Record | None]]:
    """Records with their times; what is torn has that of the line before."""
    time = -math.inf
    for record in _read_log(log):
        time = time if record is None else record.time
        yield time, record


def _read_file(path: Path) -> Iterator[Record | None]:
    for number, line in enumerate(read_bytes(path).split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            record: Record = msgspec.json.decode(line, type=Record)
        except msgspec.ValidationError as error:
            raise TraceError(f"{path}:{number}: {error}") from error
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            yield None
            continue
        if problem := _problem(record):
            raise TraceError(f"{path}:{number}: {problem}")
        yield record


def _problem(record: Record) -> str:
    """What makes a record impossible, empty where nothing does."""
    if not isinstance(record, PodRecord):
        return "" if math.isfinite(record.time) else f"time: {record.time} where Unix seconds were expected"
    if len(record.request) < len(BASE_RESOURCES):
        return f"request: {record.request} where an amount of each of {', '.join(BASE_RESOURCES)} was expected"
    if any(not 0 <= amount <= LARGEST for amount in record.request):
        return f"request: {record.request} where amounts of 0 or more were expected"
    if not 0 <= record.time <= LARGEST:
        return f"time: {record.time} where Unix seconds were expected"
    if not (math.isfinite(record.expected_seconds) and 0 <= record.expected_seconds <= LARGEST):
        return f"expected_seconds: {record.expected_seconds} where 0 or more was expected"
    if not (0 <= record.gpu_count <= LARGEST // WHOLE_DEVICE_MILLI and 0 <= record.gpu_milli <= WHOLE_DEVICE_MILLI):
        given = f"{record.gpu_count} and {record.gpu_milli}"
        return f"gpu_count and gpu_milli: {given} where a number of GPUs and up to 1000 were expected"
    if not csv_trace.LOWEST_PRIORITY <= record.priority <= csv_trace.HIGHEST_PRIORITY:
        return f"priority: {record.priority} where a 32-bit number was expected"
    return ""


def argument_parser() -> argparse.ArgumentParser:
    """What reads the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m training.workloads.recorded",
        description=__doc__.split("\n")[0],
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, help=FOLDER_HOLDS)
    parser.add_argument(
        "--assumed-seconds",
        type=parse_positive,
        default=ASSUMED_SECONDS,
        help="duration of a pod that announced none and has not ended (default: %(default)g)",
    )
    return parser


@quiet_on_closed_pipe
def main(arguments: Sequence[str] | None = None) -> int:
    """Say what a recorded workload holds, as JSON; exit status 2: it cannot be read."""
    parser = argument_parser()
    given = parser.parse_args(arguments)
    try:
        population = read_population(given.folder, given.assumed_seconds)
        records = [record for record in read_records(given.folder) if record is not None]
    except TraceError as error:
        sys.stderr.write(f"{parser.prog}: {error}\n")
        return 2
    every = [record for record in records if isinstance(record, DecisionRecord)]
    decisions = [record for record in every if not record.tried]
    shown = {
        "workload": population.name,
        "pods": len(population.arrival),
        "nodes": len(population.allocatable),
        "seconds": float(population.arrival[-1] - population.arrival[0]),
        "mean_duration": round(float(population.duration.mean()), 3),
        "records": Counter(type(record).__struct_config__.tag for record in records),
        "classes": Counter(record.pod_class for record in records if tells_of_pod(record)),
        "rungs": Counter(record.rung for record in decisions),
        "policies": Counter(record.policy for record in decisions),
        "tried": Counter(record.policy for record in every if record.tried),
    }
    sys.stdout.write(json.dumps(shown, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
