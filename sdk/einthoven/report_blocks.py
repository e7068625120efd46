"""Pieces that sections of a report are made of: cards, tables, the badge. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from einthoven.report_content import Figure
from einthoven.report_text import escaped

MAX_LINES: Final = 500
"""Lines of any table; further ones are counted only."""
SIMULATED_BADGE: Final = '<span class="badge">SIMULATED</span>'


def cards(figures: Sequence[Figure]) -> str:
    """Figures side by side."""
    made = "".join(
        f'<div class="card"><dt>{escaped(figure.label)}</dt><dd><div class="value">{escaped(figure.value)}</div>'
        f'<div class="small">{escaped(figure.basis)}</div></dd></div>'
        for figure in figures
    )
    return f'<dl class="cards" style="margin:0">{made}</dl>'


def table(caption: str, heads: Sequence[str], rows: Sequence[str], numeric: Collection[int]) -> str:
    """A table of finished ``tr`` elements; columns in ``numeric`` are set flush right."""
    head = "".join(
        f'<th scope="col" class="n">{h}</th>' if n in numeric else f'<th scope="col">{h}</th>'
        for n, h in enumerate(heads)
    )
    more = f"; the first {MAX_LINES} of {len(rows)}" if len(rows) > MAX_LINES else ""
    return (
        f"<table><caption>{escaped(caption)}{more}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(rows[:MAX_LINES])}</tbody></table>"
    )
