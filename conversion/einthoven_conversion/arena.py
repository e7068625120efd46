"""How much working memory a graph takes on a microcontroller: an estimate of TensorFlow Lite Micro's tensor arena.

The arena has a head and a tail. **Head**: every tensor that is not constant, rounded up to 16 bytes, from the operator
that writes it to the last one that reads it (inputs from before the first operator, outputs to after the last), placed
as TFLM's greedy planner places them: the largest first, each into the lowest gap between those alive at the same time.
While planning, the head also holds the planner's own records; the larger of both counts. **Tail**: what lives as long
as the interpreter, by the sizes of TFLM's structures (``Target``): one record a tensor, one a node, one for each input
and output, two numbers a channel of a convolution, parameters an operator, and a fixed part.

It is an estimate, on the safe side for reference kernels: structures change with the version of TFLM, and optimized
kernels (CMSIS-NN, ESP-NN) ask for scratch buffers of their own. It deliberately plans nothing offline and shares no
buffer between an operator's input and output, as TFLM doesn't.

Invariants:
    1. No two buffers that are alive at the same time overlap.
    2. Most bytes alive at once <= planned bytes <= sum of all buffers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from einthoven_conversion.export_graph import Graph

ALIGNMENT_BYTES: Final = 16
"""TFLM's ``MicroArenaBufferAlignment``."""
PLANNER_RECORD_BYTES: Final = 40
"""What the greedy planner notes of one buffer: size and times, two places in sorted lists, a list entry, an offset."""
CHANNEL_BYTES: Final = 8
"""A convolution's multiplier and shift of one output channel."""
FIXED_BYTES: Final = 1_024
"""Allocators, planner, interpreter, graph records."""
PER_CHANNEL: Final = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"})


@dataclass(frozen=True, slots=True)
class Target:
    """Sizes of TFLM's structures on a processor, bytes.

    Attributes:
        name: What is meant.
        eval_tensor: ``TfLiteEvalTensor``: two pointers and a type.
        node: ``NodeAndRegistration``: seven pointers and a size.
        end_tensor: ``TfLiteTensor`` of an input or output with its quantization.
        operator: Parsed parameters of an operator and what its reference kernel keeps, beside its channels; the most.
        allocation: ``AllocationInfo``, one a tensor while planning.
    """

    name: str
    eval_tensor: int
    node: int
    end_tensor: int
    operator: int
    allocation: int


MICROCONTROLLER: Final = Target("32 bit", eval_tensor=12, node=32, end_tensor=60, operator=96, allocation=24)
WORKSTATION: Final = Target("64 bit", eval_tensor=24, node=64, end_tensor=96, operator=136, allocation=32)
"""For comparison with TFLM on the machine that exports."""


@dataclass(frozen=True, slots=True)
class Buffer:
    """What has to lie in the head.

    Attributes:
        size_bytes: Rounded up to ``ALIGNMENT_BYTES``.
        first: Operator that writes it, from 1; 0 for an input.
        last: Last operator that reads it; one after the last operator for an output.
    """

    size_bytes: int
    first: int
    last: int

    def meets(self, other: Buffer) -> bool:
        """Whether both are alive at some time."""
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True, slots=True)
class ArenaEstimate:
    """Bytes of the arena.

    Attributes:
        planned_bytes: Tensors, as placed.
        planning_bytes: Records while planning.
        persistent_bytes: The tail.
        target: For which processor.
    """

    planned_bytes: int
    planning_bytes: int
    persistent_bytes: int
    target: Target

    @property
    def total_bytes(self) -> int:
        """What to give the interpreter, a multiple of ``ALIGNMENT_BYTES``."""
        return _aligned(max(self.planned_bytes, self.planning_bytes) + self.persistent_bytes)


def estimate(graph: Graph, target: Target = MICROCONTROLLER) -> ArenaEstimate:
    """Estimate the arena by the rule in the module's docstring."""
    buffers = buffers_of(graph)
    offsets = place(buffers)
    channels = sum(
        graph.tensors[operator.outputs[0]].shape[-1] for operator in graph.operators if operator.name in PER_CHANNEL
    )
    persistent = (
        FIXED_BYTES
        + target.eval_tensor * len(graph.tensors)
        + target.end_tensor * (len(graph.inputs) + len(graph.outputs))
        + (target.node + target.operator) * len(graph.operators)
        + CHANNEL_BYTES * channels
    )
    return ArenaEstimate(
        planned_bytes=planned_bytes(buffers, offsets),
        planning_bytes=target.allocation * len(graph.tensors) + PLANNER_RECORD_BYTES * len(buffers),
        persistent_bytes=persistent,
        target=target,
    )


def buffers_of(graph: Graph) -> list[Buffer]:
    """Every tensor that has to lie in the head, with its lifetime, in the order of the graph's tensors."""
    first = dict.fromkeys(graph.inputs, 0)
    last = dict.fromkeys(graph.inputs, 0)
    for time, operator in enumerate(graph.operators, 1):
        last |= dict.fromkeys(operator.inputs, time)
        for index in operator.outputs:
            first.setdefault(index, time)
            last[index] = time
    last |= dict.fromkeys(graph.outputs, len(graph.operators) + 1)
    return [
        Buffer(_aligned(tensor.size_bytes), first[index], last[index])
        for index, tensor in enumerate(graph.tensors)
        if index in first and not tensor.constant
    ]


def place(buffers: Sequence[Buffer]) -> list[int]:
    """Offsets in bytes, by the greedy rule: largest first, of equals the later one, into the lowest gap that fits."""
    offsets: dict[int, int] = {}
    for index in sorted(range(len(buffers)), key=lambda i: (-buffers[i].size_bytes, -i)):
        wanted, lowest = buffers[index], 0
        alive = sorted((offsets[i], i) for i in offsets if buffers[i].meets(wanted))
        for offset, other in alive:
            if offset - lowest >= wanted.size_bytes:
                break
            lowest = max(lowest, offset + buffers[other].size_bytes)
        offsets[index] = lowest
    return [offsets[index] for index in range(len(buffers))]


def planned_bytes(buffers: Sequence[Buffer], offsets: Sequence[int]) -> int:
    """End of the highest buffer."""
    return max((offset + one.size_bytes for offset, one in zip(offsets, buffers, strict=True)), default=0)


def peak_bytes(buffers: Sequence[Buffer]) -> int:
    """Most bytes alive at once: no plan can be smaller."""
    return max((sum(b.size_bytes for b in buffers if b.first <= one.first <= b.last) for one in buffers), default=0)


def _aligned(size_bytes: int) -> int:
    return -(-size_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
