"""Compare ways to train: every variant with several seeds, learning curves with bands, paired intervals, a page.

    python -m training.compare experiment=algorithms
    python -m training.compare experiment=ablations workers=4 launcher=ray
    python -m training.compare experiment=algorithms output=docs/results
    python -m training.compare experiment=algorithms seeds=7 name=longer training.total_timesteps=300000

experiment  what is compared: training/conf/comparison/<experiment>.yaml
seeds       of each variant (default: the definition's)
workers     runs at a time (default 2); launcher=processes or ray, as `training.run` has it
name        of the folder in runs/ and of the files (default: the experiment)
output      folder of page, pictures and JSON (default: that of the runs)

All else is a setting of `training.run`, for all runs. Every run has a folder of its own in runs/<name>/; the same
command after an interruption goes on: what is finished is not run again. Exit codes: 0 done, 1 runs failed, 2 refused,
130 interrupted.
"""

import json
import sys
from collections.abc import Sequence
from concurrent.futures import as_completed
from dataclasses import asdict
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from rich.console import Console

from extender.closed_pipe import quiet_on_closed_pipe
from training.command_line import checked
from training.comparison import definition, page
from training.comparison.definition import Definition
from training.comparison.figures import METRICS, figures_of
from training.config import Config, ConfigError, register
from training.evaluation.metrics import catalogue
from training.evaluation.report import write_whole
from training.evaluation.runner import evaluate, rules
from training.finishing import Result, finish
from training.launcher import LAUNCHERS, LauncherError, crew
from training.progress import track
from training.workloads.selection import load_population
from training.workloads.tables import TraceError

RUNS = Path("runs")
RULES = ("kube-scheduler-default", "best-fit", "fgd")
RULES_FILE = "rules.json"


class Request(BaseModel):
    """The words of the command line that are not settings of the runs."""

    model_config = ConfigDict(extra="forbid")

    experiment: str
    seeds: int | None = Field(default=None, ge=2)
    workers: int = Field(default=2, ge=1, le=1024)
    launcher: str = Field(default="processes", pattern=f"^({'|'.join(LAUNCHERS)})$")
    name: str = Field(default="", pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]*)?$")
    output: Path | None = None


class RunsFailed(RuntimeError):  # noqa: N818 (it is no error of ours)
    """Some runs failed; the message says which and why."""


def parse(arguments: Sequence[str]) -> tuple[Request, list[str]]:
    """What the command line asks for, and the settings that go to all runs.

    Raises:
        ConfigError: a word is missing, unknown or impossible.

    Example:
        >>> parse(["experiment=algorithms", "env.nodes=8"])[1]
        ['env.nodes=8']
    """
    given = dict(each.partition("=")[::2] for each in arguments)
    own = {key: value for key, value in given.items() if key in Request.model_fields}
    if "experiment" not in own:
        raise ConfigError(f"experiment=…: there are {', '.join(definition.names())}")
    try:
        request = Request.model_validate(own)
    except ValidationError as error:
        raise ConfigError(
            "\n".join(f"{each['loc'][0]}={each['input']}: {each['msg']}" for each in error.errors())
        ) from error
    return request, [each for each in arguments if each.partition("=")[0] not in own]


def compare(request: Request, compared: Definition, console: Console) -> list[Path]:
    """Carry out what is not finished, and write down what all came to.

    Raises:
        ConfigError: the settings of a run are refused.
        RunsFailed: some failed; the others are finished.
    """
    name = request.name or request.experiment
    folder = RUNS / name
    configs = [checked(compared.overrides(variant, seed)) for variant, seed, _ in compared.runs(folder)]
    _carry_out(request, compared, folder, console)
    output = request.output or folder
    output.mkdir(parents=True, exist_ok=True)
    figures = figures_of(compared, folder, _rules(configs[0], folder, console))
    population = load_population(configs[0].workload, configs[0].env.num_resources)
    described = catalogue(population.resources, configs[0].evaluation.service_levels)
    metrics = {key: metric for key, metric in described.items() if key in METRICS}
    content = {"definition": compared.model_dump(), "workload": population.name, **figures.to_json()}
    write_whole({output / f"{name}.json": json.dumps(content) + "\n"})
    return [output / f"{name}.json", *page.write(output, name, compared, figures, metrics)]


def _carry_out(request: Request, compared: Definition, folder: Path, console: Console) -> None:
    runs = list(compared.runs(folder))
    failed = []
    with (
        track(console, f"comparing {', '.join(compared.variants)}", len(runs)) as tracker,
        crew(request.launcher, request.workers, compared) as submit,
    ):
        handed_out = {submit(_run, variant, seed, run): (variant, seed) for variant, seed, run in runs}
        for done, future in enumerate(as_completed(handed_out), 1):
            variant, seed = handed_out[future]
            if error := future.exception():
                failed.append(f"{variant}, seed {seed}: {type(error).__name__}: {error}")
            tracker.update(done, f"{variant}, seed {seed}")
    if failed:
        raise RunsFailed("\n".join(failed))


def _run(compared: Definition, variant: str, seed: int, folder: Path) -> Result:
    return finish(compared.overrides(variant, seed), folder)


def _rules(config: Config, folder: Path, console: Console) -> dict[str, dict[str, float]]:
    """What rules come to in the same episodes."""
    file = folder / RULES_FILE
    settings = asdict(config.evaluation) | {"workload": asdict(config.workload), "scheduler": asdict(config.scheduler)}
    settings = json.loads(json.dumps(settings))
    if file.is_file() and (known := json.loads(file.read_text()))["settings"] == settings:
        return dict(known["policies"])
    population = load_population(config.workload, config.env.num_resources)
    with track(console, "rules", len(RULES) * config.evaluation.seeds * len(config.evaluation.loads)) as tracker:
        evaluation = evaluate(
            rules(RULES),
            [],
            config.evaluation,
            population,
            config.workload,
            config.scheduler,
            lambda done, _total, what: tracker.update(done, what),
        )
    policies = evaluation.to_json()["policies"]
    write_whole({file: json.dumps({"settings": settings, "policies": policies}) + "\n"})
    return dict(policies)


@quiet_on_closed_pipe
def main() -> None:
    """Entry of `python -m training.compare`."""
    register()
    arguments, console = sys.argv[1:], Console()
    if {"-h", "--help"} & set(arguments):
        print(f"{__doc__}\nThere are {', '.join(definition.names())}.")
        return
    try:
        request, settings = parse(arguments)
        compared = definition.read(request.experiment, request.seeds, settings)
        for path in compare(request, compared, console):
            console.print(f"wrote {path}", highlight=False)
    except (ConfigError, TraceError, ValueError) as error:
        print(f"training.compare: {error}", file=sys.stderr)
        sys.exit(2)
    except (RunsFailed, LauncherError) as error:
        print(f"training.compare: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
