"""What `python -m training.run` is given: checked before anything starts, and joined to what a resumed run had."""

from pathlib import Path

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from training.checkpoint import CheckpointError
from training.config import ALGORITHMS, DEFAULT_ALGORITHM, Config, ConfigError, explain_unknown_key, validate

CONFIG_FILE = "config.yaml"


def checked(overrides: list[str]) -> Config:
    """The configuration that these overrides make, checked.

    Raises:
        ConfigError: a key does not exist or a value is impossible.
        CheckpointError: the folder of the run to be resumed is not that of a run.
    """
    algorithm = chosen_algorithm(overrides)
    try:
        with hydra.initialize_config_module("training.conf", version_base=None):
            # Composed with the algorithm of the run that is resumed, so that its keys are known.
            chosen = [] if any(each.startswith("algorithm=") for each in overrides) else [f"algorithm={algorithm}"]
            composed = hydra.compose("config", overrides=[*chosen, *overrides] if resumes(overrides) else overrides)
            return validate(with_settings_of_resumed_run(composed, overrides))
    except (ConfigError, CheckpointError):
        raise
    except (HydraException, OmegaConfBaseException, ValueError) as error:  # Hydra raises ValueError for algorithm=null
        for override in overrides:
            key = override.partition("=")[0]
            if f"Could not override '{key}'" in str(error):
                raise ConfigError(explain_unknown_key(key, algorithm)) from error
        cause = f": {error.__cause__}" if error.__cause__ else ""
        raise ConfigError(f"{error}{cause}") from error


def resumes(overrides: list[str]) -> bool:
    """Whether a command line goes on with an interrupted run."""
    return any(override.lstrip("+").startswith("training.resume=") for override in overrides)


def chosen_algorithm(overrides: list[str]) -> str:
    """The algorithm that a command line asks for, or that the run had which it resumes."""
    given = dict(override.lstrip("+").partition("=")[::2] for override in overrides)
    name = given.get("algorithm")
    saved = Path(given.get("training.resume", "")) / CONFIG_FILE
    if name is None and saved.is_file():
        name = OmegaConf.select(OmegaConf.load(saved), "algorithm.name")
    return name if name in ALGORITHMS else DEFAULT_ALGORITHM


def with_settings_of_resumed_run(config: DictConfig, overrides: list[str]) -> DictConfig:
    """For a run that is resumed, the settings it was started with, under what the command line says now.

    Raises:
        CheckpointError: the folder is not that of a run.
        ConfigError: the command line exchanges a whole group of settings.
    """
    if not config.training.resume:
        return config
    saved = Path(config.training.resume) / CONFIG_FILE
    if not saved.is_file():
        raise CheckpointError(f"{saved}: no such file; training.resume wants the folder of an interrupted run")
    values = [override.lstrip("+") for override in overrides]
    for value in values:
        if value.partition("=")[0] in ("algorithm", "experiment") or value.startswith("~"):
            raise ConfigError(f"{value}: a resumed run keeps the settings of {saved}; change single keys only")
    settings = OmegaConf.load(saved)
    merged = OmegaConf.merge(config, settings, OmegaConf.from_dotlist(values))
    assert isinstance(merged, DictConfig)
    return merged
