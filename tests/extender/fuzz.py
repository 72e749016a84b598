"""Mutated requests by the hundred thousand against a real extender: `python -m tests.extender.fuzz`.

Valid questions are changed in their structure (fields dropped, repeated, swapped for values of other types, numbers and
quantities out of range) or in their bytes, from a seed, so that a finding can be had again. What must not happen: the
process ends, an answer of 5xx or an unexpected gRPC status, no answer at all, or memory that grows with the requests.
"""

import argparse
import asyncio
import contextlib
import copy
import itertools
import json
import math
import random
import socket
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from extender.server.scoring_pb2 import PodIdentity, ScoreRequest
from tests.extender.objects import cluster_list, node, pod
from tests.extender.server.process import ExtenderProcess, serve

VERBS = ("prioritize", "filter", "preempt")
METHODS = ("Score", "ScoreStream")
NODES = ["cpu-0", "cpu-1", "gpu-0", "gpu-1"]
BATCH = 50  # requests that are sent before their answers are read
GROWTH_MIB = 64.0
LIMIT_SECONDS = 60.0
EXPECTED = (grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)
SERVICE = "/stowage.v1.Scoring/"
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 2**31, -(2**63), 2**64, 1e308, 0.1, "", "\0", "ä" * 50, "9E", "-1", "1e999999999"),
    *("0x10", "1" * 300, [], {}, [[]], [None], {"": {}}, [{}] * 3, {"metadata": None}, "NaN", "\ud7ff"),
)


class FindingError(AssertionError):
    """Something happened that must not; the message holds the request."""


def question(verb: str) -> dict[str, Any]:
    """A valid body."""
    asked = pod("p", {"cpu": "500m", "memory": "1Gi", "stowage.dev/gpu-milli": "250"}, priority=7)
    asked["metadata"]["annotations"] = {"stowage.dev/expected-seconds": "90"}
    asked["spec"]["initContainers"] = [{"name": "i", "restartPolicy": "Always", "resources": {"limits": {"cpu": "1"}}}]
    asked["spec"]["overhead"] = {"cpu": "10m"}
    asked["spec"]["resources"] = {"requests": {"cpu": "2"}}
    if verb == "preempt":
        victims = {name: {"Pods": [{"UID": f"uid-{name}"}], "NumPDBViolations": 1} for name in NODES}
        return {"Pod": asked, "NodeNameToMetaVictims": victims, "NodeNameToVictims": None}
    return {"Pod": asked, "Nodes": None, "NodeNames": list(NODES)}


def mutate(document: Any, chance: random.Random) -> bytes:
    """The document with a few things changed, as JSON that may be broken."""
    changed = copy.deepcopy(document)
    for _ in range(chance.randint(1, 4)):
        places = list(_places(changed))
        holder, key = chance.choice(places)
        kind = chance.randrange(4)
        if kind == 0:
            holder[key] = copy.deepcopy(chance.choice(ODD))
        elif kind == 1:
            del holder[key]
        elif kind == 2 and isinstance(holder, dict):
            holder[chance.choice(["Pod", "Nodes", "metadata", "spec", "resources", "uid", "x"])] = holder[key]
        else:
            holder[key] = [holder[key]] * chance.randint(0, 3)
        if not changed:
            break
    body = json.dumps(changed).encode("utf-8", "surrogatepass")
    return mutate_bytes(body, chance) if chance.random() < 0.3 else body


def mutate_bytes(body: bytes, chance: random.Random) -> bytes:
    """The bytes with a few changed, left out or repeated."""
    changed = bytearray(body)
    for _ in range(chance.randint(1, 6)):
        at = chance.randint(0, len(changed))
        kind = chance.randrange(4)
        if kind == 0:
            changed[at : at + 1] = bytes([chance.randrange(256)])
        elif kind == 1:
            del changed[at : at + chance.randint(1, 20)]
        elif kind == 2:
            changed[at:at] = changed[at : at + chance.randint(1, 20)]
        else:
            changed[at:at] = chance.choice((b"\xff", b"[" * 200, b"{", b'"', b"\\u0000", b"e9999"))
    return bytes(changed)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in the document: what holds it, and its key there."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(items):
        yield value, key
        yield from _places(inner)


def fuzz_verb(extender: ExtenderProcess, verb: str, count: int, chance: random.Random) -> Counter[int]:
    """Send mutated bodies to a verb; how often which status came back."""
    statuses: Counter[int] = Counter()
    seed = question(verb)
    host, port = extender.http_address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=LIMIT_SECONDS) as client:
        answers = client.makefile("rb")
        for start in range(0, count, BATCH):
            bodies = [mutate(seed, chance) for _ in range(min(BATCH, count - start))]
            client.sendall(b"".join(_request(verb, body) for body in bodies))
            for body in bodies:
                status = _read_answer(answers)
                if status is None or status >= 500:
                    raise FindingError(f"{verb} answered {status} to {body!r}")
                statuses[status] += 1
    return statuses


def _request(verb: str, body: bytes) -> bytes:
    return b"POST /%s HTTP/1.1\r\ncontent-length: %d\r\n\r\n%s" % (verb.encode(), len(body), body)


def _read_answer(answers: Any) -> int | None:
    first = answers.readline()
    if not first:
        return None
    length = 0
    while (line := answers.readline()) not in (b"\r\n", b""):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    answers.read(length)
    return int(first.split()[1])


def fuzz_method(extender: ExtenderProcess, method: str, count: int, chance: random.Random) -> Counter[str]:
    """Send mutated messages to a gRPC method; how often which status came back."""
    return asyncio.run(_ask_all(extender, method, (mutate_message(chance) for _ in range(count))))


def mutate_message(chance: random.Random) -> bytes:
    """A ScoreRequest with odd values, or with a few bytes changed."""
    message = ScoreRequest(
        pod=PodIdentity(namespace="default", name="p", uid="uid-p"),
        requests={"cpu": "500m", "memory": "1Gi", "stowage.dev/gpu-milli": "250"},
        priority=7,
        expected_seconds=90.0,
        node_names=NODES,
    )
    if chance.random() < 0.5:
        return mutate_bytes(message.SerializeToString(), chance)
    texts = [text for text in ODD if isinstance(text, str) and text.isprintable()]
    for _ in range(chance.randint(1, 3)):
        kind = chance.randrange(6)
        if kind == 0:
            message.requests[chance.choice(["cpu", "memory", "nvidia.com/gpu", "stowage.dev/gpu-milli", ""])] = (
                chance.choice([*texts, "1", "2k", "500", "1500", "0"])
            )
        elif kind == 1:
            message.expected_seconds = chance.choice([math.nan, math.inf, -1.0, 0.0, 1e300, 5e-324])
        elif kind == 2:
            message.priority = chance.choice([-(2**31), 2**31 - 1, 0])
        elif kind == 3:
            message.node_names.extend(chance.choice([NODES, ["nowhere"], [""], NODES * 50]))
        elif kind == 4:
            del message.node_names[chance.randrange(len(NODES)) :]
        else:
            message.ClearField(chance.choice(["pod", "requests", "node_names"]))
    return message.SerializeToString()


async def _ask_all(extender: ExtenderProcess, method: str, messages: Iterator[bytes]) -> Counter[str]:
    """Send messages, a call each and several calls at a time; a stream brings its message twice."""
    statuses: Counter[str] = Counter()
    async with grpc.aio.insecure_channel(extender.grpc_address) as channel:
        unary = channel.unary_unary(SERVICE + method)
        stream = channel.stream_stream(SERVICE + method)
        while batch := list(itertools.islice(messages, BATCH)):
            ends = [
                _code(unary(message, timeout=LIMIT_SECONDS))
                if method == "Score"
                else _talk(stream(timeout=LIMIT_SECONDS), message)
                for message in batch
            ]
            for code, message in zip(await asyncio.gather(*ends), batch, strict=True):
                if code not in EXPECTED:
                    raise FindingError(f"{method} answered {code} to {message!r}")
                statuses[code.name] += 1
    return statuses


async def _talk(call: Any, message: bytes) -> grpc.StatusCode:
    """Send the message over a stream, and once more if it is answered; the stream's status."""
    with contextlib.suppress(grpc.RpcError):  # what the status says as well
        for _ in range(2):
            await call.write(message)
            if await call.read() is grpc.aio.EOF:
                break
        await call.done_writing()
    return await _code(call)


async def _code(call: Any) -> grpc.StatusCode:
    code: grpc.StatusCode = await call.code()
    return code


def cluster() -> bytes:
    """Two nodes of each kind."""
    return cluster_list(node("cpu-0"), node("cpu-1"), node("gpu-0", gpu_milli="2000"), node("gpu-1", gpus="2"))


def resident_mib(extender: ExtenderProcess) -> float:
    """What the process has in memory."""
    status = Path(f"/proc/{extender.process.pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:")) / 1024


def main() -> int:
    """Fuzz everything; exit status 1 if something was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.extender.fuzz", description=__doc__.split("\n")[0])
    parser.add_argument("--requests", type=int, default=100_000, help="for each verb and method")
    parser.add_argument("--seed", type=int, default=20261121)
    parser.add_argument("--only", choices=(*VERBS, *METHODS), help="one verb or method instead of all")
    given = parser.parse_args()
    flags = ("--assume-ttl", "1", "--log-level", "error", "--deadline", "1")
    with tempfile.TemporaryDirectory() as folder, serve(cluster(), Path(folder), *flags) as extender:
        for name in (*VERBS, *METHODS) if given.only is None else (given.only,):
            fuzz = fuzz_verb if name in VERBS else fuzz_method
            chance = random.Random(f"{given.seed} {name}")
            try:
                fuzz(extender, name, given.requests // 10, chance)
                before = resident_mib(extender)
                statuses = fuzz(extender, name, given.requests - given.requests // 10, chance)
            except FindingError as finding:
                sys.stderr.write(f"{finding}\n")
                return 1
            grown = resident_mib(extender) - before
            sys.stdout.write(f"{name}: {dict(statuses)}; memory {before:.0f} MiB, {grown:+.1f} MiB\n")
            sys.stdout.flush()
            if grown > GROWTH_MIB or extender.process.poll() is not None:
                sys.stderr.write(f"{name}: memory grew by {grown:.1f} MiB, or the extender ended\n")
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
