import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from extender.cluster.reservations import Reservation
from extender.policies.contributions import contributions
from extender.policies.onnx import OnnxPolicy
from extender.server.explain import Explanations, Withheld, as_text
from tests.extender.objects import cluster_list, extender_args, node, pod
from tests.extender.server.process import ROOT, ExtenderProcess, serve
from tests.policy_files import FEATURES, policy_file

NODES = [node("small", cpu="4", gpus="1"), node("large", cpu="64", gpus="4"), node("plain")]


@pytest.fixture(scope="module")
def extender(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExtenderProcess]:
    folder = tmp_path_factory.mktemp("explain")
    with serve(cluster_list(*NODES), folder, policy="bundled:packing") as running:
        shape = {"cpu": "1", "stowage.dev/gpu-milli": "300"}
        for name in ("shared", "again"):
            running.ask("POST", "/prioritize", extender_args(pod(name, shape), ["small", "large", "plain"]))
        yield running


def explain(extender: ExtenderProcess, name: str) -> Any:
    reply = extender.ask("GET", f"/explain?pod=default/{name}")
    assert reply.status == 200, reply.body
    return reply.json()


def test_the_parts_of_a_weighing_policys_score_add_up_to_it(extender: ExtenderProcess) -> None:
    shown = explain(extender, "shared")

    assert (shown["rung"], shown["told"], shown["candidates"], shown["manner"]) == ("policy", True, 2, "weights")
    assert {each["name"] for each in shown["nodes"]} == {"small", "large"}
    assert [each["priority"] for each in shown["nodes"]] == [10, 9]
    for each in shown["nodes"]:
        parts = [feature["contribution"] for feature in each["features"]]
        assert sum(parts) == pytest.approx(each["score"], abs=1e-3)
        assert [abs(part) for part in parts] == sorted((abs(part) for part in parts), reverse=True)


def test_what_is_shown_is_of_the_moment_of_the_answer(extender: ExtenderProcess) -> None:
    # The second pod found the first one's share taken, wherever that was put.
    assert explain(extender, "shared")["nodes"] != explain(extender, "again")["nodes"]


@pytest.mark.parametrize(("query", "status"), [("pod=default/never", 404), ("pod=never", 400), ("", 400)])
def test_what_is_not_known_is_said_to_be_unknown(extender: ExtenderProcess, query: str, status: int) -> None:
    assert extender.ask("GET", f"/explain?{query}").status == status


def test_the_command_prints_a_table_or_json(extender: ExtenderProcess) -> None:
    command = [sys.executable, "-m", "extender", "explain", "--url", f"http://{extender.http_address}", "--pod"]
    text = subprocess.run([*command, "default/shared"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert text.startswith("default/shared (uid-shared): policy, 2 candidates, kube-scheduler was told")
    assert " 1. " in text
    whole = subprocess.run([*command, "default/shared", "--json"], cwd=ROOT, capture_output=True, check=True).stdout
    assert json.loads(whole) == explain(extender, "shared")
    unknown = subprocess.run([*command, "default/never"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (unknown.returncode, "nothing is known of pod default/never" in unknown.stderr) == (2, True)


def test_a_rules_answer_has_no_features(tmp_path: Path) -> None:
    with serve(cluster_list(*NODES), tmp_path) as extender:
        extender.ask("POST", "/prioritize", extender_args(pod("p"), ["small", "large"]))
        shown = explain(extender, "p")

    assert [each["name"] for each in shown["nodes"]] == ["large", "small"]
    assert shown["nodes"][0]["features"] == []


def test_of_any_other_policy_a_feature_counts_by_what_the_score_is_without_it() -> None:
    weights = np.random.default_rng(0).normal(size=FEATURES)
    inputs = np.random.default_rng(1).random((3, FEATURES), np.float32)
    found = contributions(OnnxPolicy("linear", policy_file(weights)), inputs)

    assert found.manner == "occlusion"
    np.testing.assert_allclose(found.parts, (inputs - inputs.mean(axis=0)) * weights, atol=1e-4)


def test_a_pod_that_waits_is_told_what_is_kept_for_it_and_from_it() -> None:
    explanations = Explanations()
    kept = Reservation("uid", "default", "patient", "whole", gpus=8, made=0.0, until=600.0, expires=3600.0)
    assert explanations.of("default/patient") is None
    shown = explanations.of("default/patient", kept)
    assert shown is not None
    assert "has reserved whole for its 8 GPUs: believed to be free from 1970-01-01 00:10:00+00:00" in as_text(shown)

    reasons = {f"node-{number}": "kept for default/patient" for number in range(12)}
    explanations.withhold("default/small", Withheld(5.0, "other", reasons))
    shown = explanations.of("default/small")
    assert shown is not None
    assert (shown["time"], shown["uid"], len(shown["withheld"]), shown["withheld_nodes"]) == (5.0, "other", 10, 12)
    assert "nodes kept off it when it was last filtered: 12" in as_text(shown)

    explanations.withhold("default/small", Withheld(6.0, "other", {}))
    assert explanations.of("default/small") is None
