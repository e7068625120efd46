"""A recording as live packets: at any speed, intact or with faults, and what a session makes of them."""

from __future__ import annotations

from contextlib import aclosing
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from einthoven.clock import FixedClock
from einthoven.errors import InputError
from einthoven.events import (
    Event,
    GapFound,
    LateDropped,
    OverlapDropped,
    RateEstimated,
    SensorChanged,
    SensorState,
    WindowAnalyzed,
)
from einthoven.following import follow
from einthoven.models import Model, load_model
from einthoven.ports import MISSING_UV, Packet
from einthoven.session import Session
from einthoven.simulator import SimulatedRhythm
from einthoven.source_replay import MAX_PACKET_SAMPLES, MAX_SPEED, Faults, ReplaySource
from einthoven.source_simulated import SimulatedSource
from einthoven.store_memory import MemoryStore

NOW_MS = 1_800_000_000_000
RATE = Fraction(130)


class Pace:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic_s(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.now_s += seconds


@pytest.fixture(scope="module")
def recording() -> SimulatedSource:
    return SimulatedSource(SimulatedRhythm(duration_s=70, sampling_rate_hz=RATE, seed=4))


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model()


def samples_of(source: SimulatedSource) -> NDArray[np.int32]:
    return np.concatenate(list(source.chunks()))


async def all_of(source: ReplaySource) -> list[Packet]:
    async with aclosing(source.packets()) as coming:
        return [packet async for packet in coming]


@pytest.mark.parametrize("speed", [1, 2, 50.0])
async def test_a_replay_takes_the_time_it_should(recording: SimulatedSource, speed: float) -> None:
    pace = Pace()
    source = ReplaySource(recording, speed=speed, monotonic_s=pace.monotonic_s, sleep=pace.sleep)
    await all_of(source)
    assert pace.now_s - 1000 == pytest.approx(70 / speed)


@settings(max_examples=20, deadline=None)
@given(packet_samples=st.integers(1, 400))
async def test_packets_of_any_length_are_the_recording(recording: SimulatedSource, packet_samples: int) -> None:
    source = ReplaySource(recording, speed=0, packet_samples=packet_samples, clock=FixedClock(NOW_MS))
    packets = await all_of(source)
    assert np.array_equal(np.concatenate([packet.samples_uv for packet in packets]), samples_of(recording))
    assert {len(packet.samples_uv) for packet in packets[:-1]} <= {packet_samples}
    first = 0
    for packet in packets:
        assert packet.stamp_ns == NOW_MS * 10**6 + int(first * 10**9 / RATE)
        first += len(packet.samples_uv)


async def test_faults_are_repeatable_and_do_what_they_say(recording: SimulatedSource) -> None:
    whole = await all_of(ReplaySource(recording, speed=0, clock=FixedClock(NOW_MS)))

    async def stamps(**faults: int) -> list[int | None]:
        source = ReplaySource(recording, speed=0, faults=Faults(**faults), clock=FixedClock(NOW_MS))
        return [packet.stamp_ns for packet in await all_of(source)]

    true = [packet.stamp_ns for packet in whole]
    assert await stamps(lost_permille=1000) == []
    assert await stamps(doubled_permille=1000) == [stamp for stamp in true for _ in range(2)]
    shuffled = await stamps(reordered_permille=400, seed=1)
    assert shuffled == await stamps(reordered_permille=400, seed=1) != true
    assert sorted(stamp for stamp in shuffled if stamp is not None) == true
    jittered = await stamps(jitter_ms=20)
    errors = [abs(a - b) for a, b in zip(jittered, true, strict=True) if a is not None and b is not None]
    assert 0 < max(errors) <= 20_000_000
    drifted = await stamps(drift_ppm=10_000)
    assert drifted[-1] is not None
    assert true[-1] is not None
    assert drifted[-1] - NOW_MS * 10**6 == pytest.approx((true[-1] - NOW_MS * 10**6) / 1.01)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"speed": -1}, "speed"),
        ({"speed": MAX_SPEED + 1}, "speed"),
        ({"speed": float("nan")}, "speed"),
        ({"packet_samples": 0}, "length"),
        ({"packet_samples": MAX_PACKET_SAMPLES + 1}, "length"),
        ({"faults": Faults(drift_ppm=-30_000)}, "drift"),
    ],
)
def test_what_makes_no_sense_is_refused(recording: SimulatedSource, options: dict[str, float], says: str) -> None:
    with pytest.raises(InputError, match=says):
        ReplaySource(recording, **options)  # type: ignore[arg-type]


async def followed(model: Model, source: ReplaySource) -> tuple[list[Event], NDArray[np.int32]]:
    """Events, and all samples as they were stored."""
    store = MemoryStore()
    session = Session.open(model, store, sampling_rate_hz=source.sampling_rate_hz, clock=FixedClock(NOW_MS))
    events: list[Event] = [event async for event in follow(session, source)]
    events += session.close()
    segments = [store.segment(event.result.segment_digest) for event in events if isinstance(event, WindowAnalyzed)]
    return events, np.concatenate([segment.samples_uv for segment in segments if segment is not None])


async def test_an_intact_replay_gives_what_the_recording_gives(model: Model, recording: SimulatedSource) -> None:
    events, stored = await followed(model, ReplaySource(recording, speed=0, clock=FixedClock(NOW_MS)))
    assert np.array_equal(stored, samples_of(recording))
    with Session.open(
        model, MemoryStore(), sampling_rate_hz=RATE, started_at_ms=NOW_MS, clock=FixedClock(NOW_MS)
    ) as session:
        plain = [*session.push(samples_of(recording)), *session.close()]
    sensor = [event for event in events if isinstance(event, SensorChanged)]
    assert [event.state for event in sensor] == [SensorState.STREAMING, SensorState.CLOSED]
    for kind in {type(event) for event in plain}:
        assert [event for event in events if type(event) is kind] == [event for event in plain if type(event) is kind]
    assert len(events) == len(sensor) + len(plain)


async def test_doubled_and_shuffled_packets_change_nothing(model: Model, recording: SimulatedSource) -> None:
    faults = Faults(doubled_permille=300, reordered_permille=200, seed=6)  # the first packet in its place
    events, stored = await followed(
        model, ReplaySource(recording, speed=0, faults=faults, clock=FixedClock(NOW_MS), packet_samples=65)
    )
    assert np.array_equal(stored, samples_of(recording))
    assert any(isinstance(event, OverlapDropped) for event in events)
    assert not any(isinstance(event, GapFound | LateDropped) for event in events)


async def test_lost_packets_of_a_drifting_sensor_are_gaps_in_their_place(
    model: Model, recording: SimulatedSource
) -> None:
    faults = Faults(lost_permille=80, drift_ppm=-10_000, seed=9)
    events, stored = await followed(
        model, ReplaySource(recording, speed=0, faults=faults, clock=FixedClock(NOW_MS), packet_samples=73)
    )
    true = samples_of(recording)[: len(stored)]
    received = stored != MISSING_UV
    assert 0 < (~received).sum() < len(stored) / 5
    assert np.array_equal(stored[received], true[received])
    assert all(
        len(run) % 73 == 0 for run in np.split(stored, np.flatnonzero(np.diff(received)) + 1) if run[0] < -(10**9)
    )
    (rate,) = (event for event in events if isinstance(event, RateEstimated))
    assert rate.deviation_ppm == pytest.approx(-10_000, abs=20)
    assert rate.sampling_rate_hz == pytest.approx(Fraction(1287, 10), rel=1e-4)


async def test_a_recording_that_breaks_off_is_an_error_of_the_iteration(model: Model) -> None:
    class Broken(SimulatedSource):
        def chunks(self):  # type: ignore[no-untyped-def]
            yield from list(super().chunks())[:2]
            raise InputError("the record ends early", "export it again")

    broken = Broken(SimulatedRhythm(duration_s=5, sampling_rate_hz=RATE))
    with (
        Session.open(model, MemoryStore(), sampling_rate_hz=RATE) as session,
        pytest.raises(InputError, match="ends early"),
    ):
        async for _ in follow(session, ReplaySource(broken, speed=0)):
            pass
