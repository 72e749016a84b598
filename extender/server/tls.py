"""TLS for both servers, with client certificates if wanted, and with files that are replaced while we run.

Kubernetes and cert-manager replace a mounted certificate, its key and the CA of the clients; connections that begin
afterwards meet the new ones. Files that do not fit together, as in the middle of a replacement, leave what there was.
"""

import logging
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import grpc

SECONDS_BETWEEN_LOOKS = 1.0

log = logging.getLogger(__name__)


class TlsError(Exception):
    """The files cannot be used; the message says which and why."""


class TlsFiles(NamedTuple):
    """Where the certificate and its key are, and the CA that clients' certificates are verified with, if they are."""

    certificate: Path
    key: Path
    client_ca: Path | None


class _Contents(NamedTuple):
    certificate: bytes
    key: bytes
    client_ca: bytes | None


class ServerTls:
    """What the servers identify themselves with at the moment."""

    def __init__(
        self,
        files: TlsFiles,
        count: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read the files for the first time.

        Args:
            files: where they are.
            count: called with "loaded" or "failed" for each new version of the files.
            clock: monotonic seconds.

        Raises:
            TlsError: they cannot be used.
        """
        self._files = files
        self._count = count
        self._clock = clock
        self._looked_at = clock()
        try:
            self._contents = self._read()
            self._current = self._load()
        except (OSError, ssl.SSLError) as error:
            given = ", ".join(str(file) for file in files if file is not None)
            raise TlsError(f"cannot serve TLS with {given}: {error}") from error
        self._refused: _Contents | None = None
        self._grpc_contents = self._contents

    def http_context(self) -> ssl.SSLContext:
        """A context whose handshakes always use the newest files."""
        context = self._load()
        # Called in every handshake, with or without a name in it.
        context.sni_callback = self._choose
        return context

    def grpc_credentials(self) -> grpc.ServerCredentials:
        """Credentials whose handshakes always use the newest files."""
        return grpc.dynamic_ssl_server_credentials(
            self._grpc_configuration(), self._newer_grpc_configuration, self._files.client_ca is not None
        )

    def _choose(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        self.refresh()
        connection.context = self._current

    def refresh(self) -> None:
        """Take over new files, if there are any; looks at most once a second."""
        now = self._clock()
        if now < self._looked_at + SECONDS_BETWEEN_LOOKS:
            return
        self._looked_at = now
        try:
            contents = self._read()
            if contents in (self._contents, self._refused):
                return
            self._refused = contents
            self._current = self._load()
        except (OSError, ssl.SSLError) as error:
            self._count("failed")
            log.warning("new TLS files in %s are not used: %s", self._files.certificate.parent, error)
            return
        self._contents, self._refused = contents, None
        self._count("loaded")
        log.info("TLS certificate %s was replaced", self._files.certificate)

    def _read(self) -> _Contents:
        ca = self._files.client_ca
        return _Contents(
            self._files.certificate.read_bytes(),
            self._files.key.read_bytes(),
            ca.read_bytes() if ca is not None else None,
        )

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self._files.certificate, self._files.key)
        if self._files.client_ca is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self._files.client_ca)
        return context

    def _grpc_configuration(self) -> grpc.ServerCertificateConfiguration:
        contents = self._grpc_contents = self._contents
        return grpc.ssl_server_certificate_configuration(
            [(contents.key, contents.certificate)], root_certificates=contents.client_ca
        )

    def _newer_grpc_configuration(self) -> grpc.ServerCertificateConfiguration | None:
        """For each new connection: another configuration, or None to go on with the last one."""
        self.refresh()
        return self._grpc_configuration() if self._contents != self._grpc_contents else None
