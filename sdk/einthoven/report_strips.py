"""Which stretches of a recording a report draws in full: events that led to the tier, and one window a verdict. Pure.

It deliberately judges nothing: the risk rules name the strips.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from einthoven.explanation_events import ExplainedWindow
from einthoven.explanation_parts import Explanation
from einthoven.report_content import RHYTHM_WORDS, Strip, Trace
from einthoven.results import RiskTier, WindowResult
from einthoven.risk import WINDOW_RULE_NAMES, Evidence

MAX_EVENT_STRIPS: Final = 4
_NO_INDICES: Final[NDArray[np.int64]] = np.zeros(0, np.int64)

Explain = Callable[[WindowResult], Explanation | None]
"""Says why a window got its verdict; ``None`` where its signal is not there any more."""


def _unexplained(_: WindowResult) -> None:
    return None


def choose_strips(
    recording: Trace,
    windows: Sequence[WindowResult],
    *,
    r_peaks: NDArray[np.int64] | None = None,
    flags: NDArray[np.uint16] | None = None,
    evidence: Sequence[Evidence] = (),
    explain: Explain = _unexplained,
) -> tuple[Strip, ...]:
    """Choose what a reader wants to see first: events of the highest tiers, and one window of each kind of verdict.

    An event is the first strip of a rule of beats that goes beyond ``ROUTINE``, ``MAX_EVENT_STRIPS`` at most. Of each
    rhythm it is the most certain conclusive window, and of the inconclusive ones the first. Windows are in order of
    time.

    Args:
        recording: The whole recording.
        windows: Every window's verdict.
        r_peaks: int64 [k], sample indices of the recording's R peaks, in order.
        flags: uint16 [s], quality flags of the recording's seconds.
        evidence: What led to the tier, highest first.
        explain: Asked of each window that is drawn, or that an event that is drawn lies in.
    """
    chosen: dict[str, WindowResult] = {}
    for result in windows:
        if result.tier is RiskTier.INCONCLUSIVE:
            chosen.setdefault("Inconclusive", result)
            continue
        heading = RHYTHM_WORDS[result.rhythm]
        best = chosen.get(heading)
        if best is None or result.confidence_permille > best.confidence_permille:
            chosen[heading] = result
    by_time = sorted(chosen.items(), key=lambda item: item[1].started_at_ms)
    peaks = _NO_INDICES if r_peaks is None else r_peaks
    poor = _NO_INDICES if flags is None else np.flatnonzero(flags)
    whole = [
        _strip(heading, recording, result, (result.started_at_ms, result.duration_ms), peaks, poor)
        for heading, result in by_time
    ]
    events = _event_strips(recording, windows, evidence, peaks, poor)
    results = {result.counter: result for result in windows}
    strips = [*events, *((strip, (strip.result.counter,)) for strip in whole)]
    explained = {
        counter: ExplainedWindow(results[counter], explanation)
        for counter in sorted({counter for _, counters in strips for counter in counters})
        if (explanation := explain(results[counter])) is not None
    }
    return tuple(
        replace(strip, explained=tuple(explained[counter] for counter in counters if counter in explained))
        for strip, counters in strips
    )


def _event_strips(
    recording: Trace,
    windows: Sequence[WindowResult],
    evidence: Sequence[Evidence],
    r_peaks: NDArray[np.int64],
    poor: NDArray[np.int64],
) -> list[tuple[Strip, tuple[int, ...]]]:
    """Strips of events, each with the windows it lies in."""
    by_counter = {result.counter: result for result in windows}
    strips = []
    for found in evidence:
        first = found.strips[0] if found.strips else None
        results = [by_counter[counter] for counter in (first.counters if first else ()) if counter in by_counter]
        if first is None or not results or found.tier is RiskTier.ROUTINE or found.rule in WINDOW_RULE_NAMES:
            continue
        start_ms = max(first.start_ms, recording.started_at_ms)
        span = start_ms, first.end_ms - start_ms
        strip = _strip(found.statement.split(":")[0].capitalize(), recording, results[-1], span, r_peaks, poor)
        counters = tuple(one.counter for one in results)
        strips.append((replace(strip, event=True, rule=found.rule), counters))
    return strips[:MAX_EVENT_STRIPS]


def _strip(
    heading: str,
    recording: Trace,
    result: WindowResult,
    span: tuple[int, int],
    r_peaks: NDArray[np.int64],
    poor: NDArray[np.int64],
) -> Strip:
    started_at_ms, duration_ms = span
    from_ms = started_at_ms - recording.started_at_ms
    trace = recording.cut(started_at_ms, duration_ms)
    first = max(0, round(from_ms * recording.sampling_rate_hz / 1000))
    inside = r_peaks[(r_peaks >= first) & (r_peaks < first + trace.samples_uv.size)] - first
    first_s, n_s = round(from_ms / 1000), -(-duration_ms // 1000)
    seconds = poor[(poor >= first_s) & (poor < first_s + n_s)] - first_s
    return Strip(heading, result, trace, inside, tuple(seconds.tolist()))
