"""How kube-scheduler's own scorings are configured: the part of a scheduler profile that the rules here follow.

A profile is written as in a KubeSchedulerConfiguration, by the names of resources; `weights_of` turns it into numbers
for a cluster's columns, which `policies.heuristics` reads. The simulator's settings and the extender's both hold one,
so the same profile scores alike in both.

Source: NodeResourcesFitArgs, NodeResourcesBalancedAllocationArgs, ResourceSpec and UtilizationShapePoint in
pkg/scheduler/apis/config/types_pluginargs.go and types.go; limits in validation/validation_pluginargs.go there;
defaults in pkg/scheduler/apis/config/v1/defaults.go and default_plugins.go (1.36).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Annotated, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field

SCORE_SCALE = 10  # from MaxCustomPriorityScore, 10, to MaxNodeScore, 100
NO_OTHER_FIELDS = ConfigDict(extra="forbid")
Weight = Annotated[int, Field(ge=1, le=100)]


@dataclass
class ResourceSpec:
    """A resource that counts in a score, and how much."""

    __pydantic_config__: ClassVar[ConfigDict] = NO_OTHER_FIELDS

    name: str
    weight: Weight = 1


@dataclass
class UtilizationShapePoint:
    """A point of RequestedToCapacityRatio's shape: the score at a utilization in %."""

    __pydantic_config__: ClassVar[ConfigDict] = NO_OTHER_FIELDS

    utilization: Annotated[int, Field(ge=0, le=100)]
    score: Annotated[int, Field(ge=0, le=10)]


@dataclass
class ScoringProfile:
    """What kube-scheduler's scorings look at and how much each counts; the defaults are kube-scheduler's."""

    __pydantic_config__: ClassVar[ConfigDict] = NO_OTHER_FIELDS

    resources: Annotated[
        list[ResourceSpec],
        Field(
            min_length=1,
            description="what LeastAllocated, MostAllocated and RequestedToCapacityRatio look at, each {name, weight}, "
            "weights 1 to 100",
        ),
    ] = field(default_factory=lambda: [ResourceSpec("cpu"), ResourceSpec("memory")])
    shape: Annotated[
        list[UtilizationShapePoint],
        Field(
            min_length=1,
            description="of RequestedToCapacityRatio, points {utilization, score} in ascending order, 0 to 100 % and "
            "0 to 10; lines between them, level beyond them",
        ),
    ] = field(default_factory=lambda: [UtilizationShapePoint(0, 0), UtilizationShapePoint(100, 10)])
    balanced_resources: Annotated[
        list[str], Field(min_length=1, description="names of what BalancedAllocation balances")
    ] = field(default_factory=lambda: ["cpu", "memory"])
    fit_weight: Annotated[
        int,
        Field(ge=1, le=100, description="weight of NodeResourcesFit, here LeastAllocated, in kube-scheduler-default"),
    ] = 1
    balanced_weight: Annotated[
        int, Field(ge=1, le=100, description="weight of BalancedAllocation in kube-scheduler-default")
    ] = 1


class ScoringWeights(NamedTuple):
    """A profile in numbers, for a cluster with certain resources.

    Attributes:
        resources: (W,) int64, columns of the resources that are weighed.
        resource_weights: (W,) int64, from 1 on.
        utilization: (P,) int64, in %, ascending.
        score: (P,) int64, 0 .. 100, at these utilizations.
        balanced: (B,) int64, columns of the resources that BalancedAllocation balances.
        fit_weight: of NodeResourcesFit.
        balanced_weight: of BalancedAllocation.
    """

    resources: NDArray[np.int64]
    resource_weights: NDArray[np.int64]
    utilization: NDArray[np.int64]
    score: NDArray[np.int64]
    balanced: NDArray[np.int64]
    fit_weight: int
    balanced_weight: int


def weights_of(profile: ScoringProfile, resources: Sequence[str]) -> ScoringWeights:
    """The profile in numbers.

    Args:
        profile: within the limits of its fields.
        resources: names of the cluster's columns.

    Raises:
        ValueError: the profile names a resource that the cluster does not have or one twice, or its shape does not
            ascend; the message begins with the field.

    Example:
        >>> profile = ScoringProfile(resources=[ResourceSpec("gpu", weight=5), ResourceSpec("cpu")])
        >>> weights = weights_of(profile, ("cpu", "memory", "gpu"))
        >>> weights.resources, weights.resource_weights
        (array([2, 0]), array([5, 1]))
    """
    weighed = [resource.name for resource in profile.resources]
    for setting, names in (("resources", weighed), ("balanced_resources", profile.balanced_resources)):
        if unknown := [name for name in names if name not in resources]:
            raise ValueError(f"{setting}: no resource is named {', '.join(unknown)}; there are {', '.join(resources)}")
        if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
            raise ValueError(f"{setting}: {', '.join(twice)} is named twice")
    for before, after in pairwise(profile.shape):
        if after.utilization <= before.utilization:
            raise ValueError(
                f"shape: utilization {after.utilization} after {before.utilization}, expected ascending order, "
                "each once"
            )
    return ScoringWeights(
        np.array([resources.index(name) for name in weighed], np.int64),
        np.array([resource.weight for resource in profile.resources], np.int64),
        np.array([point.utilization for point in profile.shape], np.int64),
        np.array([SCORE_SCALE * point.score for point in profile.shape], np.int64),
        np.array([resources.index(name) for name in profile.balanced_resources], np.int64),
        profile.fit_weight,
        profile.balanced_weight,
    )


DEFAULT_WEIGHTS = weights_of(ScoringProfile(), ("cpu", "memory"))
"""kube-scheduler's defaults, for any cluster: cpu and memory are its first columns."""
