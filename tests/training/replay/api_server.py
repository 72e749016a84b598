"""An API server in a few lines, and a cluster in which nothing takes time: nodes are ready and pods have run at once.

It keeps what is made, answers selectors by label and by name, and notes what it was asked for. It has no watches: it
answers them as too old, and a replay lists again.
"""

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import yaml

from training.replay.manifests import Manifest

PATH = re.compile(r"/(?:api/v1|apis/([^/]+)/v1)(?:/namespaces/([^/]+))?/([^/]+)(?:/([^/]+))?")
WATCH_SECONDS = 0.02


class Key(NamedTuple):
    """Where an object is; `namespace` is empty for what is in none."""

    resource: str
    namespace: str
    name: str


class Right(NamedTuple):
    """What a request needs, as RBAC calls it; `name` is empty where the request has none."""

    group: str
    resource: str
    verb: str
    name: str


class StubApiServer:
    """What is in it, and what it was asked.

    Attributes:
        objects: all of them.
        rights: what the requests so far needed.
        loses: told the method and path of each request; where it says so, the work is done and the answer is lost.
        address: where it listens.
    """

    def __init__(self) -> None:
        self.objects: dict[Key, Manifest] = {}
        self.rights: set[Right] = set()
        self.loses: Callable[[str, str], bool] = lambda method, path: False
        self.address = ""
        self._lock = Lock()
        self.put("namespaces", "kube-system")

    def put(self, resource: str, name: str, namespace: str = "", **further: Any) -> None:
        """Have an object."""
        self.objects[Key(resource, namespace, name)] = _made(name, namespace, {"metadata": {}, **further})

    def lose_first(self, method: str) -> None:
        """Lose the first answer to such a request for each path."""
        lost: set[str] = set()

        def loses(asked: str, path: str) -> bool:
            first = asked == method and path not in lost
            lost.update([path] if first else [])
            return first

        self.loses = loses

    def kubeconfig(self, folder: Path) -> Path:
        """A kubeconfig for it."""
        document = {
            "clusters": [{"name": "stub", "cluster": {"server": self.address}}],
            "users": [{"name": "stub", "user": {}}],
            "contexts": [{"name": "stub", "context": {"cluster": "stub", "user": "stub"}}],
            "current-context": "stub",
        }
        path = folder / "kubeconfig"
        path.write_text(yaml.safe_dump(document))
        return path

    def answer(self, method: str, path: str, query: dict[str, str], body: Manifest) -> tuple[int, Manifest]:
        """Do what a request asks for; returns status and document."""
        found = PATH.fullmatch(path)
        assert found, path
        group, namespace, resource, name = (part or "" for part in found.groups())
        with self._lock:
            named = name or _fields(query).get("metadata.name", "")  # as RBAC has it of a list too
            self.rights.add(Right(group, resource, _verb(method, bool(name), "watch" in query), named))
            if method == "POST":
                return self._create(Key(resource, namespace, body["metadata"]["name"]), body)
            chosen = [key for key in self.objects if self._is_chosen(key, resource, namespace, name, query)]
            if name and not chosen:
                return 404, {"message": f"{name} not found"}
            if method == "PUT":
                self.objects[chosen[0]] = body
            answer = self.objects[chosen[0]] if name else self._list(chosen)
            if method == "DELETE":
                for key in chosen:
                    del self.objects[key]
        if "watch" in query:
            time.sleep(WATCH_SECONDS)
            return 410, {"message": "too old"}
        return 200, answer

    def _list(self, chosen: list[Key]) -> Manifest:
        return {"metadata": {"resourceVersion": "1"}, "items": [self.objects[key] for key in chosen]}

    def _create(self, key: Key, body: Manifest) -> tuple[int, Manifest]:
        if key in self.objects:
            return 409, {"message": f"{key.name} already exists"}
        made = self.objects[key] = _made(key.name, key.namespace, body)
        if key.resource == "nodes":
            made["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
        elif key.resource == "pods":
            wanted = body["spec"]["nodeSelector"].items()
            nodes = (node for node in self.objects if node.resource == "nodes")
            made["spec"]["nodeName"] = next(
                node.name for node in nodes if wanted <= self.objects[node]["metadata"]["labels"].items()
            )
            made["status"] = {"phase": "Succeeded"}
        return 201, made

    def _is_chosen(self, key: Key, resource: str, namespace: str, name: str, query: dict[str, str]) -> bool:
        labels = self.objects[key]["metadata"].get("labels", {})
        return (
            key.resource == resource
            and namespace in ("", key.namespace)
            and (name or _fields(query).get("metadata.name", key.name)) == key.name
            and all(
                labels.get(label) == value if equals else label in labels
                for label, equals, value in (part.partition("=") for part in query.get("labelSelector", "").split(","))
                if label
            )
        )


@contextmanager
def run_stub_api_server() -> Iterator[StubApiServer]:
    """Serve one on loopback."""
    stub = StubApiServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def _answer(self) -> None:
            asked = urlsplit(self.path)
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or "{}")
            status, document = stub.answer(self.command, asked.path, dict(parse_qsl(asked.query)), body)
            if stub.loses(self.command, asked.path):
                self.close_connection = True
                return
            text = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_PUT = do_DELETE = _answer  # noqa: N815 (http.server's names)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        stub.address = f"http://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield stub
        finally:
            server.shutdown()
            thread.join()


def _made(name: str, namespace: str, body: Manifest) -> Manifest:
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    metadata = {"uid": f"uid-of-{name}", **body["metadata"], "name": name, "creationTimestamp": stamp}
    return {**body, "metadata": metadata | ({"namespace": namespace} if namespace else {})}


def _fields(query: dict[str, str]) -> dict[str, str]:
    return dict(part.split("=") for part in query.get("fieldSelector", "").split(",") if part)


def _verb(method: str, named: bool, watched: bool) -> str:
    if method == "GET":
        return "get" if named else "watch" if watched else "list"
    return {"POST": "create", "PUT": "update", "DELETE": "delete" if named else "deletecollection"}[method]
