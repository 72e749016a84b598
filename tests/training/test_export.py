import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from extender.features import SCHEMA_VERSION, feature_names
from extender.policies.base import PolicyError
from extender.policies.onnx import MAX_BYTES, OPTIONAL, OnnxPolicy, PolicyMetadata, load_policy
from extender.typical import typical_arrays
from tests.clusters import typical_of
from training import export
from training.export import IR_VERSION, OPSET, add_evaluation, check_parity, export_policy, weights_digest
from training.networks import NetworkArguments, ScoreNetwork, score_network
from training.workloads.distribution import histogram

RESOURCES = ("cpu", "memory", "gpu", "example.com/licences")
FEATURES = len(feature_names(RESOURCES))
TYPICAL = typical_of((2000, 0, 0, 0.25), (4000, 1, 500, 0.75), (0, 0, 0, 0.0))
DIGEST = "ab" * 32
PATH = re.compile(rb"(?<![\w.-])/(?:root|home|usr|work|tmp|opt|private|Users)\b|site-packages|\.py\b|Traceback")


def network_of(seed: int) -> ScoreNetwork:
    torch.manual_seed(seed)
    network = score_network(FEATURES, NetworkArguments())
    nn.init.orthogonal_(network.score.weight)  # scores that differ visibly
    return network


def export_to(path: Path, network: ScoreNetwork, **further: Any) -> OnnxPolicy:
    return export_policy(
        network,
        path,
        resources=RESOURCES,
        typical=TYPICAL,
        models=("",),
        algorithm="ppo",
        config_digest=DIGEST,
        workload="openb (default)",
        evaluation={"mean_wait_seconds": 12.5},
        **further,
    )


@pytest.fixture(scope="module")
def network() -> ScoreNetwork:
    return network_of(seed=0)


@pytest.fixture(scope="module")
def exported(network, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("export") / "policy.onnx"
    export_to(path, network)
    return path


@pytest.fixture
def model(exported) -> onnx.ModelProto:
    """The exported graph, to be changed."""
    return onnx.load(exported)


def properties(model: onnx.ModelProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in model.metadata_props}


def loaded_with(model: onnx.ModelProto, **changes: str) -> OnnxPolicy:
    onnx.helper.set_model_props(model, properties(model) | changes)
    return OnnxPolicy("changed", model.SerializeToString())


@pytest.mark.parametrize("count", [1, 5, 100, 5000])
@torch.no_grad()
def test_the_file_scores_like_the_network(exported, network, count):
    candidates = np.random.default_rng(count).random((count, FEATURES), np.float32)
    wanted = network(torch.from_numpy(candidates)[None])[0].numpy()
    np.testing.assert_allclose(load_policy(exported).score_features(candidates), wanted, atol=1e-5)


def test_the_file_says_what_it_is(exported):
    metadata = load_policy(exported).metadata
    assert metadata.schema_version == SCHEMA_VERSION
    assert metadata.feature_names == feature_names(RESOURCES)
    assert metadata.resources == RESOURCES
    assert (metadata.algorithm, metadata.config_digest, metadata.workload) == ("ppo", DIGEST, "openb (default)")
    assert metadata.evaluation == {"mean_wait_seconds": 12.5}
    assert metadata.code_version


def test_the_file_says_how_the_pods_of_the_training_were_distributed_if_it_is_told(exported, network, tmp_path):
    known = {"cpu": histogram(np.arange(1000.0)), "gpus": histogram(np.zeros(10))}
    assert load_policy(exported).metadata.trained_on is None
    export_to(tmp_path / "policy.onnx", network, trained_on=known)
    add_evaluation(tmp_path / "policy.onnx", {"later": 1.0})
    assert load_policy(tmp_path / "policy.onnx").metadata.trained_on == known


def test_typical_pods_that_never_occur_are_left_out(exported):
    typical = typical_arrays(load_policy(exported).metadata.typical_pods)
    assert typical.cpu.tolist() == [2000, 4000]
    assert typical.share.tolist() == [0.25, 0.75]


def test_the_digest_is_of_the_weights_in_the_file(exported, model):
    metadata = load_policy(exported).metadata
    assert metadata.weights_sha256 == weights_digest(model)
    weights = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    weights.raw_data = bytes(len(weights.raw_data))
    assert metadata.weights_sha256 != weights_digest(model)


def test_the_format_is_fixed_small_and_in_one_file(exported, model):
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", OPSET)]
    assert model.ir_version == IR_VERSION
    assert exported.stat().st_size < MAX_BYTES / 10
    assert [file.name for file in exported.parent.iterdir()] == ["policy.onnx"]
    assert not any(tensor.external_data for tensor in model.graph.initializer)


def test_the_file_holds_nothing_of_the_machine_it_was_made_on(exported, model):
    content = exported.read_bytes()
    assert PATH.findall(content) == []
    assert str(Path.cwd()).encode() not in content
    assert str(exported.parent).encode() not in content
    assert set(properties(model)) == set(PolicyMetadata.__struct_fields__) - set(OPTIONAL)
    # What is left with a slash between names is a feature or a resource, not a path.
    for text in re.findall(rb"[\w.-]*/[\w./-]+", b" ".join(node.SerializeToString() for node in model.graph.node)):
        assert text.decode() in feature_names(RESOURCES)
    assert not any(node.doc_string or node.metadata_props for node in model.graph.node)


def test_the_same_weights_give_the_same_bytes(exported, network, tmp_path):
    export_to(tmp_path / "policy.onnx", network)
    assert (tmp_path / "policy.onnx").read_bytes() == exported.read_bytes()


def test_other_weights_give_another_file(exported, tmp_path):
    other = export_to(tmp_path / "policy.onnx", network_of(seed=1))
    assert other.metadata.weights_sha256 != load_policy(exported).metadata.weights_sha256


def test_another_networks_scores_are_no_parity(exported):
    other = export._CandidatesOnly(network_of(seed=1)).eval()
    with pytest.raises(ValueError, match=r"differ by .* from the network's at 1 candidates"):
        check_parity(other, load_policy(exported), FEATURES)


def test_a_file_that_scores_otherwise_is_not_written(monkeypatch, network, tmp_path):
    path = tmp_path / "policy.onnx"
    path.write_bytes(b"the policy before")
    monkeypatch.setattr(export, "PARITY_TOLERANCE", -1.0)  # no two networks agree so well
    with pytest.raises(ValueError, match="exported scores differ"):
        export_to(path, network)
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"the policy before"]


def test_another_schema_is_refused(model):
    with pytest.raises(PolicyError, match=f"changed: schema_version is {SCHEMA_VERSION + 1}"):
        loaded_with(model, schema_version=str(SCHEMA_VERSION + 1))


def test_a_renamed_feature_is_refused(model):
    renamed = properties(model)["feature_names"].replace("memory/free-after", "memory/spare")
    with pytest.raises(PolicyError, match=r"feature_names\[4\] is 'memory/spare'.*'memory/free-after'"):
        loaded_with(model, feature_names=renamed)


def test_a_renamed_input_is_refused(model):
    for node in model.graph.node:
        node.input[:] = ["state" if name == "candidates" else name for name in node.input]
    model.graph.input[0].name = "state"
    with pytest.raises(PolicyError, match=r"input is .*'state'.*'candidates'"):
        loaded_with(model)


def test_a_truncated_file_is_refused(exported, tmp_path):
    content = exported.read_bytes()
    for length in (0, len(content) // 2, len(content) - 1):
        (tmp_path / "cut.onnx").write_bytes(content[:length])
        with pytest.raises(PolicyError, match="cut: "):
            load_policy(tmp_path / "cut.onnx")


def test_an_evaluation_is_added_without_touching_the_weights(network, tmp_path):
    path = tmp_path / "policy.onnx"
    before = export_to(path, network)
    after = add_evaluation(path, {"ppo": {"mean_wait_seconds": 3.5}})
    assert OnnxPolicy("policy", path.read_bytes()).metadata == after.metadata
    assert after.metadata.evaluation == {"ppo": {"mean_wait_seconds": 3.5}}
    assert after.metadata.weights_sha256 == before.metadata.weights_sha256 == weights_digest(onnx.load(path))


def test_a_network_too_large_for_a_policy_is_not_written(tmp_path):
    torch.manual_seed(0)
    large = score_network(FEATURES, NetworkArguments(hidden=300))
    with pytest.raises(ValueError, match=r"a policy has at most 1048576; lower network\.hidden"):
        export_to(tmp_path / "policy.onnx", large)
    assert not (tmp_path / "policy.onnx").exists()
