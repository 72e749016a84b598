"""The configuration of a training run: one dataclass, checked before anything starts.

Hydra composes it from the command line and `conf/experiment`; the dataclasses hold every default. A key that does not
exist or a value that makes no sense is refused with what would be allowed.
"""

import difflib
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from typing import Annotated, Any

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import Field, TypeAdapter, ValidationError

from extender.policies.heuristics import RULES
from training.algorithms.dqn import DQNArguments
from training.algorithms.es import ESArguments
from training.algorithms.learner import Arguments
from training.algorithms.ppo import PPOArguments
from training.algorithms.sac import SACArguments
from training.env import EnvArguments
from training.evaluation.runner import EvaluationArguments
from training.launcher import LAUNCHERS
from training.networks import NetworkArguments
from training.packing import PackingArguments
from training.rewards import RewardWeights
from training.simulator.scheduling import SchedulerArguments
from training.workloads import generated
from training.workloads.selection import WorkloadArguments

ALGORITHMS: dict[str, type[Arguments]] = {
    "ppo": PPOArguments,
    "dqn": DQNArguments,
    "sac": SACArguments,
    "es": ESArguments,
}
DEFAULT_ALGORITHM = "ppo"
LIMIT_SIGNS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<", "min_length": "length >=", "pattern": "matches"}


class ConfigError(ValueError):
    """The configuration is refused; the message says what was given and what is allowed."""


@dataclass
class TrainingArguments:
    """How long to train, and how not to lose it."""

    total_timesteps: Annotated[int, Field(ge=1, description="placement decisions to learn from")] = 200_000
    checkpoint_timesteps: Annotated[
        int, Field(ge=1, description="an interruption loses at most so many, or one update's if that is more")
    ] = 20_000
    resume: Annotated[str | None, Field(min_length=1, description="folder of an interrupted run, to go on with it")] = (
        None
    )
    start: Annotated[
        str | None,
        Field(min_length=1, description="algorithm=es: policy file of a weighing network that the search begins at"),
    ] = None
    threads: Annotated[int, Field(ge=1, le=256, description="of torch; part of what makes a run repeatable")] = 2
    held_out_timesteps: Annotated[
        int, Field(ge=1, description="decisions between two looks at episodes that are never learned from")
    ] = 20_000
    held_out_episodes: Annotated[int, Field(ge=1, le=1024, description="by which the best network is chosen")] = 16
    export: Annotated[
        str, Field(pattern="^(best|last)$", description="best: the network that did best in the held-out episodes")
    ] = "best"
    mlflow: Annotated[
        str | None, Field(min_length=1, description="MLflow's tracking URI: a server, file:folder, sqlite:///file")
    ] = None
    launcher: Annotated[
        str,
        Field(
            pattern=f"^({'|'.join(LAUNCHERS)})$",
            description="who plays evaluations and populations, and the runs of -m: processes here, or a Ray cluster",
        ),
    ] = "processes"


@dataclass
class SweepArguments:
    """Several runs at one go: `python -m training.run -m`."""

    name: Annotated[
        str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="of the folder in runs/; the same name goes on")
    ] = "sweep"
    trials: Annotated[int, Field(ge=1, description="runs in all, where a key is given an interval to search")] = 20
    workers: Annotated[int, Field(ge=1, le=1024, description="runs at a time")] = 1


@dataclass
class Config:
    """Everything about one run."""

    name: Annotated[
        str | None,
        Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="of the folder in runs/; else algorithm and seed"),
    ] = None
    seed: Annotated[int, Field(ge=0, lt=1_000_000, description="of training; the seeds above are held back")] = 0
    algorithm: Any = field(default_factory=PPOArguments)
    env: EnvArguments = field(default_factory=EnvArguments)
    network: NetworkArguments = field(default_factory=NetworkArguments)
    workload: WorkloadArguments = field(default_factory=WorkloadArguments)
    scheduler: SchedulerArguments = field(default_factory=SchedulerArguments)
    evaluation: EvaluationArguments = field(default_factory=EvaluationArguments)
    training: TrainingArguments = field(default_factory=TrainingArguments)
    packing: PackingArguments = field(default_factory=PackingArguments)
    sweep: SweepArguments = field(default_factory=SweepArguments)
    goal: Annotated[
        str,
        Field(
            pattern="^(waiting|packing)$",
            description="waiting: pods come and go; packing: none leaves, what counts is how much finds room",
        ),
    ] = "waiting"
    ask: Annotated[bool, Field(description="start the extender with the result and ask it for a ranking")] = True

    @property
    def run_name(self) -> str:
        """Name of the run's folder."""
        return self.name or f"{self.algorithm.name}-seed{self.seed}"

    @property
    def timesteps_between_updates(self) -> int:
        """Decisions between two updates, and so between two moments at which a run can be checkpointed."""
        return int(self.algorithm.timesteps_between_updates(self.env))

    def digest(self) -> str:
        """SHA-256 of what determines the trained policy."""
        content = asdict(self)
        for irrelevant in ("name", "evaluation", "ask", "sweep"):
            del content[irrelevant]
        for irrelevant in ("resume", "checkpoint_timesteps", "mlflow", "launcher"):
            del content["training"][irrelevant]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def register() -> None:
    """Make the dataclasses known to Hydra: the root `stowage`, and a group per exchangeable part."""
    store = ConfigStore.instance()
    store.store(name="stowage", node=Config(algorithm=None))  # it is chosen by its group, and each has its own type
    for name, arguments in ALGORITHMS.items():
        store.store(group="algorithm", name=name, node=arguments)


def validate(composed: DictConfig) -> Config:
    """Turn what Hydra composed into a checked configuration.

    Raises:
        ConfigError: a value is impossible; every such value is named with its limits.
    """
    try:
        content = OmegaConf.to_container(composed, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ConfigError(str(error)) from error
    assert isinstance(content, dict)
    algorithm = content.pop("algorithm")
    if not isinstance(algorithm, dict) or algorithm.get("name") not in ALGORITHMS:
        raise ConfigError(f"algorithm={algorithm}: expected one of {', '.join(ALGORITHMS)}")
    name = algorithm["name"]
    problems = [explain_unknown_key(key, name) for key in _unknown_keys(content, Config)]
    problems += [explain_unknown_key(f"algorithm.{key}", name) for key in _unknown_keys(algorithm, ALGORITHMS[name])]
    config, learner = None, None
    try:
        config = TypeAdapter(Config).validate_python(content)
    except ValidationError as error:
        problems += _problems(error, "", Config)
    arguments = ALGORITHMS[name]
    try:
        learner = TypeAdapter(arguments).validate_python(algorithm)
    except ValidationError as error:
        problems += _problems(error, "algorithm.", arguments)
    if problems or config is None or learner is None:
        raise ConfigError("\n".join(problems))
    config.algorithm = learner
    if contradictions := list(_contradictions(config)):
        raise ConfigError("\n".join(contradictions))
    return config


def explain_unknown_key(key: str, algorithm: str = DEFAULT_ALGORITHM) -> str:
    """What is allowed instead of a key that does not exist, nearest name first.

    Args:
        key: what was given.
        algorithm: the one that was chosen; each has keys of its own.
    """
    *sections, last = key.lstrip("+~").split(".")
    schema: Any = Config
    reached: list[str] = []
    for section in sections:
        found = {entry.name: entry for entry in fields(schema)}.get(section)
        inner = ALGORITHMS[algorithm] if section == "algorithm" else (found.type if found else None)
        if inner is None or not is_dataclass(inner):
            last = section
            break
        schema, reached = inner, [*reached, section]
    allowed = [entry.name for entry in fields(schema)]
    prefix = ".".join([*reached, ""])
    near = difflib.get_close_matches(last, allowed, n=1)
    hint = f" Did you mean {prefix}{near[0]}?" if near else ""
    return f"{key}: no such key.{hint} Allowed here: {', '.join(prefix + name for name in allowed)}"


def describe(algorithm: str = DEFAULT_ALGORITHM) -> str:
    """Every key with its default, its limits and its meaning, a line each; the algorithm's keys are those of one."""
    return "\n".join(_described(Config, "", ALGORITHMS[algorithm]))


def _described(schema: Any, prefix: str, algorithm: Any) -> Iterator[str]:
    instance = schema()
    for entry in fields(schema):
        value = getattr(instance, entry.name)
        if is_dataclass(value):
            inner = algorithm if f"{prefix}{entry.name}" == "algorithm" else type(value)
            yield from _described(inner, f"{prefix}{entry.name}.", algorithm)
            continue
        described = getattr(entry.type, "__metadata__", ())
        if described:
            limits = ", ".join(
                f"{sign} {getattr(limit, name)}"
                for limit in described[0].metadata
                for name, sign in LIMIT_SIGNS.items()
                if getattr(limit, name, None) is not None
            )
            meaning = f"{described[0].description}{f' ({limits})' if limits else ''}"
            yield f"  {prefix}{entry.name}={'null' if value is None else value}\n      {meaning}"


def _unknown_keys(content: Mapping[str, Any], schema: Any, prefix: str = "") -> Iterator[str]:
    known = {entry.name: entry.type for entry in fields(schema)}
    for key, value in content.items():
        if key not in known:
            yield f"{prefix}{key}"
        elif is_dataclass(known[key]) and isinstance(value, dict):
            yield from _unknown_keys(value, known[key], f"{prefix}{key}.")


def _contradictions(config: Config) -> Iterator[str]:
    env, evaluation, workload = config.env, config.evaluation, config.workload
    if env.lowest_load > env.highest_load:
        yield f"env.lowest_load={env.lowest_load} is above env.highest_load={env.highest_load}"
    if env.nodes_lowest > env.nodes:
        yield f"env.nodes_lowest={env.nodes_lowest} is above env.nodes={env.nodes}"
    if workload.shortest_seconds > workload.longest_seconds:
        yield (
            f"workload.shortest_seconds={workload.shortest_seconds} is above "
            f"workload.longest_seconds={workload.longest_seconds}"
        )
    if workload.source == "generated":
        try:
            generated.check(workload.generator, env.num_resources)
        except ValueError as error:
            yield str(error)
    yield from config.algorithm.contradictions(env)
    if config.algorithm.name == "es":
        if config.training.export == "last":
            yield "training.export=last: algorithm=es exports the best that it found"
        if env.violation_limit is not None or replace(env.weights, waiting=0.0) != RewardWeights(waiting=0.0):
            yield (
                "algorithm=es climbs minus the waiting alone: env.violation_limit and prices in env.weights other than "
                "that of waiting are for ppo, dqn and sac"
            )
    if not config.network.fragmentation and (config.algorithm.name == "es" or config.network.kind == "weighing"):
        yield "network.fragmentation=false is for network.kind=embedding, trained by ppo, dqn or sac"
    if config.network.kind == "weighing" and config.algorithm.name != "es":
        yield f"network.kind=weighing is searched by algorithm=es, not by {config.algorithm.name}"
    if config.training.start and (config.algorithm.name != "es" or config.goal != "waiting"):
        yield "training.start is for algorithm=es with goal=waiting"
    if config.goal == "packing" and config.network.kind != "weighing":
        yield f"goal=packing is for network.kind=weighing (and algorithm=es), not {config.network.kind}"
    if unknown := set(evaluation.baselines) - set(RULES):
        yield f"evaluation.baselines={sorted(unknown)}: there are {', '.join(RULES)}"


def _problems(error: ValidationError, prefix: str, schema: Any) -> list[str]:
    lines = []
    for problem in error.errors():
        path = ".".join(str(part) for part in problem["loc"])
        description = _description(schema, [str(part) for part in problem["loc"]])
        meaning = f" ({description})" if description else ""
        lines.append(f"{prefix}{path}={problem['input']!r}: {problem['msg'][0].lower()}{problem['msg'][1:]}{meaning}")
    return lines


def _description(schema: Any, path: list[str]) -> str:
    for part in path:
        if not is_dataclass(schema):
            break
        entry = {entry.name: entry for entry in fields(schema)}.get(part)
        if entry is None:
            break
        described = getattr(entry.type, "__metadata__", ())
        if described:
            return str(described[0].description or "")
        schema = entry.type
    return ""
