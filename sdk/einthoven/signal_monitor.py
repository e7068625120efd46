"""Beats and signal quality of a recording as events: the signal path with times. Pure.

It deliberately makes no RR series and corrects nothing (``rr_intervals``): a live listener sees each beat as it was
found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from einthoven.events import BeatDetected, Event, LineEnded, QualityChanged, SecondAssessed
from einthoven.resampling import FrontEndCoefficients, ResamplerTable
from einthoven.results import BeatClass, Quality
from einthoven.signal_analysis import SignalAnalysis
from einthoven.signal_path import NOTHING, SignalChunk, SignalPath

AtMs = Callable[[int], int]
"""UTC in ms of a sample, by its index."""


class SignalMonitor:
    """Follows one time line.

    Args:
        coefficients: The low-pass, from a model's manifest.
        sampling_rate_hz: Nominal samples a second, exact.
        table: Taps for this rate.
        block_ms: Work on so much signal at a time (``signal_path``).
        quality: The quality that listeners know of.
    """

    def __init__(
        self,
        coefficients: FrontEndCoefficients,
        sampling_rate_hz: Fraction,
        table: ResamplerTable,
        block_ms: int,
        quality: Quality = Quality.USABLE,
    ) -> None:
        self._path = SignalPath(coefficients, sampling_rate_hz, table=table, block_ms=block_ms)
        self._rate = sampling_rate_hz
        self._r_peak: int | None = None
        self._second = 0
        self.quality = quality

    def push(self, samples_uv: NDArray[np.int32], at_ms: AtMs, rate_hz: Fraction) -> list[Event]:
        """Take the line's next samples, int32 [n] microvolts.

        Args:
            samples_uv: The samples.
            at_ms: Tells the time of a sample of this line.
            rate_hz: Samples a second by the sensor's stamps, for the intervals.
        """
        return self._events(self._path.push(samples_uv), at_ms, rate_hz)

    def finish(self, at_ms: AtMs, rate_hz: Fraction) -> list[Event]:
        """End the line: what waited for look-ahead is decided."""
        return self._events(self._path.finish(), at_ms, rate_hz)

    def _events(self, chunk: SignalChunk, at_ms: AtMs, rate_hz: Fraction) -> list[Event]:
        if chunk is NOTHING:
            return []
        events: list[Event] = []
        beats = chunk.beats
        columns = (
            beats.r_peaks,
            beats.scores,
            beats.amplitudes_uv,
            beats.after_gap,
            beats.classes,
            beats.class_permille,
        )
        for r_peak, score, amplitude_uv, after_gap, beat_class, permille in zip(
            *(column.tolist() for column in columns), strict=True
        ):
            rr_ms = None
            if self._r_peak is not None and not after_gap:
                rr_ms = round((r_peak - self._r_peak) * 1000 / rate_hz)
            self._r_peak = r_peak
            at = at_ms(r_peak)
            events.append(BeatDetected(at, r_peak, rr_ms, amplitude_uv, score, BeatClass(beat_class), permille))
        for flags, index in zip(chunk.seconds.flags.tolist(), chunk.seconds.index.tolist(), strict=True):
            second_ms = at_ms(-(-self._second * self._rate.numerator // self._rate.denominator))
            self._second += 1
            quality = Quality(flags)
            if quality != self.quality:
                self.quality = quality
                events.append(QualityChanged(second_ms, quality))
            events.append(SecondAssessed(second_ms, quality, index))
        return events


class SignalTally:
    """Keeps the beats and seconds of a session's events as numbers: a day has 200,000 of them.

    Where a time line ends, the next is put after it with a second of ``GAP`` between them.

    Args:
        sampling_rate_hz: Samples a second, exact.
    """

    def __init__(self, sampling_rate_hz: Fraction) -> None:
        self._rate = sampling_rate_hz
        self._first = 0
        self._beats: list[tuple[int, int, int, int, int]] = []
        self._seconds: list[tuple[int, int]] = []

    def take(self, events: Iterable[Event]) -> None:
        """Keep what the events say of the signal."""
        for event in events:
            match event:
                case SecondAssessed():
                    self._seconds.append((int(event.quality), event.index))
                case BeatDetected():
                    judged = int(event.beat_class), event.class_permille
                    self._beats.append((self._first + event.r_peak, event.score, event.amplitude_uv, *judged))
                case LineEnded():
                    self._seconds.append((int(Quality.GAP), 0))  # what was left of its last second
                    self._first = -(-len(self._seconds) * self._rate.numerator // self._rate.denominator)

    @property
    def signal(self) -> SignalAnalysis:
        """What was kept so far."""
        beats = np.array(self._beats, np.int64).reshape(-1, 5)
        seconds = np.array(self._seconds, np.int64).reshape(-1, 2)
        return SignalAnalysis(
            beats[:, 0],
            beats[:, 1].astype(np.uint8),
            beats[:, 2],
            seconds[:, 0].astype(np.uint16),
            seconds[:, 1].astype(np.uint8),
            beats[:, 3].astype(np.uint8),
            beats[:, 4].astype(np.uint16),
        )
