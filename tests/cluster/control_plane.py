"""etcd and kube-apiserver with RBAC, ready within seconds.

There is no controller manager: nobody taints a node that is not ready, creates default service accounts or collects
orphaned pods, and the admission plugins that count on it are off. kube-apiserver makes its own serving certificate;
users come with tokens. `kubeconfig` writes the file by which another program connects as one of them.
"""

import base64
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from tests.cluster.api import Api
from tests.cluster.processes import Process, free_port

READY_LIMIT_SECONDS = 180.0


class Restartable:
    """A program that can be killed and started again, as often as one likes."""

    def __init__(self, start: Callable[[], Process]) -> None:
        """Start it."""
        self._start = start
        self.process = start()

    def start_again(self) -> None:
        """Have it back. To be called by a thread that stays: its processes end with it."""
        self.process = self._start()


class ControlPlane:
    """A running API server.

    Attributes:
        server: its address.
        api: it as the administrator sees it.
    """

    def __init__(
        self,
        server: str,
        certificate: Path,
        admin_token: str,
        directory: Path,
        apiserver: Restartable | None = None,
    ) -> None:
        self.server = server
        self._apiserver = apiserver
        self.api = Api(server, admin_token, certificate)
        self._certificate = certificate
        self._admin_token = admin_token
        self._directory = directory

    @property
    def apiserver(self) -> Restartable:
        """The API server's process; its watches start anew, at the same address, when it is started again."""
        if self._apiserver is None:
            raise RuntimeError("this API server was not started here")
        return self._apiserver

    def admin_kubeconfig(self) -> Path:
        """A kubeconfig for a program that may do everything."""
        return self._write_kubeconfig("admin", self._admin_token)

    def kubeconfig(self, namespace: str, service_account: str) -> Path:
        """A kubeconfig for a program that runs as a service account, with the rights that its manifests gave it."""
        return self._write_kubeconfig(service_account, self.api.issue_token(namespace, service_account))

    def _write_kubeconfig(self, user: str, token: str) -> Path:
        certificate = base64.b64encode(self._certificate.read_bytes()).decode()
        cluster = {"server": self.server, "certificate-authority-data": certificate}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "tests", "cluster": cluster}],
            "users": [{"name": user, "user": {"token": token}}],
            "contexts": [{"name": user, "context": {"cluster": "tests", "user": user}}],
            "current-context": user,
        }
        path = self._directory / f"{user}.kubeconfig"
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(document))
        return path


def is_written(certificate: Path) -> bool:
    """Whether it is all there; kube-apiserver makes the file and then fills it."""
    return certificate.exists() and certificate.read_text().endswith("-----END CERTIFICATE-----\n")


@contextmanager
def run_control_plane(tools: Path, directory: Path) -> Iterator[ControlPlane]:
    """Start etcd and kube-apiserver, and stop them at the end.

    Args:
        tools: the folder with the binaries.
        directory: an empty folder for data, keys and logs.
    """
    etcd_url = f"http://127.0.0.1:{free_port()}"
    etcd = start_etcd(tools, directory, etcd_url)
    try:
        admin_token = secrets.token_urlsafe()
        port = free_port()
        apiserver = Restartable(lambda: start_apiserver(tools, directory, etcd_url, port, admin_token))
        try:
            certificate = directory / "apiserver.crt"
            apiserver.process.wait_until(lambda: is_written(certificate), READY_LIMIT_SECONDS)
            control_plane = ControlPlane(f"https://127.0.0.1:{port}", certificate, admin_token, directory, apiserver)
            with control_plane.api:
                apiserver.process.wait_until(control_plane.api.is_ready, READY_LIMIT_SECONDS)
                yield control_plane
        finally:
            apiserver.process.stop()
    finally:
        etcd.stop()


def start_etcd(tools: Path, directory: Path, url: str) -> Process:
    """Start etcd; kube-apiserver waits for it by itself."""
    return Process(
        "etcd",
        [
            tools / "etcd",
            f"--data-dir={directory / 'etcd'}",
            f"--listen-client-urls={url}",
            f"--advertise-client-urls={url}",
            f"--listen-peer-urls=http://127.0.0.1:{free_port()}",
            "--unsafe-no-fsync",  # what is in it need not survive the machine
            "--log-level=warn",
        ],
        directory,
    )


def start_apiserver(tools: Path, directory: Path, etcd_url: str, port: int, admin_token: str) -> Process:
    """Start kube-apiserver; it is not ready yet when this returns."""
    signing_key = directory / "service-account.key"
    if not signing_key.exists():  # started again, it has to know the tokens that it has given out
        signing_key.touch(mode=0o600)
        signing_key.write_text(generate_signing_key())
    tokens = directory / "tokens.csv"
    tokens.touch(mode=0o600)
    tokens.write_text(f"{admin_token},admin,admin,system:masters\n")
    return Process(
        "kube-apiserver",
        [
            tools / "kube-apiserver",
            f"--etcd-servers={etcd_url}",
            "--bind-address=127.0.0.1",
            f"--secure-port={port}",
            f"--cert-dir={directory}",
            f"--token-auth-file={tokens}",
            "--authorization-mode=RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-signing-key-file={signing_key}",
            f"--service-account-key-file={signing_key}",
            "--disable-admission-plugins=TaintNodesByCondition,ServiceAccount",
            "--endpoint-reconciler-type=none",
            "--service-cluster-ip-range=10.96.0.0/16",
        ],
        directory,
    )


def generate_signing_key() -> str:
    """A new ECDSA P-256 key in PEM, for signing service account tokens.

    RFC 5915 lets the public half be left out, Go computes it: what is left is a number and a fixed frame, for which
    no cryptography library is needed.
    """
    number = secrets.randbits(255).to_bytes(32)  # below the order of P-256
    frame = bytes.fromhex("3031020101" + "0420") + number + bytes.fromhex("a00a06082a8648ce3d030107")
    body = base64.encodebytes(frame).decode()
    return f"-----BEGIN EC PRIVATE KEY-----\n{body}-----END EC PRIVATE KEY-----\n"
