import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.features import TypicalPods, fragmentation
from training.benchmarks.openb import (
    allocation_by_load,
    differing_cells,
    fragmentation_tables,
    parse_seeds,
    play_run,
    read_mix,
    read_published,
)
from training.simulator.fragmentation import fragmentation_of, published_fragmentation

PODS = [
    *[(4000, 0, 1, 1000, "")] * 5,
    *[(2000, 0, 1, 470, "")] * 4,
    *[(2000, 0, 1, 810, "T4|P100")] * 4,
    *[(8000, 0, 0, 0, "")] * 3,
    *[(9000, 0, 2, 1000, "G2")] * 3,
]
MODELS = ["G2", "P100", "T4"]


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
    tables = fragmentation_tables(PODS, MODELS)
    assert tables.cpu.tolist() == [4000, 2000, 2000, 9000, 8000]
    assert tables.gpu_milli.tolist() == [1000, 810, 470, 1000, 0]
    assert tables.share.sum() == pytest.approx(1.0)
    assert tables.admits[:, 1].tolist() == [False, True, True]


@given(
    cpu=st.integers(0, 12_000),
    devices=st.lists(st.sampled_from([0, 190, 470, 530, 810, 1000]), min_size=8, max_size=8),
    model=st.integers(0, 2),
)
def test_tables_published_sum_and_feature_agree(cpu: int, devices: list[int], model: int) -> None:
    tables = fragmentation_tables(PODS, MODELS)
    free = np.array(devices)
    by_table = fragmentation_of(tables, model, cpu, free, free.sum())
    assert by_table == pytest.approx(published_fragmentation(tables, model, cpu, free, free.sum()), abs=1e-9)

    # The feature does not know models: what a node does not admit it can never serve.
    out_of_reach = np.where(tables.admits[model], tables.cpu, 10**9)
    typical = TypicalPods(out_of_reach, tables.gpu_count, tables.gpu_milli, tables.share)
    assert by_table == pytest.approx(fragmentation(np.array([cpu]), free[None, :], typical)[0], abs=1e-9)


def test_allocation_is_the_mean_over_the_arrivals_of_a_load_step() -> None:
    # 100 devices; two pods of one device, then one of two that is dropped.
    allocation = allocation_by_load(np.array([1000, 1000, 2000]), np.array([True, True, False]), 100_000)
    assert allocation[:7] == [0.0, 1.0, 2.0, 2.0, 2.0, 2.0, None]


def test_seeds_can_be_ranges() -> None:
    assert parse_seeds("42,45-47") == [42, 45, 46, 47]


def test_the_command_writes_every_run(openb_traces: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "training.benchmarks.openb", "--traces", str(openb_traces)]
    command += ["--policy", "bestfit,fgd", "--seeds", "42", "--json", str(tmp_path / "runs.json")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert result.returncode == 0, result.stderr
    runs = json.loads((tmp_path / "runs.json").read_text())
    assert [(run["mix"], run["policy"], run["seed"]) for run in runs] == [
        ("default", "bestfit", 42),
        ("default", "fgd", 42),
    ]
    assert all(len(run["allocation"]) == 131 and run["dropped"] > 0 for run in runs)
    assert "0 of 131" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--policy", "worstfit"], "argument --policy: worstfit: expected bestfit"),
        (["--traces", "nowhere"], "nowhere: expected a folder with openb_node_list_gpu_node.csv"),
        (["--seeds", "x"], "expected seeds as 42, 42-51"),
    ],
)
def test_a_wrong_argument_is_refused_with_what_is_expected(arguments: list[str], complaint: str) -> None:
    command = [sys.executable, "-m", "training.benchmarks.openb", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert result.returncode == 2
    assert complaint in result.stderr
