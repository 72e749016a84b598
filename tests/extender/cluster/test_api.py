import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import urllib3
from kubernetes.client.configuration import Configuration

from extender.cluster.api import CREDENTIALS_SECONDS, ApiServer, ClusterAccessError, connect
from extender.cluster.reflector import Request
from tests.extender.cluster.test_watcher import Served, kubeconfig

REQUEST = Request("/api/v1/pods", {"limit": "5"}, False)


@pytest.fixture
def served() -> Iterator[Served]:
    made = Served()
    yield made
    made.cut.set()
    made.http.shutdown()
    made.http.server_close()


class Source:
    """Credentials that change, and a clock that is turned by hand."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.token = "first"
        self.now = 0.0
        self.broken = False
        self.counted: Counter[str] = Counter()

    def load(self) -> Configuration:
        if self.broken:
            raise OSError("it is being replaced")
        configuration = Configuration()
        configuration.host = f"http://127.0.0.1:{self.port}"
        configuration.api_key["BearerToken"] = f"Bearer {self.token}\n"
        return configuration

    def count(self, result: str) -> None:
        self.counted[result] += 1

    def connect(self) -> ApiServer:
        return ApiServer(self.load, 5.0, lambda: self.now, self.count)


def ask(api: ApiServer) -> urllib3.BaseHTTPResponse:
    response = api.get(REQUEST)
    response.read()
    return response


def test_a_token_that_is_rotated_is_used_within_a_minute(served: Served) -> None:
    source = Source(served.port)
    api = source.connect()
    ask(api)
    source.token = "second"
    source.now = CREDENTIALS_SECONDS - 1
    ask(api)
    source.now = CREDENTIALS_SECONDS
    ask(api)
    source.now = 2 * CREDENTIALS_SECONDS
    ask(api)

    assert served.tokens == ["Bearer first", "Bearer first", "Bearer second", "Bearer second"]
    assert source.counted == {"new": 1, "unchanged": 1}


def test_a_token_that_is_refused_is_read_again_at_once(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Source(served.port)
    api = source.connect()
    real = served.api.page
    monkeypatch.setattr(
        served.api, "page", lambda query: (401, b"{}") if served.tokens[-1] == "Bearer first" else real(query)
    )
    assert ask(api).status == 401
    source.token = "second"

    assert ask(api).status == 200


def test_credentials_that_cannot_be_read_for_a_moment_stay_as_they_were(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    source = Source(served.port)
    api = source.connect()
    source.broken, source.now = True, CREDENTIALS_SECONDS
    with caplog.at_level(logging.WARNING):
        ask(api)

    assert served.tokens == ["Bearer first"]
    assert source.counted == {"failed": 1}
    assert "cannot be read again: it is being replaced" in caplog.text


def test_the_token_file_of_a_kubeconfig_is_read_again(served: Served, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first")
    api = connect(kubeconfig(tmp_path, served.port, tokenFile=str(token)), 5.0)
    ask(api)
    token.write_text("second")
    api._read_at -= CREDENTIALS_SECONDS
    ask(api)

    assert served.tokens == ["Bearer first", "Bearer second"]


def test_the_bearer_token_of_the_kubeconfig_is_sent(served: Served, tmp_path: Path) -> None:
    ask(connect(kubeconfig(tmp_path, served.port, token="s3cret"), 5.0))

    assert served.tokens == ["Bearer s3cret"]


def test_without_any_configuration_the_error_says_what_to_give(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(ClusterAccessError, match="Give --kubeconfig FILE, or --cluster-file FILE"):
        connect(None, 5.0)


def test_a_missing_kubeconfig_is_named(tmp_path: Path) -> None:
    with pytest.raises(ClusterAccessError, match=r"kubeconfig .*absent"):
        connect(tmp_path / "absent", 5.0)


@pytest.mark.parametrize(
    "rubbish",
    [
        b"{: bad",
        b"\x80",
        b"- a list",
        b"a text",
        b"{current-context: a, contexts: 1, clusters: 2, users: 3}",
        b"{current-context: a, contexts: [{name: a, context: 1}], clusters: [], users: []}",
    ],
)
def test_a_file_that_is_no_kubeconfig_is_named_in_one_line(rubbish: bytes, tmp_path: Path) -> None:
    path = tmp_path / "rubbish"
    path.write_bytes(rubbish)

    with pytest.raises(ClusterAccessError, match=r"kubeconfig .*rubbish: .*Give --kubeconfig FILE") as caught:
        connect(path, 5.0)

    assert "\n" not in str(caught.value)
