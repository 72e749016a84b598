"""Reservations as kube-scheduler and operators meet them."""

import json
from pathlib import Path
from typing import Any

from tests.extender.cluster.test_watcher import eventually
from tests.extender.objects import cluster_list, extender_args, node, pod
from tests.extender.server.process import ExtenderProcess, run_extender, serve

ON = ("--reserve-after", "1")


def whole_gpus(name: str, count: int, expected: str = "", **more: Any) -> dict[str, Any]:
    made = pod(name, {"cpu": "1", "nvidia.com/gpu": str(count)}, schedulerName="stowage", **more)
    if expected:
        made["metadata"]["annotations"] = {"stowage.dev/expected-seconds": expected}
    return made


def waiting(name: str, count: int) -> dict[str, Any]:
    made = whole_gpus(name, count)
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    made["status"]["conditions"] = [condition | {"lastTransitionTime": "2026-01-01T00:00:00Z"}]
    return made


def full_cluster() -> bytes:
    """Two nodes with four GPUs, all in use, and a pod that waits for four."""
    nodes = [node(name, gpus="4") for name in ("long", "short")]
    running = [
        whole_gpus("on-long", 4, "90000", node_name="long", phase="Running"),
        whole_gpus("on-short", 4, "600", node_name="short", phase="Running"),
    ]
    return cluster_list(*nodes, *running, waiting("patient", 4))


def reserved(extender: ExtenderProcess) -> dict[str, str]:
    return {each["pod"]: each["node"] for each in extender.ask("GET", "/state").json()["reservations"]}


def test_a_node_is_reserved_shown_and_kept_from_others(tmp_path: Path) -> None:
    with serve(full_cluster(), tmp_path, *ON) as extender:
        eventually(lambda: reserved(extender) == {"patient": "short"})
        assert extender.count("stowage_reserved_nodes") == 1
        assert extender.count("stowage_reservations_total", outcome="made") == 1

        cpu_only = pod("other", {"cpu": "1"})
        answer = extender.ask("POST", "/filter", extender_args(cpu_only, ["long", "short"])).json()
        assert answer["NodeNames"] == ["long"]
        assert answer["FailedNodes"] == {}
        reason = "the node is reserved for pod default/patient, which waits for 4 GPUs"
        assert answer["FailedAndUnresolvableNodes"] == {"short": reason}
        assert extender.count("stowage_withheld_nodes_total") == 1

        brief = pod("brief", {"cpu": "1"})
        brief["metadata"]["annotations"] = {"stowage.dev/expected-seconds": "100"}
        for asked in (brief, waiting("patient", 4) | {"spec": pod("x", {"cpu": "1"})["spec"]}):
            answer = extender.ask("POST", "/filter", extender_args(asked, ["long", "short"])).json()
            assert answer["NodeNames"] == ["long", "short"]


def test_a_reserved_node_is_none_to_preempt_on(tmp_path: Path) -> None:
    with serve(full_cluster(), tmp_path, *ON) as extender:
        eventually(lambda: reserved(extender) == {"patient": "short"})
        victims = {name: {"Pods": [{"UID": f"uid-on-{name}"}], "NumPDBViolations": 0} for name in ("long", "short")}
        question = {"Pod": whole_gpus("urgent", 1, priority=1000), "NodeNameToMetaVictims": victims}

        answer = extender.ask("POST", "/preempt", json.dumps(question).encode()).json()

    assert list(answer["NodeNameToMetaVictims"]) == ["long"]


def test_a_reservation_survives_a_restart_even_if_another_node_would_be_chosen_by_now(tmp_path: Path) -> None:
    file = tmp_path / "state" / "reservations.json"
    with serve(full_cluster(), tmp_path, *ON, "--reservation-file", str(file)) as extender:
        eventually(lambda: reserved(extender) == {"patient": "short"} and file.exists())
        extender.process.kill()
    third = json.loads(full_cluster())
    third["items"].append(node("another", gpus="4"))  # free at once
    path = tmp_path / "cluster.json"
    path.write_text(json.dumps(third))
    arguments = ("--policy", "heuristic:best-fit", "--cluster-file", str(path), *ON)
    with run_extender(*arguments, "--reservation-file", str(file)) as extender:
        extender.wait_ready()
        assert reserved(extender) == {"patient": "short"}
    with run_extender(*arguments) as extender:
        extender.wait_ready()
        eventually(lambda: reserved(extender) == {"patient": "another"})


def test_a_restored_reservation_is_dropped_if_its_pod_went_meanwhile(tmp_path: Path) -> None:
    file = tmp_path / "reservations.json"
    with serve(full_cluster(), tmp_path, *ON, "--reservation-file", str(file)) as extender:
        eventually(file.exists)
        extender.process.kill()
    left = cluster_list(node("long", gpus="4"), node("short", gpus="4"))
    with serve(left, tmp_path, *ON, "--reservation-file", str(file)) as extender:
        assert reserved(extender) == {}
        assert extender.count("stowage_reservations_total", outcome="gone") == 1


def test_nothing_is_reserved_unless_it_is_switched_on(tmp_path: Path) -> None:
    with serve(full_cluster(), tmp_path) as extender:
        answer = extender.ask("POST", "/filter", extender_args(pod("other"), ["long", "short"])).json()

        assert answer["NodeNames"] == ["long", "short"]
        assert reserved(extender) == {}
