"""kill -9 of the real server in the middle of an upload over real TLS: it goes on from the byte that was durable."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest
from tests.einthoven_server.signal_site import RawRequest, SignalDevice, SignalSite, make_segment
from tests.einthoven_server.site import ManualClock
from tests.einthoven_server.test_serve import Process, client

from einthoven.account import load_account
from einthoven.segments import canonical_segment, decode_segment
from einthoven_protocol import merkle
from einthoven_protocol.canonical import encode_result_row
from einthoven_protocol.messages import Run, Seal
from einthoven_protocol.signal_chunks import chunk_name
from einthoven_server.postgres_embedded import _workers

SEGMENTS = 3


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    process = Process(tmp_path / "data")
    yield process
    if process.process is not None and process.process.poll() is None:
        process.end(signal.SIGTERM)
    for worker in _workers(tmp_path / "data" / "postgres"):
        with suppress(ProcessLookupError):
            os.kill(worker, signal.SIGQUIT)


def site_of(ready: dict[str, str], data: Path, http: aiohttp.ClientSession) -> SignalSite:
    admin = load_account(data / "admin-key.json")
    return SignalSite(ready["url"], Path(ready["ca_file"]).read_text(), "", ManualClock(), http, admin)


async def pushed(device: SignalDevice) -> Run:
    """Results with their seal by a real exchange; their signals are still here."""
    run = device.record(1, [make_segment(n, n_samples=30_000) for n in range(SEGMENTS)])
    rows = device.rows(1, SEGMENTS)
    roots = (
        merkle.tree_hash([encode_result_row(row) for row in rows]),
        merkle.tree_hash([device.digests[1, row.counter] for row in rows]),
    )
    signature = device.key.sign(merkle.seal_message(device.alias, 1, 1, SEGMENTS, *roots))
    seal = Seal(
        epoch=1,
        first_counter=1,
        last_counter=SEGMENTS,
        results_root=roots[0],
        segments_root=roots[1],
        signature=signature,
    )
    response = await device.exchange(rows, seals=(seal,))
    assert response.acknowledged == SEGMENTS
    return run


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_an_upload_outlives_kill_9_of_the_server(process: Process) -> None:
    ready = await asyncio.to_thread(process.start)
    async with client(ready) as http:
        device = await site_of(ready, process.data, http).new_signal_device()
        run = await pushed(device)
        path, parcel = await device.begin(run)
        half = len(parcel) // 2
        request = await RawRequest.begin(device, path, 0, parcel)
        await request.send(parcel[:half])
        while True:
            if await device.offset(path) == half:
                break
            await asyncio.sleep(0.1)
        process.end(signal.SIGKILL)
        await request.close()
    kept = half
    # Killed again at whatever moment: nothing that was said to be durable is gone.
    for pause_s in (0.0, 0.004, 0.02):
        ready = await asyncio.to_thread(process.start)
        async with client(ready) as http:
            device.site = site_of(ready, process.data, http)
            offset = await device.offset(path)
            assert kept <= offset <= len(parcel)
            kept = offset
            if offset < len(parcel):
                # All but the last byte: what was taken is durable, and the upload is not at its end.
                patch = asyncio.create_task(device.patch(path, offset, parcel[offset : offset + 5_000]))
                await asyncio.sleep(pause_s)
                process.end(signal.SIGKILL)
                patch.cancel()
                answers = await asyncio.gather(patch, return_exceptions=True)
                if not isinstance(answers[0], BaseException):
                    kept = int(answers[0].headers["Upload-Offset"])
    ready = await asyncio.to_thread(process.start)
    async with client(ready) as http:
        site = device.site = site_of(ready, process.data, http)
        offset = await device.offset(path)
        assert kept <= offset < len(parcel)
        answer = await device.patch(path, offset, parcel[offset:])
        assert (answer.status, answer.headers["Upload-Offset"]) == (204, str(len(parcel)))
        assert (await device.missing([chunk_name(device.chunk(run))])).missing == (False,)
        _, clinician = await site.new_principal("clinician")
        for counter in range(1, SEGMENTS + 1):
            read = await site.send("GET", f"/v1/results/{device.alias}-1-{counter}/signal", token=clinician)
            assert read.body == canonical_segment(decode_segment(device.signals[1, counter]))
    objects = [path for path in (process.data / "signals").rglob("*") if path.is_file()]
    assert [path.name for path in objects] == [chunk_name(device.chunk(run)).hex()]
