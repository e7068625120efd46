"""A verified model as C: the flat buffer, what its tensors mean, its operators, and the memory it takes.

It deliberately trusts nothing of the manifest that the graph itself says: sizes, order, scales and operators are read
from the flat buffer; the manifest names the model, its digest and its licences.

Invariants:
    1. Tensors are numbered as ``MicroInterpreter::input(i)`` and ``output(i)`` number them, which is the graph's order
       and not the manifest's.
    2. A graph that TensorFlow Lite Micro can't run is refused before anything is written.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from einthoven.models import Model
from einthoven_conversion.arena import ALIGNMENT_BYTES, MICROCONTROLLER, ArenaEstimate, estimate
from einthoven_conversion.export_c import (
    ALIGN,
    comment,
    declaration,
    define,
    definition,
    header_file,
    identifier,
    source_file,
)
from einthoven_conversion.export_graph import Graph, GraphTensor, read_graph
from einthoven_conversion.operators import MICRO_OPERATORS_VERSION, check_micro, multiply_adds, resolver_calls

CITED: Final = ("name", "licence", "cite")
ARENA_RULE: Final = (
    "Estimate, not a measurement: tensors that are not constant, each rounded up to 16 bytes and alive from the "
    "operator that writes it to the last that reads it, placed largest first into the lowest free gap (the greedy "
    "planner's rule), plus what TensorFlow Lite Micro keeps for each tensor, operator and channel on a 32-bit "
    "processor with reference kernels. Optimized kernels may ask for more: look at arena_used_bytes() on the device."
)


@dataclass(frozen=True, slots=True)
class ExportedModel:
    """Two files of C and what was found on the way.

    Attributes:
        header: Text of ``<name>_model.h``.
        source: Text of ``<name>_model.c``.
        graph: As read.
        arena: Estimated.
    """

    header: str
    source: str
    graph: Graph
    arena: ArenaEstimate


def export_model(model: Model) -> ExportedModel:
    """Write a model as C.

    Raises:
        ExportFailed: Its graph can't be read.
        OperatorUnsupported: TensorFlow Lite Micro lacks one of its operators.
    """
    graph = read_graph(model.content)
    check_micro(graph)
    arena = estimate(graph, MICROCONTROLLER)
    name = identifier(model.manifest.name)
    prefix = f"einthoven_{name}"
    body = "\n".join(
        (
            ALIGN,
            _identity(model, prefix),
            _ends(graph, prefix, "input", graph.inputs),
            _ends(graph, prefix, "output", graph.outputs),
            _labels(model, prefix),
            _memory(graph, arena, prefix),
            comment("The flat buffer, for tflite::GetModel().")
            + declaration("uint8_t", f"{prefix}_model", f"{prefix.upper()}_MODEL_BYTES"),
        )
    )
    header = header_file(f"{prefix}_model_h", about(model), body)
    source = source_file(
        f"{name}_model.h",
        about(model),
        definition("uint8_t", f"{prefix}_model", tuple(model.content), aligned=True),
    )
    return ExportedModel(header + "\n" + _resolver(graph, prefix), source, graph, arena)


def about(model: Model) -> str:
    """Where the file comes from, and whose recordings the model was trained on."""
    manifest = model.manifest
    lines = [
        f"Model {manifest.name} {manifest.version}, written by einthoven-convert export --c-array. Do not edit.",
        f"SHA-256 of the flat buffer: {manifest.sha256}",
        f"SHA-256 that results name:  {model.digest.hex()}",
        "",
        "Copyright the Einthoven authors. Licensed under the Apache License, Version 2.0.",
        "Not a medical device; never a claim of outcome. Trained on recordings that ask to be cited:",
    ]
    lines += ["- " + "; ".join(str(entry[key]) for key in CITED if entry.get(key)) for entry in manifest.licences]
    return "\n".join(lines)


def _identity(model: Model, prefix: str) -> str:
    return (
        define(f"{prefix}_version", model.manifest.version)
        + define(f"{prefix}_sha256", model.manifest.sha256)
        + define(f"{prefix}_digest", model.digest.hex())
        + define(f"{prefix}_model_bytes", len(model.content))
        + define(f"{prefix}_front_end_version", model.front_end_version)
    )


def _ends(graph: Graph, prefix: str, kind: str, tensors: tuple[int, ...]) -> str:
    """Place, size and quantization of each input or output."""
    text = comment(
        f"{kind.capitalize()}s: INDEX for MicroInterpreter::{kind}(), SIZE in elements, real value = SCALE * "
        "(count - ZERO_POINT). A state before the first second is its zero point throughout."
    ) + define(f"{prefix}_{kind}s", len(tensors))
    for index, tensor in enumerate(tensors):
        name = f"{prefix}_{kind}_{identifier(graph.names[tensor])}"
        text += comment(f"{graph.names[tensor]}: {_described(graph.tensors[tensor])}")
        text += define(f"{name}_index", index) + define(f"{name}_size", graph.tensors[tensor].elements)
        if graph.tensors[tensor].scales:
            text += define(f"{name}_scale", graph.tensors[tensor].scales[0])
            text += define(f"{name}_zero_point", graph.tensors[tensor].zero_points[0])
    return text


def _described(tensor: GraphTensor) -> str:
    return f"{tensor.dtype.lower()} [{', '.join(map(str, tensor.shape))}]"


def _labels(model: Model, prefix: str) -> str:
    """Classes in the order of the logits."""
    names = {"N": "normal", "A": "atrial_fibrillation", "O": "other", "~": "noise"}
    text = comment("Classes, in the order of the logits.") + define(f"{prefix}_classes", len(model.manifest.labels))
    for index, label in enumerate(model.manifest.labels):
        text += define(f"{prefix}_class_{identifier(names.get(label, label))}", index)
    return text


def _memory(graph: Graph, arena: ArenaEstimate, prefix: str) -> str:
    return (
        comment(f"Tensor arena, aligned to {ALIGNMENT_BYTES} bytes. {ARENA_RULE}")
        + define(f"{prefix}_arena_bytes", arena.total_bytes)
        + define(f"{prefix}_arena_tensor_bytes", arena.planned_bytes)
        + define(f"{prefix}_arena_persistent_bytes", arena.persistent_bytes)
        + comment("Multiply-adds of one run, which is one second of ECG.")
        + define(f"{prefix}_multiply_adds", multiply_adds(graph))
    )


def _resolver(graph: Graph, prefix: str) -> str:
    """The operators, and a function for C++ that makes a resolver with just these."""
    names = graph.operator_names
    versions = {name: max(op.version for op in graph.operators if op.name == name) for name in names}
    listed = "\n".join(
        f"  {name} (version {versions[name]}): {sum(op.name == name for op in graph.operators)}" for name in names
    )
    calls = "\n".join(f"  if (resolver.{call}() != kTfLiteOk) return kTfLiteError;" for call in resolver_calls(names))
    guard = f"{prefix.upper()}_WITH_RESOLVER"
    return (
        comment(
            f"Operators, and how many of each:\n{listed}\nAll are in TensorFlow Lite Micro's set, as of "
            f"{MICRO_OPERATORS_VERSION}.\nIn C++, define {guard} before including this file to get the resolver."
        )
        + f"#if defined(__cplusplus) && defined({guard}) && !defined({guard}_INCLUDED)\n#define {guard}_INCLUDED\n"
        + '#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"\n\n'
        + f"using {prefix}_resolver = tflite::MicroMutableOpResolver<{len(names)}>;\n\n"
        + f"inline TfLiteStatus {prefix}_add_operators({prefix}_resolver &resolver) {{\n{calls}\n"
        + f"  return kTfLiteOk;\n}}\n\n#endif /* {guard} */\n"
    )
