"""Tables for people: figures beside their targets, one row a record, this run beside an earlier one.

It deliberately rounds nothing that is stored: the JSON document keeps its digits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from einthoven_bench.figures import Document
from einthoven_bench.targets import TARGETS, Change, verdict

_COLOURS = {"met": "green", "better": "green", "worse": "red", "gone": "yellow"}


def print_document(console: Console, document: Document) -> None:
    """Figures, records, and what is left out."""
    console.print(figure_table(document))
    for detector in dict.fromkeys(row["detector"] for row in document.records):
        console.print(record_table(detector, [row for row in document.records if row["detector"] == detector]))
    for one in document.figures:
        console.print(f"{one.id}: {one.note}", markup=False, soft_wrap=True)
    for line in document.left_out:
        console.print(line, markup=False, soft_wrap=True)
    judged = [verdict(one) for one in document.figures if one.id in TARGETS]
    commands = {one.id.partition(".")[0] for one in document.figures}
    there = sum(name.partition(".")[0] in commands for name in TARGETS)
    console.print(f"{judged.count('met')} of {len(judged)} measured targets met, {there} there are")


def figure_table(document: Document) -> Table:
    """One row a figure."""
    table = Table(Column("figure", no_wrap=True), "value", "unit", "spread", "n", "target", "")
    for one in document.figures:
        target = TARGETS.get(one.id)
        said = verdict(one)
        table.add_row(
            one.id,
            _number(one.value),
            one.unit if one.unit != "1" else "",
            f"{_number(one.spread[0])} to {_number(one.spread[1])}",
            str(one.n),
            "" if target is None else f"{'>=' if target.better == 'higher' else '<='} {target.value:g}",
            Text(said, style=_COLOURS.get(said, "red") if said else ""),
        )
    return table


def record_table(detector: str, rows: Sequence[dict[str, Any]]) -> Table:
    """One row a record."""
    names = ("set", "record", "beats", "TP", "FP", "FN", "Se", "P+", "F1", "median R error (ms)", "usable (s)")
    table = Table(*(Column(name, justify="left" if i < 2 else "right") for i, name in enumerate(names)))
    table.title = f"records, {detector}: flutter left out"
    for row in rows:
        shares = [
            "" if row[key] is None else f"{100 * row[key]:.3f}"
            for key in ("sensitivity", "positive_predictivity", "f1")
        ]
        error = "" if row["r_error_ms_median"] is None else f"{row['r_error_ms_median']:.2f}"
        counts = [str(row[key]) for key in ("beats", "tp", "fp", "fn")]
        usable = f"{row['usable_s']}/{row['judged_s']}" if row["judged_s"] else ""
        table.add_row(row["dataset"], row["record_id"], *counts, *shares, error, usable)
    return table


def change_table(found: Sequence[Change]) -> Table:
    """One row a figure of this run or the earlier one."""
    table = Table(Column("figure", no_wrap=True), "before", "now", "change", "", title="compared with the earlier run")
    for one in found:
        relative = one.relative
        table.add_row(
            one.id,
            "" if one.before is None else _number(one.before),
            "" if one.now is None else _number(one.now),
            "" if relative is None else f"{100 * relative:+.2f} %",
            Text(one.says, style=_COLOURS.get(one.says, "")),
        )
    return table


def _number(value: float) -> str:
    return f"{value:.5g}" if abs(value) < 100_000 else f"{value:.0f}"
