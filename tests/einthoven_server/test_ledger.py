"""What the ledger decides, without a database: against a model that keeps every row it ever saw."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.einthoven_server.site import STARTED_AT_MS, result_row

from einthoven_protocol import digests, hlc
from einthoven_protocol.canonical import decode_result_row, encode_result_row
from einthoven_protocol.messages import (
    AnnotationRow,
    BucketKind,
    Cursor,
    Digest,
    ExchangeRequest,
    Owner,
    Register,
    RejectReason,
    ResultId,
    RowKind,
    Tombstone,
    VerdictCode,
)
from einthoven_protocol.packed_results import RESULT_FIELDS
from einthoven_server import limits
from einthoven_server.audit.chain import Event
from einthoven_server.envelope import PatientKey
from einthoven_server.errors import Conflict
from einthoven_server.identity.callers import Device
from einthoven_server.records.books import Books
from einthoven_server.records.change_store import Held, Patient
from einthoven_server.records.changes import Annotate, Delete, Push, PushedRow, PushedRows, rows_of
from einthoven_server.records.ledger import Ledger, Settled, row_fault, row_faults

NOW_MS = STARTED_AT_MS + 10**9
EVENT = Event(0, "", "", "", "")
SYNC_KEY = bytes(range(32))
DEVICE = Device(
    device_id="d",
    alias=3,
    patient_id="p",
    public_key=bytes(32),
    sync_key=SYNC_KEY,
    revoked=False,
    patient_key=PatientKey("t", "p", 1, bytes(32)),
)


def fresh_ledger(last_hlc: int = 0) -> Ledger:
    held = Held(patients={"p": Patient((Owner(3, SYNC_KEY),), 0)})
    return Ledger(Books(shard_epoch=1, commit_seq=0, last_hlc=last_hlc, held=held))


def digest_of(ledger: Ledger) -> Digest:
    return ledger.books.digest(3, BucketKind.RECORDS)


def pushed(counter: int, variant: int = 0, fault: RejectReason = RejectReason.NONE) -> PushedRow:
    row = result_row(counter, usable_s=variant)
    return PushedRow(counter, encode_result_row(row), digests.result_sum(SYNC_KEY, 3, 1, row), fault)


def push(*rows: PushedRow, cursor: Cursor | None = None, annotations: tuple[AnnotationRow, ...] = ()) -> Push:
    request = ExchangeRequest(
        device_alias=3,
        epoch=1,
        results=tuple(decode_result_row(one.canonical) for one in rows),
        annotations=annotations,
        cursor=cursor or Cursor(1, 0),
    )
    return Push(DEVICE, request, PushedRows.of(rows), "nonce", 0, EVENT, NOW_MS)


FAULTS = st.sampled_from(
    [RejectReason.NONE] * 4 + [RejectReason.BAD_SEAL, RejectReason.CLOCK_SKEW, RejectReason.OUT_OF_RANGE]
)
PUSHES = st.lists(
    st.tuples(st.integers(1, 12), st.lists(st.tuples(st.integers(0, 1), FAULTS), max_size=6)), max_size=12
)


@settings(max_examples=300, deadline=None)
@given(PUSHES)
def test_any_order_of_pushes_keeps_the_invariants(pushes: list[tuple[int, list[tuple[int, RejectReason]]]]) -> None:
    ledger = fresh_ledger()
    accepted: dict[int, PushedRow] = {}
    settled_up_to = 0
    for first, kinds in pushes:
        rows = [pushed(first + place, *kind) for place, kind in enumerate(kinds)]
        before = (ledger.books.commit_seq, digest_of(ledger))
        outcome = ledger.settle(push(*rows))
        if rows and first > settled_up_to + 1:
            assert isinstance(outcome, Conflict)
            assert (ledger.books.commit_seq, digest_of(ledger)) == before
            continue
        assert isinstance(outcome, Settled)
        if not rows:
            assert outcome == Settled(settled_up_to)
            continue
        verdicts = {verdict.counter: verdict for verdict in outcome.verdicts}
        assert list(verdicts) == sorted(verdicts)
        assert outcome.acknowledged == rows[-1].counter
        for one in rows:
            counter = one.counter
            verdict = verdicts.get(counter)
            if verdict is None:  # accepted: new, faultless, and never before
                assert counter > settled_up_to
                assert one.fault is RejectReason.NONE
                accepted[counter] = one
            elif verdict.code == VerdictCode.DUPLICATE:
                assert accepted[counter].share == one.share
            elif counter in accepted:
                assert accepted[counter].share != one.share
        settled_up_to = max(settled_up_to, rows[-1].counter)
    expected = digests.EMPTY
    for one in accepted.values():
        expected = digests.add(expected, one.share)
    assert digest_of(ledger) == expected
    written = ledger.books.written.results
    assert [counter for new in written for counter in new.rows.counters] == list(accepted)
    assert [seq for new in written for seq in new.seqs] == list(range(1, len(accepted) + 1))
    kept = {new.result.counter for new in ledger.books.written.quarantined}
    assert not kept & set(accepted)


def note(value: str, at: int, counter: int = 1, author: str = "d") -> AnnotationRow:
    return AnnotationRow(
        target=ResultId(3, 1, counter), author=author, rhythm=Register(value, at), comment=Register(value, at)
    )


@given(st.lists(st.tuples(st.text("AN", max_size=2), st.integers(1, 4), st.integers(1, 2)), max_size=10), st.randoms())
def test_annotations_end_the_same_in_any_order(said: list[tuple[str, int, int]], random: Any) -> None:
    def after(order: list[tuple[str, int, int]]) -> tuple[Any, Any]:
        ledger = fresh_ledger()
        for one in order:
            assert isinstance(ledger.settle(push(annotations=(note(*one),))), Settled)
        digest = digests.EMPTY
        for row in ledger.books.held.annotations.values():
            digest = digests.add(digest, digests.annotation_sum(SYNC_KEY, row))
        assert digest_of(ledger) == digest
        return ledger.books.held.annotations, digest

    shuffled = list(said)
    random.shuffle(shuffled)
    assert after(said) == after(shuffled)


def test_a_device_gets_no_echo_of_its_words_but_sees_what_they_became() -> None:
    ledger = fresh_ledger()
    mixed = AnnotationRow(target=ResultId(3, 1, 1), author="d", rhythm=Register("N", 9), comment=Register("", 0))
    ledger.settle(push(annotations=(note("A", 5),)))
    assert ledger.books.written.annotations[ResultId(3, 1, 1), "d"].origin == (3, 1)
    ledger.settle(push(annotations=(mixed,)))
    new = ledger.books.written.annotations[ResultId(3, 1, 1), "d"]
    assert (new.row.rhythm.value, new.row.comment.value, new.origin) == ("N", "A", None)


def annotate(**changed: Any) -> Annotate:
    given: dict[str, Any] = {"rhythm": None, "comment": None, "now_ms": NOW_MS}
    return Annotate(device=DEVICE, target=ResultId(3, 1, 1), author="c", event=EVENT, **given | changed)


def test_a_clinicians_clock_never_goes_back() -> None:
    ledger = fresh_ledger(hlc.tick(0, NOW_MS + 60_000))
    first = ledger.annotate(annotate(rhythm="A"))
    second = ledger.annotate(annotate(comment="x"))
    assert first.rhythm == second.rhythm
    assert hlc.hlc_ms(first.rhythm.hlc) == NOW_MS + 60_000
    assert second.comment.hlc > first.rhythm.hlc
    assert [new.commit_seq for new in ledger.books.written.annotations.values()] == [2]


def test_a_row_is_checked_by_itself() -> None:
    day_ms = 24 * 3600 * 1000
    assert row_fault(result_row(1), NOW_MS) is RejectReason.NONE
    assert row_fault(result_row(1, tier=0, reason=2), NOW_MS) is RejectReason.NONE
    assert row_fault(result_row(1, tier=0), NOW_MS) is RejectReason.OUT_OF_RANGE
    assert row_fault(result_row(1, reason=1), NOW_MS) is RejectReason.OUT_OF_RANGE
    assert row_fault(result_row(1, started_at_ms=NOW_MS + day_ms), NOW_MS) is RejectReason.NONE
    assert row_fault(result_row(1, started_at_ms=NOW_MS + day_ms + 1), NOW_MS) is RejectReason.CLOCK_SKEW


def test_rows_of_a_batch_are_counted() -> None:
    assert rows_of([push(pushed(1), pushed(2), annotations=(note("A", 1),)), annotate()]) == 4


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.sampled_from([-1, 0, 1, 2])), min_size=1, max_size=9)
)
def test_many_rows_have_the_faults_of_each(kinds: list[tuple[int, int, int]]) -> None:
    latest_ms = NOW_MS + limits.RESULT_AHEAD_MAX_MS
    rows = [
        result_row(place + 1, tier=tier, reason=reason, started_at_ms=latest_ms + ahead)
        for place, (tier, reason, ahead) in enumerate(kinds)
    ]
    fields = np.frombuffer(b"".join(map(encode_result_row, rows)), RESULT_FIELDS)
    assert row_faults(fields, NOW_MS) == [row_fault(row, NOW_MS) for row in rows]


@pytest.mark.parametrize("again", [False, True])
def test_a_result_that_came_in_the_same_batch_can_go_again(again: bool) -> None:
    ledger = fresh_ledger()
    rows = [pushed(counter) for counter in (1, 2, 3)]
    ledger.settle(push(*rows))
    if again:  # also after another push of the same made the ledger look at each row
        assert [one.code for one in _settled(ledger, push(*rows)).verdicts] == [VerdictCode.DUPLICATE] * 3
    gone = Tombstone(RowKind.RESULT, 3, 1, 2)
    key = DEVICE.patient_key
    assert ledger.delete(Delete("p", key, (gone, gone), EVENT, NOW_MS)) == (gone,)
    written = ledger.books.written
    assert [(list(new.rows.counters), list(new.seqs)) for new in written.results] == [([1, 3], [1, 3])]
    assert written.gone_results == {ResultId(3, 1, 2)}
    assert digest_of(ledger) == digests.add_all(digests.EMPTY, [rows[0].share, rows[2].share])
    verdicts = _settled(ledger, push(*rows)).verdicts
    assert [(one.code, one.reason) for one in verdicts] == [
        (VerdictCode.DUPLICATE, RejectReason.NONE),
        (VerdictCode.REJECTED, RejectReason.DELETED),
        (VerdictCode.DUPLICATE, RejectReason.NONE),
    ]


def test_an_alert_that_went_ahead_is_a_duplicate_in_its_turn_in_the_same_batch() -> None:
    ledger = fresh_ledger()
    ahead = push()
    ahead = replace(ahead, alerts=PushedRows.of([pushed(3)]))
    assert _settled(ledger, ahead) == Settled(0)
    verdicts = _settled(ledger, push(*(pushed(counter) for counter in (1, 2, 3, 4)))).verdicts
    assert [(one.counter, one.code) for one in verdicts] == [(3, VerdictCode.DUPLICATE)]
    assert [seq for new in ledger.books.written.results for seq in new.seqs] == [1, 2, 3, 4]


def _settled(ledger: Ledger, change: Push) -> Settled:
    outcome = ledger.settle(change)
    assert isinstance(outcome, Settled)
    return outcome
