"""The extender's functions are the same functions when the simulator has compiled them."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit

from extender import features, placement
from extender.placement import ANY_DEVICE
from extender.policies import heuristics
from tests.clusters import clusters, copy_of, pods, typical_pods
from training.simulator import compiled
from training.simulator.compiled import COMPILED_MODULES, cache_directory

PLENTY = 1000


@njit(cache=True)
def _list_candidates(nodes, pod, rows, limit):
    return placement.list_candidates(nodes, pod, rows, limit)


@njit(cache=True)
def _placement_features(nodes, pod, candidates, typical):
    return features.placement_features(nodes, pod, candidates, typical)


@njit(cache=True)
def _occupy(nodes, pod, row, device):
    return placement.occupy(nodes, pod, row, device)


@njit(cache=True)
def _release(nodes, pod, row, taken):
    placement.release(nodes, pod, row, taken)


def assert_equal_arrays(first, second) -> None:
    for array, other in zip(first, second, strict=True):
        assert array.dtype == other.dtype
        np.testing.assert_array_equal(array, other)


@given(clusters(), pods(), st.integers(0, 12))
def test_candidates_are_the_same_compiled(nodes, pod, limit):
    rows = np.arange(len(nodes.allocatable))
    assert_equal_arrays(_list_candidates(nodes, pod, rows, limit), placement.list_candidates(nodes, pod, rows, limit))


@given(clusters(), pods(), typical_pods())
def test_features_are_the_same_compiled_to_the_last_bit(nodes, pod, typical):
    candidates = placement.list_candidates(nodes, pod, np.arange(len(nodes.allocatable)), PLENTY)
    compiled_features = _placement_features(nodes, pod, candidates, typical)
    assert compiled_features.dtype == np.float32
    np.testing.assert_array_equal(compiled_features, features.placement_features(nodes, pod, candidates, typical))


@given(clusters(), pods(), st.integers(ANY_DEVICE, 3))
def test_a_pod_comes_and_goes_alike_compiled(nodes, pod, device):
    nodes_of_compiled = copy_of(nodes)
    taken = placement.occupy(nodes, pod, 0, device)
    assert _occupy(nodes_of_compiled, pod, 0, device) == taken
    assert_equal_arrays(nodes_of_compiled, nodes)
    placement.release(nodes, pod, 0, taken)
    _release(nodes_of_compiled, pod, 0, taken)
    assert_equal_arrays(nodes_of_compiled, nodes)


def test_every_module_that_is_compiled_says_which_functions():
    assert (placement, features, heuristics) == COMPILED_MODULES
    for module in COMPILED_MODULES:
        assert all(function.__module__ == module.__name__ for function in module.COMPILABLE)


def test_the_cache_lies_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("STOWAGE_CACHE", str(tmp_path))
    assert cache_directory().parent == tmp_path / "numba"
    monkeypatch.delenv("STOWAGE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_directory().parent == tmp_path / "stowage" / "numba"


@pytest.mark.parametrize("changed", COMPILED_MODULES, ids=lambda module: module.__name__)
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
