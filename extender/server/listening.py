"""Where the HTTP server listens, and how uvicorn serves there.

Everything that a client may do to a connection has its limit here; what is asked over it is for `http`.
"""

import logging
import signal
import socket
import threading
from types import FrameType

import uvicorn

from extender.server.guarded import ConnectionLimits, guarded_by
from extender.server.http import HttpApp
from extender.server.tls import ServerTls
from extender.settings import Settings
from extender.telemetry.metrics import Metrics

KEEP_ALIVE_SECONDS = 120  # Go closes idle connections at 90 s; stay above it
BACKLOG = 1024
EVERYWHERE = "::"  # every address of the machine

log = logging.getLogger(__name__)


class StartError(Exception):
    """The extender cannot start as it was told to; the message says what to change."""


class HttpServer(uvicorn.Server):
    """uvicorn ends a process by the signal that it caught, once it has shut down; we exit with 0 instead."""

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve on these until a signal comes."""
        if _in_main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                # uvicorn replaces these while it serves, and calls them afterwards with what it caught.
                signal.signal(number, _ignore)
        await super().serve(sockets)


def http_server(app: HttpApp, settings: Settings, tls: ServerTls | None, metrics: Metrics) -> HttpServer:
    """The server of an application, which does not listen yet."""
    return HttpServer(
        uvicorn.Config(
            app,
            http=guarded_by(
                ConnectionLimits(settings.max_header_bytes, settings.client_timeout, metrics.cut_connections)
            ),
            limit_concurrency=settings.max_connections,
            ssl_context_factory=(lambda config, default: tls.http_context()) if tls is not None else None,
            ws="none",
            lifespan="off",
            interface="asgi3",
            access_log=False,
            log_config=None,
            server_header=False,
            date_header=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=max(1, round(settings.shutdown_grace)),
            backlog=BACKLOG,
        )
    )


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens there; on `EVERYWHERE` for IPv4 as well, and for that alone where there is no IPv6.

    Raises:
        StartError: it cannot.
    """
    if host == EVERYWHERE and not socket.has_dualstack_ipv6():
        host = "0.0.0.0"
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if host == EVERYWHERE:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise StartError(f"--http-port: cannot use {host}:{port}: {error.strerror}; 0 takes a free port") from error
    return listener


def address(bound: tuple[str, int]) -> str:
    """Where a socket is bound, as people write it.

    Example:
        >>> address(("::1", 8888)), address(("127.0.0.1", 8888))
        ('[::1]:8888', '127.0.0.1:8888')
    """
    host, port = bound[:2]  # an IPv6 address has four parts
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _ignore(number: int, frame: FrameType | None) -> None:
    log.info("stopped by %s", signal.Signals(number).name)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
