"""A replay's stay in a cluster: one at a time, whichever namespaces they use, and with no rights but those it needs."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from tests.training.replay.api_server import Right, StubApiServer
from tests.training.replay.conftest import SMALL, Say
from training.replay import session
from training.replay.session import LEASE, LEASE_SECONDS

RBAC = Path(__file__).parents[3] / "manifests" / "replay-rbac.yaml"

LABELS = {"stowage.dev/replay": "cafe0123"}


def another_replay(server: StubApiServer, said_seconds_ago: float) -> None:
    """Let there be one in a namespace of its own."""
    said = (datetime.now(UTC) - timedelta(seconds=said_seconds_ago)).isoformat()
    server.put("namespaces", "theirs", metadata={"labels": LABELS})
    server.put("nodes", "their-node", metadata={"labels": LABELS})
    server.put("pods", "their-pod", "theirs", metadata={"labels": LABELS})
    server.put("leases", LEASE, "theirs", spec={"holderIdentity": "cafe0123", "renewTime": said})


@pytest.mark.parametrize("arguments", [(*SMALL, "--namespace", "ours"), ("--clean-up",)])
def test_a_replay_at_work_in_another_namespace_is_left_alone(
    server: StubApiServer, replay: Say, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    another_replay(server, said_seconds_ago=5)
    before = dict(server.objects)

    code, _, errors = replay(*arguments, "--out", str(tmp_path / "out"))

    assert code == 2
    assert "another replay (cafe0123) works in namespace theirs of this cluster" in errors
    assert "wait until it has ended, or, if it was killed, until that is 60 s" in errors
    assert server.objects == before


@pytest.mark.parametrize("arguments", [(*SMALL, "--namespace", "ours"), ("--clean-up",)])
def test_what_a_dead_replay_left_in_another_namespace_is_removed_with_its_lease(
    server: StubApiServer, replay: Say, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    another_replay(server, said_seconds_ago=LEASE_SECONDS + 5)

    code, _, errors = replay(*arguments, "--out", str(tmp_path / "out"))

    assert code == 0, errors
    assert [key.name for key in server.objects] == ["kube-system"]


def test_a_replay_needs_what_its_cluster_role_grants_and_that_is_all_it_grants(
    server: StubApiServer, replay: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "RENEWAL_SECONDS", 0.2)
    another_replay(server, said_seconds_ago=LEASE_SECONDS + 5)
    server.lose_first("POST")  # so that what was made is asked for

    code, _, errors = replay(*SMALL, "--schedulers", "stowage", "--out", str(tmp_path))

    assert code == 0, errors
    granted = {
        Right(group, resource, verb, name)
        for rule in yaml.safe_load(RBAC.read_text())["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        for name in rule.get("resourceNames", [""])
    }
    anyhow = {right._replace(name="") for right in server.rights}
    assert {right for right in server.rights if not {right, right._replace(name="")} & granted} == set()
    assert {right for right in granted if right not in server.rights | anyhow} == set()
