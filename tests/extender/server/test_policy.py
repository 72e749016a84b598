import hashlib
from pathlib import Path

import pytest

from extender.policies.base import PolicyError
from extender.server.policy import choose_policy
from tests.extender.objects import cluster_list, extender_args, node, pod
from tests.extender.server.process import serve
from tests.policy_files import policy_file


def test_a_file_is_known_by_its_digest_and_resources(tmp_path: Path) -> None:
    path = tmp_path / "trained.onnx"
    path.write_bytes(policy_file())

    served = choose_policy(str(path))

    assert (served.name, served.resources) == ("trained", ("cpu", "memory", "gpu"))
    assert served.digest == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_rule_is_known_by_its_name() -> None:
    assert choose_policy("heuristic:best-fit").digest == "heuristic:best-fit"


def test_a_rule_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(PolicyError, match="no heuristic is named 'best': expected one of best-fit"):
        choose_policy("heuristic:best")


def test_a_policy_file_is_served(tmp_path: Path) -> None:
    path = tmp_path / "trained.onnx"
    path.write_bytes(policy_file())
    with serve(cluster_list(node("n"), node("m", cpu="4")), tmp_path, policy=str(path)) as extender:
        answer = extender.ask("POST", "/prioritize", extender_args(pod("p", {"cpu": "1"}), ["n", "m"])).json()

        assert sorted(each["Host"] for each in answer) == ["m", "n"]
        assert extender.count("stowage_decisions_total", rung="policy") == 1
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert extender.count("stowage_policy_info", name="trained", digest=digest) == 1
