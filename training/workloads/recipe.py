"""What a remix changes of a population, and how far: drawn from the ranges of `RemixArguments`.

Shares of pod classes are shares of the *GPU demand*, as in the openb mixes that vary them (a pod of eight GPUs counts
eight times); pods without GPU are counted against pods with one. `remix` carries a recipe out.
"""

from dataclasses import dataclass
from typing import Annotated, NamedTuple

import numpy as np
from pydantic import Field

CLASSES = 4  # see base.shape_classes
CPU_ONLY, PART, ONE, SEVERAL = range(CLASSES)
SIZE_STEPS = (10, 50, 100, 125, 250)  # sizes of shared pods are multiples: what people type, or quarters of a device
CONCENTRATION = 0.5  # of the Dirichlet: below 1, mixes in which one class prevails are the most frequent


@dataclass
class RemixArguments:
    """How far a remixed population may depart from the one it is made from; each range is drawn from anew."""

    as_is_chance: Annotated[
        float, Field(ge=0, le=1, description="each of the following is left as it is in this share of the remixes")
    ] = 0.25
    bootstrap: Annotated[
        bool, Field(description="draw pods and nodes at random with replacement; else as often as they weigh")
    ] = True
    class_shift: Annotated[
        float,
        Field(ge=0, le=1, description="how far the GPU demand moves to a random mix of pod classes; 0: stays"),
    ] = 1.0
    several_at_most: Annotated[
        float, Field(ge=0, le=1, description="… whose share of pods with several GPUs is at most this")
    ] = 0.6
    absent_chance: Annotated[float, Field(ge=0, le=1, description="… and each class is left out with this chance")] = (
        0.1
    )
    cpu_only_factor: Annotated[
        float, Field(ge=1, le=100, description="up to so many times more or fewer pods without GPU; 1: as many")
    ] = 4.0
    size_sigma: Annotated[
        float, Field(ge=0, le=4, description="spread of the factors by which GPU sizes become more or less frequent")
    ] = 1.0
    shape_sigma: Annotated[float, Field(ge=0, le=4, description="… and by which single pod shapes do")] = 1.0
    size_jitter: Annotated[
        float, Field(ge=0, le=2, description="spread of the factors by which sizes of shared pods change; 0: they stay")
    ] = 0.4
    cpu_factor: Annotated[
        float, Field(ge=1, le=10, description="pods with GPU ask for up to so many times more or less CPU; 1: as much")
    ] = 1.6
    spec_share: Annotated[
        float, Field(ge=0, le=1, description="up to this share of the GPU pods name GPU models; 0: as they do")
    ] = 0.5
    node_sigma: Annotated[
        float,
        Field(ge=0, le=4, description="spread of the factors by which kinds of nodes become more or less frequent"),
    ] = 1.0
    relabel_chance: Annotated[
        float, Field(ge=0, le=1, description="the GPU models are dealt out anew to the kinds of nodes; 0: never")
    ] = 0.25


class Recipe(NamedTuple):
    """What one remix changes; the defaults change nothing.

    Attributes:
        bootstrap: whether pods and nodes are drawn at random.
        class_shift: 0 leaves the classes' shares of the GPU demand as they are, 1 makes them `class_mix`.
        class_mix: shares of `PART`, `ONE` and `SEVERAL`.
        absent: whether each of the four classes is left out, where another remains.
        cpu_only: factor of the number of pods without GPU, against those with one.
        size_sigma: standard deviation of the logarithm of the weight of a (GPU count, milli).
        shape_sigma: the same of a single shape.
        size_jitter: the same of the factor that changes a shared size.
        size_step: thousandths of which shared sizes are multiples after such a change.
        cpu: factor of the CPU that pods with GPU ask for.
        spec_share: share of the GPU pods that name GPU models; None leaves them as they are.
        node_sigma: standard deviation of the logarithm of the weight of a kind of nodes.
        relabel: whether the GPU models are dealt out anew.
    """

    bootstrap: bool = False
    class_shift: float = 0.0
    class_mix: tuple[float, float, float] = (0.0, 1.0, 0.0)
    absent: tuple[bool, bool, bool, bool] = (False, False, False, False)
    cpu_only: float = 1.0
    size_sigma: float = 0.0
    shape_sigma: float = 0.0
    size_jitter: float = 0.0
    size_step: int = SIZE_STEPS[0]
    cpu: float = 1.0
    spec_share: float | None = None
    node_sigma: float = 0.0
    relabel: bool = False


def draw_recipe(arguments: RemixArguments, generator: np.random.Generator) -> Recipe:
    """Draw what a remix changes, and how far."""

    def changes() -> bool:
        return bool(generator.random() >= arguments.as_is_chance)

    def up_to(most: float) -> float:
        return float(generator.uniform(0.0, most)) if changes() else 0.0

    def factor(most: float) -> float:
        return float(np.exp(generator.uniform(-1.0, 1.0) * np.log(most))) if changes() else 1.0

    part, one, several = generator.dirichlet([CONCENTRATION] * 3)
    kept = min(several, arguments.several_at_most)
    rest = (1.0 - kept) / max(part + one, np.finfo(float).tiny)
    absent = generator.random(CLASSES) < arguments.absent_chance * changes()
    absent[ONE] &= not absent[PART]  # a cluster for pods with several GPUs alone is none that anybody schedules
    return Recipe(
        bootstrap=arguments.bootstrap,
        class_shift=up_to(arguments.class_shift),
        class_mix=(float(part * rest), float(one * rest), float(kept)),
        absent=(bool(absent[0]), bool(absent[1]), bool(absent[2]), bool(absent[3])),
        cpu_only=factor(arguments.cpu_only_factor),
        size_sigma=up_to(arguments.size_sigma),
        shape_sigma=up_to(arguments.shape_sigma),
        size_jitter=up_to(arguments.size_jitter),
        size_step=int(generator.choice(SIZE_STEPS)),
        cpu=factor(arguments.cpu_factor),
        spec_share=up_to(arguments.spec_share) if arguments.spec_share > 0 and changes() else None,
        node_sigma=up_to(arguments.node_sigma),
        relabel=bool(generator.random() < arguments.relabel_chance),
    )
