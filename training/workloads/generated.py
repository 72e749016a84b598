"""A generator whose every property can be set: what if the cluster were like this?

Unlike `synthetic`, which imitates one trace, this one answers questions about kinds of workload: heavier tails, tighter
correlations, more resources, several GPU models, selectors and tainted nodes.

Pods come from templates, as jobs and deployments do: a template fixes the request, the priority and where its pods may
run, some templates are far more frequent than others (Zipf), and pods of one template run for similar times, which is
what makes a history of durations worth having.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated

import numpy as np
import scipy
from pydantic import Field

from extender.admission import Constraint, Place, Requirement, Taint, Toleration
from extender.placement import CPU, GPU, MEMORY, WHOLE_DEVICE_MILLI, IntArray
from training.workloads.arrivals import FloatArray, Rhythm
from training.workloads.assembly import NodeColumns, NodePrices, PodColumns, assemble
from training.workloads.base import BASE_RESOURCES, CPU_AND_MEMORY, RESOURCES_AT_MOST, Population
from training.workloads.constraints import admitted_nodes

GIB = 1024**3
CPU_STEP_MILLI = 100
MEMORY_STEP = 64 * 1024 * 1024
UNITS_PER_NODE = 1000  # of each further resource
UNITS_USUALLY_ASKED = 30.0
NO_GPU, PART, ONE, SEVERAL = range(4)
CHANCE = 0.3  # how much of a template chance has a say in, when classes are filled up to their shares
POOL_LABEL = "example.com/pool"
GPU_TAINT = Taint("nvidia.com/gpu", "", "NoSchedule")


class DurationLaw(StrEnum):
    """How durations are distributed."""

    LOG_NORMAL = "lognormal"
    PARETO = "pareto"


@dataclass
class GeneratorArguments:
    """The cluster and the pods of workload.source=generated."""

    nodes: Annotated[int, Field(ge=1, le=100_000, description="nodes that a workload's nodes are drawn from")] = 1000
    pods: Annotated[int, Field(ge=1, le=1_000_000, description="pods that a workload's pods are drawn from")] = 10_000
    templates: Annotated[int, Field(ge=1, le=10_000, description="distinct kinds of pods")] = 150
    seed: Annotated[int, Field(ge=0, description="of the nodes and templates")] = 0
    node_cores: Annotated[
        list[int], Field(min_length=1, description="CPU cores of a node, each size equally frequent")
    ] = field(default_factory=lambda: [32, 64, 96])
    gib_per_core: Annotated[float, Field(gt=0, le=1024, description="memory of a node by its cores")] = 4.0
    gpu_node_share: Annotated[float, Field(ge=0, le=1, description="nodes with GPUs")] = 0.5
    gpus_per_node: Annotated[
        list[int], Field(min_length=1, description="GPUs of such a node, each number equally frequent")
    ] = field(default_factory=lambda: [2, 4, 8])
    gpu_models: Annotated[list[str], Field(min_length=1, description="GPU models, equally frequent")] = field(
        default_factory=lambda: ["A10", "A100", "T4"]
    )
    gpu_nodes_tainted: Annotated[bool, Field(description="keep pods without GPU off the nodes with GPUs")] = False
    pools: Annotated[int, Field(ge=1, le=1000, description="node pools that pods can select")] = 3
    cores_median: Annotated[float, Field(gt=0, le=1024, description="CPU request of the median pod")] = 2.0
    pod_gib_per_core: Annotated[
        float, Field(ge=0, le=1024, description="memory of the median pod by its cores; 0: as nodes have it")
    ] = 0.0
    request_sigma: Annotated[float, Field(ge=0, le=4, description="spread of requests (of their logarithm)")] = 0.8
    request_correlation: Annotated[
        float, Field(ge=0, le=1, description="of the logarithms of a pod's requests of different resources")
    ] = 0.7
    gpu_pod_share: Annotated[float, Field(ge=0, le=1, description="pods with GPU")] = 0.6
    shared_gpu_share: Annotated[float, Field(ge=0, le=1, description="of these, pods that take part of one")] = 0.5
    several_gpus_share: Annotated[float, Field(ge=0, le=1, description="… and pods that take 2 or more")] = 0.05
    shared_gpu_milli: Annotated[
        list[int],
        Field(min_length=1, description="thousandths that a pod takes of a shared GPU, each equally frequent"),
    ] = field(default_factory=lambda: [50, *range(50, 1000, 50)])
    several_gpus: Annotated[
        list[int],
        Field(description="GPUs of a pod that takes 2 or more, equally frequent; empty: the numbers that nodes have"),
    ] = field(default_factory=list)
    model_selector_share: Annotated[
        float, Field(ge=0, le=1, description="GPU pods that admit one or two of the GPU models only")
    ] = 0.2
    pool_selector_share: Annotated[float, Field(ge=0, le=1, description="pods that select a node pool")] = 0.1
    duration_law: Annotated[str, Field(pattern="^(lognormal|pareto)$", description="how durations are distributed")] = (
        "lognormal"
    )
    duration_median_seconds: Annotated[float, Field(gt=0, le=1e8, description="the median pod runs for so long")] = (
        600.0
    )
    duration_sigma: Annotated[float, Field(ge=0, le=5, description="of a log-normal duration's logarithm")] = 1.5
    duration_tail: Annotated[
        float, Field(gt=0, le=10, description="exponent of a Pareto duration; 2 or less has no variance")
    ] = 1.5
    duration_similarity: Annotated[
        float, Field(ge=0, le=1, description="correlation of the durations of one template's pods")
    ] = 0.5
    priorities: Annotated[list[int], Field(min_length=1, description="priority classes")] = field(
        default_factory=lambda: [0, 1000]
    )
    priority_shares: Annotated[list[float], Field(min_length=1, description="how many pods are in each")] = field(
        default_factory=lambda: [0.5, 0.5]
    )
    gap_variation: Annotated[
        float, Field(gt=0, le=1000, description="process=bursty: squared coefficient of variation of the gaps")
    ] = 4.0
    busiest_hour: Annotated[float, Field(ge=0, lt=24, description="process=diurnal: when most pods arrive")] = 15.0
    day_contrast: Annotated[
        float, Field(ge=1, le=1000, description="process=diurnal: the busiest hour's rate over the quietest's")
    ] = 4.0


def generate_population(
    arguments: GeneratorArguments, resources: int = len(BASE_RESOURCES), prices: NodePrices | None = None
) -> Population:
    """Generate nodes and pods.

    Args:
        arguments: what they are like.
        resources: how many, 2 … 16; 2 is a cluster without GPUs, whose arrays keep an empty GPU column.
        prices: of the nodes.

    Raises:
        ValueError: the number of resources is out of range, or the arguments contradict each other.
    """
    check(arguments, resources)
    generator = np.random.default_rng(arguments.seed)
    with_gpus = resources > CPU_AND_MEMORY
    further = max(resources - len(BASE_RESOURCES), 0)
    nodes, places = generate_nodes(arguments, further, with_gpus, generator)
    frequency = 1.0 / np.arange(1, arguments.templates + 1)
    frequency /= frequency.sum()
    asked = (arguments, nodes, places, frequency, with_gpus)
    request, gpu_count, gpu_milli, constraints = generate_templates(*asked, generator)

    template = generator.choice(arguments.templates, size=arguments.pods, p=frequency)
    shares = np.asarray(arguments.priority_shares)
    priority = generator.choice(arguments.priorities, size=arguments.pods, p=shares / shares.sum())
    of_template, admitted = admitted_nodes(constraints, places)
    names = tuple(f"example.com/resource-{index}" for index in range(len(BASE_RESOURCES) + 1, resources + 1))
    return assemble(
        f"generated ({arguments.duration_law}, seed {arguments.seed}), {arguments.nodes} nodes and {arguments.pods} "
        f"pods of {arguments.templates} templates",
        nodes,
        PodColumns(
            request[template],
            gpu_count[template],
            gpu_milli[template],
            duration=durations(arguments, template, generator),
            priority=priority.astype(np.int64),
            constraint=np.array(of_template)[template],
            admitted=admitted,
        ),
        rhythm=Rhythm(hour_weights(arguments), arguments.gap_variation),
        resources=BASE_RESOURCES + names,
        prices=prices,
    )


def check(arguments: GeneratorArguments, resources: int) -> None:
    """Raise a ValueError where the arguments contradict each other."""
    if not CPU_AND_MEMORY <= resources <= RESOURCES_AT_MOST:
        raise ValueError(f"a cluster has {CPU_AND_MEMORY} to {RESOURCES_AT_MOST} resources, not {resources}")
    if len(arguments.priorities) != len(arguments.priority_shares):
        raise ValueError(
            f"workload.generator.priority_shares has {len(arguments.priority_shares)} numbers for the "
            f"{len(arguments.priorities)} of workload.generator.priorities: expected one for each"
        )
    if min(arguments.priority_shares) < 0 or sum(arguments.priority_shares) <= 0:
        raise ValueError(f"workload.generator.priority_shares={arguments.priority_shares}: expected shares above 0")
    if arguments.shared_gpu_share + arguments.several_gpus_share > 1:
        raise ValueError(
            f"workload.generator.shared_gpu_share={arguments.shared_gpu_share} and several_gpus_share="
            f"{arguments.several_gpus_share} are more than all GPU pods"
        )
    for name in ("node_cores", "gpus_per_node"):
        values = getattr(arguments, name)
        if min(values) < 1 or max(values) > (62 if name == "gpus_per_node" else 4096):
            raise ValueError(f"workload.generator.{name}={values}: expected numbers from 1 on, as machines have them")
    if not all(0 < milli < WHOLE_DEVICE_MILLI for milli in arguments.shared_gpu_milli):
        raise ValueError(
            f"workload.generator.shared_gpu_milli={arguments.shared_gpu_milli}: expected thousandths, 1 to "
            f"{WHOLE_DEVICE_MILLI - 1}"
        )
    if any(count < 2 for count in arguments.several_gpus):
        raise ValueError(f"workload.generator.several_gpus={arguments.several_gpus}: expected numbers from 2 on")
    if "" in arguments.gpu_models or len(set(arguments.gpu_models)) < len(arguments.gpu_models):
        raise ValueError(f"workload.generator.gpu_models={arguments.gpu_models}: expected different names")


def generate_nodes(
    arguments: GeneratorArguments, further: int, with_gpus: bool, generator: np.random.Generator
) -> tuple[NodeColumns, list[Place]]:
    """Nodes of all sizes, in random order, and what constraints look at of each."""
    count = arguments.nodes
    cores = generator.choice(arguments.node_cores, size=count)
    devices = generator.choice(arguments.gpus_per_node, size=count)
    has_gpus = generator.random(count) < arguments.gpu_node_share
    if with_gpus and arguments.gpu_pod_share > 0:
        has_gpus[0] = True  # or a small cluster could be left without any
    devices = np.where(has_gpus & with_gpus, devices, 0)
    models = [
        str(model) if gpus else ""
        for model, gpus in zip(generator.choice(arguments.gpu_models, size=count), devices, strict=True)
    ]
    pools = generator.integers(arguments.pools, size=count)
    allocatable = np.full((count, len(BASE_RESOURCES) + further), UNITS_PER_NODE, dtype=np.int64)
    allocatable[:, CPU] = cores * 1000
    allocatable[:, MEMORY] = (cores * arguments.gib_per_core * GIB).astype(np.int64)
    allocatable[:, GPU] = devices * WHOLE_DEVICE_MILLI
    taints = (GPU_TAINT,) if arguments.gpu_nodes_tainted else ()
    places = [
        Place(f"node-{row:05d}", models[row], {POOL_LABEL: f"pool-{pools[row]}"}, taints if devices[row] else ())
        for row in range(count)
    ]
    return NodeColumns(allocatable, devices.astype(np.int64), models), places


def generate_templates(
    arguments: GeneratorArguments,
    nodes: NodeColumns,
    places: list[Place],
    frequency: FloatArray,
    with_gpus: bool,
    generator: np.random.Generator,
) -> tuple[IntArray, IntArray, IntArray, list[Constraint]]:
    """Request (T, R), GPU count and milli (T,) and constraint of each template.

    Requests are log-normal with equal correlation between every two of CPU, memory, the further resources and the
    amount of GPU. Every template fits on at least one node: it is cut to the size of one that it could be made for.
    """
    count, width = arguments.templates, nodes.allocatable.shape[1]
    common = np.sqrt(arguments.request_correlation) * generator.standard_normal((count, 1))
    normal = common + np.sqrt(1.0 - arguments.request_correlation) * generator.standard_normal((count, width))
    size = np.exp(arguments.request_sigma * normal)
    asking = arguments.gpu_pod_share if with_gpus else 0.0
    part, several = arguments.shared_gpu_share, arguments.several_gpus_share
    kinds = np.array([1.0 - asking, asking * part, asking * (1.0 - part - several), asking * several])
    kind = fill_classes(kinds, frequency, generator)
    gpu_count, gpu_milli = gpu_amounts(arguments, kind, scipy.special.ndtr(normal[:, GPU]))
    selects_pool = fill_classes(either(arguments.pool_selector_share), frequency, generator)
    selects_model = np.zeros(count, np.int64)
    selects_model[kind != NO_GPU] = fill_classes(
        either(arguments.model_selector_share), frequency[kind != NO_GPU], generator
    )

    per_core = arguments.pod_gib_per_core or arguments.gib_per_core
    request = np.empty((count, width), dtype=np.int64)
    constraints = []
    for template in range(count):
        able = np.flatnonzero(nodes.devices >= gpu_count[template])
        if gpu_count[template] == 0 and arguments.gpu_nodes_tainted and (nodes.devices == 0).any():
            able = np.flatnonzero(nodes.devices == 0)
        if len(able) == 0:
            gpu_count[template] = nodes.devices.max()
            able = np.flatnonzero(nodes.devices >= gpu_count[template])
        home = int(generator.choice(able))
        models = frozenset[str]()
        if selects_model[template]:
            models = frozenset({places[home].model, str(generator.choice(arguments.gpu_models))})
        selector = ()
        if selects_pool[template]:
            selector = (Requirement(POOL_LABEL, "In", (places[home].labels[POOL_LABEL],)),)
        tolerates = arguments.gpu_nodes_tainted and (gpu_count[template] > 0 or nodes.devices[home] > 0)
        tolerations = (Toleration(GPU_TAINT.key),) if tolerates else ()
        constraints.append(Constraint(models, selector, None, tolerations))

        cpu = arguments.cores_median * 1000 * size[template, CPU]
        memory = arguments.cores_median * per_core * GIB * size[template, MEMORY]
        request[template] = np.maximum(UNITS_USUALLY_ASKED * size[template], 1)
        request[template, CPU] = max(round(cpu / CPU_STEP_MILLI), 1) * CPU_STEP_MILLI
        request[template, MEMORY] = max(round(memory / MEMORY_STEP), 1) * MEMORY_STEP
        request[template, GPU] = gpu_count[template] * gpu_milli[template]
        request[template] = np.minimum(request[template], nodes.allocatable[home])
    return request, gpu_count, gpu_milli, constraints


def gpu_amounts(arguments: GeneratorArguments, kind: IntArray, size: FloatArray) -> tuple[IntArray, IntArray]:
    """GPU count and milli (T,) of templates.

    Args:
        arguments: what pods are like.
        kind: (T,) int64, `NO_GPU`, `PART`, `ONE` or `SEVERAL`.
        size: (T,) float64 in 0..1, how large a template is among all; the larger, the more it takes.
    """
    usual = [number for number in sorted({*arguments.gpus_per_node}) if number > 1] or [1]
    several = _by_size(arguments.several_gpus or usual, size)
    part = _by_size(arguments.shared_gpu_milli, size)
    count = np.select([kind == NO_GPU, kind == SEVERAL], [0, several], default=1)
    milli = np.select([kind == NO_GPU, kind == PART], [0, part], default=WHOLE_DEVICE_MILLI)
    return count.astype(np.int64), milli.astype(np.int64)


def _by_size(values: list[int], size: FloatArray) -> IntArray:
    """Of values that are equally frequent the larger ones for the larger templates; (T,) int64."""
    ascending = np.sort(np.array(values, np.int64))
    return ascending[np.minimum((size * len(ascending)).astype(np.int64), len(ascending) - 1)]


def either(share: float) -> FloatArray:
    """Shares of those that do not and those that do."""
    return np.array([1.0 - share, share])


def fill_classes(shares: FloatArray, frequency: FloatArray, generator: np.random.Generator) -> IntArray:
    """Give each template a class so that the shares are met by pods, although some templates have far more of them.

    Args:
        shares: (K,) float64, of the pods, summing to 1.
        frequency: (T,) float64, descending.
        generator: decides between classes that lack about equally much.

    Returns:
        (T,) int64.
    """
    chosen = np.zeros(len(frequency), np.int64)
    filled = np.zeros(len(shares))
    for template, (weight, total) in enumerate(zip(frequency, np.cumsum(frequency), strict=True)):
        lacking = shares * total - filled
        lacking += np.where(shares > 0, CHANCE * weight * generator.random(len(shares)), -np.inf)
        chosen[template] = np.argmax(lacking)
        filled[chosen[template]] += weight
    return chosen


def durations(arguments: GeneratorArguments, template: IntArray, generator: np.random.Generator) -> FloatArray:
    """Durations with the asked-for median and law, correlated within each template; (P,) float64 seconds."""
    own = generator.standard_normal(len(template))
    shared = generator.standard_normal(arguments.templates)[template]
    if spread := shared.std():
        shared = (shared - shared.mean()) / spread  # or the few most frequent templates would shift the median
    normal = np.sqrt(1.0 - arguments.duration_similarity) * own + np.sqrt(arguments.duration_similarity) * shared
    if arguments.duration_law == DurationLaw.LOG_NORMAL:
        return arguments.duration_median_seconds * np.exp(arguments.duration_sigma * normal)
    # Pareto by the same quantile: its survival function is (minimum / t) ** tail, one half at the median.
    survival = scipy.special.ndtr(-normal)
    return arguments.duration_median_seconds * (0.5 / survival) ** (1.0 / arguments.duration_tail)


def hour_weights(arguments: GeneratorArguments) -> FloatArray:
    """Relative arrival rate by hour, a cosine around the busiest one; (24,) float64."""
    phase = 2.0 * np.pi * (np.arange(24) + 0.5 - arguments.busiest_hour) / 24.0
    swing = (arguments.day_contrast - 1.0) / (arguments.day_contrast + 1.0)
    return 1.0 + swing * np.cos(phase)
