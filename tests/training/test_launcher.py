"""The same work by processes of this machine and by a real Ray cluster of two workers."""

import importlib.util
import os
from collections.abc import Iterator
from concurrent.futures import as_completed

import numpy as np
import pytest

from tests.conftest import unavailable
from tests.training.evaluation.small_evaluations import small_evaluation
from training.algorithms.es import evaluation
from training.launcher import LauncherError, crew

LIMIT_SECONDS = 240.0  # a process of the cluster imports PyTorch first


class Offset:
    """Fitness of parameters: their sum, the seeds' mean, and what everyone shares."""

    def __init__(self, offset: float) -> None:
        self.offset = offset

    def __call__(self, parameters: np.ndarray, seeds: list[int]) -> np.ndarray:
        return parameters.sum(axis=1) + np.mean(seeds) + self.offset


def shifted(shared: Offset, value: float) -> tuple[float, int]:
    return value + shared.offset, os.getpid()


def refuse(shared: Offset) -> None:
    raise ValueError(f"no work with {shared.offset}")


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[None]:
    """Two nodes of one processor each; nothing of it reaches beyond this machine."""
    if importlib.util.find_spec("ray") is None:
        unavailable("Ray is not installed: pip install 'stowage[distributed]'")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args=node | {"include_dashboard": False})
    try:
        cluster.add_node(**node)
        os.environ["RAY_ADDRESS"] = cluster.address
        yield
    finally:
        ray.shutdown()
        cluster.shutdown()
        os.environ.pop("RAY_ADDRESS", None)


@pytest.fixture(params=["processes", "ray"])
def launcher(request: pytest.FixtureRequest) -> str:
    if request.param == "ray":
        request.getfixturevalue("ray_cluster")
    return request.param


def test_every_piece_gets_what_is_shared_and_another_process_does_it(launcher: str) -> None:
    with crew(launcher, 2, Offset(100.0)) as submit:
        done = [
            future.result(LIMIT_SECONDS)
            for future in as_completed([submit(shifted, float(value)) for value in range(6)], LIMIT_SECONDS)
        ]
    assert sorted(value for value, _ in done) == [100.0, 101.0, 102.0, 103.0, 104.0, 105.0]
    assert os.getpid() not in {process for _, process in done}


def test_an_error_of_a_piece_is_its_own(launcher: str) -> None:
    with crew(launcher, 1, Offset(7.0)) as submit, pytest.raises(ValueError, match=r"no work with 7\.0"):
        submit(refuse).result(LIMIT_SECONDS)


def test_a_population_comes_to_the_same_wherever_it_is_played(launcher: str) -> None:
    parameters = np.random.default_rng(0).random((7, 3), np.float32)
    pairs, seeds = np.array_split(parameters, 4), [[3, 4], [5], [3, 4], [6]]
    with evaluation(Offset(1.0), 1) as here, evaluation(Offset(1.0), 2, launcher) as there:
        np.testing.assert_array_equal(here(pairs, seeds), there(pairs, seeds))


@pytest.mark.usefixtures("ray_cluster")
def test_an_evaluation_comes_to_the_same_on_a_cluster() -> None:
    assert small_evaluation(launcher="ray").to_json() == small_evaluation().to_json()


def test_without_a_cluster_it_is_said_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")

    def nobody(*_: object, **__: object) -> None:
        raise ConnectionError("nobody there")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", nobody)
    with (
        pytest.raises(LauncherError, match=r"set RAY_ADDRESS, or start one with `ray start --head`"),
        crew("ray", 1, None),
    ):
        pass
