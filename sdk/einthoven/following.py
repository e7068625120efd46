"""Follows a live sensor into a session: packets in, events out, the event loop free.

It deliberately opens and closes no session: who opened it closes it, and gets the last window's verdict from that.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

from einthoven.events import Event, SensorEvent
from einthoven.ports import LiveSource, Packet
from einthoven.session import Session


async def follow(session: Session, source: LiveSource) -> AsyncGenerator[Event, None]:
    """Start a sensor, push what it sends off the event loop, and yield what happens, until it ends or is closed.

    The sensor is closed when the iteration ends, however it ends. A ``for`` that is left early ends it at once under
    ``contextlib.aclosing``::

        async with Session.open(model, store, sampling_rate_hz=source.sampling_rate_hz) as session:
            async with aclosing(follow(session, source)) as events:
                async for event in events:
                    ...

    Args:
        session: An open session at the source's rate.
        source: A sensor that was not started yet.

    Raises:
        SensorError: The sensor can't be found or used, or was lost for good.
        InputError: A replayed recording can't be read.
    """
    told: deque[SensorEvent] = deque()
    wake = asyncio.Event()

    def listener(event: SensorEvent) -> None:
        told.append(event)
        wake.set()

    source.listen(listener)
    packets = _packets(source)
    coming: asyncio.Task[Packet | None] = asyncio.ensure_future(anext(packets, None))
    try:
        while True:
            waking = asyncio.ensure_future(wake.wait())
            try:
                await asyncio.wait({coming, waking}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                waking.cancel()
            wake.clear()
            while told:
                yield told.popleft()
            if not coming.done():
                continue
            packet = coming.result()
            if packet is None:
                return
            for event in await asyncio.to_thread(session.push_packet, packet):
                yield event
            coming = asyncio.ensure_future(anext(packets, None))
    finally:
        coming.cancel()
        with suppress(asyncio.CancelledError, Exception):  # what it had to say was said above
            await coming
        with suppress(Exception):
            await packets.aclose()
        await source.close()


async def _packets(source: LiveSource) -> AsyncGenerator[Packet, None]:
    await source.start()
    async with aclosing(source.packets()) as packets:
        async for packet in packets:
            yield packet
