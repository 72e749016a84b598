import socket

import pytest

from extender.server.listening import EVERYWHERE, bind


def test_everywhere_is_ipv4_and_ipv6() -> None:
    with bind(EVERYWHERE, 0) as listener:
        port = listener.getsockname()[1]
        for loopback in ("127.0.0.1", "::1"):
            socket.create_connection((loopback, port), timeout=10.0).close()


def test_everywhere_is_ipv4_where_there_is_no_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)

    with bind(EVERYWHERE, 0) as listener:
        assert listener.family == socket.AF_INET
        socket.create_connection(("127.0.0.1", listener.getsockname()[1]), timeout=10.0).close()
