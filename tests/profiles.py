"""Scoring profiles, short by hand or any by Hypothesis."""

from hypothesis import strategies as st

from extender.profile import ResourceSpec, ScoringProfile, UtilizationShapePoint


def weighing(**weights: int) -> ScoringProfile:
    """A profile that weighs these resources."""
    return ScoringProfile(resources=[ResourceSpec(name, weight) for name, weight in weights.items()])


def shaped(*points: tuple[int, int]) -> ScoringProfile:
    """A profile with this shape of RequestedToCapacityRatio."""
    return ScoringProfile(shape=[UtilizationShapePoint(*point) for point in points])


@st.composite
def profiles(draw: st.DrawFn, resources: tuple[str, ...] = ("cpu", "memory", "gpu")) -> ScoringProfile:
    """Any profile for these resources, every other time kube-scheduler's default."""
    if draw(st.booleans()):
        return ScoringProfile()
    some = st.lists(st.sampled_from(resources), min_size=1, unique=True)
    utilizations = sorted(draw(st.sets(st.integers(0, 100), min_size=1, max_size=4)))
    return ScoringProfile(
        resources=[ResourceSpec(name, draw(st.integers(1, 100))) for name in draw(some)],
        shape=[UtilizationShapePoint(utilization, draw(st.integers(0, 10))) for utilization in utilizations],
        balanced_resources=draw(some),
        fit_weight=draw(st.integers(1, 100)),
        balanced_weight=draw(st.integers(1, 100)),
    )
