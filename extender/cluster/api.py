"""The way to the API server: the kubernetes package's configuration and transport, with credentials that may change.

`cluster.watcher` lists and watches through it.
"""

import hashlib
import logging
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlencode

import urllib3
import yaml
from kubernetes.client.configuration import Configuration
from kubernetes.client.rest import RESTClientObject
from kubernetes.config import ConfigException, load_incluster_config, load_kube_config

from extender.cluster.reflector import Request

CONNECT_TIMEOUT_SECONDS = 10.0
CREDENTIALS_SECONDS = 60.0  # as client-go reads token files; a service account's token lasts for 10 minutes at least
# The package checks little: what it stumbles over in a file that is no kubeconfig comes as ValueError, TypeError or
# AttributeError.
CONFIGURATION_ERRORS = (ConfigException, OSError, yaml.YAMLError, ValueError, TypeError, AttributeError)

log = logging.getLogger(__name__)


class ClusterAccessError(Exception):
    """There is no usable configuration to reach an API server; the message says what was tried."""


class ApiServer:
    """GETs with the address and credentials of a kubeconfig file, or of the pod's service account.

    Tokens, certificates and the API server's CA change while we run. What they come from is read again when it was
    read more than `CREDENTIALS_SECONDS` ago, and at once after an answer of 401; so rotation needs no restart.
    """

    def __init__(
        self,
        load: Callable[[], Configuration],
        read_timeout_seconds: float,
        clock: Callable[[], float] = time.monotonic,
        count: Callable[[str], None] = lambda result: None,
    ) -> None:
        """Load the configuration for the first time.

        Args:
            load: reads it.
            read_timeout_seconds: silence after which a request has failed.
            clock: monotonic seconds.
            count: called with "unchanged" or "new" for each time that it was read again, "failed" if it could not be.

        Raises:
            ConfigException: there is none.
        """
        self._load = load
        self._clock = clock
        self._count = count
        self._timeout = urllib3.Timeout(connect=CONNECT_TIMEOUT_SECONDS, read=read_timeout_seconds)
        self._lock = threading.Lock()
        self._read_at = clock()
        self._take(load())

    @property
    def address(self) -> str:
        """Where it is."""
        return str(self._configuration.host)

    def get(self, request: Request) -> urllib3.BaseHTTPResponse:
        """Begin a GET; the body is left to be read.

        Raises:
            urllib3.exceptions.HTTPError: no connection, or no answer in time.
            ConfigException: the credentials cannot be renewed.
        """
        return self.send("GET", request.path, request.query)

    def send(
        self, method: str, path: str, query: dict[str, str], body: bytes | None = None
    ) -> urllib3.BaseHTTPResponse:
        """Begin a request; raises as `get`."""
        with self._lock:
            if self._clock() >= self._read_at + CREDENTIALS_SECONDS:
                self._read_again()
            pool, token = self._pool, self._token()
        headers = {"Accept": "application/json", "User-Agent": "stowage-extender"}
        if token:
            headers["Authorization"] = token
        if body is not None:
            headers["Content-Type"] = "application/json"
        response = pool.request(
            method,
            self.address.rstrip("/") + path + ("?" + urlencode(query) if query else ""),
            body=body,
            headers=headers,
            timeout=self._timeout,
            retries=False,
            preload_content=False,
        )
        if response.status == HTTPStatus.UNAUTHORIZED:
            self._read_at = float("-inf")
        return response

    def _read_again(self) -> None:
        try:
            configuration = self._load()
        except CONFIGURATION_ERRORS as error:
            # A file that is being replaced may be half there; what we have may still be good.
            self._read_at = self._clock()
            self._count("failed")
            log.warning("credentials for %s cannot be read again: %s", self.address, " ".join(str(error).split()))
            return
        before = self._fingerprint
        if before == _fingerprint(configuration):
            self._read_at = self._clock()
            self._count("unchanged")
        else:
            self._take(configuration)
            self._count("new")
            log.info("new credentials for %s", self.address)

    def _take(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._pool: urllib3.PoolManager = RESTClientObject(configuration).pool_manager
        self._fingerprint = _fingerprint(configuration)
        self._read_at = self._clock()

    def _token(self) -> str | None:
        token = self._configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
        return str(token).strip() if token else None


def connect(
    kubeconfig: Path | None, read_timeout_seconds: float, count: Callable[[str], None] = lambda result: None
) -> ApiServer:
    """Read the kubeconfig file, or without one the service account that Kubernetes mounts into a pod.

    Raises:
        ClusterAccessError: there is none, or it cannot be used.
    """

    def load() -> Configuration:
        configuration = Configuration()
        if kubeconfig is None:
            load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        else:
            load_kube_config(  # type: ignore[no-untyped-call]
                config_file=str(kubeconfig), client_configuration=configuration, persist_config=False
            )
        return configuration

    try:
        return ApiServer(load, read_timeout_seconds, count=count)
    except CONFIGURATION_ERRORS as error:
        reason = " ".join(str(error).split())  # YAML errors have several lines
        tried = "the service account of a pod" if kubeconfig is None else f"kubeconfig {kubeconfig}"
        raise ClusterAccessError(
            f"cannot reach an API server by {tried}: {reason}. Give --kubeconfig FILE, or --cluster-file FILE to run "
            f"without an API server"
        ) from error


def _fingerprint(configuration: Configuration) -> tuple[str, ...]:
    """What identifies us and the API server: token, and the contents of the files that hold certificates and keys."""
    files = (configuration.ssl_ca_cert, configuration.cert_file, configuration.key_file)
    contents = [hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else "" for file in files]
    token = configuration.get_api_key_with_prefix("BearerToken", alias="authorization") or ""
    return str(configuration.host), hashlib.sha256(str(token).encode()).hexdigest(), *contents
