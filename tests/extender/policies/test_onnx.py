import hashlib
import threading

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto

from extender.features import SCHEMA_VERSION, feature_names, placement_features
from extender.fragmentation import fragmentation_tables
from extender.placement import list_candidates
from extender.policies.base import PolicyError
from extender.policies.onnx import MAX_BYTES, OPTIONAL, FeatureHistogram, OnnxPolicy, PolicyMetadata, load_policy
from extender.typical import TypicalPodRecord, typical_arrays
from tests.clusters import clusters, pods
from tests.policy_files import FEATURES, RESOURCES, metadata_of, policy_file

PLENTY = 1000


def properties_with(**changes: object) -> dict[str, str]:
    return metadata_of(**changes).to_properties()


@given(st.integers(1, 600))
def test_any_number_of_candidates_is_scored(count):
    policy = OnnxPolicy("sum", policy_file())
    features = np.random.default_rng(count).random((count, FEATURES), np.float32)
    np.testing.assert_allclose(policy.score_features(features), features.sum(axis=1), rtol=1e-5)


@given(nodes=clusters(), pod=pods())
def test_scores_are_of_the_features_measured_with_the_files_own_typical_pods(nodes, pod):
    weights = np.random.default_rng(0).random(FEATURES, np.float32)
    policy = OnnxPolicy("weighted", policy_file(weights))
    candidates = list_candidates(nodes, pod, np.arange(len(nodes.allocatable)), PLENTY)
    features = placement_features(
        nodes, pod, candidates, fragmentation_tables(typical_arrays(policy.metadata.typical_pods))
    )
    np.testing.assert_allclose(policy.scores(nodes, pod, candidates), features @ weights, atol=1e-4)


def test_metadata_come_back_as_they_were_written():
    policy = OnnxPolicy("sum", policy_file())
    assert policy.metadata == metadata_of()
    assert policy.resources == RESOURCES


def test_a_file_need_not_say_what_its_training_looked_like_but_what_it_says_has_to_be_readable():
    without = properties_with()
    assert "trained_on" not in without
    assert OnnxPolicy("older", policy_file(properties=without)).metadata.trained_on is None
    known = {"cpu": FeatureHistogram((1.0, 2.0), (0.25, 0.5, 0.25), 100)}
    told = OnnxPolicy("told", policy_file(properties=properties_with(trained_on=known)))
    assert told.metadata.trained_on == known
    with pytest.raises(PolicyError, match="metadata cannot be read"):
        OnnxPolicy("odd", policy_file(properties=without | {"trained_on": '{"cpu": 1}'}))


def test_typical_pods_come_as_arrays_in_the_files_order():
    typical = typical_arrays(metadata_of().typical_pods)
    assert typical.cpu.tolist() == [4000, 2000]
    assert typical.gpu_count.tolist() == [1, 0]
    assert typical.gpu_milli.tolist() == [500, 0]
    assert typical.share.tolist() == [0.75, 0.25]


def typical_on(*models: str) -> list[list[bool]]:
    """Which of these GPU models admit each of three typical pods: one for any, one for A100, one for A100 or T4."""
    records = tuple(TypicalPodRecord(1000, 1, 500, 1 / 3, gpu_models) for gpu_models in ((), ("A100",), ("A100", "T4")))
    admits: list[list[bool]] = typical_arrays(records, models).admits.tolist()
    return admits


def test_typical_pods_are_admitted_by_the_gpu_models_that_they_name():
    assert typical_on("A100", "T4", "V100") == [[True, True, True], [True, False, False], [True, True, False]]


def test_a_node_whose_gpu_model_is_not_known_suits_every_typical_pod():
    assert typical_on("", "V100") == [[True, True], [True, False], [True, False]]


@given(nodes=clusters(models=3), pod=pods())
def test_a_policy_told_of_the_gpu_models_measures_typical_pods_against_them(nodes, pod):
    records = tuple(TypicalPodRecord(1000, 1, 500, 1 / 3, gpu_models) for gpu_models in ((), ("A100",), ("A100", "T4")))
    properties = metadata_of(typical_pods=records).to_properties()
    policy = OnnxPolicy("weighted", policy_file(np.random.default_rng(0).random(FEATURES), properties=properties))
    models = ("", "T4", "A100")
    candidates = list_candidates(nodes, pod, np.arange(len(nodes.allocatable)), PLENTY)
    tables = fragmentation_tables(typical_arrays(policy.metadata.typical_pods, models))
    wanted = policy.score_features(placement_features(nodes, pod, candidates, tables))
    np.testing.assert_array_equal(policy.for_workload(models).scores(nodes, pod, candidates), wanted)


def test_telling_a_policy_of_gpu_models_leaves_it_as_it_was():
    policy = OnnxPolicy("sum", policy_file())
    bound = policy.for_workload(("", "T4"))
    assert (policy.tables.served.shape[0], bound.tables.served.shape[0]) == (1, 2)
    assert (bound.name, bound.digest) == (policy.name, policy.digest)


def test_without_named_gpu_models_every_typical_pod_is_admitted():
    records = (TypicalPodRecord(1000, 1, 500, 1.0, ("A100",)),)
    assert typical_arrays(records).admits.tolist() == [[True]]


def test_a_policy_without_typical_pods_still_knows_the_number_of_gpu_models():
    assert typical_arrays((), ("", "T4")).admits.shape == (0, 2)


def test_metadata_written_before_gpu_models_were_recorded_can_be_read():
    properties = properties_with()
    without_models = '[{"cpu_milli": 4000, "gpu_count": 1, "gpu_milli": 500, "share": 1.0}]'
    read = PolicyMetadata.from_properties({**properties, "typical_pods": without_models})
    assert read.typical_pods == (TypicalPodRecord(4000, 1, 500, 1.0),)


def test_the_gpu_models_of_typical_pods_come_back_as_they_were_written():
    metadata = metadata_of(typical_pods=(TypicalPodRecord(4000, 1, 500, 1.0, ("A100", "T4")),))
    assert PolicyMetadata.from_properties(metadata.to_properties()) == metadata


def test_a_policy_is_known_by_its_file(tmp_path):
    content = policy_file()
    path = tmp_path / "night.onnx"
    path.write_bytes(content)
    policy = load_policy(path)
    assert (policy.name, policy.digest) == ("night", hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize(
    ("properties", "message"),
    [
        (
            properties_with(schema_version=SCHEMA_VERSION + 1),
            f"schema_version is {SCHEMA_VERSION + 1}, .* {SCHEMA_VERSION}",
        ),
        (
            properties_with(feature_names=(*feature_names(RESOURCES)[:4], "memory/age", *feature_names(RESOURCES)[5:])),
            r"feature_names\[4\] is 'memory/age', .* 'memory/free-after'",
        ),
        (
            properties_with(feature_names=feature_names(RESOURCES)[:-1]),
            f"feature_names has {FEATURES - 1} .* {FEATURES}",
        ),
        (properties_with(resources=(*RESOURCES, "licences")), r"feature_names\[9\] is 'node/whole-devices-before'"),
        ({}, "metadata lack schema_version, feature_names.*training.run"),
        ({**properties_with(), "schema_version": '"one"'}, r"Expected `int`, got `str` - at `\$\.schema_version`"),
        ({**properties_with(), "typical_pods": "{"}, "metadata cannot be read"),
    ],
    ids=["schema", "feature-renamed", "feature-missing", "resource-added", "none", "wrong-type", "no-json"],
)
def test_other_metadata_are_refused_with_the_field_that_differs(properties, message):
    with pytest.raises(PolicyError, match=f"^foreign: .*{message}"):
        OnnxPolicy("foreign", policy_file(properties=properties))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input_name": "state"}, "input is .*'state'.*'candidates'"),
        ({"output_name": "logits"}, "output is .*'logits'.*'scores'"),
        ({"squeeze": False}, r"output is .*expected .* 1 dimension"),
        ({"element": TensorProto.DOUBLE}, r"input is .*tensor\(double\).*float"),
        ({"weights": np.ones(FEATURES - 1)}, f"input has {FEATURES - 1} columns, expected {FEATURES}"),
        ({"rows": 7}, "cannot score 1 candidates"),
        ({"weights": np.full(FEATURES, np.nan)}, r"1 candidates got \[nan\], expected 1 finite"),
    ],
    ids=["input-name", "output-name", "output-rank", "element-type", "columns", "fixed-rows", "not-a-number"],
)
def test_another_graph_is_refused_with_what_differs(changes, message):
    with pytest.raises(PolicyError, match=f"^foreign: .*{message}"):
        OnnxPolicy("foreign", policy_file(**changes))


@pytest.mark.parametrize("resources", [("memory", "cpu", "gpu"), ("cpu", "memory")])
def test_resources_in_another_order_are_refused(resources):
    names = feature_names(resources)
    properties = properties_with(resources=resources, feature_names=names)
    with pytest.raises(PolicyError, match=r"resources are .* expected .*'cpu', 'memory', 'gpu'"):
        OnnxPolicy("foreign", policy_file(np.ones(len(names)), properties=properties))


@pytest.mark.parametrize("content", [b"", b"garbage", policy_file()[:-1], policy_file()[: len(policy_file()) // 2]])
def test_what_is_no_graph_is_refused(content):
    with pytest.raises(PolicyError, match="foreign: not a graph"):
        OnnxPolicy("foreign", content)


def test_weights_beside_the_file_are_refused():
    model = onnx.load_from_string(policy_file())
    weights = model.graph.initializer[0]
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="/etc/hostname")
    with pytest.raises(PolicyError, match=r"foreign: .* weights from another file"):
        OnnxPolicy("foreign", model.SerializeToString())


def test_a_file_beyond_the_limit_is_refused_unread(tmp_path):
    path = tmp_path / "large.onnx"
    path.write_bytes(b"\0" * (MAX_BYTES + 1))
    with pytest.raises(PolicyError, match=f"{MAX_BYTES + 1} bytes, .* at most {MAX_BYTES}"):
        load_policy(path)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(PolicyError, match=r"absent\.onnx: cannot be read: No such file"):
        load_policy(tmp_path / "absent.onnx")


def test_every_metadata_field_is_needed():
    for field in set(PolicyMetadata.__struct_fields__) - set(OPTIONAL):
        properties = properties_with()
        del properties[field]
        with pytest.raises(PolicyError, match=f"metadata lack {field};"):
            PolicyMetadata.from_properties(properties)


def test_a_policy_that_is_loaded_leaves_no_thread_behind() -> None:
    OnnxPolicy("sum", policy_file())
    for thread in threading.enumerate():
        if thread.name == "warm-up":
            thread.join(10.0)
    assert "warm-up" not in [thread.name for thread in threading.enumerate()]
