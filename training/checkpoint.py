"""Everything that a training run needs to go on exactly where it was: learner, environments, randomness, curve.

A checkpoint is taken between two rollouts and replaces the one before only when it is complete, so that a run killed
at any moment has one. It holds tensors and numbers only and is read without executing anything from the file.
"""

from collections.abc import Mapping
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm

from training.evaluation.plots import CurvePoint
from training.vecenv import BatchedVecEnv

FILE = "checkpoint.pt"


class CheckpointError(ValueError):
    """A checkpoint cannot be used; the message says why and what to do."""


def save(
    folder: Path,
    learner: BaseAlgorithm,
    env: BatchedVecEnv,
    curve: list[CurvePoint],
    config_digest: str,
    workload: str,
) -> None:
    """Write the checkpoint of a run; to be called between two rollouts."""
    state = env.batch.state()
    _, keys, position, has_gauss, cached = np.random.get_state()  # Stable-Baselines3 shuffles with it
    content = {
        "config_digest": config_digest,
        "workload": workload,
        "steps": learner.num_timesteps,
        "updates": learner._n_updates,
        "policy": learner.policy.state_dict(),
        "optimizer": learner.policy.optimizer.state_dict(),
        "episode_starts": torch.from_numpy(np.asarray(learner._last_episode_starts)),
        "environments": {name: torch.from_numpy(array) for name, array in state["arrays"].items()},
        "generators": state["generators"],
        "torch_random": torch.get_rng_state(),
        "numpy_random": [torch.from_numpy(keys.astype(np.int64)), position, has_gauss, cached],
        "curve": [list(astuple(point)) for point in curve],
    }
    partial = folder / f"{FILE}.partial"
    torch.save(content, partial)
    partial.replace(folder / FILE)


def read(folder: Path, config_digest: str, workload: str) -> Mapping[str, Any]:
    """Read the checkpoint of a run.

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
    return content


def restore(content: Mapping[str, Any], learner: BaseAlgorithm, env: BatchedVecEnv) -> list[CurvePoint]:
    """Bring a freshly built learner and its environments to the checkpoint; returns the curve so far."""
    learner.policy.load_state_dict(content["policy"])
    learner.policy.optimizer.load_state_dict(content["optimizer"])
    learner.num_timesteps = content["steps"]
    learner._n_updates = content["updates"]
    env.batch.restore(
        {
            "arrays": {name: tensor.numpy() for name, tensor in content["environments"].items()},
            "generators": content["generators"],
        }
    )
    learner._last_obs = env.observations()
    learner._last_episode_starts = content["episode_starts"].numpy()
    torch.set_rng_state(content["torch_random"])
    keys, position, has_gauss, cached = content["numpy_random"]
    np.random.set_state(("MT19937", keys.numpy().astype(np.uint32), position, has_gauss, cached))
    return [CurvePoint(int(steps), seconds, gain, wait) for steps, seconds, gain, wait in content["curve"]]
