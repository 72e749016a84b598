"""MLflow with a local database: what a run logs arrives there, and a resumed run goes on with its own."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import unavailable
from training.config import Config, TrainingArguments
from training.tracking import tracked


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An MLflow client with a database of its own; artifacts lie beside it."""
    if importlib.util.find_spec("mlflow") is None:
        unavailable("MLflow is not installed: pip install 'stowage[mlflow]'")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.chdir(tmp_path)
    from mlflow.tracking import MlflowClient

    return MlflowClient(uri(tmp_path))


def uri(folder: Path) -> str:
    return f"sqlite:///{folder / 'mlflow.db'}"


def config_of(folder: Path, resume: str | None = None) -> Config:
    return Config(name="tracked", seed=7, training=TrainingArguments(mlflow=uri(folder), resume=resume))


def runs(client: Any) -> list[Any]:
    return list(client.search_runs([client.get_experiment_by_name("stowage").experiment_id]))


def test_settings_figures_and_files_of_a_run_arrive(client: Any, tmp_path: Path) -> None:
    (tmp_path / "policy.onnx").write_bytes(b"policy")
    with tracked(config_of(tmp_path), tmp_path) as tracking:
        for step, value in ((10, 1.5), (20, 2.5)):
            tracking.logger.record("rollout/mean_return", value)
            tracking.logger.dump(step)
        tracking.finished(
            {"evaluation/mean_wait_seconds_at_0.8": 9.0, "none": float("nan")}, [tmp_path / "policy.onnx"], 20
        )
    (run,) = runs(client)
    assert (run.info.run_name, run.info.status) == ("tracked", "FINISHED")
    assert run.data.params["seed"] == "7"
    assert run.data.params["env.nodes"] == "32"
    assert run.data.metrics == {"rollout/mean_return": 2.5, "evaluation/mean_wait_seconds_at_0.8": 9.0}
    history = client.get_metric_history(run.info.run_id, "rollout/mean_return")
    assert [(point.step, point.value) for point in history] == [(10, 1.5), (20, 2.5)]
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["policy.onnx"]
    assert (tmp_path / "tensorboard").is_dir()


def test_an_interrupted_run_is_marked_and_the_resumed_one_goes_on_with_it(client: Any, tmp_path: Path) -> None:
    def interrupted() -> None:
        with tracked(config_of(tmp_path), tmp_path):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    (run,) = runs(client)
    assert run.info.status == "KILLED"
    with tracked(config_of(tmp_path, resume=str(tmp_path)), tmp_path) as tracking:
        assert client.get_run(run.info.run_id).info.status == "RUNNING"
        tracking.logger.record("rollout/mean_return", 3.5)
        tracking.logger.dump(30)
    (run,) = runs(client)
    assert (run.info.status, run.data.metrics) == ("FINISHED", {"rollout/mean_return": 3.5})
