import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from extender.placement import Candidates
from extender.policies.base import PolicyError, WorkloadAware
from extender.policies.heuristics import Heuristic
from extender.policies.onnx import OnnxPolicy
from extender.server.policy import choose_heuristic, choose_policy
from extender.typical import TypicalPodRecord, typical_arrays
from tests.clusters import GIB, Node, cluster_of, pod_of
from tests.extender.objects import cluster_list, extender_args, node, pod
from tests.extender.server.process import serve
from tests.policy_files import FEATURES, metadata_of, policy_file
from tests.profiles import weighing


def test_a_file_is_known_by_its_digest_and_resources(tmp_path: Path) -> None:
    path = tmp_path / "trained.onnx"
    path.write_bytes(policy_file())

    served = choose_policy(str(path))

    assert (served.name, served.resources) == ("trained", ("cpu", "memory", "gpu"))
    assert served.digest == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_rule_is_known_by_its_name() -> None:
    assert choose_policy("heuristic:best-fit").digest == "heuristic:best-fit"


def test_a_rule_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(PolicyError, match=r"no heuristic is named 'best': expected one of .*\bbest-fit,"):
        choose_policy("heuristic:best")


def test_fgd_takes_the_typical_pods_of_the_policy_file_for_the_clusters_gpu_models() -> None:
    records = (TypicalPodRecord(1000, 1, 1000, 0.5, ("A100",)), TypicalPodRecord(1000, 1, 500, 0.5))
    served = OnnxPolicy("trained", policy_file(properties=metadata_of(typical_pods=records).to_properties()))
    nodes = cluster_of(Node(8000, GIB, (1000, 500), model=1), Node(8000, GIB, (1000, 500), model=2))
    pod, everywhere = pod_of(1000, 0, 1, 500), Candidates(np.arange(2), np.zeros(2, np.int64))

    fallback = choose_heuristic("fgd", served)
    assert isinstance(fallback, WorkloadAware)
    scores = fallback.for_workload(("", "T4", "A100")).scores(nodes, pod, everywhere)

    typical = typical_arrays(served.metadata.typical_pods, ("", "T4", "A100"))
    assert scores.tolist() == Heuristic("fgd", typical).scores(nodes, pod, everywhere).tolist()
    assert scores[0] != scores[1]  # breaking a whole device matters on an A100 only, where whole ones are wanted


@pytest.mark.parametrize("served", [None, OnnxPolicy("trained", policy_file())])
def test_a_rule_is_configured_by_the_scoring_profile(served: OnnxPolicy | None) -> None:
    # Of CPU half is in use on the first node, of GPUs half on the second; so it depends on which of them counts.
    nodes = cluster_of(Node(8000, GIB, (1000,), cpu_used=4000), Node(8000, GIB, (500,)))
    pod, everywhere = pod_of(1000, 0, 1, 500), Candidates(np.arange(2), np.zeros(2, np.int64))
    for name in ("cpu", "gpu"):
        rule = choose_heuristic("most-allocated", served, weighing(**{name: 1}))
        assert rule.scores(nodes, pod, everywhere).argmax() == ["cpu", "gpu"].index(name)


@pytest.mark.parametrize("name", ["trained", "rule"])
def test_fgd_without_typical_pods_is_refused(name: str) -> None:
    empty = OnnxPolicy("trained", policy_file(properties=metadata_of(typical_pods=()).to_properties()))
    served = {"trained": empty, "rule": choose_heuristic("best-fit")}[name]
    with pytest.raises(PolicyError, match="'fgd' needs the workload's typical pods: expected a policy file"):
        choose_heuristic("fgd", served)


def test_a_policy_file_is_served(tmp_path: Path) -> None:
    path = tmp_path / "trained.onnx"
    path.write_bytes(policy_file())
    with serve(cluster_list(node("n"), node("m", cpu="4")), tmp_path, policy=str(path)) as extender:
        answer = extender.ask("POST", "/prioritize", extender_args(pod("p", {"cpu": "1"}), ["n", "m"])).json()

        assert sorted(each["Host"] for each in answer) == ["m", "n"]
        assert extender.count("stowage_decisions_total", rung="policy") == 1
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert extender.count("stowage_policy_info", name="trained", digest=digest) == 1


def file_that_fails_on_real_features() -> bytes:
    """A graph that looks up what its features point at: there is an entry for zeros only, as in a warm-up."""
    nodes = [
        helper.make_node("MatMul", ["candidates", "weights"], ["column"]),
        helper.make_node("Squeeze", ["column", "axis"], ["sums"]),
        helper.make_node("Cast", ["sums"], ["places"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "places"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "look-up",
        [helper.make_tensor_value_info("candidates", TensorProto.FLOAT, ["N", FEATURES])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N"])],
        [
            numpy_helper.from_array(np.full((FEATURES, 1), 1000.0, np.float32), "weights"),
            numpy_helper.from_array(np.array([1]), "axis"),
            numpy_helper.from_array(np.zeros(1, np.float32), "table"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, metadata_of().to_properties())
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


def test_a_file_that_fails_when_it_is_asked_costs_no_pod_its_ranking(tmp_path: Path) -> None:
    path = tmp_path / "fails.onnx"
    path.write_bytes(file_that_fails_on_real_features())
    with serve(cluster_list(node("n"), node("m", cpu="4")), tmp_path, policy=str(path)) as extender:
        answer = extender.ask("POST", "/prioritize", extender_args(pod("p", {"cpu": "1"}), ["n", "m"]))

        assert answer.json() == [{"Host": "n", "Score": 10}, {"Host": "m", "Score": 9}]
        assert extender.count("stowage_decisions_total", rung="heuristic") == 1
        assert extender.count("stowage_policy_failures_total", rung="policy") == 1
