"""Policies that are replaced while pods are being scheduled."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.documentation.pages import ROOT, statements
from tests.extender.cluster.test_watcher import eventually
from tests.extender.objects import cluster_list, extender_args, node, pod
from tests.extender.server.process import ExtenderProcess, exchange, serve
from tests.policy_files import FEATURES, metadata_of, policy_file, trap_file

NODES = [node("small", cpu="4"), node("large", cpu="64")]
FREE_CPU_AFTER = np.eye(FEATURES)[1]


def put(path: Path, content: bytes) -> None:
    """Replace the file at once, as a mounted ConfigMap is."""
    partial = path.with_suffix(".partial")
    partial.write_bytes(content)
    os.replace(partial, path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "policy.onnx"
    made.write_bytes(policy_file(FREE_CPU_AFTER))
    return made


@pytest.fixture
def extender(tmp_path: Path, path: Path) -> Iterator[ExtenderProcess]:
    with serve(cluster_list(*NODES), tmp_path, "--policy-poll", "0.05", policy=str(path)) as running:
        yield running


def first(extender: ExtenderProcess, name: str) -> str:
    reply = extender.ask("POST", "/prioritize", extender_args(pod(name, {"cpu": "2"}), ["small", "large"]))
    host: str = reply.json()[0]["Host"]
    return host


def test_another_file_takes_over_between_two_requests_and_is_rolled_back_by_a_call(
    extender: ExtenderProcess, path: Path
) -> None:
    assert first(extender, "before") == "large"
    digest = extender.ask("GET", "/policy").json()["digest"]
    assert extender.ask("POST", "/rollback", b"").status == 409
    failed, stop = [], threading.Event()

    def keep_asking() -> None:
        connection = extender.connect()
        while not stop.is_set():
            reply = exchange(connection, "POST", "/prioritize", extender_args(pod("again"), ["small", "large"]))
            if reply.status != 200 or len(reply.json()) != 2:
                failed.append(reply)
        connection.close()

    asking = threading.Thread(target=keep_asking)
    asking.start()
    put(path, policy_file(-FREE_CPU_AFTER))
    eventually(lambda: extender.count("stowage_policy_swaps_total", result="served") == 1)
    stop.set()
    asking.join()

    assert failed == []
    assert first(extender, "after") == "small"
    shown = extender.ask("GET", "/policy").json()
    assert shown["before"] == digest != shown["digest"]
    assert shown["agreement_with_before"] == 0.0
    assert extender.count("stowage_policy_info") == 1
    assert extender.count("stowage_policy_info", digest=shown["digest"]) == 1

    assert extender.ask("POST", "/rollback", b"").json()["digest"] == digest
    assert first(extender, "rolled back") == "large"
    assert extender.count("stowage_policy_swaps_total", result="rolled_back") == 1


def test_what_the_operators_guide_runs_in_every_pod_rolls_back(extender: ExtenderProcess, path: Path) -> None:
    [(*_, code)] = [
        call
        for statement in statements(ROOT / "docs" / "operators.md")
        for call in statement.calls
        if call[0] == "xargs" and "/rollback" in call[-1]
    ]
    digest = extender.ask("GET", "/policy").json()["digest"]
    put(path, policy_file(-FREE_CPU_AFTER))
    eventually(lambda: extender.count("stowage_policy_swaps_total", result="served") == 1)
    here = code.replace("127.0.0.1:8888", extender.http_address)
    answer = subprocess.run([sys.executable, "-c", here], capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(answer.stdout)["digest"] == digest


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"no graph", "not a graph in an ONNX file"),
        (policy_file(properties=metadata_of(schema_version=1).to_properties()), "schema_version is 1"),
        (policy_file(properties={}), "metadata lack"),
        (trap_file("raise"), "on what was asked about lately"),
        (trap_file("nan"), "scores are not finite"),
    ],
    ids=["corrupt", "older", "foreign", "raises", "not numbers"],
)
def test_a_file_that_cannot_be_served_changes_nothing_and_says_why(
    extender: ExtenderProcess, path: Path, content: bytes, reason: str
) -> None:
    assert first(extender, "before") == "large"
    digest = extender.ask("GET", "/policy").json()["digest"]

    put(path, content)
    eventually(lambda: extender.count("stowage_policy_swaps_total", result="refused") == 1)

    shown = extender.ask("GET", "/policy").json()
    assert shown["digest"] == digest
    assert reason in shown["last_refusal"]
    assert first(extender, "after") == "large"
    put(path, policy_file(-FREE_CPU_AFTER))
    eventually(lambda: extender.count("stowage_policy_swaps_total", result="served") == 1)
    assert extender.ask("GET", "/policy").json()["last_refusal"] == ""


def test_a_refusal_is_forgotten_when_the_file_in_service_is_back(extender: ExtenderProcess, path: Path) -> None:
    in_service = path.read_bytes()
    put(path, b"torn")
    eventually(lambda: extender.ask("GET", "/policy").json()["last_refusal"] != "")

    put(path, in_service)

    eventually(lambda: extender.ask("GET", "/policy").json()["last_refusal"] == "")
    assert extender.count("stowage_policy_swaps_total", result="served") == 0


def test_a_file_that_takes_too_long_is_refused(tmp_path: Path, path: Path) -> None:
    arguments = ("--policy-poll", "0.05", "--deadline", "5")
    with serve(cluster_list(*NODES), tmp_path, *arguments, policy=str(path)) as extender:
        assert first(extender, "before") == "large"
        put(path, trap_file("hang"))
        eventually(lambda: extender.count("stowage_policy_swaps_total", result="refused") == 1)

        assert "no answer within" in extender.ask("GET", "/policy").json()["last_refusal"]
        assert first(extender, "after") == "large"
