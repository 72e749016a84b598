"""Whether a command line is one that its program would take: every key, flag and value that can be checked unrun."""

import json
import tempfile
import tomllib
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import yaml

import extender.__main__ as extender_command
from extender.settings import Settings
from tests.documentation.pages import ROOT
from training import compare, completion, evaluate
from training.arguments import parse_setting
from training.benchmarks import openb
from training.command_line import checked
from training.comparison import definition
from training.config import register
from training.cycle import __main__ as cycle
from training.cycle.settings import resolve
from training.monitor import request as monitor
from training.replay import request as replay
from training.sweep import parsed

SWEEPS = {"-m", "--multirun"}


class FlagError(AssertionError):
    """The program would refuse the command line."""


def check_call(call: Sequence[str]) -> bool:
    """Check one call of a program.

    Returns:
        whether its program is one that is known here.

    Raises:
        FlagError, or whatever the program's own reading of its command line raises.
    """
    words = list(call)
    program = words.pop(0).removeprefix(".venv/bin/")
    if program == "python" and words[0] == "-m":
        _, module, *words = words
        if module in MODULES:
            MODULES[module](words)
            return True
        program = module
    if program in ("stowage-extender", "extender"):
        _check_extender(words)
    elif program == "kubectl" and "--" in words:
        check_call(words[words.index("--") + 1 :])
    elif program == "helm":
        _check_chart_values(words)
    elif program == "make":
        _check_targets(words)
    elif program == "pip":
        _check_extras(words)
    else:
        return False
    return True


def _check_run(words: Sequence[str]) -> None:
    register()
    settings = [word for word in words if word not in SWEEPS and not word.startswith("training.resume=")]
    if "--help" in settings:
        return
    if SWEEPS & set(words):
        common, space = parsed(settings)
        checked([*common, *(key for key in common if not space)])
        return
    checked(settings)


def _check_cycle(words: Sequence[str]) -> None:
    given = cycle.argument_parser().parse_intermixed_args(words)
    with tempfile.TemporaryDirectory() as folder:
        resolve(Path(folder), [parse_setting(text) for text in given.settings], given.settings)


def _check_compare(words: Sequence[str]) -> None:
    register()
    request, settings = compare.parse(words)
    compared = definition.read(request.experiment, request.seeds, settings)
    for variant in compared.variants:
        checked(compared.overrides(variant, 0))


def _check_evaluate(words: Sequence[str]) -> None:
    evaluate.parse_arguments(words)


def _check_replay(words: Sequence[str]) -> None:
    replay.parse_arguments(words, "")


def _check_openb(words: Sequence[str]) -> None:
    openb.parse_arguments(words)


def _check_monitor(words: Sequence[str]) -> None:
    monitor.argument_parser().parse_args(words)


def _check_completion(words: Sequence[str]) -> None:
    completion.argument_parser().parse_args(words)


MODULES: dict[str, Callable[[Sequence[str]], None]] = {
    "training.run": _check_run,
    "training.compare": _check_compare,
    "training.evaluate": _check_evaluate,
    "training.benchmarks.openb": _check_openb,
    "training.replay": _check_replay,
    "training.cycle": _check_cycle,
    "training.completion": _check_completion,
    "training.monitor": _check_monitor,
}


def _check_extender(words: Sequence[str]) -> None:
    given = extender_command.command_parser().parse_args(words)
    if given.command == "serve":
        flags = {name: getattr(given, name) for name in Settings.model_fields if getattr(given, name) is not None}
        Settings.model_validate(flags)


def _check_chart_values(words: Sequence[str]) -> None:
    schema = json.loads((ROOT / "values.schema.json").read_text())
    for flag, setting in pairwise(words):
        if flag not in ("--set", "--set-json"):
            continue
        path, _, value = setting.partition("=")
        part = schema
        for key in path.split("."):
            if "properties" not in part or key not in part["properties"]:
                raise FlagError(f"{flag} {setting}: the chart has no value {path}")
            part = part["properties"][key]
            if "$ref" in part:
                part = schema["$defs"][part["$ref"].rpartition("/")[2]]
        if "enum" in part and yaml.safe_load(value) not in part["enum"]:
            raise FlagError(f"{flag} {setting}: expected one of {part['enum']}")


def _check_targets(words: Sequence[str]) -> None:
    makefiles = (ROOT / "Makefile").read_text() + (ROOT / "tests/cluster/cluster.mk").read_text()
    for word in words:
        name, assigned, _ = word.partition("=")
        if assigned and (f"$({name})" in makefiles or name == "KUBECONFIG"):
            continue
        if f"\n{word}: " not in makefiles:
            raise FlagError(f"make {word}: there is no such target")


def _check_extras(words: Sequence[str]) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for word in words:
        name, bracket, wanted = word.partition("[")
        if name in (".", "stowage") and bracket:
            unknown = set(wanted.rstrip("]").split(",")) - set(extras)
            if unknown:
                raise FlagError(f"{word}: there are no extras {unknown}")
