"""Beats and windows made up for tests of the risk rules."""

from __future__ import annotations

from collections.abc import Iterable

from einthoven.results import BeatClass, InconclusiveReason, Quality, Rhythm, WindowResult
from einthoven.risk import RiskBeat, window_tier

START_MS = 1_700_000_000_000
LETTERS = {
    "N": BeatClass.NORMAL,
    "S": BeatClass.SUPRAVENTRICULAR,
    "V": BeatClass.VENTRICULAR,
    "?": BeatClass.UNKNOWN,
}


def beats_of(
    letters: str, rr_ms: int | Iterable[int] = 800, *, start_ms: int = START_MS, permille: int = 950
) -> list[RiskBeat]:
    """Beats by letter: N, S, V, ? unknown; ``|`` a gap of 5 s, ``x`` an unusable normal beat.

    Args:
        letters: One a beat.
        rr_ms: The interval before each beat, or one for all.
        start_ms: UTC before the first.
        permille: Certainty of every class.
    """
    intervals = iter([rr_ms] * len(letters) if isinstance(rr_ms, int) else rr_ms)
    beats, at_ms, gap = [], start_ms, True
    for letter in letters:
        if letter == "|":
            at_ms, gap = at_ms + 5_000, True
            continue
        each_ms = next(intervals)
        at_ms += each_ms
        kind = LETTERS.get(letter, BeatClass.NORMAL)
        beats.append(RiskBeat(at_ms, None if gap else each_ms, kind, permille, usable=letter != "x"))
        gap = False
    return beats


def a_window(
    counter: int = 1,
    rhythm: Rhythm = Rhythm.NORMAL,
    reason: InconclusiveReason = InconclusiveReason.NONE,
    duration_ms: int = 30_000,
    started_at_ms: int | None = None,
) -> WindowResult:
    """A verdict; window n begins (n - 1) times 30 s after the start, if not said otherwise."""
    return WindowResult(
        counter=counter,
        started_at_ms=START_MS + (counter - 1) * 30_000 if started_at_ms is None else started_at_ms,
        duration_ms=duration_ms,
        n_steps=28,
        usable_s=28,
        quality=Quality.USABLE,
        rhythm=rhythm,
        confidence_permille=900,
        logits=(1, 2, 3, 4),
        tier=window_tier(rhythm, reason),
        reason=reason,
        model_digest=bytes(32),
        front_end_version=1,
        segment_digest=bytes(32),
    )
