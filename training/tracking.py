"""Where a run's figures go: TensorBoard always, and MLflow where a tracking URI is set.

Both hang on the learner's logger (`learner.Learner.logger`), so whatever an algorithm or the recorder writes there
arrives at both. The learning curve as CSV is the recorder's.
"""

import importlib.util
import math
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from stable_baselines3.common.logger import KVWriter, Logger, TensorBoardOutputFormat

from training.config import Config, ConfigError

RUN_FILE = "mlflow_run"  # in a run's folder: the identity of its MLflow run, which a resumed one goes on with
EXPERIMENT = "stowage"


class Tracked:
    """Takes in what a run finds; without a tracking server the figures go to the logger alone."""

    def __init__(self, logger: Logger) -> None:
        self.logger = logger

    def finished(self, figures: Mapping[str, float], files: list[Path], step: int) -> None:
        """Log the figures."""
        for name, value in figures.items():
            if math.isfinite(value):
                self.logger.record(name, value)
        self.logger.dump(step)


class MLflowRun(Tracked, KVWriter):
    """A run on an MLflow tracking server, or in a local folder or database; receives all that is logged."""

    def __init__(self, logger: Logger, client: Any, identity: str) -> None:
        super().__init__(logger)
        self._client, self._identity = client, identity
        logger.output_formats.append(self)

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, Any], step: int = 0) -> None:
        """Take in the figures of one moment."""
        from mlflow.entities import Metric

        moment = int(1000 * time.time())
        figures = {key: value for key, value in key_values.items() if isinstance(value, int | float)}
        metrics = [Metric(key, float(value), moment, step) for key, value in figures.items()]
        self._client.log_batch(self._identity, metrics=metrics)

    def close(self) -> None:
        """Nothing is kept open."""

    def finished(self, figures: Mapping[str, float], files: list[Path], step: int) -> None:
        """Log the figures, and keep the files as the run's artifacts."""
        super().finished(figures, files, step)
        for file in files:
            self._client.log_artifact(self._identity, str(file))


def check_tracking(config: Config) -> None:
    """Look whether figures can go where they are to go.

    Raises:
        ConfigError: `training.mlflow` is set, but MLflow is not installed.
    """
    if config.training.mlflow is not None and importlib.util.find_spec("mlflow") is None:
        raise ConfigError("training.mlflow wants MLflow, which is not installed: pip install 'stowage[mlflow]'")


@contextmanager
def tracked(config: Config, folder: Path) -> Iterator[Tracked]:
    """The logger of a run and who takes in its end; MLflow is told how the body of the `with` ended.

    Raises:
        ConfigError: `training.mlflow` is set, but MLflow is not installed.
    """
    check_tracking(config)
    logger = Logger(str(folder), [TensorBoardOutputFormat(str(folder / "tensorboard"))])
    try:
        if config.training.mlflow is None:
            yield Tracked(logger)
        else:
            with _mlflow_run(config, folder, logger) as run:
                yield run
    finally:
        logger.close()


@contextmanager
def _mlflow_run(config: Config, folder: Path, logger: Logger) -> Iterator[MLflowRun]:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # it would tell its makers how it is used
    from mlflow.tracking import MlflowClient

    client = MlflowClient(config.training.mlflow)
    remembered = folder / RUN_FILE
    if config.training.resume and remembered.is_file():
        identity = remembered.read_text().strip()
        client.update_run(identity, status="RUNNING")
    else:
        experiment = client.get_experiment_by_name(EXPERIMENT)
        number = experiment.experiment_id if experiment else client.create_experiment(EXPERIMENT)
        identity = client.create_run(number, run_name=config.run_name).info.run_id
        remembered.write_text(f"{identity}\n")
        for key, value in settings(asdict(config)):
            client.log_param(identity, key, value)
        client.set_tag(identity, "config_digest", config.digest())
    status = "FAILED"
    try:
        yield MLflowRun(logger, client, identity)
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        client.set_terminated(identity, status)


def settings(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings as single keys with dots.

    Example:
        >>> list(settings({"seed": 1, "env": {"nodes": 8}}))
        [('seed', 1), ('env.nodes', 8)]
    """
    for key, value in content.items():
        if isinstance(value, Mapping) and all(isinstance(name, str) for name in value):
            yield from settings(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
