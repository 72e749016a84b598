"""Start the extender with a policy file and ask it for a ranking, the way kube-scheduler would.

The cluster comes from a file: nodes of the workload, half full. What is sent is a real `ExtenderArgs` body over HTTP;
what comes back is what kube-scheduler would get.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from extender.placement import list_candidates
from extender.policies.base import Policy
from training.processes import stop
from training.replay.manifests import Manifest, node_manifest, node_name, pod_manifest
from training.simulator.scheduling import SchedulerArguments, play_policy, prepare
from training.simulator.state import NOW, pod_request_of
from training.workloads.base import Workload

START_SECONDS, ANSWER_SECONDS = 120.0, 60.0  # they end what hangs; a busy machine takes a while to import


class AskError(RuntimeError):
    """The extender did not start or did not answer; the message holds what it printed."""


@dataclass(frozen=True)
class Answer:
    """What the extender said.

    Attributes:
        pod: the pod it was asked about.
        requests: what the pod asks for.
        candidates: number of nodes that were offered.
        ranking: host and score, best first.
    """

    pod: str
    requests: dict[str, str]
    candidates: int
    ranking: list[tuple[str, int]]


def ask_extender(policy_file: Path, policy: Policy, workload: Workload) -> Answer:
    """Fill a simulated cluster half by the policy, then ask a real extender process about the next pod.

    Raises:
        AskError: the extender did not start, or did not answer with a ranking.
    """
    objects, pending, names = half_full_cluster(workload, policy)
    with tempfile.TemporaryDirectory() as folder:
        cluster_file = Path(folder) / "cluster.json"
        cluster_file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
        with running_extender(policy_file, cluster_file) as address:
            body = json.dumps({"Pod": pending, "Nodes": None, "NodeNames": names}).encode()
            request = urllib.request.Request(
                f"http://{address}/prioritize", body, {"Content-Type": "application/json"}, method="POST"
            )
            direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback needs no proxy
            try:
                with direct.open(request, timeout=ANSWER_SECONDS) as response:
                    ranking = json.load(response)
            except OSError as error:
                raise AskError(f"the extender at {address} did not answer /prioritize: {error}") from error
    return Answer(
        pod=pending["metadata"]["name"],
        requests=pending["spec"]["containers"][0]["resources"]["requests"],
        candidates=len(names),
        ranking=[(entry["Host"], entry["Score"]) for entry in ranking],
    )


def half_full_cluster(workload: Workload, policy: Policy) -> tuple[list[Manifest], Manifest, list[str]]:
    """Play the first half of a workload; the pod to place is the first of the others that has a choice.

    Returns:
        the nodes and the pods on them, the pod that is to be placed, and the names of the nodes that it fits on.

    Raises:
        ValueError: none of the others has one.
    """
    half = len(workload) // 2
    episode = prepare(workload, SchedulerArguments(horizon_seconds=float(workload.arrival[half])))
    play_policy(episode, policy, workload.typical, np.random.default_rng(0))
    nodes, pods = episode.cluster.nodes, episode.pods
    for pod in range(half, len(workload)):
        allowed = np.flatnonzero(workload.admits[workload.shape[pod]])
        rows = np.unique(list_candidates(nodes, pod_request_of(episode, pod), allowed, 2 * len(allowed)).rows)
        if len(rows) > 1:
            break
    else:
        raise ValueError(f"a workload of {len(workload)} pods left nothing to decide; use more pods")
    running = np.flatnonzero(pods.finishes > episode.clock[NOW])
    objects = [node_manifest(workload, row) for row in range(len(workload.allocatable))]
    objects += [pod_manifest(workload, int(there), int(pods.node[there])) for there in running]
    return objects, pod_manifest(workload, pod), [node_name(row) for row in rows]


@contextmanager
def running_extender(policy_file: Path, cluster_file: Path) -> Iterator[str]:
    """A real extender process on a free port of the loopback interface; yields its HTTP address.

    Raises:
        AskError: it was not ready in time.
    """
    command = [sys.executable, "-m", "extender", "serve", "--policy", str(policy_file)]
    command += ["--cluster-file", str(cluster_file), "--http-port", "0", "--grpc-port", "0"]
    # Settings of another extender in the environment are not meant for this one.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STOWAGE_")}
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment)
        alarm = threading.Timer(START_SECONDS, process.kill)
        alarm.start()
        try:
            yield _address(process, log)
        finally:
            alarm.cancel()
            stop(process)


def _address(process: "subprocess.Popen[str]", log: IO[str]) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("{") and (ready := json.loads(line)).get("ready"):
            return str(ready["http"])
    log.seek(0)
    raise AskError(f"the extender was not ready within {START_SECONDS:.0f} s; it printed:\n{log.read()[-2000:]}")
