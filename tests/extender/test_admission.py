import pytest

from extender.admission import NAME_FIELD, Constraint, Place, Requirement, Taint, Toleration

NODE = Place("node-1", "T4", {"zone": "x", "disks": "4"}, ())


@pytest.mark.parametrize(
    ("requirement", "holds"),
    [
        (Requirement("zone", "In", ("x", "y")), True),
        (Requirement("zone", "In", ("y",)), False),
        (Requirement("rack", "In", ("x",)), False),
        (Requirement("zone", "NotIn", ("x",)), False),
        (Requirement("rack", "NotIn", ("x",)), True),
        (Requirement("zone", "Exists"), True),
        (Requirement("rack", "Exists"), False),
        (Requirement("rack", "DoesNotExist"), True),
        (Requirement("disks", "Gt", ("3",)), True),
        (Requirement("disks", "Lt", ("4",)), False),
        (Requirement("zone", "Gt", ("3",)), False),
        (Requirement("rack", "Lt", ("3",)), False),
        (Requirement("zone", "Like", ("x",)), False),
        (Requirement(NAME_FIELD, "In", ("node-1",)), True),
    ],
)
def test_a_requirement_holds_as_in_kubernetes(requirement, holds):
    assert Constraint(required=(requirement,)).admits(NODE) is holds


def test_one_group_of_requirements_is_enough():
    wrong, right = Requirement("zone", "In", ("y",)), Requirement("zone", "Exists")
    assert Constraint(any_of=((wrong,), (right,))).admits(NODE)
    assert not Constraint(any_of=((wrong, right),)).admits(NODE)


@pytest.mark.parametrize("any_of", [(), ((),)])
def test_an_empty_group_admits_nothing(any_of):
    assert not Constraint(any_of=any_of).admits(NODE)


def test_a_model_that_the_pod_does_not_name_is_not_admitted():
    assert Constraint(models=frozenset({"T4", "A10"})).admits(NODE)
    assert not Constraint(models=frozenset({"A10"})).admits(NODE)


TAINT = Taint("gpu", "yes", "NoSchedule")


@pytest.mark.parametrize(
    ("toleration", "covers"),
    [
        (Toleration("gpu", "Exists"), True),
        (Toleration("gpu", "Equal", "yes"), True),
        (Toleration("gpu", "", "yes"), True),
        (Toleration("gpu", "Equal", "no"), False),
        (Toleration("gpu", "Exists", effect="NoExecute"), False),
        (Toleration("gpu", "Exists", effect="NoSchedule"), True),
        (Toleration("", "Exists"), True),
        (Toleration("cpu", "Exists"), False),
    ],
)
def test_a_toleration_covers_a_taint_as_in_kubernetes(toleration, covers):
    tainted = Place("node-1", taints=(TAINT,))
    assert Constraint(tolerations=(toleration,)).admits(tainted) is covers


def test_every_taint_has_to_be_tolerated():
    tainted = Place("node-1", taints=(TAINT, Taint("disk", "", "NoExecute")))
    assert not Constraint(tolerations=(Toleration("gpu"),)).admits(tainted)


def test_a_preference_keeps_no_pod_off():
    assert Constraint().admits(Place("node-1", taints=(Taint("gpu", "", "PreferNoSchedule"),)))
