"""The step `record`: the decisions of a time and the nodes, copied out of reach of rotation, and cut into periods.

Every `record.hold_every`-th period is held back: the generator is not fitted to its pods, nothing is trained on them,
and the gate plays both kinds. Pods that still run when a period begins come along as its beginning (`periods`), so a
held-back period sees some pods of the one before, and that is all they share.
"""

import csv
import io
import itertools
import json
import math
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from extender.placement import CPU, MEMORY
from extender.policies.base import PolicyError
from extender.policies.onnx import OnnxPolicy, load_policy
from extender.telemetry.decision_records import DecisionRecord, Record
from extender.whole_file import put_whole
from training.cycle.contents import INCUMBENT, NODE_FILES, RECORD, RECORDED
from training.cycle.decision_lines import snapshot
from training.cycle.records import Book, Found, GivenError, Say, Verdict, digest
from training.cycle.settings import Settings, named, required
from training.cycle.traffic import replay_whole, request_for
from training.replay.api import ClusterError, connect
from training.replay.play import LEAD_SECONDS
from training.replay.results import span
from training.workloads import csv_trace, kubectl
from training.workloads.base import Population, Workload
from training.workloads.periods import Period, cut, select, stretch
from training.workloads.recorded import LOG_FILE, read_population, tells_of_pod
from training.workloads.tables import TraceError

HOUR_SECONDS = 3600.0
ROUNDING = 1e-9  # so that the last pod is in the last period
FLUSHED_SECONDS = 2.0  # the log is flushed every second
CLUSTER_NODES = "/api/v1/nodes"


@dataclass(frozen=True)
class Recorded:
    """What a cycle has recorded.

    Attributes:
        population: all pods, in the time that they stand for.
        fitted: the periods that may be learned from.
        held: those that are held back.
    """

    population: Population
    fitted: list[Period]
    held: list[Period]

    @property
    def learned_from(self) -> Population:
        """The pods that came outside the periods that are held back."""
        bounds = [self.fitted[0].begin]  # periods in which no pod came are in neither list: that, too, is learned from
        for period in self.held:
            bounds += [period.begin, period.end]
        bounds.append(max(self.fitted[-1].end, bounds[-1]))
        return select(
            self.population, [span for span in zip(bounds[::2], bounds[1::2], strict=True) if span[0] < span[1]]
        )

    @property
    def load(self) -> float:
        """The mean offered load of all periods."""
        return float(np.mean([period.load for period in (*self.fitted, *self.held)]))


def record(book: Book, settings: Settings, say: Say) -> Found:
    """Do the step.

    Raises:
        GivenError: a setting is missing, or a file that it names; too few pods were recorded.
        CycleError: the replay failed, or the log cannot be read.
    """
    policy, incumbent = served(settings)
    put_whole(book.folder / INCUMBENT, policy.read_bytes())
    folder, speed = book.folder / RECORDED, settings.record.speed
    if settings.replay is not None:
        plan = request_for(settings.replay, book.folder / "replay").plan
        speed = plan.speed
        begin, end = replayed(book, settings.replay, say)
        workload = plan.draw(plan.evaluation.loads[0], plan.evaluation.first_seed)
        put_whole(folder / csv_trace.NODE_FILE, nodes_csv(workload))
        records, found = copy_log(settings, book.folder, speed, begin, end, math.inf)
    else:
        records, found = copy(settings, book.folder)
    policies = sorted({each.policy for each in records if isinstance(each, DecisionRecord) and not each.tried})
    figures = {
        "pods": len(found.population.shape),
        "nodes": len(found.population.devices),
        "speed": speed,
        "begin": min(each.time for each in records),
        "end": max(each.time for each in records),
        "load": round(found.load, 4),
        "mean_duration_seconds": float(found.population.duration.mean()),
        "policies": policies,
        "incumbent": incumbent.digest,
        "periods": [
            {"begin": each.begin, "end": each.end, "pods": each.came, "load": round(each.load, 4), "held_back": held}
            for held, periods in ((False, found.fitted), (True, found.held))
            for each in periods
        ],
    }
    made = {LOG_FILE: digest(folder / LOG_FILE), INCUMBENT: incumbent.digest, "nodes": digest(_nodes_file(folder))}
    said = (
        f"{figures['pods']:,} pods on {figures['nodes']:,} nodes at a load of {found.load:.2f}, in {len(found.fitted)} "
        f"periods to learn from and {len(found.held)} that are held back"
    )
    return Found(Verdict.DONE, said, figures, made)


def check(book: Book, settings: Settings) -> None:
    """Refuse what the step could not be done with; nothing in the cycle's folder is touched.

    Raises:
        GivenError: as for `record`.
        CycleError: the log cannot be read.
    """
    log = named(settings.decision_log, "decision_log", "the extender's decision log")
    served(settings)
    if settings.replay is not None:
        request_for(settings.replay, book.folder / "replay")
        if not log.parent.is_dir():
            raise GivenError(f"decision_log={log}: there is no folder {log.parent}")
        return
    with tempfile.TemporaryDirectory(prefix="record-") as elsewhere:
        try:
            copy(settings, Path(elsewhere))
        except GivenError as error:
            raise GivenError(_named_as_given(str(error), Path(elsewhere) / RECORDED, log, settings.nodes)) from error


def served(settings: Settings) -> tuple[Path, OnnxPolicy]:
    """The policy file that is named as the incumbent; raises GivenError where it is none."""
    policy = required(settings.policy_file, "policy_file", "the policy file that the extender serves")
    try:
        return policy, load_policy(policy)
    except PolicyError as error:
        raise GivenError(f"policy_file={policy}: {error}") from error


def copy(settings: Settings, folder: Path) -> tuple[list[Record], Recorded]:
    """Copy the nodes, and the decisions of the time that is wanted, and read what was copied.

    Args:
        settings: of the cycle.
        folder: of the cycle, or another one to try it in.

    Raises:
        GivenError: a file is missing or is not what it should be; too few pods were recorded.
        CycleError: the log cannot be read.
    """
    copy_nodes(settings, folder / RECORDED)
    last = settings.record.hours * HOUR_SECONDS or math.inf
    return copy_log(settings, folder, settings.record.speed, 0.0, time.time(), last)


def copy_log(
    settings: Settings, folder: Path, speed: float, begin: float, end: float, last_seconds: float
) -> tuple[list[Record], Recorded]:
    """Copy the decisions of a time beside the nodes, and read both.

    Args:
        settings: of the cycle.
        folder: of the cycle.
        speed: seconds that a second of the log stands for.
        begin, end: Unix seconds.
        last_seconds: only those of so much of the log's end.

    Raises:
        GivenError: there is no log, or too few pods are in it.
        CycleError: the log cannot be read.
    """
    log = named(settings.decision_log, "decision_log", "the extender's decision log")
    try:
        records = snapshot(log, begin, end, last_seconds)
    except TraceError as error:
        raise GivenError(f"decision_log={log}: {error}") from error
    pods = {each.uid for each in records if tells_of_pod(each)}
    if len(pods) < settings.record.pods_at_least:
        raise GivenError(
            f"{log}: {len(pods)} pods came in the time that is recorded, at least "
            f"record.pods_at_least={settings.record.pods_at_least} are wanted: record for longer, or set another number"
        )
    put_whole(folder / RECORDED / LOG_FILE, b"".join(msgspec.json.encode(each) + b"\n" for each in records))
    return records, read(folder, settings, speed)


def replayed(book: Book, replay: str, say: Say) -> tuple[float, float]:
    """When pods of a replay came: of the one that was begun for this record, which is ended first, or of a new one.

    Every record has a replay, and a folder, of its own. An interrupted one goes on in its folder, where what is over is
    not played again: that it is over may not have been noted, so its time is told by its results. They know only of the
    workload's own pods, so neither the pod that the cluster was tried out with is recorded, nor what was killed.

    Returns:
        begin and end, Unix seconds.

    Raises:
        CycleError: it failed.
    """
    note = book.begun(RECORD) or {}
    if "played_in" not in note or note.get("replay") != replay:
        name = next(name for number in itertools.count(1) if not (book.folder / (name := f"replay-{number}")).exists())
        (book.folder / name).mkdir(parents=True)
        note = book.note(RECORD, until=None, replay=replay, played_in=name)
    folder = book.folder / note["played_in"]
    if note["until"] is None:
        say("record: replaying, so that there are decisions")
        replay_whole(replay, folder, say)
        first, over = span(folder)
        time.sleep(FLUSHED_SECONDS)
        note = book.note(RECORD, since=first - LEAD_SECONDS, until=over + FLUSHED_SECONDS)
    return note["since"], note["until"]


def read(folder: Path, settings: Settings, speed: float) -> Recorded:
    """Read what was recorded.

    Args:
        folder: of the cycle.
        settings: its periods.
        speed: seconds that a second of the log stands for.

    Raises:
        GivenError: a file is missing or is not what it should be, or there are too few periods.
    """
    wanted = settings.record
    try:
        population = stretch(read_population(folder / RECORDED, wanted.assumed_seconds / speed), speed)
    except TraceError as error:
        raise GivenError(f"{error}") from error
    assert population.arrival is not None
    span = float(population.arrival.max() - population.arrival.min())
    periods = cut(population, span * (1.0 + ROUNDING) / wanted.periods if span > 0 else 1.0)
    held = [period for number, period in enumerate(periods, start=1) if number % wanted.hold_every == 0]
    fitted = [period for number, period in enumerate(periods, start=1) if number % wanted.hold_every]
    if len(held) < 2 or len(fitted) < 2:
        raise GivenError(
            f"{population.name}: {len(fitted)} periods to learn from and {len(held)} held back, where two of each are "
            f"wanted: record for longer, or choose others than record.periods={wanted.periods} and "
            f"record.hold_every={wanted.hold_every}"
        )
    return Recorded(population, fitted, held)


def copy_nodes(settings: Settings, folder: Path) -> None:
    """The nodes, from the file that was named or from the cluster.

    Raises:
        GivenError: neither can be had.
    """
    for name in NODE_FILES:
        (folder / name).unlink(missing_ok=True)
    if settings.nodes is None:
        try:
            listed = connect(None, None).request("GET", CLUSTER_NODES).document
        except ClusterError as error:
            raise GivenError(
                f"{error}; name a file by nodes=… (kubectl get nodes -o json), or set KUBECONFIG"
            ) from error
        put_whole(folder / kubectl.NODE_FILE, json.dumps(listed).encode())
        return
    path = Path(settings.nodes)
    if not path.is_file():
        raise GivenError(f"nodes={path}: there is no such file (kubectl get nodes -o json > {path})")
    name = csv_trace.NODE_FILE if path.suffix == ".csv" else kubectl.NODE_FILE
    put_whole(folder / name, path.read_bytes())


def nodes_csv(workload: Workload) -> bytes:
    """The nodes of a workload as the file that a trace has."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["name", "cpu", "memory", "gpus", "gpu_model", "pods", "price"])
    for row, amounts in enumerate(workload.allocatable.tolist()):
        model = workload.models[workload.model[row]]
        numbers = int(workload.devices[row]), model, int(workload.pod_limit[row]), float(workload.price[row])
        writer.writerow([f"node-{row:05d}", f"{amounts[CPU]}m", amounts[MEMORY], *numbers])
    return text.getvalue().encode()


def recorded_speed(book: Book) -> float:
    """The speed of what was recorded.

    Raises:
        GivenError: nothing was.
    """
    found = book.read(RECORD)
    if found is None:
        raise GivenError("nothing is recorded yet: do the step record first")
    return float(found.figures["speed"])


def _named_as_given(text: str, folder: Path, log: Path, nodes: str | None) -> str:
    """What is wrong with copied files, said of those that were copied."""
    for name, given in ((LOG_FILE, str(log)), *((name, nodes or CLUSTER_NODES) for name in NODE_FILES)):
        text = text.replace(str(folder / name), given)
    return text


def _nodes_file(folder: Path) -> Path:
    return next(path for name in NODE_FILES if (path := folder / name).is_file())
