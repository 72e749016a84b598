"""Half an hour of requests while everything around the extender changes: `make soak`.

A real etcd and kube-apiserver with nodes that come, change and go, pods that are created, asked about, bound and
deleted, policy files that are swapped (broken ones and rollbacks among them), candidates that are tried beside them,
and an API server that is killed every few minutes; the extender is a process with the settings of the chart and the
rights of its own service account, and one more process asks it 300 times a second. What has to hold: no request fails,
memory and the 99th percentile stay what they were (`judgement`), and when all is over the extender's books equal the
API server's.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.results import FOLDER, Result, publish, unless_interrupted
from benchmarks.scheduler import do_for_all
from benchmarks.serving.requests import PENDING_SHAPES, SHAPE_SHARES, pod
from benchmarks.soak.disturbances import CandidateTrials, Disturbance, NodeChurn, PodChurn, PolicySwaps, Restarts, total
from benchmarks.soak.judgement import Sample, Soak, results_of, sample, shortcomings
from extender.closed_pipe import quiet_on_closed_pipe
from extender.policies.bundled import policy_path
from tests.cluster.control_plane import run_control_plane
from tests.cluster.extender_process import ExtenderProcess, NodeView
from tests.cluster.kwok import make_node, node_shapes
from tests.cluster.ledger import account, differences
from tests.cluster.processes import free_port, wait_for
from tests.cluster.tools.build import DEFAULT_KUBERNETES, tools_directory
from training.arguments import parse_count, parse_positive

MANIFESTS = Path(__file__).resolve().parents[2] / "manifests"
SETTLE_SECONDS = 120.0
REPORT_SECONDS = 10.0
# What the chart sets; the decision log is on, as it is where policies are trained on what the cluster sees.
FLAGS = ("--deadline", "0.05", "--decision-log-file-bytes", str(8 * 1024 * 1024), "--log-format", "json")


class Client:
    """The process that asks."""

    def __init__(self, port: int, given: argparse.Namespace, answers: Path, console: Console) -> None:
        self._console = console
        self.failures: list[str] = []
        self.late_sends = 0.0
        self.last: dict[str, Any] = {"second": 0, "asked": 0, "failures": 0, "p99": None}
        self._answers = answers
        numbers = (port, given.rate, 60 * given.minutes, given.candidates, given.answer_seconds)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.soak.client", *map(str, numbers), answers],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            process_group=0,  # Ctrl-C is for the one that takes all down
        )
        self._lock = threading.Lock()
        self._pods: PodChurn | None = None
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._asked_all = threading.Event()

    def listen(self, pods: PodChurn) -> None:
        """Hand what was placed to these from now on."""
        self._pods = pods
        self._listener.start()

    def tell(self, line: dict[str, Any]) -> None:
        """Tell it what to ask about."""
        assert self._process.stdin is not None
        with self._lock:
            self._process.stdin.write(json.dumps(line).encode() + b"\n")
            self._process.stdin.flush()

    @property
    def asks(self) -> bool:
        """Whether it goes on."""
        return not self._asked_all.is_set() and self._process.poll() is None

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            told = json.loads(line)
            if "placed" in told and told["node"] is not None and self._pods is not None:
                self._pods.placed.put((told["placed"], told["node"]))
            elif "failed" in told:
                self._console.print(told["failed"])
                self.failures.append(told["failed"])
            elif "second" in told:
                self.last = told
            elif "late_sends" in told:
                self.late_sends = told["late_sends"]
                self._asked_all.set()

    def finish(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """What came of every request."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        if self._process.wait(60.0) != 0:
            raise RuntimeError(f"the client ended with status {self._process.returncode}")
        answers: np.ndarray[Any, np.dtype[np.float64]] = np.load(self._answers)
        return answers

    def kill(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait(10.0)


@contextmanager
def running(disturbances: Sequence[Disturbance]) -> Iterator[None]:
    """All of them, until the block ends."""
    for each in disturbances:
        each.start()
    try:
        yield
    finally:
        for each in disturbances:
            each.stopped.set()
    for each in disturbances:
        each.stop()


def soak(given: argparse.Namespace, tools: Path, folder: Path, console: Console) -> Soak:
    """Run everything."""
    generator = np.random.default_rng(0)
    with ExitStack() as stack:
        control_plane = stack.enter_context(run_control_plane(tools, folder))
        api = control_plane.api
        for manifest in ("namespace.yaml", "extender/rbac.yaml"):
            api.create_all(MANIFESTS / manifest)
        shapes = node_shapes(MANIFESTS / "kwok" / "nodes.yaml")
        nodes = {f"node-{number:05d}": list(shapes.values())[number % len(shapes)] for number in range(given.nodes)}
        do_for_all(lambda name: api.create(make_node(nodes[name], name)), list(nodes))
        policy = folder / "policy.onnx"
        shutil.copyfile(policy_path("bundled:packing"), policy)
        kubeconfig = control_plane.kubeconfig("stowage", "stowage-extender")
        port = free_port()
        candidate = folder / "candidate.json"
        flags = (*FLAGS, "--assume-ttl", str(given.assume_ttl), "--candidate", str(candidate))
        extender = ExtenderProcess(folder, kubeconfig, policy, port, flags)
        stack.callback(extender.stop)
        extender.wait_ready()

        client = Client(port, given, folder / "answers.npy", console)
        stack.callback(client.kill)
        pods = PodChurn(api, given.pods, lambda document: client.tell({"pod": document}), generator)
        seconds = 60 * given.minutes
        disturbances: list[Disturbance] = [
            pods,
            NodeChurn(
                api,
                1.0 / given.node_changes,
                shapes,
                list(nodes),
                lambda names: client.tell({"nodes": names}),
                generator,
            ),
            PolicySwaps(given.swap_seconds, policy, lambda name: policy_path(f"bundled:{name}"), extender.url),
            CandidateTrials(given.swap_seconds, candidate, extender.url),
        ]
        restarts = Restarts(control_plane.apiserver, seconds / given.restarts, given.down_seconds)
        client.tell({"backlog": backlog(given.backlog, generator)})
        client.tell({"nodes": list(nodes)})
        client.listen(pods)
        with running(disturbances):
            samples = watch(client, extender.pid, restarts, lambda: total((*disturbances, restarts)), console)
        answers = client.finish()
        restarts.end()
        wait_for(api.is_ready, SETTLE_SECONDS, "the API server", 0.1)
        return Soak(
            seconds,
            given.rate,
            answers,
            client.late_sends,
            samples,
            client.failures,
            total((*disturbances, restarts)),
            {labels["rung"]: value for labels, value in extender.samples("stowage_decisions_total")},
            {labels["result"]: value for labels, value in extender.samples("stowage_policy_swaps_total")},
            settle(extender, lambda: account(api.list_nodes(), api.list_pods())),
        )


def backlog(count: int, generator: np.random.Generator) -> list[dict[str, Any]]:
    """Pods that wait for room, and are asked about again and again."""
    shapes = generator.choice(len(PENDING_SHAPES), count, p=SHAPE_SHARES)
    waiting = [pod(f"waiting-{number}", PENDING_SHAPES[int(shape)]) for number, shape in enumerate(shapes)]
    for number, each in enumerate(waiting):
        each["metadata"]["uid"] = f"waiting-{number}"
    return waiting


def watch(
    client: Client, pid: int, restarts: Restarts, done: Callable[[], dict[str, int]], console: Console
) -> list[Sample]:
    """Look at the extender every second, kill the API server when it is time to, and tell how it goes, to the end."""
    samples: list[Sample] = []
    began = reported = time.monotonic()
    while client.asks:
        time.sleep(1.0)
        samples.append(sample(time.monotonic() - began, pid))
        restarts.look(time.monotonic() - began)
        if time.monotonic() - reported >= REPORT_SECONDS:
            reported = time.monotonic()
            last = client.last
            p99 = f"{1e3 * last['p99']:.1f} ms" if last["p99"] is not None else "unknown"
            console.print(
                f"{last['second']} s: {last['asked']} asked, {last['failures']} failed, p99 {p99}; "
                f"{samples[-1].mebibytes:.1f} MiB; load {samples[-1].load:.1f}; {done()}"
            )
    return samples


def settle(extender: ExtenderProcess, expected: Callable[[], dict[str, NodeView]]) -> list[str]:
    """What the extender's books still differ in from the API server's, once assumptions have lapsed."""
    wait_for(lambda: extender.assumed() == 0, SETTLE_SECONDS, "assumptions to lapse", 0.5)
    wanted = expected()
    try:
        wait_for(lambda: not differences(extender.nodes(), wanted), SETTLE_SECONDS, "the books to agree", 0.5)
    except TimeoutError:
        return differences(extender.nodes(), wanted)
    return []


EXAMPLES = """\
examples:
  python -m benchmarks.soak
  python -m benchmarks.soak --minutes 5 --nodes 200 --candidates 80 --restarts 1

Needs the control plane of `make cluster-tools`. Writes the table as JSON too (--results).
Exit codes: 0 it held; 1 it did not, or something failed; 2 the arguments were refused; 130 interrupted.
"""


def argument_parser() -> argparse.ArgumentParser:
    """What reads the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.soak",
        description=__doc__.split("\n")[0],
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=parse_positive, default=30.0, help="how long (default: 30)")
    parser.add_argument("--rate", type=parse_positive, default=300.0, help="requests a second (default: 300)")
    parser.add_argument(
        "--answer-seconds",
        type=parse_positive,
        default=1.0,
        help="limit of an answer; 1 is httpTimeout of the chart's extender",
    )
    parser.add_argument("--nodes", type=parse_count, default=1000, help="nodes (default: 1000)")
    parser.add_argument("--candidates", type=parse_count, default=420, help="asked about; kube-scheduler: 420 of 1,000")
    parser.add_argument(
        "--backlog", type=parse_count, default=2000, help="pods asked about again and again (default: 2000)"
    )
    parser.add_argument(
        "--pods", type=parse_positive, default=10.0, help="pods a second that come, are bound and leave"
    )
    parser.add_argument(
        "--node-changes", type=parse_positive, default=2.0, help="nodes a second that change or are replaced"
    )
    parser.add_argument("--swap-seconds", type=parse_positive, default=30.0, help="from one policy file to the next")
    parser.add_argument(
        "--restarts", type=parse_count, default=6, help="how often the API server is killed (default: 6)"
    )
    parser.add_argument("--down-seconds", type=parse_positive, default=5.0, help="how long it stays away (default: 5)")
    parser.add_argument("--assume-ttl", type=parse_positive, default=30.0, help="the extender's setting (default: 30)")
    parser.add_argument("--results", type=Path, default=FOLDER, help="folder for the results")
    return parser


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    return argument_parser().parse_args(arguments)


@quiet_on_closed_pipe
def main(arguments: Sequence[str] | None = None) -> int:
    """Soak, print the table and write the file; exit status 1 if it did not hold."""
    given = parse(arguments)
    console = Console()
    tools = tools_directory(os.environ.get("STOWAGE_KUBERNETES", DEFAULT_KUBERNETES))
    with unless_interrupted("soak"), tempfile.TemporaryDirectory() as folder:
        seen = soak(given, tools, Path(folder), console)
    settings = [
        Result("settings", name, float(value), "")
        for name, value in vars(given).items()
        if isinstance(value, int | float)
    ]
    title = f"{given.minutes:g} minutes on {given.nodes:,} nodes"
    publish("soak", title, [*settings, *results_of(seen)], console, given.results)
    found = shortcomings(seen)
    for line in found:
        console.print(line, style="bold")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
