"""The beats of a window that stand out: early ones, those of the classes S and V, and those after a pause. Pure.

It deliberately judges no beat (``beat_classes`` did) and no pause's risk (``risk`` does).

Invariants:
    1. Only an interval with no gap in it makes a beat early or late.
    2. A beat in a second whose signal is not to be trusted is counted, but does not stand out.
    3. Of more than ``BEATS_MAX`` the gravest are kept, of equals the first, in order of time.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from einthoven.beat_detector import TICKS_HZ
from einthoven.beat_peaks import TICKS
from einthoven.explanation_measures import P_HEIGHT_COLUMN, P_LIKENESS_COLUMN, RATE_COLUMN, VARIATION_COLUMN
from einthoven.explanation_parts import BeatMark, Rhythmicity
from einthoven.results import BeatClass, Rhythm
from einthoven.risk_rules import PAUSE_NOTED_MS
from einthoven.window_features import AFTER, BEFORE, LEAST_BEATS, Integers, WindowView
from einthoven.window_features import BEATS_MAX as BEATS_LAID_OVER

BEATS_MAX: Final = 40
"""Beats that are named; all are counted."""
EARLY_PERMILLE: Final = 850
"""Intervals under this many 1/1000 of the median one are early, as in ``window_features``."""


def find_beats(
    view: WindowView, features: Integers, rhythm: Rhythm, flags: NDArray[np.uint16]
) -> tuple[tuple[BeatMark, ...], Rhythmicity]:
    """Beats that stand out, and all of them in numbers.

    Args:
        view: The window.
        features: int64 [FEATURES], its description.
        rhythm: Its class. In atrial fibrillation every other beat is early; that marks none of them.
        flags: uint16 [s], quality flags of its seconds.
    """
    after_gap = view.after_gap.copy()
    after_gap[:1] = True
    rr_ticks = np.diff(view.at_ticks, prepend=view.at_ticks[:1])
    whole = np.sort(rr_ticks[~after_gap])
    median = max(int(whole[(len(whole) - 1) // 2]), 1) if len(whole) else 1
    early = ~after_gap & (rr_ticks * 1000 // median < EARLY_PERMILLE)
    pause = ~after_gap & (rr_ticks * 1000 > PAUSE_NOTED_MS * TICKS_HZ)
    wide, above = view.classes == BeatClass.VENTRICULAR, view.classes == BeatClass.SUPRAVENTRICULAR
    shown_early = early & (rhythm is not Rhythm.AF)
    second = view.at_ticks // TICKS_HZ
    poor = (np.append(flags, 0)[np.minimum(second, len(flags))]) > 0
    gravity = np.select([poor, wide, pause, above, shown_early], [4, 0, 1, 2, 3], 4)
    ranked = np.argsort(gravity, kind="stable")[:BEATS_MAX]
    marks = tuple(
        BeatMark(
            at_ms=int(view.at_ticks[i]) * 1000 // TICKS_HZ,
            beat_class=BeatClass(int(view.classes[i])),
            early=bool(shown_early[i]),
            pause=bool(pause[i]),
            rr_ms=None if after_gap[i] else int(rr_ticks[i]) * 1000 // TICKS_HZ,
        )
        for i in sorted(ranked[gravity[ranked] < 4].tolist())
    )
    at = view.at_ticks[:BEATS_LAID_OVER] // TICKS
    laid_over = int(np.count_nonzero((at >= BEFORE) & (at + AFTER < len(view.resampled))))
    return marks, Rhythmicity(
        beats=len(view.classes),
        ventricular=int(wide.sum()),
        supraventricular=int(above.sum()),
        unknown=int((view.classes == BeatClass.UNKNOWN).sum()),
        intervals=len(whole),
        early=int(early.sum()),
        pauses=int(pause.sum()),
        rate_bpm=int(features[RATE_COLUMN]),
        variation_permille=int(features[VARIATION_COLUMN]),
        p_height_permille=int(features[P_HEIGHT_COLUMN]),
        p_likeness_permille=int(features[P_LIKENESS_COLUMN]),
        laid_over=laid_over if laid_over >= LEAST_BEATS else 0,
    )
