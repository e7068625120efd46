"""What tus 1.0.0 asks of a server (https://tus.io/protocols/resumable-upload), over real TLS into a real database."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from obstore.store import MemoryStore
from tests.einthoven_server.signal_site import (
    RawRequest,
    SignalDevice,
    SignalSite,
    metadata,
    running_signals,
)
from tests.einthoven_server.site import Answer, ManualClock

from einthoven_protocol.messages import Run
from einthoven_protocol.signal_chunks import chunk_name
from einthoven_server.signals import quotas, tus
from einthoven_server.signals.signal_store_obstore import ObstoreSignalStore


@pytest.fixture
async def site(data_folder: Path, database_url: str, clock: ManualClock) -> AsyncIterator[SignalSite]:
    store = ObstoreSignalStore(MemoryStore())
    async with running_signals(data_folder, database_url, clock, str(uuid.uuid4()), store, flush_s=0.0) as site:
        yield site


@pytest.fixture
async def device(site: SignalSite) -> SignalDevice:
    return await site.new_signal_device()


@pytest.fixture
async def run(device: SignalDevice) -> Run:
    return await device.with_signals(3)


async def offset_becomes(device: SignalDevice, path: str, offset: int) -> None:
    """Ask until the server says so; the test's own time limit bounds it."""
    while True:
        if await device.offset(path) == offset:
            return
        await asyncio.sleep(0.05)


async def settled(ask: Callable[[], Awaitable[Answer]], unsettled: int) -> Answer:
    """Ask until the status is another one."""
    while True:
        answer = await ask()
        if answer.status != unsettled:
            return answer
        await asyncio.sleep(0.05)


async def test_options_tell_what_is_spoken(site: SignalSite) -> None:
    for path in ("/v1/uploads", "/v1/uploads/any"):
        answer = await site.send("OPTIONS", path)
        assert answer.status == 204
        assert answer.headers["Tus-Version"] == "1.0.0"
        assert answer.headers["Tus-Max-Size"] == str(tus.MAX_SIZE_BYTES)
        assert answer.headers["Tus-Checksum-Algorithm"] == "sha1,sha256"
        assert set(answer.headers["Tus-Extension"].split(",")) >= {"creation", "checksum", "expiration", "termination"}
        assert "Tus-Resumable" not in answer.headers


@pytest.mark.parametrize("version", ["", "0.2.2", "2.0.0"])
async def test_another_version_is_412_and_told_which_is_spoken(device: SignalDevice, run: Run, version: str) -> None:
    path, parcel = await device.begin(run)
    for method, where, body in (("POST", "/v1/uploads", b""), ("HEAD", path, b""), ("PATCH", path, parcel)):
        answer = await device.send(method, where, body, Tus_Resumable=version, Upload_Offset="0")
        assert (answer.status, answer.headers["Tus-Version"]) == (412, "1.0.0")
    assert await device.offset(path) == 0


async def test_an_upload_goes_on_at_any_byte(device: SignalDevice, run: Run) -> None:
    path, parcel = await device.begin(run)
    offset = 0
    for step in (1, 2, 700, 3, 1, len(parcel)):
        assert await device.offset(path) == offset
        piece = parcel[offset : offset + step]
        answer = await device.patch(path, offset, piece)
        offset += len(piece)
        assert (answer.status, answer.headers["Upload-Offset"]) == (204, str(offset))
        assert answer.headers["Tus-Resumable"] == "1.0.0"
        assert ("Upload-Expires" in answer.headers) == (offset < len(parcel))
    assert await device.offset(path) == len(parcel)
    assert (await device.missing([chunk_name(device.chunk(run))])).missing == (False,)


async def test_head_is_not_to_be_cached_and_tells_the_length(device: SignalDevice, run: Run) -> None:
    path, parcel = await device.begin(run)
    answer = await device.send("HEAD", path)
    assert answer.headers["Cache-Control"] == "no-store"
    assert (answer.headers["Upload-Length"], answer.headers["Upload-Offset"]) == (str(len(parcel)), "0")


async def test_another_offset_is_409(device: SignalDevice, run: Run) -> None:
    path, parcel = await device.begin(run)
    assert (await device.patch(path, 0, parcel[:100])).status == 204
    for offset in (0, 99, 101, len(parcel)):
        answer = await device.patch(path, offset, parcel[100:200])
        assert (answer.status, answer.error) == (409, "conflict")
    assert await device.offset(path) == 100


async def test_more_than_the_length_is_413(device: SignalDevice, run: Run) -> None:
    path, parcel = await device.begin(run)
    assert (await device.patch(path, 0, parcel + b"\0")).status == 413
    assert (await device.create(device.chunk(run), tus.MAX_SIZE_BYTES + 1)).status == 413
    assert (await device.patch(path, 0, bytes(tus.MAX_SIZE_BYTES + 1))).status == 413
    assert await device.offset(path) == 0


async def test_a_wrong_checksum_is_460_and_a_right_one_is_taken(device: SignalDevice, run: Run) -> None:
    path, parcel = await device.begin(run)
    body = parcel[:500]
    wrong = base64.b64encode(hashlib.sha1(body + b"x").digest()).decode()
    answer = await device.patch(path, 0, body, Upload_Checksum=f"sha1 {wrong}")
    assert (answer.status, answer.error) == (460, "checksum_mismatch")
    assert await device.offset(path) == 0
    for begin, algorithm in ((0, "sha1"), (500, "sha256")):
        body = parcel[begin : begin + 500]
        digest = base64.b64encode(hashlib.new(algorithm, body).digest()).decode()
        assert (await device.patch(path, begin, body, Upload_Checksum=f"{algorithm} {digest}")).status == 204
    for given in ("md5 AAAA", "sha1", "sha1 !!!", "sha1 AAAA", ""):
        answer = await device.patch(path, 1_000, parcel[1_000:1_100], Upload_Checksum=given or "none AAAA")
        assert (answer.status, answer.error) == (400, "malformed")
    assert await device.offset(path) == 1_000


async def test_an_expired_upload_is_410_and_later_unknown(
    site: SignalSite, device: SignalDevice, run: Run, clock: ManualClock
) -> None:
    assert site.database is not None
    clock.stop()
    path, parcel = await device.begin(run)
    assert (await device.patch(path, 0, parcel[:100])).status == 204
    clock.offset_ms += quotas.UPLOAD_LIFETIME_MS - 1
    assert await device.offset(path) == 100
    clock.offset_ms += 1
    for answer in (await device.send("HEAD", path), await device.patch(path, 100, parcel[100:])):
        assert answer.status == 410
    # The next upload of anybody clears its bytes away, and one much later its line.
    pieces = "SELECT count(*) AS n FROM signal_upload_piece WHERE tenant = $1"
    other = await site.new_signal_device()
    await other.begin(await other.with_signals(1))
    assert [row["n"] for row in await site.database.fetch(pieces, site.tenant)] == [0]
    assert (await device.send("HEAD", path)).status == 410
    again, _ = await device.begin(run)
    assert again != path
    assert (await device.send("HEAD", path)).status == 404
    clock.offset_ms += quotas.UPLOAD_LIFETIME_MS + quotas.UPLOAD_REMEMBERED_MS
    await other.begin(await other.with_signals(1, first=2))
    assert (await device.send("HEAD", again)).status == 404


async def test_two_that_write_at_once_are_423(device: SignalDevice, run: Run) -> None:
    path, parcel = await device.begin(run)
    first = await RawRequest.begin(device, path, 0, parcel)
    await first.send(parcel[:200])
    await offset_becomes(device, path, 200)
    for answer in (await device.patch(path, 200, parcel[200:300]), await device.send("DELETE", path)):
        assert (answer.status, answer.error) == (423, "locked")
    await first.send(parcel[200:])
    assert await first.status() == 204
    await first.close()
    assert await device.offset(path) == len(parcel)


async def test_what_came_before_a_connection_broke_is_kept(device: SignalDevice, run: Run) -> None:
    path, parcel = await device.begin(run)
    request = await RawRequest.begin(device, path, 0, parcel)
    await request.send(parcel[:333])
    await offset_becomes(device, path, 333)
    await request.send(parcel[333:444])
    await request.close()
    await offset_becomes(device, path, 444)
    answer = await settled(lambda: device.patch(path, 444, parcel[444:]), 423)
    assert answer.status == 204


async def test_with_a_checksum_a_broken_body_leaves_nothing(device: SignalDevice, run: Run) -> None:
    path, parcel = await device.begin(run)
    checksum = base64.b64encode(hashlib.sha256(parcel).digest()).decode()
    request = await RawRequest.begin(device, path, 0, parcel, Upload_Checksum=f"sha256 {checksum}")
    await request.send(parcel[:333])
    # At another offset, until the first request has the upload.
    assert (await settled(lambda: device.patch(path, 1, b"x"), 409)).status == 423
    await request.close()
    answer = await settled(lambda: device.patch(path, 0, parcel[:10]), 423)
    assert (answer.status, answer.headers["Upload-Offset"]) == (204, "10")


async def test_a_body_that_was_not_signed_leaves_nothing(device: SignalDevice, run: Run) -> None:
    path, parcel = await device.begin(run)
    assert (await device.patch(path, 0, parcel[:50])).status == 204
    request = await RawRequest.begin(device, path, 50, parcel[50:])
    await request.send(parcel[50:300])
    await offset_becomes(device, path, 300)
    await request.send(bytes(len(parcel) - 300))
    assert await request.status() == 401
    await request.close()
    assert await device.offset(path) == 50
    assert (await device.patch(path, 50, parcel[50:])).status == 204


async def test_a_request_that_was_seen_before_is_refused(site: SignalSite, device: SignalDevice, run: Run) -> None:
    path, parcel = await device.begin(run)
    headers = device.signed("PATCH", path, parcel[:100]) | {
        "Tus-Resumable": "1.0.0",
        "Upload-Offset": "0",
        "Content-Type": "application/offset+octet-stream",
    }
    assert (await site.send("PATCH", path, data=parcel[:100], headers=headers)).status == 204
    answer = await site.send("PATCH", path, data=parcel[:100], headers=headers | {"Upload-Offset": "100"})
    assert (answer.status, answer.error) == (401, "replayed")


async def test_the_signature_covers_method_and_path(site: SignalSite, device: SignalDevice, run: Run) -> None:
    path, _ = await device.begin(run)
    for method, where in (("HEAD", "/v1/uploads/other"), ("DELETE", path)):
        answer = await site.send("DELETE", path, headers=device.signed(method, where, b"") | {"Tus-Resumable": "1.0.0"})
        assert answer.status == (401 if (method, where) != ("DELETE", path) else 204)


async def test_termination(site: SignalSite, device: SignalDevice, run: Run) -> None:
    path, parcel = await device.begin(run)
    assert (await device.patch(path, 0, parcel[:100])).status == 204
    other = await site.new_signal_device()
    assert (await other.send("DELETE", path)).status == 404
    assert (await other.send("HEAD", path)).status == 404
    assert (await other.patch(path, 100, parcel[100:])).status == 404
    answer = await device.send("DELETE", path)
    assert (answer.status, answer.headers["Tus-Resumable"]) == (204, "1.0.0")
    assert (await device.send("HEAD", path)).status == 404


async def test_creating_again_finds_what_was_begun(device: SignalDevice, run: Run) -> None:
    path, parcel = await device.begin(run)
    assert (await device.patch(path, 0, parcel[:100])).status == 204
    again = await device.create(device.chunk(run), len(parcel), parcel)
    assert (again.status, again.headers["Location"], again.headers["Upload-Offset"]) == (201, path, "100")
    # Another length is another parcel: the former is given up.
    longer = await device.create(device.chunk(run), len(parcel) + 1)
    assert longer.headers["Location"] != path
    assert (await device.send("HEAD", path)).status == 404


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Upload_Length": ""}, 400),
        ({"Upload_Length": "0"}, 400),
        ({"Upload_Length": "-1"}, 400),
        ({"Upload_Length": "9" * 30}, 400),
        ({"Upload_Length": "²"}, 400),
        ({"Upload_Defer_Length": "1"}, 400),
        ({"Upload_Metadata": ""}, 400),
        ({"Upload_Metadata": "name AAAA"}, 400),
        ({"Upload_Metadata": "chunk AAAA"}, 400),
        ({"Upload_Metadata": "chunk ?"}, 400),
        ({"X_HTTP_Method_Override": "PATCH"}, 400),
    ],
)
async def test_a_creation_that_is_none_is_refused(
    device: SignalDevice, run: Run, headers: dict[str, str], status: int
) -> None:
    answer = await device.create(device.chunk(run), 1_000, **headers)
    assert answer.status == status
    assert answer.headers["Tus-Resumable"] == "1.0.0"


async def test_other_metadata_beside_the_chunk_is_no_matter(device: SignalDevice, run: Run) -> None:
    given = f"filename Zm9v,{metadata(chunk_name(device.chunk(run)))},private"
    assert (await device.create(device.chunk(run), 1_000, Upload_Metadata=given)).status == 201


async def test_a_body_of_another_type_is_415(device: SignalDevice, run: Run) -> None:
    path, parcel = await device.begin(run)
    assert (await device.patch(path, 0, parcel, Content_Type="application/json")).status == 415
    answer = await device.create(device.chunk(run), len(parcel), parcel, Content_Type="text/plain")
    assert answer.status == 415


async def test_a_patch_without_offset_is_400(device: SignalDevice, run: Run) -> None:
    path, parcel = await device.begin(run)
    for offset in ("", "x", "-1", "1.5"):
        assert (await device.send("PATCH", path, parcel, Upload_Offset=offset)).status == 400


async def test_a_body_of_no_declared_length_is_400(site: SignalSite, device: SignalDevice, run: Run) -> None:
    path, parcel = await device.begin(run)

    async def parts() -> AsyncIterator[bytes]:
        yield parcel

    headers = device.signed("PATCH", path, parcel) | {"Tus-Resumable": "1.0.0", "Upload-Offset": "0"}
    headers["Content-Type"] = "application/offset+octet-stream"
    answer = await site.send("PATCH", path, data=parts(), headers=headers)
    assert (answer.status, answer.error) == (400, "malformed")


async def test_an_empty_patch_changes_nothing(device: SignalDevice, run: Run) -> None:
    path, _ = await device.begin(run)
    answer = await device.send("PATCH", path, b"", Upload_Offset="0", Content_Type="application/offset+octet-stream")
    assert (answer.status, answer.headers["Upload-Offset"]) == (204, "0")
