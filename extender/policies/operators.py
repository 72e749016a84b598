"""What a policy file may compute: arithmetic from a list, and nothing else.

A policy comes from outside, so its graph is looked through before ONNX Runtime sees it: no operators of other domains
(they would be somebody's code), no loops, branches or functions (so that its work is what its size says), no weights
in other files. The bytes are walked as protocol buffers; nothing but lengths and the few fields below is understood.

Source: onnx/onnx.proto (ModelProto, GraphProto, NodeProto, AttributeProto, TensorProto).
"""

from collections.abc import Iterator

from extender.policies.base import PolicyError

ALLOWED = frozenset(
    (
        *("Abs", "Add", "Clip", "Div", "Exp", "Log", "Max", "Mean", "Min", "Mul", "Neg", "Pow", "Reciprocal", "Sqrt"),
        *("Sub", "Sum", "Sign", "Floor", "Ceil", "Round", "Mod"),
        *("Elu", "Erf", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Mish", "PRelu", "Relu", "Selu", "Sigmoid"),
        *("Softmax", "LogSoftmax", "Softplus", "Softsign", "Swish", "Tanh", "ThresholdedRelu"),
        *("Gemm", "MatMul", "Einsum", "LayerNormalization", "RMSNormalization", "BatchNormalization"),
        *("ReduceL1", "ReduceL2", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum"),
        *("ReduceSumSquare", "ArgMax", "ArgMin", "CumSum", "TopK"),
        *("And", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not", "Or", "Where", "IsNaN", "IsInf"),
        *("Cast", "CastLike", "Concat", "Constant", "ConstantOfShape", "Expand", "Flatten", "Gather", "GatherElements"),
        *("GatherND", "Identity", "Pad", "Range", "Reshape", "Shape", "Size", "Slice", "Split", "Squeeze", "Tile"),
        *("Transpose", "Unsqueeze", "OneHot", "Trilu"),
    )
)
STANDARD_DOMAINS = frozenset(("", "ai.onnx"))

# Field numbers of onnx.proto.
_MODEL_GRAPH, _MODEL_FUNCTIONS = 7, 25
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_SPARSE = 1, 5, 15
_NODE_OPERATOR, _NODE_ATTRIBUTE, _NODE_DOMAIN = 4, 5, 7
_ATTRIBUTE_TENSOR, _ATTRIBUTE_GRAPH, _ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS = 5, 6, 10, 11
_TENSOR_EXTERNAL_DATA, _TENSOR_LOCATION = 13, 14

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # protocol buffers' wire types
_LONGEST_VARINT = 10


def check_operators(content: bytes) -> None:
    """Look through a policy file.

    Raises:
        PolicyError: it is no protocol buffer, or holds something that a policy may not; the message says what.
    """
    model = memoryview(content)
    if any(True for _ in _parts(model, _MODEL_FUNCTIONS)):
        raise PolicyError("the graph has functions of its own: expected operators of ONNX only")
    for graph in _parts(model, _MODEL_GRAPH):
        if any(True for _ in _parts(graph, _GRAPH_SPARSE)):
            raise PolicyError("the graph has sparse weights: expected dense ones")
        for tensor in _parts(graph, _GRAPH_INITIALIZER):
            _check_tensor(tensor)
        for node in _parts(graph, _GRAPH_NODE):
            _check_node(node)


def _check_node(node: memoryview) -> None:
    operator, domain = _text(node, _NODE_OPERATOR), _text(node, _NODE_DOMAIN)
    if domain not in STANDARD_DOMAINS:
        raise PolicyError(f"the operator {operator!r} is of the domain {domain!r}: expected operators of ONNX only")
    if operator not in ALLOWED:
        raise PolicyError(
            f"the operator {operator!r} is not among those that a policy may use: see extender/policies/operators.py"
        )
    for attribute in _parts(node, _NODE_ATTRIBUTE):
        if any(True for number in (_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS) for _ in _parts(attribute, number)):
            raise PolicyError(f"the operator {operator!r} has a graph inside: a policy has no loops and no branches")
        for number in (_ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS):
            for tensor in _parts(attribute, number):
                _check_tensor(tensor)


def _check_tensor(tensor: memoryview) -> None:
    for number, _, value in _fields(tensor):
        if number == _TENSOR_EXTERNAL_DATA or (number == _TENSOR_LOCATION and value):
            raise PolicyError("the graph takes weights from another file: expected them in the policy file")


def _parts(message: memoryview, wanted: int) -> Iterator[memoryview]:
    """The values of a field that holds messages, bytes or text."""
    for number, wire_type, value in _fields(message):
        if number == wanted:
            if wire_type != _BYTES or isinstance(value, int):
                raise PolicyError("not a graph in an ONNX file: a field is of another type")
            yield value


def _text(message: memoryview, wanted: int) -> str:
    """The last value of a field that holds text, which is the one that counts."""
    value = b""
    for part in _parts(message, wanted):
        value = bytes(part)
    return value.decode("utf-8", "backslashreplace")


def _fields(message: memoryview) -> Iterator[tuple[int, int, int | memoryview]]:
    """Number, wire type and value of each field; raises PolicyError."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, wire_type = key >> 3, key & 7
        if wire_type == _VARINT:
            whole, at = _varint(message, at)
            yield number, wire_type, whole
            continue
        if wire_type == _BYTES:
            length, at = _varint(message, at)
        elif wire_type in (_FIXED64, _FIXED32):
            length = 8 if wire_type == _FIXED64 else 4
        else:
            raise PolicyError(f"not a graph in an ONNX file: wire type {wire_type}")
        if length > len(message) - at:
            raise PolicyError("not a graph in an ONNX file: it ends too early")
        yield number, wire_type, message[at : at + length]
        at += length


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for place in range(_LONGEST_VARINT):
        if at + place >= len(message):
            raise PolicyError("not a graph in an ONNX file: it ends too early")
        byte = message[at + place]
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value, at + place + 1
    raise PolicyError("not a graph in an ONNX file: a number without end")
