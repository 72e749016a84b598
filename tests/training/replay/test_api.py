"""Requests whose answers are lost: the work may have been done, and is not taken for somebody else's."""

import json
import time
from pathlib import Path

import pytest

from tests.training.replay.api_server import StubApiServer
from tests.training.replay.conftest import SMALL, Say
from training.replay import api
from training.replay.api import RefusedError, connect

PATH = "/api/v1/namespaces/default/pods"
POD = {
    "metadata": {"name": "a", "labels": {"stowage.dev/replay": "cafe0123"}},
    "spec": {"nodeSelector": {}},
}
PAUSE_SECONDS = 0.01


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "PAUSE_SECONDS", PAUSE_SECONDS)


def test_an_object_whose_first_answer_was_lost_is_made(server: StubApiServer, tmp_path: Path) -> None:
    server.put("nodes", "n", metadata={"labels": {}})
    cluster = connect(server.kubeconfig(tmp_path), None)
    server.lose_first("POST")

    begun = time.time()
    answer = cluster.create(PATH, POD)

    assert answer.document["metadata"]["uid"] == "uid-of-a"
    assert begun <= answer.sent <= answer.answered - PAUSE_SECONDS  # it was made some time after the first request
    assert cluster.repeated == 1


def test_an_object_of_the_name_that_is_somebody_elses_is_still_a_conflict(
    server: StubApiServer, tmp_path: Path
) -> None:
    server.put("pods", "a", "default", metadata={"labels": {"stowage.dev/replay": "beef4567"}})
    cluster = connect(server.kubeconfig(tmp_path), None)
    server.lose_first("POST")

    with pytest.raises(RefusedError) as refused:
        cluster.create(PATH, POD)

    assert refused.value.status == 409


def test_an_object_that_was_there_before_the_first_request_is_a_conflict(server: StubApiServer, tmp_path: Path) -> None:
    server.put("pods", "a", "default", metadata=POD["metadata"])

    with pytest.raises(RefusedError, match="was answered 409"):
        connect(server.kubeconfig(tmp_path), None).create(PATH, POD)


def test_a_replay_outlives_lost_answers(server: StubApiServer, replay: Say, tmp_path: Path) -> None:
    server.lose_first("POST")

    code, _, errors = replay(*SMALL, "--schedulers", "stowage", "--out", str(tmp_path))

    assert code == 0, errors
    (run,) = json.loads((tmp_path / "evaluation.json").read_text())["replay"]
    assert run["limits"]["failed"] == 0
    assert [key.name for key in server.objects] == ["kube-system"]
