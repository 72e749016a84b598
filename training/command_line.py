"""What `python -m training.run` is given: checked before anything starts, and joined to what a resumed run had."""

from collections.abc import Sequence
from pathlib import Path

import hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from training.checkpoint import CheckpointError
from training.config import ALGORITHMS, DEFAULT_ALGORITHM, Config, ConfigError, explain_unknown_key, validate

CONFIG_FILE = "config.yaml"
EXPERIMENTS = Path(__file__).parent / "conf" / "experiment"
EXPECTED = "Expected settings as KEY=VALUE, such as env.nodes=32; --help lists every key"


def checked(overrides: list[str]) -> Config:
    """The configuration that these overrides make, checked.

    Raises:
        ConfigError: a key does not exist or a value is impossible.
        CheckpointError: the folder of the run to be resumed is not that of a run.
    """
    for override in settings_among(overrides):
        if override.is_sweep_override():
            raise ConfigError(f"{override.input_line}: several values are for a sweep, by -m; a list is [1,2]")
    algorithm = chosen_algorithm(overrides)
    _check_groups(overrides)
    try:
        with hydra.initialize_config_module("training.conf", version_base=None):
            # Composed with the algorithm of the run that is resumed, so that its keys are known.
            chosen = [] if any(each.startswith("algorithm=") for each in overrides) else [f"algorithm={algorithm}"]
            composed = hydra.compose("config", overrides=[*chosen, *overrides] if resumes(overrides) else overrides)
            return validate(with_settings_of_resumed_run(composed, overrides))
    except (ConfigError, CheckpointError):
        raise
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise ConfigError(_in_our_words(error, overrides, algorithm)) from error


def settings_among(words: Sequence[str]) -> list[Override]:
    """The settings of a command line, as Hydra reads them.

    Raises:
        ConfigError: a word is none.
    """
    parser = OverridesParser.create()
    settings = []
    for word in words:
        if word.startswith("-"):
            raise ConfigError(f"{word}: no such flag; there are -m, for sweeps, and --help. {EXPECTED}")
        try:
            settings.append(parser.parse_override(word))
        except HydraException as error:
            raise ConfigError(f"{word}: it cannot be read. {EXPECTED}") from error
    return settings


def _check_groups(overrides: Sequence[str]) -> None:
    experiments = sorted(path.stem for path in EXPERIMENTS.glob("*.yaml"))
    for group, known in (("algorithm", sorted(ALGORITHMS)), ("experiment", experiments)):
        for override in overrides:
            key, _, name = override.lstrip("+").partition("=")
            if key == group and name.strip("'\"") not in known and override != "experiment=null":
                raise ConfigError(f"{override}: expected one of {', '.join(known)}")


def _in_our_words(error: Exception, overrides: Sequence[str], algorithm: str) -> str:
    """What Hydra found wrong, without its call for a look at its own pages."""
    said = str(error)
    for override in overrides:
        key = override.lstrip("~").partition("=")[0]
        if f"Could not override '{key}'" in said or f"Could not delete from config. '{key}'" in said:
            return explain_unknown_key(key, algorithm)
    given = next((override for override in overrides if override in said), " ".join(overrides))
    why = said.removeprefix(f"Error merging override {given}").removeprefix(": ") or str(error.__cause__)
    return f"{given}: {why.splitlines()[0]}. {EXPECTED}"


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


def resumed(folder: Path) -> Config:
    """The configuration of an interrupted run, to go on with it; its folder may have any name.

    Raises:
        CheckpointError: the folder is not that of a run, or its configuration cannot be read.
        ConfigError: a value of it is impossible by now.
    """
    saved = folder / CONFIG_FILE
    try:
        content = OmegaConf.load(saved)
    except (OSError, OmegaConfBaseException, YAMLError) as error:
        raise CheckpointError(f"{saved} cannot be read: {error}") from error
    if not isinstance(content, DictConfig) or "algorithm" not in content:
        raise CheckpointError(f"{saved} is no configuration of a run")
    config = validate(content)
    config.training.resume = str(folder)
    return config


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
