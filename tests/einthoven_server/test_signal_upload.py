"""The device's side of uploads against a real server over TLS: what is sent, what not twice, what is set aside."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import msgspec
import pytest
from obstore.store import MemoryStore as MemoryObjects
from tests.contracts.conftest import window
from tests.einthoven_server.signal_site import SignalSite, hold, running_signals
from tests.einthoven_server.site import ManualClock

from einthoven.errors import NotEnrolled, ServerBusy, ServerRejected, ServerUnreachable, SyncError
from einthoven.identity import Identity, save_identity
from einthoven.ports import Answer, SignedTransport
from einthoven.signal_upload import SignalStop, send_signals
from einthoven.store_memory import MemoryStore
from einthoven.transport_https import HttpsTransport
from einthoven_protocol.messages import Capability, Cursor, ExchangeRequest, ExchangeResponse
from einthoven_protocol.signal_chunks import MAX_CHUNK_BYTES
from einthoven_server.signals import quotas
from einthoven_server.signals.signal_store_obstore import ObstoreSignalStore

LONG = 60_000
"""Samples whose stored form is about 100 kB of noise: two of them fill a chunk."""


@pytest.fixture
async def site(data_folder: Path, database_url: str, clock: ManualClock) -> AsyncIterator[SignalSite]:
    store = ObstoreSignalStore(MemoryObjects())
    async with running_signals(data_folder, database_url, clock, str(uuid.uuid4()), store) as site:
        yield site


@dataclass
class Phone:
    """An enrolled store, and a network that a test breaks."""

    site: SignalSite
    store: MemoryStore
    identity: Identity
    recorded: int = 0

    async def record(self, n: int, n_samples: int = 128, *, capabilities: int = Capability.SIGNALS) -> None:
        """Have ``n`` results more, and the server hold them under one seal."""
        for seed in range(self.recorded, self.recorded + n):
            self.store.append_window(*window(seed, n_samples))
        self.recorded += n
        pending = self.store.pending(limit=10_000)
        await hold(self.site, self.identity.device_id, 1, pending.results, pending.segment_digests, self.identity.sign)
        request = ExchangeRequest(device_alias=self.identity.device_alias, epoch=1, results=pending.results)
        response = ExchangeResponse(
            acknowledged=self.recorded, cursor=Cursor(1, self.recorded), capabilities=capabilities
        )
        self.store.apply_exchange(request, response, at_ms=1)

    @property
    def waiting(self) -> int:
        return self.store.stats().unacknowledged_segments

    async def kept(self) -> int:
        assert self.site.database is not None
        (row,) = await self.site.database.fetch(
            "SELECT count(*) AS n FROM result_signal WHERE tenant = $1", self.site.tenant
        )
        return int(row["n"])


@pytest.fixture
async def phone(site: SignalSite) -> Phone:
    made = await site.new_device()
    identity = Identity(
        device_id=made.identity.device_id,
        device_alias=made.identity.device_alias,
        url=site.url,
        ca_pem=site.ca_pem,
        signing_key=made.key.private_bytes_raw(),
        tenant=made.identity.tenant,
        patient_id=made.identity.patient_id,
    )
    store = MemoryStore()
    save_identity(store, identity, secrets.token_bytes(32))
    return Phone(site, store, identity)


@dataclass
class Unsteady:
    """A network: what is asked goes through a plan of faults, one a request; then all is well."""

    phone: Phone
    plan: dict[int, str] = field(default_factory=dict)
    asked: list[tuple[str, str, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._through = HttpsTransport(self.phone.identity, clock=self.phone.site.clock)

    async def request(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] = MappingProxyType({}),
        *,
        expected: Collection[int] = frozenset({200}),
    ) -> Answer:
        fault = self.plan.get(len(self.asked), "")
        self.asked.append((method, path, len(body)))
        if fault == "lost request":
            raise ServerUnreachable("the server can't be reached", "sync again later")
        if fault == "half":
            await self._half(body, headers)
            raise ServerUnreachable("the server can't be reached", "sync again later")
        answer = await self._through.request(method, path, body, headers, expected=expected)
        if fault == "lost answer":
            raise ServerUnreachable("the server can't be reached", "sync again later")
        if fault == "no sense":
            return Answer(answer.status, {}, b"\x01\x06\x00")
        return answer

    async def _half(self, body: bytes, headers: Mapping[str, str]) -> None:
        """As if the connection broke half way through the body of a creation: what arrived was kept."""
        bare = {name: value for name, value in headers.items() if name != "Content-Type"}
        made = await self._through.request("POST", "/v1/uploads", b"", bare, expected={201})
        given = {"Tus-Resumable": "1.0.0", "Upload-Offset": "0", "Content-Type": headers["Content-Type"]}
        await self._through.request("PATCH", made.headers["Location"], body[: len(body) // 2], given, expected={204})

    async def close(self) -> None:
        await self._through.close()


@pytest.fixture
async def network(phone: Phone) -> AsyncIterator[Unsteady]:
    network = Unsteady(phone)
    yield network
    await network.close()


async def test_all_that_waits_goes_up_and_is_noted_once(phone: Phone, network: Unsteady) -> None:
    await phone.record(10)
    report = await send_signals(phone.store, transport=network)
    assert (report.segments, report.chunks, report.refused, report.unproven) == (10, 1, 0, 0)
    assert (report.stopped, phone.waiting, await phone.kept()) == (SignalStop.DONE, 0, 10)
    # The question, the look whether something was begun, the bytes.
    assert [(method, path) for method, path, _ in network.asked[:2]] == [
        ("POST", "/v1/signals/missing"),
        ("POST", "/v1/uploads"),
    ]
    assert report.requests == len(network.asked) == 3
    assert report.bytes_up == sum(n_bytes for *_, n_bytes in network.asked)
    again = await send_signals(phone.store, transport=network)
    assert (again.requests, again.segments) == (0, 0)


async def test_with_a_transport_of_its_own(phone: Phone, clock: ManualClock) -> None:
    await phone.record(3)
    assert (await send_signals(phone.store, clock=clock)).segments == 3


async def test_many_chunks_are_asked_about_at_once_and_cost_one_request_each(phone: Phone, network: Unsteady) -> None:
    await phone.record(7, LONG)
    report = await send_signals(phone.store, transport=network)
    assert (report.segments, phone.waiting) == (7, 0)
    uploads = [path for _, path, n_bytes in network.asked if n_bytes > MAX_CHUNK_BYTES // 4]
    assert len(uploads) == report.chunks >= 3
    overhead = report.bytes_up - report.signal_bytes
    assert overhead < 7 * 45 + report.chunks * (14 * 64 + 64) + 200


async def test_after_a_lost_answer_nothing_is_sent_again(phone: Phone, network: Unsteady) -> None:
    await phone.record(5)
    network.plan = {2: "lost answer"}
    with pytest.raises(ServerUnreachable):
        await send_signals(phone.store, transport=network)
    assert phone.waiting == 5
    report = await send_signals(phone.store, transport=network)
    assert (report.requests, report.segments, report.signal_bytes, phone.waiting) == (1, 5, 0, 0)


async def test_a_broken_upload_goes_on_where_it_stopped(phone: Phone, network: Unsteady) -> None:
    await phone.record(6, LONG)
    network.plan = {3: "half"}
    with pytest.raises(ServerUnreachable):
        await send_signals(phone.store, transport=network)
    sent_before = len(network.asked)
    assert 0 < phone.waiting < 6
    report = await send_signals(phone.store, transport=network)
    assert phone.waiting == 0
    (first, *_) = [n_bytes for method, _, n_bytes in network.asked[sent_before:] if method == "PATCH"]
    assert first < network.asked[3][2] * 0.6
    assert report.bytes_up < report.signal_bytes


async def test_requests_that_never_arrived_change_nothing(phone: Phone, network: Unsteady) -> None:
    await phone.record(5)
    for place in range(3):
        network.asked.clear()
        network.plan = {place: "lost request"}
        with pytest.raises(ServerUnreachable):
            await send_signals(phone.store, transport=network)
    network.plan = {}
    await send_signals(phone.store, transport=network)
    assert (phone.waiting, await phone.kept()) == (0, 5)


async def test_one_bad_signal_holds_nothing_up_and_is_set_aside(phone: Phone, network: Unsteady) -> None:
    assert phone.site.database is not None
    await phone.record(9)
    await phone.site.database.fetch("DELETE FROM result_row WHERE tenant = $1 AND counter = 5", phone.site.tenant)
    report = await send_signals(phone.store, transport=network)
    assert (report.segments, report.refused, phone.waiting, await phone.kept()) == (8, 1, 1, 8)
    again = await send_signals(phone.store, transport=network)
    assert (again.requests, again.refused) == (0, 0)


async def test_a_seal_with_a_row_that_is_lost_here_proves_nothing(phone: Phone, network: Unsteady) -> None:
    await phone.record(4)
    await phone.record(4)
    del phone.store._books.results[1, 2]
    report = await send_signals(phone.store, transport=network)
    assert (report.segments, report.unproven, report.refused) == (4, 3, 0)
    assert await phone.kept() == 4


async def test_the_budget_ends_a_call(phone: Phone, network: Unsteady) -> None:
    await phone.record(7, LONG)
    report = await send_signals(phone.store, transport=network, budget_bytes=1)
    assert (report.stopped, report.chunks) == (SignalStop.BUDGET, 1)
    assert 0 < phone.waiting < 7
    rest = await send_signals(phone.store, transport=network)
    assert (rest.stopped, phone.waiting) == (SignalStop.DONE, 0)


async def test_a_metered_network_gets_none_and_one_that_becomes_so_no_more(phone: Phone, network: Unsteady) -> None:
    await phone.record(7, LONG)
    report = await send_signals(phone.store, transport=network, may_send=lambda: False)
    assert (report.stopped, report.requests, phone.waiting) == (SignalStop.POLICY, 0, 7)
    allowed = iter([True, False, False])
    report = await send_signals(phone.store, transport=network, may_send=lambda: next(allowed))
    assert (report.stopped, report.chunks) == (SignalStop.POLICY, 1)


async def test_only_full_chunks_when_asked_so(phone: Phone, network: Unsteady) -> None:
    await phone.record(3)
    report = await send_signals(phone.store, transport=network, only_full=True)
    assert (report.stopped, report.requests, phone.waiting) == (SignalStop.DONE, 0, 3)
    await phone.record(5, LONG)
    report = await send_signals(phone.store, transport=network, only_full=True)
    assert report.chunks >= 2
    assert phone.waiting > 0
    await send_signals(phone.store, transport=network)
    assert phone.waiting == 0


async def test_a_server_that_takes_no_signals_is_sent_none(phone: Phone, network: Unsteady) -> None:
    await phone.record(3, capabilities=0)
    report = await send_signals(phone.store, transport=network)
    assert (report.stopped, report.requests) == (SignalStop.NOT_OFFERED, 0)


async def test_an_expired_upload_is_begun_anew(phone: Phone, network: Unsteady, clock: ManualClock) -> None:
    await phone.record(4)
    network.plan = {1: "lost answer"}
    with pytest.raises(ServerUnreachable):
        await send_signals(phone.store, transport=network)
    clock.offset_ms += quotas.UPLOAD_LIFETIME_MS
    await send_signals(phone.store, transport=network)
    assert phone.waiting == 0


async def test_a_quota_is_told_as_busy(phone: Phone, network: Unsteady) -> None:
    assert phone.site.database is not None
    await phone.record(2)
    await send_signals(phone.store, transport=network)
    update = "UPDATE signal_usage SET day_bytes = $2 WHERE tenant = $1"
    await phone.site.database.fetch(update, phone.site.tenant, quotas.DEVICE_DAY_MAX_BYTES)
    await phone.record(2)
    with pytest.raises(ServerBusy):
        await send_signals(phone.store, transport=network)
    assert phone.waiting == 2


async def test_an_answer_that_makes_no_sense_is_not_taken_over(phone: Phone, network: Unsteady) -> None:
    await phone.record(2)
    network.plan = {0: "no sense"}
    with pytest.raises(SyncError, match="does not add up"):
        await send_signals(phone.store, transport=network)
    network.asked.clear()
    network.plan = {1: "no sense"}
    with pytest.raises(ServerRejected, match="not take an upload as agreed"):
        await send_signals(phone.store, transport=network)
    network.asked.clear()
    network.plan = {2: "no sense"}
    with pytest.raises(ServerRejected, match="how far an upload is"):
        await send_signals(phone.store, transport=network)
    assert phone.waiting == 2


async def test_nothing_is_noted_for_another_server(phone: Phone, network: Unsteady) -> None:
    await phone.record(2)

    class Meanwhile(Unsteady):
        async def request(self, method: str, path: str, *more: object, **named: object) -> Answer:
            answer = await super().request(method, path, *more, **named)  # type: ignore[arg-type]
            if method == "PATCH":
                other = msgspec.structs.replace(phone.identity, device_id="another", device_alias=99)
                save_identity(phone.store, other, secrets.token_bytes(32))
            return answer

    meanwhile: SignedTransport = Meanwhile(phone)
    with pytest.raises(SyncError, match="enrolled anew"):
        await send_signals(phone.store, transport=meanwhile)
    await meanwhile.close()
    assert phone.waiting == 2


async def test_a_store_of_no_server_is_refused() -> None:
    with pytest.raises(NotEnrolled):
        await send_signals(MemoryStore())
