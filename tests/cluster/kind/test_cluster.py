"""The cluster itself is whole; where it is not, no other test here says anything."""

import pytest

from tests.cluster.api import Api, Document
from tests.cluster.kind.application_image import NAME
from tests.cluster.kind.cluster import KindCluster
from tests.cluster.kind.isolation import assert_isolated

pytestmark = [pytest.mark.kind, pytest.mark.timeout(900)]

SERVE = "import http.server; http.server.test(http.server.SimpleHTTPRequestHandler, port=8000, bind='0.0.0.0')"
ASK = """
import collections, socket, sys, urllib.request
address = socket.gethostbyname("echo.default.svc.cluster.local")
found = collections.Counter()
for _ in range(40):
    with socket.create_connection((address, 80), timeout=5) as connection:
        connection.sendall(b"GET /hostname HTTP/1.0\\r\\n\\r\\n")
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
        found[answer.split(b"\\r\\n\\r\\n", 1)[1].decode().strip()] += 1
print(*sorted(found))
"""


def echo(name: str) -> Document:
    """A pod that serves its own name."""
    command = f'cd /tmp && hostname > hostname && exec python -c "{SERVE}"'
    container = {"name": "echo", "image": NAME, "imagePullPolicy": "Never", "command": ["sh", "-c", command]}
    metadata = {"name": name, "labels": {"app": "echo"}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [container]}}


def test_every_endpoint_of_a_service_answers_and_its_name_resolves(cluster: KindCluster, api: Api) -> None:
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "echo"},
        "spec": {"selector": {"app": "echo"}, "ports": [{"port": 80, "targetPort": 8000}]},
    }
    names = ["echo-0", "echo-1", "echo-2"]
    cluster.apply(service, *map(echo, names))
    try:
        cluster.kubectl("wait", "--for=condition=Ready", "pod", "--selector=app=echo", "--timeout=120s")
        # The pod's own probe has not said that it serves; what kube-proxy programs may take a second longer.
        ask = f"python -c '{ASK}' > /tmp/found && [ $(wc -w < /tmp/found) = 3 ] && break"
        patiently = f"for _ in $(seq 30); do {ask}; sleep 1; done; cat /tmp/found"
        answer = cluster.kubectl("exec", "echo-0", "--", "sh", "-c", patiently)
        assert answer.split() == names
    finally:
        cluster.kubectl("delete", "service/echo", *(f"pod/{name}" for name in names), "--grace-period=0", "--force")


def test_nothing_in_it_can_leave_the_machine(cluster: KindCluster) -> None:
    assert_isolated()
    # The node's own way leads to the namespace's bridge and ends there.
    assert "default via" in cluster.in_node("ip", "route")
