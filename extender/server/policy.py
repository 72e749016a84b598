"""Which policy is served: a file written by training, or a hand-written rule."""

from pathlib import Path
from typing import NamedTuple

from extender.cluster.requests import BASE_RESOURCES
from extender.policies.base import Policy, PolicyError
from extender.policies.heuristics import HEURISTICS
from extender.policies.onnx import load_policy
from extender.settings import HEURISTIC_PREFIX


class ServedPolicy(NamedTuple):
    """A policy and what it is known by.

    Attributes:
        name: for people.
        digest: SHA-256 of the file; "heuristic:NAME" for a rule.
        resources: names of the resources it sees, in the order of the columns.
        policy: what scores.
    """

    name: str
    digest: str
    resources: tuple[str, ...]
    policy: Policy


def choose_policy(setting: str) -> ServedPolicy:
    """Load the policy that a setting names: a file, or `heuristic:NAME`.

    Raises:
        PolicyError: there is no such policy, or the file cannot be served.
    """
    if setting.startswith(HEURISTIC_PREFIX):
        heuristic = choose_heuristic(setting.removeprefix(HEURISTIC_PREFIX))
        return ServedPolicy(heuristic.name, setting, BASE_RESOURCES, heuristic)
    loaded = load_policy(Path(setting))
    return ServedPolicy(loaded.name, loaded.digest, loaded.resources, loaded)


def choose_heuristic(name: str) -> Policy:
    """The hand-written rule of that name.

    Raises:
        PolicyError: there is none.
    """
    if name not in HEURISTICS:
        raise PolicyError(f"no heuristic is named {name!r}: expected one of {', '.join(sorted(HEURISTICS))}")
    return HEURISTICS[name]
