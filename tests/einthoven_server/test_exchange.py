"""POST /v1/exchange: what is settled, what is pulled, and what is refused."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator

import aiohttp
import pytest
import zstandard
from tests.einthoven_server.site import Device, Site, result_row

from einthoven_protocol import digests, frame
from einthoven_protocol.codec import decode_response, encode_request
from einthoven_protocol.exchange import check_response
from einthoven_protocol.limits import MAX_REQUEST_BYTES
from einthoven_protocol.messages import (
    PROTOCOL_VERSION,
    Cursor,
    Digest,
    RejectReason,
    ResultId,
    RowVerdict,
    Seal,
    VerdictCode,
)
from einthoven_server.database import Connection


def digest_of(device: Device, rows, notes=()) -> Digest:
    digest = digests.EMPTY
    for row in rows:
        digest = digests.add(digest, digests.result_sum(device.identity.sync_key, device.alias, device.epoch, row))
    for note in notes:
        digest = digests.add(digest, digests.annotation_sum(device.identity.sync_key, note))
    return digest


async def test_rows_are_acknowledged_and_the_digest_is_the_devices_own(site: Site) -> None:
    device = await site.new_device()
    rows = device.rows(1, 5)
    request = device.request(rows)
    response = await device.exchange(rows)
    check_response(request, response)
    assert response.acknowledged == 5
    assert response.verdicts == ()
    assert response.digest == digest_of(device, rows)
    assert abs(response.server_time_ms - site.clock.now_ms()) < 10_000


async def test_an_empty_exchange_says_where_the_device_stands(site: Site) -> None:
    device = await site.new_device()
    assert (await device.exchange()).digest == digests.EMPTY
    rows = device.rows(1, 2)
    await device.exchange(rows)
    response = await device.exchange()
    assert response.acknowledged == 2
    assert response.digest == digest_of(device, rows)


async def test_a_push_repeated_is_all_duplicates_and_changes_nothing(site: Site) -> None:
    device = await site.new_device()
    rows = device.rows(1, 3)
    first = await device.exchange(rows)
    again = await device.exchange(rows)
    assert again.acknowledged == 3
    assert again.verdicts == tuple(RowVerdict(n, VerdictCode.DUPLICATE, 0) for n in (1, 2, 3))
    assert again.digest == first.digest


async def test_a_different_row_under_a_stored_counter_conflicts_and_the_rest_goes_on(site: Site) -> None:
    device = await site.new_device()
    rows = device.rows(1, 3)
    await device.exchange(rows)
    other = (rows[0], result_row(2, rhythm=0), rows[2], result_row(4))
    response = await device.exchange(other)
    assert response.acknowledged == 4
    assert response.verdicts == (
        RowVerdict(1, VerdictCode.DUPLICATE, 0),
        RowVerdict(2, VerdictCode.REJECTED, RejectReason.CONFLICTS_WITH_STORED),
        RowVerdict(3, VerdictCode.DUPLICATE, 0),
    )
    assert response.digest == digest_of(device, (*rows, other[3]))


async def test_a_shorter_replay_is_not_acknowledged_beyond_what_it_pushed(site: Site) -> None:
    device = await site.new_device()
    await device.exchange(device.rows(1, 5))
    request = device.request(device.rows(2, 2))
    response = decode_response((await device.post(request)).body)
    check_response(request, response)
    assert response.acknowledged == 3


async def test_a_gap_in_counters_is_refused_and_stores_nothing(site: Site) -> None:
    device = await site.new_device()
    first = await device.exchange(device.rows(1, 2))
    answer = await device.post(device.request(device.rows(5, 2)))
    assert (answer.status, answer.error) == (409, "counter_gap")
    assert (await device.exchange()).digest == first.digest


async def test_a_gap_before_the_device_ever_read_tells_it_where_to_begin(site: Site) -> None:
    device = await site.new_device()
    request = device.request(device.rows(5, 2))
    response = decode_response((await device.post(request)).body)
    check_response(request, response)
    assert (response.acknowledged, response.verdicts) == (0, ())


def broken_seals(device: Device, rows) -> dict[str, tuple[Seal, ...]]:
    good = device.seal(rows)
    fields = {name: getattr(good, name) for name in good.__struct_fields__}
    return {
        "none": (),
        "another root": (Seal(**fields | {"results_root": bytes(32)}),),
        "another signature": (Seal(**fields | {"signature": bytes(64)}),),
        "another segments root": (Seal(**fields | {"segments_root": bytes(32)}),),
        "another epoch": (device.seal(rows, epoch=device.epoch + 1),),
    }


@pytest.mark.parametrize(
    "how",
    [
        "none",
        "another root",
        "another signature",
        "another segments root",
        "another epoch",
    ],
)
async def test_a_bad_seal_quarantines_its_rows_and_never_the_queue(
    site: Site, connection: Connection, how: str
) -> None:
    device = await site.new_device()
    rows = device.rows(1, 3)
    bad = broken_seals(device, rows)[how]
    response = await device.exchange(rows, seals=bad)
    assert response.acknowledged == 3
    assert response.verdicts == tuple(RowVerdict(n, VerdictCode.QUARANTINED, RejectReason.BAD_SEAL) for n in (1, 2, 3))
    assert response.digest == digests.EMPTY
    kept = "SELECT count(*) FROM quarantined_row WHERE tenant = $1"
    assert await connection.fetchval(kept, site.tenant) == 3
    # It stays so, also when the same rows come with a good seal; what follows is taken.
    again = await device.exchange((*rows, result_row(4)))
    assert again.acknowledged == 4
    assert [verdict.code for verdict in again.verdicts] == [VerdictCode.QUARANTINED] * 3
    assert again.digest == digest_of(device, [result_row(4)])


async def test_one_bad_seal_of_two_costs_only_its_own_rows(site: Site) -> None:
    device = await site.new_device()
    rows = device.rows(1, 4)
    forged = broken_seals(device, rows[2:])["another signature"]
    response = await device.exchange(rows, seals=(device.seal(rows[:2]), *forged))
    assert [verdict.counter for verdict in response.verdicts] == [3, 4]
    assert response.digest == digest_of(device, rows[:2])


async def test_a_row_against_the_rules_of_results_is_rejected_for_good(site: Site) -> None:
    device = await site.new_device()
    rows = (result_row(1), result_row(2, tier=0, reason=0), result_row(3, tier=2, reason=1))
    response = await device.exchange(rows)
    assert response.acknowledged == 3
    assert response.verdicts == tuple(RowVerdict(n, VerdictCode.REJECTED, RejectReason.OUT_OF_RANGE) for n in (2, 3))
    mended = await device.exchange((rows[0], result_row(2), result_row(3)))
    assert mended.verdicts[1:] == tuple(
        RowVerdict(n, VerdictCode.REJECTED, RejectReason.CONFLICTS_WITH_STORED) for n in (2, 3)
    )
    assert mended.digest == digest_of(device, rows[:1])


async def test_a_row_from_the_future_is_quarantined(site: Site) -> None:
    device = await site.new_device()
    rows = device.rows(1, 1, started_at_ms=site.clock.now_ms() + 25 * 3_600_000)
    response = await device.exchange(rows)
    assert response.verdicts == (RowVerdict(1, VerdictCode.QUARANTINED, RejectReason.CLOCK_SKEW),)


async def test_epochs_count_for_themselves_and_the_digest_spans_them(site: Site) -> None:
    device = await site.new_device()
    old = device.rows(1, 3)
    await device.exchange(old)
    before = digest_of(device, old)
    device.epoch = 2
    response = await device.exchange(device.rows(1, 2))
    assert response.acknowledged == 2
    assert response.digest.count == before.count + 2


async def test_own_annotations_are_kept_and_do_not_echo(site: Site) -> None:
    device = await site.new_device()
    rows, note = device.rows(1, 2), device.note(2, "felt dizzy")
    response = await device.exchange(rows, annotations=(note,))
    assert response.annotations == ()
    assert response.digest == digest_of(device, rows, [note])
    again = await device.exchange(annotations=(note,))
    assert again.digest == response.digest


async def test_an_older_register_does_not_win_and_what_differs_comes_back(site: Site) -> None:
    device = await site.new_device()
    newer, older = device.note(1, "newer", hlc=9 << 16), device.note(1, "older", hlc=3 << 16)
    await device.exchange(device.rows(1, 1), annotations=(newer,))
    response = await device.exchange(annotations=(older,))
    assert response.digest == digest_of(device, device.rows(1, 1), [newer])


async def test_a_clinicians_words_come_down_once_and_enter_the_digest(site: Site) -> None:
    device = await site.new_device()
    principal, token = await site.new_principal("clinician")
    rows = device.rows(1, 2)
    await device.exchange(rows)
    answer = await site.send(
        "PUT", f"/v1/results/{device.alias}-1-2/annotation", token=token, json={"rhythm": "N", "comment": "artefact"}
    )
    assert answer.status == 200, answer.body
    request = device.request()
    response = await device.exchange()
    check_response(request, response)
    (row,) = response.annotations
    assert (row.target, row.author) == (ResultId(device.alias, 1, 2), principal)
    assert (row.rhythm.value, row.comment.value) == ("N", "artefact")
    assert response.digest == digest_of(device, rows, [row])
    assert (await device.exchange()).annotations == ()


async def test_a_restored_device_gets_its_own_words_back_in_pages(site: Site) -> None:
    device = await site.new_device()
    await device.exchange(device.rows(1, 600))
    for first in (1, 301):
        notes = tuple(device.note(n, f"word {n}") for n in range(first, first + 300))
        assert (await device.exchange(annotations=notes)).annotations == ()
    # A new epoch is what a device restored from a backup writes in: it may have lost what it once said.
    device.epoch, device.cursor = 2, Cursor(0, 0)
    seen: list[int] = []
    more = True
    while more:
        request = device.request()
        response = await device.exchange()
        check_response(request, response)
        seen += [row.target.counter for row in response.annotations]
        more = response.more
    assert sorted(seen) == list(range(1, 601))
    assert response.digest.count == 1_200


async def test_another_devices_words_are_not_pulled(site: Site) -> None:
    mine, other = await site.new_device(), await site.new_device()
    _, token = await site.new_principal("clinician")
    await mine.exchange(mine.rows(1, 1))
    await other.exchange(other.rows(1, 1))
    path = f"/v1/results/{other.alias}-1-1/annotation"
    assert (await site.send("PUT", path, token=token, json={"comment": "not yours"})).status == 200
    assert (await mine.exchange()).annotations == ()
    assert len((await other.exchange()).annotations) == 1


async def test_many_devices_at_once_each_get_their_own(site: Site) -> None:
    devices = [await site.new_device() for _ in range(8)]
    answers = await asyncio.gather(*(device.exchange(device.rows(1, 20)) for device in devices))
    for device, response in zip(devices, answers, strict=True):
        assert response.acknowledged == 20
        assert response.digest == digest_of(device, device.rows(1, 20))


async def test_the_same_push_twice_at_once_counts_once(site: Site) -> None:
    device = await site.new_device()
    request = device.request(device.rows(1, 10))
    answers = await asyncio.gather(*(device.post(request) for _ in range(4)))
    assert [answer.status for answer in answers] == [200] * 4
    assert {decode_response(answer.body).digest.count for answer in answers} == {10}


# ---- refusals -----------------------------------------------------------------------------------------------------


async def test_a_revoked_device_is_refused_at_once(site: Site) -> None:
    device = await site.new_device()
    await device.exchange(device.rows(1, 1))
    path = f"/v1/devices/{device.identity.device_id}/revoke"
    assert (await site.send("POST", path, token=site.admin)).status == 200
    answer = await device.post(device.request(device.rows(2, 1)))
    assert (answer.status, answer.error) == (401, "device_revoked")


async def test_a_replayed_request_is_refused_and_a_new_nonce_is_not(site: Site) -> None:
    device = await site.new_device()
    body = encode_request(device.request(device.rows(1, 1)))
    headers = device.sign(body)
    assert (await device.post(body, headers=headers)).status == 200
    again = await device.post(body, headers=headers)
    assert (again.status, again.error) == (401, "replayed")
    assert (await device.post(body)).status == 200


async def test_a_hundred_replays_at_once_make_one_success(site: Site) -> None:
    device = await site.new_device()
    body = encode_request(device.request(device.rows(1, 1)))
    headers = device.sign(body)
    answers = await asyncio.gather(*(device.post(body, headers=headers) for _ in range(100)))
    assert sorted({answer.status for answer in answers}) == [200, 401]
    assert [answer.status for answer in answers].count(200) == 1


async def test_a_nonce_is_forgotten_only_when_its_signature_is_too_old(site: Site, connection: Connection) -> None:
    device = await site.new_device()
    body = encode_request(device.request())
    headers = device.sign(body)
    assert (await device.post(body, headers=headers)).status == 200
    site.clock.offset_ms = 6 * 60_000
    await device.exchange()
    known = "SELECT count(*) FROM request_nonce WHERE tenant = $1"
    assert await connection.fetchval(known, site.tenant) == 1
    stale = await device.post(body, headers=headers)
    assert (stale.status, stale.error) == (401, "clock_skew")


@pytest.mark.parametrize("minutes", [-6, 6])
async def test_a_skewed_clock_gets_the_servers_time(site: Site, minutes: int) -> None:
    device = await site.new_device()
    answer = await device.post(device.request(), created_s=site.clock.now_ms() // 1000 + minutes * 60)
    assert (answer.status, answer.error) == (401, "clock_skew")
    assert abs(answer.json["server_time_ms"] - site.clock.now_ms()) < 10_000


async def test_four_minutes_off_is_taken(site: Site) -> None:
    device = await site.new_device()
    for minutes in (-4, 4):
        created_s = site.clock.now_ms() // 1000 + minutes * 60
        assert (await device.post(device.request(), created_s=created_s)).status == 200


async def test_unknown_device_and_wrong_signature_look_the_same(site: Site) -> None:
    device, other = await site.new_device(), await site.new_device()
    unknown = await device.post(device.request(), key_id="00000000-0000-0000-0000-000000000000")
    wrong = await device.post(device.request(), key_id=other.identity.device_id)
    assert (unknown.status, unknown.body) == (wrong.status, wrong.body)
    assert (unknown.status, unknown.error) == (401, "unauthorized")


async def test_a_body_other_than_the_signed_one_is_refused(site: Site) -> None:
    device = await site.new_device()
    headers = device.sign(encode_request(device.request()))
    answer = await device.post(encode_request(device.request(device.rows(1, 1))), headers=headers)
    assert (answer.status, answer.error) == (401, "unauthorized")


async def test_a_query_is_not_covered_and_so_refused(site: Site) -> None:
    device = await site.new_device()
    body = encode_request(device.request())
    answer = await site.send("POST", "/v1/exchange?as=other", data=body, headers=device.sign(body))
    assert answer.status == 401


async def test_no_signature_or_a_bearer_token_does_not_do(site: Site) -> None:
    device = await site.new_device()
    body = encode_request(device.request())
    bare = {"Content-Type": "application/vnd.einthoven.sync"}
    assert (await site.send("POST", "/v1/exchange", data=body, headers=bare)).status == 401
    assert (await site.send("POST", "/v1/exchange", data=body, headers=bare, token=site.admin)).status == 401


async def test_speaking_for_another_device_is_refused(site: Site) -> None:
    device, other = await site.new_device(), await site.new_device()
    stolen = await device.post(device.request(device_alias=other.alias))
    assert (stolen.status, stolen.error) == (403, "forbidden")
    about = await device.post(device.request(annotations=(other.note(1, "x", author=device.identity.device_id),)))
    assert (about.status, about.error) == (403, "forbidden")
    forged = await device.post(device.request(annotations=(device.note(1, "x", author="someone-else"),)))
    assert (forged.status, forged.error) == (403, "forbidden")


async def test_a_cursor_ahead_of_the_server_is_refused(site: Site) -> None:
    device = await site.new_device()
    device.cursor = Cursor(2**40, 0)
    answer = await device.post(device.request())
    assert (answer.status, answer.error) == (409, "cursor_ahead")


async def test_a_cursor_of_an_older_history_reads_everything_again(site: Site) -> None:
    device = await site.new_device()
    _, token = await site.new_principal("clinician")
    await device.exchange(device.rows(1, 1))
    path = f"/v1/results/{device.alias}-1-1/annotation"
    await site.send("PUT", path, token=token, json={"comment": "read me twice"})
    assert len((await device.exchange()).annotations) == 1
    device.cursor = Cursor(0, 5)
    assert len((await device.exchange()).annotations) == 1


@pytest.mark.parametrize("body", [b"", b"\x00", b"\xff" * 100, b"\x01" + b"\x80" * 50])
async def test_bytes_that_are_no_exchange_are_malformed(site: Site, body: bytes) -> None:
    device = await site.new_device()
    answer = await device.post(body)
    assert answer.status == 400
    assert set(answer.json) == {"error", "message"}


async def test_a_bit_flipped_in_a_signed_body_is_never_a_500(site: Site) -> None:
    device = await site.new_device()
    good = bytearray(encode_request(device.request(device.rows(1, 2))))
    for place in range(0, len(good), 7):
        flipped = bytes(good[:place]) + bytes([good[place] ^ 0x55]) + bytes(good[place + 1 :])
        assert (await device.post(flipped)).status in {200, 400, 403, 409, 413}


async def test_an_oversize_body_is_413(site: Site) -> None:
    device = await site.new_device()
    headers = device.sign(b"")
    answer = await site.send("POST", "/v1/exchange", data=io.BytesIO(bytes(MAX_REQUEST_BYTES + 1)), headers=headers)
    assert (answer.status, answer.error) == (413, "too_large")


async def test_a_body_of_unknown_length_is_cut_at_the_limit(site: Site) -> None:
    device = await site.new_device()

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(64 * 1024)

    headers = device.sign(b"")
    try:
        answer = await site.send("POST", "/v1/exchange", data=endless(), headers=headers)
    except aiohttp.ClientError:
        return  # the server closed while we were still sending
    assert (answer.status, answer.error) == (413, "too_large")


async def test_a_decompression_bomb_is_413(site: Site) -> None:
    device = await site.new_device()
    bomb = zstandard.ZstdCompressor(level=19).compress(bytes(200 * 1024 * 1024))
    answer = await device.post(bytes((PROTOCOL_VERSION, frame.REQUEST, 1)) + bomb)
    assert (answer.status, answer.error) == (413, "too_large")


async def test_another_content_type_is_415(site: Site) -> None:
    device = await site.new_device()
    body = encode_request(device.request())
    headers = device.sign(body) | {"Content-Type": "application/json"}
    answer = await device.post(body, headers=headers)
    assert (answer.status, answer.error) == (415, "unsupported_media_type")
