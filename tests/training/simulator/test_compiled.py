"""The extender's functions are the same functions when the simulator has compiled them."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender import elementwise, features, fragmentation, placement, valuation
from extender.placement import ANY_DEVICE, Candidates, shares_device
from extender.policies import heuristics
from tests.clusters import clusters, copy_of, pods, typical_pods
from training.simulator import compiled
from training.simulator.compiled import COMPILED_MODULES, cache_directory, entry, from_python, inner


@entry
def _choose(condition, yes, no):
    return elementwise.where(condition, yes, no)


@entry
def _look_at(nodes, pod, row, device, fits, tightest, alternatives, after):
    """What there is to know of a node: whether the pod fits, its devices, and what it would leave."""
    fits[0] = placement.fits(nodes, pod, row)
    tightest[0] = placement.tightest_device(nodes, pod, row)
    for index in range(nodes.device_free.shape[1]):
        alternatives[index] = placement.is_alternative(nodes, pod, row, index, tightest[0])
    placement.devices_after(nodes, pod, Candidates(row, device), after)


@entry
def _occupy(nodes, pod, row, device):
    return placement.occupy(nodes, pod, row, device)


@entry
def _release(nodes, pod, row, taken):
    placement.release(nodes, pod, row, taken)


@entry
def _return_to(nodes, pod, row, taken):
    placement.return_to(nodes, pod, row, taken)


@entry
def _fragmentation(tables, model, cpu_free, device_free):
    return fragmentation.fragmentation(tables, model, cpu_free, device_free)


def assert_equal_arrays(first, second) -> None:
    for array, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(array, other)


@given(st.booleans(), st.integers(-9, 9), st.integers(-9, 9))
def test_where_chooses_between_numbers(condition, yes, no):
    assert _choose(condition, yes, no) == elementwise.where(condition, yes, no) == (yes if condition else no)


def test_where_makes_a_float_of_a_number_that_may_be_one():
    assert _choose(True, 1, 0.5) == 1.0


@given(clusters(), pods(), st.integers(0, 3))
def test_a_node_looks_alike_compiled(nodes, pod, device):
    count, slots = nodes.device_free.shape
    rows = np.arange(count)
    tightest = placement.tightest_device(nodes, pod, rows)
    after = np.empty((slots, count), np.int64)
    devices = np.full(count, device if shares_device(pod) else ANY_DEVICE)
    placement.devices_after(nodes, pod, Candidates(rows, devices), after)
    fits = placement.fits(nodes, pod, rows)
    for row in rows:
        seen = np.zeros(1, np.bool_), np.zeros(1, np.int64), np.zeros(slots, np.bool_), np.zeros(slots, np.int64)
        _look_at(nodes, pod, row, devices[row], *seen)
        alternatives = [placement.is_alternative(nodes, pod, rows, index, tightest)[row] for index in range(slots)]
        assert_equal_arrays(seen, ([fits[row]], [tightest[row]], alternatives, after[:, row]))


@given(clusters(), pods(), st.integers(ANY_DEVICE, 3))
def test_a_pod_comes_and_goes_alike_compiled(nodes, pod, device):
    nodes_of_compiled, before = copy_of(nodes), copy_of(nodes)
    taken = placement.occupy(nodes, pod, 0, device)
    assert _occupy(nodes_of_compiled, pod, 0, device) == taken
    assert_equal_arrays(nodes_of_compiled, nodes)
    occupied = copy_of(nodes)
    _release(nodes_of_compiled, pod, 0, taken)
    assert_equal_arrays(nodes_of_compiled, before)
    _return_to(nodes_of_compiled, pod, 0, taken)
    assert_equal_arrays(nodes_of_compiled, occupied)


@given(clusters(models=2), typical_pods(models=2))
def test_fragmentation_is_the_same_compiled_to_the_last_bit(nodes, typical):
    tables = fragmentation.fragmentation_tables(typical)
    cpu_free = nodes.allocatable[:, 0] - nodes.requested[:, 0]
    together = fragmentation.fragmentation(tables, nodes.model, cpu_free, nodes.device_free.T)
    for row, wasted in enumerate(together):
        assert _fragmentation(tables, nodes.model[row], cpu_free[row], nodes.device_free[row]) == wasted


def test_every_module_that_is_compiled_says_which_functions():
    assert (placement, fragmentation, features, valuation, heuristics) == COMPILED_MODULES
    for module in COMPILED_MODULES:
        assert all(function.__module__ == module.__name__ for function in module.COMPILABLE)


@inner
def _doubled(number):
    return 2 * number


def test_a_function_of_the_inner_loop_has_no_way_in_from_python():
    with pytest.raises(TypeError, match="_doubled belongs to the inner loop"):
        _doubled(2)
    assert from_python(_doubled)(2) == 4


def test_the_cache_lies_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("STOWAGE_CACHE", str(tmp_path))
    assert cache_directory().parent == tmp_path / "numba"
    monkeypatch.delenv("STOWAGE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_directory().parent == tmp_path / "stowage" / "numba"


@pytest.mark.parametrize("changed", [elementwise, *COMPILED_MODULES], ids=lambda module: module.__name__)
def test_a_change_in_a_compiled_module_leaves_the_old_cache_behind(monkeypatch, tmp_path, changed):
    before = cache_directory()
    assert cache_directory() == before
    copied = tmp_path / "module.py"
    copied.write_bytes(Path(changed.__file__).read_bytes() + b"\n")
    monkeypatch.setattr(changed, "__file__", str(copied))
    assert cache_directory() != before


def test_a_change_in_the_simulator_leaves_the_old_cache_behind(monkeypatch, tmp_path):
    before = cache_directory()
    for source in Path(compiled.__file__).parent.glob("*.py"):
        (tmp_path / source.name).write_bytes(source.read_bytes())
    monkeypatch.setattr(compiled, "__file__", str(tmp_path / "compiled.py"))
    assert cache_directory() == before
    (tmp_path / "event_loop.py").write_text("changed")
    assert cache_directory() != before


def hits_in_checkouts(folder: Path, variable: str) -> list[str]:
    """How often each of two checkouts with the same function finds it compiled, if this variable says where."""
    found = []
    for checkout in "ab":
        source = folder / checkout / "package" / "doubling.py"
        source.parent.mkdir(parents=True)
        source.write_text(
            "from training.simulator.compiled import entry\n\n\n@entry\ndef doubled(number):\n    return 2 * number\n"
        )
        command = "from doubling import doubled; doubled(21); print(sum(doubled.stats.cache_hits.values()))"
        elsewhere = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
        found.append(
            subprocess.run(
                [sys.executable, "-c", command],
                env=elsewhere | {"PYTHONPATH": f"{source.parent}:{Path.cwd()}", variable: str(folder)},
                capture_output=True,
                text=True,
                timeout=120,
                check=True,
            ).stdout
        )
    return found


def test_checkouts_share_what_is_compiled(tmp_path):
    assert hits_in_checkouts(tmp_path, "STOWAGE_CACHE") == ["0\n", "1\n"]


def test_checkouts_share_nothing_where_no_digest_tells_them_apart(tmp_path):
    assert hits_in_checkouts(tmp_path, "NUMBA_CACHE_DIR") == ["0\n", "0\n"]
