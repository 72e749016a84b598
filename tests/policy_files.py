"""Policy files for tests, made without training: a graph that weighs the features, with metadata to go with it.

`trap_file` makes some that load like any other and go wrong on real nodes only.
"""

from typing import Literal

import msgspec
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from extender.features import SCHEMA_VERSION, feature_names
from extender.policies.onnx import PolicyMetadata
from extender.typical import TypicalPodRecord

RESOURCES = ("cpu", "memory", "gpu")
FEATURES = len(feature_names(RESOURCES))


def metadata_of(**changes: object) -> PolicyMetadata:
    """Valid metadata, but for the changes."""
    return msgspec.structs.replace(
        PolicyMetadata(
            schema_version=SCHEMA_VERSION,
            feature_names=feature_names(RESOURCES),
            resources=RESOURCES,
            typical_pods=(TypicalPodRecord(4000, 1, 500, 0.75), TypicalPodRecord(2000, 0, 0, 0.25)),
            algorithm="ppo",
            config_digest="0" * 64,
            code_version="0",
            workload="by hand",
            evaluation={"mean_wait_seconds": 1.5},
            weights_sha256="0" * 64,
        ),
        **changes,
    )


def policy_file(
    weights: np.ndarray | None = None,
    *,
    input_name: str = "candidates",
    output_name: str = "scores",
    rows: str | int = "N",
    squeeze: bool = True,
    element: int = TensorProto.FLOAT,
    properties: dict[str, str] | None = None,
) -> bytes:
    """A file whose scores are `candidates @ weights`.

    Args:
        weights: (F,), one for each feature; ones if not given.
        input_name: of the graph.
        output_name: of the graph.
        rows: the graph's number of candidates, a name for any number.
        squeeze: scores are (N,) if true, (N, 1) otherwise.
        element: ONNX type of input and output.
        properties: metadata instead of `metadata_of()`.
    """
    weights = np.ones(FEATURES) if weights is None else weights
    column = weights.reshape(-1, 1).astype(helper.tensor_dtype_to_np_dtype(element))
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", [input_name, "weights"], ["column"]),
            helper.make_node(
                *(("Squeeze", ["column", "axis"]) if squeeze else ("Identity", ["column"])), [output_name]
            ),
        ],
        "score",
        [helper.make_tensor_value_info(input_name, element, [rows, len(weights)])],
        [helper.make_tensor_value_info(output_name, element, [rows] if squeeze else [rows, 1])],
        [numpy_helper.from_array(column, "weights"), numpy_helper.from_array(np.array([1]), "axis")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, metadata_of().to_properties() if properties is None else properties)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def trap_file(trap: Literal["hang", "huge-hang", "raise", "nan"]) -> bytes:
    """A file that scores candidates whose features are all 0, as when it is loaded, and none other.

    Args:
        trap: what it does instead of scoring: many operations or one that take hours, an error, not a number.
    """
    nodes = [
        helper.make_node("ReduceMax", ["candidates"], ["most"], keepdims=0),
        helper.make_node("ReduceSum", ["candidates", "columns"], ["sums"], keepdims=0),
    ]
    constants = [numpy_helper.from_array(np.array([1]), "columns")]

    def constant(name: str, value: np.ndarray) -> str:
        constants.append(numpy_helper.from_array(value, name))
        return name

    def whole(factor: float) -> str:
        """Some large whole number where `most` is not 0."""
        nodes.append(helper.make_node("Mul", ["most", constant("factor", np.float32(factor))], ["scaled"]))
        nodes.append(helper.make_node("Cast", ["scaled"], ["whole"], to=TensorProto.INT64))
        return "whole"

    if trap == "hang":
        # Hundreds of products, each of which takes a while: it can be told to end between any two.
        count = whole(3_000.0)
        nodes += [
            helper.make_node("Unsqueeze", [count, constant("first", np.array([0]))], ["length"]),
            helper.make_node("Concat", ["length", "length"], ["shape"], axis=0),
            helper.make_node("ConstantOfShape", ["shape"], ["product-0"]),
            *(helper.make_node("MatMul", [f"product-{n}", f"product-{n}"], [f"product-{n + 1}"]) for n in range(500)),
            helper.make_node("ReduceSum", ["product-500"], ["total"], keepdims=0),
            helper.make_node("Add", ["sums", "total"], ["scores"]),
        ]
    elif trap == "huge-hang":
        # One product of two matrices that takes hours: nothing in between at which it could be told to end.
        count = whole(20_000.0)
        nodes += [
            helper.make_node("Unsqueeze", [count, constant("first", np.array([0]))], ["length"]),
            helper.make_node("Concat", ["length", "length"], ["shape"], axis=0),
            helper.make_node("ConstantOfShape", ["shape"], ["matrix"]),
            helper.make_node("MatMul", ["matrix", "matrix"], ["product"]),
            helper.make_node("ReduceSum", ["product"], ["total"], keepdims=0),
            helper.make_node("Add", ["sums", "total"], ["scores"]),
        ]
    elif trap == "raise":
        nodes += [
            helper.make_node("Gather", [constant("table", np.zeros(1, np.float32)), whole(1e6)], ["found"]),
            helper.make_node("Add", ["sums", "found"], ["scores"]),
        ]
    else:
        nodes += [helper.make_node("Neg", ["sums"], ["negative"]), helper.make_node("Sqrt", ["negative"], ["scores"])]
    graph = helper.make_graph(
        nodes,
        "trap",
        [helper.make_tensor_value_info("candidates", TensorProto.FLOAT, ["N", FEATURES])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N"])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, metadata_of().to_properties())
    onnx.checker.check_model(model)
    return model.SerializeToString()
