"""The file from which an interrupted run goes on exactly where it was: its learner's state and the curve so far.

A checkpoint is taken between two updates and replaces the one before only when it is complete, so that a run killed
at any moment has one. It holds tensors and numbers only and is read without executing anything from the file.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from extender.whole_file import open_whole

FILE = "checkpoint.pt"
BEST_FILE = "best.pt"


class CheckpointError(ValueError):
    """A checkpoint cannot be used; the message says why and what to do."""


def save(
    folder: Path, learner: Mapping[str, Any], progress: Mapping[str, Any], config_digest: str, workload: str
) -> None:
    """Write the checkpoint of a run.

    Args:
        folder: of the run.
        learner: state of its learner, taken between two updates.
        progress: what the run itself wants to remember.
        config_digest: of the run's configuration.
        workload: name of what it learns on.
    """
    content = {
        "config_digest": config_digest,
        "workload": workload,
        "learner": dict(learner),
        "progress": dict(progress),
    }
    with open_whole(folder / FILE) as file:
        torch.save(content, file)


def save_best(
    folder: Path,
    timesteps: int,
    held_out: Mapping[str, float],
    weights: Mapping[str, torch.Tensor],
    config_digest: str,
) -> None:
    """Write the network that did best so far, beside the checkpoint, which has the last one and all the rest.

    Args:
        folder: of the run.
        timesteps: decisions that it was trained on.
        held_out: how well it did.
        weights: its `state_dict`.
        config_digest: of the run's configuration.
    """
    content = {
        "config_digest": config_digest,
        "timesteps": timesteps,
        "held_out": dict(held_out),
        "network": dict(weights),
    }
    with open_whole(folder / BEST_FILE) as file:
        torch.save(content, file)


def read(folder: Path, config_digest: str, workload: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Read the checkpoint of a run: the learner's state, and what the run wanted to remember.

    Raises:
        CheckpointError: there is none, or it was made with another configuration or workload.
    """
    path = folder / FILE
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint; training.resume wants the folder of an interrupted run")
    content: Mapping[str, Any] = torch.load(path, weights_only=True)
    if content["config_digest"] != config_digest:
        raise CheckpointError(
            f"{path}: made with another configuration (digest {content['config_digest'][:12]}, now "
            f"{config_digest[:12]}); resume with the settings in {folder / 'config.yaml'}"
        )
    if content["workload"] != workload:
        raise CheckpointError(f"{path}: made on {content['workload']}, but this machine has {workload}")
    return content["learner"], content["progress"]
