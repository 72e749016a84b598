"""What changes around the extender while it answers: pods, nodes, policy and candidate, and the API server itself.

Each disturbance is a thread that does its next thing when it is due, until told to stop. While the API server is down
the changes that need it wait; what it refuses is counted, for a change that was under way when it was killed may have
been made or not.
"""

import hashlib
import heapq
import logging
import queue
import shutil
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import httpx
import numpy as np

from benchmarks.serving.requests import PENDING_SHAPES, SHAPE_SHARES
from tests.cluster.api import NODES, PODS, Api, Document
from tests.cluster.control_plane import Restartable
from tests.cluster.kwok import make_node
from tests.cluster.workload import make_pod

POD_SECONDS = 60.0
PATIENCE_SECONDS = 0.2

log = logging.getLogger(__name__)


class Disturbance(ABC):
    """Something that happens again and again.

    Attributes:
        done: how often what was done.
    """

    def __init__(self, every_seconds: float, first_seconds: float | None = None) -> None:
        """Nothing happens before `start`.

        Args:
            every_seconds: from one time to the next.
            first_seconds: from the start to the first; as between two if not given.
        """
        self.done: Counter[str] = Counter()
        self.stopped = threading.Event()
        self.error: BaseException | None = None
        self._every = every_seconds
        self._first = every_seconds if first_seconds is None else first_seconds
        self._thread = threading.Thread(target=self._run, name=type(self).__name__, daemon=True)

    @abstractmethod
    def happen(self) -> None:
        """Once more."""

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, and say so if it ended by itself before.

        Raises:
            RuntimeError: it ended because of a mistake in here, or hangs.
        """
        self.stopped.set()
        self._thread.join(120.0)
        if self.error is not None or self._thread.is_alive():
            raise RuntimeError(f"{self._thread.name} did not go on to the end") from self.error

    def _run(self) -> None:
        due = time.monotonic() + self._first
        try:
            while not self.stopped.wait(max(0.0, due - time.monotonic())):
                self.happen()
                due = max(due + self._every, time.monotonic() - self._every)
        except BaseException as error:  # told to whoever stops it
            self.error = error


class Changes(Disturbance):
    """Changes by way of the API server."""

    def __init__(self, api: Api, every_seconds: float) -> None:
        super().__init__(every_seconds)
        self.api = api

    def change(self, what: str, action: Callable[[], object]) -> bool:
        """Do something if the API server lets us; whether it has."""
        try:
            action()
        except httpx.TransportError:
            self.done["changes that met no API server"] += 1
            while not self.stopped.wait(PATIENCE_SECONDS) and not self.api.is_ready():
                pass
            return False
        except AssertionError as refusal:
            log.info("%s: %s", what, refusal)
            self.done["changes refused"] += 1
            return False
        self.done[what] += 1
        return True


class PodChurn(Changes):
    """Pods that are created, asked about, bound to the node that was ranked first, and deleted."""

    def __init__(
        self, api: Api, per_second: float, tell: Callable[[Document], None], generator: np.random.Generator
    ) -> None:
        """Nothing happens before `start`.

        Args:
            api: the API server.
            per_second: pods that are created.
            tell: has a pod asked about.
            generator: chooses shapes.
        """
        super().__init__(api, 1.0 / per_second)
        self.placed: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()  # uid and node
        self._tell = tell
        self._generator = generator
        self._names: dict[str, str] = {}
        self._leaving: list[tuple[float, str]] = []
        self._number = 0

    def happen(self) -> None:
        """A pod comes; those that were answered are bound, and those whose time is over leave."""
        while not self.placed.empty():
            uid, node = self.placed.get()
            name = self._names.pop(uid, None)
            if name is not None:
                self.change("pods bound", lambda: self.api.bind(name, node))  # noqa: B023
        while self._leaving and self._leaving[0][0] <= time.monotonic():
            due, name = heapq.heappop(self._leaving)
            before = self.done["changes that met no API server"]
            self.change("pods deleted", lambda: self.api.delete(f"{PODS}/{name}"))  # noqa: B023
            if self.done["changes that met no API server"] > before:
                heapq.heappush(self._leaving, (due, name))
                return
        name = f"passing-{self._number}"
        self._number += 1
        shape = PENDING_SHAPES[int(self._generator.choice(len(PENDING_SHAPES), p=SHAPE_SHARES))]
        heapq.heappush(self._leaving, (time.monotonic() + POD_SECONDS, name))
        created: list[Document] = []
        if self.change("pods created", lambda: created.append(self.api.create(make_pod(name, shape)))):
            self._names[created[0]["metadata"]["uid"]] = name
            self._tell(created[0])


class NodeChurn(Changes):
    """Nodes that join, leave, and change what they offer."""

    def __init__(
        self,
        api: Api,
        every_seconds: float,
        shapes: dict[str, Document],
        nodes: list[str],
        tell: Callable[[list[str]], None],
        generator: np.random.Generator,
    ) -> None:
        """Nothing happens before `start`.

        Args:
            api: the API server.
            every_seconds: from one change to the next.
            shapes: of nodes.
            nodes: names of those that are there.
            tell: has this list of nodes asked about from now on.
            generator: chooses nodes.
        """
        super().__init__(api, every_seconds)
        self._shapes = list(shapes.values())
        self._nodes = list(nodes)
        self._tell = tell
        self._generator = generator
        self._number = 0

    def happen(self) -> None:
        """One node leaves and another one joins, or one is changed."""
        self._number += 1
        at = int(self._generator.integers(len(self._nodes)))
        if self._number % 2:
            cordon = {
                "spec": {"unschedulable": bool(self._number % 4 == 1)},
                "metadata": {"labels": {"touched": "yes"}},
            }
            self.change("nodes changed", lambda: self.api.patch(f"{NODES}/{self._nodes[at]}", cordon))
            return
        joining = make_node(self._shapes[self._number // 2 % len(self._shapes)], f"joined-{self._number}")
        if self.change("nodes joined", lambda: self.api.create(joining)):
            leaving = self._nodes[at]
            self._nodes[at] = joining["metadata"]["name"]
            self._tell(self._nodes)
            self.change("nodes left", lambda: self.api.delete(f"{NODES}/{leaving}"))


class PolicySwaps(Disturbance):
    """Another policy file, now and then a broken one, and a rollback: five steps that end where they began.

    The next step waits until the extender has looked at the last one's file: on a busy machine that takes seconds.
    """

    STEPS = ("latency", "packing", "broken", "rollback", "packing")

    def __init__(self, every_seconds: float, file: Path, bundled: Callable[[str], Path], url: str) -> None:
        """Nothing happens before `start`.

        Args:
            every_seconds: from one step to the next.
            file: what the extender serves.
            bundled: the file of a policy by its name.
            url: of the extender.
        """
        super().__init__(every_seconds)
        self._file = file
        self._bundled = bundled
        self._url = url
        self._step = 0
        self._unread = ""  # digest of a file that the extender has not looked at yet

    def happen(self) -> None:
        """The next step, if the last one's file was looked at."""
        served = httpx.get(f"{self._url}/policy", timeout=10.0).raise_for_status().json()
        if self._unread and served["digest"] != self._unread and not served["last_refusal"]:
            self.done["policy files not looked at in time"] += 1
            return
        self._unread = ""
        step = self.STEPS[self._step % len(self.STEPS)]
        self._step += 1
        if step == "rollback":
            status = httpx.post(f"{self._url}/rollback", timeout=10.0).status_code
            self.done[f"rollbacks answered {status}"] += 1
            return
        beside = self._file.with_suffix(".new")
        if step == "broken":
            beside.write_bytes(self._bundled("packing").read_bytes()[:-1000])
        else:
            shutil.copyfile(self._bundled(step), beside)
        self._unread = hashlib.sha256(beside.read_bytes()).hexdigest()
        beside.replace(self._file)
        self.done[f"policy files, {step}"] += 1


class CandidateTrials(Disturbance):
    """Another policy is tried beside the one in service: looking on, answering for half of the pods, broken, gone."""

    STEPS = ("0", "50", "broken", "gone")
    LOOKS = 3  # at what came of a step, before the next: on a busy machine a candidate takes seconds to load

    def __init__(self, every_seconds: float, file: Path, url: str) -> None:
        """Nothing happens before `start`.

        Args:
            every_seconds: from one look to the next.
            file: what the extender finds its candidate by.
            url: of the extender.
        """
        super().__init__(every_seconds)
        self._file = file
        self._url = url
        self._step = 0
        self._looks = 0

    def happen(self) -> None:
        """Note what came of the last step, and now and then do the next."""
        tried = httpx.get(f"{self._url}/policy", timeout=10.0).raise_for_status().json()["candidate"]
        self.done[f"candidates seen {tried['stage'] if tried is not None else 'absent'}"] += 1
        self._looks += 1
        if self._looks % self.LOOKS != 1:
            return
        step = self.STEPS[self._step % len(self.STEPS)]
        self._step += 1
        if step == "gone":
            self._file.unlink()
            return
        beside = self._file.with_suffix(".new")
        beside.write_text("{" if step == "broken" else f'{{"policy": "bundled:latency", "percent": {step}}}')
        beside.replace(self._file)


class Restarts:
    """The API server is killed, and started again after a while, in the thread that asks whether it is time to.

    Attributes:
        done: how often.
    """

    def __init__(self, apiserver: Restartable, every_seconds: float, down_seconds: float) -> None:
        """Nothing happens before `look`.

        Args:
            apiserver: what is killed.
            every_seconds: from one time to the next; half of it to the first.
            down_seconds: how long it stays away.
        """
        self.done: Counter[str] = Counter()
        self._apiserver = apiserver
        self._every = every_seconds
        self._down_seconds = down_seconds
        self._due = every_seconds / 2
        self._back: float | None = None

    def look(self, seconds: float) -> None:
        """Do what is due, so long after the start."""
        if self._back is None and seconds >= self._due:
            self._apiserver.process.kill()
            self._back, self._due = seconds + self._down_seconds, self._due + self._every
            self.done["API server kills"] += 1
        elif self._back is not None and seconds >= self._back:
            self.end()

    def end(self) -> None:
        """Have it back, if it is away."""
        if self._back is not None:
            self._apiserver.start_again()
            self._back = None


def total(disturbances: Iterable[Disturbance | Restarts]) -> dict[str, int]:
    """How often what was done, by all of them."""
    added: Counter[str] = Counter()
    for each in disturbances:
        added.update(each.done)
    return dict(sorted(added.items()))
