"""A small part of `make fuzz`, and the description of the HTTP server tried out by schemathesis."""

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import schemathesis
from schemathesis.checks import (
    content_type_conformance,
    not_a_server_error,
    response_schema_conformance,
    status_code_conformance,
)

from extender.policies.bundled import policy_path
from tests.extender.cluster.test_watcher import eventually
from tests.extender.fuzz import METHODS, VERBS, cluster, fuzz_method, fuzz_verb, question
from tests.extender.server.process import ExtenderProcess, serve

REQUESTS = 400
CONFORMANCE = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
SEED = 7


@pytest.fixture(scope="module")
def extender(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExtenderProcess]:
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "candidate.json").write_text(json.dumps({"policy": "bundled:packing", "percent": 50}))
    settings = ("--log-level", "error", "--deadline", "5", "--candidate", str(folder / "candidate.json"))
    with serve(cluster(), folder, *settings) as running:
        yield running
        assert running.process.poll() is None


@pytest.mark.parametrize("verb", VERBS)
def test_no_mutated_body_fails_a_verb(extender: ExtenderProcess, verb: str) -> None:
    statuses = fuzz_verb(extender, verb, REQUESTS, random.Random(SEED))

    assert statuses.keys() <= {200, 400, 422}
    assert statuses[200] > REQUESTS // 20
    assert statuses[400] > REQUESTS // 20


@pytest.mark.parametrize("method", METHODS)
def test_no_mutated_message_fails_a_method(extender: ExtenderProcess, method: str) -> None:
    statuses = fuzz_method(extender, method, REQUESTS // 4, random.Random(SEED))

    assert statuses["OK"] > 0
    assert len(statuses) > 1


def test_the_description_names_everything_that_is_served(extender: ExtenderProcess) -> None:
    described = extender.ask("GET", "/openapi.json").json()["paths"]
    hint: str = extender.ask("GET", "/").json()["error"]

    for path, methods in described.items():
        (method,) = methods
        assert f"{method.upper()} {path}" in hint
    assert "/prioritize" in described


def test_nothing_that_is_served_is_left_undescribed(extender: ExtenderProcess) -> None:
    described = extender.ask("GET", "/openapi.json").json()["paths"]

    for (operation,) in map(dict.values, described.values()):
        assert operation["summary"]
        assert operation["responses"].keys() > {"200"}


def test_what_operators_ask_is_answered_as_described(extender: ExtenderProcess, tmp_path: Path) -> None:
    policy = tmp_path / "policy.onnx"
    shutil.copyfile(policy_path("bundled:packing"), policy)
    with serve(cluster(), tmp_path, "--policy-poll", "0.2", "--deadline", "60", policy=str(policy)) as swapped:
        schema = schemathesis.openapi.from_url(f"http://{swapped.http_address}/openapi.json")
        asked = json.dumps(question("prioritize")).encode()
        assert swapped.ask("POST", "/prioritize", asked).status == 200
        cases = [
            (schema["/explain"]["GET"].Case(query={"pod": "default/p"}), 200),
            (schema["/explain"]["GET"].Case(query={"pod": "default/q"}), 404),
            (schema["/explain"]["GET"].Case(query={"pod": "p"}), 400),
            (schema["/rollback"]["POST"].Case(), 409),
            (schema["/resume"]["POST"].Case(), 404),
            (schema["/policy"]["GET"].Case(), 200),
            (schema["/state"]["GET"].Case(), 200),
            (schema["/metrics"]["GET"].Case(), 200),
        ]
        answers = [case.call_and_validate(checks=CONFORMANCE).status_code for case, _ in cases]
        beside = tmp_path / "beside"
        shutil.copyfile(policy_path("bundled:latency"), beside)
        beside.replace(policy)
        eventually(lambda: swapped.count("stowage_policy_swaps_total", result="served") == 1)
        back = schema["/rollback"]["POST"].Case().call_and_validate(checks=CONFORMANCE)

    assert answers == [status for _, status in cases]
    assert back.status_code == 200


def test_the_server_keeps_to_its_description(extender: ExtenderProcess, tmp_path: Path) -> None:
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    program = Path(sys.executable).with_name("schemathesis")
    ran = subprocess.run(
        [
            *(program, "run", f"http://{extender.http_address}/openapi.json"),
            *("--checks", checks, "--max-examples", "20", "--seed", "1", "--generation-deterministic"),
            "--no-color",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert ran.returncode == 0, ran.stdout[-6000:] + ran.stderr[-2000:]
