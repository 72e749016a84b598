"""The extender's features of candidates, compiled."""

from extender.features import describe
from extender.placement import Candidates
from training.simulator.compiled import inner
from training.simulator.state import request_of


@inner
def describe_each(episode, pod, rows, devices, tables, after, features):
    """Write the features of each candidate of a pod.

    Args:
        episode: where.
        pod: who.
        rows: (K,) int64, the candidates' nodes.
        devices: (K,) int64, and their devices.
        tables: typical pods.
        after: (D,) int64, room to work in.
        features: (K, F) float32, receives the features.
    """
    request = request_of(episode.shapes, episode.pods, pod)
    for index in range(rows.shape[0]):
        candidate = Candidates(rows[index], devices[index])
        describe(episode.cluster.nodes, request, candidate, tables, after, features[index])
