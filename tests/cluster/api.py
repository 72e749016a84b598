"""A thin client of the API server: JSON in, JSON out.

The tests create hundreds of pods in a row and compare whole lists; plain dictionaries over one kept-alive connection
do that at a few milliseconds each, and nothing of the client that the extender uses is trusted to check it.
"""

import ssl
from pathlib import Path
from typing import Any, Self

import httpx
import yaml

Document = dict[str, Any]

TOKEN_SECONDS = 24 * 3600  # a replay takes hours, and a scheduler whose token has expired places nothing more
ANSWER_SECONDS = 60.0  # ends what hangs; on a busy machine an answer takes its time
_COLLECTIONS = {
    "Namespace": "/api/v1/namespaces",
    "Node": "/api/v1/nodes",
    "Pod": "/api/v1/namespaces/{namespace}/pods",
    "ServiceAccount": "/api/v1/namespaces/{namespace}/serviceaccounts",
    "ClusterRole": "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    "Role": "/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/roles",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings",
}
NODES = _COLLECTIONS["Node"]
PODS = "/api/v1/namespaces/default/pods"


class Api:
    """The API server as one user sees it."""

    def __init__(self, server: str, token: str, certificate: Path) -> None:
        """Connect lazily.

        Args:
            server: such as "https://127.0.0.1:6443".
            certificate: what the server's certificate is verified with.
        """
        self._client = httpx.Client(
            base_url=server,
            headers={"Authorization": f"Bearer {token}"},
            verify=ssl.create_default_context(cafile=str(certificate)),
            timeout=ANSWER_SECONDS,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def get(self, path: str) -> Document:
        """Read an object or a list."""
        return self._answer("GET", path)

    def create(self, document: Document) -> Document:
        """Create an object of one of the kinds that the tests use."""
        namespace = document["metadata"].get("namespace", "default")
        return self._answer("POST", _COLLECTIONS[document["kind"]].format(namespace=namespace), document)

    def apply(self, path: str, document: Document, dry_run: bool = False) -> Document:
        """Create an object of any kind under a path; unknown fields are refused, with `dry_run` it is only checked."""
        return self._answer("POST", f"{path}?fieldValidation=Strict{'&dryRun=All' if dry_run else ''}", document)

    def patch(self, path: str, change: Document) -> Document:
        """Change an object, by a merge patch."""
        return self._answer("PATCH", path, change, "application/merge-patch+json")

    def create_all(self, manifest: Path) -> None:
        """Create every object of a manifest."""
        for document in load_documents(manifest):
            self.create(document)

    def list_nodes(self) -> list[Document]:
        """Every node."""
        items: list[Document] = self.get(NODES)["items"]
        return items

    def list_pods(self) -> list[Document]:
        """Every pod of every namespace."""
        items: list[Document] = self.get("/api/v1/pods")["items"]
        return items

    def node_of(self, pod: str) -> str:
        """Name of the node that a pod is on; empty before it is on one."""
        node: str = self.get(f"{PODS}/{pod}")["spec"].get("nodeName", "")
        return node

    def bind(self, pod: str, node: str) -> None:
        """Put a pod on a node, as a scheduler does."""
        target = {"apiVersion": "v1", "kind": "Node", "name": node}
        binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod}, "target": target}
        self._answer("POST", f"{PODS}/{pod}/binding", binding)

    def delete(self, path: str, grace_seconds: int = 0) -> None:
        """Delete an object."""
        self._answer("DELETE", path, {"gracePeriodSeconds": grace_seconds})

    def issue_token(self, namespace: str, service_account: str) -> str:
        """A token by which a service account identifies itself."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{service_account}/token"
        spec = {"expirationSeconds": TOKEN_SECONDS}
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        token: str = self._answer("POST", path, request)["status"]["token"]
        return token

    def is_ready(self) -> bool:
        """Whether the API server serves and has set up its own objects."""
        try:
            return self._client.get("/readyz").status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def _answer(
        self, method: str, path: str, body: Document | None = None, content_type: str = "application/json"
    ) -> Document:
        response = self._client.request(method, path, json=body, headers={"Content-Type": content_type})
        if response.is_error:
            message = response.json().get("message", response.text)
            raise AssertionError(f"{method} {path} was answered {response.status_code}: {message}")
        document: Document = response.json()
        return document


def load_documents(manifest: Path) -> list[Document]:
    """The objects of a manifest."""
    return [document for document in yaml.safe_load_all(manifest.read_text()) if document]
