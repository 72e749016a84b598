"""TLS as clients meet it: who is served, and what happens when the files are replaced."""

import http.client
import ssl
import subprocess
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from extender.server.tls import SECONDS_BETWEEN_LOOKS, ServerTls, TlsError, TlsFiles
from tests.extender.cluster.test_watcher import eventually
from tests.extender.objects import cluster_list, node
from tests.extender.server.process import LIMIT_SECONDS, ExtenderProcess, run_extender, serve


class Authority:
    """A certificate authority that signs with openssl."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.certificate, self.key = folder / f"{name}.crt", folder / f"{name}.key"
        _openssl(
            "req", "-x509", *_KEY, "-keyout", self.key, "-out", self.certificate, "-days", "2", "-subj", f"/CN={name}"
        )

    def issue(self, name: str) -> tuple[Path, Path]:
        """A certificate for 127.0.0.1, and its key."""
        key, asked, signed = (self.folder / f"{name}.{ending}" for ending in ("key", "csr", "crt"))
        extensions = self.folder / f"{name}.ext"
        extensions.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost")
        _openssl("req", "-new", *_KEY, "-keyout", key, "-out", asked, "-subj", f"/CN={name}")
        signing = ("-CA", self.certificate, "-CAkey", self.key, "-CAcreateserial", "-days", "2", "-extfile", extensions)
        _openssl("x509", "-req", "-in", asked, "-out", signed, *signing)
        return signed, key


_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def _openssl(*words: object) -> None:
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True, timeout=LIMIT_SECONDS)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "authority")


def flags(certificate: Path, key: Path, client_ca: Path | None = None) -> list[str]:
    given = ["--tls-certificate", str(certificate), "--tls-key", str(key)]
    return [*given, "--tls-client-ca", str(client_ca)] if client_ca is not None else given


def ask(extender: ExtenderProcess, trusted: Path, mine: tuple[Path, Path] | None = None) -> tuple[int, str]:
    """Ask over TLS; the status, and the name in the server's certificate."""
    context = ssl.create_default_context(cafile=str(trusted))
    if mine is not None:
        context.load_cert_chain(*mine)
    connection = http.client.HTTPSConnection(extender.http_address, timeout=LIMIT_SECONDS, context=context)
    try:
        connection.request("GET", "/healthz")
        certificate = connection.sock.getpeercert()
        subject = dict(pair for (pair,) in certificate["subject"])
        return connection.getresponse().status, subject["commonName"]
    finally:
        connection.close()


def grpc_health(extender: ExtenderProcess, trusted: Path, mine: tuple[Path, Path] | None = None) -> int:
    pair = (mine[1].read_bytes(), mine[0].read_bytes()) if mine is not None else (None, None)
    credentials = grpc.ssl_channel_credentials(trusted.read_bytes(), *pair)
    with grpc.secure_channel(extender.grpc_address, credentials) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=LIMIT_SECONDS)
    status: int = answer.status
    return status


def test_only_clients_with_a_certificate_of_the_ca_are_served(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.issue("server")
    mine = authority.issue("client")
    foreign = Authority(tmp_path, "foreign").issue("foreigner")
    with serve(cluster_list(node("n")), tmp_path, *flags(certificate, key, authority.certificate)) as extender:
        assert ask(extender, authority.certificate, mine) == (200, "server")
        assert grpc_health(extender, authority.certificate, mine) == health_pb2.HealthCheckResponse.SERVING
        for refused in (None, foreign):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                ask(extender, authority.certificate, refused)
            with pytest.raises(grpc.RpcError) as caught:
                grpc_health(extender, authority.certificate, refused)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert ask(extender, authority.certificate, mine) == (200, "server")


def test_replaced_files_are_taken_over_without_a_restart(authority: Authority, tmp_path: Path) -> None:
    certificate, key, ca = tmp_path / "tls.crt", tmp_path / "tls.key", tmp_path / "ca.crt"
    other = Authority(tmp_path, "other")
    mine, others = authority.issue("client-1"), other.issue("client-2")

    def install(issued: tuple[Path, Path], clients: Authority) -> None:
        for source, target in ((issued[0], certificate), (issued[1], key), (clients.certificate, ca)):
            target.write_bytes(source.read_bytes())

    install(authority.issue("first"), authority)
    with serve(cluster_list(node("n")), tmp_path, *flags(certificate, key, ca)) as extender:
        assert ask(extender, authority.certificate, mine) == (200, "first")
        install(other.issue("second"), other)

        def is_taken_over() -> bool:
            try:
                return ask(extender, other.certificate, others) == (200, "second")
            except (ssl.SSLError, ConnectionError):
                return False

        eventually(is_taken_over)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            ask(extender, other.certificate, mine)  # of the CA that was replaced
        assert grpc_health(extender, other.certificate, others) == health_pb2.HealthCheckResponse.SERVING


class Bench:
    """Files, and a clock that is turned by hand."""

    def __init__(self, authority: Authority, folder: Path) -> None:
        self.now = 0.0
        self.counted: list[str] = []
        self.files = TlsFiles(folder / "crt", folder / "key", None)
        self.install(*authority.issue("one"))
        self.tls = ServerTls(self.files, self.counted.append, lambda: self.now)

    def install(self, certificate: Path, key: Path) -> None:
        self.files.certificate.write_bytes(certificate.read_bytes())
        self.files.key.write_bytes(key.read_bytes())

    def refresh(self) -> None:
        self.now += SECONDS_BETWEEN_LOOKS
        self.tls.refresh()


def test_files_that_do_not_fit_together_leave_what_there_was(authority: Authority, tmp_path: Path) -> None:
    bench = Bench(authority, tmp_path)
    before = bench.tls._current
    certificate, key = authority.issue("two")
    bench.files.certificate.write_bytes(certificate.read_bytes())  # the key is not there yet
    bench.refresh()
    bench.refresh()
    assert bench.tls._current is before
    assert bench.counted == ["failed"]  # and not again for the same files

    bench.files.key.write_bytes(key.read_bytes())
    bench.refresh()
    assert bench.tls._current is not before
    assert bench.counted == ["failed", "loaded"]


def test_files_that_vanish_leave_what_there_was(authority: Authority, tmp_path: Path) -> None:
    bench = Bench(authority, tmp_path)
    bench.files.key.unlink()
    bench.refresh()
    assert bench.counted == ["failed"]


def test_what_cannot_be_served_is_named_at_the_start(authority: Authority, tmp_path: Path) -> None:
    with pytest.raises(TlsError, match=r"cannot serve TLS with .*absent"):
        ServerTls(TlsFiles(tmp_path / "absent", tmp_path / "absent", None), print)
    with run_extender("--policy", "heuristic:best-fit", *flags(tmp_path / "absent", tmp_path / "absent")) as extender:
        status, errors = extender.finish()
    assert status == 2
    assert "cannot serve TLS" in errors
    assert "Traceback" not in errors
