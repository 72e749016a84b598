"""Several runs at one go: every combination of what is listed, or a search where a key is given an interval.

    -m seed=0,1,2 algorithm=ppo,dqn                                             all six
    -m 'algorithm.learning_rate=tag(log,interval(1e-4,1e-2))' sweep.trials=30   Optuna's tree-structured Parzen search

The notation is Hydra's; whole numbers between limits are `int(interval(1,9))`. What is climbed is the return in the
held-out episodes, which are neither trained on nor judged by. All is in `runs/<sweep.name>/`: study.journal, Optuna's
own record, a folder for each run, and trials.csv. The same command after an interruption goes on: finished runs stay,
interrupted ones are resumed.
"""

import csv
import io
import itertools
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path
from typing import Any

import optuna
from hydra.core.override_parser.types import IntervalSweep
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console

from extender.whole_file import put_whole
from training.command_line import checked, settings_among
from training.config import ConfigError
from training.finishing import Result, finish
from training.launcher import crew

JOURNAL_FILE, TRIALS_FILE = "study.journal", "trials.csv"
SETTINGS = "settings"  # the study's attribute that says what its runs have in common


class SweepError(RuntimeError):
    """Some runs of a sweep failed; the message says which and why."""


def sweep(arguments: Sequence[str], runs: Path, console: Console) -> optuna.Study:
    """Carry out a sweep, or go on with it.

    Args:
        arguments: overrides, at least one with several values.
        runs: the folder in which the sweep has its own.
        console: where progress goes.

    Raises:
        ConfigError: the command line is refused, or the sweep's folder has one with other settings.
        SweepError: runs failed; the others are finished.
    """
    common, space = parsed(arguments)
    config = checked([*common, *(f"{key}={value}" for key, value in _first(space).items())])
    folder = runs / config.sweep.name
    folder.mkdir(parents=True, exist_ok=True)
    study = _study(folder, config.seed, sorted(each for each in common if not each.startswith("sweep.")), space)
    total = _enqueued(study, space) if _is_grid(space) else config.sweep.trials
    console.print(f"{folder}: {total} runs of {', '.join(space)}, {config.sweep.workers} at a time", highlight=False)

    errors: dict[int, str] = {}
    interrupted = [trial for trial in study.trials if trial.state == TrialState.RUNNING]
    with crew(config.training.launcher, config.sweep.workers, list(common)) as submit:
        running: dict[Future[Any], int] = {}
        while True:
            while len(running) < config.sweep.workers and (interrupted or _begun(study) < total):
                trial = interrupted.pop(0) if interrupted else study.ask(space)
                settings = [f"{key}={value}" for key, value in trial.params.items()]
                running[submit(_run, settings, folder / f"{trial.number:03}")] = trial.number
            if not running:
                break
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                number = running.pop(future)
                if error := future.exception():
                    study.tell(number, state=TrialState.FAIL)
                    errors[number] = f"{type(error).__name__}: {error}"
                else:
                    study.tell(number, future.result().held_out_return)
                console.print(_said(study, study.trials[number], total), highlight=False, soft_wrap=True)
            write_trials(folder / TRIALS_FILE, study)
    console.print(f"all runs: {folder / TRIALS_FILE}", highlight=False)
    if errors:
        raise SweepError("\n".join(f"run {number:03} failed: {error}" for number, error in sorted(errors.items())))
    return study


def parsed(arguments: Sequence[str]) -> tuple[list[str], dict[str, BaseDistribution]]:
    """Overrides with one value as they are, and what is searched, by key.

    Raises:
        ConfigError: a word is no setting, or no key has several values.

    Example:
        >>> parsed(["env.nodes=8", "seed=1,2"])
        (['env.nodes=8'], {'seed': CategoricalDistribution(choices=('1', '2'))})
    """
    common: list[str] = []
    space: dict[str, BaseDistribution] = {}
    for override in settings_among(arguments):
        if not override.is_sweep_override():
            common.append(str(override.input_line))
        elif override.is_interval_sweep():
            space[override.get_key_element()] = _interval(override.value())
        else:
            space[override.get_key_element()] = CategoricalDistribution(list(override.sweep_string_iterator()))
    if not space:
        raise ConfigError("-m wants a key with several values, as seed=0,1,2 or algorithm.discount=interval(0.9,1)")
    return common, space


def _interval(given: Any) -> BaseDistribution:
    assert isinstance(given, IntervalSweep)
    kind = IntDistribution if isinstance(given.start, int) and isinstance(given.end, int) else FloatDistribution
    return kind(given.start, given.end, log="log" in given.tags)


def _is_grid(space: Mapping[str, BaseDistribution]) -> bool:
    return all(isinstance(each, CategoricalDistribution) for each in space.values())


def _first(space: Mapping[str, BaseDistribution]) -> dict[str, Any]:
    return {
        key: each.choices[0] if isinstance(each, CategoricalDistribution) else each.low  # type: ignore[attr-defined]
        for key, each in space.items()
    }


def _study(folder: Path, seed: int, common: list[str], space: Mapping[str, BaseDistribution]) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(folder / JOURNAL_FILE))),
        sampler=optuna.samplers.TPESampler(seed=seed, constant_liar=True),
        study_name=folder.name,
        direction="maximize",
        load_if_exists=True,
    )
    settings = [*common, *(f"{key}={each}" for key, each in space.items())]
    if study.user_attrs.setdefault(SETTINGS, settings) != settings:
        raise ConfigError(f"{folder} is a sweep with other settings; choose another sweep.name, or the same settings")
    study.set_user_attr(SETTINGS, settings)
    return study


def _enqueued(study: optuna.Study, space: Mapping[str, BaseDistribution]) -> int:
    """Put every combination that was not run yet in the queue; returns how many there are in all."""
    choices = [each.choices for each in space.values() if isinstance(each, CategoricalDistribution)]
    combinations = list(itertools.product(*choices))
    for combination in combinations:
        study.enqueue_trial(dict(zip(space, combination, strict=True)), skip_if_exists=True)
    return len(combinations)


def _begun(study: optuna.Study) -> int:
    return sum(trial.state != TrialState.WAITING for trial in study.trials)


def _run(common: list[str], settings: list[str], folder: Path) -> Result:
    return finish([*common, *settings], folder)


def _said(study: optuna.Study, trial: FrozenTrial, total: int) -> str:
    done = sum(each.state.is_finished() for each in study.trials)
    came = "failed" if trial.value is None else f"held-out return {trial.value:.4g}"
    settings = " ".join(f"{key}={value}" for key, value in trial.params.items())
    best = f"; best so far {study.best_value:.4g} of run {study.best_trial.number:03}" if _any_finished(study) else ""
    return f"run {trial.number:03}, {done} of {total}: {came}, {settings}{best}"


def _any_finished(study: optuna.Study) -> bool:
    return any(trial.state == TrialState.COMPLETE for trial in study.trials)


def write_trials(path: Path, study: optuna.Study) -> None:
    """Write all runs of a sweep with what they came to, the best first; the file appears whole or not at all."""
    keys = list(dict.fromkeys(key for trial in study.trials for key in trial.params))
    ended = [trial for trial in study.trials if trial.state.is_finished()]
    ended.sort(key=lambda trial: (trial.value is None, -(trial.value or 0.0)))
    table = io.StringIO(newline="")
    writer = csv.writer(table)
    writer.writerow(["run", "state", "held_out_return", *keys])
    for trial in ended:
        value = "" if trial.value is None else trial.value
        writer.writerow(
            [f"{trial.number:03}", trial.state.name.lower(), value, *(trial.params.get(key) for key in keys)]
        )
    put_whole(path, table.getvalue().encode())
