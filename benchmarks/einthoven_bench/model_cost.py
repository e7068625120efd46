"""What the model takes of a device: bytes and multiply-adds, counted from the files, not from what they claim.

Products of the network are counted operator by operator from the flat buffer; those of the integer tables are one a
weight and run, because all of their layers are dense (``weights`` [inputs][outputs]), and one an element of a
direction. It deliberately counts no products of filters and features, which are the signal path's (``einthoven-bench
signal`` measures that path's time).

Invariants:
    1. Every ``.tflite`` and every table beside it is looked at; a new one needs no new code, only a worst-case rate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from importlib.resources import files
from typing import Final

from einthoven_bench.errors import MeasurementFailed
from einthoven_bench.figures import Figure
from einthoven_conversion.errors import ConversionError
from einthoven_conversion.export_graph import Graph, read_graph
from einthoven_conversion.export_tables import Integers, read_table
from einthoven_conversion.operators import products

SIGNAL_INPUT: Final = "signal"
"""What the signature calls the input that is no state."""
WORST_BEATS_PER_MIN: Final = 200
RUNS_PER_S: Final[Mapping[str, Fraction]] = {
    "verdict.json": Fraction(1),
    "beat_classes.json": Fraction(WORST_BEATS_PER_MIN, 60),
}
"""Worst-case runs a second of the tables that count as the model's: a window's verdict is said once in 30 s, but a
second's share of it is at most one run a second."""
NOT_TABLES: Final = (".cdx.json", ".folds.json")
"""What is for people or tools and decides nothing."""


@dataclass(frozen=True, slots=True)
class Part:
    """One shipped file that decides.

    Attributes:
        name: Of the file.
        file_bytes: As it lies in the package.
        device_bytes: What it takes on a device: the flat buffer, or the table's integers in the narrowest types.
        products: Of one run; 0 where it has no layers.
    """

    name: str
    file_bytes: int
    device_bytes: int
    products: int


def shipped_files() -> dict[str, bytes]:
    """Every model and table in the package, by name."""
    folder = files("einthoven_models")
    names = sorted(entry.name for entry in folder.iterdir())
    wanted = [name for name in names if name.endswith((".tflite", ".json")) and not name.endswith(NOT_TABLES)]
    return {name: folder.joinpath(name).read_bytes() for name in wanted}


def graphs_of(contents: Mapping[str, bytes]) -> dict[str, Graph]:
    """The graph of every ``.tflite``.

    Raises:
        MeasurementFailed: One can't be read.
    """
    try:
        return {name: read_graph(content) for name, content in contents.items() if name.endswith(".tflite")}
    except ConversionError as error:
        raise MeasurementFailed(error.problem, error.remedy, error.exit_status) from error


def parts_of(contents: Mapping[str, bytes], graphs: Mapping[str, Graph]) -> list[Part]:
    """Sizes and products of every file; a manifest counts as the integers it holds.

    Raises:
        MeasurementFailed: An operator's products are not known, or a table can't be read.
    """
    try:
        return [_part(name, content, graphs.get(name)) for name, content in contents.items()]
    except ConversionError as error:
        raise MeasurementFailed(error.problem, error.remedy, error.exit_status) from error


def _part(name: str, content: bytes, graph: Graph | None) -> Part:
    if graph is not None:
        made = sum(products(graph, operator) for operator in graph.operators)
        return Part(name, len(content), len(content), made)
    table = read_table(name, content)
    return Part(name, len(content), sum(one.size_bytes for one in table), table_products(table))


def table_products(table: Sequence[Integers]) -> int:
    """Products of one run of a table: one a weight of a layer, one an element of a direction projected on.

    Trees compare and add.
    """
    return sum(len(one.values) for one in table if one.sizes and one.name.endswith(("_weights", "_directions")))


def state_bytes(graph: Graph) -> int:
    """What is carried from one second to the next: every input but the signal."""
    return sum(graph.tensors[index].size_bytes for index in graph.inputs if graph.names[index] != SIGNAL_INPUT)


def cost_figures(contents: Mapping[str, bytes]) -> list[Figure]:
    """Sizes, multiply-adds and state of what is shipped.

    Raises:
        MeasurementFailed: See ``parts_of``; or there is no model.
    """
    graphs = graphs_of(contents)
    if not graphs:
        raise MeasurementFailed("no model is shipped", "install the package again", 4)
    parts = parts_of(contents, graphs)
    listed = ", ".join(
        f"{one.name} {one.device_bytes}" + ("" if one.name in graphs else f" ({one.file_bytes} as text)")
        for one in parts
    )
    largest = max(parts, key=lambda one: one.device_bytes)
    largest_file = max(parts, key=lambda one: one.file_bytes)
    networks = sum(one.products for one in parts if one.name in graphs)
    tables = [one for one in parts if one.name in RUNS_PER_S]
    rest = [
        f"{one.name} {one.products} a run"
        for one in parts
        if one.products and one not in tables and one.name not in graphs
    ]
    per_s = float(networks + sum(one.products * RUNS_PER_S[one.name] for one in tables))
    said = [f"{name}: {_by_operator(graph)}" for name, graph in graphs.items()]
    said += [f"{one.name}: {one.products} x {float(RUNS_PER_S[one.name]):.3g} a second" for one in tables]
    states = [state_bytes(graph) for graph in graphs.values()]
    return [
        _exact(
            "model.size_bytes_max",
            largest.device_bytes,
            "B",
            len(parts),
            f"{largest.name}, the largest of what a device holds: flat buffers, and integers of tables in their "
            f"narrowest types; {listed}",
        ),
        _exact(
            "model.file_bytes_max", largest_file.file_bytes, "B", len(parts), f"{largest_file.name} as it is stored"
        ),
        _exact(
            "model.mac_per_s",
            per_s,
            "1/s",
            len(graphs) + len(tables),
            f"{'; '.join(said)}; beats at {WORST_BEATS_PER_MIN} a minute"
            + (f"; not in it, as the signal path's: {', '.join(rest)}" if rest else ""),
        ),
        _exact("model.state_bytes", max(states), "B", len(states), "inputs that carry state from second to second"),
    ]


def _by_operator(graph: Graph) -> str:
    """Products of each kind of operator that makes any."""
    totals: dict[str, int] = {}
    for operator in graph.operators:
        totals[operator.name] = totals.get(operator.name, 0) + products(graph, operator)
    return " + ".join(f"{name} {total}" for name, total in sorted(totals.items()) if total)


def _exact(name: str, value: float, unit: str, n: int, note: str) -> Figure:
    """A figure that was counted, not sampled."""
    return Figure(name, value, unit, n, (value, value), note)
