"""The API server as a replay uses it: objects created, listed, deleted and watched, and counted where it was slow.

The transport, with credentials that may change, is the extender's (`extender.cluster.api`). A request that the API
server throttles (429) or cannot serve now is made again after the pause that it asks for; how often that happened is
kept, because a replay that is throttled submits late, and nobody is to take that for the scheduler's doing. A request
whose answer is lost may have done its work: what is there already when it is made again is then what it made.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import urllib3
from kubernetes.client.configuration import Configuration
from kubernetes.config import ConfigException, load_kube_config
from kubernetes.config.kube_config import KUBE_CONFIG_DEFAULT_LOCATION

from extender.cluster.api import CONFIGURATION_ERRORS, ApiServer
from training.replay.manifests import Manifest

ANSWER_SECONDS = 30.0
WATCH_SECONDS = 240
TRIES = 6
PAUSE_SECONDS = 0.2
PAUSE_AT_MOST_SECONDS = 10.0
PAGE = 500
SYSTEM = "/api/v1/namespaces/kube-system"
AGAIN = (
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
)


class ClusterError(Exception):
    """The cluster cannot be used, or did not do what was asked; the message says which and what to do."""


class RefusedError(ClusterError):
    """The API server refused a request.

    Attributes:
        status: of the answer.
    """

    def __init__(self, what: str, status: int, reason: str) -> None:
        super().__init__(f"{what} was answered {status}: {reason}")
        self.status = status


class Answer(NamedTuple):
    """What came back, and when: seconds of `time.time` before the request that succeeded and after its answer.

    Where an object was made by a request whose answer was lost, `sent` is before the first such request.
    """

    document: Manifest
    sent: float
    answered: float


class Change(NamedTuple):
    """One event of a watch; `at` is `time.monotonic` when its bytes were here."""

    kind: str
    document: Manifest
    at: float


class Origin(NamedTuple):
    """Which cluster it is.

    Attributes:
        uid: of its namespace kube-system, which no other cluster has.
        address: of its API server, for people.
    """

    uid: str
    address: str


class Cluster:
    """A cluster by its API server.

    Attributes:
        address: where that is.
        throttled: how often a request was answered 429.
        repeated: how often one was made again for another reason.
    """

    def __init__(self, load: Callable[[], Configuration]) -> None:
        """Connect lazily.

        Raises:
            ClusterError: there is no usable configuration.
        """
        try:
            self._short = ApiServer(load, ANSWER_SECONDS)
            self._long = ApiServer(load, WATCH_SECONDS + ANSWER_SECONDS)
        except CONFIGURATION_ERRORS as error:
            raise ClusterError(f"no cluster can be reached: {' '.join(str(error).split())}") from error
        self.address = self._short.address
        self.throttled = 0
        self.repeated = 0

    def origin(self) -> Origin:
        """Which cluster it is; raises as `request`."""
        return Origin(self.request("GET", SYSTEM).document["metadata"]["uid"], self.address)

    def request(self, method: str, path: str, body: Manifest | None = None, **query: str) -> Answer:
        """Make a request, and again while the API server asks for patience.

        Raises:
            RefusedError: it was refused.
            ClusterError: there was no answer.
        """
        what = f"{method} {path}"
        content = None if body is None else json.dumps(body).encode()
        lost: float | None = None  # when the first request was sent of which nobody knows whether it worked
        for left in reversed(range(TRIES)):
            sent = time.time()
            try:
                response = self._short.send(method, path, query, content)
                text = response.read()
                response.release_conn()
            except (urllib3.exceptions.HTTPError, ConfigException) as error:
                if not left:
                    raise ClusterError(f"{what}: no answer from {self.address}: {error}") from error
                self.repeated += 1
                lost = lost or sent
                time.sleep(PAUSE_SECONDS)
                continue
            answered = time.time()
            if response.status < HTTPStatus.BAD_REQUEST:
                return Answer(json.loads(text), sent, answered)
            if response.status == HTTPStatus.UNAUTHORIZED and left == TRIES - 1:
                continue  # the transport reads the credentials again
            if response.status not in AGAIN or not left:
                refused = RefusedError(what, response.status, _reason(text))
                if method == "POST" and body and lost and response.status == HTTPStatus.CONFLICT:
                    return Answer(self._made(path, body, refused), lost, answered)
                raise refused
            if response.status == HTTPStatus.TOO_MANY_REQUESTS:
                self.throttled += 1
            else:
                self.repeated += 1
                lost = lost or sent
            time.sleep(_pause(response.headers.get("Retry-After")))
        raise AssertionError("every way through the loop above returns, raises or tries again")

    def create(self, path: str, document: Manifest, **query: str) -> Answer:
        """Create an object; raises as `request`, with status 409 where there is one of this name that is not ours."""
        return self.request("POST", path, document, **query)

    def _made(self, path: str, body: Manifest, refused: RefusedError) -> Manifest:
        """The object of this name, if its labels are those of `body` and so it is ours; else raises `refused`."""
        found = self.get(f"{path}/{body['metadata']['name']}")
        ours = body["metadata"].get("labels", {}).items()
        if found is None or not ours <= found["metadata"].get("labels", {}).items():
            raise refused
        return found

    def exists(self, path: str) -> bool:
        """Whether there is such an object."""
        return self.get(path) is not None

    def get(self, path: str) -> Manifest | None:
        """The object; None where there is none."""
        try:
            return self.request("GET", path).document
        except RefusedError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return None
            raise

    def delete(self, path: str, grace_seconds: int | None = None, **query: str) -> None:
        """Delete an object, or with a selector all of a collection; without effect on what is gone."""
        body = {} if grace_seconds is None else {"gracePeriodSeconds": grace_seconds}
        try:
            self.request("DELETE", path, {"kind": "DeleteOptions", "apiVersion": "v1", **body}, **query)
        except RefusedError as error:
            if error.status not in (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT):
                raise

    def find(self, path: str, **query: str) -> list[Manifest]:
        """Every object of a collection, page by page."""
        return self.find_from(path, **query)[0]

    def find_from(self, path: str, **query: str) -> tuple[list[Manifest], str]:
        """Every object of a collection, and the version from which a watch goes on."""
        items: list[Manifest] = []
        further: Mapping[str, str] = {}
        while True:
            page = self.request("GET", path, **query, **further, limit=str(PAGE)).document
            items += page["items"]
            if not page["metadata"].get("continue"):
                return items, str(page["metadata"]["resourceVersion"])
            further = {"continue": page["metadata"]["continue"]}

    def watch(self, path: str, version: str, **query: str) -> Iterator[Change]:
        """What happens in a collection, until the API server ends the watch.

        Raises:
            RefusedError: the version is too old (410), or the watch is refused.
            urllib3.exceptions.HTTPError: the connection failed.
        """
        asked = {"watch": "true", "resourceVersion": version, "timeoutSeconds": str(WATCH_SECONDS), **query}
        response = self._long.send("GET", path, {**asked, "allowWatchBookmarks": "true"})
        try:
            if response.status >= HTTPStatus.BAD_REQUEST:
                raise RefusedError(f"watching {path}", response.status, _reason(response.read()))
            rest = b""
            for chunk in response.stream(1 << 16):
                at = time.monotonic()
                *lines, rest = (rest + chunk).split(b"\n")
                for line in filter(None, lines):
                    event: dict[str, Any] = msgspec.json.decode(line)
                    if event["type"] == "ERROR":
                        status = event["object"]
                        raise RefusedError(f"watching {path}", status.get("code", 500), status.get("message", ""))
                    yield Change(event["type"], event["object"], at)
        finally:
            response.close()


def connect(kubeconfig: Path | None, context: str | None) -> Cluster:
    """The cluster of a kubeconfig's context.

    Args:
        kubeconfig: the file; else $KUBECONFIG, else ~/.kube/config.
        context: in it; else its current one.

    Raises:
        ClusterError: there is none, or it cannot be used.
    """
    if kubeconfig is not None and not kubeconfig.is_file():
        raise ClusterError(f"--kubeconfig: {kubeconfig}: there is no such file")

    def load() -> Configuration:
        configuration = Configuration()
        try:
            load_kube_config(
                config_file=None if kubeconfig is None else str(kubeconfig),
                context=context,
                client_configuration=configuration,
                persist_config=False,
            )
        except (TypeError, AttributeError, UnicodeDecodeError) as error:  # the package takes its shape for granted
            raise ConfigException(
                f"{kubeconfig or KUBE_CONFIG_DEFAULT_LOCATION} is no kubeconfig: expected YAML with clusters, users, "
                "contexts and current-context"
            ) from error
        return configuration

    return Cluster(load)


def _reason(text: bytes) -> str:
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return text[:200].decode("utf-8", "replace")


def _pause(asked: str | None) -> float:
    try:
        return min(float(asked), PAUSE_AT_MOST_SECONDS) if asked else PAUSE_SECONDS
    except ValueError:
        return PAUSE_SECONDS
