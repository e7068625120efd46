"""The Polar strap end to end: bleak's own Linux backend against a virtual strap on a private D-Bus."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from tests.ble.polar_frames import captured, constructed_frames, constructed_samples
from tests.ble.private_bus import private_bus
from tests.ble.virtual_polar import ADDRESS, CONTROL, FRAMES, NAME, Behaviour, VirtualPolar

from einthoven.clock import FixedClock
from einthoven.errors import (
    BluetoothUnavailable,
    InputError,
    SensorDisconnected,
    SensorError,
    SensorFrameError,
    SensorNotFound,
    SensorRefused,
)
from einthoven.events import (
    ClockJumped,
    Event,
    GapFound,
    PacketRefused,
    PacketsDropped,
    SensorChanged,
    SensorEvent,
    SensorState,
    WindowAnalyzed,
)
from einthoven.following import follow
from einthoven.models import load_model
from einthoven.polar_pmd import START_REQUEST
from einthoven.ports import Packet, Stamped
from einthoven.session import Session
from einthoven.source_polar import MAX_QUEUED_PACKETS, MAX_REFUSED_IN_A_ROW, Patience, PolarSource
from einthoven.store_memory import MemoryStore

NOW_MS = 1_800_000_000_000
QUICK = Patience(
    scan_s=0.5, connect_s=2.0, first_ecg_s=2.0, stall_s=0.5, backoff_s=0.02, max_backoff_s=0.05, attempts=4
)
PATIENT = replace(QUICK, scan_s=10.0, connect_s=20.0, first_ecg_s=20.0, stall_s=3.0)
"""Where nothing goes wrong: a machine busy with other tests must not give up before the strap does."""


@asynccontextmanager
async def strap(
    folder: Path, behaviour: Behaviour, monkeypatch: pytest.MonkeyPatch, frames: Sequence[bytes] | None = None
) -> AsyncIterator[VirtualPolar]:
    async with private_bus(folder) as address:
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
        async with VirtualPolar(address, constructed_frames(40) if frames is None else frames, behaviour) as polar:
            yield polar


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 (what the strap saw is no event of ours)
        await asyncio.sleep(0.01)


def listened(source: PolarSource) -> list[SensorEvent]:
    events: list[SensorEvent] = []
    source.listen(events.append)
    return events


def states(events: Sequence[Event]) -> list[SensorState]:
    return [event.state for event in events if isinstance(event, SensorChanged)]


async def take(source: PolarSource, packets: int) -> list[Packet]:
    taken: list[Packet] = []
    async with aclosing(source.packets()) as coming:
        async for packet in coming:
            taken.append(packet)
            if len(taken) == packets:
                break
    return taken


def samples_of(packets: Sequence[Packet]) -> list[int]:
    return np.concatenate([packet.samples_uv for packet in packets]).tolist()


async def test_a_strap_is_found_started_read_and_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FixedClock(NOW_MS)
    async with strap(tmp_path, Behaviour(clock=clock), monkeypatch) as polar:
        source = PolarSource(patience=PATIENT, clock=clock)
        events = listened(source)
        packets = await take(source, 40)
        assert samples_of(packets) == constructed_samples(40).tolist()
        assert {packet.stamped for packet in packets} == {Stamped.LAST}
        arrived = [packet.received_at_ms for packet in packets if packet.received_at_ms is not None]
        assert arrived == sorted(arrived)
        assert all(at >= NOW_MS + 562 * n for n, at in enumerate(arrived, start=1))
        assert polar.requests[1] == START_REQUEST
        assert polar.stops == 1
        assert not polar.streaming
        assert not polar.connected
    searching = [SensorState.SEARCHING, SensorState.CONNECTING, SensorState.WAITING]
    assert states(events) == [*searching, SensorState.STREAMING, SensorState.CLOSED]


@pytest.mark.data
@pytest.mark.parametrize("which", ["N", "A"])
async def test_captured_frames_reach_a_session_unchanged(
    which: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames, expected = captured(which)
    clock = FixedClock(NOW_MS)
    store = MemoryStore()
    async with strap(tmp_path, Behaviour(clock=clock), monkeypatch, frames) as polar:
        source = PolarSource(patience=PATIENT, clock=clock)
        session = Session.open(load_model(), store, sampling_rate_hz=source.sampling_rate_hz, clock=clock)
        events: list[Event] = []
        async with aclosing(follow(session, source)) as happening:
            async for event in happening:
                events.append(event)
                if isinstance(event, SensorChanged) and event.state is SensorState.RECONNECTING:
                    break  # the capture is over, so the strap is silent
        events += session.close()
    results = [event.result for event in events if isinstance(event, WindowAnalyzed)]
    segment = store.segment(results[0].segment_digest)
    assert segment is not None
    assert np.array_equal(segment.samples_uv, expected)
    assert segment.sampling_rate_hz == Fraction(130)
    assert not [event for event in events if isinstance(event, GapFound | ClockJumped)]
    assert abs(results[0].started_at_ms - NOW_MS) <= 20  # by arrival, whatever the strap's own epoch
    assert polar.stops == 1


@pytest.mark.parametrize("how", ["address", "name"])
async def test_a_strap_is_found_by_address_or_name(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with strap(tmp_path, Behaviour(), monkeypatch):
        wanted = {"address": ADDRESS.lower()} if how == "address" else {"name": NAME}
        assert len(await take(PolarSource(patience=PATIENT, **wanted), 2)) == 2


@pytest.mark.parametrize(
    ("behaviour", "wanted", "error"),
    [
        (Behaviour(in_reach=False), {}, SensorNotFound),
        (Behaviour(), {"address": "00:11:22:33:44:55"}, SensorNotFound),
        (Behaviour(), {"name": "Polar H10 99999999"}, SensorNotFound),
        (Behaviour(name="Some watch"), {}, SensorNotFound),
        (Behaviour(powered=False), {}, BluetoothUnavailable),
        (Behaviour(connects=False), {}, SensorDisconnected),
        (Behaviour(has_service=False), {}, SensorRefused),
        (Behaviour(features=bytes([0x0F, 0x04])), {}, SensorRefused),
        (Behaviour(features=b"?"), {}, SensorFrameError),
        (Behaviour(settings=bytes([0, 1, 50, 0])), {}, SensorRefused),
        (Behaviour(settings_status=3), {}, SensorRefused),
        (Behaviour(start_status=(13,)), {}, SensorRefused),
        (Behaviour(start_status=(6,)), {}, SensorRefused),
        (Behaviour(write_error="org.bluez.Error.NotPermitted|Write not permitted"), {}, SensorRefused),
        (Behaviour(write_error="org.bluez.Error.NotAuthorized|no"), {}, SensorRefused),
        (Behaviour(write_error="org.freedesktop.DBus.Error.AccessDenied|no"), {}, BluetoothUnavailable),
        (Behaviour(write_error="org.bluez.Error.Failed|odd"), {}, SensorDisconnected),
    ],
)
async def test_what_goes_wrong_at_the_start_is_a_typed_error(
    behaviour: Behaviour,
    wanted: dict[str, str],
    error: type[SensorError],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with strap(tmp_path, behaviour, monkeypatch) as polar:
        source = PolarSource(patience=QUICK, **wanted)
        with pytest.raises(error) as caught:
            await source.start()
        assert "\n" not in str(caught.value)
        assert ADDRESS not in str(caught.value)
        assert not polar.connected
        assert not polar.streaming
        assert await take(source, 1) == []  # closed


async def test_a_strap_that_does_not_answer_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with strap(tmp_path, Behaviour(answers=False), monkeypatch) as polar:
        with pytest.raises(SensorDisconnected, match="does not answer"):
            await PolarSource(patience=QUICK).start()
        assert not polar.connected


async def test_a_stream_left_running_is_stopped_and_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with strap(tmp_path, Behaviour(start_status=(6, 0)), monkeypatch) as polar:
        assert len(await take(PolarSource(patience=PATIENT), 3)) == 3
        assert [request[0] for request in polar.requests] == [1, 2, 3, 2, 3]


async def test_no_bus_and_a_bus_that_forbids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/nothing")
    with pytest.raises(BluetoothUnavailable, match="no Bluetooth"):
        await PolarSource(patience=QUICK).start()
    async with private_bus(tmp_path) as address:  # no BlueZ on it
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
        with pytest.raises(BluetoothUnavailable, match="ServiceUnknown"):
            await PolarSource(patience=QUICK).start()


async def test_a_break_in_mid_stream_is_mended_and_its_gap_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FixedClock(NOW_MS)
    behaviour = Behaviour(clock=clock, disconnect_after=(10, 8))
    async with strap(tmp_path, behaviour, monkeypatch) as polar:
        source = PolarSource(patience=QUICK, clock=clock)
        session = Session.open(load_model(), MemoryStore(), sampling_rate_hz=130, clock=clock)
        events: list[Event] = []
        async with aclosing(follow(session, source)) as happening:
            async for event in happening:
                events.append(event)
                if isinstance(event, SensorChanged) and event.state is SensorState.RECONNECTING:
                    polar.skip(3)  # what the strap measured meanwhile
                if polar.sent == 34:  # with 2 x 3 skipped, all
                    break
        events += session.close()
        assert polar.connections == 3
        assert polar.stops == 1
        assert not polar.connected
    gaps = [event.missing_ms for event in events if isinstance(event, GapFound)]
    assert gaps == [pytest.approx(3 * 561.5, abs=1)] * 2
    assert states(events).count(SensorState.RECONNECTING) == 2


async def test_a_strap_that_stays_away_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    async with strap(tmp_path, Behaviour(disconnect_after=(5,), stays_away=True), monkeypatch):
        source = PolarSource(patience=Patience(scan_s=0.1, backoff_s=1, max_backoff_s=3, attempts=5), sleep=sleep)
        taken: list[Packet] = []

        async def taking() -> None:
            async for packet in source.packets():
                taken.append(packet)  # noqa: PERF401 (what came before the error counts)

        with pytest.raises(SensorDisconnected, match="5 attempts"):
            await taking()
    assert len(taken) == 5
    assert pauses == [1, 2, 3, 3]


async def test_silence_and_a_stop_by_itself_start_the_stream_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    behaviour = Behaviour(stop_by_itself_after=4)
    async with strap(tmp_path, behaviour, monkeypatch) as polar:
        assert len(await take(PolarSource(patience=QUICK), 10)) == 10
        assert polar.connections == 2
    behaviour = Behaviour(pause_after=6)
    async with strap(tmp_path, behaviour, monkeypatch) as polar:
        assert len(await take(PolarSource(patience=QUICK), 10)) == 10
        assert polar.connections == 2
        assert polar.stops == 2  # the silent stream was told to stop as well


async def test_a_program_that_stood_still_is_not_taken_for_a_silent_strap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with strap(tmp_path, Behaviour(interval_s=0.02), monkeypatch) as polar:
        source = PolarSource(patience=QUICK)
        events = listened(source)
        taken = 0
        async with aclosing(source.packets()) as coming:
            async for packet in coming:
                taken += len(packet.samples_uv)
                if taken == len(packet.samples_uv):  # the first; the loop stands still while the next are waited for
                    asyncio.get_running_loop().call_later(0.01, time.sleep, 1.4 * QUICK.stall_s)
                if taken == len(constructed_samples(40)):
                    break
        assert polar.connections == 1
    assert SensorState.RECONNECTING not in states(events)


async def test_malformed_frames_are_left_out_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = constructed_frames(6)
    frames = [*good[:3], b"", good[3][:50], b"\x02" + bytes(20), good[4], bytes(9) + b"\x80" + bytes(9), good[5]]
    async with strap(tmp_path, Behaviour(), monkeypatch, frames) as polar:
        source = PolarSource(patience=PATIENT)
        events = listened(source)
        packets = await take(source, 5)
        assert polar.stops == 1
    assert samples_of(packets) == [*samples_of_frames(range(3)), *samples_of_frames((4, 5))]
    refused = [event.problem for event in events if isinstance(event, PacketRefused)]
    assert refused == [
        "a frame has 0 bytes",
        "a frame ends within a sample",
        "a frame is of measurement type 2",
        "a frame is delta compressed",
    ]


def samples_of_frames(which: Sequence[int]) -> list[int]:
    rows = constructed_samples(6).reshape(6, -1)
    return np.concatenate([rows[index] for index in which]).tolist()


async def test_nothing_but_malformed_frames_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [bytes(9) + b"\x80" + bytes(9)] * (MAX_REFUSED_IN_A_ROW + 5)
    async with strap(tmp_path, Behaviour(), monkeypatch, frames) as polar:
        with pytest.raises(SensorFrameError, match="in a row"):
            await take(PolarSource(patience=QUICK), 1)
        assert polar.stops == 1


async def test_a_slow_taker_loses_the_oldest_and_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    too_many = MAX_QUEUED_PACKETS + 20
    frames = constructed_frames(too_many)
    async with strap(tmp_path, Behaviour(interval_s=0.001), monkeypatch, frames):
        source = PolarSource(patience=QUICK)
        events = listened(source)
        await source.start()
        await until(lambda: sum(isinstance(event, PacketsDropped) for event in events) == 20)
        packets = await take(source, MAX_QUEUED_PACKETS)
    assert samples_of(packets) == constructed_samples(too_many)[20 * 73 :].tolist()


@pytest.mark.parametrize("when", ["waiting", "streaming", "connecting"])
async def test_who_is_cancelled_leaves_no_strap_streaming(
    when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    behaviour = Behaviour(interval_s=0.05 if when == "streaming" else 10, answers=when != "connecting")
    async with strap(tmp_path, behaviour, monkeypatch) as polar:
        source = PolarSource(patience=QUICK)
        task = asyncio.ensure_future(take(source, 1000))
        await until(lambda: bool(polar.requests if when == "connecting" else polar.streaming))
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not polar.streaming
        assert not polar.connected
        assert polar.stops == (0 if when == "connecting" else 1)
        await source.close()  # again


async def test_an_error_of_the_taker_stops_the_strap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with strap(tmp_path, Behaviour(), monkeypatch) as polar:
        session = Session.open(load_model(), MemoryStore(), sampling_rate_hz=130)
        session.close()
        with pytest.raises(InputError, match="closed"):
            async for _ in follow(session, PolarSource(patience=QUICK)):
                pass
        assert polar.stops == 1
        assert not polar.connected


async def test_odd_indications_are_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with strap(tmp_path, Behaviour(interval_s=0.01), monkeypatch) as polar:
        source = PolarSource(patience=QUICK)
        await source.start()
        for _ in range(12):
            polar.notify(CONTROL, bytes([0xF0, 9, 0, 0]))
        polar.notify(CONTROL, bytes([0xF0, 9, 7, 0]))
        assert len(await take(source, 10)) == 10
        assert FRAMES in polar.notifying or not polar.connected


async def test_without_bleak_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bleak", None)
    with pytest.raises(InputError, match=r"einthoven\[ble\]"):
        await PolarSource(patience=QUICK).start()


async def test_closing_while_it_reconnects_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with strap(tmp_path, Behaviour(disconnect_after=(3,), stays_away=True), monkeypatch) as polar:
        source = PolarSource(patience=Patience(scan_s=0.1, attempts=1000, backoff_s=0.01, max_backoff_s=0.01))
        events = listened(source)
        task = asyncio.ensure_future(take(source, 1000))
        await until(lambda: SensorState.RECONNECTING in states(events))
        await asyncio.sleep(0.3)
        await source.close()
        assert len(await asyncio.wait_for(task, 5)) == 3
        assert not polar.connected


async def test_who_is_cancelled_twice_still_stops_the_strap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with strap(tmp_path, Behaviour(interval_s=0.05), monkeypatch) as polar:
        source = PolarSource(patience=QUICK)
        await source.start()
        closing = asyncio.ensure_future(source.close())
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        assert polar.stops == 1
        assert not polar.connected
