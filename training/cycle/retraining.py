"""The step `train`: `training.run` on the fitted workload, resumed from its checkpoint after an interruption.

The cluster that is trained on has as many nodes as were recorded, and loads around the recorded one; both, like all
else, can be set otherwise by `train.KEY=VALUE`. The policy that comes of it is the cycle's candidate.
"""

import re
import shutil
from pathlib import Path

from rich.console import Console

from extender.policies.base import PolicyError
from extender.policies.onnx import load_policy
from extender.whole_file import put_whole
from training import checkpoint
from training.command_line import checked, resumed
from training.config import Config, ConfigError, register
from training.cycle import recording
from training.cycle.contents import CANDIDATE, INCUMBENT, TRAIN
from training.cycle.fitting import fitted_workload
from training.cycle.records import Book, CycleError, Found, GivenError, Verdict, digest
from training.cycle.settings import EXPERIMENT, NODES, TAKEN_AWAY, Settings
from training.one_run import POLICY_FILE, carry_out
from training.starting import StartError, network_of
from training.workloads.base import NothingFitsError
from training.workloads.tables import TraceError

FOLDER = "training"
LOADS = 0.7, 1.0
SMALL_STEPS = "algorithm.sigma=0.03", "algorithm.learning_rate=0.01"  # from what is good already
OF_ANOTHER_KIND = {"algorithm", "experiment", "goal", "network.kind"}
"""What of the settings may say that another kind of network is trained, so that it cannot begin at the incumbent."""


def train(book: Book, settings: Settings, console: Console) -> Found:
    """Do the step.

    Raises:
        GivenError: the settings of the training are refused, or nothing is fitted.
        CycleError: the training failed.
    """
    folder = book.folder / FOLDER
    continued = goes_on(book, settings)
    if not continued:
        shutil.rmtree(folder, ignore_errors=True)
    book.note(TRAIN, overrides=settings.train)
    register()
    try:
        config = resumed(folder) if continued else configuration(book, settings)
        gain = carry_out(config, folder, console)
    except (ConfigError, TraceError, NothingFitsError) as error:
        raise GivenError(f"train: {error}") from error
    except checkpoint.CheckpointError as error:
        raise CycleError(f"{error}; train anew with --again") from error
    put_whole(book.folder / CANDIDATE, (folder / POLICY_FILE).read_bytes())
    total = config.training.total_timesteps
    figures = {
        "algorithm": config.algorithm.name,
        "timesteps": total,
        "nodes": config.env.nodes,
        "loads": [config.env.lowest_load, config.env.highest_load],
        "held_out_return": gain,
        "report": str(folder / "report.html"),
    }
    made = {CANDIDATE: digest(book.folder / CANDIDATE)}
    return Found(Verdict.DONE, f"a candidate from {total:,} decisions ({config.algorithm.name})", figures, made)


def check(book: Book, settings: Settings) -> None:
    """Refuse what the step could not be done with; nothing in the cycle's folder is touched.

    Raises:
        GivenError: the settings of the training are refused, or nothing is fitted.
    """
    register()
    try:
        configuration(book, settings)
    except ConfigError as error:
        raise GivenError(f"train: {error}\n{TAKEN_AWAY}") from error
    except TraceError as error:
        raise GivenError(f"train: {error}") from error


def goes_on(book: Book, settings: Settings) -> bool:
    """Whether an interrupted training is gone on with."""
    note = book.begun(TRAIN) or {}
    return (book.folder / FOLDER / checkpoint.FILE).is_file() and note.get("overrides") == settings.train


def configuration(book: Book, settings: Settings) -> Config:
    """What is trained, and on what.

    Raises:
        ConfigError: a setting is refused.
        GivenError: nothing is recorded or fitted.
    """
    workload = fitted_workload(book.folder)
    recorded = recording.read(book.folder, settings, recording.recorded_speed(book))
    nodes = min(max(len(recorded.population.devices), NODES[0]), NODES[1])
    load = min(max(recorded.load, 0.3), 1.2)
    usual = [
        f"experiment={EXPERIMENT}",
        f"env.nodes={nodes}",
        f"env.nodes_lowest={max(nodes // 2, 4)}",
        f"env.lowest_load={min(LOADS[0], load):.3f}",
        f"env.highest_load={max(LOADS[1], load):.3f}",
        f"evaluation.nodes={nodes}",
        f"evaluation.loads=[{max(load, 0.5):.3f}]",
    ]
    given = {override.partition("=")[0] for override in settings.train}
    incumbent = book.folder / INCUMBENT
    if begins := not OF_ANOTHER_KIND & given and begins_at(incumbent):
        usual += SMALL_STEPS
    chosen = [each for each in usual if each.partition("=")[0] not in given]
    config = checked([*chosen, *settings.train])
    if begins and "training.start" not in given:
        config.training.start = str(incumbent)  # not as text for Hydra, to which a comma in a folder's name means more
    config.workload = workload
    config.name = re.sub("[^A-Za-z0-9._-]", "-", book.folder.name).lstrip("._-") or EXPERIMENT  # as runs are named
    return config


def begins_at(incumbent: Path) -> bool:
    """Whether the search can begin at the weights of the policy in service."""
    try:
        network_of(load_policy(incumbent))
    except (StartError, PolicyError):
        return False
    return True
