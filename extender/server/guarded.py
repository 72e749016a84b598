"""What one connection may take of us: the size of a request's head, and the time until a request is whole.

uvicorn waits for ever for a client that has begun a request, or none, and keeps whatever header it sends. A client that
does neither well is cut off and counted. The body's size is `http`'s affair, which can say what to do about it.
"""

import asyncio
import socket
import struct
import time
from typing import Any, NamedTuple

from prometheus_client import Counter
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

COMPLETE = "complete"  # in a scope's state: `time.perf_counter()` when the request was
_LAST_DATA_RECEIVED = 52  # tcpi_last_data_recv in struct tcp_info, include/uapi/linux/tcp.h: milliseconds, 32 bits
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class ConnectionLimits(NamedTuple):
    """What a client may take.

    Attributes:
        header_bytes: size of a request's first line and headers.
        seconds: from the opening, or a request's first byte, until the request is whole; then until its answer is read.
        cut: counts clients that were cut off, by reason.
    """

    header_bytes: int
    seconds: float
    cut: Counter


class HeaderTooLargeError(Exception):
    """The head of a request is larger than allowed."""


class GuardedProtocol(HttpToolsProtocol):
    """A connection within its limits; subclasses set `limits`, as uvicorn makes the instances."""

    limits: ConnectionLimits

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._received = 0  # bytes in which the head that is being read has come so far
        self._head_bytes = 0  # what of it has been understood
        self._in_head = False
        self._in_request = False
        self._too_large = False
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has come: it has so long to ask something."""
        super().connection_made(transport)
        self._wait_for("request")

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Some bytes of requests have come."""
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._in_head:
            self._received += len(data)  # also what is not understood yet, as a header without end
            if self._received > self.limits.header_bytes:
                self._too_large = True
                self.send_400_response("")
                return
        if self._in_request and self._timer is None:
            self._wait_for("request")

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self._in_request = self._in_head = True
        self._received = self._head_bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; raises HeaderTooLargeError."""
        self._head_bytes += len(name) + len(value)
        self._check_head()
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._in_head = False
        self._check_head()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The request is whole: its deadline begins, and the client has so long to read the answer."""
        # Not when it is looked at: requests that pile up would be answered one by one, each in time by its own count,
        # while their clients have long given up.
        self.scope["state"][COMPLETE] = time.perf_counter() - seconds_in_kernel(self.transport)
        super().on_message_complete()
        self._in_request = False
        self._stop_waiting()
        if self.cycle is not None and not self.cycle.response_complete:
            self._wait_for("answer")

    def on_response_complete(self) -> None:
        """The answer is on its way; what the client has not taken of it yet is in our memory."""
        if not self._in_request:
            self._stop_waiting()
            if self.transport.get_write_buffer_size() > 0:
                self._wait_for("answer")
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, or has too large a head."""
        if not self._too_large:
            super().send_400_response(msg)
            return
        self.limits.cut.labels("header").inc()
        self.transport.write(_TOO_LARGE)
        self.transport.close()

    def _check_head(self) -> None:
        if self._head_bytes + len(self.url) > self.limits.header_bytes:
            self._too_large = True
            raise HeaderTooLargeError

    def _wait_for(self, what: str) -> None:
        self._timer = self.loop.call_later(self.limits.seconds, self._cut_off, what)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _cut_off(self, what: str) -> None:
        self._timer = None
        if what == "answer" and self.cycle.response_complete and self.transport.get_write_buffer_size() == 0:
            return
        self.limits.cut.labels(what).inc()
        self.transport.abort()


def seconds_in_kernel(transport: asyncio.BaseTransport) -> float:
    """How long the last bytes that came over a connection had been there before they were read.

    A busy event loop reads late, and accepts connections even later, one in each of its turns; what a client has sent
    lies in the kernel meanwhile, which knows since when.

    Returns:
        seconds, to a few milliseconds; 0.0 where nobody knows, as on other systems than Linux.
    """
    connection = transport.get_extra_info("socket")
    if connection is None or not hasattr(socket, "TCP_INFO"):
        return 0.0
    try:
        told = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _LAST_DATA_RECEIVED + 4)
    except OSError:  # the client is gone, or this is no TCP: there is nobody to be late for
        return 0.0
    (milliseconds,) = struct.unpack_from("=I", told, _LAST_DATA_RECEIVED)
    return float(milliseconds / 1e3)


def guarded_by(limits: ConnectionLimits) -> type[GuardedProtocol]:
    """The protocol with these limits, for uvicorn."""
    return type("LimitedProtocol", (GuardedProtocol,), {"limits": limits})
