import hydra
import pytest

from training.command_line import checked
from training.config import Config, ConfigError, describe, explain_unknown_key, register, validate


def compose(*overrides: str) -> Config:
    register()
    with hydra.initialize_config_module("training.conf", version_base=None):
        return validate(hydra.compose("config", overrides=list(overrides)))


def test_overrides_of_the_issue_are_understood() -> None:
    config = compose(
        "algorithm=ppo", "env.num_resources=5", "env.nodes=32", "training.total_timesteps=200000", "seed=7"
    )
    assert (config.env.num_resources, config.env.nodes, config.seed) == (5, 32, 7)
    assert config.training.total_timesteps == 200_000
    assert config.run_name == "ppo-seed7"


def test_an_unknown_key_is_refused_with_the_nearest_and_all_allowed_ones() -> None:
    register()
    with pytest.raises(
        ConfigError, match=r"env\.nodse: no such key. Did you mean env\.nodes\? Allowed here: env\.nodes"
    ):
        checked(["env.nodse=3"])


def test_an_unknown_algorithm_is_refused_with_those_there_are() -> None:
    register()
    with pytest.raises(ConfigError, match="ppo"):
        checked(["algorithm=a2c"])


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("env.nodes=-3", r"env\.nodes=-3: .*greater than or equal to 2 \(nodes of the training cluster\)"),
        ("env.num_resources=17", r"env\.num_resources=17: .*less than or equal to 16"),
        ("algorithm.clip_range=5", r"algorithm\.clip_range=5\.0: .*less than 1"),
        ("workload.process=weekly", r"workload\.process='weekly': .*poisson\|bursty\|diurnal"),
        ("env.nodes=abc", r"env\.nodes.*'abc'.*Integer"),
        ("env.nodes_lowest=33", r"env\.nodes_lowest=33 is above env\.nodes=32"),
        ("env.reward=dense", r"env\.reward='dense'.*shaped\|sparse"),
        ("env.lowest_load=2", r"env\.lowest_load=2\.0 is above env\.highest_load"),
        ("evaluation.loads=[0]", r"evaluation\.loads\.0=0\.0: .*greater than 0"),
        ("evaluation.baselines=[worst-fit]", r"evaluation\.baselines=\['worst-fit'\]: there are random, .*best-fit"),
        ("workload.shortest_seconds=9000", r"workload\.shortest_seconds=9000\.0 is above workload\.longest_seconds"),
        ("algorithm.batch_size=4095", r"algorithm\.batch_size=4095 does not divide the 4096 decisions of a rollout"),
        ("algorithm=dqn algorithm.n_steps=0", r"algorithm\.n_steps=0: .*greater than or equal to 1"),
        ("algorithm=dqn algorithm.exploration=noisy", r"algorithm\.exploration='noisy': .*epsilon\|boltzmann"),
        ("algorithm=dqn algorithm.capacity=200", r"algorithm\.capacity=200 holds no 3 steps and one more"),
        ("algorithm=dqn algorithm.duelling=true", r"Did you mean algorithm\.dueling\? Allowed here: algorithm\.name"),
        ("algorithm=sac algorithm.double=true", r"algorithm\.double: no such key\. .*algorithm\.target_entropy_ratio"),
        ("algorithm=sac algorithm.capacity=100", r"algorithm\.capacity=100 holds no two steps of 64 episodes"),
        ("algorithm=es algorithm.workers=0", r"algorithm\.workers=0: .*greater than or equal to 1"),
        ("algorithm=es algorithm.clip_range=0.1", r"algorithm\.clip_range: no such key\. .*algorithm\.sigma"),
        ("algorithm=null", r"algorithm=null: expected one of dqn, es, ppo, sac"),
        ("algorithm=es env.violation_limit=0.1", r"algorithm=es climbs minus the waiting alone: env\.violation_limit"),
        ("algorithm=es env.weights.cost=1", r"algorithm=es climbs minus the waiting alone"),
        ("algorithm=es training.export=last", r"algorithm=es exports the best that it found"),
        ("algorithm=es network.fragmentation=false", r"network\.fragmentation=false is for network\.kind=embedding"),
        ("training.launcher=slurm", r"training\.launcher='slurm': .*processes\|ray"),
        ("training.resume=", r"training\.resume='': .*at least 1 character"),
        ("name=../elsewhere", r"name='\.\./elsewhere': .*match pattern"),
        ("experiment=nope", r"experiment=nope: expected one of .*quickstart$"),
        ("+key=1", r"key: no such key\. Allowed here: name, seed"),
        ("+env.foo=1", r"env\.foo: no such key\. Allowed here: env\.nodes"),
    ],
)
def test_an_impossible_value_is_refused_with_its_limits(override: str, complaint: str) -> None:
    register()
    with pytest.raises(ConfigError, match=complaint):
        checked(override.split())


def test_the_help_describes_every_key_with_its_limits() -> None:
    text = describe()
    assert "env.nodes=32\n      nodes of the training cluster (>= 2, <= 20000)" in text
    assert "(matches ^(poisson|bursty|diurnal|trace)$)" in text
    assert "training.resume=null" in text


@pytest.mark.parametrize("name", ["ppo", "dqn", "sac", "es"])
def test_every_algorithm_can_be_chosen_and_is_described(name: str) -> None:
    config = compose(f"algorithm={name}")
    assert (config.algorithm.name, config.run_name) == (name, f"{name}-seed0")
    assert config.timesteps_between_updates > 0
    text = describe(name)
    for key in vars(config.algorithm):
        assert key == "name" or f"  algorithm.{key}=" in text


def test_an_unknown_section_lists_the_sections() -> None:
    assert "Allowed here: name, seed, algorithm" in explain_unknown_key("foo.bar")


def test_the_digest_tells_trainings_apart_but_not_their_checkpoints() -> None:
    assert compose("seed=1").digest() != compose("seed=2").digest()
    assert compose("training.checkpoint_timesteps=5").digest() == compose("name=other").digest()
