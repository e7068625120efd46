"""Sessions: what comes out does not depend on how it went in, and nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from einthoven.analysis import WINDOW_S, analyze_record
from einthoven.clock import FixedClock
from einthoven.errors import InputError, SamplingRateError, StoreIOError
from einthoven.events import (
    BeatDetected,
    Event,
    GapFound,
    OverlapDropped,
    QualityChanged,
    RiskChanged,
    SecondAnalyzed,
    StoreFailed,
    WindowAnalyzed,
)
from einthoven.models import Model, load_model
from einthoven.ports import MISSING_UV, Segment
from einthoven.recordings import analyze
from einthoven.replaying import ReplayOutcome, replay, replay_all
from einthoven.results import InconclusiveReason, Quality, RiskTier, WindowResult
from einthoven.runner_litert import LiteRtRunner
from einthoven.session import Session
from einthoven.source_simulated import SimulatedSource
from einthoven.store_events import ContentDropped
from einthoven.store_memory import MemoryStore
from einthoven.store_values import BeatRun, ContentKind
from einthoven_protocol.messages import ExchangeRequest, ExchangeResponse

START = 1_700_000_000_000


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model()


@pytest.fixture(scope="module")
def runner(model: Model) -> LiteRtRunner:
    return LiteRtRunner(model)


@pytest.fixture(scope="module")
def source() -> SimulatedSource:
    return SimulatedSource.demo()


@pytest.fixture(scope="module")
def ecg(source: SimulatedSource) -> NDArray[np.int32]:
    """Seventy seconds: two windows and a third."""
    return np.concatenate(list(source.chunks()))[: int(70 * source.sampling_rate_hz)]


def open_session(model: Model, runner: LiteRtRunner, store: MemoryStore, rate: Fraction) -> Session:
    return Session.open(model, store, sampling_rate_hz=rate, started_at_ms=START, runner=runner)


def record(session: Session, chunks: list[NDArray[np.int32]]) -> list[Event]:
    events: list[Event] = []
    with session:
        for chunk in chunks:
            events += session.push(chunk)
        events += session.close()
    return events


def results_of(events: list[Event]) -> list[WindowResult]:
    return [event.result for event in events if isinstance(event, WindowAnalyzed)]


@pytest.fixture(scope="module")
def in_one_piece(model: Model, runner: LiteRtRunner, source: SimulatedSource, ecg: NDArray[np.int32]) -> list[Event]:
    return record(open_session(model, runner, MemoryStore(), source.sampling_rate_hz), [ecg])


def test_a_recording_is_cut_into_windows(in_one_piece: list[Event]) -> None:
    found = results_of(in_one_piece)
    assert [result.duration_ms for result in found] == [30_000, 30_000, 10_000]
    assert [result.started_at_ms for result in found] == [START, START + 30_000, START + 60_000]
    assert [result.counter for result in found] == [1, 2, 3]


def test_every_second_that_was_analysed_is_told(in_one_piece: list[Event]) -> None:
    seconds = [event for event in in_one_piece if isinstance(event, SecondAnalyzed)]
    assert len(seconds) == sum(result.n_steps for result in results_of(in_one_piece))
    assert [event.at_ms for event in seconds] == sorted({event.at_ms for event in seconds})


def by_kind(events: list[Event]) -> dict[str, list[Event]]:
    """Events in their order, kind by kind: beats and verdicts come with different delays."""
    kinds: dict[str, list[Event]] = {}
    for event in events:
        kinds.setdefault(type(event).__name__, []).append(event)
    return kinds


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, 17_000), max_size=12))
def test_any_chunking_gives_the_same_events(
    model: Model,
    runner: LiteRtRunner,
    source: SimulatedSource,
    ecg: NDArray[np.int32],
    in_one_piece: list[Event],
    cuts: list[int],
) -> None:
    chunks = np.split(ecg, sorted(cuts))
    found = record(open_session(model, runner, MemoryStore(), source.sampling_rate_hz), chunks)
    assert by_kind(found) == by_kind(in_one_piece)


def test_one_sample_at_a_time_gives_the_same_events(
    model: Model, runner: LiteRtRunner, source: SimulatedSource, ecg: NDArray[np.int32]
) -> None:
    short = ecg[: int(8 * source.sampling_rate_hz)]
    whole = record(open_session(model, runner, MemoryStore(), source.sampling_rate_hz), [short])
    single = record(open_session(model, runner, MemoryStore(), source.sampling_rate_hz), np.split(short, len(short)))
    assert by_kind(single) == by_kind(whole)


@pytest.mark.parametrize("rate", [Fraction(100), Fraction(130), Fraction(512617, 1000), Fraction(1000)])
def test_a_session_says_what_a_whole_analysis_says(model: Model, runner: LiteRtRunner, rate: Fraction) -> None:
    """At any rate, fractional ones included: windows are cut at the same samples."""
    rng = np.random.default_rng(3)
    samples = rng.normal(0, 300, int(65 * rate)).astype(np.int32)
    session = record(open_session(model, runner, MemoryStore(), rate), np.array_split(samples, 50))
    whole = analyze_record(model, runner, samples, rate)
    assert [result.logits for result in results_of(session)] == [window.logits for window in whole.windows]


def test_analyze_takes_the_same_path(
    model: Model, source: SimulatedSource, ecg: NDArray[np.int32], in_one_piece: list[Event]
) -> None:
    store = MemoryStore()
    recording = analyze(model, store, source, started_at_ms=START)
    expected = results_of(in_one_piece)[:2]
    assert list(recording.results[:2]) == [
        replace(result, started_at_ms=mine.started_at_ms)
        for result, mine in zip(expected, recording.results[:2], strict=True)
    ]
    assert recording.assessment.windows == len(recording.results) == store.stats().results


def test_results_replay_and_a_changed_one_does_not(
    model: Model, runner: LiteRtRunner, source: SimulatedSource, ecg: NDArray[np.int32]
) -> None:
    store = MemoryStore()
    found = results_of(record(open_session(model, runner, store, source.sampling_rate_hz), [ecg]))
    assert [one.outcome for one in replay_all(model, store, runner=runner)] == [ReplayOutcome.SAME] * 3
    store.put_setting("sync_key", bytes(32))
    question = ExchangeRequest(device_alias=1, epoch=1)
    store.apply_exchange(question, ExchangeResponse(acknowledged=9), at_ms=START)
    assert store.results() == []  # an epoch has begun
    assert [one.stored for one in replay_all(model, store, runner=runner)] == found
    forged = replace(found[0], confidence_permille=found[0].confidence_permille - 1)
    again = replay(model, store, forged, runner=runner)
    assert (again.outcome, again.differing) == (ReplayOutcome.DIFFERENT, ("confidence_permille",))
    other = replay(model, store, replace(found[0], model_digest=bytes(32)), runner=runner)
    assert other.outcome is ReplayOutcome.OTHER_MODEL
    gone = replay(model, store, replace(found[0], segment_digest=bytes(32)), runner=runner)
    assert gone.outcome is ReplayOutcome.NO_SEGMENT


def test_every_beat_that_was_said_is_stored_with_the_windows(
    model: Model, runner: LiteRtRunner, source: SimulatedSource, ecg: NDArray[np.int32]
) -> None:
    store = MemoryStore()
    events = record(open_session(model, runner, store, source.sampling_rate_hz), [ecg])
    said = [(event.at_ms, event.beat_class) for event in events if isinstance(event, BeatDetected)]
    runs = store.beats(START, START + 80_000)
    assert [beat for run in runs for beat in zip(run.at_ms.tolist(), run.classes.tolist(), strict=True)] == said
    assert len(runs) == len(results_of(events))


def test_a_beat_that_no_window_comes_after_is_stored_at_the_end(
    model: Model, runner: LiteRtRunner, source: SimulatedSource, ecg: NDArray[np.int32]
) -> None:
    store = MemoryStore()
    rate = source.sampling_rate_hz
    whole_window = ecg[: int(WINDOW_S * rate)]
    events = record(open_session(model, runner, store, rate), [whole_window])
    said = [event.at_ms for event in events if isinstance(event, BeatDetected)]
    runs = store.beats(START, START + 80_000)
    assert [at_ms for run in runs for at_ms in run.at_ms.tolist()] == said
    assert len(runs) > len(results_of(events)) == 1


def test_what_happened_to_the_store_comes_with_the_events_of_a_window(
    model: Model, runner: LiteRtRunner, source: SimulatedSource, ecg: NDArray[np.int32]
) -> None:
    store = MemoryStore(max_signal_bytes=15_000)
    rate = source.sampling_rate_hz
    with open_session(model, runner, store, rate) as session:
        events = session.push(ecg)
        events += session.close()
    dropped = [event for event in events if isinstance(event, ContentDropped)]
    assert dropped
    assert {event.kind for event in dropped} == {ContentKind.SEGMENT}
    assert store.take_events() == []


def test_a_gap_is_said_and_never_stretched_over(
    model: Model, runner: LiteRtRunner, source: SimulatedSource, ecg: NDArray[np.int32]
) -> None:
    rate = source.sampling_rate_hz
    store = MemoryStore()
    with open_session(model, runner, store, rate) as session:
        first = session.push(ecg[: int(10 * rate)], START)
        second = session.push(ecg[int(12 * rate) : int(40 * rate)], START + 12_000)
        events = [*first, *second, *session.close()]
    assert GapFound(START + 10_000, 2_000) in events
    (window, _) = results_of(events)
    assert window.quality & Quality.GAP
    assert window.usable_s <= 28
    segment = store.segment(window.segment_digest)
    assert segment is not None
    assert (segment.samples_uv[int(10 * rate) : int(12 * rate)] == MISSING_UV).all()
    assert any(isinstance(event, QualityChanged) for event in events)


def test_a_packet_that_comes_twice_counts_once(
    model: Model, runner: LiteRtRunner, source: SimulatedSource, ecg: NDArray[np.int32]
) -> None:
    rate = source.sampling_rate_hz
    plain = record(open_session(model, runner, MemoryStore(), rate), [ecg[: int(20 * rate)]])
    with open_session(model, runner, MemoryStore(), rate) as session:
        events = session.push(ecg[: int(10 * rate)], START)
        doubled = session.push(ecg[int(9 * rate) : int(10 * rate)], START + 9_000)
        events += session.push(ecg[int(10 * rate) : int(20 * rate)], START + 10_000)
        events += session.close()
    assert doubled == [OverlapDropped(START + 9_000, 1_000)]
    assert by_kind(events) == by_kind(plain)


def test_a_clock_that_jumps_begins_a_new_window(
    model: Model, runner: LiteRtRunner, source: SimulatedSource, ecg: NDArray[np.int32]
) -> None:
    rate = source.sampling_rate_hz
    year_ms = 365 * 86_400_000
    with open_session(model, runner, MemoryStore(), rate) as session:
        events = session.push(ecg[: int(10 * rate)], START)
        events += session.push(ecg[: int(30 * rate)], START + year_ms)
        events += session.push(ecg[: int(30 * rate)], START)
        events += session.close()
    assert [result.started_at_ms for result in results_of(events)] == [START, START + year_ms, START]


@pytest.mark.parametrize(
    ("signal", "quality"),
    [
        (np.zeros(8000, np.int32), Quality.FLAT),
        (np.full(8000, MISSING_UV, np.int32), Quality.GAP),
        (np.full(8000, np.nan), Quality.GAP),
        (np.tile(np.repeat([3000, -3000], 40), 100).astype(np.int32), Quality.CLIPPED),
    ],
)
def test_what_is_no_ecg_is_inconclusive_with_a_reason(
    model: Model, runner: LiteRtRunner, signal: NDArray[np.int32], quality: Quality
) -> None:
    events = record(open_session(model, runner, MemoryStore(), Fraction(250)), [signal])
    for result in results_of(events):
        assert result.tier is RiskTier.INCONCLUSIVE
        assert result.reason is not InconclusiveReason.NONE
        assert result.quality & quality
    assert not any(isinstance(event, RiskChanged) for event in events)


@pytest.mark.parametrize("seed", range(5))
def test_noise_is_never_called_normal(model: Model, runner: LiteRtRunner, seed: int) -> None:
    rng = np.random.default_rng(seed)
    noise = (rng.normal(0, 1, 7500).cumsum() * 60 + rng.normal(0, 400, 7500)).astype(np.int32)
    events = record(open_session(model, runner, MemoryStore(), Fraction(250)), [noise])
    assert all(result.tier is not RiskTier.ROUTINE for result in results_of(events))


def test_too_short_says_so(model: Model, runner: LiteRtRunner, source: SimulatedSource, ecg: NDArray[np.int32]) -> None:
    events = record(open_session(model, runner, MemoryStore(), source.sampling_rate_hz), [ecg[:400]])
    (result,) = results_of(events)
    assert (result.tier, result.reason) == (RiskTier.INCONCLUSIVE, InconclusiveReason.TOO_SHORT)


def test_nothing_pushed_is_nothing_stored(model: Model, runner: LiteRtRunner) -> None:
    store = MemoryStore()
    assert record(open_session(model, runner, store, Fraction(250)), []) == []
    assert store.stats().results == 0


class FailingStore(MemoryStore):
    """A store whose disk is full for a while."""

    full = True

    def append_window(self, result: WindowResult, segment: Segment, beats: BeatRun | None = None) -> WindowResult:
        if self.full:
            raise StoreIOError("the disk is full", "make room")
        return super().append_window(result, segment, beats)


def test_what_the_store_refuses_is_kept_and_tried_again(
    model: Model, runner: LiteRtRunner, source: SimulatedSource, ecg: NDArray[np.int32], in_one_piece: list[Event]
) -> None:
    store = FailingStore()
    session = open_session(model, runner, store, source.sampling_rate_hz)
    events = session.push(ecg)
    failed = [event for event in events if isinstance(event, StoreFailed)]
    assert [event.waiting for event in failed] == [1, 2]
    assert not results_of(events)
    with pytest.raises(StoreIOError):
        session.close()
    store.full = False
    assert results_of(session.close()) == results_of(in_one_piece)
    assert session.close() == []


def test_a_closed_session_takes_nothing(model: Model, runner: LiteRtRunner) -> None:
    session = open_session(model, runner, MemoryStore(), Fraction(250))
    session.close()
    with pytest.raises(InputError, match="closed"):
        session.push([1, 2, 3])


@pytest.mark.parametrize("rate", [0, 50, 99, 1001, 10**9, -300])
def test_a_rate_out_of_range_is_refused_at_once(model: Model, runner: LiteRtRunner, rate: int) -> None:
    with pytest.raises(SamplingRateError):
        open_session(model, runner, MemoryStore(), Fraction(rate))


async def test_async_says_the_same_without_blocking(
    model: Model, runner: LiteRtRunner, source: SimulatedSource, ecg: NDArray[np.int32], in_one_piece: list[Event]
) -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    ticking = asyncio.create_task(tick())
    async with open_session(model, runner, MemoryStore(), source.sampling_rate_hz) as session:
        events = await session.push_async(ecg)
        events += session.close()
    ticking.cancel()
    assert events == in_one_piece
    assert ticks > 1


def test_the_session_knows_what_it_adds_up_to(
    model: Model, runner: LiteRtRunner, source: SimulatedSource, ecg: NDArray[np.int32]
) -> None:
    session = open_session(model, runner, MemoryStore(), source.sampling_rate_hz)
    events = record(session, [ecg])
    changes = [event for event in events if isinstance(event, RiskChanged)]
    if changes:
        assert session.assessment.tier is changes[-1].tier
        assert changes[0].previous is RiskTier.INCONCLUSIVE
    assert session.assessment.windows == 3
    assert WINDOW_S == 30


def test_a_recording_without_a_date_is_taken_to_have_ended_now(model: Model, source: SimulatedSource) -> None:
    clock = FixedClock(START)
    recording = analyze(model, MemoryStore(), source, clock=clock)
    last = recording.results[-1]
    assert last.started_at_ms + last.duration_ms == START
