"""The signal path: raw microvolts in; R peaks, their classes and a quality for each second out. Streaming, in integers.

One resampling to 128 Hz serves beats and quality. It deliberately knows no model, no clock and no window: a session
runs one path over a whole recording, so that a beat near a window's edge is seen with what surrounds it.

Invariants:
    1. Output depends on the samples alone, never on how they were cut into chunks.
    2. Delay is bounded: after a sample came in, its beat is out within ``beat_detector.DELAY_S`` and
       ``beat_classes.DELAY_S`` (as soon as the next beat is known), its second within ``signal_quality.DELAY_S``, both
       plus the block and the resampler's 0.2 s.
    3. No beat is reported where nothing was received, nor within ``GAP_EDGE_MS`` of a gap of over ``GAP_MS``: the
       step back to the signal is no heart's.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from einthoven.beat_classes import BeatClassifier, ClassifiedBeats
from einthoven.beat_detector import TICKS_HZ, BeatDetector, DetectedBeats
from einthoven.errors import InputError
from einthoven.frontend import Filler
from einthoven.ports import MISSING_UV
from einthoven.quality import GAP_MS
from einthoven.resampling import FrontEndCoefficients, Resampler, ResamplerTable
from einthoven.signal_quality import EMPTY_SECONDS, AssessedSeconds, SignalQuality

BLOCK_MS: Final = 5_000
"""Samples are worked on when this much has come in: going over them costs as much as twenty seconds of signal do, and
the battery pays. An app that shows each beat as it comes asks for less (``block_ms``); the bits are the same."""
MIN_BLOCK_MS: Final = 50
MAX_BLOCK_MS: Final = 60_000
GAP_EDGE_MS: Final = 50
"""How near to a gap an R peak is not believed: half a QRS complex."""
BATCH_S: Final = 600
"""Seconds worked on at a time, which bounds memory whatever one push holds."""

_NO_SAMPLES = np.zeros(0, np.int32)
_NO_RESAMPLED = np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True)
class Beats:
    """R peaks, in order of time; all arrays are [k].

    Attributes:
        r_peaks: int64, sample indices of the input, from 0 at the first sample of the recording.
        scores: uint8, how sure the detector is, 0 to 255.
        amplitudes_uv: int64, signed height of the R peak over the baseline; negative for an electrode the wrong way.
        after_gap: bool, whether samples are missing between this peak and the one before: then there is no interval.
        classes: uint8, ``BeatClass``.
        class_permille: uint16, calibrated probability of that class in 1/1000; 0 where it is ``UNKNOWN``.
    """

    r_peaks: NDArray[np.int64]
    scores: NDArray[np.uint8]
    amplitudes_uv: NDArray[np.int64]
    after_gap: NDArray[np.bool_]
    classes: NDArray[np.uint8]
    class_permille: NDArray[np.uint16]

    def __len__(self) -> int:
        return len(self.r_peaks)


NO_BEATS: Final = Beats(
    np.zeros(0, np.int64),
    np.zeros(0, np.uint8),
    np.zeros(0, np.int64),
    np.zeros(0, np.bool_),
    np.zeros(0, np.uint8),
    np.zeros(0, np.uint16),
)


@dataclass(frozen=True, slots=True)
class SignalChunk:
    """What became certain with a push.

    Attributes:
        beats: R peaks.
        seconds: Quality, one a second, in order and without holes.
    """

    beats: Beats
    seconds: AssessedSeconds


NOTHING: Final = SignalChunk(NO_BEATS, EMPTY_SECONDS)


class SignalPath:
    """Finds beats and judges the signal as samples arrive.

    Args:
        coefficients: The low-pass, from a model's manifest (``Model.coefficients``).
        sampling_rate_hz: Samples a second, exact.
        table: Taps for this rate, if they are there already.
        block_ms: Work on so much at a time, ``MIN_BLOCK_MS`` to ``MAX_BLOCK_MS``.

    Raises:
        InputError: ``block_ms`` out of range.
        SamplingRateError: A rate outside 100-1000 Hz.
        ModelError: The shipped tables of the detectors are damaged.
    """

    def __init__(
        self,
        coefficients: FrontEndCoefficients,
        sampling_rate_hz: Fraction,
        *,
        table: ResamplerTable | None = None,
        block_ms: int = BLOCK_MS,
    ) -> None:
        if not MIN_BLOCK_MS <= block_ms <= MAX_BLOCK_MS:
            raise InputError("the block is out of range", f"give {MIN_BLOCK_MS} to {MAX_BLOCK_MS} ms")
        self._table = table or ResamplerTable(coefficients, sampling_rate_hz)
        self._rate = sampling_rate_hz
        self._filler = Filler()
        self._resampler = Resampler(self._table)
        self._detector = BeatDetector()
        self._classifier = BeatClassifier()
        self._unclassified = NO_BEATS
        self._quality = SignalQuality(sampling_rate_hz)
        self._gaps = Gaps(sampling_rate_hz)
        self._block = -int(-(sampling_rate_hz * block_ms / 1000) // 1)
        self._batch = int(sampling_rate_hz * BATCH_S)
        self._waiting: list[NDArray[np.int32]] = []
        self._n_waiting = 0
        self._received = 0

    def push(self, samples_uv: NDArray[np.int32]) -> SignalChunk:
        """Take raw samples.

        Args:
            samples_uv: int32 [n], microvolts, ``MISSING_UV`` where none was received; not changed by the caller later.
        """
        self._waiting.append(samples_uv)
        self._n_waiting += len(samples_uv)
        if self._n_waiting < self._block:
            return NOTHING
        samples = self._waiting[0] if len(self._waiting) == 1 else np.concatenate(self._waiting)
        self._waiting, self._n_waiting = [], 0
        if len(samples) <= self._batch:
            return self._work(samples)
        return _joined([self._work(samples[i : i + self._batch]) for i in range(0, len(samples), self._batch)])

    def finish(self) -> SignalChunk:
        """End the signal: what waited for look-ahead is decided on as if the last sample went on."""
        samples = np.concatenate([*self._waiting, _NO_SAMPLES])
        self._waiting, self._n_waiting = [], 0
        chunks = [self._work(samples)] if len(samples) else []
        chunks.append(self._assess(_NO_SAMPLES, self._resampler.finish()))
        beats = self._placed(self._detector.finish(), _NO_RESAMPLED)
        rest = self._classified(self._classifier.finish())
        return _joined([*chunks, SignalChunk(beats, self._quality.finish()), SignalChunk(rest, EMPTY_SECONDS)])

    def _work(self, samples: NDArray[np.int32]) -> SignalChunk:
        self._gaps.note(samples, self._received)
        self._received += len(samples)
        return self._assess(samples, self._resampler.push(self._filler.push(samples)))

    def _assess(self, samples: NDArray[np.int32], resampled: NDArray[np.int64]) -> SignalChunk:
        beats = self._placed(self._detector.push(resampled), resampled)
        return SignalChunk(beats, self._quality.push(samples, resampled))

    def _placed(self, found: DetectedBeats, resampled: NDArray[np.int64]) -> Beats:
        """Classified beats at input sample indices, those at gaps left out."""
        after_gap = np.zeros(len(found), np.bool_)
        if len(found):
            r_peaks = ticks_to_samples(found.at_ticks, self._rate)
            if not self._gaps.none_yet:
                keep = self._gaps.clear_of(r_peaks)
                r_peaks = r_peaks[keep]
                found = DetectedBeats(found.at_ticks[keep], found.score[keep], found.amplitude_uv[keep])
                after_gap = self._gaps.before(r_peaks)
            unknown = np.zeros(len(found), np.uint8), np.zeros(len(found), np.uint16)
            beats = Beats(r_peaks, found.score, found.amplitude_uv, after_gap, *unknown)
            self._unclassified = _beats_joined([self._unclassified, beats])
        if not self._gaps.none_yet:
            self._gaps.forget(self._detector.settled * self._table.numerator // self._table.denominator)
        return self._classified(self._classifier.push(resampled, found, self._detector.settled, after_gap))

    def _classified(self, done: ClassifiedBeats) -> Beats:
        """The first of the waiting beats, with the classes that are known now."""
        n, held = len(done), self._unclassified
        if not n:
            return NO_BEATS
        self._unclassified = _part(held, slice(n, None))
        found = _part(held, slice(n))
        return Beats(found.r_peaks, found.scores, found.amplitudes_uv, found.after_gap, done.classes, done.permille)


class Gaps:
    """Where nothing was received: as half-open spans of sample indices, widened by ``GAP_EDGE_MS``."""

    def __init__(self, rate: Fraction) -> None:
        self._least = int(rate * GAP_MS / 1000) + 1
        self._edge = int(rate * GAP_EDGE_MS / 1000)
        self._spans: list[tuple[int, int]] = []
        self._open: int | None = None
        self._forgotten = 0
        self._before_latest = 0

    @property
    def none_yet(self) -> bool:
        """Whether there was no gap so far."""
        return not self._spans and self._open is None and not self._forgotten

    def note(self, samples: NDArray[np.int32], first: int) -> None:
        """Look for missing samples in the chunk that begins at index ``first``."""
        if len(samples) and self._open is None and samples.min() != MISSING_UV:
            return
        missing = np.concatenate([np.array([self._open is not None]), samples == MISSING_UV])
        for edge in np.flatnonzero(missing[1:] != missing[:-1]).tolist():
            if self._open is None:
                self._open = first + edge
            else:
                self._close(first + edge)

    def _close(self, stop: int) -> None:
        start, self._open = self._open or 0, None
        if stop - start >= self._least:
            self._spans.append((start - self._edge, stop + self._edge))

    def forget(self, before: int) -> None:
        """Drop the gaps that end before a sample index, since no beat will come there any more."""
        kept = [span for span in self._spans if span[1] >= before]
        self._forgotten += len(self._spans) - len(kept)
        self._spans = kept

    def clear_of(self, r_peaks: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of the peaks (in order) lie outside all gaps, bool [k].

        A gap that goes on counts from its beginning: a beat is settled so long after its R peak that a gap near it is
        over, or long enough to be one.
        """
        keep = np.ones(len(r_peaks), np.bool_)
        for start, stop in self._spans:
            keep[np.searchsorted(r_peaks, start) : np.searchsorted(r_peaks, stop)] = False
        if self._open is not None:
            keep[np.searchsorted(r_peaks, self._open - self._edge) :] = False
        return keep

    def before(self, r_peaks: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether a gap lies between each of these peaks and the one before it, bool [k]; call it once a peak."""
        starts = np.array([start for start, _ in self._spans], np.int64)
        gaps_before = self._forgotten + np.searchsorted(starts, r_peaks)
        found = np.diff(gaps_before, prepend=self._before_latest) > 0
        if len(gaps_before):
            self._before_latest = int(gaps_before[-1])
        return np.asarray(found, np.bool_)


def ticks_to_samples(at_ticks: NDArray[np.int64], sampling_rate_hz: Fraction) -> NDArray[np.int64]:
    """Nearest input sample of times in ticks of 1/``TICKS_HZ`` s, int64 [k] to int64 [k]; exact."""
    twice, unit = 2 * sampling_rate_hz.numerator, TICKS_HZ * sampling_rate_hz.denominator
    # Python's integers: a few beats cost less than a few array operations, and nothing overflows.
    return np.array([(tick * twice + unit) // (2 * unit) for tick in at_ticks.tolist()], np.int64)


def _columns(beats: Beats) -> tuple[NDArray[Any], ...]:
    return (
        beats.r_peaks,
        beats.scores,
        beats.amplitudes_uv,
        beats.after_gap,
        beats.classes,
        beats.class_permille,
    )


def _part(beats: Beats, which: slice) -> Beats:
    return Beats(*(column[which] for column in _columns(beats)))


def _beats_joined(parts: list[Beats]) -> Beats:
    kept = [part for part in parts if len(part)]
    if len(kept) < 2:
        return kept[0] if kept else NO_BEATS
    return Beats(*(np.concatenate(column) for column in zip(*map(_columns, kept), strict=True)))


def _joined(chunks: list[SignalChunk]) -> SignalChunk:
    if len(chunks) == 1:
        return chunks[0]
    seconds = [chunk.seconds for chunk in chunks]
    return SignalChunk(
        _beats_joined([chunk.beats for chunk in chunks]),
        AssessedSeconds(np.concatenate([one.flags for one in seconds]), np.concatenate([one.index for one in seconds])),
    )
