"""Which policy is served: a file written by training, one that comes with Stowage, or a hand-written rule."""

from collections.abc import Sequence
from typing import NamedTuple

from extender.cluster.requests import BASE_RESOURCES
from extender.policies.base import Policy, PolicyError
from extender.policies.bundled import policy_path
from extender.policies.heuristics import HEURISTICS, NEEDS_TYPICAL_PODS, Heuristic
from extender.policies.onnx import OnnxPolicy, load_policy
from extender.profile import DEFAULT_WEIGHTS, ScoringProfile, weights_of
from extender.settings import HEURISTIC_PREFIX
from extender.typical import ANY_MODEL, Records, typical_arrays


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


class FittedHeuristic(Heuristic):
    """A rule that needs typical pods, with those of a policy file."""

    def __init__(self, name: str, known: Records, models: Sequence[str] = ANY_MODEL) -> None:
        super().__init__(name, typical_arrays(known, models))
        self._known = known

    def for_workload(self, models: Sequence[str], recent: Records = ()) -> "FittedHeuristic":
        """The same rule for nodes with these GPU models and pods like these; see `base.WorkloadAware`."""
        return FittedHeuristic(self.name, recent or self._known, models)


def choose_policy(setting: str, profile: ScoringProfile | None = None) -> ServedPolicy:
    """Load the policy that a setting names: a file, `bundled:NAME`, or `heuristic:NAME`.

    Args:
        setting: file, bundled policy or rule.
        profile: of kube-scheduler's scorings, if it is one of them; its defaults where left out.

    Raises:
        PolicyError: there is no such policy, or the file cannot be served, or the profile.
    """
    if setting.startswith(HEURISTIC_PREFIX):
        heuristic = choose_heuristic(setting.removeprefix(HEURISTIC_PREFIX), profile=profile)
        return ServedPolicy(heuristic.name, setting, BASE_RESOURCES, heuristic)
    loaded = load_policy(policy_path(setting))
    return ServedPolicy(loaded.name, loaded.digest, loaded.resources, loaded)


def choose_heuristic(name: str, served: Policy | None = None, profile: ScoringProfile | None = None) -> Policy:
    """The hand-written rule of that name.

    Args:
        name: of the rule.
        served: the policy beside it; if it is a policy file, its typical pods serve rules that need some.
        profile: of kube-scheduler's scorings; its defaults where left out.

    Raises:
        PolicyError: there is none, or it needs typical pods, or the profile names a resource that is not watched.
    """
    if name in NEEDS_TYPICAL_PODS:
        if isinstance(served, OnnxPolicy) and served.metadata.typical_pods:
            return FittedHeuristic(name, served.metadata.typical_pods)
        raise PolicyError(
            f"the heuristic {name!r} needs the workload's typical pods: expected a policy file that has some"
        )
    if name not in HEURISTICS:
        known = ", ".join(sorted({*HEURISTICS, *NEEDS_TYPICAL_PODS}))
        raise PolicyError(f"no heuristic is named {name!r}: expected one of {known}")
    resources = served.resources if isinstance(served, OnnxPolicy) else BASE_RESOURCES
    try:
        weights = weights_of(profile, resources) if profile is not None else DEFAULT_WEIGHTS
    except ValueError as error:
        raise PolicyError(f"scoring: {error}") from error
    return Heuristic(name, weights=weights)
