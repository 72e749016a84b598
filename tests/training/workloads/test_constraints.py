from extender.admission import Constraint, Place, Requirement
from training.workloads.constraints import admitted_nodes

NODE = Place("node-1", "T4", {"zone": "x", "disks": "4"}, ())


def test_equal_constraints_are_evaluated_once():
    plain, selecting = Constraint(), Constraint(required=(Requirement("zone", "In", ("x",)),))
    of_pod, mask = admitted_nodes([plain, selecting, plain], [NODE, Place("node-2")])
    assert of_pod == [0, 1, 0]
    assert mask.tolist() == [[True, True], [True, False]]
