"""What is read from a flat buffer, what a microcontroller can run of it, and the memory it takes."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import flatbuffers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from einthoven.models import load_model
from einthoven.runner_litert import import_interpreter
from einthoven_conversion import export_graph
from einthoven_conversion.arena import (
    MICROCONTROLLER,
    WORKSTATION,
    Buffer,
    buffers_of,
    estimate,
    peak_bytes,
    place,
    planned_bytes,
)
from einthoven_conversion.errors import ConversionError, ExportFailed, OperatorUnsupported
from einthoven_conversion.export_graph import Graph, GraphOperator, GraphTensor, read_graph
from einthoven_conversion.operators import MICRO_OPERATORS, check_micro, multiply_adds, products, resolver_calls


@pytest.fixture(scope="module")
def content() -> bytes:
    return load_model().content


def changed(content: bytes, change: Callable[[Any, Any], None]) -> bytes:
    """The same model with something else in it, packed again."""
    schema = export_graph._schema()
    model = schema.ModelT.InitFromPackedBuf(bytearray(content), 0)
    change(schema, model)
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def test_the_graph_is_what_the_interpreter_reads(content: bytes) -> None:
    graph = read_graph(content)
    interpreter = import_interpreter()(model_content=content, num_threads=1)
    by_index = {detail["index"]: detail for detail in interpreter.get_tensor_details()}
    for index, tensor in enumerate(graph.tensors):
        detail = by_index[index]
        assert tensor.shape == tuple(detail["shape"])
        assert tensor.name == detail["name"]
        assert tensor.dtype == detail["dtype"].__name__.upper()
        assert tensor.scales == tuple(detail["quantization_parameters"]["scales"].tolist())
        assert tensor.zero_points == tuple(detail["quantization_parameters"]["zero_points"].tolist())
    assert graph.inputs == tuple(detail["index"] for detail in interpreter.get_input_details())
    assert graph.outputs == tuple(detail["index"] for detail in interpreter.get_output_details())
    ops = [op for op in interpreter._get_ops_details() if op["op_name"] != "DELEGATE"]
    assert [op.name for op in graph.operators] == [op["op_name"] for op in ops]


def test_products_of_the_shipped_model(content: bytes) -> None:
    """Counted again from what the interpreter says of its operators."""
    interpreter = import_interpreter()(model_content=content, num_threads=1)
    details = {detail["index"]: detail for detail in interpreter.get_tensor_details()}
    total = 0
    for op in interpreter._get_ops_details():
        if op["op_name"] == "CONV_2D":
            _, height, width, channels = details[op["inputs"][1]]["shape"]
            total += int(details[op["outputs"][0]]["shape"].prod()) * int(height * width * channels)
    assert multiply_adds(read_graph(content)) == total > 100_000


def test_a_repacked_model_is_the_same_graph(content: bytes) -> None:
    assert read_graph(changed(content, lambda schema, model: None)) == read_graph(content)


def _other_operator(schema: Any, model: Any) -> None:
    code = model.operatorCodes[0]
    code.builtinCode, code.deprecatedBuiltinCode = schema.BuiltinOperator.COMPLEX_ABS, 108


def _custom(schema: Any, model: Any) -> None:
    code = model.operatorCodes[0]
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    code.customCode = "Mine"


@pytest.mark.parametrize(("change", "name"), [(_other_operator, "COMPLEX_ABS"), (_custom, "CUSTOM")])
def test_an_operator_outside_the_set_is_named(content: bytes, change: Callable[[Any, Any], None], name: str) -> None:
    graph = read_graph(changed(content, change))
    with pytest.raises(OperatorUnsupported, match=name):
        check_micro(graph)
    with pytest.raises(OperatorUnsupported, match=name):
        multiply_adds(graph)


def test_every_operator_of_the_shipped_model_is_in_the_set(content: bytes) -> None:
    check_micro(read_graph(content))


def test_names_of_resolver_functions() -> None:
    assert resolver_calls(["CONV_2D", "SPLIT_V", "CUMSUM", "PADV2", "L2_POOL_2D", "BATCH_TO_SPACE_ND", "RELU6"]) == [
        "AddConv2D",
        "AddSplitV",
        "AddCumSum",
        "AddPadV2",
        "AddL2Pool2D",
        "AddBatchToSpaceNd",
        "AddRelu6",
    ]
    assert len(set(resolver_calls(sorted(MICRO_OPERATORS)))) == len(MICRO_OPERATORS)


def _moving(schema: Any, model: Any) -> None:
    model.subgraphs[0].tensors[0].shapeSignature = [-1, 128]


def _twice(schema: Any, model: Any) -> None:
    model.subgraphs.append(model.subgraphs[0])


def _no_such_tensor(schema: Any, model: Any) -> None:
    model.subgraphs[0].operators[0].inputs = [10_000]


def _strings(schema: Any, model: Any) -> None:
    model.subgraphs[0].tensors[0].type = schema.TensorType.STRING


@pytest.mark.parametrize("change", [_moving, _twice, _no_such_tensor, _strings])
def test_a_graph_that_does_not_add_up_is_refused(content: bytes, change: Callable[[Any, Any], None]) -> None:
    with pytest.raises(ExportFailed) as caught:
        read_graph(changed(content, change))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damaged", [b"", b"TFL3", bytes(100), b"\x1c\0\0\0TFL3" + b"\xff" * 500, b"PK\x03\x04" * 50])
def test_what_is_no_model_is_refused(damaged: bytes) -> None:
    with pytest.raises(ExportFailed, match="tflite"):
        read_graph(damaged)


def test_any_damage_is_read_or_refused(content: bytes) -> None:
    chance = random.Random(4)
    damaged = [content[: len(content) * i // 50] for i in range(50)]
    # Flips where the tables are: what they point at is at the end of the file.
    for _ in range(150):
        flipped = bytearray(content)
        for _ in range(chance.randint(1, 4)):
            flipped[-chance.randint(1, 12_000)] ^= 1 << chance.randrange(8)
        damaged.append(bytes(flipped))
    refused = 0
    for one in damaged:
        try:
            estimate(read_graph(one))
        except ConversionError:
            refused += 1
    assert refused > 50


# Products by hand


def graph_of(name: str, kernel: tuple[int, ...], made: tuple[int, ...]) -> Graph:
    tensors = tuple(GraphTensor("", shape, "INT8", (), (), i == 1) for i, shape in enumerate(((1, 4), kernel, made)))
    return Graph(tensors, (GraphOperator(name, 1, (0, 1), (2,)),), (0,), (2,), {})


@pytest.mark.parametrize(
    ("name", "kernel", "made", "expected"),
    [
        ("CONV_2D", (8, 3, 1, 4), (1, 10, 1, 8), 10 * 8 * 3 * 4),
        ("DEPTHWISE_CONV_2D", (1, 3, 5, 8), (1, 10, 2, 8), 10 * 2 * 8 * 3 * 5),
        ("FULLY_CONNECTED", (6, 20), (2, 6), 2 * 6 * 20),
        ("MUL", (1, 4), (1, 4), 4),
        ("RESHAPE", (2,), (1, 4), 0),
    ],
)
def test_products_by_hand(name: str, kernel: tuple[int, ...], made: tuple[int, ...], expected: int) -> None:
    graph = graph_of(name, kernel, made)
    assert products(graph, graph.operators[0]) == expected


def test_products_that_are_not_known_are_not_guessed() -> None:
    graph = graph_of("UNIDIRECTIONAL_SEQUENCE_LSTM", (2, 2), (1, 4))
    check_micro(graph)
    with pytest.raises(OperatorUnsupported, match="LSTM"):
        multiply_adds(graph)


# Arena

BUFFERS = st.lists(
    st.builds(
        lambda size, first, length: Buffer(16 * size, first, first + length),
        st.integers(1, 50),
        st.integers(0, 20),
        st.integers(0, 8),
    ),
    max_size=30,
)


@given(BUFFERS)
def test_a_plan_overlaps_nowhere_and_keeps_its_bounds(buffers: list[Buffer]) -> None:
    offsets = place(buffers)
    for i, one in enumerate(buffers):
        for j, other in enumerate(buffers[:i]):
            apart = offsets[i] >= offsets[j] + other.size_bytes or offsets[j] >= offsets[i] + one.size_bytes
            assert apart or not one.meets(other)
    assert peak_bytes(buffers) <= planned_bytes(buffers, offsets) <= sum(one.size_bytes for one in buffers)


def test_a_plan_by_hand() -> None:
    """The largest at 0; what is alive with it above; a later one where the largest was."""
    buffers = [Buffer(32, 0, 1), Buffer(64, 1, 2), Buffer(48, 2, 3), Buffer(16, 3, 4)]
    assert place(buffers) == [64, 0, 64, 0]
    assert planned_bytes(buffers, place(buffers)) == 112
    assert peak_bytes(buffers) == 112


def test_lifetimes() -> None:
    tensors = tuple(GraphTensor("", (size,), "INT8", (), (), size == 3) for size in (5, 3, 20, 1, 7))
    operators = (GraphOperator("ADD", 1, (0, 1), (2,)), GraphOperator("RELU", 1, (2,), (3,)))
    graph = Graph(tensors, operators, (0, 4), (3,), {})
    assert buffers_of(graph) == [Buffer(16, 0, 1), Buffer(32, 1, 2), Buffer(16, 2, 3), Buffer(16, 0, 0)]


@pytest.mark.parametrize("target", [MICROCONTROLLER, WORKSTATION])
def test_the_arena_of_the_shipped_model_keeps_its_bounds(content: bytes, target: Any) -> None:
    graph = read_graph(content)
    buffers = buffers_of(graph)
    found = estimate(graph, target)
    assert peak_bytes(buffers) <= found.planned_bytes <= sum(one.size_bytes for one in buffers)
    assert found.planned_bytes + found.persistent_bytes <= found.total_bytes
    assert found.total_bytes % 16 == 0
    # State in and out are alive together at the end; no plan can be smaller than both.
    state = max(graph.tensors[index].size_bytes for index in graph.inputs)
    assert found.planned_bytes >= 2 * state
