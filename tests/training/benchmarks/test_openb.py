import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.fragmentation import fragmentation, fragmentation_tables
from extender.placement import empty_nodes, pod_request
from extender.policies.heuristics import Surroundings
from tests.policy_files import policy_file
from training.benchmarks.openb import (
    Run,
    allocation_by_load,
    describe_difference,
    differing_cells,
    parse_seeds,
    play_run,
    published_typical_pods,
    read_mix,
    read_published,
    table_of,
)
from training.simulator.compiled import from_python
from training.simulator.published import published_change, published_pods
from training.workloads.openb import TraceError

PODS = [
    *[(4000, 1000, 1, "")] * 5,
    *[(2000, 470, 1, "")] * 4,
    *[(2000, 810, 1, "T4|P100")] * 4,
    *[(8000, 0, 0, "")] * 3,
    *[(9000, 1000, 2, "G2")] * 3,
]
MODELS = ["", "G2", "P100", "T4"]


@pytest.mark.parametrize(
    ("mix", "policy", "seed"),
    [
        ("default", "bestfit", 42),
        ("default", "dotprod", 43),
        ("cpu050", "gpupacking", 44),
        ("gpushare40", "gpuclustering", 45),
        ("default", "fgd", 46),
        # Where rounding and the order of equally frequent shapes decide.
        ("cpu250", "fgd", 43),
        ("multigpu20", "fgd", 45),
        ("gpuspec10", "fgd", 42),
        ("gpuspec33", "fgd", 44),
    ],
)
def test_every_published_cell_of_a_run_is_met(openb_traces: Path, mix: str, policy: str, seed: int) -> None:
    run = play_run(read_mix(openb_traces, mix), mix, policy, seed)
    published = read_published(openb_traces)[mix, policy, seed]
    assert differing_cells(run.allocation, published) == 0


def test_a_cell_that_differs_is_counted() -> None:
    assert differing_cells([1.0, None, 3.0, None], [1.01, None, 3.02, 4.0]) == 2


def test_typical_pods_are_the_most_frequent_and_ties_come_largest_first() -> None:
    typical = published_typical_pods(PODS, MODELS)
    assert typical.cpu.tolist() == [4000, 2000, 2000, 9000, 8000]
    assert typical.gpu_milli.tolist() == [1000, 810, 470, 1000, 0]
    assert typical.share.sum() == pytest.approx(1.0)
    assert typical.admits[1].tolist() == [False, False, True, True]


change_by_rule = from_python(published_change)  # compiled at the first call


@given(
    cpu=st.integers(3000, 12_000),
    devices=st.lists(st.sampled_from([0, 190, 470, 530, 810, 1000]), min_size=8, max_size=8),
    model=st.integers(0, 3),
)
def test_the_published_sum_is_the_fragmentation_that_the_extender_measures(
    cpu: int, devices: list[int], model: int
) -> None:
    typical = published_typical_pods(PODS, MODELS)
    tables = fragmentation_tables(typical)
    pod = pod_request(np.array([3000, 1, 0]))
    nodes = empty_nodes(np.array([[cpu, 10, 8000]]), np.array([8]), np.array([model]))
    nodes.device_free[0] = devices
    nodes.requested[0, 2] = 8000 - sum(devices)
    free = np.array(devices)[:, None]
    before, after = (fragmentation(tables, np.array([model]), np.array([left]), free)[0] for left in (cpu, cpu - 3000))
    around = Surroundings(np.zeros(3, np.int64), tables, np.zeros(1), np.array(devices))
    change = change_by_rule(nodes, pod, 0, around, published_pods(typical))
    assert change == pytest.approx(before - after, abs=1e-9)


def test_a_published_file_that_shares_several_devices_is_refused(openb_traces: Path, tmp_path: Path) -> None:
    (tmp_path / "openb_node_list_gpu_node.csv").write_bytes(
        (openb_traces / "openb_node_list_gpu_node.csv").read_bytes()
    )
    (tmp_path / "openb_pod_list_own.csv").write_text("name,cpu_milli,memory_mib,num_gpu,gpu_milli\np,1,1,2,500\n")
    with pytest.raises(TraceError, match=r"openb_pod_list_own.csv:2: .*gpu_milli.*1000 for a pod with 2 GPUs"):
        read_mix(tmp_path, "own")


def test_a_difference_to_fgd_comes_with_its_interval() -> None:
    runs = [
        Run("default", policy, seed, [0.0] * 130 + [final + seed / 10], 0, 0.1)
        for policy, final in (("fgd", 95.0), ("bestfit", 93.0))
        for seed in (1, 2, 3)
    ]
    table = table_of(runs, {})
    assert list(table.columns[6].cells) == ["", "-2.00 [-2.00, -2.00]"]


def test_a_single_pair_has_no_interval() -> None:
    assert describe_difference(np.array([0.5])) == "+0.50"


def test_allocation_is_the_mean_over_the_arrivals_of_a_load_step() -> None:
    # 100 devices; two pods of one device, then one of two that is dropped.
    allocation = allocation_by_load(np.array([1000, 1000, 2000]), np.array([True, True, False]), 100_000)
    assert allocation[:7] == [0.0, 1.0, 2.0, 2.0, 2.0, 2.0, None]


def test_seeds_can_be_ranges() -> None:
    assert parse_seeds("42,45-47") == [42, 45, 46, 47]


def test_the_command_writes_every_run(openb_traces: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "training.benchmarks.openb", "--traces", str(openb_traces)]
    policy = tmp_path / "own.onnx"
    policy.write_bytes(policy_file())
    command += ["--policy", f"bestfit,fgd,random,{policy}", "--seeds", "42", "--json", str(tmp_path / "runs.json")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert result.returncode == 0, result.stderr
    runs = json.loads((tmp_path / "runs.json").read_text())
    assert [(run["mix"], run["policy"], run["seed"]) for run in runs] == [
        ("default", "bestfit", 42),
        ("default", "fgd", 42),
        ("default", "random", 42),
        ("default", "own", 42),
    ]
    assert all(len(run["allocation"]) == 131 and run["dropped"] > 0 for run in runs)
    assert "0 of 131" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--policy", "worstfit"], "argument --policy: worstfit: expected random, bestfit"),
        (["--traces", "nowhere"], "nowhere: expected a folder with openb_node_list_gpu_node.csv"),
        (["--policy", "missing.onnx"], "missing.onnx: cannot be read"),
        (["--seeds", "x"], "expected seeds as 42, 42-51"),
    ],
)
def test_a_wrong_argument_is_refused_with_what_is_expected(arguments: list[str], complaint: str) -> None:
    command = [sys.executable, "-m", "training.benchmarks.openb", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert result.returncode == 2
    assert complaint in result.stderr
