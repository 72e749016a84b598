"""Train a policy, export it, judge it on held-back seeds, report, and ask a real extender for a ranking.

    python -m training.run algorithm=ppo env.num_resources=5 env.nodes=32 training.total_timesteps=200000 seed=7
    python -m training.run experiment=quickstart
    python -m training.run training.resume=runs/quickstart
    python -m training.run -m seed=0,1,2,3,4 sweep.name=seeds sweep.workers=2
    python -m training.run -m 'algorithm.learning_rate=tag(log,interval(1e-4,1e-2))' sweep.trials=30

Everything of a run is in `runs/<name>/`: config.yaml, checkpoint.pt (the last network and all that it takes to go on),
best.pt, learning_curve.csv, tensorboard/, policy.onnx, evaluation.json, report.html. With -m every run has a folder of
its own in that of the sweep, which has trials.csv too. Exit codes: 0 done, 1 failed, 2 the configuration was refused,
130 interrupted.
"""

import os
import sys
from dataclasses import asdict
from pathlib import Path

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

from extender.closed_pipe import quiet_on_closed_pipe
from extender.policies.base import PolicyError
from training import checkpoint
from training.ask import AskError
from training.command_line import checked, chosen_algorithm
from training.config import ALGORITHMS, Config, ConfigError, describe, register, validate
from training.launcher import LauncherError
from training.one_run import carry_out, population_of
from training.sweep import SweepError, sweep
from training.workloads.openb import TraceError

RUNS = Path("runs")
PLAIN_WIDTH = 120  # of tables where there is no terminal to ask
SWEEPS = {"-m", "--multirun"}
LEFT_TO_HYDRA = {"--cfg", "-c", "--info", "-i", "--hydra-help"}
console = Console(width=None if sys.stdout and sys.stdout.isatty() else PLAIN_WIDTH)


def run_folder(config: Config) -> Path:
    """The folder of the run: the one that is resumed, or a new one; an older run of this name is kept aside."""
    if config.training.resume:
        return Path(config.training.resume)
    folder = RUNS / config.run_name
    if folder.exists():
        number = 1
        while (kept := folder.with_name(f"{folder.name}.{number}")).exists():
            number += 1
        folder.rename(kept)
        console.print(f"{folder} exists and is kept as {kept}", highlight=False)
    return folder


@hydra.main(config_path="conf", config_name="config", version_base=None)
def shown(config: DictConfig) -> None:
    """What Hydra shows of the composed configuration; that is all it is asked for."""
    print(OmegaConf.to_yaml(OmegaConf.create(asdict(validate(config)))))


def start(arguments: list[str]) -> None:
    """Do what the command line asks for.

    Raises:
        ConfigError: it is refused.
        TraceError: the workload is missing or unreadable.
    """
    if LEFT_TO_HYDRA & set(arguments):
        shown()
    elif SWEEPS & set(arguments):
        sweep([argument for argument in arguments if argument not in SWEEPS], RUNS, console)
    else:
        config = checked(arguments)
        population = population_of(config)  # before an earlier run of this name is moved out of the way
        carry_out(config, run_folder(config), console, population=population)


@quiet_on_closed_pipe
def main() -> None:
    """Entry of `python -m training.run`."""
    register()
    arguments = sys.argv[1:]
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # our own errors are caught below, others deserve their traceback
    if {"-h", "--help"} & set(arguments):
        algorithm = chosen_algorithm(arguments)
        print(f"{__doc__}\nKeys, with their defaults (algorithm={'|'.join(ALGORITHMS)}, experiment=quickstart|e2e);")
        print(f"those of the algorithm are {algorithm}'s, for others: --help algorithm=<name>")
        print(describe(algorithm))
        return
    try:
        start(arguments)
    except (ConfigError, TraceError, checkpoint.CheckpointError, HydraException, OmegaConfBaseException) as error:
        print(f"training.run: {error}", file=sys.stderr)
        sys.exit(2)
    except (AskError, PolicyError, LauncherError, SweepError) as error:
        print(f"training.run: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("\ninterrupted; go on with: python -m training.run training.resume=runs/<name>", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
