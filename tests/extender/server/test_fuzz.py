"""A small part of `make fuzz`, and the description of the HTTP server tried out by schemathesis."""

import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.extender.fuzz import METHODS, VERBS, cluster, fuzz_method, fuzz_verb
from tests.extender.server.process import ExtenderProcess, serve

REQUESTS = 400
SEED = 7


@pytest.fixture(scope="module")
def extender(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExtenderProcess]:
    with serve(cluster(), tmp_path_factory.mktemp("fuzz"), "--log-level", "error", "--deadline", "5") as running:
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


def test_the_server_keeps_to_its_description(extender: ExtenderProcess, tmp_path: Path) -> None:
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    program = Path(sys.executable).with_name("schemathesis")
    ran = subprocess.run(
        [
            *(program, "run", f"http://{extender.http_address}/openapi.json"),
            *("--checks", checks, "--max-examples", "20", "--seed", "1", "--generation-deterministic"),
            *("--exclude-path", "/rollback", "--no-color"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert ran.returncode == 0, ran.stdout[-6000:] + ran.stderr[-2000:]
