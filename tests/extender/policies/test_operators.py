import contextlib

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from extender.policies.base import PolicyError
from extender.policies.bundled import bundled_names, policy_path
from extender.policies.onnx import OnnxPolicy
from extender.policies.operators import ALLOWED, check_operators
from tests.policy_files import policy_file


def changed(change) -> bytes:
    model = onnx.load_from_string(policy_file())
    change(model)
    return model.SerializeToString()


def branch(model: onnx.ModelProto) -> None:
    body = helper.make_graph([], "body", [], [])
    model.graph.node.append(helper.make_node("Identity", ["x"], ["y"], body=body))


def elsewhere(tensor: TensorProto) -> None:
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../../etc/passwd"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param(lambda m: m.graph.node.append(helper.make_node("Loop", [], [])), "'Loop' is not among", id="loop"),
        pytest.param(
            lambda m: m.graph.node.append(helper.make_node("RandomNormal", [], [])), "'RandomNormal'", id="lots"
        ),
        pytest.param(
            lambda m: m.graph.node.append(helper.make_node("Add", [], [], domain="com.microsoft")),
            "of the domain 'com.microsoft'",
            id="another domain",
        ),
        pytest.param(branch, "has a graph inside", id="a graph inside"),
        pytest.param(lambda m: elsewhere(m.graph.initializer[0]), "from another file", id="weights elsewhere"),
        pytest.param(
            lambda m: m.functions.append(
                helper.make_function("mine", "Add", ["a"], ["b"], [], [helper.make_opsetid("", 18)])
            ),
            "functions of its own",
            id="a function",
        ),
        pytest.param(lambda m: m.graph.sparse_initializer.add(), "sparse weights", id="sparse weights"),
    ],
)
def test_what_a_policy_may_not_hold_is_named(change, reason: str) -> None:
    content = changed(change)
    with pytest.raises(PolicyError, match=reason):
        check_operators(content)
    with pytest.raises(PolicyError, match=reason):
        OnnxPolicy("odd", content)


def test_a_constant_inside_a_node_is_looked_at_too() -> None:
    tensor = numpy_helper.from_array(np.zeros(1, np.float32), "c")
    elsewhere(tensor)
    content = changed(lambda m: m.graph.node.append(helper.make_node("Constant", [], ["c"], value=tensor)))
    with pytest.raises(PolicyError, match="from another file"):
        check_operators(content)


@pytest.mark.parametrize("name", bundled_names())
def test_bundled_policies_pass(name: str) -> None:
    check_operators(policy_path(f"bundled:{name}").read_bytes())


def test_the_list_names_operators_of_onnx_without_graphs_inside() -> None:
    schemas = {schema.name: schema for schema in onnx.defs.get_all_schemas() if schema.domain == ""}
    assert schemas.keys() | {"Swish", "RMSNormalization"} >= ALLOWED
    graph = onnx.defs.OpSchema.AttrType.GRAPH
    for name in ALLOWED & schemas.keys():
        assert all(attribute.type != graph for attribute in schemas[name].attributes.values()), name
        assert "Random" not in name


@given(st.data())
def test_any_damage_is_refused_or_harmless(data: st.DataObject) -> None:
    content = bytearray(policy_file())
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    del content[data.draw(st.integers(0, len(content))) :]
    with contextlib.suppress(PolicyError):
        check_operators(bytes(content))
