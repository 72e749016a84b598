"""The extender as a process of its own, as kube-scheduler meets it."""

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).resolve().parents[3]
LIMIT_SECONDS = 120.0  # a machine that is busy takes a while to import ONNX Runtime and gRPC


class Reply(NamedTuple):
    """An answer over HTTP."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class ExtenderProcess:
    """A running `python -m extender serve`."""

    def __init__(self, arguments: list[str], environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "extender", "serve", "--http-port", "0", "--grpc-port", "0", *arguments],
            cwd=ROOT,
            # Tests are not about time: a machine that is busy with something else must not change an answer.
            env={"STOWAGE_DEADLINE": "60"} | os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.http_address = ""
        self.grpc_address = ""

    def wait_ready(self) -> None:
        """Read the ready line."""
        assert self.process.stdout is not None
        giving_up = threading.Timer(LIMIT_SECONDS, self.process.kill)
        giving_up.start()
        line = self.process.stdout.readline()
        giving_up.cancel()
        assert line, f"it did not become ready: {self.finish()[1]}"
        ready = json.loads(line)
        assert ready["ready"] is True
        self.http_address = ready["http"]
        self.grpc_address = ready["grpc"]

    def finish(self) -> tuple[int, str]:
        """Wait for its end; returns exit status and stderr."""
        _, errors = self.process.communicate(timeout=LIMIT_SECONDS)
        return self.process.returncode, errors

    def terminate(self) -> tuple[int, str]:
        """End it as Kubernetes does; returns exit status and stderr."""
        self.process.send_signal(signal.SIGTERM)
        return self.finish()

    def connect(self) -> http.client.HTTPConnection:
        """A connection that is kept alive."""
        return http.client.HTTPConnection(self.http_address, timeout=LIMIT_SECONDS)

    def ask(self, method: str, path: str, body: bytes | None = None) -> Reply:
        """Ask over a connection of its own."""
        connection = self.connect()
        try:
            return exchange(connection, method, path, body)
        finally:
            connection.close()

    def count(self, name: str, /, **labels: str) -> float:
        """A sample of the metrics, 0 if there is none with these labels."""
        text = self.ask("GET", "/metrics").body.decode()
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )


def exchange(connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None = None) -> Reply:
    """Ask over this connection."""
    connection.request(method, path, body)
    response = connection.getresponse()
    return Reply(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())


@contextmanager
def run_extender(*arguments: str, **environment: str) -> Iterator[ExtenderProcess]:
    """Run it until the block ends; not ready yet when the block begins."""
    extender = ExtenderProcess(list(arguments), environment)
    try:
        yield extender
    finally:
        if extender.process.poll() is None:
            extender.process.kill()
            extender.process.communicate()


@contextmanager
def serve(
    cluster: bytes, folder: Path, *arguments: str, policy: str = "heuristic:least-allocated"
) -> Iterator[ExtenderProcess]:
    """Run it ready, on a cluster given as a file."""
    path = folder / "cluster.json"
    path.write_bytes(cluster)
    with run_extender("--policy", policy, "--cluster-file", str(path), *arguments) as extender:
        extender.wait_ready()
        yield extender
