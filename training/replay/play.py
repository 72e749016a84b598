"""One run: a workload's pods submitted at their times to one scheduler, and what the watch tells of them.

The main thread keeps time and hands over due pods to a few threads that submit them, so that one slow answer does not
delay the next pod; another thread reads the watch and notes when news arrived. The run ends when all pods have been
submitted and none waits for a node any more, or when the time for that is over.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus

import numpy as np
import urllib3

from training.replay.api import Cluster, ClusterError, RefusedError
from training.replay.manifests import Manifest
from training.replay.objects import RUN_LABEL, Session
from training.replay.records import Journal, Records, empty_records
from training.workloads.base import FloatArray

SUBMITTERS = 8
LEAD_SECONDS = 1.0  # from the beginning of the watch to the first pod
LOOK_SECONDS = 0.25
FIRST_PLACEMENT_SECONDS = 60.0
EVENTS_PATH = "/apis/events.k8s.io/v1/namespaces/{}/events"

log = logging.getLogger(__name__)

Report = Callable[[Records, float], None]


@dataclass(frozen=True)
class Played:
    """A run.

    Attributes:
        records: of its pods.
        end: seconds from its beginning to its end.
        interruptions: how often the watch was lost.
        throttled: requests answered 429.
        repeated: requests made again for another reason.
    """

    records: Records
    end: float
    interruptions: int
    throttled: int
    repeated: int


class EventListener:
    """Collects kube-scheduler's events of pods that it placed, in a thread of its own; what it misses is missing."""

    def __init__(self, cluster: Cluster, session: Session, journal: Journal) -> None:
        self._cluster = cluster
        self._path = EVENTS_PATH.format(session.namespace)
        self._journal = journal
        self._over = False
        self._thread = threading.Thread(target=self._run, name="events", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Listen to nothing more; the thread ends with the watch."""
        self._over = True

    def _run(self) -> None:
        while not self._over:
            try:
                version = self._cluster.request("GET", self._path, limit="1").document["metadata"]["resourceVersion"]
                for change in self._cluster.watch(self._path, version, fieldSelector="reason=Scheduled"):
                    if self._over:
                        return
                    self._journal.take_event(change.document)
            except (ClusterError, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
                log.warning("events of kube-scheduler are not heard of for a moment: %s", error)
                time.sleep(LOOK_SECONDS)


class Watcher:
    """Reads a run's watch in a thread of its own, and tells the journal.

    Attributes:
        interruptions: how often the watch was lost and the pods were listed again.
        failure: why it gave up, if it did.
    """

    def __init__(self, cluster: Cluster, session: Session, run: str, journal: Journal, started: float) -> None:
        self.interruptions = 0
        self.failure: ClusterError | None = None
        self._cluster = cluster
        self._path = session.pods
        self._selector = f"{RUN_LABEL}={run}"
        self._journal = journal
        self._started = started
        self._wall = time.time() - time.monotonic()
        self._over = False
        self._version = self._list()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Listen to nothing more; the thread ends with the watch."""
        self._over = True

    def _list(self) -> str:
        pods, version = self._cluster.find_from(self._path, labelSelector=self._selector)
        now = time.monotonic()
        for pod in pods:
            self._journal.take("ADDED", pod, now - self._started, now + self._wall)
        return version

    def _run(self) -> None:
        while not self._over:
            try:
                for change in self._cluster.watch(self._path, self._version, labelSelector=self._selector):
                    if self._over:
                        return
                    self._version = change.document["metadata"]["resourceVersion"]
                    if change.kind != "BOOKMARK":
                        at = change.at - self._started
                        self._journal.take(change.kind, change.document, at, change.at + self._wall)
            except (RefusedError, urllib3.exceptions.HTTPError, OSError, ValueError):
                # ValueError: a torn line of a broken connection, or the other side of a closed one.
                self.interruptions += 1
                try:
                    self._version = self._list()
                except ClusterError as error:
                    self.failure = error
                    return


def play(
    cluster: Cluster,
    session: Session,
    run: str,
    pods: Sequence[Manifest],
    arrival: FloatArray,
    rows: dict[str, int],
    drain_seconds: float,
    report: Report,
) -> Played:
    """Play a run to its end.

    Args:
        cluster: where.
        session: whose pods.
        run: the value of their label `RUN_LABEL`.
        pods: in order of arrival.
        arrival: (P,) seconds after the first moment at which they are to be submitted.
        rows: row of each node by its name.
        drain_seconds: how long after the last submission pods may still wait for a node.
        report: told every quarter of a second what happened so far, and how many seconds the run is old.

    Raises:
        ClusterError: a pod was refused, the cluster is out of reach, or its scheduler places nothing.
    """
    records = empty_records(arrival.copy())
    journal = Journal(records, {pod["metadata"]["name"]: index for index, pod in enumerate(pods)}, rows)
    throttled, repeated = cluster.throttled, cluster.repeated
    started = time.monotonic() + LEAD_SECONDS
    wall = time.time() - time.monotonic()
    listener = EventListener(cluster, session, journal)
    watcher = Watcher(cluster, session, run, journal, started)

    def submit(index: int) -> None:
        records.sent[index] = time.monotonic() - started
        answer = cluster.create(session.pods, pods[index])
        records.answered[index] = time.monotonic() - started
        records.sent_wall[index], records.answered_wall[index] = answer.sent, answer.answered

    submissions: list[Future[None]] = []
    pool = ThreadPoolExecutor(SUBMITTERS, thread_name_prefix="submit")
    looked = 0
    try:
        for index, due in enumerate(arrival.tolist()):
            while (left := due - (time.monotonic() - started)) > 0:
                time.sleep(min(left, LOOK_SECONDS))
                report(records, time.monotonic() - started)
                looked = _raise_failures(submissions, looked, watcher)
                _raise_unserved(records, time.monotonic() - started, pods)
            submissions.append(pool.submit(submit, index))
        last = time.monotonic()
        while True:
            looked = _raise_failures(submissions, looked, watcher)
            report(records, time.monotonic() - started)
            everybody = looked == len(submissions) and not _unseen(records)
            if everybody and not records.waiting().any():
                break
            _raise_unserved(records, time.monotonic() - started, pods)
            if time.monotonic() - last > drain_seconds:
                break
            time.sleep(LOOK_SECONDS)
        end = time.monotonic() - started
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        watcher.stop()
        listener.stop()
    records.bound_wall[:] = records.bound + started + wall
    return Played(records, end, watcher.interruptions, cluster.throttled - throttled, cluster.repeated - repeated)


def try_out(cluster: Cluster, session: Session, pod: Manifest, seconds: float) -> None:
    """Let one pod run, to see that the scheduler places pods and KWOK ends them.

    Args:
        cluster: where.
        session: whose pod.
        pod: that runs for a moment.
        seconds: limit for all of it.

    Raises:
        ClusterError: the API server refuses such pods, nobody places it, or it does not end.
    """
    path, name = session.pods, pod["metadata"]["name"]
    deadline = time.monotonic() + seconds
    while True:
        try:
            cluster.create(path, pod)
            break
        except RefusedError as error:
            # In a new namespace the service account that every pod needs comes a moment later.
            early = error.status == HTTPStatus.FORBIDDEN and "serviceaccount" in str(error)
            if not early or time.monotonic() > deadline:
                raise
            time.sleep(LOOK_SECONDS)
    found: Manifest = {}
    while time.monotonic() < deadline:
        found = cluster.get(f"{path}/{name}") or {}
        if found.get("status", {}).get("phase") == "Succeeded":
            cluster.delete(f"{path}/{name}", grace_seconds=0)
            return
        time.sleep(LOOK_SECONDS)
    cluster.delete(f"{path}/{name}", grace_seconds=0)
    scheduler = pod["spec"]["schedulerName"]
    if not found.get("spec", {}).get("nodeName"):
        said = [each.get("message", "") for each in found.get("status", {}).get("conditions", ())]
        raise ClusterError(
            f"a first pod was not placed within {seconds:.0f} s: does a scheduler serve schedulerName {scheduler}?"
            + (f" It says: {'; '.join(said)}" if any(said) else "")
        )
    raise ClusterError(
        f"a first pod was placed by {scheduler}, but did not run and end within {seconds:.0f} s: does KWOK have the "
        "stages of manifests/kwok/stages.yaml, which end pods by the annotation stowage.dev/duration?"
    )


def _unseen(records: Records) -> bool:
    return bool((records.created != records.created).any())


def _raise_unserved(records: Records, now: float, pods: Sequence[Manifest]) -> None:
    """Notice that nobody places any pod; `now` is of the run."""
    if (records.node >= 0).any() or np.isnan(records.created).all():
        return
    if (waited := now - float(np.nanmin(records.created))) > FIRST_PLACEMENT_SECONDS:
        name = pods[0]["spec"]["schedulerName"]
        raise ClusterError(f"no pod was placed within {waited:.0f} s: does a scheduler serve {name}?")


def _raise_failures(submissions: Sequence[Future[None]], looked: int, watcher: Watcher) -> int:
    """Raise what went wrong; returns up to where all submissions are done."""
    if watcher.failure is not None:
        raise watcher.failure
    while looked < len(submissions) and submissions[looked].done():
        submissions[looked].result()
        looked += 1
    return looked
