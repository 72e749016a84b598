"""What an extender costs a real kube-scheduler: `python -m benchmarks.scheduler`.

One control plane, thousands of nodes that exist as objects only, and thousands of pods that wait. Round after round
kube-scheduler is started on them without an extender, with a server that does nothing (`serving/null_server.c`), and
with ours; how fast it binds is read from its own metrics, between the first and the last twentieth of the pods. The
cases take turns, so that other work on the machine meets all of them alike, and the order changes with every round.

At the end ours is started on a cluster with ten pods a node: how long until it is ready, and what memory that takes.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx
import yaml
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from benchmarks.results import Result, publish, unless_interrupted
from benchmarks.serving.clients import compile_c
from extender.closed_pipe import quiet_on_closed_pipe
from tests.cluster.api import NODES, PODS, Api, Document, load_documents
from tests.cluster.control_plane import ControlPlane, run_control_plane
from tests.cluster.kwok import make_node, node_shapes
from tests.cluster.processes import Process, free_port, wait_for
from tests.cluster.scheduler import Scheduler, run_scheduler
from tests.cluster.tools.build import DEFAULT_KUBERNETES, tools_directory
from tests.cluster.workload import make_pod
from training.arguments import parse_count

ROOT = Path(__file__).resolve().parents[1]
CONFIGURATION = ROOT / "manifests" / "kube-scheduler" / "configuration.yaml"
NONE, NOTHING, OURS = "no extender", "does nothing (C)", "Stowage"
CASES = (NONE, NOTHING, OURS)
CONNECTIONS = 16
POLL_SECONDS = 0.25
LIMIT_SECONDS = 600.0
EDGE = 0.05  # of the pods, at the beginning and at the end, that do not count
ATTEMPTS = "scheduler_scheduling_attempt_duration_seconds"


class Run(NamedTuple):
    """One time that all pods were placed: pods per second, and the 99th percentile of an attempt in seconds."""

    pods_per_second: float
    attempt_p99: float


def do_for_all(action: Callable[[str], object], names: Sequence[str]) -> None:
    """Do something for each name, over several connections."""
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        list(pool.map(action, names))


def scheduled(metrics: str) -> tuple[int, dict[float, float]]:
    """How many pods kube-scheduler has placed, and the cumulated histogram of how long an attempt took."""
    buckets: dict[float, float] = {}
    for family in text_string_to_metric_families(metrics):
        for sample in family.samples:
            if sample.name == f"{ATTEMPTS}_bucket" and sample.labels.get("result") == "scheduled":
                edge = float(sample.labels["le"])
                buckets[edge] = buckets.get(edge, 0.0) + sample.value
    return int(max(buckets.values(), default=0.0)), buckets


def percentile(buckets: dict[float, float], share: float) -> float:
    """A percentile of a cumulated histogram, linear within a bucket, as Prometheus' histogram_quantile.

    Example:
        >>> percentile({0.1: 50.0, 0.2: 100.0, float("inf"): 100.0}, 0.75)
        0.15000000000000002
    """
    edges = sorted(buckets)
    wanted = share * buckets[edges[-1]]
    below, before = 0.0, 0.0
    for edge in edges:
        if buckets[edge] >= wanted:
            if edge == float("inf"):
                return below
            return below + (edge - below) * (wanted - before) / max(buckets[edge] - before, 1e-9)
        below, before = edge, buckets[edge]
    return below


def measure(scheduler: Scheduler, pods: int) -> Run:
    """Watch kube-scheduler place that many pods."""
    deadline = time.monotonic() + LIMIT_SECONDS
    counts: list[tuple[float, int]] = []
    while True:
        count, buckets = scheduled(scheduler.metrics())
        counts.append((time.monotonic(), count))
        if count >= pods:
            break
        if time.monotonic() > deadline:
            raise TimeoutError(f"{count} of {pods} pods placed within {LIMIT_SECONDS:g} s; see {scheduler.log}")
        time.sleep(POLL_SECONDS)
    inner = [(at, count) for at, count in counts if EDGE * pods <= count <= (1 - EDGE) * pods]
    if len(inner) < 2:
        raise RuntimeError(f"{pods} pods are too few to measure: all were placed within {POLL_SECONDS:g} s")
    (began, first), (ended, last) = inner[0], inner[-1]
    return Run((last - first) / (ended - began), percentile(buckets, 0.99))


def write_configuration(directory: Path, extender: bool, percentage: int) -> Path:
    """The committed configuration without what only matters in a real cluster, and with or without the extender.

    Args:
        directory: where the file goes.
        extender: whether there is one; it is asked to prioritize only, as where nothing is reserved.
        percentage: of the nodes that are scored; 0 is kube-scheduler's own sample.
    """
    (document,) = load_documents(CONFIGURATION)
    document["leaderElection"] = {"leaderElect": False}
    document["clientConnection"] = {"qps": 5000, "burst": 5000}
    document["profiles"][0]["percentageOfNodesToScore"] = percentage
    if extender:
        document["extenders"][0].pop("filterVerb", None)
        document["extenders"][0]["httpTimeout"] = "5s"
    else:
        del document["extenders"]
    path = directory / f"configuration-{'with' if extender else 'without'}.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


@contextmanager
def run_nothing(directory: Path, nodes: Sequence[str]) -> Iterator[str]:
    """The server that does nothing; gives its address. It names ten nodes, as ours does."""
    program = compile_c("null_server", directory)
    body = "[" + ",".join(f'{{"Host":"{name}","Score":{10 - rank}}}' for rank, name in enumerate(nodes[:10])) + "]"
    answer = directory / "answer.http"
    answer.write_text(
        f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}", newline=""
    )
    server = subprocess.Popen([str(program), str(answer)], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        yield f"http://127.0.0.1:{int(server.stdout.readline())}"
    finally:
        server.kill()
        server.wait()


class Ours(NamedTuple):
    """The extender, ready.

    Attributes:
        address: of its HTTP server.
        ready_seconds: from its start to its first complete view.
        memory_mib: resident then.
    """

    address: str
    ready_seconds: float
    memory_mib: float


@contextmanager
def run_ours(directory: Path, kubeconfig: Path, policy: str) -> Iterator[Ours]:
    """The extender with a policy, once it is ready."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    began = time.monotonic()
    flags = ["--kubeconfig", str(kubeconfig), "--policy", policy, "--http-port", str(port), "--grpc-port", "0"]
    process = Process("extender", [sys.executable, "-m", "extender", "serve", *flags], directory)

    def is_ready() -> bool:
        try:
            return httpx.get(f"{address}/readyz", timeout=5.0).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    try:
        process.wait_until(is_ready, 60.0)
        yield Ours(address, time.monotonic() - began, resident_mib(process.pid))
    finally:
        process.stop()


def resident_mib(pid: int) -> float:
    """What the process has in memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:")) / 1024


class Bench:
    """A control plane with nodes, and pods that come and go."""

    def __init__(
        self, control_plane: ControlPlane, tools: Path, directory: Path, arguments: argparse.Namespace
    ) -> None:
        self.api: Api = control_plane.api
        self._tools = tools
        self._directory = directory
        self._arguments = arguments
        self.kubeconfig = control_plane.admin_kubeconfig()
        self.nodes = [f"node-{number:05d}" for number in range(arguments.nodes)]
        shape = node_shapes(ROOT / "manifests" / "kwok" / "nodes.yaml")["general"]
        do_for_all(lambda name: self.api.create(make_node(shape, name)), self.nodes)

    def create_pods(self, count: int, node_of: Callable[[int], str] | None = None) -> list[str]:
        """Create pods, on nodes where that is given, else to be placed."""

        def pod(name: str) -> Document:
            made = make_pod(name, {"cpu": "250m", "memory": "512Mi"})
            if node_of is not None:
                made["spec"]["nodeName"] = node_of(int(name.removeprefix("pod-")))
            return made

        names = [f"pod-{number}" for number in range(count)]
        do_for_all(lambda name: self.api.create(pod(name)), names)
        return names

    def delete_pods(self, names: Sequence[str]) -> None:
        """Delete pods at once."""
        do_for_all(lambda name: self.api.delete(f"{PODS}/{name}"), names)

    def run(self, case: str, number: int) -> Run:
        """Let kube-scheduler place all pods once."""
        directory = self._directory / f"{number}-{CASES.index(case)}"
        directory.mkdir()
        names = self.create_pods(self._arguments.pods)
        configuration = write_configuration(directory, case != NONE, self._arguments.percentage)
        try:
            if case == NONE:
                return self._place(directory, configuration, None)
            if case == NOTHING:
                with run_nothing(self._directory, self.nodes) as address:
                    return self._place(directory, configuration, address)
            with run_ours(directory, self.kubeconfig, self._arguments.policy) as ours:
                return self._place(directory, configuration, ours.address)
        finally:
            self.delete_pods(names)

    def _place(self, directory: Path, configuration: Path, address: str | None) -> Run:
        with run_scheduler(self._tools, directory, self.kubeconfig, configuration, address, vmodule="") as scheduler:
            run = measure(scheduler, self._arguments.pods)
            failures = scheduler.extender_failures()
        if failures:
            raise RuntimeError(f"kube-scheduler went on without the extender {len(failures)} times: {failures[0]}")
        return run

    def start_on_full_cluster(self, pods_per_node: int) -> Ours:
        """Start the extender where every node has pods."""
        names = self.create_pods(pods_per_node * len(self.nodes), lambda number: self.nodes[number % len(self.nodes)])
        directory = self._directory / "full"
        directory.mkdir()
        with run_ours(directory, self.kubeconfig, self._arguments.policy) as ours:
            wait_for(lambda: len(names) == pods_of(ours.address), 60.0, "the extender to count every pod")
            return ours


def pods_of(address: str) -> int:
    """How many pods the extender counts on nodes."""
    lines = httpx.get(f"{address}/metrics", timeout=10.0).text.splitlines()
    return next(int(float(line.split()[1])) for line in lines if line.startswith("stowage_pods "))


def results_of(runs: dict[str, list[Run]], ours: Ours, arguments: argparse.Namespace) -> list[Result]:
    """The medians over the rounds; the ratio is the median of each round's own."""
    results = []
    rates = {case: [run.pods_per_second for run in runs[case]] for case in CASES}
    for case in CASES:
        median = statistics.median(rates[case])
        for other in (NONE, NOTHING):
            if case in (NONE, other) or (case == NOTHING and other != NONE):
                continue
            ratio = statistics.median(mine / its for mine, its in zip(rates[case], rates[other], strict=True))
            results.append(Result(case, f"pods placed, against {other}", median, "1/s", baseline=median / ratio))
        if case == NONE:
            results.append(Result(case, "pods placed", median, "1/s"))
        spread = (max(rates[case]) - min(rates[case])) / median
        results.append(Result(case, "spread over the rounds", spread, ""))
        p99 = statistics.median(run.attempt_p99 for run in runs[case])
        results.append(Result(case, "attempt, 99th percentile", 1e3 * p99, "ms"))
    size = f"{arguments.nodes} nodes, {arguments.nodes * arguments.pods_per_node} pods"
    results.append(Result(f"{OURS}, {size}", "start to ready", ours.ready_seconds, "s", baseline=3.0))
    results.append(Result(f"{OURS}, {size}", "resident memory", ours.memory_mib, "MiB", baseline=250.0))
    return results


EXAMPLES = """\
examples:
  python -m benchmarks.scheduler
  python -m benchmarks.scheduler --nodes 500 --pods 500 --rounds 1

Needs gcc and the control plane of `make cluster-tools`. Writes benchmarks/results/scheduler.json too.
Exit codes: 0 done; 1 something failed; 2 the arguments were refused; 130 interrupted.
"""


def argument_parser() -> argparse.ArgumentParser:
    """What reads the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scheduler",
        description=__doc__.split("\n")[0],
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--nodes", type=parse_count, default=5000, help="of the cluster (default: %(default)s)")
    parser.add_argument("--pods", type=parse_count, default=5000, help="of a round (default: %(default)s)")
    parser.add_argument("--rounds", type=parse_count, default=5, help="whose median counts (default: %(default)s)")
    parser.add_argument("--percentage", type=int, default=0, help="percentageOfNodesToScore; 0 is the default sample")
    parser.add_argument("--pods-per-node", type=parse_count, default=10, help="for the last measurement")
    parser.add_argument("--policy", default="bundled:latency", help="what is served (default: %(default)s)")
    return parser


@quiet_on_closed_pipe
def main() -> None:
    """Measure, print the table and write the file."""
    arguments = argument_parser().parse_args()
    console = Console()
    tools = tools_directory(os.environ.get("STOWAGE_KUBERNETES", DEFAULT_KUBERNETES))
    runs: dict[str, list[Run]] = {case: [] for case in CASES}
    with (
        unless_interrupted("scheduler"),
        tempfile.TemporaryDirectory() as folder,
        run_control_plane(tools, Path(folder)) as control_plane,
    ):
        bench = Bench(control_plane, tools, Path(folder), arguments)
        console.print(f"{len(bench.api.get(NODES)['items'])} nodes; load average {os.getloadavg()[0]:.1f}")
        for number in range(arguments.rounds):
            for position in range(len(CASES)):
                case = CASES[(number + position) % len(CASES)]
                run = bench.run(case, number)
                runs[case].append(run)
                load = os.getloadavg()[0]
                console.print(
                    f"round {number + 1}: {case}: {run.pods_per_second:.0f} pods/s, "
                    f"attempt p99 {1e3 * run.attempt_p99:.1f} ms; load average {load:.1f}"
                )
        ours = bench.start_on_full_cluster(arguments.pods_per_node)
    title = f"kube-scheduler, {arguments.nodes} nodes, {arguments.pods} pods, median of {arguments.rounds} rounds"
    publish("scheduler", title, results_of(runs, ours, arguments), console)


if __name__ == "__main__":
    main()
