import pytest

from extender.admission import ANYWHERE, NAME_FIELD, Constraint, Requirement
from extender.cluster.recent import NEW_PODS_BETWEEN, PODS_AT_LEAST, PODS_KEPT, VALUES_AT_MOST, RecentPods
from extender.typical import TypicalPodRecord, distance
from tests.extender.objects import request

PRODUCT = "nvidia.com/gpu.product"


def on(*models: str, operator: str = "In", label: str = PRODUCT) -> Constraint:
    return Constraint(required=(Requirement(label, operator, models),))


def with_nodes(*models: str) -> RecentPods:
    recent = RecentPods()
    for number, model in enumerate(models):
        labels = {"kubernetes.io/hostname": f"node-{number}", "pool": model.lower() or "plain"}
        recent.node_seen(labels | ({PRODUCT: model} if model else {}), model)
    return recent


def fill(recent: RecentPods, count: int, cpu: int, selects: Constraint = ANYWHERE, at: float = 0.0) -> None:
    for number in range(count):
        recent.pod_seen(f"{cpu}-{at}-{number}", at, request(cpu, gpu_count=1, gpu_milli=1000), selects)


def test_nothing_is_said_of_too_few_pods() -> None:
    recent = RecentPods()
    fill(recent, PODS_AT_LEAST - 1, 1000)
    assert recent.typical() == ()
    fill(recent, 1, 2000)
    assert [record.cpu_milli for record in recent.typical()] == [1000]


def test_a_pod_counts_once_however_often_it_is_seen() -> None:
    recent = RecentPods()
    for _ in range(3):
        fill(recent, 150, 1000)
    assert len(recent) == 150


def test_the_estimate_is_the_same_object_while_the_workload_is_the_same() -> None:
    recent = RecentPods()
    fill(recent, PODS_AT_LEAST, 1000)
    first = recent.typical()
    fill(recent, NEW_PODS_BETWEEN, 1000, at=1.0)
    assert recent.typical() is first


def test_the_pods_that_were_created_last_count() -> None:
    recent = RecentPods()
    fill(recent, PODS_KEPT, 1000, at=5.0)
    assert [record.cpu_milli for record in recent.typical()] == [1000]
    fill(recent, PODS_KEPT, 3000, at=4.0)
    assert (len(recent), [record.cpu_milli for record in recent.typical()]) == (PODS_KEPT, [1000])
    fill(recent, PODS_KEPT, 2000, at=6.0)
    assert [record.cpu_milli for record in recent.typical()] == [2000]


def test_pods_of_daemon_sets_are_no_part_of_the_workload() -> None:
    recent = RecentPods()
    fill(recent, 300, 1000, Constraint(any_of=((Requirement(NAME_FIELD, "In", ("node-1",)),),)))
    assert len(recent) == 0


@pytest.mark.parametrize(
    ("selects", "models"),
    [
        (ANYWHERE, ()),
        (on("T4"), ("T4",)),
        (on("T4", "A100"), ("A100", "T4")),
        (on("T4", operator="NotIn"), ("A100", "H100")),
        (on(operator="Exists"), ("A100", "H100", "T4")),
        (on("h100", label="pool"), ("H100",)),
        (on("node-1", label="kubernetes.io/hostname"), ()),  # a label of single nodes
        (on("x", label="unheard-of"), ()),
        (on("3", operator="Gt"), ()),
        (Constraint(any_of=(on("T4").required, on("a100", label="pool").required)), ("A100", "T4")),
        (Constraint(any_of=(on("T4").required, ())), ()),
        (Constraint(required=on("T4", "A100").required, any_of=(on("A100", "H100").required,)), ("A100",)),
    ],
)
def test_what_a_pod_selects_says_which_gpu_models_it_may_run_on(selects: Constraint, models: tuple[str, ...]) -> None:
    recent = with_nodes("", *["T4", "A100", "H100"] * (VALUES_AT_MOST // 3 + 1))
    fill(recent, PODS_AT_LEAST, 1000, selects)
    assert [record.gpu_models for record in recent.typical()] == [models]


def test_workloads_with_nothing_in_common_are_as_far_apart_as_can_be() -> None:
    one, other = (TypicalPodRecord(1000, 1, 500, 1.0, models) for models in (("T4",), ("A100",)))
    assert distance([one], [other]) == 1.0
    assert distance([one], [one]) == 0.0
