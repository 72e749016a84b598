"""The extender's features of candidates, compiled."""

import numpy as np

from extender.features import describe
from extender.placement import Candidates
from training.simulator.compiled import inner, outer
from training.simulator.state import request_of


@outer
def describe_candidates(episode, pod, rows, devices, tables, features):
    """Write the features of each candidate of a pod.

    Args:
        episode: where.
        pod: who.
        rows: (K,) int64, the candidates' nodes.
        devices: (K,) int64, and their devices.
        tables: typical pods.
        features: (K, F) float32, receives the features.
    """
    after = np.empty(episode.cluster.nodes.device_free.shape[1], dtype=np.int64)
    _describe_each(episode, pod, rows, devices, tables, after, features)


@inner
def _describe_each(episode, pod, rows, devices, tables, after, features):
    request = request_of(episode.shapes, episode.pods, pod)
    for index in range(rows.shape[0]):
        candidate = Candidates(rows[index], devices[index])
        describe(episode.cluster.nodes, request, candidate, tables, after, features[index])
