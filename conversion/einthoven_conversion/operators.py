"""Operators of a graph: whether TensorFlow Lite Micro has them, and how many products they make.

It deliberately knows operators by name only; whether a kernel takes a certain type or fused activation is seen when the
target runs the golden vectors.

Invariants:
    1. An operator outside the list is a typed error, never left out of the resolver.
    2. A product is counted or the operator is known to make none; anything else is a typed error.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

from einthoven_conversion.errors import OperatorUnsupported
from einthoven_conversion.export_graph import Graph, GraphOperator

MICRO_OPERATORS_VERSION: Final = "tensorflow/tflite-micro 933f830139560b2f9a47b5418439350c728a796f"
"""Commit whose ``micro_mutable_op_resolver.h`` the list below was read from; later ones only added to it."""

_UNUSUAL: Final = {
    "CUMSUM": "AddCumSum",
    "PADV2": "AddPadV2",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "AddUnidirectionalSequenceLSTM",
}
"""Names that do not follow from the operator's by writing its words together."""
_MICRO: Final = """
    ABS ADD ADD_N ARG_MAX ARG_MIN ASSIGN_VARIABLE AVERAGE_POOL_2D BATCH_TO_SPACE_ND BROADCAST_ARGS BROADCAST_TO
    CALL_ONCE CAST CEIL CONCATENATION CONV_2D COS CUMSUM DEPTH_TO_SPACE DEPTHWISE_CONV_2D DEQUANTIZE ELU EQUAL EXP
    EXPAND_DIMS FILL FLOOR FLOOR_DIV FLOOR_MOD FULLY_CONNECTED GATHER GATHER_ND GREATER GREATER_EQUAL HARD_SWISH IF
    L2_NORMALIZATION L2_POOL_2D LEAKY_RELU LESS LESS_EQUAL LOG LOGICAL_AND LOGICAL_NOT LOGICAL_OR LOGISTIC MAXIMUM
    MAX_POOL_2D MEAN MINIMUM MIRROR_PAD MUL NEG NOT_EQUAL PACK PAD PADV2 PRELU QUANTIZE READ_VARIABLE REDUCE_MAX RELU
    RELU6 RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR ROUND RSQRT SHAPE SIN SLICE SOFTMAX SPACE_TO_BATCH_ND
    SPACE_TO_DEPTH SPLIT SPLIT_V SQRT SQUARE SQUEEZE STRIDED_SLICE SUB SVDF TANH TRANSPOSE TRANSPOSE_CONV
    UNIDIRECTIONAL_SEQUENCE_LSTM UNPACK VAR_HANDLE WHILE ZEROS_LIKE
    """
MICRO_OPERATORS: Final = frozenset(_MICRO.split())
"""Built-in operators of ``MICRO_OPERATORS_VERSION``."""
_WITHOUT_PRODUCTS: Final = """
    ABS ADD ADD_N ARG_MAX ARG_MIN AVERAGE_POOL_2D CAST CONCATENATION DEPTH_TO_SPACE DEQUANTIZE EXPAND_DIMS FILL GATHER
    GATHER_ND MAXIMUM MAX_POOL_2D MINIMUM MIRROR_PAD NEG PACK PAD PADV2 QUANTIZE REDUCE_MAX RELU RELU6 RESHAPE SHAPE
    SLICE SPACE_TO_DEPTH SPLIT SPLIT_V SQUEEZE STRIDED_SLICE SUB TRANSPOSE UNPACK ZEROS_LIKE
    """
WITHOUT_PRODUCTS: Final = frozenset(_WITHOUT_PRODUCTS.split())
"""Operators that move, compare, add or rescale: no sum of products."""


def check_micro(graph: Graph) -> None:
    """Refuse a graph that TensorFlow Lite Micro can't run.

    Raises:
        OperatorUnsupported: An operator is not in ``MICRO_OPERATORS``; all of them are named.
    """
    missing = [name for name in graph.operator_names if name not in MICRO_OPERATORS]
    if missing:
        raise OperatorUnsupported(f"TensorFlow Lite Micro has no {', '.join(missing)}", "convert the model without it")


def resolver_calls(names: Iterable[str]) -> list[str]:
    """Names of the resolver's functions that add these operators, such as ``AddConv2D``."""
    return [_UNUSUAL.get(name) or "Add" + "".join(_word(word) for word in name.split("_")) for name in names]


def _word(word: str) -> str:
    """``CONV`` as ``Conv``, but ``2D`` as it is."""
    return word if word[0].isdigit() else word[0] + word[1:].lower()


def multiply_adds(graph: Graph) -> int:
    """Products of one run of the graph, each with its addition.

    Raises:
        OperatorUnsupported: It is not known how many an operator makes.
    """
    return sum(products(graph, operator) for operator in graph.operators)


def products(graph: Graph, operator: GraphOperator) -> int:
    """Products of one operator.

    A convolution: every output element is a sum over the kernel and the input channels; a kernel has the layout
    [outputs, height, width, inputs], a depthwise one [1, height, width, outputs], a matrix [outputs, inputs].

    Raises:
        OperatorUnsupported: It is not known how many it makes.
    """
    if operator.name in WITHOUT_PRODUCTS:
        return 0
    made = graph.tensors[operator.outputs[0]].elements
    kernel = graph.tensors[operator.inputs[1]].shape if len(operator.inputs) > 1 else ()
    match operator.name:
        case "CONV_2D":
            return made * math.prod(kernel[1:])
        case "DEPTHWISE_CONV_2D":
            return made * math.prod(kernel[1:3])
        case "FULLY_CONNECTED":
            return made * kernel[-1]
        case "MUL":
            return made
    raise OperatorUnsupported(f"the products of {operator.name} are not known", "add its rule to operators.py")
