"""Sync against servers that lie: nothing of an answer that does not add up is taken over."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from einthoven.annotating import annotate
from einthoven.clock import FixedClock
from einthoven.errors import NotEnrolled, StoreIOError, SyncError
from einthoven.identity import IDENTITY_SETTING, Identity, find_identity, load_identity, save_identity
from einthoven.ports import Segment, SyncState
from einthoven.results import InconclusiveReason, Quality, Rhythm, RiskTier, WindowResult
from einthoven.segments import segment_digest
from einthoven.store_memory import MemoryStore
from einthoven.syncing import MAX_FORKS, build_request, sync
from einthoven_protocol import codec, digests, merkle
from einthoven_protocol.messages import (
    AnnotationRow,
    Cursor,
    ExchangeRequest,
    ExchangeResponse,
    RejectReason,
    RowVerdict,
    VerdictCode,
)

NOW = 1_780_000_000_000
SYNC_KEY = bytes(range(32))
IDENTITY = Identity(
    device_id="device-1",
    device_alias=7,
    url="https://localhost",
    ca_pem="",
    signing_key=bytes(range(32)),
    tenant="t",
    patient_id="p",
)


def a_store(n: int) -> MemoryStore:
    store = MemoryStore()
    for i in range(n):
        segment = Segment(Fraction(250), np.full(2500, i, np.int32))
        result = WindowResult(
            counter=0,
            started_at_ms=NOW + i * 30_000,
            duration_ms=10_000,
            n_steps=8,
            usable_s=9,
            quality=Quality.USABLE,
            rhythm=Rhythm.NORMAL,
            confidence_permille=900,
            logits=(900, -20, 3, -4000),
            tier=RiskTier.ROUTINE,
            reason=InconclusiveReason.NONE,
            model_digest=bytes(32),
            front_end_version=1,
            segment_digest=segment_digest(segment),
        )
        store.append_window(result, segment)
    save_identity(store, IDENTITY, SYNC_KEY)
    return store


class ScriptedTransport:
    """A ``Transport`` whose server is a function."""

    def __init__(self, serve: object) -> None:
        self._serve = serve
        self.requests: list[ExchangeRequest] = []

    async def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
        request = codec.decode_request(body)
        self.requests.append(request)
        return self._serve(request)  # type: ignore[no-any-return, operator]

    async def close(self) -> None:
        return None


class HonestServer:
    """Accepts everything and keeps the digest."""

    def __init__(self, sync_key: bytes = SYNC_KEY) -> None:
        self.sync_key = sync_key
        self.digest = digests.EMPTY
        self.acknowledged = 0
        self.annotations: set[AnnotationRow] = set()

    def __call__(self, request: ExchangeRequest) -> bytes:
        for row in request.results:
            if row.counter > self.acknowledged:
                total = digests.result_sum(self.sync_key, request.device_alias, request.epoch, row)
                self.digest = digests.add(self.digest, total)
        if request.results:
            self.acknowledged = request.results[-1].counter
        for words in set(request.annotations) - self.annotations:
            self.annotations.add(words)
            self.digest = digests.add(self.digest, digests.annotation_sum(self.sync_key, words))
        return codec.encode_response(
            ExchangeResponse(
                acknowledged=self.acknowledged, digest=self.digest, cursor=Cursor(1, 0), server_time_ms=NOW
            )
        )


async def test_everything_goes_up_in_one_sealed_message() -> None:
    store = a_store(5)
    transport = ScriptedTransport(HonestServer())
    report = await sync(store, transport=transport, clock=FixedClock(NOW))
    assert (report.round_trips, report.results_up, report.state.waiting) == (1, 5, 0)
    assert report.state.last_digest_equal is True
    assert report.bytes_per_result == report.bytes_up / 5
    (request,) = transport.requests
    (seal,) = request.seals
    rows = [codec.encode_result_row(row) for row in request.results]
    segments = [result.segment_digest for result in store.results()]
    assert (seal.results_root, seal.segments_root) == (merkle.tree_hash(rows), merkle.tree_hash(segments))
    message = merkle.seal_message(7, 1, 1, 5, seal.results_root, seal.segments_root)
    Ed25519PrivateKey.from_private_bytes(IDENTITY.signing_key).public_key().verify(seal.signature, message)


async def test_a_note_on_a_fresh_result_follows_it_in_the_same_sync() -> None:
    """R9: first the result, then the words on it."""
    store = a_store(2)
    annotate(store, 2, comment="felt dizzy", clock=FixedClock(NOW))
    transport = ScriptedTransport(HonestServer())

    report = await sync(store, transport=transport, clock=FixedClock(NOW))

    assert (report.round_trips, report.results_up, report.annotations_up, report.state.waiting) == (2, 2, 1, 0)
    assert report.state.last_digest_equal is True
    first, second = transport.requests
    assert ([row.counter for row in first.results], first.annotations) == ([1, 2], ())
    assert (second.results, [row.comment.value for row in second.annotations]) == ((), ["felt dizzy"])
    again = await sync(store, transport=transport, clock=FixedClock(NOW))
    assert (again.round_trips, again.annotations_up) == (1, 0)


async def test_an_answer_that_another_enrolment_overtook_is_not_taken_over() -> None:
    """It speaks of what the former server holds, and the books are the next one's by now."""
    store = a_store(2)
    other = msgspec.structs.replace(IDENTITY, device_id="device-2", device_alias=8)

    def overtaken(request: ExchangeRequest) -> bytes:
        save_identity(store, other, b"n" * 32)
        return HonestServer()(request)

    with pytest.raises(SyncError, match="enrolled anew"):
        await sync(store, transport=ScriptedTransport(overtaken), clock=FixedClock(NOW))
    assert (store.sync_state().acknowledged, store.sync_state().waiting) == (0, 2)


async def test_a_device_that_is_enrolled_anew_gives_the_next_server_everything() -> None:
    store = a_store(3)
    annotate(store, 3, comment="felt dizzy", clock=FixedClock(NOW))
    await sync(store, transport=ScriptedTransport(HonestServer()), clock=FixedClock(NOW))
    save_identity(store, msgspec.structs.replace(IDENTITY, device_id="device-2", device_alias=8), b"n" * 32)
    transport = ScriptedTransport(HonestServer(b"n" * 32))

    report = await sync(store, transport=transport, clock=FixedClock(NOW))

    assert (report.round_trips, report.results_up, report.annotations_up, report.state.waiting) == (2, 3, 1, 0)
    assert report.state.last_digest_equal is True
    (words,) = transport.requests[1].annotations
    assert (words.target.device_alias, words.target.counter, words.author) == (8, 3, "device-2")
    assert (await sync(store, transport=transport, clock=FixedClock(NOW))).results_up == 0


async def test_nothing_to_do_is_one_empty_exchange() -> None:
    report = await sync(a_store(0), transport=ScriptedTransport(HonestServer()), clock=FixedClock(NOW))
    assert (report.round_trips, report.results_up, report.bytes_per_result) == (1, 0, None)


def liar(**wrong: object) -> object:
    return lambda request: codec.encode_response(
        msgspec.structs.replace(ExchangeResponse(acknowledged=2, cursor=Cursor(1, 0), server_time_ms=NOW), **wrong)
    )


@pytest.mark.parametrize(
    "serve",
    [
        lambda request: b"",
        lambda request: b"\x01" + bytes(100),
        lambda request: b"<html>no</html>",
        codec.encode_request,
        liar(acknowledged=3),
        liar(acknowledged=10**6),
    ],
)
async def test_an_answer_that_does_not_add_up_changes_nothing(serve: object) -> None:
    store = a_store(2)
    before = store.sync_state()
    with pytest.raises(SyncError, match="not taken over"):
        await sync(store, transport=ScriptedTransport(serve), clock=FixedClock(NOW))
    assert store.sync_state() == before


async def test_digests_that_differ_are_reported() -> None:
    store = a_store(2)
    report = await sync(store, transport=ScriptedTransport(liar()), clock=FixedClock(NOW))
    assert report.state.last_digest_equal is False
    assert report.state.waiting == 0


async def test_a_server_that_never_gets_further_does_not_loop() -> None:
    def stuck(request: ExchangeRequest) -> bytes:
        return codec.encode_response(ExchangeResponse(acknowledged=0, cursor=request.cursor, more=True))

    transport = ScriptedTransport(stuck)
    with pytest.raises(SyncError):
        await sync(a_store(0), transport=transport, clock=FixedClock(NOW))
    assert len(transport.requests) == 1


async def test_an_unenrolled_store_does_not_sync() -> None:
    with pytest.raises(NotEnrolled):
        await sync(MemoryStore(), transport=ScriptedTransport(HonestServer()))


def test_an_enrolment_that_can_not_be_read_is_an_error_not_a_crash() -> None:
    store = MemoryStore()
    assert find_identity(store) is None
    store.put_setting(IDENTITY_SETTING, b"\xc1garbage")
    with pytest.raises(StoreIOError, match="can't be read"):
        load_identity(store)


def test_a_request_without_results_carries_no_seal() -> None:
    store = a_store(0)
    state: SyncState = store.sync_state()
    assert build_request(IDENTITY, state, store.pending(limit=10)).seals == ()


async def test_the_report_carries_the_servers_own_digest() -> None:
    """Not a copy of the device's: the two differ where the server's set does."""
    honest = await sync(a_store(2), transport=ScriptedTransport(HonestServer()), clock=FixedClock(NOW))
    assert honest.server_digest == honest.state.digest
    lied_to = await sync(a_store(2), transport=ScriptedTransport(liar()), clock=FixedClock(NOW))
    assert lied_to.server_digest != lied_to.state.digest


def conflicting(request: ExchangeRequest) -> bytes:
    """A server that claims to hold another row under every counter."""
    return codec.encode_response(
        ExchangeResponse(
            acknowledged=request.results[-1].counter if request.results else 0,
            verdicts=tuple(
                RowVerdict(row.counter, VerdictCode.REJECTED, RejectReason.CONFLICTS_WITH_STORED)
                for row in request.results
            ),
            cursor=Cursor(1, 0),
            server_time_ms=NOW,
        )
    )


async def test_a_server_that_always_refuses_is_refused_and_nothing_is_lost() -> None:
    store = a_store(2)
    transport = ScriptedTransport(conflicting)
    with pytest.raises(SyncError, match="keeps refusing"):
        await sync(store, transport=transport, clock=FixedClock(NOW))
    assert len(transport.requests) == MAX_FORKS + 1
    assert store.sync_state().waiting == 2


async def test_a_store_that_was_turned_back_goes_on_in_a_new_epoch_in_the_same_sync() -> None:
    store = a_store(2)

    def serve(request: ExchangeRequest) -> bytes:
        return conflicting(request) if request.epoch == 1 else HonestServer()(request)

    transport = ScriptedTransport(serve)
    report = await sync(store, transport=transport, clock=FixedClock(NOW))
    assert report.forked
    assert (report.results_up, report.refused, report.state.waiting) == (2, 0, 0)
    assert [request.epoch for request in transport.requests] == [1, report.state.epoch]
    assert len(store.take_events()) == 1
    assert not (await sync(store, transport=ScriptedTransport(HonestServer()), clock=FixedClock(NOW))).forked


async def test_what_was_refused_is_pushed_once_more_only_when_the_feed_was_read_to_its_end() -> None:
    """R7: an earlier life of this store may have given it again, and the answer that says so may be yet to come."""
    store = a_store(2)
    more = [True, True, False, False]

    def serve(request: ExchangeRequest) -> bytes:
        answer = codec.decode_response(conflicting(request) if request.epoch == 1 else HonestServer()(request))
        page = Cursor(1, request.cursor.commit_seq + 1)
        return codec.encode_response(msgspec.structs.replace(answer, more=more.pop(0) if more else False, cursor=page))

    transport = ScriptedTransport(serve)
    report = await sync(store, transport=transport, clock=FixedClock(NOW))
    current = report.state.epoch
    said = [(request.epoch, len(request.results)) for request in transport.requests]
    assert said == [(1, 2), (current, 0), (current, 0), (1, 2), (current, 2)]
    assert (report.forked, report.state.waiting) == (True, 0)


async def test_a_request_that_would_be_the_last_one_again_is_not_made() -> None:
    def nothing(request: ExchangeRequest) -> bytes:
        return codec.encode_response(ExchangeResponse(acknowledged=0, cursor=Cursor(0, 0), server_time_ms=NOW))

    report = await sync(a_store(2), transport=ScriptedTransport(nothing), clock=FixedClock(NOW))
    assert (report.round_trips, report.results_up, report.state.waiting) == (1, 0, 2)
