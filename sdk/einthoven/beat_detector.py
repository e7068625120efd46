"""Finds QRS complexes in the 128 Hz signal as it streams in, with their R peaks. Integers throughout.

Candidates (``beat_candidates``) are scored twice by small trained networks (``beat_scorer``): by how they look
(``beat_features``), then by how they fit in with the candidates around them (``beat_context``). Of those within a
refractory period of each other the best stays. It deliberately does not judge the signal (``signal_quality``), classify
beats or correct RR intervals (``rr_intervals``).

Invariants:
    1. Output depends on the samples alone, never on how they were cut into chunks.
    2. A beat is out at the latest ``DELAY_S`` after its R peak came in; memory is bounded, and so is the work that one
       push of a few samples can cause.
    3. R peaks strictly increase, over all pushes.
    4. A signal turned upside down gives the same beats with the opposite amplitudes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from einthoven import beat_context, beat_peaks, beat_scanning, beat_scorer
from einthoven.beat_candidates import BLOCK
from einthoven.beat_scanning import Candidates
from einthoven.beat_tables import BeatTables, load_beat_tables
from einthoven.resampling import MODEL_RATE_HZ

TICKS_HZ: Final = beat_peaks.TICKS * MODEL_RATE_HZ
"""R peaks are placed in 1/1024 s, 1/8 of a sample."""
REFRACTORY: Final = 26
"""Samples within which there is one beat at most: 203 ms."""
DELAY_S: Final = (beat_scanning.AHEAD + beat_context.AHEAD + REFRACTORY + beat_peaks.REACH + BLOCK) / MODEL_RATE_HZ
"""Bound of the time from an R peak to its beat's being out, in seconds of signal: 2 s."""


@dataclass(frozen=True, slots=True)
class DetectedBeats:
    """Beats in the order of time.

    Attributes:
        at_ticks: int64 [k], R peaks in 1/``TICKS_HZ`` s since the first sample.
        score: uint8 [k], how sure, 0 to 255.
        amplitude_uv: int64 [k], the R peak over the baseline, microvolts; negative where the main deflection is down.
    """

    at_ticks: NDArray[np.int64]
    score: NDArray[np.uint8]
    amplitude_uv: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.at_ticks)


EMPTY_BEATS: Final = DetectedBeats(np.zeros(0, np.int64), np.zeros(0, np.uint8), np.zeros(0, np.int64))

_Beat = tuple[int, int, int, int]  # position, logit, ticks, amplitude


class BeatDetector:
    """Finds beats as samples arrive.

    Args:
        tables: The shipped ones, if not given.

    Raises:
        ModelError: The shipped tables are missing or damaged.
    """

    def __init__(self, tables: BeatTables | None = None) -> None:
        self._tables = tables or load_beat_tables()
        self._scanner = beat_scanning.Scanner(self._tables.band_pass)
        # Candidates that the second scorer still needs; those before `_described` are there as context alone.
        self._positions, self._rows = beat_context.nothing_before()
        self._described = len(self._positions)
        self._ticks = np.zeros(self._described, np.int64)
        self._amplitudes = np.zeros(self._described, np.int64)
        self._best: _Beat | None = None

    @property
    def settled(self) -> int:
        """Index at 128 Hz before which no more beats will come."""
        return max(self._scanner.scanned - beat_context.AHEAD - REFRACTORY - beat_peaks.REACH - 1, 0)

    def push(self, resampled: NDArray[np.int64]) -> DetectedBeats:
        """Take samples int64 [n] at 128 Hz in microvolts, return the beats that are certain now."""
        return _as_beats(self._decide(self._scanner.push(resampled)))

    def finish(self) -> DetectedBeats:
        """End the signal: the last sample goes on, and what is still open is decided."""
        return _as_beats(self._decide(self._scanner.finish(beat_context.AHEAD + REFRACTORY + 2 * BLOCK)))

    def _decide(self, scanned: Iterable[Candidates]) -> list[_Beat]:
        found: list[_Beat] = []
        for candidates in scanned:
            self._keep(candidates)
            stop = candidates.stop - beat_context.AHEAD
            found += self._settle(self._score(stop), stop)
        return found

    def _keep(self, candidates: Candidates) -> None:
        """Score candidates by their looks; remember those that may be beats."""
        if not len(candidates.at):
            return
        logits = beat_scorer.score(candidates.features, self._tables.first)
        likely = (logits > beat_context.LEAST_LOGIT).nonzero()[0]
        if not len(likely):
            return
        at = candidates.at[likely]
        rows = beat_context.summarize(candidates.features[likely], logits[likely])
        ticks, amplitudes = beat_peaks.refine(candidates.samples, at)
        ticks = np.maximum(ticks + beat_peaks.TICKS * candidates.offset, 0)
        self._rows = np.concatenate([self._rows, rows])
        self._ticks = np.concatenate([self._ticks, ticks])
        self._amplitudes = np.concatenate([self._amplitudes, amplitudes])
        self._positions = np.concatenate([self._positions, at + candidates.offset])

    def _score(self, stop: int) -> list[_Beat]:
        """Candidates before ``stop`` that are beats by their context too; those too old to be context are forgotten."""
        first, last = self._described, int(self._positions.searchsorted(stop))
        scored: list[_Beat] = []
        if last > first:
            features = beat_context.extract(self._positions, self._rows, first, last)
            logits = beat_scorer.score(features, self._tables.second)
            sure = (logits > self._tables.threshold).nonzero()[0]
            if len(sure):
                index = sure + first
                columns = self._positions[index], logits[sure], self._ticks[index], self._amplitudes[index]
                scored = list(zip(*(column.tolist() for column in columns), strict=True))
        forget = last - beat_context.NEIGHBOURS_BACK
        if forget:
            self._positions, self._rows = self._positions[forget:], self._rows[forget:]
            self._ticks, self._amplitudes = self._ticks[forget:], self._amplitudes[forget:]
        self._described = last - forget
        return scored

    def _settle(self, scored: list[_Beat], stop: int) -> list[_Beat]:
        """The best within each refractory period, as soon as no better one can come."""
        found = []
        best = self._best
        for beat in scored:
            if best is not None and beat[0] - best[0] >= REFRACTORY:
                found.append(best)
                best = None
            if best is None or beat[1] > best[1]:
                best = beat
        if best is not None and stop - best[0] >= REFRACTORY:
            found.append(best)
            best = None
        self._best = best
        return found


def _as_beats(found: list[_Beat]) -> DetectedBeats:
    if not found:
        return EMPTY_BEATS
    _, logits, ticks, amplitudes = zip(*found, strict=True)
    score = beat_scorer.as_scores(np.array(logits, np.int64)).astype(np.uint8)
    return DetectedBeats(np.array(ticks, np.int64), score, np.array(amplitudes, np.int64))
