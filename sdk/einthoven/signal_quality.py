"""Signal quality: an index from 0 to 100 for each second, and named reasons where the second is not usable.

Raw samples show gaps, flat lines, clipping and mains (``quality_raw``); everything else is judged on the 128 Hz signal
by measures of each second (``quality_measures``) and a small network over their neighbourhood (``quality_network``).

It deliberately needs no beats, and says "usable" of any signal in which a QRS detector can still be right: an
irregular rhythm, wide complexes, an inverted lead or a low voltage are not poor quality.

Invariants:
    1. Output depends on the samples alone, never on how they were cut into chunks.
    2. ``flags == 0`` (usable) exactly where ``index >= USABLE_INDEX``; every other second has a reason.
    3. A second is out at most ``DELAY_S`` after its first sample came in, plus the resampler's delay.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from einthoven.quality_measures import LOOK_AHEAD, N_MEASURES, SecondMeasures
from einthoven.quality_network import AHEAD_S, BEHIND_S, REASONS, USABLE_INDEX, shipped_network
from einthoven.quality_raw import RawSeconds
from einthoven.resampling import MODEL_RATE_HZ
from einthoven.results import Quality

__all__ = ["DELAY_S", "EMPTY_SECONDS", "USABLE_INDEX", "AssessedSeconds", "SignalQuality"]

BLOCK_S: Final = 2
"""Seconds measured together as they arrive: what a second costs is mostly what a call costs."""
DELAY_S: Final = BLOCK_S + AHEAD_S + LOOK_AHEAD / MODEL_RATE_HZ
"""A block's length, the seconds after it that it is compared with, and the look-ahead of their measures."""
FLAGGED_MAX_INDEX: Final = 25
"""The best that a second with a raw flag can have."""
BATCH_S: Final = 64
"""Seconds worked on at a time: small enough for the processor's cache, and a bound on memory."""

_UNSEEN = int(Quality.GAP)
_REASON_BITS = np.array([int(reason) for reason in REASONS], np.uint16)


@dataclass(frozen=True, slots=True)
class AssessedSeconds:
    """Quality of consecutive seconds.

    Attributes:
        flags: uint16 [s], bits of ``Quality``; 0 is usable.
        index: uint8 [s], 0 worst to 100 best; ``USABLE_INDEX`` or more exactly where ``flags`` is 0.
    """

    flags: NDArray[np.uint16]
    index: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.flags)


EMPTY_SECONDS: Final = AssessedSeconds(np.zeros(0, np.uint16), np.zeros(0, np.uint8))


class SignalQuality:
    """Judges each second as samples arrive.

    Args:
        sampling_rate_hz: Of the raw samples, exact.

    Raises:
        SamplingRateError: A rate the front end can't take.
        ModelCorrupt: The shipped tables are damaged.
    """

    def __init__(self, sampling_rate_hz: Fraction) -> None:
        self._network = shipped_network()
        self._raw = RawSeconds(sampling_rate_hz, least_s=BLOCK_S)
        self._measures = SecondMeasures(least_s=BLOCK_S)
        self._raw_flags = np.zeros(0, np.uint16)
        self._rows = np.zeros((0, N_MEASURES), np.int64)

    def push(self, raw_uv: NDArray[np.int32], resampled: NDArray[np.int64]) -> AssessedSeconds:
        """Take what arrived.

        Args:
            raw_uv: int32 [n], microvolts as received, ``MISSING_UV`` where nothing was.
            resampled: int64 [m], the same signal at 128 Hz, as far as it is known.

        Returns:
            The seconds that are settled now, in order.
        """
        self._note(self._raw.push(raw_uv))
        step = BATCH_S * MODEL_RATE_HZ
        if len(resampled) <= step:
            return self._settle(self._measures.push(resampled))
        return _joined(
            [self._settle(self._measures.push(resampled[i : i + step])) for i in range(0, len(resampled), step)]
        )

    def finish(self) -> AssessedSeconds:
        """The remaining whole seconds, as if the signal had stayed as it was in the last of them."""
        self._note(self._raw.finish())
        parts = [self._settle(self._measures.finish())]
        if len(self._rows):
            parts.append(self._settle(np.repeat(self._rows[-1:], AHEAD_S, axis=0)))
        return _joined(parts)

    def _note(self, raw_flags: NDArray[np.uint16]) -> None:
        if len(raw_flags):
            self._raw_flags = np.concatenate((self._raw_flags, raw_flags))

    def _settle(self, rows: NDArray[np.int64]) -> AssessedSeconds:
        if not len(rows):
            return EMPTY_SECONDS
        known = self._rows if len(self._rows) else np.repeat(rows[:1], BEHIND_S, axis=0)
        self._rows = np.concatenate((known, rows))
        count = min(len(self._rows) - BEHIND_S - AHEAD_S, len(self._raw_flags))
        if count <= 0:
            return EMPTY_SECONDS
        index, scores = self._network.run(self._rows[: count + BEHIND_S + AHEAD_S])
        self._rows = self._rows[count:]
        raw_flags, self._raw_flags = self._raw_flags[:count], self._raw_flags[count:]
        return _judged(index, scores, raw_flags)


def _judged(index: NDArray[np.intp], scores: NDArray[np.float64], raw_flags: NDArray[np.uint16]) -> AssessedSeconds:
    """Index and flags made to agree."""
    poor = index < USABLE_INDEX
    flags = raw_flags
    if raw_flags.any():
        # A reason beside the raw one is worth naming where there is a signal to see it in.
        poor &= raw_flags & _UNSEEN == 0
        index = np.where(raw_flags != 0, np.minimum(index, FLAGGED_MAX_INDEX), index)
    if poor.any():
        flags = raw_flags | np.where(poor, _REASON_BITS[scores.argmax(axis=1)], 0).astype(np.uint16)
    return AssessedSeconds(flags, index.astype(np.uint8))


def _joined(parts: list[AssessedSeconds]) -> AssessedSeconds:
    if len(parts) == 1:
        return parts[0]
    return AssessedSeconds(
        np.concatenate([part.flags for part in parts]), np.concatenate([part.index for part in parts])
    )
