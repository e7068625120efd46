"""A ``.tflite`` file as values: its tensors, its operators in order, and what its signature calls them.

It deliberately runs nothing and judges no operator (``operators`` does). The schema is the one that comes with the
interpreter, so that no second reader of the format is kept here.

Invariants:
    1. Whatever the bytes, the result is a ``Graph`` or ``ExportFailed``.
    2. Every index in a ``Graph`` points at one of its tensors; every size is positive and fixed.
"""

from __future__ import annotations

import importlib
import math
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from einthoven_conversion.errors import DependencyMissing, ExportFailed

SCHEMAS: Final = ("ai_edge_litert.schema_py_generated", "tensorflow.lite.python.schema_py_generated")
MAX_GRAPH_BYTES: Final = 16 * 2**20
MAX_TENSORS: Final = 10_000
ELEMENT_BYTES: Final[Mapping[str, int]] = {
    "BOOL": 1,
    "INT8": 1,
    "UINT8": 1,
    "INT16": 2,
    "UINT16": 2,
    "FLOAT16": 2,
    "INT32": 4,
    "UINT32": 4,
    "FLOAT32": 4,
    "INT64": 8,
    "UINT64": 8,
    "FLOAT64": 8,
}
"""Types whose elements have a size of whole bytes."""
UNREADABLE: Final = (
    AttributeError,
    IndexError,
    KeyError,
    MemoryError,
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
)
"""What a reader of flat buffers raises on bytes that are none."""


@dataclass(frozen=True, slots=True)
class GraphTensor:
    """One tensor.

    Attributes:
        name: In the graph.
        shape: Elements a dimension; empty for a scalar.
        dtype: Such as ``INT8``.
        scales: One for the tensor or one a channel; empty where it is not quantized.
        zero_points: As many, or one.
        constant: Its content is in the file.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    constant: bool

    @property
    def elements(self) -> int:
        """Their number."""
        return math.prod(self.shape)

    @property
    def size_bytes(self) -> int:
        """What its elements take."""
        return self.elements * ELEMENT_BYTES[self.dtype]


@dataclass(frozen=True, slots=True)
class GraphOperator:
    """One operator.

    Attributes:
        name: Of the built-in operator, such as ``CONV_2D``; ``CUSTOM`` for any other.
        version: Of the operator.
        inputs: Tensors; an optional one that is left out is not listed.
        outputs: Tensors.
    """

    name: str
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Graph:
    """The only graph of a file.

    Attributes:
        tensors: All of them.
        operators: In the order they run.
        inputs: Tensors in the order in which an interpreter without signatures numbers them.
        outputs: Likewise.
        names: What the signature calls inputs and outputs, by tensor; the tensor's own name where it is silent.
    """

    tensors: tuple[GraphTensor, ...]
    operators: tuple[GraphOperator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    names: Mapping[int, str]

    def __post_init__(self) -> None:
        known = range(len(self.tensors))
        used = [*self.inputs, *self.outputs, *self.names]
        for operator in self.operators:
            used += [*operator.inputs, *operator.outputs]
        if not self.inputs or not self.outputs or not self.operators or any(index not in known for index in used):
            raise _unreadable()

    @property
    def operator_names(self) -> tuple[str, ...]:
        """Each kind of operator once, sorted."""
        return tuple(sorted({operator.name for operator in self.operators}))


def read_graph(content: bytes) -> Graph:
    """Read a model's graph.

    Args:
        content: The bytes of a ``.tflite`` file.

    Raises:
        ExportFailed: Not one, more than one graph, or a size that is not fixed.
        DependencyMissing: No package with the schema is installed.
    """
    schema = _schema()
    if len(content) > MAX_GRAPH_BYTES:
        raise ExportFailed(f"the model is over {MAX_GRAPH_BYTES} bytes", "give a smaller model")
    if content[4:8] != b"TFL3":
        raise _unreadable()
    try:
        model = schema.ModelT.InitFromPackedBuf(bytearray(content), 0)
        if len(model.subgraphs) != 1:
            raise ExportFailed("the model has more than one graph", "export a model without loops and branches")
        return _graph(schema, model)
    except UNREADABLE as error:
        raise _unreadable() from error


def _schema() -> Any:
    for name in SCHEMAS:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise DependencyMissing("no package with the schema of models is installed", "pip install 'ai-edge-litert>=2.3'")


def _graph(schema: Any, model: Any) -> Graph:
    graph = model.subgraphs[0]
    operator_names = _names_of(schema.BuiltinOperator)
    type_names = _names_of(schema.TensorType)
    codes = [
        # Before version 3 of the schema the code had one byte; the larger of both holds.
        (operator_names[max(code.builtinCode, code.deprecatedBuiltinCode)], int(code.version))
        for code in model.operatorCodes
    ]
    if len(graph.tensors) > MAX_TENSORS:
        raise _unreadable()
    operators = []
    for operator in graph.operators:
        name, version = codes[operator.opcodeIndex]
        inputs = tuple(int(index) for index in _listed(operator.inputs) if index != -1)
        operators.append(GraphOperator(name, version, inputs, tuple(int(index) for index in _listed(operator.outputs))))
    tensors = tuple(_tensor(type_names, model, tensor) for tensor in graph.tensors)
    inputs, outputs = (tuple(int(index) for index in _listed(ends)) for ends in (graph.inputs, graph.outputs))
    names = {index: tensors[index].name for index in (*inputs, *outputs)}
    for signature in _listed(model.signatureDefs)[:1]:
        for entry in (*_listed(signature.inputs), *_listed(signature.outputs)):
            names[int(entry.tensorIndex)] = entry.name.decode()
    return Graph(tensors, tuple(operators), inputs, outputs, names)


def _tensor(type_names: Mapping[int, str], model: Any, tensor: Any) -> GraphTensor:
    shape = tuple(int(size) for size in _listed(tensor.shape))
    moving = tensor.shapeSignature is not None and any(size < 1 for size in _listed(tensor.shapeSignature))
    dtype = type_names[tensor.type]
    if moving or any(size < 1 for size in shape) or dtype not in ELEMENT_BYTES:
        raise ExportFailed("a tensor of the model has no fixed size", "convert the model with fixed shapes")
    quantization = tensor.quantization
    scales = _listed(quantization.scale) if quantization else ()
    zero_points = _listed(quantization.zeroPoint) if quantization else ()
    return GraphTensor(
        name=tensor.name.decode() if tensor.name else "",
        shape=shape,
        dtype=dtype,
        scales=tuple(float(scale) for scale in scales),
        zero_points=tuple(int(point) for point in zero_points),
        constant=len(_listed(model.buffers[tensor.buffer].data)) > 0,
    )


def _listed(values: Any) -> Sequence[Any]:
    """A vector of the file, empty where it is left out."""
    return () if values is None else list(values)


def _names_of(enumeration: Any) -> dict[int, str]:
    return {number: name for name, number in vars(enumeration).items() if re.fullmatch("[A-Z][A-Z0-9_]*", name)}


def _unreadable() -> ExportFailed:
    return ExportFailed("the model's graph can't be read", "give a .tflite file as the converter wrote it")
