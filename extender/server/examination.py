"""What a policy file has to show before it has a say: it loads, and scores in time what was asked about lately.

`rollout` looks so at what is to take over, `candidate` at what is to be tried beside the policy in service.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from extender.decision import rank
from extender.placement import IntArray, NodeArrays, PodRequest
from extender.policies.base import Policy, PolicyError
from extender.policies.onnx import OnnxPolicy, load_policy, score_in_time
from extender.policies.raters import candidates_on
from extender.policies.worker import Worker
from extender.server.background import rest_after
from extender.server.policy import ServedPolicy
from extender.server.scoring import Scorer


class Seen(NamedTuple):
    """What tells a file from the one that was there before; a mounted ConfigMap is a link that is replaced."""

    changed: int
    inode: int
    size: int


def look(path: Path | None) -> Seen | None:
    """What is there; None if nothing is, or it cannot be seen."""
    try:
        status = path.stat() if path is not None else None
    except (OSError, ValueError):  # ValueError: a name that no file can have
        return None
    return None if status is None else Seen(status.st_mtime_ns, status.st_ino, status.st_size)


def examine(
    path: Path,
    scorer: Scorer,
    in_service: Policy,
    sample: tuple[NodeArrays, Sequence[tuple[PodRequest, IntArray]]],
    score_seconds: float,
) -> tuple[ServedPolicy, float | None]:
    """Load a file and let it score; in a thread.

    Args:
        path: of the file.
        scorer: what it is for.
        in_service: the policy that it is compared with.
        sample: of `Scorer.sample`.
        score_seconds: how long each pod may take.

    Returns:
        the policy, and the share of these pods that it would send where the one in service does.

    Raises:
        PolicyError: it cannot be served.
    """
    nodes, asked = sample
    loaded = load_policy(path)
    if loaded.resources != scorer.resources:
        raise PolicyError(
            f"{path}: scores by {', '.join(loaded.resources)}, but nodes are watched for "
            f"{', '.join(scorer.resources)}: restart to change that"
        )
    worker = Worker("examine")
    bound = loaded.for_workload(scorer.models, scorer.recent)
    if isinstance(in_service, OnnxPolicy):
        in_service = in_service.for_workload(scorer.models, scorer.recent)
    same, compared = 0, 0
    try:
        for pod, rows in asked:
            began = time.perf_counter()
            candidates = candidates_on(nodes, pod, rows)
            if len(candidates.rows) == 0:
                continue
            inputs = bound.inputs(nodes, pod, candidates)
            until = time.perf_counter() + score_seconds
            best = rank(score_in_time(bound, inputs, worker, until), candidates).rows[0]
            same += int(best == rank(in_service.scores(nodes, pod, candidates), candidates).rows[0])
            compared += 1
            rest_after(began)
    except PolicyError as error:
        raise PolicyError(f"{path}: {error}, on what was asked about lately") from error
    except Exception as error:  # ONNX Runtime's exceptions have no common base but Exception
        raise PolicyError(f"{path}: {type(error).__name__}: {error}, on what was asked about lately") from error
    finally:
        worker.stop()
    return ServedPolicy(loaded.name, loaded.digest, loaded.resources, loaded), same / compared if compared else None
