"""What a device says to its server: no more than the server understands, within its limits, all of it sealed."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.contracts.conftest import window

from einthoven.identity import Identity
from einthoven.ports import Pending, SyncState
from einthoven.result_rows import to_row
from einthoven.sync_requests import CAPABILITIES, build_given, build_request, carries, push_size, understands
from einthoven_protocol import limits, merkle
from einthoven_protocol.canonical import encode_result_row
from einthoven_protocol.codec import decode_request, encode_request
from einthoven_protocol.messages import (
    AnnotationRow,
    Capability,
    Cursor,
    Digest,
    IdentifiedResult,
    NoteRow,
    Register,
    ResultId,
    ResultRow,
    RowKind,
    ServerLimits,
    Tombstone,
)

IDENTITY = Identity(
    device_id="device-1",
    device_alias=7,
    url="https://localhost",
    ca_pem="",
    signing_key=bytes(range(32)),
    tenant="t",
    patient_id="patient-1",
)
FRESH = SyncState(
    epoch=1,
    acknowledged=0,
    last_counter=100,
    cursor=Cursor(0, 0),
    digest=Digest(0, 0),
    waiting=100,
    refused=(),
    last_exchange_ms=None,
    last_digest_equal=None,
)


def met(capabilities: int = 0, **more: object) -> SyncState:
    """A state after an exchange with a server that announced this."""
    return replace(FRESH, last_exchange_ms=1, cursor=Cursor(1, 9), owners=2, capabilities=capabilities, **more)  # type: ignore[arg-type]


def rows(*counters: int) -> tuple[ResultRow, ...]:
    return tuple(msgspec.structs.replace(to_row(window(counter)[0]), counter=counter) for counter in counters)


def segments(*counters: int) -> tuple[bytes, ...]:
    return tuple(window(counter)[1].samples_uv.tobytes()[:32] for counter in counters)


def words(author: str, alias: int = 7, counter: int = 1) -> AnnotationRow:
    return AnnotationRow(
        target=ResultId(alias, 1, counter), author=author, rhythm=Register("", 0), comment=Register("dizzy", 5)
    )


NOTE = NoteRow(device_alias=7, epoch=1, counter=1, author="patient-1", at_ms=5, text="slept badly")
GONE = Tombstone(RowKind.NOTE, 7, 1, 1)
EVERYTHING = Pending(
    epoch=1,
    results=rows(1, 2, 3),
    segment_digests=segments(1, 2, 3),
    annotations=(words("device-1"), words("patient-1"), words("device-1", alias=8)),
    annotation_bases=((1, 2), (3, 4), (5, 6)),
    alerts=rows(50, 51, 60),
    alert_segment_digests=segments(50, 51, 60),
    notes=(NOTE,),
    deletions=(GONE,),
)


def test_a_server_of_the_first_version_gets_what_it_always_got() -> None:
    request = build_request(IDENTITY, met(), EVERYTHING)
    assert request.results == EVERYTHING.results
    assert request.annotations == (words("device-1"),)
    assert len(request.seals) == 1
    assert (request.alerts, request.notes, request.deletions, request.annotation_bases) == ((), (), (), ())


def test_a_server_that_can_feed_gets_everything_in_one_message() -> None:
    request = build_request(IDENTITY, met(Capability.FEED), EVERYTHING)
    assert (request.results, request.annotations) == (EVERYTHING.results, EVERYTHING.annotations)
    assert (request.alerts, request.notes, request.deletions) == (EVERYTHING.alerts, (NOTE,), (GONE,))
    assert request.annotation_bases == EVERYTHING.annotation_bases
    assert (request.capabilities, request.owners_known, request.cursor) == (CAPABILITIES, 2, Cursor(1, 9))
    assert carries(request)
    decoded = decode_request(encode_request(request))
    assert (decoded.alerts, decoded.notes, decoded.seals) == (request.alerts, request.notes, request.seals)


def test_every_result_that_travels_is_sealed_and_a_run_of_alerts_by_itself() -> None:
    request = build_request(IDENTITY, met(Capability.FEED), EVERYTHING)
    runs = [(seal.first_counter, seal.last_counter) for seal in request.seals]
    assert runs == [(1, 3), (50, 51), (60, 60)]
    digests_of = dict(zip((1, 2, 3, 50, 51, 60), segments(1, 2, 3, 50, 51, 60), strict=True))
    key = Ed25519PrivateKey.from_private_bytes(IDENTITY.signing_key).public_key()
    for seal in request.seals:
        counters = range(seal.first_counter, seal.last_counter + 1)
        assert seal.results_root == merkle.tree_hash([encode_result_row(row) for row in rows(*counters)])
        assert seal.segments_root == merkle.tree_hash([digests_of[counter] for counter in counters])
        message = merkle.seal_message(
            7, 1, seal.first_counter, seal.last_counter, seal.results_root, seal.segments_root
        )
        key.verify(seal.signature, message)


def test_a_server_that_was_never_met_is_asked_first_if_an_urgent_result_waits_behind_the_others() -> None:
    greeting = build_request(IDENTITY, FRESH, EVERYTHING)
    assert (greeting.results, greeting.alerts, greeting.seals) == ((), (), ())
    without = build_request(IDENTITY, FRESH, replace(EVERYTHING, alerts=(), alert_segment_digests=()))
    assert without.results == EVERYTHING.results


def test_while_rebaselining_only_what_is_protected_by_marks_is_pushed() -> None:
    request = build_request(IDENTITY, met(Capability.FEED, rebaseline=True), EVERYTHING)
    assert (request.annotations, request.annotation_bases, request.deletions) == ((), (), ())
    assert (request.results, request.alerts, request.notes) == (EVERYTHING.results, EVERYTHING.alerts, (NOTE,))


@pytest.mark.parametrize(
    ("announced", "at_most", "expected"),
    [
        (0, limits.MAX_RESULTS_PER_EXCHANGE, limits.MAX_RESULTS_PER_EXCHANGE),
        (500, limits.MAX_RESULTS_PER_EXCHANGE, 500),
        (500, 100, 100),
        (10**9, limits.MAX_RESULTS_PER_EXCHANGE, limits.MAX_RESULTS_PER_EXCHANGE),
        (0, 0, 1),
        (0, 10**9, limits.MAX_RESULTS_PER_EXCHANGE),
    ],
)
def test_a_push_is_within_everyones_limits(announced: int, at_most: int, expected: int) -> None:
    assert push_size(met(limits=ServerLimits(max_results=announced)), at_most) == expected


@pytest.mark.parametrize(("announced", "expected"), [(0, 500), (2, 2), (10**9, limits.MAX_ANNOTATIONS_PER_EXCHANGE)])
def test_words_are_within_the_servers_limit_and_keep_their_bases(announced: int, expected: int) -> None:
    many = tuple(words("device-1", counter=counter) for counter in range(1, 701))
    pending = Pending(1, (), (), many, annotation_bases=tuple((counter, 0) for counter in range(1, 701)))
    state = met(Capability.FEED, limits=ServerLimits(max_annotations=announced))
    request = build_request(IDENTITY, state, pending)
    assert len(request.annotations) == expected
    assert [row.target.counter for row in request.annotations] == [base for base, _ in request.annotation_bases]


def test_other_tables_are_within_the_protocols_limits() -> None:
    n = max(limits.MAX_ALERTS_PER_EXCHANGE, limits.MAX_NOTES_PER_EXCHANGE, limits.MAX_DELETIONS_PER_EXCHANGE) + 1
    counters = range(1, n + 1)
    pending = Pending(
        epoch=1,
        results=(),
        segment_digests=(),
        annotations=(),
        alerts=rows(*counters),
        alert_segment_digests=segments(*counters),
        notes=tuple(msgspec.structs.replace(NOTE, counter=counter) for counter in counters),
        deletions=tuple(msgspec.structs.replace(GONE, counter=counter) for counter in counters),
    )
    request = build_request(IDENTITY, met(Capability.FEED), pending)
    assert len(request.alerts) == limits.MAX_ALERTS_PER_EXCHANGE
    assert len(request.notes) == limits.MAX_NOTES_PER_EXCHANGE
    assert len(request.deletions) == limits.MAX_DELETIONS_PER_EXCHANGE
    assert [(seal.first_counter, seal.last_counter) for seal in request.seals] == [(1, limits.MAX_ALERTS_PER_EXCHANGE)]


def test_a_request_that_pushes_nothing_carries_nothing() -> None:
    request = build_request(IDENTITY, met(Capability.FEED), Pending(1, (), (), ()))
    assert not carries(request)
    assert request.seals == ()
    assert understands(met(Capability.FEED | Capability.WAKE), Capability.WAKE)
    assert not understands(met(Capability.FEED), Capability.REPAIR)


def test_results_that_are_given_back_are_signed_with_their_signals() -> None:
    given = tuple(IdentifiedResult(device_alias=7, epoch=1, row=row) for row in rows(4, 9))
    request = build_given(IDENTITY, given, segments(4, 9))
    assert (request.owner, request.kind, request.given) == (7, 1, given)
    assert request.segments_root == merkle.tree_hash(list(segments(4, 9)))
    message = merkle.given_message(7, given, request.segments_root)
    Ed25519PrivateKey.from_private_bytes(IDENTITY.signing_key).public_key().verify(request.signature, message)
