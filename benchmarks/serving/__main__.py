"""Measures how long answers of the extender take, each figure beside that of a server that does nothing, in one run.

`make bench-serving`. The servers are asked in turn, round after round, so that whatever else the machine does meets
all of them; a figure is the median over the rounds of a round's percentile. The baseline of HTTP is a server in C, that
of gRPC one of the same library that answers without looking, and that of the case with pod events is the extender
without them.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console

from benchmarks.results import FOLDER, Result, publish, unless_interrupted
from benchmarks.serving.clients import Seconds, ask_http, ask_rpc, compile_c, score_requests
from benchmarks.serving.requests import NODES, cluster, node_name, questions, write_requests
from extender.closed_pipe import quiet_on_closed_pipe
from training.arguments import parse_count, parse_positive

PERCENTILES = (50, 99)
START_SECONDS = 120.0


class Case(NamedTuple):
    """What is compared: `asked` of ours and `baseline` of the other, seconds each."""

    name: str
    asked: Callable[[], Seconds]
    baseline: Callable[[], Seconds]


@contextlib.contextmanager
def running(command: list[str | Path]) -> Iterator[tuple[str, int]]:
    """A process until the block ends; the first line that it prints, and its number."""
    # In a group of its own: Ctrl-C is for the one that takes all down.
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, process_group=0)
    try:
        assert process.stdout is not None
        began = time.monotonic()
        line = process.stdout.readline()
        if not line or time.monotonic() - began > START_SECONDS:
            raise RuntimeError(f"{command} did not start in time: status {process.poll()}")
        yield line, process.pid
    finally:
        process.terminate()
        process.wait(timeout=30.0)


def kubeconfig(path: Path, port: int) -> Path:
    """A kubeconfig file for the API server."""
    path.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
                "users": [{"name": "u", "user": {}}],
                "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                "current-context": "x",
            }
        )
    )
    return path


def prepare(folder: Path, generator: np.random.Generator) -> None:
    """Write the cluster, the requests and the answer of the server that does nothing."""
    nodes, pods = cluster(generator)
    (folder / "cluster.json").write_text(json.dumps({"kind": "List", "apiVersion": "v1", "items": nodes + pods}))
    write_requests(folder / "few", questions(generator, 2000, 500, "few"))
    write_requests(folder / "all", questions(generator, 300, NODES, "all"))
    answer = json.dumps([{"Host": node_name(at), "Score": 10 - at} for at in range(10)], separators=(",", ":"))
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(answer)}\r\n\r\n"
    (folder / "answer").write_text(head + answer)


def measure(folder: Path, rounds: int, scale: float, policy: str, console: Console) -> list[Result]:
    """Run everything."""
    generator = np.random.default_rng(0)
    prepare(folder, generator)
    calls = score_requests(questions(generator, max(int(1000 * scale), 10), 500, "rpc"))
    load, null = compile_c("load", folder), compile_c("null_server", folder)
    python = [sys.executable, "-m"]
    with contextlib.ExitStack() as stack:
        line, _ = stack.enter_context(running([null, folder / "answer"]))
        null_port = int(line)
        line, _ = stack.enter_context(running([*python, "benchmarks.serving.null_rpc"]))
        null_rpc_port = int(line)
        line, api_pid = stack.enter_context(
            running([*python, "benchmarks.serving.api_server", folder / "cluster.json"])
        )
        extender = [
            *(*python, "extender", "serve", "--policy", policy, "--http-port", "0", "--grpc-port", "0"),
            *("--kubeconfig", kubeconfig(folder / "kubeconfig", int(line)), "--log-level", "error"),
        ]
        line, _ = stack.enter_context(running(extender))
        ports = {name: int(address.rsplit(":", 1)[1]) for name, address in json.loads(line).items() if name != "ready"}

        def http(port: int, file: str, count: float, rate: float = 0.0) -> Callable[[], Seconds]:
            return lambda: ask_http(load, port, folder / file, max(int(scale * count), 10), rate)

        def with_events() -> Seconds:
            os.kill(api_pid, signal.SIGUSR1)
            try:
                return http(ports["http"], "few", 4000)()
            finally:
                os.kill(api_pid, signal.SIGUSR1)
                time.sleep(0.5)

        few = http(ports["http"], "few", 4000)
        cases = [
            Case("500 candidates", few, http(null_port, "few", 4000)),
            Case(
                "500 candidates, 100 requests/s", http(ports["http"], "few", 500, 100), http(null_port, "few", 500, 100)
            ),
            Case("5,000 candidates", http(ports["http"], "all", 600), http(null_port, "all", 600)),
            Case("500 candidates, 1,000 pod events/s, against none", with_events, few),
            Case(
                "gRPC unary, 500 candidates",
                lambda: ask_rpc(ports["grpc"], calls, False),
                lambda: ask_rpc(null_rpc_port, calls, False),
            ),
            Case(
                "gRPC streaming, 500 candidates",
                lambda: ask_rpc(ports["grpc"], calls, True),
                lambda: ask_rpc(null_rpc_port, calls, True),
            ),
        ]
        few()  # the nodes are described for each shape of pod, which is done once
        cases[2].asked()
        found: dict[str, list[tuple[Seconds, Seconds]]] = {case.name: [] for case in cases}
        for number in range(rounds):
            for case in cases:
                console.print(f"round {number + 1} of {rounds}: {case.name}")
                pair = case.baseline(), case.asked()
                found[case.name].append(
                    (np.percentile(pair[1], PERCENTILES) * 1e6, np.percentile(pair[0], PERCENTILES) * 1e6)
                )
    results = []
    for name, pairs in found.items():
        ours, theirs = np.median(np.array(pairs), axis=0)
        for index, percentile in enumerate(PERCENTILES):
            results.append(Result(name, f"p{percentile}", float(ours[index]), "µs", float(theirs[index])))
    results.append(
        Result("machine", "load average at the end", os.getloadavg()[0], "processes", float(os.cpu_count() or 1))
    )
    return results


EXAMPLES = """\
examples:
  python -m benchmarks.serving
  python -m benchmarks.serving --rounds 1 --scale 0.1 --policy bundled:latency

Needs gcc. Writes the table as JSON too (--results).
Exit codes: 0 done; 1 a server failed; 2 the arguments were refused; 130 interrupted.
"""


def argument_parser() -> argparse.ArgumentParser:
    """What reads the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serving",
        description="How long an answer takes, beside a server that does nothing.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--rounds", type=parse_count, default=5, help="how often all cases are gone through (default: 5)"
    )
    parser.add_argument(
        "--scale", type=parse_positive, default=1.0, help="times as many requests as usual (default: 1)"
    )
    parser.add_argument(
        "--policy", default="bundled:latency", help="what is served (default: bundled:latency, as the chart has it)"
    )
    parser.add_argument("--results", type=Path, default=FOLDER, help="folder for the results")
    return parser


@quiet_on_closed_pipe
def main() -> None:
    """Measure, print, and write the results."""
    given = argument_parser().parse_args()
    console = Console()
    with unless_interrupted("serving"), tempfile.TemporaryDirectory() as folder:
        results = measure(Path(folder), given.rounds, given.scale, given.policy, console)
    publish("serving", f"Answers of {given.policy} on {NODES:,} nodes", results, console, given.results)


if __name__ == "__main__":
    main()
