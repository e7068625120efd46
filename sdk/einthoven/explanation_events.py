"""Which seconds drove an event: those of the beats that make it, or those that drove its windows' verdicts. Pure.

An event that beats make (a run, a pause) is driven by the seconds that hold these beats; every other one, such as an
episode of atrial fibrillation, by the seconds that drove the verdict of each window it lies in.

It deliberately finds no event (``risk`` does).

Invariants:
    1. No span lies outside the stretch that was asked about, and no two touch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from einthoven.explanation_parts import BeatMark, Explanation
from einthoven.results import BeatClass, WindowResult

_VENTRICULAR: Final = {"v", "vt", "pvc", "idioventricular"}
_SUPRAVENTRICULAR: Final = {"s", "svt", "pac"}
_PAUSES: Final = {"pause", "no"}
"""How the names of rules begin that beats of a class, or pauses, make."""

Span = tuple[int, int]
"""Beginning and end, UTC in ms since 1970."""


@dataclass(frozen=True, slots=True)
class ExplainedWindow:
    """Why a window got its verdict.

    Attributes:
        result: The window's verdict.
        explanation: Of this window.
    """

    result: WindowResult
    explanation: Explanation = field(repr=False)


@dataclass(frozen=True, slots=True)
class Driven:
    """What drove an event.

    Attributes:
        spans: Stretches of whole seconds of their window, in order.
        by_beats: Whether they hold the beats that make it; else they drove the verdict.
    """

    spans: tuple[Span, ...]
    by_beats: bool


def what_drove(rule: str, within: Span, windows: Sequence[ExplainedWindow]) -> Driven:
    """Which seconds of a stretch drove an event, or a window's verdict.

    Args:
        rule: Name of the risk rule; empty for a window.
        within: The stretch.
        windows: The windows it lies in.
    """
    beats = _clipped(within, (span for window in windows for span in _beat_spans(rule, window)))
    return Driven(beats, True) if beats else Driven(_clipped(within, map(_second, _driving(windows))), False)


def _driving(windows: Sequence[ExplainedWindow]) -> Iterable[int]:
    for window in windows:
        for second in window.explanation.driving:
            yield window.result.started_at_ms + second * 1000


def _second(start_ms: int) -> Span:
    return start_ms, start_ms + 1000


def _beat_spans(rule: str, window: ExplainedWindow) -> Iterable[Span]:
    for mark in window.explanation.beats:
        if _makes(rule.split("_", maxsplit=1)[0], mark):
            first_ms = mark.at_ms - (mark.rr_ms or 0 if mark.pause else 0)
            start_ms = window.result.started_at_ms
            yield start_ms + first_ms // 1000 * 1000, start_ms + mark.at_ms // 1000 * 1000 + 1000


def _makes(kind: str, mark: BeatMark) -> bool:
    if kind in _PAUSES:
        return mark.pause
    if kind in _VENTRICULAR:
        return mark.beat_class is BeatClass.VENTRICULAR
    return kind in _SUPRAVENTRICULAR and mark.beat_class is BeatClass.SUPRAVENTRICULAR


def _clipped(within: Span, spans: Iterable[Span]) -> tuple[Span, ...]:
    """Spans cut to a stretch, and joined where they touch."""
    joined: list[Span] = []
    for start_ms, end_ms in sorted((max(first, within[0]), min(last, within[1])) for first, last in spans):
        if start_ms >= end_ms:
            continue
        if joined and start_ms <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end_ms))
        else:
            joined.append((start_ms, end_ms))
    return tuple(joined)
