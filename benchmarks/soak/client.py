"""Asks the extender to prioritize, so many times a second, as kube-scheduler's client does; a process of its own.

Usage: `python -m benchmarks.soak.client PORT RATE SECONDS CANDIDATES LIMIT_SECONDS ANSWERS_FILE`. The load is open: a
request is sent when it is due, whether the ones before are answered or not, over a kept connection that is free or else
over a new one. Whatever kube-scheduler would count as a failure is one here: no connection, a connection that is closed
in between, a status other than 200, a body that is no ranking of nodes that were asked about, no answer within its time
limit.

It is told what to ask about line by line (JSON): `{"nodes": [...]}` are the nodes from then on, `{"backlog": [...]}`
the pods that wait and are asked about in turn, `{"pod": ...}` one that is asked about once, next. It tells, as lines:
`{"placed": uid, "node": name}` for each of the last kind, `{"failed": why}`, and each second how it goes. At the end it
writes an array (requests, 3): seconds from the start, seconds until the answer (NaN without one), ranked nodes; tells
`{"late_sends": share}`, of the requests that it sent itself over 50 ms too late; and ends when it is told no more.
"""

import asyncio
import json
import math
import sys
from array import array
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

LATE_SECONDS = 0.05
CONNECTIONS_AT_MOST = 256
IDLE_SECONDS = 90.0  # after which Go closes a kept connection, net/http.DefaultTransport.IdleConnTimeout


class BadAnswerError(Exception):
    """An answer that kube-scheduler could not use; the message says why."""


class Asker:
    """Everything that is asked, and what came of it.

    Args:
        port: the extender's.
        candidates: nodes in a request.
        limit_seconds: a request without an answer by then has failed.
    """

    def __init__(self, port: int, candidates: int, limit_seconds: float) -> None:
        self._port = port
        self._candidates = candidates
        self._limit = limit_seconds
        self._free: deque[tuple[float, asyncio.StreamReader, asyncio.StreamWriter]] = deque()  # the last used last
        self._open = 0
        self._nodes: list[str] = []
        self._encoded: list[bytes] = []
        self._backlog: list[tuple[str, bytes]] = []
        self._next: list[tuple[str, bytes]] = []
        self.turn = 0
        self.answers = array("d")  # three numbers a request
        self.failures = 0
        self.late_sends = 0

    @property
    def is_told(self) -> bool:
        """Whether there is something to ask about."""
        return bool(self._nodes and self._backlog)

    def hear(self, line: bytes) -> None:
        """Take a line of what is to be asked."""
        told: dict[str, Any] = json.loads(line)
        if "nodes" in told:
            self._nodes = told["nodes"]
            self._encoded = [json.dumps(name).encode() for name in self._nodes]
        if "backlog" in told:
            self._backlog = [_encode(pod) for pod in told["backlog"]]
        if "pod" in told:
            self._next.append(_encode(told["pod"]))

    async def ask(self, since_start: float) -> None:
        """Ask about the next pod; `since_start` is when."""
        once = bool(self._next)
        uid, pod = self._next.pop(0) if once else self._backlog[self.turn % len(self._backlog)]
        self.turn += 1
        count = min(self._candidates, len(self._nodes))
        first = self.turn * count % len(self._nodes)  # kube-scheduler goes on where it stopped the last time
        names = (self._nodes[first:] + self._nodes[:first])[:count]
        encoded = (self._encoded[first:] + self._encoded[:first])[:count]
        body = b'{"Pod":%s,"Nodes":null,"NodeNames":[%s]}' % (pod, b",".join(encoded))
        loop = asyncio.get_running_loop()
        began = loop.time()
        seconds, ranked = math.nan, math.nan
        try:
            async with asyncio.timeout(self._limit):
                answer = await self._exchange(body)
            seconds = loop.time() - began
            ranking = read_ranking(answer, names)
            ranked = len(ranking)
            if once:
                tell({"placed": uid, "node": ranking[0]["Host"] if ranking else None})
        except (OSError, asyncio.IncompleteReadError, BadAnswerError, TimeoutError) as error:
            self.failures += 1
            tell({"failed": f"after {since_start:.1f} s: {type(error).__name__}: {error}"[:500]})
        self.answers.extend((since_start, seconds, ranked))

    async def _exchange(self, body: bytes) -> bytes:
        clock = asyncio.get_running_loop().time
        while self._free and clock() - self._free[0][0] > IDLE_SECONDS:
            self._free.popleft()[2].close()
            self._open -= 1
        reader, writer = self._free.pop()[1:] if self._free else await self._connect()
        try:
            writer.write(
                b"POST /prioritize HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUser-Agent: Go-http-client/1.1\r\n"
                b"Content-Length: %d\r\nContent-Type: application/json\r\nAccept-Encoding: gzip\r\n\r\n%s"
                % (self._port, len(body), body)
            )
            head = await reader.readuntil(b"\r\n\r\n")
            lines = head.lower().split(b"\r\n")
            lengths = [int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:")]
            if len(lengths) != 1:
                raise BadAnswerError(f"an answer without one content-length: {head[:200]!r}")
            answer = await reader.readexactly(lengths[0])
            if not head.startswith(b"HTTP/1.1 200 "):
                raise BadAnswerError(f"{lines[0].decode()}: {answer[:200]!r}")
        except BaseException:
            self._open -= 1
            writer.close()
            raise
        self._free.append((clock(), reader, writer))
        return answer

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._open >= CONNECTIONS_AT_MOST:
            raise BadAnswerError(f"{self._open} requests are waiting")
        self._open += 1
        try:
            return await asyncio.open_connection("127.0.0.1", self._port)
        except BaseException:
            self._open -= 1
            raise


def _encode(pod: dict[str, Any]) -> tuple[str, bytes]:
    return pod["metadata"]["uid"], json.dumps(pod, separators=(",", ":")).encode()


def read_ranking(answer: bytes, names: list[str]) -> list[dict[str, Any]]:
    """The ranking, as Go would decode it into a HostPriorityList."""
    try:
        ranking = json.loads(answer)
        sound = isinstance(ranking, list) and all(
            each.keys() == {"Host", "Score"} and type(each["Score"]) is int and 0 <= each["Score"] <= 10
            for each in ranking
        )
    except (ValueError, AttributeError, KeyError) as error:
        raise BadAnswerError(f"no ranking: {answer[:200]!r}") from error
    if not sound:
        raise BadAnswerError(f"no ranking: {answer[:200]!r}")
    unknown = {each["Host"] for each in ranking} - set(names)
    if unknown:
        raise BadAnswerError(f"ranks nodes that were not asked about: {unknown}")
    return list(ranking)


def tell(line: dict[str, Any]) -> None:
    """Print a line at once."""
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


async def main() -> None:
    """Ask for so long, and write down what came of it."""
    rate, seconds = float(sys.argv[2]), float(sys.argv[3])
    asker = Asker(port=int(sys.argv[1]), candidates=int(sys.argv[4]), limit_seconds=float(sys.argv[5]))
    loop = asyncio.get_running_loop()
    told = asyncio.StreamReader(limit=2**26)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(told), sys.stdin.buffer)

    async def listen() -> None:
        while line := await told.readline():
            asker.hear(line)

    listening = asyncio.create_task(listen())
    while not asker.is_told:
        await asyncio.sleep(0.01)
    start = loop.time()
    reported = 0
    async with asyncio.TaskGroup() as asking:
        for number in range(math.ceil(rate * seconds)):
            due = number / rate
            if (wait := start + due - loop.time()) > 0:
                await asyncio.sleep(wait)
            asker.late_sends += loop.time() - start - due > LATE_SECONDS
            asking.create_task(asker.ask(due))
            if int(due) > reported:
                reported = int(due)
                recent = np.array(asker.answers[-3 * int(rate) :])[1::3]
                p99 = float(np.nanpercentile(recent, 99)) if np.isfinite(recent).any() else None
                tell({"second": reported, "asked": number, "failures": asker.failures, "p99": p99})
    np.save(Path(sys.argv[6]), np.array(asker.answers).reshape(-1, 3))
    tell({"late_sends": asker.late_sends / asker.turn})
    await listening


if __name__ == "__main__":
    uvloop.run(main())
