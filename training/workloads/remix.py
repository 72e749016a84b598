"""From one known population to many plausible ones, so that a policy learns to schedule rather than one trace by heart.

A remix keeps what makes pods and nodes real (which amounts are asked for together, how long such pods run, which
nodes exist) and changes how often each occurs: more pods that share a device, none without a GPU, other popular sizes,
scarcer CPU, pods that insist on a GPU model, another inventory. What is changed, and how far, is a `recipe`.
"""

from typing import NamedTuple

import numpy as np

from extender.placement import CPU, GPU, BoolArray, IntArray
from training.workloads.arrivals import FloatArray
from training.workloads.assembly import NodeColumns, PodColumns, assemble
from training.workloads.base import PodShapes, Population
from training.workloads.recipe import CLASSES, CPU_ONLY, PART, Recipe, RemixArguments, draw_recipe

SPECS = 8  # different sets of GPU models that pods of a remix insist on
SECOND_MODEL_CHANCE = 0.3  # that such a set has two models; openb's are mostly of one, some of two alike


class _Inventory(NamedTuple):
    rows: IntArray  # (M,) rows of the population's nodes
    model: IntArray  # (M,) index into the population's models
    admits: BoolArray  # (S, M), of the shapes as they are, but for GPU models that are to be named anew


def remix(population: Population, arguments: RemixArguments, generator: np.random.Generator) -> Population:
    """Make another plausible population of as many nodes and pods.

    Args:
        population: what is known.
        arguments: how far the result may depart from it.
        generator: the only source of randomness.

    Raises:
        ValueError: no pod of the population fits on any of its nodes.

    Example:
        >>> from training.workloads.synthetic import generate_population
        >>> known = generate_population(np.random.default_rng(0))
        >>> other = remix(known, RemixArguments(), np.random.default_rng(1))
        >>> len(other.shape) == len(known.shape), len(other.devices) == len(known.devices)
        (True, True)
    """
    return remix_by(population, draw_recipe(arguments, generator), generator)


def remix_by(population: Population, recipe: Recipe, generator: np.random.Generator) -> Population:
    """Carry out a recipe; one that changes nothing gives the population itself.

    Pods that fit nowhere, or nowhere any more on the nodes that were drawn, are left out, and no pod grows beyond the
    largest node where it can run.

    Raises:
        ValueError: no pod of the population fits on any of its nodes.
    """
    if recipe._replace(class_mix=Recipe().class_mix, size_step=Recipe().size_step) == Recipe():
        return population
    inventory = _draw_nodes(population, recipe, generator)
    shapes = _change_amounts(population, inventory, recipe, generator)
    fitting = _fitting(population, inventory, shapes)
    drawn = _draw_pods(population, shapes, fitting, recipe, generator)
    spec, named = _name_models(population, inventory, shapes, drawn, recipe, generator)

    shape = population.shape[drawn]
    pairs, pair = np.unique(np.column_stack([shape, spec]), axis=0, return_inverse=True)
    admitted = inventory.admits[pairs[:, 0]] & named[pairs[:, 1]][:, inventory.model]
    _, first, constraint = np.unique(np.packbits(admitted, axis=1), axis=0, return_index=True, return_inverse=True)
    names = np.array(population.models)[inventory.model]
    return assemble(
        f"{population.name}, remixed",
        NodeColumns(
            population.allocatable[inventory.rows],
            population.devices[inventory.rows],
            names.tolist(),
            population.pod_limit[inventory.rows],
            population.price[inventory.rows],
        ),
        PodColumns(
            shapes.request[shape],
            shapes.gpu_count[shape],
            shapes.gpu_milli[shape],
            population.duration[drawn],
            population.priority[drawn],
            nonzero=shapes.nonzero[shape],
            arrival=None if population.arrival is None else population.arrival[drawn],
            expected=population.expected[drawn],
            constraint=constraint.reshape(-1)[pair.reshape(-1)],
            admitted=admitted[first],
        ),
        rhythm=population.rhythm,
        resources=population.resources,
    )


def _draw_nodes(population: Population, recipe: Recipe, generator: np.random.Generator) -> _Inventory:
    count = len(population.devices)
    known = _Inventory(np.arange(count), population.model, population.admits)
    key = np.column_stack([population.allocatable, population.devices, population.model])
    _, kind = np.unique(key, axis=0, return_inverse=True)
    kind = kind.reshape(-1)
    weight = np.exp(recipe.node_sigma * generator.standard_normal(kind.max() + 1))[kind]
    rows = _resample(known.rows, weight, count, recipe.bootstrap, generator)

    model = population.model[rows]
    if recipe.relabel:
        with_gpu = population.devices > 0
        devices = np.bincount(population.model, weights=population.devices, minlength=len(population.models))
        if with_gpu.any():
            dealt = generator.choice(len(population.models), size=kind.max() + 1, p=devices / devices.sum())
            model = np.where(with_gpu[rows], dealt[kind[rows]], model)

    named, follows = _models_named(population)
    with_gpu = population.devices[rows] > 0
    admits = population.admits[:, rows]
    # Where GPU models alone decide about the nodes with GPUs, the new models do; selectors and taints stay with nodes.
    follows = follows[:, None] & with_gpu
    if recipe.relabel:
        admits = np.where(follows, named[:, model], admits)
    if recipe.spec_share is not None:
        admits = admits | follows
    inventory = _Inventory(rows, model, admits)
    if _fitting(population, inventory, population.shapes).any():
        return inventory
    if not _fitting(population, known, population.shapes).any():
        raise ValueError(f"none of the {len(population.shape)} pods of {population.name} fits on any of its nodes")
    return known


def _models_named(population: Population) -> tuple[BoolArray, BoolArray]:
    """Which GPU models the shapes admit among the nodes with GPUs, and of which shapes nothing else is asked there.

    Returns:
        (S, G) bool and (S,) bool; the latter false for shapes without GPU.
    """
    shapes, with_gpu = population.shapes, population.devices > 0
    named = np.ones((len(shapes), len(population.models)), np.bool_)
    alike = shapes.gpu_count > 0
    for model in range(len(population.models)):
        of_model = population.admits[:, with_gpu & (population.model == model)]
        if of_model.shape[1]:
            named[:, model] = of_model.any(axis=1)
            alike &= named[:, model] == of_model.all(axis=1)
    return named, alike


def _fitting(population: Population, inventory: _Inventory, shapes: PodShapes) -> BoolArray:
    """Which shapes fit on a node of the inventory and are those of some pod; (S,) bool."""
    taken = population.pod_limit[inventory.rows] > 0
    nodes = population.allocatable[inventory.rows], population.devices[inventory.rows]
    occurring = np.bincount(population.shape, minlength=len(shapes)) > 0
    return occurring & shapes.fitting_somewhere(*nodes, inventory.admits & taken)


def _change_amounts(
    population: Population, inventory: _Inventory, recipe: Recipe, generator: np.random.Generator
) -> PodShapes:
    """The shapes with other sizes of shared devices and other amounts of CPU; their number and classes stay."""
    shapes = population.shapes
    classes = shapes.classes
    milli = shapes.gpu_milli.copy()
    if recipe.size_jitter > 0 and (shared := classes == PART).any():
        sizes, size = np.unique(milli[shared], return_inverse=True)
        changed = sizes * np.exp(recipe.size_jitter * generator.standard_normal(len(sizes)))
        step = recipe.size_step
        steps = np.clip(np.rint(changed / step), 1, (1000 - 1) // step).astype(np.int64)
        milli[shared] = (steps * step)[size.reshape(-1)]
    request = shapes.request.copy()
    request[:, GPU] = shapes.gpu_count * milli
    asked = request[:, CPU]
    wanted = np.where(classes == CPU_ONLY, asked, np.rint(asked * recipe.cpu).astype(np.int64))
    largest = _largest_cpu(population, inventory)
    request[:, CPU] = np.where(asked > 0, np.minimum(np.maximum(wanted, 1), np.maximum(largest, asked)), 0)
    nonzero = shapes.nonzero.copy()
    nonzero[:, CPU] += request[:, CPU] - shapes.request[:, CPU]  # what containers without a request count, stays
    return PodShapes(request, shapes.gpu_count, milli, nonzero, shapes.models)


def _largest_cpu(population: Population, inventory: _Inventory) -> IntArray:
    """CPU of the largest node where each shape fits; (S,) int64, 0 where there is none."""
    allocatable, devices = population.allocatable[inventory.rows], population.devices[inventory.rows]
    kinds, kind = np.unique(np.column_stack([allocatable, devices]), axis=0, return_inverse=True)
    largest = np.zeros(len(population.shapes), np.int64)
    usable = inventory.admits & (population.pod_limit[inventory.rows] > 0)
    for number, (*amounts, gpus) in enumerate(kinds):
        admitted = usable[:, kind.reshape(-1) == number].any(axis=1)
        fits = (population.shapes.request <= amounts).all(axis=1) & (population.shapes.gpu_count <= gpus)
        largest = np.where(admitted & fits, np.maximum(largest, amounts[CPU]), largest)
    return largest


def _draw_pods(
    population: Population, shapes: PodShapes, fitting: BoolArray, recipe: Recipe, generator: np.random.Generator
) -> IntArray:
    """Rows of the population's pods, as many as it has."""
    sizes = np.column_stack([population.shapes.gpu_count, population.shapes.gpu_milli])
    _, size = np.unique(sizes, axis=0, return_inverse=True)
    size = size.reshape(-1)
    tilt = recipe.size_sigma * generator.standard_normal(size.max() + 1)[size]
    tilt = tilt + recipe.shape_sigma * generator.standard_normal(len(shapes))
    weight = (fitting * np.exp(tilt))[population.shape]
    classes = shapes.classes[population.shape]

    known = np.bincount(classes[fitting[population.shape]], minlength=CLASSES)
    demand = population.shapes.request[population.shape, GPU] * fitting[population.shape]
    known_demand = np.bincount(classes, weights=demand, minlength=CLASSES)
    weighed = np.bincount(classes, weights=weight, minlength=CLASSES)
    demand_a_pod = np.bincount(classes, weights=weight * shapes.request[population.shape, GPU], minlength=CLASSES)
    demand_a_pod = demand_a_pod / np.maximum(weighed, np.finfo(float).tiny)
    counts = class_counts(known, known_demand, demand_a_pod, recipe, len(population.shape))
    parts = [
        _resample(np.flatnonzero(classes == number), weight[classes == number], count, recipe.bootstrap, generator)
        for number, count in enumerate(counts)
        if count
    ]
    return np.sort(np.concatenate(parts), kind="stable")


def class_counts(
    known: IntArray, known_demand: FloatArray, demand_a_pod: FloatArray, recipe: Recipe, total: int
) -> IntArray:
    """How many pods of each class a remix has.

    Args:
        known: (4,) int64, how many are known that fit on a node.
        known_demand: (4,) float64, the GPU that these ask for.
        demand_a_pod: (4,) float64, the GPU that a pod of the remix asks for on average.
        recipe: says what share of the GPU demand each class is to have, and how many pods without GPU there are.
        total: how many pods there are to be.

    Returns:
        (4,) int64.

    Example:
        >>> known, demand = np.array([10, 10, 20, 0]), np.array([0.0, 5000.0, 20000.0, 0.0])
        >>> recipe = Recipe(absent=(True, False, False, False))
        >>> class_counts(known, demand, np.array([0.0, 500.0, 1000.0, 0.0]), recipe, 40)
        array([ 0, 13, 27,  0])
    """
    present = known > 0
    remaining = present & ~np.array(recipe.absent)
    if not remaining.any():
        remaining = present
    pods = np.zeros(CLASSES)
    if remaining[PART:].any():
        share = known_demand / max(known_demand.sum(), 1.0)
        share = (1.0 - recipe.class_shift) * share + recipe.class_shift * np.array([0.0, *recipe.class_mix])
        share = np.where(remaining, share, 0.0)
        if share.sum() <= 0:  # what was drawn is all of classes that are not there
            share = np.where(remaining, known_demand, 0.0)
        pods[PART:] = share[PART:] / np.maximum(demand_a_pod[PART:], np.finfo(float).tiny)
    if remaining[CPU_ONLY]:
        ratio = recipe.cpu_only * known[CPU_ONLY] / max(known[PART:].sum(), 1)
        pods[CPU_ONLY] = ratio * pods.sum() if pods.any() else 1.0
    exact = pods / pods.sum() * total
    counts = np.floor(exact).astype(np.int64)
    largest = np.argsort(counts - exact, kind="stable")[: total - counts.sum()]
    counts[largest] += 1
    return counts


def _name_models(
    population: Population,
    inventory: _Inventory,
    shapes: PodShapes,
    drawn: IntArray,
    recipe: Recipe,
    generator: np.random.Generator,
) -> tuple[IntArray, BoolArray]:
    """Let some of the GPU pods insist on GPU models; a pod names only what leaves it a node.

    Returns:
        (P,) int64, the set of models of each pod, and these sets (SPECS + 1, G) bool; the last one is that of all.
    """
    models = len(population.models)
    anything = np.full(len(drawn), SPECS)
    sets = np.ones((SPECS + 1, models), np.bool_)
    devices = np.bincount(inventory.model, weights=population.devices[inventory.rows], minlength=models)
    if recipe.spec_share is None or np.count_nonzero(devices) < 2:
        return anything, sets
    weight = devices / devices.sum()
    for number in range(SPECS):
        named = generator.choice(models, size=1 + (generator.random() < SECOND_MODEL_CHANCE), replace=False, p=weight)
        sets[number] = np.isin(np.arange(models), named)
    frequency = sets[:SPECS] @ weight
    possible = (
        np.stack(
            [
                _fitting(population, inventory._replace(admits=inventory.admits & named[inventory.model]), shapes)
                for named in sets[:SPECS]
            ],
            axis=1,
        )
        & (shapes.gpu_count > 0)[:, None]
    )  # (S, SPECS)
    shape = population.shape[drawn]
    able = np.flatnonzero(possible[shape].any(axis=1))
    wanted = round(recipe.spec_share * int((shapes.gpu_count[shape] > 0).sum()))
    choosing = generator.permutation(able)[:wanted]
    bounds = np.cumsum(possible[shape[choosing]] * frequency, axis=1)
    spec = anything.copy()
    spec[choosing] = (bounds <= generator.random((len(choosing), 1)) * bounds[:, -1:]).sum(axis=1)
    return spec, sets


def _resample(
    rows: IntArray, weight: FloatArray, count: int, bootstrap: bool, generator: np.random.Generator
) -> IntArray:
    """Rows by weight: at random, or each as often as its weight says, but for the rounding (systematic resampling)."""
    share = weight / weight.sum()
    if bootstrap:
        return np.sort(generator.choice(rows, size=count, p=share))
    bounds = np.cumsum(share)
    at = np.searchsorted(bounds, (np.arange(count) + generator.random()) / count * bounds[-1], side="right")
    return rows[np.minimum(at, len(rows) - 1)]
