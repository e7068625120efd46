"""Which windows make up a recording: sessions, pauses, clocks that are off, recordings that overlap."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.einthoven.stored_windows import verdict

from einthoven.edf_timekeeping import MAX_FILL_S
from einthoven.edf_tracks import MAX_OPEN_TRACKS, MIN_SIGNAL_BYTES, Track, Tracks
from einthoven.edf_writing import MAX_BDF_UV
from einthoven.errors import InputError, SamplingRateError
from einthoven.ports import Segment
from einthoven.store_values import StoredResult

RATE_HZ = Fraction(250)
WINDOW = 7_500


def segment(n_samples: int = WINDOW, rate_hz: Fraction = RATE_HZ, uv: int = 1) -> Segment:
    return Segment(rate_hz, np.full(n_samples, uv, np.int32))


def stored(counter: int, started_at_ms: int, signal: Segment, epoch: int = 1) -> StoredResult:
    return StoredResult(epoch, verdict(signal, started_at_ms, counter=counter))


def tracks_of(*windows, max_signal_bytes: int = 10**8, rate_hz: Fraction = RATE_HZ) -> list[Track]:
    """Windows as (start in ms, samples), counters from 1."""
    tracks, finished = Tracks(max_signal_bytes), []
    for counter, (started_at_ms, n_samples) in enumerate(windows, 1):
        signal = segment(n_samples, rate_hz)
        finished += tracks.add(stored(counter, started_at_ms, signal), signal)
    return [*finished, *tracks.finish()]


def firsts(track: Track) -> list[int]:
    return [window.first for window in track.windows]


def test_windows_of_a_session_follow_each_other_to_the_sample():
    rate_hz = Fraction("512.617")
    edges = [int(n * 30 * rate_hz) for n in range(11)]
    windows = [(1_000_000 + int(a * 1000 / rate_hz), b - a) for a, b in pairwise(edges)]
    (track,) = tracks_of(*windows, rate_hz=rate_hz)
    assert firsts(track) == edges[:-1]
    assert track.drift_ms == 0
    assert not track.planner.plan().interrupted


@pytest.mark.parametrize("permille", [-14, -3, 3, 14])
def test_a_sensor_whose_clock_is_off_leaves_no_gaps(permille):
    each_ms = 30_000 * (1000 + permille) // 1000
    (track,) = tracks_of(*((n * each_ms, WINDOW) for n in range(20)))
    assert firsts(track) == [n * WINDOW for n in range(20)]
    assert track.drift_ms == 19 * 30 * permille
    # A moment is found by the windows around it, so its place runs off with them.
    assert track.sample_at(10 * each_ms) == 10 * WINDOW
    assert track.sample_at(10 * each_ms + each_ms // 2) == 10 * WINDOW + WINDOW // 2


def test_the_end_of_a_session_is_a_pause_to_the_millisecond():
    (track,) = tracks_of((0, WINDOW), (30_000, 1_000), (34_300, WINDOW), (64_300, WINDOW))
    assert firsts(track) == [0, WINDOW, 8_575, 8_575 + WINDOW]
    assert track.planner.plan().interrupted
    assert track.sample_at(34_100) is None
    assert track.sample_at(34_300) == 8_575
    assert track.sample_at(-1) is None
    assert track.sample_at(94_300) == 8_575 + 2 * WINDOW
    assert track.sample_at(94_301) is None


def test_a_long_pause_ends_the_drift_before_it():
    windows = [(n * 30_300, WINDOW) for n in range(10)]
    (track,) = tracks_of(*windows, (400_000, WINDOW))
    assert firsts(track)[-1] == 100_000
    assert track.drift_ms == 9 * 300


def test_a_pause_that_drift_has_eaten_begins_another_recording():
    windows = [(n * 29_700, WINDOW) for n in range(10)]
    first, second = tracks_of(*windows, (9 * 29_700 + 30_000 + 1_000, WINDOW))
    assert len(first.windows) == 10
    assert second.started_at_ms == 9 * 29_700 + 31_000


def test_more_than_a_day_of_pauses_begins_another_recording():
    pause_ms = MAX_FILL_S * 1000 // 2
    windows, at = [], 0
    for _ in range(3):
        windows.append((at, WINDOW))
        at += 30_000 + pause_ms
    assert [len(track.windows) for track in tracks_of(*windows)] == [3]
    assert [len(track.windows) for track in tracks_of(*windows, (at, WINDOW))] == [3, 1]


def test_recordings_that_overlap_in_time_are_kept_apart():
    tracks, finished = Tracks(10**8), []
    for n in range(10):
        for counter, shift in ((n + 1, 0), (n + 101, 5_000)):
            signal = segment(uv=counter)
            finished += tracks.add(stored(counter, n * 30_000 + shift, signal), signal)
    found = tracks.finish()
    assert finished == []
    assert sorted([window.stored.result.counter for window in track.windows] for track in found) == [
        list(range(1, 11)),
        list(range(101, 111)),
    ]


def test_many_overlapping_recordings_are_closed_oldest_first():
    windows = [(n, WINDOW) for n in range(MAX_OPEN_TRACKS + 3)]
    assert [track.started_at_ms for track in tracks_of(*windows)] == [n for n, _ in windows]


def test_another_rate_is_another_recording():
    tracks = Tracks(10**8)
    for counter, rate in ((1, 250), (2, 500), (3, 250)):
        signal = segment(rate * 30, Fraction(rate))
        assert tracks.add(stored(counter, counter * 30_000, signal), signal) == []
    assert [(track.rate_hz, len(track.windows)) for track in tracks.finish()] == [(500, 1), (250, 2)]


def test_a_file_keeps_to_its_size():
    windows = [(n * 30_000, WINDOW) for n in range(200)]
    found = tracks_of(*windows, max_signal_bytes=MIN_SIGNAL_BYTES)
    assert len(found) == 3
    assert [window.stored.result.counter for track in found for window in track.windows] == list(range(1, 201))
    for track in found:
        assert track.planner.plan().firsts.size * 500 <= MIN_SIGNAL_BYTES
    with pytest.raises(ValueError, match="max_signal_bytes"):
        Tracks(MIN_SIGNAL_BYTES - 1)


def test_what_does_not_fit_a_file_leaves_the_tracks_as_they_were():
    tracks = Tracks(10**8)
    good = segment()
    tracks.add(stored(1, 0, good), good)
    loud, slow = segment(uv=MAX_BDF_UV + 1), segment(rate_hz=Fraction(50))
    with pytest.raises(InputError, match="uV"):
        tracks.add(stored(2, 30_000, loud), loud)
    with pytest.raises(SamplingRateError):
        tracks.add(stored(3, 60_000, slow), slow)
    assert tracks.add(stored(4, 90_000, good), good) == []
    (track,) = tracks.finish()
    assert [window.stored.result.counter for window in track.windows] == [1, 4]


@given(
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, WINDOW)), min_size=1, max_size=30),
    st.sampled_from([Fraction(100), Fraction(1000, 3), Fraction("512.617")]),
)
def test_whatever_the_times_windows_never_overlap_and_none_is_lost(windows, rate_hz):
    found = tracks_of(*sorted(windows), max_signal_bytes=MIN_SIGNAL_BYTES, rate_hz=rate_hz)
    counters = sorted(window.stored.result.counter for track in found for window in track.windows)
    assert counters == list(range(1, len(windows) + 1))
    for track in found:
        ends = [window.first + window.n_samples for window in track.windows]
        assert all(first >= end for first, end in zip(firsts(track)[1:], ends, strict=False))
        for window in track.windows:
            # Never further from its own time than a clock that is off explains.
            off_s = abs((window.started_at_ms - track.started_at_ms) / 1000 - window.first / rate_hz)
            assert off_s <= 0.6 * len(track.windows)
