"""What a device may not do to the addresses for devices: bombs, floods, and more than its share (attacks 21, 22)."""

from __future__ import annotations

import asyncio
import io
import resource
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import zstandard
from tests.einthoven_server.part_site import running_part
from tests.einthoven_server.site import SYNC_TYPE, Answer, Device, ManualClock, Site

from einthoven_protocol.limits import MAX_DECODED_BYTES, MAX_REQUEST_BYTES, MAX_RESULTS_PER_EXCHANGE
from einthoven_protocol.messages import BucketKind, Capability, RepairRequest
from einthoven_server import limits
from einthoven_server.assembly import Parts
from einthoven_server.database import Connection
from einthoven_server.identity.rates import BODY_BYTES, REQUESTS, Rate, Rates

EXCHANGE, REPAIR = 1, 3
BOMB_MAX_GROWTH_BYTES = 50 * 1024 * 1024
GROWN_BYTES = 128 * 1024 * 1024


@pytest.fixture
async def device(site: Site) -> Device:
    return await site.new_device()


async def post(device: Device, kind: int, body: bytes) -> Answer:
    return await (device.post(body) if kind == EXCHANGE else device.repair(body))


def varint(value: int) -> bytes:
    octets = bytearray()
    while value > 0x7F:
        octets.append(value & 0x7F | 0x80)
        value >>= 7
    octets.append(value)
    return bytes(octets)


@pytest.mark.parametrize("kind", [EXCHANGE, REPAIR])
async def test_a_zstd_bomb_is_refused_before_it_grows(device: Device, kind: int) -> None:
    grown = zstandard.ZstdCompressor(level=1).compress(bytes(GROWN_BYTES))
    assert len(grown) < MAX_REQUEST_BYTES
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answer = await post(device, kind, bytes([1, kind, 1]) + grown)
    assert (answer.status, answer.error) == (413, "too_large")
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert (after - before) * 1024 <= BOMB_MAX_GROWTH_BYTES


@pytest.mark.parametrize("kind", [EXCHANGE, REPAIR])
async def test_a_frame_that_hides_its_size_is_refused(device: Device, kind: int) -> None:
    parameters = zstandard.ZstdCompressionParameters.from_level(3, write_content_size=False)
    hidden = zstandard.ZstdCompressor(compression_params=parameters).compress(bytes(MAX_DECODED_BYTES + 1))
    answer = await post(device, kind, bytes([1, kind, 1]) + hidden)
    assert (answer.status, answer.error) in {(400, "malformed"), (413, "too_large")}


@pytest.mark.parametrize(("kind", "tables"), [(EXCHANGE, range(16, 22)), (REPAIR, (16, 19))])
async def test_a_giant_declared_count_is_refused(device: Device, kind: int, tables: Sequence[int]) -> None:
    for table in tables:
        for count in (20_001, 2**32, 2**63 - 1):
            content = varint(count)
            answer = await post(device, kind, bytes([1, kind, 0, table, len(content)]) + content)
            assert answer.status in {400, 413}, (table, count, answer.body)


@pytest.mark.parametrize("kind", [EXCHANGE, REPAIR])
async def test_bytes_that_are_no_message_are_400(device: Device, kind: int) -> None:
    other = EXCHANGE + REPAIR - kind
    headers = (b"", b"\x01", b"\x02\x01\x00", b"\x01\x02\x00", bytes([1, other, 0]))
    for body in (*headers, b"\xff" * 64, b"[" * 100_000, b"\x80" * 4_000, bytes([1, kind, 0]) + b"\xff" * 9):
        assert (await post(device, kind, body)).status == 400, body[:8]


@pytest.mark.parametrize("path", ["/v1/exchange", "/v1/repair"])
async def test_a_body_over_the_limit_is_not_read(site: Site, device: Device, path: str) -> None:
    headers = device.sign(b"", path=path)
    answer = await site.send("POST", path, data=io.BytesIO(b"x" * (MAX_REQUEST_BYTES + 1)), headers=headers)
    assert answer.status == 413
    wrong = await site.send("POST", path, data=b"{}", headers=headers | {"Content-Type": "application/json"})
    assert wrong.status == 415
    encoded = headers | {"Content-Encoding": "zstd", "Content-Type": SYNC_TYPE}
    assert (await site.send("POST", path, data=b"x", headers=encoded)).status == 415


# ---- floods ---------------------------------------------------------------------------------------------------------


@pytest.fixture
async def narrow(
    site: Site, data_folder: Path, database_url: str, clock: ManualClock
) -> AsyncIterator[tuple[Site, Parts]]:
    """Addresses with small rates, and a clock that stands still."""
    rates = Rates((Rate(REQUESTS, 0.5, 4), Rate(BODY_BYTES, 100.0, 10_000)), (Rate(REQUESTS, 1.0, 10),))
    clock.stop()
    async with running_part(data_folder, database_url, clock, site.tenant, rates=rates) as part:
        yield part


async def test_who_asks_too_often_waits_and_is_served_when_told(
    site: Site, device: Device, narrow: tuple[Site, Parts], clock: ManualClock, connection: Connection
) -> None:
    flooding = replace(device, site=narrow[0])
    answers = [await flooding.post(flooding.request()) for _ in range(6)]
    assert [answer.status for answer in answers] == [200] * 4 + [429] * 2
    assert answers[-1].error == "too_many_requests"
    wait_s = int(answers[-1].headers["Retry-After"])
    assert wait_s == 2
    repair = await flooding.repair(RepairRequest(device_alias=device.alias, owner=0, kind=BucketKind.WORDS))
    assert repair.status == 429
    clock.offset_ms += wait_s * 1000
    assert (await flooding.post(flooding.request())).status == 200
    rows = await connection.fetch(
        "SELECT outcome FROM audit_entry WHERE tenant = $1 AND operation IN ('device.exchange', 'device.repair')"
        " ORDER BY seq",
        site.tenant,
    )
    assert [row[0] for row in rows] == ["allowed"] * 4 + ["too_many_requests"] * 3 + ["allowed"]


async def test_one_device_that_floods_takes_nothing_from_another(
    site: Site, device: Device, narrow: tuple[Site, Parts]
) -> None:
    other = replace(await site.new_device(), site=narrow[0])
    flooding = replace(device, site=narrow[0])
    assert [(await flooding.post(flooding.request())).status for _ in range(8)].count(429) == 4
    assert (await other.post(other.request())).status == 200


async def test_all_devices_of_a_tenant_share_its_rate(site: Site, device: Device, narrow: tuple[Site, Parts]) -> None:
    devices = [replace(each, site=narrow[0]) for each in [device] + [await site.new_device() for _ in range(3)]]
    statuses = [(await each.post(each.request())).status for each in devices for _ in range(4)]
    assert statuses == [200] * 10 + [429] * 6


async def test_who_only_claims_to_be_a_device_takes_nothing_from_it(
    site: Site, device: Device, narrow: tuple[Site, Parts]
) -> None:
    stranger = replace(await site.new_device(), site=narrow[0])
    claiming = replace(stranger, identity=device.identity)
    assert [(await claiming.post(claiming.request())).status for _ in range(8)] == [401] * 8
    honest = replace(device, site=narrow[0])
    assert (await honest.post(honest.request())).status == 200


async def test_bytes_count_as_well(device: Device, narrow: tuple[Site, Parts]) -> None:
    sending = replace(device, site=narrow[0])
    large = b"\x01\x01\x00" + b"\xff" * 6_000
    assert [(await sending.post(large)).status for _ in range(2)] == [400, 429]


async def test_a_wakeful_device_is_held_to_its_requests_as_well(device: Device, narrow: tuple[Site, Parts]) -> None:
    sending = replace(device, site=narrow[0])
    statuses = [(await narrow[0].send("GET", "/v1/wake", headers=sending.sign_wake())).status for _ in range(5)]
    assert statuses == [400] * 4 + [429]


async def test_an_idle_server_asks_for_nothing_and_says_what_it_can_do(device: Device) -> None:
    response = await device.exchange(capabilities=Capability.FEED)
    assert response.limits.min_interval_s == response.limits.max_results == 0
    offered = Capability(response.capabilities)
    assert offered & (Capability.FEED | Capability.REPAIR | Capability.WAKE | Capability.SIGNALS) == (
        Capability.FEED | Capability.REPAIR | Capability.WAKE | Capability.SIGNALS
    )
    assert (await device.exchange()).capabilities == 0


# ---- a busy writer --------------------------------------------------------------------------------------------------


async def test_a_busy_server_refuses_one_devices_flood_lets_others_wait_and_asks_for_less(
    site: Site, device: Device, connection: Connection
) -> None:
    others = [await site.new_device() for _ in range(3)]
    share = limits.WRITER_QUEUE_MAX // 16
    async with connection.transaction():
        # As long as somebody else holds the shard's head, nothing is committed.
        await connection.execute("SELECT 1 FROM shard_head WHERE shard = 0 FOR UPDATE")
        flood = [asyncio.create_task(device.post(device.request())) for _ in range(share + 8)]
        async with asyncio.timeout(20):
            while sum(task.done() for task in flood) < 7:  # noqa: ASYNC110  # one or none of them is in a batch
                await asyncio.sleep(0.01)
        refused = [task.result() for task in flood if task.done()]
        assert {(answer.status, answer.error) for answer in refused} == {(503, "busy")}
        assert all(int(answer.headers["Retry-After"]) >= 1 for answer in refused)
        waiting = [
            asyncio.create_task(each.exchange(capabilities=Capability.FEED)) for each in others for _ in range(share)
        ]
        await asyncio.sleep(0.5)
        assert not any(task.done() for task in waiting)
    responses = await asyncio.gather(*waiting)
    asked = [response.limits for response in responses if response.limits.min_interval_s]
    assert asked
    assert all(limits.ANNOUNCED_MIN_RESULTS <= each.max_results < MAX_RESULTS_PER_EXCHANGE for each in asked)
    assert {answer.status for answer in await asyncio.gather(*flood)} == {200, 503}
    assert (await device.exchange(capabilities=Capability.FEED)).limits.min_interval_s == 0
