"""What a cycle is told: KEY=VALUE, checked before anything starts, and kept in the cycle's folder for every step.

Keys are given once: a later command has those of the earlier ones, under what it is given itself. Everything that
begins with `train.` goes to `training.run` as it is (`train.training.total_timesteps=2000000`); `train.KEY=`, without a
value, takes a key away again.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from training.arguments import ArgumentError, checked, nested, settings_of
from training.cycle.records import GivenError, read_json, write_json
from training.workloads.recorded import ASSUMED_SECONDS

FILE = "settings.json"
UNREADABLE = "remove the file, and give the cycle's settings again"
TRAIN_PREFIX = "train."
TAKEN_AWAY = f"a key that the cycle keeps is taken away by {TRAIN_PREFIX}KEY= without a value"
EXPERIMENT = "cycle"
NODES = 8, 400  # of what is trained on: as recorded, but within these: fewer teach nothing, more take long
WIDEST = f"env.nodes={NODES[1]}", "env.nodes_lowest=4", "env.lowest_load=0.3", "env.highest_load=1.2"
"""What `train` may choose itself by what was recorded, so that nothing contradicts it that may fit then."""


@dataclass
class RecordSettings:
    """What is recorded, and how it is cut."""

    hours: Annotated[
        float, Field(ge=0, description="so much of the log's end is taken, in hours; 0: all that there is")
    ] = 0.0
    speed: Annotated[
        float, Field(gt=0, description="seconds that a second of the log stands for; with replay: the replay's own")
    ] = 1.0
    assumed_seconds: Annotated[
        float, Field(gt=0, description="duration of a pod that has not ended and announced none")
    ] = ASSUMED_SECONDS
    periods: Annotated[int, Field(ge=2, le=1000, description="that the recorded time is cut into")] = 12
    hold_every: Annotated[
        int, Field(ge=2, description="every so many-th period is held back: nothing is fitted or trained on it")
    ] = 3
    pods_at_least: Annotated[int, Field(ge=2, description="fewer recorded pods are refused")] = 200


@dataclass
class GateSettings:
    """When a candidate is refused offline."""

    margin: Annotated[float, Field(ge=0, description="share by which its mean wait may be above the incumbent's")] = (
        0.05
    )
    floor_seconds: Annotated[
        float, Field(ge=0, description="… and a difference in mean wait of so little is none in any case")
    ] = 1.0
    seeds: Annotated[int, Field(ge=2, description="freshly generated episodes")] = 40
    pods: Annotated[int, Field(ge=50, description="pods of each of them")] = 2000
    load: Annotated[
        float, Field(ge=0, le=3, description="offered load of these episodes; 0: the recorded one, at least 0.8")
    ] = 0.0


@dataclass
class ShadowSettings:
    """When a candidate that only watches has seen enough, and what ends it."""

    pods: Annotated[int, Field(ge=1, description="that it has to have had an opinion on")] = 200
    limit_seconds: Annotated[float, Field(gt=0, description="wait for them so long at most")] = 86_400.0
    failures: Annotated[int, Field(ge=0, description="of the candidate that are tolerated")] = 0
    agreement: Annotated[
        float, Field(ge=0, le=1, description="share of the pods that it has to send where the incumbent does")
    ] = 0.0


@dataclass
class CanarySettings:
    """When a candidate that answers for some pods has proved itself, and what ends it."""

    percent: Annotated[float, Field(gt=0, le=100, description="of the pods that it answers for")] = 10.0
    pods: Annotated[int, Field(ge=2, description="that it has to have answered for")] = 100
    limit_seconds: Annotated[float, Field(gt=0, description="wait for them so long at most")] = 86_400.0
    failures: Annotated[int, Field(ge=0, description="of the candidate that are tolerated")] = 0
    settle_seconds: Annotated[
        float, Field(ge=0, description="then wait so long at most for nearly all of them to be on a node")
    ] = 60.0
    floor_seconds: Annotated[
        float,
        Field(ge=0, description="refused if its pods wait longer than the others by more than this, beyond chance"),
    ] = 1.0


@dataclass
class Settings:
    """Everything about a cycle."""

    decision_log: Annotated[
        str | None,
        Field(
            min_length=1,
            description="the extender's, as --decision-log says, or a folder with those of several replicas",
        ),
    ] = None
    nodes: Annotated[
        str | None,
        Field(
            min_length=1, description="nodes.json (kubectl get nodes -o json) or nodes.csv; else the cluster is asked"
        ),
    ] = None
    policy_file: Annotated[
        str | None, Field(min_length=1, description="what the extender serves, as --policy says; activate replaces it")
    ] = None
    candidate_file: Annotated[
        str | None, Field(min_length=1, description="where the extender looks for what to try, as --candidate says")
    ] = None
    extender: Annotated[
        str | None, Field(pattern="^https?://[^/]+$", description="its address, such as http://127.0.0.1:8888")
    ] = None
    extender_ca: Annotated[
        str | None, Field(min_length=1, description="CA (PEM) of its certificate, for an address with https")
    ] = None
    patience_seconds: Annotated[
        float, Field(gt=0, description="how long the extender may take to do what a file says")
    ] = 120.0
    replay: Annotated[
        str | None,
        Field(min_length=1, description="where no pods come by themselves: flags of training.replay, which makes some"),
    ] = None
    record: RecordSettings = field(default_factory=RecordSettings)
    train: Annotated[list[str], Field(description="given as train.KEY=VALUE: what training.run is told")] = field(
        default_factory=list
    )
    gate: GateSettings = field(default_factory=GateSettings)
    shadow: ShadowSettings = field(default_factory=ShadowSettings)
    canary: CanarySettings = field(default_factory=CanarySettings)

    def of(self, *names: str) -> dict[str, Any]:
        """Some of them, as plain values: what a step depends on."""
        plain = asdict(self)
        return {name: plain[name] for name in names}


def resolve(folder: Path, given: Sequence[tuple[str, Any]], texts: Sequence[str]) -> Settings:
    """The settings of a cycle: what its folder has, under what is given now; `keep` keeps them there.

    Args:
        folder: of the cycle; need not be there.
        given: keys and values.
        texts: the same as they were written, for those of `training.run`.

    Raises:
        ArgumentError: a key does not exist or a value is impossible.
        GivenError: what the folder has is not readable.
    """
    before = _kept(folder) or {}
    own = nested([(key, value) for key, value in given if not key.startswith(TRAIN_PREFIX)])
    overrides = {text.partition("=")[0]: text for text in before.get("train", [])}
    for text in texts:
        if text.startswith(TRAIN_PREFIX):
            override = text.removeprefix(TRAIN_PREFIX)
            key, _, value = override.partition("=")
            if value:
                overrides[key] = override
            else:
                overrides.pop(key, None)
    merged = _merged(before, own) | {"train": list(overrides.values())}
    if any(text.startswith(TRAIN_PREFIX) and text.partition("=")[2] for text in texts):
        _check_training(merged["train"])
    return _checked(merged)


def keep(folder: Path, settings: Settings) -> None:
    """Keep what a command was given for those that come: once it is not refused any more."""
    if asdict(settings) != _kept(folder):
        write_json(folder / FILE, asdict(settings))


def _kept(folder: Path) -> dict[str, Any] | None:
    content = read_json(folder / FILE, UNREADABLE)
    if content is not None:
        try:
            _checked(content)
        except ArgumentError as error:
            raise GivenError(f"{folder / FILE}: {error}\n{UNREADABLE}") from error
    return content


def _checked(values: Mapping[str, Any]) -> Settings:
    if endless := list(_not_finite(values)):  # also as the records are JSON, which has no such numbers
        raise ArgumentError("\n".join(f"{key}: expected a finite number, not {value}" for key, value in endless))
    sections = {key.partition(".")[0] for key in [*settings_of(Settings), *values]}
    return checked(Settings, values, {section: section for section in sections})


def _not_finite(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _not_finite(value, f"{prefix}{name}.")
        elif isinstance(value, float) and not math.isfinite(value):
            yield f"{prefix}{name}", value


def named(value: str | None, key: str, what: str) -> Path:
    """A path that a setting has to name; raises GivenError if it does not."""
    if value is None:
        raise GivenError(f"{key} is not set: give {key}=FILE, {what}")
    return Path(value)


def required(value: str | None, key: str, what: str) -> Path:
    """A file that a setting has to name.

    Raises:
        GivenError: it does not, or there is none.
    """
    path = named(value, key, what)
    if not path.is_file():
        raise GivenError(f"{key}={value}: there is no such file; it should be {what}")
    return path


def _check_training(overrides: Sequence[str]) -> None:
    """Refuse what `train` would, before it is kept."""
    # Imported here: it takes all of torch, and seconds, where most commands have no such settings.
    from training.command_line import checked as checked_training
    from training.config import ConfigError, register

    given = {override.partition("=")[0] for override in overrides}
    if taken := sorted(key for key in given if key.split(".")[0] == "workload" or key == "training.resume"):
        raise ArgumentError(f"{TRAIN_PREFIX}{taken[0]}: the cycle trains on what it has fitted; leave it out")
    usual = [each for each in (f"experiment={EXPERIMENT}", *WIDEST) if each.partition("=")[0] not in given]
    register()
    try:
        checked_training([*usual, *overrides])
    except ConfigError as error:
        raise ArgumentError(f"{TRAIN_PREFIX}KEY=VALUE: {error}\n{TAKEN_AWAY}") from error


def _merged(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    result = dict(before)
    for key, value in now.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = _merged(result[key], value) if both else value
    return result
