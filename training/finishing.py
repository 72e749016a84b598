"""Runs that are part of something larger: each in a folder of its own, finished once and never run again.

A sweep or a comparison may be interrupted at any moment and started again: a run that is finished is only read, one
that was interrupted goes on from its checkpoint, with the numbers of an uninterrupted one.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from omegaconf import OmegaConf
from rich.console import Console

from training.checkpoint import FILE as CHECKPOINT_FILE
from training.command_line import CONFIG_FILE, checked
from training.config import Config, ConfigError, register
from training.evaluation.report import write_whole
from training.one_run import carry_out

RESULT_FILE, LOG_FILE = "result.json", "log.txt"
LOG_WIDTH = 120


@dataclass(frozen=True)
class Result:
    """What a finished run came to.

    Attributes:
        held_out_return: of the exported policy.
    """

    held_out_return: float


def finish(overrides: Sequence[str], folder: Path) -> Result:
    """Carry out a run, or go on with it, or read what it came to; its output goes to its log.

    Args:
        overrides: its settings, as on the command line.
        folder: of its own.

    Raises:
        ConfigError: the settings are refused, or the folder holds a run of others.
    """
    register()
    config = checked(list(overrides))
    # Whoever spreads runs has the processors busy already, and on a cluster a run would wait for itself.
    config.training.launcher = "processes"
    config.evaluation = replace(config.evaluation, processes=config.evaluation.processes or 1)
    if (folder / CONFIG_FILE).is_file() and _other(config, folder):
        raise ConfigError(f"{folder} holds a run with other settings; remove it or choose another name")
    result_file = folder / RESULT_FILE
    if result_file.is_file():
        return Result(**json.loads(result_file.read_text()))
    config.training.resume = str(folder) if (folder / CHECKPOINT_FILE).is_file() else None
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOG_FILE).open("a") as log:
        result = Result(carry_out(config, folder, Console(file=log, width=LOG_WIDTH), ahead=False))
    write_whole({result_file: json.dumps(asdict(result)) + "\n"})
    return result


def _other(config: Config, folder: Path) -> bool:
    saved = OmegaConf.to_container(OmegaConf.load(folder / CONFIG_FILE))
    return bool(saved != OmegaConf.to_container(OmegaConf.create(asdict(config))))
