"""What every adapter of the ``LiveSource`` port holds to: a replay, and a strap over Bluetooth."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from tests.ble.polar_frames import constructed_frames
from tests.ble.private_bus import private_bus
from tests.ble.virtual_polar import Behaviour, VirtualPolar

from einthoven.events import PacketRefused, PacketsDropped, SensorChanged, SensorEvent, SensorState
from einthoven.ports import LiveSource, Packet, Stamped
from einthoven.simulator import SimulatedRhythm
from einthoven.source_polar import Patience, PolarSource
from einthoven.source_replay import ReplaySource
from einthoven.source_simulated import SimulatedSource

PACKETS = 8


@dataclass
class Case:
    """A source that was not started, and how to tell that its sensor is left in peace."""

    source: LiveSource
    at_rest: Callable[[], bool]


@asynccontextmanager
async def replay(_folder: Path, _monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Case]:
    recording = SimulatedSource(SimulatedRhythm(duration_s=PACKETS / 2, sampling_rate_hz=Fraction(130)))
    yield Case(ReplaySource(recording, speed=0), lambda: True)


@asynccontextmanager
async def polar(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Case]:
    async with private_bus(folder) as address:
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
        async with VirtualPolar(address, constructed_frames(PACKETS), Behaviour()) as strap:
            yield Case(PolarSource(patience=Patience(scan_s=1)), lambda: not strap.streaming and not strap.connected)


Make = Callable[[Path, pytest.MonkeyPatch], AbstractAsyncContextManager[Case]]
ADAPTERS = pytest.mark.parametrize("make", [replay, polar], ids=["replay", "polar"])


async def take(source: LiveSource, most: int) -> list[Packet]:
    packets: list[Packet] = []
    async with aclosing(source.packets()) as coming:
        async for packet in coming:
            packets.append(packet)
            if len(packets) == most:
                break
    return packets


@ADAPTERS
async def test_it_says_what_it_is_and_sends_packets(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with make(tmp_path, monkeypatch) as case:
        source = case.source
        assert source.name
        assert ("simulated" in source.name.lower()) is source.simulated
        assert isinstance(source.sampling_rate_hz, Fraction)
        told: list[SensorEvent] = []
        source.listen(told.append)
        await source.start()
        packets = await take(source, PACKETS)
        assert len(packets) == PACKETS
        for packet in packets:
            assert packet.samples_uv.dtype == np.int32
            assert packet.samples_uv.ndim == 1
            assert len(packet.samples_uv)
            assert isinstance(packet.stamp_ns, int)
            assert packet.stamped in Stamped
        stamps = [packet.stamp_ns for packet in packets if packet.stamp_ns is not None]
        assert stamps == sorted(set(stamps))
        await source.close()
        assert all(isinstance(event, SensorChanged | PacketsDropped | PacketRefused) for event in told)
        states = [event.state for event in told if isinstance(event, SensorChanged)]
        assert SensorState.STREAMING in states
        assert states[-1] is SensorState.CLOSED
        assert states.count(SensorState.CLOSED) == 1


@ADAPTERS
async def test_closing_ends_it_and_may_be_repeated(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with make(tmp_path, monkeypatch) as case:
        await case.source.start()
        assert len(await take(case.source, 2)) == 2
        for _ in range(2):
            await case.source.close()
        assert case.at_rest()
        assert len(await take(case.source, 1000)) < PACKETS  # what was queued, at most


@ADAPTERS
async def test_closing_one_that_was_never_started(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with make(tmp_path, monkeypatch) as case:
        await case.source.close()
        assert case.at_rest()


@ADAPTERS
async def test_who_is_cancelled_leaves_the_sensor_in_peace(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with make(tmp_path, monkeypatch) as case:
        begun = asyncio.Event()

        async def taking() -> None:
            async with aclosing(case.source.packets()) as coming:
                async for _ in coming:
                    begun.set()
                    await asyncio.sleep(60)

        task = asyncio.ensure_future(taking())
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await case.source.close()
        assert case.at_rest()
