"""Figures as a report holds them, in one shape for all who print them.

A report (``metrics`` of a manifest) has headline ``figures``, ``classes``, and ``tables``: further tables by name, each
``{"title": .., "text": .., "figures": [..]}``. A figure is ``{"id", "value", "n", "spread": [low, high]}`` and may have
``slice`` (the class or subgroup), ``unit`` and ``note``.

It deliberately measures nothing (``evaluate`` does), and knows neither Markdown nor CycloneDX.

Invariants:
    1. Nothing in a report is lost: what is of no known shape comes back as ``rest``.
    2. A figure without its n is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from einthoven_conversion.datasets import LABELS
from einthoven_conversion.errors import ReportIncomplete

MEANING: Final = {
    "N": "normal sinus rhythm",
    "A": "atrial fibrillation",
    "O": "any other rhythm",
    "~": "too noisy to tell",
}
_PRINTED: Final = {"command", "protocol", "n", "figures", "classes", "tables", "temperature"} | {
    "af_possible_permille",
    "af_certain_permille",
}
_CLASS_FIGURES: Final = (("f1", "interval"), ("sensitivity", None), ("inconclusive", None))


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number.

    Attributes:
        name: Its id.
        slice: Class or subgroup it is of; empty for all.
        value: ``None`` where there was nothing to measure it on.
        interval: Ends of the 95 % interval, where one was computed.
        n: Cases it rests on.
        unit: ``1`` for a share or a score.
        note: For people.
    """

    name: str
    slice: str
    value: float | None
    interval: tuple[float, float] | None
    n: int
    unit: str
    note: str


@dataclass(frozen=True, slots=True)
class FigureTable:
    """Figures that belong together.

    Attributes:
        name: Key in the report.
        title: For people.
        text: What they are of, for people; may be empty.
        figures: In the report's order.
    """

    name: str
    title: str
    text: str
    figures: tuple[Figure, ...]


def headline(metrics: Mapping[str, Any]) -> tuple[Figure, ...]:
    """The figures of the whole set of records.

    Raises:
        ReportIncomplete: One lacks its value, n or id.
    """
    return _figures(metrics.get("figures", ()))


def by_class(metrics: Mapping[str, Any]) -> tuple[Figure, ...]:
    """F1, sensitivity and share without a verdict of each class.

    Raises:
        ReportIncomplete: One lacks its n.
    """
    rows = []
    for label in LABELS:
        entry = metrics.get("classes", {}).get(label)
        for name, spread in _CLASS_FIGURES if entry else ():
            rows.append({"id": name, "slice": label, "value": entry[name], "n": entry.get("n")})
            if spread is not None:
                rows[-1]["spread"] = entry[spread]
    return _figures(rows)


def further_tables(metrics: Mapping[str, Any]) -> tuple[FigureTable, ...]:
    """The tables that a report adds: coverage, subgroups, noise, beats and whatever else was measured.

    Raises:
        ReportIncomplete: A table without figures, or one of them without value, n or id.
    """
    return tuple(
        FigureTable(name, entry.get("title", name), entry.get("text", ""), _figures(entry.get("figures", ())))
        for name, entry in metrics.get("tables", {}).items()
    )


def rest(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """What a report holds beside all this."""
    return {name: value for name, value in metrics.items() if name not in _PRINTED}


def _figures(entries: Iterable[Mapping[str, Any]]) -> tuple[Figure, ...]:
    return tuple(_figure(entry) for entry in entries)


def _figure(entry: Mapping[str, Any]) -> Figure:
    try:
        value, spread = entry["value"], entry.get("spread")
        return Figure(
            name=str(entry["id"]),
            slice=str(entry.get("slice", "")),
            value=None if value is None else float(value),
            interval=(float(spread[0]), float(spread[1])) if spread else None,
            n=int(entry["n"]),
            unit=str(entry.get("unit", "1")),
            note=str(entry.get("note", "")),
        )
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ReportIncomplete(
            f"figure {entry.get('id', '')!r} of the report lacks its value, its n or its interval", "measure it again"
        ) from error
