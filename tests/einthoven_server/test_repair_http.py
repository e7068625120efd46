"""The repair address: what a device that differs is told, what it may give back, and what it may not see."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.einthoven_server.site import Device, Site, result_row

from einthoven_protocol import digests, merkle, riblt
from einthoven_protocol.messages import (
    AnnotationRow,
    BucketKind,
    Capability,
    Digest,
    IdentifiedResult,
    NoteRow,
    RepairRequest,
    RepairResponse,
    ResultId,
    ResultRow,
    Run,
    VerdictCode,
)
from einthoven_protocol.repair_codec import decode_repair_response, encode_repair_request
from einthoven_server.database import Connection

SESSION = bytes(range(16))


def result_shares(device: Device, rows: Sequence[ResultRow]) -> list[int]:
    return [digests.result_sum(device.identity.sync_key, device.alias, device.epoch, row) for row in rows]


def symbols(shares: Sequence[int], count: int = 40, session: bytes = SESSION) -> bytes:
    octets: NDArray[np.uint8] = np.frombuffer(b"".join(share.to_bytes(16, "big") for share in shares), np.uint8)
    return riblt.encode(session, riblt.items(session, octets.reshape(-1, 16)), count)


def asked(device: Device, shares: Sequence[int] | None = None, **changed: Any) -> RepairRequest:
    given: dict[str, Any] = {"device_alias": device.alias, "owner": device.alias, "kind": BucketKind.RECORDS}
    if shares is not None:
        given |= {"session": SESSION, "symbols": symbols(shares)}
    return RepairRequest(**given | changed)


def giving(device: Device, rows: Sequence[ResultRow], **changed: Any) -> RepairRequest:
    given = tuple(IdentifiedResult(device_alias=device.alias, epoch=device.epoch, row=row) for row in rows)
    root = merkle.tree_hash([row.counter.to_bytes(32, "big") for row in rows])
    signature = device.key.sign(merkle.given_message(device.alias, given, root))
    return asked(device, **{"given": given, "segments_root": root, "signature": signature} | changed)


async def answer(device: Device, request: RepairRequest) -> RepairResponse:
    got = await device.repair(request)
    assert got.status == 200, got.body
    return decode_repair_response(got.body)


@pytest.fixture
async def device(site: Site) -> Device:
    device = await site.new_device()
    await device.exchange(device.rows(1, 20), capabilities=Capability.FEED)
    return device


async def test_answers_to_devices_carry_no_header_that_they_do_not_need(device: Device) -> None:
    needed = {"Content-Type", "Content-Length", "Date"}
    assert (await device.repair(asked(device))).headers.keys() == needed
    got = await device.post(device.request())
    assert (got.status, got.headers.keys()) == (200, needed)
    refused = await device.repair(asked(device, kind=9))
    assert refused.status == 400
    assert refused.headers["Server"] == "einthoven"
    assert refused.headers["X-Content-Type-Options"] == "nosniff"


async def test_equal_buckets_have_no_difference(device: Device) -> None:
    response = await answer(device, asked(device, result_shares(device, device.rows(1, 20))))
    assert (response.decoded, response.differences, response.absent, response.results) == (1, 0, (), ())
    assert response.digest == (await device.exchange()).digest
    assert response.cursor == device.cursor


async def test_rows_that_only_one_side_holds_are_named_and_sent(device: Device) -> None:
    only_here = result_row(5, rhythm=2)
    shares = result_shares(device, [*device.rows(1, 10), *device.rows(12, 9), only_here])
    response = await answer(device, asked(device, shares))
    assert response.decoded == 1
    assert [(found.epoch, found.row) for found in response.results] == [(1, result_row(11))]
    octets = np.frombuffer(shares[-1].to_bytes(16, "big"), np.uint8).reshape(1, 16)
    (item,) = response.absent
    assert riblt.encode(SESSION, riblt.items(SESSION, octets), 1) == symbols([shares[-1]], 1)
    assert response.differences == 2
    assert item >= 0


async def test_words_are_repaired_under_their_owners_key(site: Site, device: Device) -> None:
    _, clinician = await site.new_principal("clinician")
    path = f"/v1/results/{device.alias}-1-3/annotation"
    await site.send("PUT", path, token=clinician, json={"comment": "irregular"})
    response = await answer(device, asked(device, result_shares(device, device.rows(1, 20))))
    (row,) = response.annotations
    assert isinstance(row, AnnotationRow)
    assert (row.target, row.comment.value) == (ResultId(device.alias, 1, 3), "irregular")
    note = NoteRow(
        device_alias=device.alias, epoch=1, counter=1, author=device.identity.device_id, at_ms=1, text="dizzy"
    )
    await device.exchange(notes=(note,), capabilities=Capability.FEED)
    words = await answer(device, asked(device, [], kind=BucketKind.WORDS))
    assert words.notes == (note,)
    assert words.digest == digests.add(Digest(0, 0), digests.note_sum(device.identity.sync_key, note))


async def test_notes_of_the_console_are_a_bucket_of_their_own(site: Site, device: Device) -> None:
    _, clinician = await site.new_principal("clinician")
    await site.send(
        "POST", f"/v1/patients/{device.identity.patient_id}/notes", token=clinician, json={"text": "call us"}
    )
    words = await answer(device, asked(device, [], owner=0, kind=BucketKind.WORDS))
    assert [note.text for note in words.notes] == ["call us"]


async def test_another_device_of_the_patient_repairs_its_replica(site: Site, device: Device) -> None:
    sibling = await site.new_device(device.identity.patient_id)
    shares = result_shares(device, device.rows(1, 19))
    response = await answer(sibling, asked(sibling, shares, owner=device.alias))
    assert [found.row.counter for found in response.results] == [20]


async def test_runs_and_pages_are_sent_without_symbols(device: Device) -> None:
    wanted = (Run(1, 3, 5), Run(1, 19, 40), Run(7, 1, 9))
    response = await answer(device, asked(device, wanted=wanted, page=0))
    assert response.decoded == 0
    assert [found.row.counter for found in response.results] == [3, 4, 5, 19, 20]
    assert response.held == (Run(1, 1, 20),)


async def test_symbols_that_do_not_suffice_say_so(device: Device) -> None:
    short = asked(device, session=SESSION, symbols=symbols([], 2))
    response = await answer(device, short)
    assert (response.decoded, response.results) == (2, ())


async def test_what_the_server_lost_is_given_back(site: Site, device: Device, connection: Connection) -> None:
    before = (await device.exchange()).digest
    # As after a damaged page: rows are gone, and what was known of them.
    lost = device.rows(4, 2)
    await connection.execute(
        "DELETE FROM result_row WHERE tenant = $1 AND counter = ANY($2::int[])", site.tenant, [4, 5]
    )
    remaining = [share for share in result_shares(device, device.rows(1, 20)) if share]
    total = sum(remaining[:3] + remaining[5:]) % 2**128
    await connection.execute(
        "UPDATE bucket_digest SET count = 18, total = $3 WHERE tenant = $1 AND device_alias = $2 AND kind = 1",
        site.tenant,
        device.alias,
        total.to_bytes(16, "big"),
    )
    found = await answer(device, asked(device, remaining))
    assert len(found.absent) == 2
    response = await answer(device, giving(device, lost, session=SESSION, symbols=symbols(remaining)))
    assert response.verdicts == (VerdictCode.ACCEPTED, VerdictCode.ACCEPTED)
    assert (response.decoded, response.absent, response.digest) == (1, (), before)
    again = await answer(device, giving(device, lost))
    assert again.verdicts == (VerdictCode.DUPLICATE, VerdictCode.DUPLICATE)


async def test_what_is_given_without_a_good_signature_is_not_stored(device: Device) -> None:
    before = (await device.exchange()).digest
    request = giving(device, (result_row(3, rhythm=2),))
    response = await answer(device, giving(device, device.rows(3, 1), signature=request.signature))
    assert response.verdicts != (VerdictCode.ACCEPTED,)
    other = await answer(device, giving(device, (result_row(3, rhythm=2),)))
    assert other.verdicts == (VerdictCode.REJECTED,)
    assert other.digest == before


async def test_a_bucket_of_another_patient_and_none_look_the_same(site: Site, device: Device) -> None:
    stranger = await site.new_device()
    await stranger.exchange(stranger.rows(1, 1))
    foreign = await device.repair(asked(device, [], owner=stranger.alias))
    unknown = await device.repair(asked(device, [], owner=999_999))
    records_of_nobody = await device.repair(asked(device, [], owner=0))
    assert foreign.status == 404
    assert (foreign.status, foreign.body) == (unknown.status, unknown.body)
    assert (records_of_nobody.status, records_of_nobody.body) == (foreign.status, foreign.body)


async def test_a_device_asks_for_itself_and_for_buckets_that_there_are(site: Site, device: Device) -> None:
    stranger = await site.new_device()
    other = await device.repair(asked(device, [], device_alias=stranger.alias, owner=stranger.alias))
    assert (other.status, other.error) == (403, "forbidden")
    kind = await device.repair(asked(device, [], kind=7))
    assert (kind.status, kind.error) == (400, "out_of_range")


async def test_one_repair_of_a_device_is_under_way(site: Site, device: Device) -> None:
    requests = [asked(device, result_shares(device, device.rows(1, 20))) for _ in range(6)]
    answers = await asyncio.gather(*(device.repair(request) for request in requests))
    assert {got.status for got in answers} <= {200, 503}
    assert any(got.status == 200 for got in answers)
    for got in answers:
        if got.status == 503:
            assert int(got.headers["Retry-After"]) >= 1
    assert (await device.repair(requests[0])).status == 200


async def test_each_repair_leaves_one_entry(site: Site, device: Device, connection: Connection) -> None:
    shares = result_shares(device, device.rows(1, 20))
    await answer(device, asked(device, shares))
    await answer(device, giving(device, device.rows(1, 1)))
    await device.repair(asked(device, [], owner=999_999))
    await device.repair(b"garbage")
    rows = await connection.fetch(
        "SELECT actor, patient, outcome FROM audit_entry WHERE tenant = $1 AND operation = 'device.repair' "
        "ORDER BY seq",
        site.tenant,
    )
    who = (device.identity.device_id, device.identity.patient_id)
    assert [tuple(row) for row in rows] == [
        (*who, "allowed"),
        (*who, "allowed"),
        (*who, "not_found"),
        (*who, "unsupported_version"),
    ]


async def test_a_replayed_repair_is_refused_and_so_is_another_addresss_signature(device: Device) -> None:
    body = encode_repair_request(asked(device, [], session=secrets.token_bytes(16)))
    headers = device.sign(body, path="/v1/repair")
    assert (await device.repair(body, headers=headers)).status == 200
    again = await device.repair(body, headers=headers)
    assert (again.status, again.error) == (401, "replayed")
    assert (await device.repair(body, headers=device.sign(body))).status == 401


async def test_a_nonce_counts_once_over_all_addresses(site: Site, device: Device) -> None:
    nonce = secrets.token_urlsafe(18)
    assert (await device.post(device.request(), nonce=nonce)).status == 200
    assert (await device.repair(asked(device, []), nonce=nonce)).error == "replayed"
    assert (await site.send("GET", "/v1/wake", headers=device.sign_wake(nonce=nonce))).error == "replayed"
