"""Uploads over real TLS into a real database: what is kept, read again, and refused."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from obstore.store import LocalStore
from tests.einthoven_server.signal_site import SignalDevice, SignalSite, make_segment, running_signals
from tests.einthoven_server.site import ManualClock, result_row

from einthoven.segments import canonical_segment, decode_segment, encode_segment
from einthoven_protocol.messages import Run
from einthoven_protocol.signal_chunks import chunk_name
from einthoven_protocol.signal_missing import MAX_CHUNKS_PER_QUESTION
from einthoven_protocol.signal_parcels import encode_parcel
from einthoven_server.errors import Busy
from einthoven_server.signals import quotas
from einthoven_server.signals.signal_store_obstore import ObstoreSignalStore


class FailingStore(ObstoreSignalStore):
    """A store that can be out of reach."""

    out_of_reach = False

    async def put(self, name: str, content: bytes) -> None:
        if self.out_of_reach:
            raise Busy("the place for signals does not answer", "try again later", 2, code="signals_unavailable")
        await super().put(name, content)


@pytest.fixture
def objects(tmp_path: Path) -> Path:
    folder = tmp_path / "objects"
    folder.mkdir()
    return folder


@pytest.fixture
def store(objects: Path) -> FailingStore:
    return FailingStore(LocalStore(objects), objects)


@pytest.fixture
async def site(
    data_folder: Path, database_url: str, clock: ManualClock, store: FailingStore
) -> AsyncIterator[SignalSite]:
    async with running_signals(data_folder, database_url, clock, str(uuid.uuid4()), store) as site:
        yield site


@pytest.fixture
async def device(site: SignalSite) -> SignalDevice:
    return await site.new_signal_device()


@pytest.fixture
async def clinician(site: SignalSite) -> str:
    return (await site.new_principal("clinician"))[1]


async def uploaded(device: SignalDevice, n: int = 3) -> Run:
    """A run whose signals the server keeps."""
    run = await device.with_signals(n)
    parcel = device.parcel(run)
    answer = await device.create(device.chunk(run), len(parcel), parcel)
    assert answer.status == 201, answer.body
    assert answer.headers["Upload-Offset"] == str(len(parcel))
    return run


async def count(site: SignalSite, table: str) -> int:
    assert site.database is not None
    assert site.scope is not None
    (row,) = await site.database.fetch(f"SELECT count(*) AS n FROM {table} WHERE tenant = $1", site.scope.tenant)
    return int(row["n"])


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def signal_path(device: SignalDevice, counter: int) -> str:
    return f"/v1/results/{device.alias}-1-{counter}/signal"


async def test_a_kept_signal_is_read_as_its_canonical_form(
    site: SignalSite, device: SignalDevice, clinician: str
) -> None:
    await uploaded(device)
    for counter in range(1, 4):
        signal = await site.send("GET", signal_path(device, counter), token=clinician)
        assert (signal.status, signal.headers["Content-Type"]) == (200, "application/vnd.einthoven.segment")
        assert signal.body == canonical_segment(decode_segment(device.signals[1, counter]))
        assert hashlib.sha256(signal.body).digest() == device.digests[1, counter]
        digest = base64.b64encode(device.digests[1, counter]).decode()
        assert signal.headers["Content-Digest"] == f"sha-256=:{digest}:"


async def test_only_a_clinician_of_this_tenant_reads_signals(
    site: SignalSite, device: SignalDevice, clinician: str
) -> None:
    await uploaded(device)
    assert (await site.send("GET", signal_path(device, 1), token=site.admin)).status == 403
    assert (await site.send("GET", signal_path(device, 1))).status == 401
    for unknown in (signal_path(device, 4), f"/v1/results/{device.alias + 1}-1-1/signal", "/v1/results/x/signal"):
        answer = await site.send("GET", unknown, token=clinician)
        assert (answer.status, answer.error) == (404, "not_found")


async def test_a_deleted_results_signal_is_not_found(site: SignalSite, device: SignalDevice, clinician: str) -> None:
    await uploaded(device)
    assert site.database is not None
    await site.database.fetch("DELETE FROM result_row WHERE tenant = $1 AND counter = 2", site.tenant)
    assert (await site.send("GET", signal_path(device, 2), token=clinician)).status == 404
    assert (await site.send("GET", signal_path(device, 3), token=clinician)).status == 200


def windows(octets: bytes, length: int = 12) -> set[bytes]:
    return {octets[at : at + length] for at in range(len(octets) - length + 1)}


async def test_no_plain_byte_of_a_chunk_lies_in_the_object_folder_nor_in_the_database(
    site: SignalSite, device: SignalDevice, objects: Path
) -> None:
    assert site.database is not None
    run = await device.with_signals(3)
    chunk, (path, parcel) = device.chunk(run), await device.begin(run)
    canaries = windows(chunk) | windows(canonical_segment(decode_segment(device.signals[1, 2])))
    assert len(canaries) > 2_000
    assert (await device.patch(path, 0, parcel[:-1])).status == 204
    pieces = await site.database.fetch("SELECT piece_sealed FROM signal_upload_piece")
    assert pieces
    assert not any(windows(bytes(row["piece_sealed"])) & canaries for row in pieces)
    assert (await device.patch(path, len(parcel) - 1, parcel[-1:])).status == 204
    (stored,) = files(objects)
    assert len(stored.read_bytes()) == len(chunk) + 1 + 12 + 16
    assert not windows(stored.read_bytes()) & canaries
    assert await count(site, "signal_upload_piece") == 0


async def test_missing_says_what_is_held_and_which_seals_cover(site: SignalSite, device: SignalDevice) -> None:
    first = await uploaded(device)
    second = await device.with_signals(2, first=4)
    names = [chunk_name(device.chunk(run)) for run in (second, first)] * 5
    answer = await device.missing(names, [Run(1, 3, 4)])
    assert answer.missing == (True, False) * 5
    assert answer.seals == (Run(1, 1, 3), Run(1, 4, 5))
    other = await site.new_signal_device()
    assert (await other.missing(names, [Run(1, 1, 5)])).missing == (True,) * 10
    assert (await other.missing(names, [Run(1, 1, 5)])).seals == ()


@pytest.mark.parametrize("body", [b"", b"\x01", b"\x01\x05\x00", b"\x01\x05\x00\x01\x03abc", b"\x01\x01\x00"])
async def test_a_question_that_is_none_is_400(device: SignalDevice, body: bytes) -> None:
    answer = await device.send("POST", "/v1/signals/missing", body, Content_Type="application/vnd.einthoven.sync")
    assert answer.status == 400


async def test_a_question_over_its_limit_is_413(device: SignalDevice) -> None:
    names = MAX_CHUNKS_PER_QUESTION + 1
    body = b"\x01\x05\x00\x01" + bytes([0x80 | names * 32 & 0x7F, names * 32 >> 7]) + bytes(names * 32)
    answer = await device.send("POST", "/v1/signals/missing", body, Content_Type="application/vnd.einthoven.sync")
    assert (answer.status, answer.error) == (413, "too_large")


async def test_a_seal_that_covers_more_than_the_chunk_proves_it(site: SignalSite, device: SignalDevice) -> None:
    seal = await device.with_signals(100)
    run = Run(1, 40, 55)
    parcel = device.parcel(run, seal)
    # Sixteen neighbours of a hundred: a few hashes in two trees, not sixteen paths of seven.
    assert len(parcel) - len(device.chunk(run)) < 2 * 8 * 32 + 16
    assert (await device.create(device.chunk(run), len(parcel), parcel)).status == 201
    assert await count(site, "result_signal") == 16


async def refused(device: SignalDevice, chunk: bytes, parcel: bytes) -> str:
    """The code with which an upload is refused; nothing of it stays."""
    answer = await device.create(chunk, len(parcel), parcel)
    assert answer.status == 400, answer.body
    site = device.signal_site
    assert [await count(site, table) for table in ("signal_upload", "signal_chunk", "result_signal")] == [0, 0, 0]
    return answer.error


async def test_a_damaged_chunk_is_refused(device: SignalDevice, objects: Path) -> None:
    run = await device.with_signals(3)
    chunk, parcel = device.chunk(run), device.parcel(run)
    for at in (0, 1, len(parcel) - len(chunk), len(parcel) // 2, len(parcel) - 1):
        damaged = bytearray(parcel)
        damaged[at] ^= 0x10
        assert await refused(device, chunk, bytes(damaged)) in {"chunk_damaged", "signal_unproven"}
    assert files(objects) == []


async def test_a_signal_that_is_not_that_of_its_digest_is_refused(device: SignalDevice) -> None:
    run = await device.with_signals(3)
    device.signals[1, 2] = encode_segment(make_segment(99))
    assert await refused(device, device.chunk(run), device.parcel(run)) == "chunk_damaged"
    device.signals[1, 2] = b"\x02" + bytes(100)
    assert await refused(device, device.chunk(run), device.parcel(run)) == "chunk_damaged"


async def test_another_devices_signal_is_refused(site: SignalSite, device: SignalDevice) -> None:
    other = await site.new_signal_device(device.identity.patient_id)
    run = await other.with_signals(3)
    assert await refused(device, other.chunk(run), other.parcel(run)) == "signal_unproven"
    # As its own, it has neither results nor a seal of them.
    device.signals, device.digests = other.signals, other.digests
    assert await refused(device, device.chunk(run), device.parcel(run)) == "signal_unproven"


async def test_a_signal_without_its_result_is_refused(site: SignalSite, device: SignalDevice) -> None:
    assert site.database is not None
    run = await device.with_signals(3)
    await site.database.fetch("DELETE FROM result_row WHERE tenant = $1 AND counter = 2", site.tenant)
    assert await refused(device, device.chunk(run), device.parcel(run)) == "signal_unproven"


async def test_a_seal_over_rows_that_were_not_taken_proves_nothing(device: SignalDevice) -> None:
    """A device that was turned back used counters twice: its second seal is signed, over rows the server never took."""
    await device.with_signals(3)
    run = device.record(1, [make_segment(50 + i) for i in range(4)])
    await device.push(run, tier=3)
    rows = [result_row(counter, tier=3) for counter in range(1, 5)]
    parcel = encode_parcel([device.proof(run, run, rows)], device.chunk(run))
    assert await refused(device, device.chunk(run), parcel) == "signal_unproven"
    # Its fourth result was taken, and is proven by the same seal.
    fourth = Run(1, 4, 4)
    parcel = encode_parcel([device.proof(fourth, run, rows)], device.chunk(fourth))
    assert (await device.create(device.chunk(fourth), len(parcel), parcel)).status == 201


async def test_a_seal_that_the_device_did_not_sign_proves_nothing(site: SignalSite, device: SignalDevice) -> None:
    assert site.database is not None
    run = await device.with_signals(3)
    await site.database.fetch("UPDATE result_seal SET signature = $2 WHERE tenant = $1", site.tenant, bytes(64))
    assert await refused(device, device.chunk(run), device.parcel(run)) == "signal_unproven"


async def test_proofs_of_the_wrong_shape_are_refused(device: SignalDevice) -> None:
    seal = await device.with_signals(6)
    run, other = Run(1, 2, 3), Run(1, 3, 4)
    chunk = device.chunk(run)
    proof = device.proof(run, seal)
    for wrong in (
        [device.proof(other, seal)],
        [proof, proof],
        [type(proof)(seal=Run(1, 1, 2**31 - 1), n_segments=2, results=(), segments=())],
        [type(proof)(seal=seal, n_segments=2, results=proof.results[1:], segments=proof.segments[1:])],
        [type(proof)(seal=seal, n_segments=2, results=proof.segments, segments=proof.results)],
    ):
        assert await refused(device, chunk, encode_parcel(wrong, chunk)) in {"chunk_damaged", "signal_unproven"}


async def test_the_same_signals_again_are_not_stored_twice(
    site: SignalSite, device: SignalDevice, objects: Path
) -> None:
    run = await uploaded(device)
    parcel = device.parcel(run)
    again = await device.create(device.chunk(run), len(parcel))
    assert (again.status, again.headers["Upload-Offset"]) == (201, str(len(parcel)))
    assert await device.offset(again.headers["Location"]) == len(parcel)
    assert len(files(objects)) == 1
    # In another chunk, a signal stays where it was first.
    wider = await device.with_signals(4)
    parcel = device.parcel(wider)
    assert (await device.create(device.chunk(wider), len(parcel), parcel)).status == 201
    assert [await count(site, table) for table in ("signal_chunk", "result_signal")] == [2, 4]


async def test_a_store_out_of_reach_is_503_and_loses_nothing(device: SignalDevice, store: FailingStore) -> None:
    run = await device.with_signals(3)
    path, parcel = await device.begin(run)
    assert (await device.patch(path, 0, parcel[:500])).status == 204
    store.out_of_reach = True
    answer = await device.patch(path, 500, parcel[500:])
    assert (answer.status, answer.error, answer.headers["Retry-After"]) == (503, "signals_unavailable", "2")
    assert await device.offset(path) == 500
    store.out_of_reach = False
    assert (await device.patch(path, 500, parcel[500:])).status == 204


async def test_a_lost_or_exchanged_object_is_never_shown(
    site: SignalSite, device: SignalDevice, clinician: str, objects: Path
) -> None:
    other = await site.new_signal_device()
    await uploaded(device)
    await uploaded(other)
    first, second = sorted(files(objects), key=lambda path: f"/{device.alias}/" not in str(path))
    kept = first.read_bytes()
    for octets in (second.read_bytes(), kept[:-1] + bytes([kept[-1] ^ 1]), b""):
        first.write_bytes(octets)
        answer = await site.send("GET", signal_path(device, 1), token=clinician)
        assert (answer.status, answer.error) == (500, "internal")
    first.unlink()
    assert (await site.send("GET", signal_path(device, 1), token=clinician)).status == 500
    assert (await site.send("GET", signal_path(other, 1), token=clinician)).status == 200


async def test_of_too_many_open_uploads_the_oldest_gives_way(
    site: SignalSite, device: SignalDevice, clock: ManualClock
) -> None:
    other = await site.new_signal_device()
    clock.stop()
    others, _ = await other.begin(await other.with_signals(1))
    runs = [await device.with_signals(1, first=n) for n in range(1, quotas.UPLOADS_OPEN_MAX + 2)]
    begun = []
    for run in runs:
        clock.offset_ms += quotas.UPLOAD_STAYS_S * 1_000 // (quotas.UPLOADS_OPEN_MAX - 1)
        begun.append((await device.begin(run))[0])

    stand = [(await device.send("HEAD", place)).status for place in begun]

    assert stand == [410] + [200] * quotas.UPLOADS_OPEN_MAX
    assert (await other.send("HEAD", others)).status == 200, "another device's stay"
    refused = await device.create(device.chunk(runs[0]), len(device.parcel(runs[0])))
    assert (refused.status, refused.error) == (429, "too_many_uploads"), "all others have just begun"
    assert int(refused.headers["Retry-After"]) == quotas.UPLOAD_STAYS_S
    clock.offset_ms += 10_000
    anew, _ = await device.begin(runs[0])
    assert [(await device.send("HEAD", place)).status for place in (anew, begun[1], begun[2])] == [200, 410, 200]


async def test_the_share_of_a_day_and_of_ever_is_limited(
    site: SignalSite, device: SignalDevice, clock: ManualClock
) -> None:
    assert site.database is not None
    clock.stop()
    await uploaded(device)
    (used,) = await site.database.fetch("SELECT * FROM signal_usage WHERE tenant = $1", site.tenant)
    assert used["day_bytes"] == used["total_bytes"] == len(device.chunk(Run(1, 1, 3)))
    run = await device.with_signals(1, first=4)
    parcel = device.parcel(run)
    update = "UPDATE signal_usage SET day_bytes = $2, total_bytes = $3 WHERE tenant = $1"
    full = quotas.DEVICE_DAY_MAX_BYTES - len(parcel) + 1
    await site.database.fetch(update, site.tenant, full, full)
    answer = await device.create(device.chunk(run), len(parcel), parcel)
    assert (answer.status, answer.error) == (429, "quota_of_day")
    left_s = (quotas.DAY_MS - clock.now_ms() % quotas.DAY_MS) / 1000
    assert left_s <= int(answer.headers["Retry-After"]) < left_s + 1
    clock.offset_ms += quotas.DAY_MS
    assert (await device.create(device.chunk(run), len(parcel), parcel)).status == 201
    (used,) = await site.database.fetch("SELECT * FROM signal_usage WHERE tenant = $1", site.tenant)
    assert (used["day_bytes"], used["total_bytes"]) == (len(device.chunk(run)), full + len(device.chunk(run)))
    await site.database.fetch(update, site.tenant, 0, quotas.DEVICE_TOTAL_MAX_BYTES)
    last = await device.with_signals(1, first=5)
    answer = await device.create(device.chunk(last), len(device.parcel(last)))
    assert (answer.status, answer.error) == (413, "quota_exceeded")


async def test_every_request_leaves_one_audit_entry(site: SignalSite, device: SignalDevice, clinician: str) -> None:
    assert site.database is not None
    assert site.audit is not None
    before = (await site.audit.verify()).entries
    await uploaded(device)
    await device.missing([bytes(32)])
    await site.send("GET", signal_path(device, 1), token=clinician)
    await site.send("GET", signal_path(device, 9), token=clinician)
    await device.send("HEAD", "/v1/uploads/none")
    assert (await site.audit.verify()).entries == before + 6  # one is of the clinician's token
    rows = await site.database.fetch(
        "SELECT operation, patient, outcome FROM audit_entry WHERE tenant = $1 AND seq > $2 ORDER BY seq",
        site.tenant,
        before,
    )
    patient = device.identity.patient_id
    assert [tuple(row) for row in rows] == [
        ("signal.upload", patient, "allowed"),
        ("signal.upload", patient, "allowed"),
        ("token.issue", "", "allowed"),
        ("signal.read", patient, "allowed"),
        ("signal.read", "", "not_found"),
        ("signal.upload", patient, "not_found"),
    ]


async def test_many_uploads_at_once_all_arrive(site: SignalSite, device: SignalDevice) -> None:
    runs = [await device.with_signals(2, first=n) for n in range(1, 41, 2)]
    parcels = [device.parcel(run) for run in runs]
    answers = await asyncio.gather(
        *(device.create(device.chunk(run), len(parcel), parcel) for run, parcel in zip(runs, parcels, strict=True))
    )
    # More at a time than a device may have open: those are told to come again, and do.
    for run, parcel, answer in zip(runs, parcels, answers, strict=True):
        if answer.status == 429:
            assert (await device.create(device.chunk(run), len(parcel), parcel)).status == 201
        else:
            assert answer.status == 201
    assert await count(site, "result_signal") == 40
    assert await count(site, "signal_upload_piece") == 0


async def test_a_revoked_devices_upload_is_refused(site: SignalSite, device: SignalDevice) -> None:
    run = await device.with_signals(1)
    path, parcel = await device.begin(run)
    await site.send("POST", f"/v1/devices/{device.identity.device_id}/revoke", token=site.admin)
    answer = await device.patch(path, 0, parcel)
    assert (answer.status, answer.error) == (401, "device_revoked")
