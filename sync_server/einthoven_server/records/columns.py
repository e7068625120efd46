"""Rows to columns, as ``unnest`` wants them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def columns_of(rows: Iterable[Sequence[object]], width: int) -> list[list[object]]:
    """Rows to columns, ``width`` of them also where there is no row."""
    columns = [list(column) for column in zip(*rows, strict=True)]
    return columns or [[] for _ in range(width)]
