import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.workloads.recipe import Recipe, RemixArguments, draw_recipe


@given(st.integers(0, 9999))
@settings(max_examples=50)
def test_drawn_recipes_stay_within_their_limits(seed):
    arguments = RemixArguments()
    recipe = draw_recipe(arguments, np.random.default_rng(seed))
    assert 0 <= recipe.class_shift <= 1
    assert sum(recipe.class_mix) == pytest.approx(1.0)
    assert recipe.class_mix[2] <= arguments.several_at_most
    assert 1 / 4.0 <= recipe.cpu_only <= 4.0
    assert 1 / 1.6 <= recipe.cpu <= 1.6
    assert recipe.spec_share is None or recipe.spec_share <= 0.5


def test_recipes_reach_what_the_published_mixes_vary():
    recipes = [draw_recipe(RemixArguments(), np.random.default_rng(seed)) for seed in range(400)]
    shares = np.array([recipe.class_mix for recipe in recipes])
    assert np.mean((shares[:, 2] > 0.35) & (shares[:, 2] < 0.45)) > 0.01  # multigpu40
    assert np.mean(shares[:, 0] > 0.9) > 0.03  # gpushare100
    assert np.mean([recipe.absent[0] for recipe in recipes]) > 0.02  # no pods without GPU
    assert np.mean([recipe.cpu_only > 2.2 for recipe in recipes]) > 0.05  # cpu250
    assert np.mean([recipe == Recipe() for recipe in recipes]) < 0.05


@given(st.integers(0, 9999))
@settings(max_examples=50)
def test_a_cluster_for_pods_with_several_gpus_alone_is_never_drawn(seed):
    recipe = draw_recipe(RemixArguments(absent_chance=1.0, as_is_chance=0.0), np.random.default_rng(seed))
    assert recipe.absent == (True, True, False, True)


def test_a_chance_of_one_leaves_everything_as_it_is_but_for_the_models_of_nodes():
    arguments = RemixArguments(as_is_chance=1.0, relabel_chance=0.0, bootstrap=False)
    recipe = draw_recipe(arguments, np.random.default_rng(0))
    assert recipe._replace(class_mix=Recipe().class_mix, size_step=Recipe().size_step) == Recipe()
