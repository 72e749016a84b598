"""What the command lines of evaluation and replay have in common: settings as text, checked against dataclasses.

A setting is a field of a dataclass with pydantic's limits; its description is its help, and what is wrong with a value
is said with the flag that it came from.
"""

import argparse
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

Arguments = TypeVar("Arguments")


class ArgumentError(ValueError):
    """The command line asks for something that is not there; the message says what is."""


def parse_loads(text: str) -> list[float]:
    """Loads joined by commas.

    Example:
        >>> parse_loads("0.6,0.95")
        [0.6, 0.95]
    """
    try:
        loads = [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected numbers joined by commas, as 0.6,0.8,0.95") from None
    if len(set(loads)) < len(loads):
        raise argparse.ArgumentTypeError(f"{text!r}: a load is named twice")
    return loads


def parse_positive(text: str) -> float:
    """A finite number above 0.

    Example:
        >>> parse_positive("0.5")
        0.5
    """
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number above 0")
    return number


def parse_count(text: str) -> int:
    """A whole number from 1 on.

    Example:
        >>> parse_count("12")
        12
    """
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number from 1 on")
    return number


def parse_setting(text: str) -> tuple[str, Any]:
    """A setting as key=value, the value as YAML reads it.

    Example:
        >>> parse_setting("preemption=true")
        ('preemption', True)
    """
    key, separator, value = text.partition("=")
    try:
        if key and separator:
            return key, yaml.safe_load(value)
    except yaml.YAMLError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r}: expected key=value")


def parse_service_level(text: str) -> tuple[int, float]:
    """A promise as priority=seconds.

    Example:
        >>> parse_service_level("1000=60")
        (1000, 60.0)
    """
    priority, _, seconds = text.partition("=")
    try:
        return int(priority), float(seconds)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected PRIORITY=SECONDS, as 1000=60") from None


def nested(settings: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Settings with dots in their keys as dictionaries within each other; the last of the same key counts.

    Example:
        >>> nested([("source", "generated"), ("generator.nodes", 100)])
        {'source': 'generated', 'generator': {'nodes': 100}}
    """
    tree: dict[str, Any] = {}
    for key, value in settings:
        *sections, last = key.split(".")
        branch = tree
        for section in sections:
            if not isinstance(branch.setdefault(section, {}), dict):
                branch[section] = {}
            branch = branch[section]
        branch[last] = value
    return tree


def checked(schema: type[Arguments], given: Mapping[str, Any], flags: Mapping[str, str]) -> Arguments:
    """The dataclass with these values.

    Args:
        schema: a dataclass with pydantic's limits.
        given: values by field.
        flags: what the command line calls a field, where that is not --field.

    Raises:
        ArgumentError: a field does not exist or a value is outside its limits; names each by its flag.
    """

    def flag_of(path: Sequence[object]) -> str:
        first, *rest = map(str, path)
        return ".".join([flags.get(first, f"--{first}".replace("_", "-")), *rest])

    problems = [
        f"{flag_of(path)}: no such key; there are {', '.join(known)}" for path, known in _unknown(schema, given, ())
    ]
    try:
        values = TypeAdapter(schema).validate_python(given)
    except ValidationError as error:
        problems += [
            f"{flag_of(problem['loc'])}: {problem['msg'][0].lower()}{problem['msg'][1:]}, not {problem['input']!r}"
            for problem in error.errors()
        ]
    if problems:
        raise ArgumentError("\n".join(problems))
    return values


@dataclass(frozen=True)
class Setting:
    """A field of a dataclass, as help shows it: its default, and its meaning with the words it may have."""

    default: Any
    meaning: str


def settings_of(schema: type) -> dict[str, Setting]:
    """Every field of a dataclass by its name; those of dataclasses within it have a dot in theirs.

    Example:
        >>> from training.simulator.scheduling import SchedulerArguments
        >>> settings_of(SchedulerArguments)["preemption"]
        Setting(default=False, meaning='evict pods of lower priority for a pod that fits nowhere')
    """
    found: dict[str, Setting] = {}
    instance = schema()
    for entry in fields(schema):
        if isinstance(entry.type, type) and is_dataclass(entry.type):
            found |= {f"{entry.name}.{key}": setting for key, setting in settings_of(entry.type).items()}
        elif metadata := getattr(entry.type, "__metadata__", ()):
            meaning = str(metadata[0].description)
            patterns = [limit.pattern for limit in metadata[0].metadata if getattr(limit, "pattern", None)]
            words = [re.fullmatch(r"\^\(([\w|-]+)\)\$", pattern) for pattern in patterns]
            choices = [match[1].replace("|", ", ") for match in words if match]
            unsaid = [words for words in choices if not all(word in meaning for word in words.split(", "))]
            found[entry.name] = Setting(getattr(instance, entry.name), "; ".join([*unsaid, meaning]))
    return found


def listed(schema: type) -> str:
    """The settings with their defaults and meanings, two lines each."""
    return "\n".join(
        f"  {key}={'null' if setting.default is None else setting.default}\n      {setting.meaning}"
        for key, setting in settings_of(schema).items()
    )


def _unknown(
    schema: type, given: Mapping[str, Any], path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], list[str]]]:
    known = {entry.name: entry.type for entry in fields(schema)}
    for key, value in given.items():
        inner = known.get(key)
        if key not in known:
            yield (*path, key), list(known)
        elif isinstance(inner, type) and is_dataclass(inner) and isinstance(value, dict):
            yield from _unknown(inner, value, (*path, key))
