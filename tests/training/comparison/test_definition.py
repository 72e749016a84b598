import pytest

from training.command_line import checked
from training.comparison.definition import Definition, names, read
from training.config import register


@pytest.mark.parametrize("name", names())
def test_every_run_of_a_comparison_can_be_configured(name: str) -> None:
    register()
    definition = read(name)
    assert definition.seeds >= 5
    for variant in definition.variants:
        config = checked(definition.overrides(variant, 3))
        assert (config.seed, config.ask, config.evaluation.baselines) == (3, False, [])


def test_both_comparisons_of_the_issue_are_there() -> None:
    assert set(read("algorithms").variants) == {"ppo", "dqn", "sac", "es"}
    changed = [set(one) - set(other) for one, other in _pairs(read("ablations"))]
    assert changed == [
        {"algorithm.exploration=boltzmann"},
        {"algorithm.dueling=false"},
        {"algorithm.prioritized=false"},
        {"env.reward=sparse", "algorithm.discount=1.0"},
        {"network.pooled_context=false"},
        {"network.fragmentation=false"},
    ]


def _pairs(definition: Definition) -> list[tuple[list[str], list[str]]]:
    return [(definition.variants[one], definition.variants[other]) for one, other in definition.compared()]


def test_what_the_command_line_says_counts_for_all_and_less_than_a_variants_own() -> None:
    definition = read("algorithms", seeds=2, settings=["env.nodes=9", "training.total_timesteps=7"])
    ppo, es = (definition.overrides(variant, 0) for variant in ("ppo", "es"))
    assert {"env.nodes=9", "training.total_timesteps=7"} <= set(ppo)
    assert "training.total_timesteps=7" not in es
    assert len({each.partition("=")[0] for each in ppo}) == len(ppo)


def test_a_comparison_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(ValueError, match="experiment=algorithm: there are ablations, algorithms"):
        read("algorithm")
