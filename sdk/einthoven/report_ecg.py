"""An ECG on paper as SVG: 25 mm/s and 10 mm/mV in true millimetres. Pure.

Lengths are in units of 1/50 mm inside the drawing (0.8 ms, 2 uV), so that a path is small integers; the drawing's own
size is stated in millimetres, so that a ruler on a print at 100 % reads true.

It deliberately filters nothing: what is drawn is what was received, moved so that each row's median lies on its line.

Invariants:
    1. One second is 25 mm and one millivolt 10 mm, whatever the sampling rate.
    2. Missing samples are never bridged by a line; they are hatched.
    3. What leaves its row is cut at the row's edge.
    4. What is shaded is told in the drawing's ``desc`` too, and has a bar at its foot: no colour is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from einthoven.ports import MISSING_UV
from einthoven.report_content import Trace
from einthoven.report_text import clock, escaped

MM: Final = 50
"""Units a millimetre."""
MM_A_SECOND: Final = 25
MM_A_MILLIVOLT: Final = 10
ROW_S: Final = 10
"""Seconds a row."""
MARGIN_MM: Final = 15
"""Left of the first sample: room for the calibration pulse."""
WIDTH_MM: Final = MARGIN_MM + ROW_S * MM_A_SECOND
MAX_ROWS: Final = 6
"""A minute at most; longer traces are cut."""
MIN_ABOVE_MM: Final = 15
MIN_BELOW_MM: Final = 10
MAX_ABOVE_MM: Final = 25
MAX_BELOW_MM: Final = 20
"""Room above and below a row's line, multiples of 5 mm."""
MAX_POINTS_A_SECOND: Final = 500
"""Above that, the extremes of each few samples are drawn: 0.05 mm are not to be told apart."""
CALIBRATION_MS: Final = 200
REMARK_ABOVE_FOOT: Final = 75
"""Above the triangle that marks an R peak, in units of the drawing."""


def paper(
    trace: Trace,
    *,
    recording_started_at_ms: int,
    name: str,
    label: str,
    r_peaks: Sequence[int] = (),
    poor_s: Sequence[int] = (),
    driving_ms: Sequence[tuple[int, int]] = (),
    remarks: Sequence[tuple[int, str]] = (),
    description: str = "",
) -> str:
    """Draw a trace in rows of ``ROW_S`` seconds.

    Args:
        trace: What to draw; up to ``MAX_ROWS`` rows.
        recording_started_at_ms: What time labels count from.
        name: Unique in the page; letters and digits.
        label: What a screen reader says.
        r_peaks: Sample indices that get a mark at the lower edge.
        poor_s: Seconds that are shaded, because their signal is not to be trusted.
        driving_ms: Stretches that are shaded with a bar at their foot, because they drove the verdict: beginning and
            end in milliseconds since the trace's first sample.
        remarks: Short texts at instants of the trace, milliseconds since its first sample.
        description: What the shading says, for who can't see it.

    Returns:
        An ``svg`` element, ``WIDTH_MM`` wide.
    """
    rate_hz = float(trace.sampling_rate_hz)
    row_samples = round(ROW_S * trace.sampling_rate_hz)
    rows = [trace.samples_uv[at : at + row_samples] for at in range(0, trace.samples_uv.size, row_samples)][:MAX_ROWS]
    centred = [_centred_mm(row) for row in rows]
    above_mm, below_mm = _room_mm(centred)
    height_mm = (above_mm + below_mm) * max(1, len(rows))
    parts = [
        f'<svg class="ecg" role="img" aria-labelledby="{name}t" aria-describedby="{name}d"'
        f' width="{WIDTH_MM}mm" height="{height_mm}mm" viewBox="0 0 {WIDTH_MM * MM} {height_mm * MM}">',
        f'<rect class="sheet" width="{WIDTH_MM * MM}" height="{height_mm * MM}"/>',
        _grid(height_mm),
    ]
    parts.insert(1, f'<title id="{name}t">{escaped(label)}</title><desc id="{name}d">{escaped(description)}</desc>')
    offset_ms = trace.started_at_ms - recording_started_at_ms
    for number, row_mm in enumerate(centred):
        top = number * (above_mm + below_mm) * MM
        line = top + above_mm * MM
        parts.append(
            f'<clipPath id="{name}r{number}"><rect x="0" y="{top}" width="{WIDTH_MM * MM}"'
            f' height="{(above_mm + below_mm) * MM}"/></clipPath>'
        )
        parts.append(_shaded(poor_s, number, row_mm.size / rate_hz, top, above_mm + below_mm))
        at_ms = offset_ms + number * ROW_S * 1000
        row_spans = _within_row(driving_ms, number, row_mm.size / rate_hz)
        parts.append(_driving(row_spans, at_ms, top, above_mm + below_mm))
        inside = [peak - number * row_samples for peak in r_peaks]
        parts.append(_marks([at for at in inside if 0 <= at < row_mm.size], rate_hz, top, above_mm + below_mm))
        parts.append(_remarks(remarks, number, row_mm.size / rate_hz, top, above_mm + below_mm))
        parts.append(_labels(top, at_ms, row_mm.size / rate_hz))
        parts.append(_gaps(row_mm, rate_hz, top, above_mm + below_mm))
        parts.append(f'<path class="cal" d="{_calibration(line)}"/>')
        parts.append(f'<path class="trace" clip-path="url(#{name}r{number})" d="{_path(row_mm, rate_hz, line)}"/>')
    parts.append("</svg>")
    return "".join(parts)


def _centred_mm(row_uv: NDArray[np.int32]) -> NDArray[np.float64]:
    """Millimetres above the row's line, NaN where missing."""
    row_mm: NDArray[np.float64] = row_uv.astype(np.float64) * (MM_A_MILLIVOLT / 1000)
    row_mm[row_uv == MISSING_UV] = np.nan
    if not np.isnan(row_mm).all():
        row_mm -= np.median(row_mm[~np.isnan(row_mm)])
    return row_mm


def _room_mm(rows: list[NDArray[np.float64]]) -> tuple[int, int]:
    present = np.concatenate([row[~np.isnan(row)] for row in rows]) if rows else np.zeros(0)
    if not present.size:
        return MIN_ABOVE_MM, MIN_BELOW_MM
    lowest, highest = np.quantile(present, (0.0005, 0.9995))

    def whole(need_mm: float, least_mm: int, most_mm: int) -> int:
        return int(min(max(5 * np.ceil((need_mm + 2) / 5), least_mm), most_mm))

    return whole(highest, MIN_ABOVE_MM, MAX_ABOVE_MM), whole(-lowest, MIN_BELOW_MM, MAX_BELOW_MM)


def _grid(height_mm: int) -> str:
    width, height = WIDTH_MM * MM, height_mm * MM

    def lines(step_mm: int, skip_mm: int) -> str:
        across = [f"M{x * MM} 0V{height}" for x in range(0, WIDTH_MM + 1, step_mm) if not skip_mm or x % skip_mm]
        along = [f"M0 {y * MM}H{width}" for y in range(0, height_mm + 1, step_mm) if not skip_mm or y % skip_mm]
        return "".join(across + along)

    return f'<path class="mm1" d="{lines(1, 5)}"/><path class="mm5" d="{lines(5, 0)}"/>'


def _calibration(line: int) -> str:
    wide, high = CALIBRATION_MS * MM_A_SECOND * MM // 1000, MM_A_MILLIVOLT * MM
    return f"M{3 * MM} {line}h{2 * MM}v{-high}h{wide}v{high}h{2 * MM}"


def _labels(top: int, from_ms: int, duration_s: float) -> str:
    seconds = range(max(1, int(np.ceil(duration_s))))
    at = {second: (MARGIN_MM + second * MM_A_SECOND) * MM for second in seconds}
    marks = [f"M{at[second]} {top}v{MM if second % 5 else 2 * MM}" for second in seconds]
    texts = [
        f'<text x="{at[second] + 30}" y="{top + 170}">{clock(from_ms + second * 1000)}</text>'
        for second in seconds[::5]
    ]
    return f'<path class="tick" d="{"".join(marks)}"/>{"".join(texts)}'


def _shaded(poor_s: Sequence[int], row: int, duration_s: float, top: int, height_mm: int) -> str:
    rects = []
    for second in poor_s:
        from_s = second - row * ROW_S
        if 0 <= from_s < min(ROW_S, duration_s):
            x, wide_s = (MARGIN_MM + from_s * MM_A_SECOND) * MM, min(1.0, duration_s - from_s)
            width = round(wide_s * MM_A_SECOND * MM)
            rects.append(f'<rect class="poor" x="{x}" y="{top}" width="{width}" height="{height_mm * MM}"/>')
    return "".join(rects)


def _within_row(spans_ms: Sequence[tuple[int, int]], row: int, duration_s: float) -> list[tuple[int, int]]:
    """The parts of spans that lie in a row, milliseconds since the row's first sample."""
    from_ms, length_ms = row * ROW_S * 1000, round(duration_s * 1000)
    cut = [(max(first - from_ms, 0), min(last - from_ms, length_ms)) for first, last in spans_ms]
    return [(first, last) for first, last in cut if first < last]


def _driving(spans_ms: Sequence[tuple[int, int]], from_ms: int, top: int, height_mm: int) -> str:
    rects = []
    for first, last in spans_ms:
        x, width = _x_ms(first), _x_ms(last) - _x_ms(first)
        title = f"<title>{clock(from_ms + first)}–{clock(from_ms + last)} drove the verdict</title>"
        rects.append(
            f'<rect class="drive" x="{x}" y="{top}" width="{width}" height="{height_mm * MM}">{title}</rect>'
            f'<rect class="drive-bar" x="{x}" y="{top + (height_mm - 1) * MM}" width="{width}" height="{MM}"/>'
        )
    return "".join(rects)


def _x_ms(at_ms: int) -> int:
    return MARGIN_MM * MM + at_ms * MM_A_SECOND * MM // 1000


def _remarks(remarks: Sequence[tuple[int, str]], row: int, duration_s: float, top: int, height_mm: int) -> str:
    """Texts above the marks of the R peaks."""
    foot = top + height_mm * MM - MM - REMARK_ABOVE_FOOT
    inside = [(at_ms - row * ROW_S * 1000, text) for at_ms, text in remarks]
    return "".join(
        f'<text class="remark" x="{_x_ms(at_ms)}" y="{foot}" text-anchor="middle">{escaped(text)}</text>'
        for at_ms, text in inside
        if 0 <= at_ms < min(ROW_S, duration_s) * 1000
    )


def _marks(r_peaks: Sequence[int], rate_hz: float, top: int, height_mm: int) -> str:
    """A small triangle under each R peak, pointing at it."""
    if not r_peaks:
        return ""
    foot = top + (height_mm - 1) * MM
    at = _x(np.asarray(r_peaks), rate_hz).tolist()
    return f'<path class="beat" d="{"".join(f"M{x} {foot - 55}l32 55h-64z" for x in at)}"/>'


def _gaps(row_mm: NDArray[np.float64], rate_hz: float, top: int, height_mm: int) -> str:
    missing = np.flatnonzero(np.diff(np.r_[False, np.isnan(row_mm), False]))
    rects = []
    for first, last in missing.reshape(-1, 2):
        x, end = _x(first, rate_hz), _x(last, rate_hz)
        rects.append(f'<rect class="gap" x="{x}" y="{top}" width="{end - x}" height="{height_mm * MM}"/>')
        if last - first > rate_hz:
            rects.append(f'<text class="gap" x="{x + 60}" y="{top + height_mm * MM // 2}">no signal</text>')
    return "".join(rects)


def _x(sample: int | NDArray[np.int64], rate_hz: float) -> NDArray[np.int64]:
    return np.rint((MARGIN_MM + np.asarray(sample) / rate_hz * MM_A_SECOND) * MM).astype(np.int64)


def _path(row_mm: NDArray[np.float64], rate_hz: float, line: int) -> str:
    """SVG path data: one relative polyline for each unbroken run."""
    index = _drawn(row_mm, rate_hz)
    value = row_mm[index]
    edges = np.flatnonzero(np.diff(np.r_[False, ~np.isnan(value), False])).reshape(-1, 2)
    runs = []
    for first, last in edges:
        x = _x(index[first:last], rate_hz)
        y = np.rint(line - np.clip(value[first:last], -200, 200) * MM).astype(np.int64)
        steps = np.stack([np.diff(x), np.diff(y)], axis=1).ravel().tolist()
        drawn = " ".join(map(str, steps)).replace(" -", "-")
        runs.append(f"M{x[0]} {y[0]}l{drawn}" if steps else f"M{x[0]} {y[0]}h1")
    return "".join(runs)


def _drawn(row_mm: NDArray[np.float64], rate_hz: float) -> NDArray[np.int64]:
    """Indices of the samples to draw: all, or the lowest and highest of each bucket."""
    every = int(np.ceil(rate_hz / MAX_POINTS_A_SECOND))
    if every == 1:
        return np.arange(row_mm.size, dtype=np.int64)
    bucket = 2 * every
    whole = row_mm.size - row_mm.size % bucket
    # A bucket with a missing sample is drawn sample by sample, so that the gap keeps its edges.
    buckets = row_mm[:whole].reshape(whole // bucket, bucket)
    start = np.arange(0, whole, bucket)
    broken: NDArray[np.bool_] = np.isnan(buckets).any(axis=1).reshape(-1)
    sound = np.nan_to_num(buckets)
    low, high = start + sound.argmin(axis=1), start + sound.argmax(axis=1)
    picked = [low[~broken], high[~broken], (start[broken][:, None] + np.arange(bucket)).ravel()]
    return np.unique(np.concatenate([*picked, np.arange(whole, row_mm.size)])).astype(np.int64)
