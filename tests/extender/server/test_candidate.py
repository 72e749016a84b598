"""Policies that are tried beside the one in service, as a file says, while pods are being scheduled."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.extender.cluster.test_watcher import eventually
from tests.extender.objects import cluster_list, extender_args, node, pod
from tests.extender.server.process import ExtenderProcess, serve
from tests.extender.server.test_rollout import put
from tests.policy_files import FEATURES, policy_file, trap_file

NODES = [node("small", cpu="4"), node("large", cpu="64")]
FREE_CPU_AFTER = np.eye(FEATURES)[1]
LARGE, SMALL = policy_file(FREE_CPU_AFTER), policy_file(-FREE_CPU_AFTER)  # by what they rank first


@pytest.fixture
def extender(tmp_path: Path) -> Iterator[ExtenderProcess]:
    """In service is what ranks `large` first; no candidate yet."""
    (tmp_path / "policy.onnx").write_bytes(LARGE)
    with run(tmp_path) as running:
        yield running


def run(folder: Path, *arguments: str) -> Any:
    settings = ("--policy-poll", "0.05", "--candidate", str(folder / "candidate.json"), *arguments)
    log = ("--decision-log", str(folder / "decisions.jsonl"), "--decision-log-flush", "0.05")
    return serve(cluster_list(*NODES), folder, *settings, *log, policy=str(folder / "policy.onnx"))


def want(folder: Path, percent: float, policy: str = "candidate.onnx") -> None:
    put(folder / "candidate.json", json.dumps({"policy": policy, "percent": percent}).encode())


def first(extender: ExtenderProcess, name: str) -> str:
    reply = extender.ask("POST", "/prioritize", extender_args(pod(name, {"cpu": "2"}), ["small", "large"]))
    host: str = reply.json()[0]["Host"]
    return host


def shown(extender: ExtenderProcess) -> Any:
    return extender.ask("GET", "/policy").json()["candidate"]


def at(extender: ExtenderProcess, stage: str, percent: float = 0.0) -> Any:
    eventually(lambda: (shown(extender) or {}).get("stage") == stage and shown(extender)["percent"] == percent)
    return shown(extender)


def records(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The decisions in the log, by pod."""
    found: dict[str, list[dict[str, Any]]] = {}
    for line in (folder / "decisions.jsonl").read_text().splitlines():
        found.setdefault(json.loads(line)["pod"], []).append(json.loads(line))
    return found


def test_from_shadow_over_canary_to_active_by_files_alone(extender: ExtenderProcess, tmp_path: Path) -> None:
    assert shown(extender) is None
    in_service = extender.ask("GET", "/policy").json()["digest"]
    (tmp_path / "candidate.onnx").write_bytes(SMALL)

    want(tmp_path, 0)
    candidate = at(extender, "shadow")
    assert candidate["name"] == "candidate"
    assert first(extender, "shadowed") == "large"
    eventually(lambda: shown(extender)["shadowed"] == 1)
    assert (shown(extender)["agreement"], shown(extender)["answered"]) == (0.0, 0)
    assert extender.count("stowage_candidate_pods_total", result="other") == 1
    assert extender.count("stowage_candidate_info", digest=candidate["digest"]) == 1

    want(tmp_path, 100)
    assert at(extender, "canary", 100.0)["shadowed"] == 1  # what is known of it stays known
    assert first(extender, "canary") == "small"
    assert (shown(extender)["answered"], shown(extender)["last_refusal"]) == (1, "")
    assert extender.count("stowage_candidate_percent") == 100

    put(tmp_path / "policy.onnx", SMALL)
    eventually(lambda: extender.ask("GET", "/policy").json()["digest"] == candidate["digest"])
    (tmp_path / "candidate.json").unlink()
    eventually(lambda: shown(extender) is None)
    assert first(extender, "active") == "small"
    assert extender.count("stowage_candidate_info") == 0

    eventually(lambda: len(records(tmp_path)) == 3 and len(records(tmp_path)["shadowed"]) == 2)
    told = {
        name: [(each["policy"], each["rung"], each["chosen"], each.get("tried", False)) for each in lines]
        for name, lines in records(tmp_path).items()
    }
    assert told == {
        "shadowed": [(in_service, "policy", "large", False), (candidate["digest"], "shadow", "small", True)],
        "canary": [(candidate["digest"], "policy", "small", False)],
        "active": [(candidate["digest"], "policy", "small", False)],
    }


def test_a_restart_goes_on_at_the_same_stage(tmp_path: Path) -> None:
    (tmp_path / "policy.onnx").write_bytes(LARGE)
    (tmp_path / "candidate.onnx").write_bytes(SMALL)
    want(tmp_path, 100)

    with run(tmp_path) as extender:
        at(extender, "canary", 100.0)

        assert first(extender, "canary") == "small"


REFUSED = [  # the file, the policy that it names, and what is said of them
    (b'{"policy": "candidate.onnx", "perc', SMALL, 'expected {"policy": FILE'),
    (b'{"policy": "candidate.onnx", "percent": 101}', SMALL, "<= 100"),
    (b'{"policy": "candidate.onnx", "percent": 1, "from": 2}', SMALL, "unknown field `from`"),
    (b'{"policy": "a\\u0000b", "percent": 0}', SMALL, "matching regex"),
    (b'{"policy": "absent.onnx", "percent": 1}', SMALL, "absent.onnx: cannot be read"),
    (b'{"policy": "bundled:absent", "percent": 1}', SMALL, "no such policy"),
    (b'{"policy": "candidate.onnx", "percent": 1}', b"no graph", "not a graph in an ONNX file"),
    (b'{"policy": "candidate.onnx", "percent": 1}', trap_file("raise"), "on what was asked about lately"),
]


def test_what_cannot_be_tried_changes_nothing_and_says_why(extender: ExtenderProcess, tmp_path: Path) -> None:
    assert first(extender, "before") == "large"
    for number, (said, content, reason) in enumerate(REFUSED, start=1):
        put(tmp_path / "candidate.onnx", content)
        put(tmp_path / "candidate.json", said)

        eventually(lambda expected=reason: expected in at(extender, "refused")["last_refusal"])  # type: ignore[misc]
        assert extender.count("stowage_candidate_changes_total", result="refused") >= number
        assert first(extender, f"after-{number}") == "large"

    put(tmp_path / "candidate.onnx", SMALL)
    want(tmp_path, 100)
    assert at(extender, "canary", 100.0)["last_refusal"] == ""
    assert first(extender, "tried") == "small"


def test_the_refusal_of_one_file_is_not_shown_of_the_next(extender: ExtenderProcess, tmp_path: Path) -> None:
    put(tmp_path / "torn.onnx", b"no policy")
    want(tmp_path, 0, "torn.onnx")
    at(extender, "refused")
    (tmp_path / "candidate.onnx").write_bytes(SMALL)
    want(tmp_path, 0)
    seen = [shown(extender)]
    deadline = time.monotonic() + 60.0
    while seen[-1]["stage"] != "shadow" and time.monotonic() < deadline:
        seen.append(shown(extender))
    assert seen[-1]["stage"] == "shadow"
    assert {each["last_refusal"] for each in seen if each["name"] != "torn.onnx"} == {""}


def test_a_candidate_stays_where_it_is_when_the_next_one_is_refused(extender: ExtenderProcess, tmp_path: Path) -> None:
    put(tmp_path / "candidate.onnx", SMALL)
    want(tmp_path, 100)
    digest = at(extender, "canary", 100.0)["digest"]

    want(tmp_path, 50, "absent.onnx")
    eventually(lambda: shown(extender)["last_refusal"] != "")

    assert (shown(extender)["stage"], shown(extender)["percent"], shown(extender)["digest"]) == ("canary", 100, digest)
    assert first(extender, "still") == "small"


@pytest.mark.parametrize("percent", [0, 100])
def test_a_candidate_that_fails_is_withdrawn_and_no_pod_notices(
    extender: ExtenderProcess, tmp_path: Path, percent: int
) -> None:
    (tmp_path / "candidate.onnx").write_bytes(trap_file("raise"))  # nothing was asked about yet that could tell
    want(tmp_path, percent)
    at(extender, "canary" if percent else "shadow", percent)

    assert [first(extender, f"pod-{number}") for number in range(4)] == ["large"] * 4

    withdrawn = at(extender, "withdrawn")
    assert "3 failures in a row" in withdrawn["last_refusal"]
    assert withdrawn["failures"] == 3
    assert extender.count("stowage_candidate_failures_total", kind="error") == 3
    assert extender.count("stowage_candidate_changes_total", result="withdrawn") == 1
    assert extender.count("stowage_policy_failures_total") == 0
    assert extender.count("stowage_decisions_total", rung="policy") == 4
    put(tmp_path / "candidate.onnx", SMALL)  # another one gets its chance
    assert at(extender, "canary" if percent else "shadow", percent)["failures"] == 0


def test_a_rule_in_service_can_have_a_candidate(tmp_path: Path) -> None:
    (tmp_path / "candidate.onnx").write_bytes(SMALL)
    settings = ("--policy-poll", "0.05", "--candidate", str(tmp_path / "candidate.json"))
    with serve(cluster_list(*NODES), tmp_path, *settings) as extender:
        assert first(extender, "before") == "large"
        want(tmp_path, 100)
        at(extender, "canary", 100.0)

        assert first(extender, "after") == "small"
