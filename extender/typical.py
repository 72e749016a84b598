"""The workload's typical pods by name: as a policy file records them, as recent pods show them, as arrays.

Models of GPUs have names here, which mean the same in every cluster; in the arrays of `fragmentation` they have the
numbers of one cluster.
"""

from collections.abc import Sequence

import msgspec
import numpy as np

from extender.fragmentation import TypicalPods

ANY_MODEL = ("",)
COVERAGE = 0.95  # of the pods, by the most frequent of their shapes
AT_MOST = 48  # shapes


class TypicalPodRecord(msgspec.Struct, frozen=True):
    """One typical pod, as the metadata of a policy file hold it; `gpu_models` is empty where any will do."""

    cpu_milli: int
    gpu_count: int
    gpu_milli: int
    share: float
    gpu_models: tuple[str, ...] = ()


Records = tuple[TypicalPodRecord, ...]


def typical_arrays(records: Sequence[TypicalPodRecord], models: Sequence[str] = ANY_MODEL) -> TypicalPods:
    """The typical pods as arrays.

    Args:
        records: what is known of them.
        models: the GPU models of the cluster in the order of their numbers; the empty name stands for nodes whose
            model is not known, which are taken to suit every pod.

    Example:
        >>> typical_arrays([TypicalPodRecord(4000, 1, 500, 1.0, ("A100",))], ("", "T4", "A100")).admits.tolist()
        [[True, False, True]]
    """
    admits = [
        [not record.gpu_models or not model or model in record.gpu_models for model in models] for record in records
    ]
    return TypicalPods(
        np.array([record.cpu_milli for record in records], np.int64),
        np.array([record.gpu_count for record in records], np.int64),
        np.array([record.gpu_milli for record in records], np.int64),
        np.array([record.share for record in records], np.float64),
        np.array(admits, np.bool_).reshape(len(records), len(models)),
    )


def distance(one: Sequence[TypicalPodRecord], other: Sequence[TypicalPodRecord]) -> float:
    """Total variation distance between two estimates: 0 for the same shares, 1 for nothing in common.

    Example:
        >>> half = [TypicalPodRecord(1000, 0, 0, 0.5), TypicalPodRecord(2000, 0, 0, 0.5)]
        >>> distance(half, [TypicalPodRecord(1000, 0, 0, 1.0)])
        0.5
    """
    shares: dict[tuple[int, int, int, tuple[str, ...]], float] = {}
    for sign, records in ((1.0, one), (-1.0, other)):
        for record in records:
            key = (record.cpu_milli, record.gpu_count, record.gpu_milli, record.gpu_models)
            shares[key] = shares.get(key, 0.0) + sign * record.share
    return sum(map(abs, shares.values())) / 2.0
