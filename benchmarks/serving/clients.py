"""What asks: the load generator in C for HTTP, a Python client for gRPC; either gives the seconds of each answer."""

import queue
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
from numpy.typing import NDArray

from benchmarks.serving.requests import Document
from extender.server.scoring_pb2 import PodIdentity, ScoreRequest, ScoreResponse

FOLDER = Path(__file__).parent
LIMIT_SECONDS = 600.0

Seconds = NDArray[np.float64]


def compile_c(name: str, folder: Path) -> Path:
    """Build one of the programs in C with gcc; its path."""
    program = folder / name
    source = FOLDER / f"{name}.c"
    subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-o", program, source], check=True, timeout=LIMIT_SECONDS)
    return program


def ask_http(load: Path, port: int, requests: Path, count: int, rate: float) -> Seconds:
    """Ask `count` times over one connection.

    Args:
        load: the load generator.
        port: on the loopback interface.
        requests: file of requests, asked in turn.
        count: how many.
        rate: a second; 0 for one after the other.
    """
    done = subprocess.run(
        [load, str(port), requests, str(count), str(rate)],
        check=True,
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
    )
    return np.array(done.stdout.split(), np.float64) / 1e9


def score_requests(asked: list[tuple[Document, list[str]]]) -> list[ScoreRequest]:
    """The same questions for gRPC."""
    return [
        ScoreRequest(
            pod=PodIdentity(name=pod["metadata"]["name"], uid=pod["metadata"]["uid"]),
            requests=pod["spec"]["containers"][0]["resources"]["requests"],
            node_names=names,
        )
        for pod, names in asked
    ]


def ask_rpc(port: int, requests: list[ScoreRequest], stream: bool) -> Seconds:
    """Ask one after the other, with a call each or all over one call."""
    coders = {
        "request_serializer": ScoreRequest.SerializeToString,
        "response_deserializer": ScoreResponse.FromString,
    }
    seconds = []
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        if not stream:
            call = channel.unary_unary("/stowage.v1.Scoring/Score", **coders)
            for request in requests:
                began = time.perf_counter()
                call(request, timeout=60.0)
                seconds.append(time.perf_counter() - began)
            return np.array(seconds)
        waiting: queue.SimpleQueue[ScoreRequest | None] = queue.SimpleQueue()

        def sent() -> Iterator[ScoreRequest]:
            while (request := waiting.get()) is not None:
                yield request

        answers = channel.stream_stream("/stowage.v1.Scoring/ScoreStream", **coders)(sent(), timeout=LIMIT_SECONDS)
        for request in requests:
            began = time.perf_counter()
            waiting.put(request)
            next(answers)
            seconds.append(time.perf_counter() - began)
        waiting.put(None)
    return np.array(seconds)
