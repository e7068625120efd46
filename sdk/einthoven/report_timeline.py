"""The whole recording at a glance as SVG: envelope of the signal, one cell a window, a time axis. Pure.

A tier is told by colour, by shape and by letters, so that no one of them is needed alone. The colours are told apart in
all common kinds of colour blindness (blue against orange), and in grey.

Invariants:
    1. A window stands at its time; what no window covers stays empty.
    2. The size of the drawing is bounded (``MAX_ROWS`` rows of ``COLUMNS`` columns), however long the recording.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import numpy as np

from einthoven.ports import MISSING_UV
from einthoven.report_content import REASON_WORDS, RHYTHM_CODES, RHYTHM_WORDS, TIER_WORDS, Trace
from einthoven.report_text import clock, escaped, percent
from einthoven.results import RiskTier, WindowResult

COLUMNS: Final = 1000
"""Width of a row in drawing units; one column of the envelope each."""
ROW_WINDOWS: Final = 24
"""Windows a row while the rows suffice: 12 minutes."""
MAX_ROWS: Final = 12
ENVELOPE_HEIGHT: Final = 56
CELL_HEIGHT: Final = 40
AXIS_HEIGHT: Final = 26
ROW_HEIGHT: Final = ENVELOPE_HEIGHT + CELL_HEIGHT + AXIS_HEIGHT
ENVELOPE_UV: Final = 2000
"""Half the height of the envelope, microvolts; what goes beyond is cut."""
WINDOW_MS: Final = 30_000
AXIS_STEPS_S: Final = (30, 60, 120, 300, 600, 1800, 3600, 7200, 14_400, 43_200, 86_400)
MAX_AXIS_LABELS: Final = 14

SHAPES: Final = {
    RiskTier.ROUTINE: '<circle r="5.5"/>',
    RiskTier.ELEVATED: '<path d="M0-6.5L7 5.5H-7Z"/>',
    RiskTier.URGENT: '<path d="M0-8L8 0L0 8L-8 0Z"/>',
    RiskTier.INCONCLUSIVE: '<rect class="hollow" x="-5" y="-5" width="10" height="10"/>',
}
"""One shape a tier, about 0, 0."""


def tier_class(tier: RiskTier) -> str:
    """Name of a tier's CSS class."""
    return f"t-{TIER_WORDS[tier].lower()}"


def tier_mark(tier: RiskTier) -> str:
    """A tier's shape as a small picture for running text; the word stands beside it."""
    return f'<svg class="mark {tier_class(tier)}" viewBox="-9 -9 18 18" aria-hidden="true">{SHAPES[tier]}</svg>'


def timeline(recording: Trace, windows: Sequence[WindowResult], linked: frozenset[int], n: str = "") -> str:
    """Draw a recording.

    Args:
        recording: The signal.
        windows: The verdicts.
        linked: Counters of windows that the page draws in full, under ``id="window-N"``.
        n: What probabilities rest on.

    Returns:
        An ``svg`` element as wide as its surroundings.
    """
    duration_ms = max(round(recording.duration_s * 1000), 1)
    row_ms = max(-(-duration_ms // MAX_ROWS), min(ROW_WINDOWS * WINDOW_MS, duration_ms))
    n_rows = -(-duration_ms // row_ms)
    parts = [
        f'<svg class="timeline" role="img" aria-label="{_label(windows)}"'
        f' viewBox="0 0 {COLUMNS} {n_rows * ROW_HEIGHT}">'
        '<defs><pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
        '<path class="hatch" d="M0 0V6"/></pattern></defs>'
    ]
    for number in range(n_rows):
        from_ms = number * row_ms
        parts.append(f'<g transform="translate(0 {number * ROW_HEIGHT})">')
        parts.append(f'<path class="envelope" d="{_envelope(recording, from_ms, row_ms)}"/>')
        for result in windows:
            at_ms = result.started_at_ms - recording.started_at_ms
            if from_ms <= at_ms < from_ms + row_ms:
                parts.append(_cell(result, at_ms, from_ms, row_ms, linked=result.counter in linked, n=n))
        parts.append(_axis(from_ms, row_ms, duration_ms))
        parts.append("</g>")
    parts.append("</svg>")
    return "".join(parts)


def _label(windows: Sequence[WindowResult]) -> str:
    counts = {tier: sum(result.tier is tier for result in windows) for tier in RiskTier}
    told = ", ".join(f"{count} {TIER_WORDS[tier].lower()}" for tier, count in counts.items() if count)
    return escaped(f"Timeline of {len(windows)} windows: {told or 'none'}")


def _envelope(recording: Trace, from_ms: int, row_ms: int) -> str:
    """A closed shape between lowest and highest sample of each column."""
    part = recording.cut(recording.started_at_ms + from_ms, row_ms).samples_uv
    shown = max(1, round(COLUMNS * part.size / max(1.0, row_ms / 1000 * float(recording.sampling_rate_hz))))
    edges = np.linspace(0, part.size, min(shown, max(part.size, 1)) + 1).astype(np.int64)
    middle = ENVELOPE_HEIGHT // 2
    upper, lower = [], []
    for column, (first, last) in enumerate(pairwise(edges.tolist())):
        present = part[first:last]
        present = present[present != MISSING_UV]
        if present.size:
            high, low = np.clip((present.max(), present.min()), -ENVELOPE_UV, ENVELOPE_UV) * (middle - 2) / ENVELOPE_UV
            upper.append(f"{column} {middle - round(float(high))}")
            lower.append(f"{column} {middle - round(float(low)) + 1}")
    return f"M{'L'.join([*upper, *reversed(lower)])}Z" if upper else ""


def _cell(result: WindowResult, at_ms: int, from_ms: int, row_ms: int, *, linked: bool, n: str) -> str:
    x = COLUMNS * (at_ms - from_ms) / row_ms
    width = min(COLUMNS - x, COLUMNS * result.duration_ms / row_ms)
    inner = max(0.5, width - 2)
    reason = f", {REASON_WORDS[result.reason]}" if result.reason else ""
    title = (
        f"Window {result.counter}, {clock(at_ms)}–{clock(at_ms + result.duration_ms)}: {RHYTHM_WORDS[result.rhythm]},"
        f" {percent(result.confidence_permille)}{f' ({n})' if n else ''}; {TIER_WORDS[result.tier]}{reason}"
    )
    middle = x + width / 2
    body = [f'<rect x="{x + 1:.1f}" y="{ENVELOPE_HEIGHT}" width="{inner:.1f}" height="{CELL_HEIGHT}" rx="3"/>']
    if width >= 12:
        y = ENVELOPE_HEIGHT + (14 if width >= 26 else CELL_HEIGHT // 2)
        body.append(f'<g class="shape" transform="translate({middle:.1f} {y})">{SHAPES[result.tier]}</g>')
    if width >= 26:
        body.append(
            f'<text x="{middle:.1f}" y="{ENVELOPE_HEIGHT + CELL_HEIGHT - 7}">{RHYTHM_CODES[result.rhythm]}</text>'
        )
    cell = f'<g class="cell {tier_class(result.tier)}"><title>{escaped(title)}</title>{"".join(body)}</g>'
    return f'<a href="#window-{result.counter}">{cell}</a>' if linked else cell


def _axis(from_ms: int, row_ms: int, duration_ms: int) -> str:
    step_s = next((step for step in AXIS_STEPS_S if row_ms / 1000 / step <= MAX_AXIS_LABELS), AXIS_STEPS_S[-1])
    top = ENVELOPE_HEIGHT + CELL_HEIGHT
    last_ms = min(from_ms + row_ms, duration_ms)
    first_ms = -(-from_ms // (step_s * 1000)) * step_s * 1000
    parts = []
    for at_ms in range(first_ms, last_ms + 1, step_s * 1000):
        x = COLUMNS * (at_ms - from_ms) / row_ms
        anchor = "end" if x > COLUMNS - 20 else "start" if x < 12 else "middle"
        parts.append(f'<path class="tick" d="M{min(x, COLUMNS - 0.5):.1f} {top + 3}v4"/>')
        parts.append(f'<text class="axis" x="{x:.1f}" y="{top + 18}" text-anchor="{anchor}">{clock(at_ms)}</text>')
    return "".join(parts)
