"""A measured figure and the document that a command prints. Values and their JSON, nothing else.

It deliberately knows no target (``targets``) and measures nothing.

Invariants:
    1. A figure rests on something: ``n`` is positive and every number is finite. What was not measured has no figure.
    2. ``spread`` is in order.
    3. An id occurs once in a document.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from einthoven_bench.errors import DocumentUnreadable

MAX_DOCUMENT_BYTES = 16 * 2**20
"""Largest document to compare with."""
SIGNIFICANT_DIGITS = 7
"""Digits of a figure that are printed; none is known better."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number.

    Attributes:
        id: Its name, as in the table of targets or in the same style.
        value: The median, or the statistic in the id.
        unit: Unit of ``value``; ``1`` for a pure number.
        n: How many observations it rests on.
        spread: Minimum and maximum over runs, or the 95 % interval; the note says which.
        note: How it was measured, for people.

    Raises:
        ValueError: See the module's invariants.
    """

    id: str
    value: float
    unit: str
    n: int
    spread: tuple[float, float]
    note: str = ""

    def __post_init__(self) -> None:
        if self.n < 1 or not all(map(math.isfinite, (self.value, *self.spread))):
            raise ValueError(f"{self.id} rests on nothing")
        if self.spread[0] > self.spread[1]:
            raise ValueError(f"the spread of {self.id} is upside down")


@dataclass(slots=True)
class Document:
    """What one run measured.

    Attributes:
        machine: What it ran on (``machine.machine``).
        figures: In the order they were measured.
        records: One entry a record and data set: beats, TP, FP, FN and what follows from them.
        left_out: Why figures are missing, one line each.
    """

    machine: Mapping[str, Any]
    figures: list[Figure] = field(default_factory=list)
    records: list[dict[str, Any]] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def add(self, figures: Sequence[Figure]) -> None:
        """Append figures.

        Raises:
            ValueError: An id is there already.
        """
        known = {figure.id for figure in self.figures}
        for figure in figures:
            if figure.id in known:
                raise ValueError(f"{figure.id} was measured twice")
            known.add(figure.id)
            self.figures.append(figure)

    def as_json(self) -> str:
        """The document as one line of JSON."""
        figures = [
            {
                "id": one.id,
                "value": _rounded(one.value),
                "unit": one.unit,
                "n": one.n,
                "spread": [_rounded(edge) for edge in one.spread],
                "note": one.note,
            }
            for one in self.figures
        ]
        content = {
            "machine": dict(self.machine),
            "figures": figures,
            "records": self.records,
            "left_out": self.left_out,
        }
        return json.dumps(content, ensure_ascii=False, allow_nan=False)


def _rounded(value: float) -> float | int:
    if isinstance(value, int):
        return value
    return float(f"{value:.{SIGNIFICANT_DIGITS}g}")


def read_values(path: Path) -> dict[str, float]:
    """The value of each figure in a document that was printed earlier.

    Raises:
        DocumentUnreadable: No such file, too large, or no document of figures.
    """
    remedy = "give a file that --json printed"
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_DOCUMENT_BYTES + 1)
        if len(content) > MAX_DOCUMENT_BYTES:
            raise DocumentUnreadable(f"{path.name} is over {MAX_DOCUMENT_BYTES} bytes", remedy)
        values = {str(entry["id"]): float(entry["value"]) for entry in json.loads(content)["figures"]}
    except OSError as error:
        raise DocumentUnreadable(f"{path.name} can't be read", remedy) from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DocumentUnreadable(f"{path.name} is no document of figures", remedy) from error
    if not all(map(math.isfinite, values.values())):
        raise DocumentUnreadable(f"{path.name} holds a figure that is no number", remedy)
    return values
