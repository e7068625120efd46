"""Puts the figures of a cross-validation into the page about the classifier, between two marks; the rest is prose.

It deliberately writes no word of its own judgement: what was tried and why is said by people.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from einthoven_conversion.beat_classes.counting import Counts, pooled
from einthoven_conversion.beat_classes.training import Validated

BEGIN: Final = "<!-- figures: written by python -m einthoven_conversion.beat_classes -->"
END: Final = "<!-- end of figures -->"


def write_figures(page: Path, figures: Sequence[dict[str, Any]], validated: Validated) -> None:
    """Replace what stands between the marks; a page without them is left as it is."""
    text = page.read_text(encoding="utf-8")
    if BEGIN not in text or END not in text:
        return
    before, rest = text.split(BEGIN, 1)
    _, after = rest.split(END, 1)
    page.write_text(f"{before}{BEGIN}\n\n{tables(figures, validated)}\n{END}{after}", encoding="utf-8")


def tables(figures: Sequence[dict[str, Any]], validated: Validated) -> str:
    """Markdown: the figures, the pooled matrix, every record."""
    lines = ["| figure | out of fold | 95 % interval over records | n beats |", "| --- | --- | --- | --- |"]
    for one in figures:
        low, high = one["spread"]
        lines.append(f"| `{one['id']}` | {one['value']:.4f} | {low:.4f} to {high:.4f} | {one['n']} |")
    matrix, missed, false = pooled(validated.nested)
    lines += [
        "",
        "| reference | called N | called S | called V | missed or not judged |",
        "| --- | --- | --- | --- | --- |",
    ]
    for i, name in enumerate("NSV"):
        lines.append(f"| {name} | {' | '.join(str(n) for n in matrix[i])} | {missed[i]} |")
    lines.append(f"| no beat | {' | '.join(str(n) for n in false)} | |")
    offsets = ", ".join(f"{value:+g}" for value in validated.offsets)
    lines += ["", f"Offsets that ship (N, S, V): {offsets}; temperature {validated.temperature:.2f}; expected "]
    lines[-1] += f"calibration error {validated.calibration_error:.4f} (chosen and measured on all folds)."
    lines += [
        "",
        "| record | N to N, S, V | S to N, S, V | V to N, S, V | missed | false |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    lines += [_record(one) for one in validated.nested]
    return "\n".join(lines) + "\n"


def _record(one: Counts) -> str:
    cells = [" ".join(str(n) for n in row) if row.sum() else "-" for row in one.matrix]
    return f"| {one.record_id} | {' | '.join(cells)} | {int(one.missed.sum())} | {int(one.false.sum())} |"
