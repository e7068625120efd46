"""The wake socket over real TLS, and over plain HTTP where a test chooses how patient it is."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import WSCloseCode, WSMsgType
from tests.einthoven_server.part_site import running_part
from tests.einthoven_server.site import Device, ManualClock, Site, running_site

from einthoven_protocol.messages import Capability
from einthoven_server import limits
from einthoven_server.database import Connection
from einthoven_server.sync.wake import Waiter
from einthoven_server.sync.wake_socket import WakeTimes, _serve

PATIENCE_S = 10


async def heard(socket: Any) -> str:
    """The next text; what comes instead of one is an error of the test."""
    async with asyncio.timeout(PATIENCE_S):
        message = await socket.receive()
    assert message.type is WSMsgType.TEXT, message
    return str(message.data)


async def closed(socket: Any) -> int:
    """The code with which the server closes."""
    async with asyncio.timeout(PATIENCE_S):
        message = await socket.receive()
    assert message.type is WSMsgType.CLOSE, message
    return int(message.data)


@pytest.fixture
async def pair(site: Site) -> tuple[Device, Device]:
    """Two devices of one patient."""
    patient = await site.new_patient()
    return await site.new_device(patient), await site.new_device(patient)


async def test_the_patients_other_device_hears_of_a_push_and_the_one_that_pushed_does_not(
    site: Site, pair: tuple[Device, Device]
) -> None:
    mine, other = pair
    stranger = await site.new_device()
    async with mine.listen() as own, other.listen() as sibling, stranger.listen() as foreign:
        await mine.exchange(mine.rows(1, 3))
        assert await heard(sibling) == "w"
        assert [len(row) for row in [(await other.exchange(capabilities=Capability.FEED)).results]] == [3]
        # What wakes everybody now is the first that these two hear.
        answer = await site.send(
            "PUT", "/v1/documents/settings/a", token=site.admin, data=b"1", headers={"Content-Type": "application/json"}
        )
        assert answer.status == 200
        for socket in (own, sibling, foreign):
            assert await heard(socket) == "w"
        for socket in (own, foreign):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await socket.receive()


async def test_an_exchange_that_writes_nothing_wakes_nobody(pair: tuple[Device, Device]) -> None:
    mine, other = pair
    async with other.listen() as sibling:
        await mine.exchange()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await sibling.receive()


async def test_a_commit_of_another_process_on_the_same_database_is_heard(
    site: Site, pair: tuple[Device, Device], data_folder: Path, database_url: str, clock: ManualClock
) -> None:
    mine, other = pair
    here = mine.listen(), other.listen()
    async with running_site(data_folder, database_url, clock, site.tenant) as elsewhere, here[0] as own, here[1] as two:
        await replace(mine, site=elsewhere).exchange(mine.rows(1, 1))
        assert await heard(two) == "w"
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await own.receive()


async def test_a_newer_socket_takes_over(pair: tuple[Device, Device]) -> None:
    mine, other = pair
    async with other.listen() as first, other.listen() as second:
        assert await closed(first) == WSCloseCode.POLICY_VIOLATION
        await mine.exchange(mine.rows(1, 1))
        assert await heard(second) == "w"


async def test_a_revoked_device_is_closed_and_let_in_no_more(site: Site, pair: tuple[Device, Device]) -> None:
    mine, _ = pair
    async with mine.listen() as socket:
        await site.send("POST", f"/v1/devices/{mine.identity.device_id}/revoke", token=site.admin)
        assert await closed(socket) == WSCloseCode.POLICY_VIOLATION
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        async with mine.listen():
            pass
    assert refused.value.status == 401


async def test_who_says_something_is_closed(pair: tuple[Device, Device]) -> None:
    mine, other = pair
    async with mine.listen() as socket:
        await socket.send_str("hello")
        assert await closed(socket) == WSCloseCode.POLICY_VIOLATION
    async with other.listen() as socket:
        await socket.send_bytes(b"x" * (limits.WAKE_MESSAGE_MAX_BYTES + 1))
        assert await closed(socket) == WSCloseCode.MESSAGE_TOO_BIG


async def test_a_device_that_closes_is_let_go(pair: tuple[Device, Device]) -> None:
    mine, _ = pair
    async with mine.listen() as socket:
        async with asyncio.timeout(PATIENCE_S):
            await socket.close()
    async with mine.listen() as socket:
        assert not socket.closed


async def test_only_a_signed_upgrade_without_a_body_is_one(site: Site, pair: tuple[Device, Device]) -> None:
    mine, _ = pair
    plain = await site.send("GET", "/v1/wake", headers=mine.sign_wake())
    assert (plain.status, plain.error) == (400, "no_websocket")
    body = await site.send("GET", "/v1/wake", headers=mine.sign_wake(), data=b"x")
    assert (body.status, body.error) == (400, "malformed")
    query = await site.send("GET", "/v1/wake?x=1", headers=mine.sign_wake())
    assert query.status == 401
    unsigned = await site.send("GET", "/v1/wake")
    bearer = await site.send("GET", "/v1/wake", token=site.admin)
    wrong = await site.send("GET", "/v1/wake", headers=mine.sign(b"", path="/v1/wake"))
    assert (unsigned.status, bearer.status, wrong.status) == (401, 401, 401)
    assert (await site.send("HEAD", "/v1/wake", headers=mine.sign_wake())).status == 405


async def test_a_replayed_upgrade_is_refused(site: Site, pair: tuple[Device, Device]) -> None:
    mine, _ = pair
    headers = mine.sign_wake()
    async with mine.listen(headers=headers) as socket:
        again = await site.send("GET", "/v1/wake", headers=headers)
        assert (again.status, again.error) == (401, "replayed")
        assert not socket.closed


async def test_a_socket_leaves_one_entry_when_it_opens(
    site: Site, pair: tuple[Device, Device], connection: Connection
) -> None:
    mine, _ = pair

    async def entries() -> list[tuple[str, str, str]]:
        rows = await connection.fetch(
            "SELECT actor, patient, outcome FROM audit_entry WHERE tenant = $1 AND operation = 'device.wake'",
            site.tenant,
        )
        return [(row[0], row[1], row[2]) for row in rows]

    expected = [(mine.identity.device_id, mine.identity.patient_id, "allowed")]
    async with mine.listen():
        assert await entries() == expected
    await site.send("GET", "/v1/wake", headers=mine.sign_wake())
    expected.append((mine.identity.device_id, mine.identity.patient_id, "no_websocket"))
    assert await entries() == expected


async def test_without_an_audit_log_there_is_no_socket(
    site: Site, pair: tuple[Device, Device], connection: Connection
) -> None:
    mine, _ = pair
    await connection.execute(
        "ALTER TABLE audit_entry ADD CONSTRAINT no_wake CHECK (tenant <> '" + site.tenant + "') NOT VALID"
    )
    try:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            async with mine.listen():
                pass
        assert refused.value.status == 503
    finally:
        await connection.execute("ALTER TABLE audit_entry DROP CONSTRAINT no_wake")


async def test_a_stopping_server_says_so(
    site: Site, pair: tuple[Device, Device], data_folder: Path, database_url: str, clock: ManualClock
) -> None:
    async with running_site(data_folder, database_url, clock, site.tenant) as elsewhere:
        listener = replace(pair[0], site=replace(elsewhere, http=site.http))
        socket = await listener.listen()
        closing = asyncio.create_task(closed(socket))
    async with asyncio.timeout(PATIENCE_S):
        assert await closing == WSCloseCode.GOING_AWAY


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_a_thousand_connects_of_one_device_are_one_socket(
    site: Site, pair: tuple[Device, Device], clock: ManualClock
) -> None:
    mine, other = pair
    clock.stop()
    statuses = []

    async def connect() -> None:
        try:
            sockets.append(await other.listen(autoping=False))
            statuses.append(101)
        except aiohttp.WSServerHandshakeError as refused:
            statuses.append(refused.status)

    sockets: list[Any] = []
    for _ in range(10):
        await asyncio.gather(*(connect() for _ in range(100)))
    assert statuses.count(101) == limits.DEVICE_WAKES_BURST
    assert statuses.count(429) == 1_000 - limits.DEVICE_WAKES_BURST
    await mine.exchange(mine.rows(1, 1))  # another device is served as before
    alive = 0
    for socket in sockets:
        async with asyncio.timeout(PATIENCE_S):
            alive += (await socket.receive()).type is WSMsgType.TEXT
        await socket.close()
    assert alive == 1


# ---- how patient it is ----------------------------------------------------------------------------------------------


async def test_a_peer_that_answers_no_ping_is_let_go(
    site: Site, pair: tuple[Device, Device], data_folder: Path, database_url: str, clock: ManualClock
) -> None:
    times = WakeTimes(ping_interval_s=0.1)
    async with running_part(data_folder, database_url, clock, site.tenant, wake_times=times) as (part, parts):
        deaf, lively = (replace(device, site=part) for device in pair)
        async with deaf.listen(autoping=False, autoclose=False), lively.listen() as good:
            answering = asyncio.create_task(good.receive())  # answers pings while it listens
            async with asyncio.timeout(PATIENCE_S):
                while len(parts.waiting) == 2:  # noqa: ASYNC110  # the server's own timer ends it
                    await asyncio.sleep(0.02)
            assert [alias for alias, _ in parts.waiting.waiters] == [lively.alias]
            answering.cancel()
            await asyncio.gather(answering, return_exceptions=True)


async def test_a_socket_does_not_live_for_ever(
    site: Site, pair: tuple[Device, Device], data_folder: Path, database_url: str, clock: ManualClock
) -> None:
    times = WakeTimes(lifetime_s=0.05)
    async with running_part(data_folder, database_url, clock, site.tenant, wake_times=times) as (part, parts):
        async with replace(pair[0], site=part).listen() as socket:
            assert await closed(socket) == WSCloseCode.GOING_AWAY
        async with asyncio.timeout(PATIENCE_S):
            while len(parts.waiting):  # noqa: ASYNC110  # the handler ends after its last frame
                await asyncio.sleep(0.01)


class Clogged:
    """Stands for a socket whose peer takes nothing and says nothing."""

    def __init__(self) -> None:
        self.closed_with: list[int] = []

    async def receive(self) -> None:
        await asyncio.Event().wait()

    async def send_str(self, text: str) -> None:
        assert text == "w"
        await asyncio.Event().wait()

    async def close(self, *, code: int, message: bytes) -> None:
        assert message
        self.closed_with.append(code)


async def test_a_peer_that_takes_no_frame_is_closed_and_holds_up_nobody() -> None:
    clogged, waiter = Clogged(), Waiter(1, "p")
    waiter.wake()
    async with asyncio.timeout(PATIENCE_S):
        await _serve(clogged, waiter, WakeTimes(send_timeout_s=0.01))  # type: ignore[arg-type]
    assert clogged.closed_with == [WSCloseCode.GOING_AWAY]
