"""Which stored windows make up one EDF recording, and where in it each lies. Pure.

A store keeps windows, each with the UTC of its first sample in whole milliseconds; a recording is one line of samples.
Windows of one session follow each other to the sample, although a sensor's clock, which is off by up to
``MAX_RATE_ERROR_PERMILLE``, lets their times say otherwise; windows of two sessions have a pause between them.

It deliberately stretches no samples: where a sensor's clock is off, the recording's own time runs off with it, and
``Track.drift_ms`` says how far. It reads no store and writes no file.

Invariants:
    1. Windows that follow each other have no gap and no overlap between them.
    2. A pause lies where the clock says, to the sample, and ends what drift there was.
    3. Windows of recordings that overlap in time never share a track.
    4. A track keeps to the limits of a file: bytes of samples, data records, and ``MAX_FILL_S`` of pauses.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final

from einthoven.analysis import WINDOW_S
from einthoven.clock_drift import MAX_RATE_ERROR_PERMILLE, MAX_TOLERANCE_MS
from einthoven.edf_timekeeping import MAX_FILL_S
from einthoven.edf_writing import MAX_RECORDS, EdfPlanner, Stretch
from einthoven.ports import Segment
from einthoven.store_values import StoredResult

MAX_OPEN_TRACKS: Final = 8
"""Recordings that may overlap in time before the oldest is closed and goes on in another file."""
MIN_SIGNAL_BYTES: Final = 2**20
"""Least limit of the samples in one file, bytes: a window always fits."""
ROUNDING_MS: Final = 1
"""A window's start is rounded down to a millisecond."""


@dataclass(frozen=True, slots=True)
class TrackWindow:
    """A window's place in a track.

    Attributes:
        stored: The verdict, which names the signal.
        first: Number of its first sample, from the start of the track.
        n_samples: Its samples.
    """

    stored: StoredResult
    first: int
    n_samples: int

    @property
    def started_at_ms(self) -> int:
        """UTC of the first sample, ms since 1970."""
        return self.stored.result.started_at_ms


@dataclass(slots=True, eq=False)
class Track:
    """One recording.

    Attributes:
        rate_hz: Samples a second, exact.
        started_at_ms: UTC of sample 0, ms since 1970.
        planner: Of its data records.
        windows: In order; at least one.
        drift_ms: Furthest that a window's own time and its place in the track are apart; positive where it is later.
    """

    rate_hz: Fraction
    started_at_ms: int
    planner: EdfPlanner
    windows: list[TrackWindow] = field(default_factory=list)
    drift_ms: int = 0
    _paused: int = 0
    _starts_ms: list[int] = field(default_factory=list)

    @property
    def n_samples(self) -> int:
        """Where the last window ends."""
        last = self.windows[-1]
        return last.first + last.n_samples

    @property
    def ended_at_ms(self) -> int:
        """UTC of the end of the last window, ms since 1970."""
        return self._starts_ms[-1] + self._ms(self.windows[-1].n_samples)

    def follows(self, stored: StoredResult) -> bool:
        """Whether a window goes on exactly where the last one ended."""
        last = self.windows[-1]
        off_ms = stored.result.started_at_ms - last.started_at_ms - last.n_samples * 1000 / self.rate_hz
        tolerance_ms = Fraction(ROUNDING_MS)
        consecutive = (stored.epoch, stored.result.counter) == (last.stored.epoch, last.stored.result.counter + 1)
        # Only a session's last window, or the last before a long gap, is shorter than it might be.
        if consecutive and last.n_samples >= int(WINDOW_S * self.rate_hz):
            drift = Fraction(MAX_RATE_ERROR_PERMILLE, 1000) * last.n_samples * 1000 / self.rate_hz
            tolerance_ms += drift + MAX_TOLERANCE_MS
        return abs(off_ms) <= tolerance_ms

    def place_after_pause(self, stored: StoredResult) -> int | None:
        """Number of the first sample of a window that comes later; ``None`` if it is too early, or much too late."""
        place = round((stored.result.started_at_ms - self.started_at_ms) * self.rate_hz / 1000)
        if stored.result.started_at_ms < self.ended_at_ms or place < self.n_samples:
            return None
        return place if self._paused + place - self.n_samples <= MAX_FILL_S * self.rate_hz else None

    def add(self, stored: StoredResult, segment: Segment, first: int) -> None:
        """Put a window's signal at a place that ``follows`` or ``place_after_pause`` gave.

        Raises:
            InputError: A sample is beyond what a file can hold; the track is as it was.
        """
        self.planner.add(Stretch(first, segment.samples_uv))
        if self.windows:
            self._paused += first - self.n_samples
        self.windows.append(TrackWindow(stored, first, len(segment.samples_uv)))
        self._starts_ms.append(stored.result.started_at_ms)
        off_ms = stored.result.started_at_ms - self.started_at_ms - self._ms(first)
        half_sample_ms = 500 / self.rate_hz  # of rounding, no drift
        if abs(off_ms) > ROUNDING_MS + half_sample_ms and abs(off_ms) > abs(self.drift_ms):
            self.drift_ms = off_ms

    def sample_at(self, at_ms: int) -> float | None:
        """Number of the sample taken at a moment, to a fraction; ``None`` where there is no signal."""
        index = bisect_right(self._starts_ms, at_ms) - 1
        if index < 0:
            return None
        window, since_ms = self.windows[index], at_ms - self._starts_ms[index]
        span_ms = float(window.n_samples * 1000 / self.rate_hz)
        if index + 1 < len(self.windows) and self.windows[index + 1].first == window.first + window.n_samples:
            span_ms = self._starts_ms[index + 1] - self._starts_ms[index]
        if since_ms > span_ms:
            return None
        return window.first + (since_ms * window.n_samples / span_ms if since_ms else 0)

    def _ms(self, samples: int) -> int:
        return int(samples * 1000 / self.rate_hz)


class Tracks:
    """Sorts windows, which come in order of time, into tracks.

    Args:
        max_signal_bytes: Bytes of samples in one file, at least ``MIN_SIGNAL_BYTES``.

    Raises:
        ValueError: ``max_signal_bytes`` is too small.
    """

    def __init__(self, max_signal_bytes: int) -> None:
        if max_signal_bytes < MIN_SIGNAL_BYTES:
            raise ValueError(f"max_signal_bytes must be at least {MIN_SIGNAL_BYTES}, not {max_signal_bytes}")
        self._max_signal_bytes = max_signal_bytes
        self._open: list[Track] = []

    def add(self, stored: StoredResult, segment: Segment) -> list[Track]:
        """Take the next window; return the tracks that are finished by it.

        Raises:
            SamplingRateError: EDF can't state its rate; nothing changed.
            InputError: A sample is beyond what EDF and BDF hold; nothing changed.
        """
        found = self._place(stored, segment)
        if found is not None:
            track, first = found
            track.add(stored, segment, first)
            # What goes on is the last in the list, so that the first is the one that was idle longest.
            self._open.remove(track)
            self._open.append(track)
            return []
        started_at_ms = stored.result.started_at_ms
        fresh = Track(segment.sampling_rate_hz, started_at_ms, EdfPlanner(segment.sampling_rate_hz, started_at_ms))
        fresh.add(stored, segment, 0)
        finished = self._full(segment)
        self._open.append(fresh)
        while len(self._open) > MAX_OPEN_TRACKS:
            finished.append(self._open.pop(0))
        return finished

    def finish(self) -> list[Track]:
        """Return the tracks that are left."""
        left, self._open = self._open, []
        return left

    def _place(self, stored: StoredResult, segment: Segment) -> tuple[Track, int] | None:
        fitting = [
            track
            for track in reversed(self._open)
            if track.rate_hz == segment.sampling_rate_hz and not self._is_full(track, segment)
        ]
        for track in fitting:
            if track.follows(stored):
                return track, track.n_samples
        for track in fitting:
            place = track.place_after_pause(stored)
            if place is not None:
                return track, place
        return None

    def _is_full(self, track: Track, segment: Segment) -> bool:
        n_records, signal_bytes = track.planner.size_with(segment.samples_uv)
        return n_records > MAX_RECORDS or signal_bytes > self._max_signal_bytes

    def _full(self, segment: Segment) -> list[Track]:
        full = [track for track in self._open if self._is_full(track, segment)]
        self._open = [track for track in self._open if not any(track is other for other in full)]
        return full
