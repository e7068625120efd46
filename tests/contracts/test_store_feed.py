"""What ``store_rules`` says from R11 on, rule by rule, on every adapter."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from tests.contracts.conftest import StoreMaker
from tests.contracts.exchanges import ALIAS, SYNC_KEY, MakeWindow, annotation, filled

from einthoven.errors import InputError
from einthoven.ports import Store, SyncState
from einthoven.result_rows import to_row
from einthoven.results import RiskTier
from einthoven.store_events import ForkReason, StoreForked
from einthoven.store_memory import MemoryStore
from einthoven.store_schema import position_of
from einthoven.store_sqlcipher import SqlCipherStore
from einthoven.store_values import AuditAction, RetentionPolicy
from einthoven_protocol.merge import base_mark
from einthoven_protocol.messages import (
    AnnotationVerdict,
    Capability,
    Cursor,
    Document,
    ExchangeRequest,
    ExchangeResponse,
    Field,
    IdentifiedResult,
    NoteRow,
    Owner,
    Register,
    RejectReason,
    RepairRequest,
    RepairResponse,
    ResultId,
    RowKind,
    RowVerdict,
    Run,
    Superseded,
    Tombstone,
    VerdictCode,
)

OTHER = 8
NOW_MS = 1_800_000_000_000
OWNERS = (Owner(ALIAS, SYNC_KEY), Owner(OTHER, b"o" * 32))


def asked(store: Store, limit: int = 100) -> ExchangeRequest:
    """Everything that waits, as one request."""
    waiting, state = store.pending(limit=limit), store.sync_state()
    return ExchangeRequest(
        device_alias=ALIAS,
        epoch=waiting.epoch,
        cursor=state.cursor,
        owners_known=state.owners,
        results=waiting.results,
        annotations=waiting.annotations,
        annotation_bases=waiting.annotation_bases,
        alerts=waiting.alerts,
        notes=waiting.notes,
        deletions=waiting.deletions,
    )


def answered(store: Store, request: ExchangeRequest | None = None, **said: object) -> SyncState:
    """Apply an answer that takes everything, unless it says otherwise."""
    request = asked(store) if request is None else request
    state = store.sync_state()
    seq = state.cursor.commit_seq + 1
    response = ExchangeResponse(
        acknowledged=request.results[-1].counter if request.results else state.acknowledged,
        notes_acknowledged=request.notes[-1].counter if request.notes else 0,
        cursor=Cursor(1, seq),
        capabilities=int(Capability.FEED),
        owners=OWNERS if not state.owners else (),
    )
    return store.apply_exchange(request, msgspec.structs.replace(response, **said), at_ms=NOW_MS + seq)


def others(make_window: MakeWindow, *seeds: int, alias: int = OTHER) -> tuple[IdentifiedResult, ...]:
    rows = [msgspec.structs.replace(to_row(make_window(seed)[0]), counter=seed + 1) for seed in seeds]
    return tuple(IdentifiedResult(device_alias=alias, epoch=1, row=row) for row in rows)


def test_only_what_is_new_of_an_annotation_goes_up_with_the_mark_of_what_was_known(
    store: Store, make_window: MakeWindow
) -> None:
    filled(store, make_window, 1)
    answered(store)
    store.annotate(annotation(hlc=10))
    first = store.pending(limit=10)
    answered(store)
    store.annotate(msgspec.structs.replace(annotation(hlc=10), comment=Register("later", 20)))
    store.annotate(msgspec.structs.replace(annotation(hlc=10), comment=Register("latest", 30)))

    waiting = store.pending(limit=10)

    assert first.annotation_bases == ((0, 0),)
    assert [(row.rhythm, row.comment) for row in waiting.annotations] == [(Register("", 0), Register("latest", 30))]
    assert waiting.annotation_bases == ((0, base_mark(10)),)


def test_a_refused_annotation_waits_no_more_until_it_is_changed(store: Store, make_window: MakeWindow) -> None:
    filled(store, make_window, 1)
    answered(store)
    store.annotate(annotation(hlc=10))
    said = AnnotationVerdict(RowKind.ANNOTATION, ALIAS, 1, 1, "p1", RejectReason.CLOCK_SKEW)

    state = answered(store, refused=(said,))

    assert state.refused_words == (said,)
    assert (state.waiting, store.pending(limit=10).annotations) == (0, ())
    assert store.annotations() == [annotation(hlc=10)]
    store.annotate(annotation(comment="again", hlc=11))
    assert len(store.pending(limit=10).annotations) == 1
    assert store.sync_state().refused_words == ()


def test_an_urgent_result_goes_ahead_once_and_counts_once(store: Store, make_window: MakeWindow) -> None:
    store.put_setting("sync_key", SYNC_KEY)
    for seed in range(4):
        result, segment = make_window(seed)
        store.append_window(replace(result, tier=RiskTier.URGENT if seed == 3 else RiskTier.ROUTINE), segment)
    request = asked(store, limit=2)
    assert [row.counter for row in request.alerts] == [4]
    assert store.sync_state().waiting_alerts == 1

    state = answered(store, request)

    assert (state.acknowledged, state.digest.count, state.waiting_alerts) == (2, 3, 0)
    assert store.pending(limit=1).alerts == ()
    verdicts = (RowVerdict(4, VerdictCode.DUPLICATE, RejectReason.NONE),)
    assert answered(store, verdicts=verdicts).digest.count == 4


def test_results_of_others_are_kept_counted_and_come_back_as_they_came(store: Store, make_window: MakeWindow) -> None:
    store.put_setting("sync_key", SYNC_KEY)
    (first, second) = others(make_window, 0, 1)
    second = msgspec.structs.replace(second, row=msgspec.structs.replace(second.row, extra=((64, 7), (65, b"x"))))

    state = answered(store, results=(first, second))

    assert list(store.replicas(0, 2**60)) == [first, second]
    assert store.replica(ResultId(OTHER, 1, 2)) == second
    assert store.replica(ResultId(OTHER, 1, 3)) is None
    assert [(one.device_alias, one.kind, one.count) for one in state.digests] == [(OTHER, 1, 2)]
    assert store.shares(OTHER, 1).n_results == len(store.shares(OTHER, 1).shares) == 2
    assert store.shares(OTHER, 1).result_ids.tolist() == [[1, first.row.counter], [1, second.row.counter]]
    assert store.shares(OTHER, 2).result_ids.tolist() == []
    assert store.stats().replicas == 2


def test_an_owner_whose_key_is_not_known_is_asked_for(store: Store, make_window: MakeWindow) -> None:
    store.put_setting("sync_key", SYNC_KEY)

    state = answered(store, results=others(make_window, 0), owners=OWNERS[:1])

    assert (state.owners, state.digests) == (0, ())
    state = answered(store)
    assert (state.owners, [one.count for one in state.digests]) == (2, [1])
    assert store.owners() == list(OWNERS)


def test_notes_run_in_their_own_log_and_are_listed_with_those_of_others(store: Store) -> None:
    store.put_setting("sync_key", SYNC_KEY)
    answered(store)
    mine = [store.add_note("p", text, at_ms=at_ms) for text, at_ms in (("one", 30), ("two", 10))]
    theirs = NoteRow(device_alias=OTHER, epoch=1, counter=1, author="p", at_ms=20, text="three")

    state = answered(store, notes=(theirs,))

    assert [note.counter for note in mine] == [1, 2]
    assert list(store.notes(0, 100)) == [mine[1], theirs, mine[0]]
    assert list(store.notes(15, 100, limit=1)) == [theirs]
    assert (state.waiting_notes, store.pending(limit=9).notes) == (0, ())
    assert {(one.device_alias, one.kind): one.count for one in state.digests} == {(ALIAS, 2): 2, (OTHER, 2): 1}
    with pytest.raises(InputError, match="longer"):
        store.add_note("p", "x" * 2_001, at_ms=1)


def test_a_note_under_a_counter_that_was_used_is_given_again_in_a_new_epoch(store: Store) -> None:
    store.put_setting("sync_key", SYNC_KEY)
    answered(store)
    store.add_note("p", "mine", at_ms=5)
    reason = RejectReason.CONFLICTS_WITH_STORED

    state = answered(store, refused=(AnnotationVerdict(RowKind.NOTE, ALIAS, 1, 1, "", reason),))

    (forked,) = [event for event in store.take_events() if isinstance(event, StoreForked)]
    assert forked.reason is ForkReason.COUNTER_REUSED
    assert state.waiting_notes == 1
    assert [(note.epoch, note.counter, note.text) for note in store.pending(limit=9).notes] == [
        (forked.new_epoch, 1, "mine")
    ]


def test_a_deleted_note_is_sent_first_then_deleted_and_stays_away(store: Store) -> None:
    store.put_setting("sync_key", SYNC_KEY)
    answered(store)
    store.add_note("p", "never mind", at_ms=5)
    name = Tombstone(RowKind.NOTE, ALIAS, 1, 1)

    store.delete(name)

    assert store.notes(0, 9) == []
    assert (len(store.pending(limit=9).notes), store.pending(limit=9).deletions) == (1, ())
    assert answered(store).waiting_deletions == 1
    assert store.pending(limit=9).deletions == (name,)
    state = answered(store)
    assert (state.waiting, state.digests) == (0, ())
    heard = NoteRow(device_alias=ALIAS, epoch=1, counter=1, author="p", at_ms=5, text="never mind")
    answered(store, notes=(heard,))
    assert store.notes(0, 9) == []
    assert store.pending(limit=9).deletions == (name,)
    with pytest.raises(InputError):
        store.delete(name)


@pytest.mark.parametrize("refused", [False, True])
def test_a_deleted_annotation_goes_unless_that_is_refused(store: Store, make_window: MakeWindow, refused: bool) -> None:
    filled(store, make_window, 1)
    answered(store)
    store.annotate(annotation())
    answered(store)
    name = Tombstone(RowKind.ANNOTATION, ALIAS, 1, 1, "p1")

    store.delete(name)

    assert store.annotations() == []
    said = AnnotationVerdict(RowKind.ANNOTATION, ALIAS, 1, 1, "p1", RejectReason.NOT_ALLOWED)
    state = answered(store, refused=(said,) if refused else ())
    assert store.annotations() == ([annotation()] if refused else [])
    assert state.digest.count == 1 + refused
    assert state.refused_words == ((said,) if refused else ())


def test_tombstones_take_results_of_others_and_refuse_own_ones(store: Store, make_window: MakeWindow) -> None:
    (mine,) = filled(store, make_window, 1)
    answered(store, results=others(make_window, 0, 1), annotations=(annotation(),))
    lost = Superseded(ResultId(ALIAS, 1, 1), "p1", 2, 3, "before")
    answered(store, superseded=(lost,))
    assert store.superseded(ResultId(ALIAS, 1, 1)) == [lost]

    state = answered(store, tombstones=(Tombstone(RowKind.RESULT, OTHER, 1, 1), Tombstone(RowKind.RESULT, ALIAS, 1, 1)))

    assert [one.row.counter for one in store.replicas(0, 2**60)] == [2]
    assert store.result(1) == mine
    assert state.refused == (RowVerdict(1, VerdictCode.REJECTED, RejectReason.DELETED),)
    assert (store.annotations(), store.superseded(), state.digest.count) == ([], [], 0)


def test_a_late_answer_brings_nothing_back(store: Store, make_window: MakeWindow) -> None:
    store.put_setting("sync_key", SYNC_KEY)
    request = asked(store)
    late = ExchangeResponse(
        acknowledged=0,
        cursor=Cursor(1, 1),
        results=others(make_window, 0),
        owners=OWNERS,
        capabilities=int(Capability.FEED),
    )
    store.apply_exchange(request, late, at_ms=1)
    answered(store, tombstones=(Tombstone(RowKind.RESULT, OTHER, 1, 1),))

    store.apply_exchange(request, late, at_ms=3)

    assert store.replicas(0, 2**60) == []


def test_documents_only_get_newer(store: Store) -> None:
    store.put_setting("sync_key", SYNC_KEY)
    newer, older = (
        Document(name="settings/a", version=version, issued_at_ms=1, body=b"{}", signature=b"s") for version in (2, 1)
    )
    answered(store, documents=(newer,))
    answered(store, documents=(older,))

    assert store.documents() == [newer]


def test_what_retention_drops_stays_in_its_bucket_and_does_not_come_back(store: Store, make_window: MakeWindow) -> None:
    filled(store, make_window, 3)
    down = others(make_window, 0, 1, 2)
    before = answered(store, results=down)

    report = store.retain(RetentionPolicy(results_max_age_ms=0), at_ms=NOW_MS)

    assert (report.results, report.replicas) == (3, 3)
    after = answered(store, results=down)
    assert (after.digest, after.digests) == (before.digest, before.digests)
    assert store.stats().replicas == 0
    assert len(store.shares(OTHER, 1).shares) == len(store.shares(ALIAS, 1).shares) == 3


def test_a_new_enrolment_forgets_others_and_keeps_own_notes_under_the_former_name(
    store: Store, make_window: MakeWindow
) -> None:
    store.put_setting("sync_key", SYNC_KEY)
    answered(store)
    mine = store.add_note("p", "mine", at_ms=5)
    theirs = NoteRow(device_alias=OTHER, epoch=1, counter=1, author="p", at_ms=20, text="theirs")
    answered(store, results=others(make_window, 0), notes=(theirs,))

    store.put_setting("sync_key", b"n" * 32)

    state = store.sync_state()
    assert (state.waiting, state.owners, state.capabilities) == (0, 0, 0)
    assert (list(store.notes(0, 99)), store.replicas(0, 2**60), store.owners()) == ([mine], [], [])
    store.delete(Tombstone(RowKind.NOTE, ALIAS, 1, 1))
    assert (store.notes(0, 99), store.sync_state().waiting_deletions) == ([], 0)


def test_what_the_server_lost_is_given_back(store: Store, make_window: MakeWindow) -> None:
    filled(store, make_window, 3)
    answered(store)
    request = RepairRequest(device_alias=ALIAS, owner=ALIAS, kind=1, wanted=(Run(1, 1, 3),))
    held = others(make_window, 0, 2, alias=ALIAS)

    state = store.apply_repair(
        request, RepairResponse(results=held, held=(Run(1, 1, 3),), cursor=Cursor(1, 1)), at_ms=9
    )

    given, segments = store.to_give(limit=9)
    assert [one.row.counter for one in given] == [2]
    assert segments == (make_window(1)[0].segment_digest,)
    assert (state.digest.count, state.waiting_given) == (2, 1)
    request = RepairRequest(device_alias=ALIAS, owner=ALIAS, kind=1, given=given)
    taken = RepairResponse(verdicts=(VerdictCode.ACCEPTED,), held=(Run(1, 1, 3),), cursor=Cursor(1, 1))
    state = store.apply_repair(request, taken, at_ms=9)
    assert (state.digest.count, state.waiting_given) == (3, 0)


def test_rebaseline_is_kept_until_all_is_equal(open_store: StoreMaker) -> None:
    store = open_store()
    store.put_setting("sync_key", SYNC_KEY)
    assert answered(store, rebaseline=True).rebaseline
    assert answered(store, more=True).rebaseline
    assert not answered(store).rebaseline
    store.close()


# ---- new histories, holes, repairs -----------------------------------------------------------------------------------


def note(counter: int, text: str = "n", alias: int = OTHER) -> NoteRow:
    return NoteRow(device_alias=alias, epoch=1, counter=counter, author="p", at_ms=counter, text=text)


def told_all(store: Store, make_window: MakeWindow) -> SyncState:
    """A store with rows of every kind, all of which the server is known to hold."""
    filled(store, make_window, 2)
    answered(store)
    store.annotate(annotation())
    store.add_note("p", "first", at_ms=1)
    store.add_note("p", "second", at_ms=2)
    answered(store)
    store.delete(Tombstone(RowKind.NOTE, ALIAS, 1, 1))
    answered(store)
    words = msgspec.structs.replace(annotation(author="clinician"), target=ResultId(OTHER, 1, 1))
    lost = Superseded(ResultId(ALIAS, 1, 1), "p1", 2, 3, "before")
    return answered(
        store,
        results=(*others(make_window, 0, 1), *others(make_window, 6, alias=ALIAS)),
        annotations=(words,),
        notes=(note(1),),
        superseded=(lost,),
    )


def counts(state: SyncState) -> dict[tuple[int, int], int]:
    return {(ALIAS, 1): state.digest.count} | {(one.device_alias, one.kind): one.count for one in state.digests}


def test_a_new_history_has_everything_heard_again_and_nothing_forgotten(store: Store, make_window: MakeWindow) -> None:
    assert counts(told_all(store, make_window)) == {(ALIAS, 1): 4, (ALIAS, 2): 2, (OTHER, 1): 3, (OTHER, 2): 1}
    listed = list(store.notes(0, 99))

    state = answered(store, cursor=Cursor(2, 1), acknowledged=1, notes_acknowledged=0)

    assert counts(state) == {(ALIAS, 1): 1}
    assert list(store.notes(0, 99)) == listed
    assert len(store.replicas(0, 2**60)) == 3
    assert len(store.superseded()) == 1
    waiting = store.pending(limit=9)
    assert [row.counter for row in waiting.results] == [2]
    assert [(row.counter, row.text) for row in waiting.notes] == [(1, ""), (2, "second")]
    assert (state.waiting_deletions, waiting.annotation_bases) == (1, ((0, 0),))
    answered(store, cursor=Cursor(2, 2))
    state = answered(store, cursor=Cursor(2, 3))
    assert counts(state) == {(ALIAS, 1): 3, (ALIAS, 2): 1}


def test_a_repair_drops_what_the_server_lacks_and_says_own_words_again(store: Store, make_window: MakeWindow) -> None:
    told_all(store, make_window)
    for owner, kind in ((ALIAS, 1), (ALIAS, 2), (OTHER, 1), (OTHER, 2)):
        request = RepairRequest(device_alias=ALIAS, owner=owner, kind=kind, page=0)
        state = store.apply_repair(request, RepairResponse(cursor=Cursor(1, 9)), at_ms=9)
        assert store.apply_repair(request, RepairResponse(cursor=Cursor(1, 9)), at_ms=9) == state

    assert counts(state) == {(ALIAS, 1): 0}
    assert [one.device_alias for one in store.replicas(0, 2**60)] == [ALIAS]
    assert [row.author for row in store.annotations()] == ["p1"]
    assert (store.superseded(), [row.text for row in store.notes(0, 99)]) == ([], ["second"])
    assert state.refused_words == (AnnotationVerdict(RowKind.NOTE, ALIAS, 1, 2, "", RejectReason.DELETED),)
    assert (state.waiting_annotations, state.waiting_given) == (1, 2)


def test_a_repair_of_another_history_or_before_any_exchange_changes_nothing(
    store: Store, make_window: MakeWindow
) -> None:
    request = RepairRequest(device_alias=ALIAS, owner=OTHER, kind=1, page=0)
    before = store.sync_state()
    assert store.apply_repair(request, RepairResponse(results=others(make_window, 0)), at_ms=1) == before
    state = told_all(store, make_window)
    assert store.apply_repair(request, RepairResponse(cursor=Cursor(2, 1)), at_ms=1) == state


def test_a_share_of_a_dropped_result_goes_where_the_server_lacks_it(store: Store, make_window: MakeWindow) -> None:
    filled(store, make_window, 3)
    answered(store)
    store.retain(RetentionPolicy(results_max_age_ms=0), at_ms=NOW_MS)
    request = RepairRequest(device_alias=ALIAS, owner=ALIAS, kind=1, wanted=(Run(1, 1, 3),))
    held = others(make_window, 0, 2, alias=ALIAS)

    state = store.apply_repair(
        request, RepairResponse(results=held, held=(Run(1, 1, 3),), cursor=Cursor(1, 1)), at_ms=9
    )

    assert (state.digest.count, state.waiting_given, store.stats().replicas) == (2, 0, 0)


def test_what_is_given_back_and_refused_counts_as_deleted_and_another_row_there_has_it_given_again(
    store: Store, make_window: MakeWindow
) -> None:
    filled(store, make_window, 2)
    answered(store)
    request = RepairRequest(device_alias=ALIAS, owner=ALIAS, kind=1, wanted=(Run(1, 1, 2),))
    stranger = msgspec.structs.replace(others(make_window, 5, alias=ALIAS)[0])
    stranger = msgspec.structs.replace(stranger, row=msgspec.structs.replace(stranger.row, counter=2))
    taken = RepairResponse(results=(stranger,), held=(Run(1, 2, 2),), cursor=Cursor(1, 1))
    store.apply_repair(request, taken, at_ms=9)
    # The other row came, so what the run lacks is the first; the second is found lost by its share.
    given, _ = store.to_give(limit=9)
    request = RepairRequest(device_alias=ALIAS, owner=ALIAS, kind=1, given=given)
    verdicts = (int(VerdictCode.REJECTED),) * len(given)

    state = store.apply_repair(
        request, RepairResponse(verdicts=verdicts, held=(Run(1, 2, 2),), cursor=Cursor(1, 1)), at_ms=9
    )

    assert RowVerdict(1, VerdictCode.REJECTED, RejectReason.DELETED) in state.refused
    assert state.waiting_given == 0


def test_a_hole_in_the_notes_is_passed_or_what_follows_is_given_again(open_store: StoreMaker) -> None:
    for covered in (True, False):
        store = open_store()
        store.put_setting("sync_key", SYNC_KEY)
        answered(store)
        for text in ("a", "b"):
            store.add_note("p", text, at_ms=1)
        lose_first_note(store)
        assert store.pending(limit=9).notes == ()

        answered(store, notes_acknowledged=1 if covered else 0)

        (waiting,) = store.pending(limit=9).notes
        assert (waiting.text, waiting.counter) == ("b", 2 if covered else 1)
        assert (waiting.epoch == 1) is covered
        store.close()


def lose_first_note(store: Store) -> None:
    """As damage does."""
    if isinstance(store, MemoryStore):
        del store._books.own_notes[1, 1]
    else:
        assert isinstance(store, SqlCipherStore)
        store._writer.write(lambda rows: rows.delete("own_note", (position_of(1, 1),)))


def test_tombstones_of_words(store: Store, make_window: MakeWindow) -> None:
    told_all(store, make_window)
    store.annotate(annotation(comment="newer", hlc=20))
    gone = (
        Tombstone(RowKind.ANNOTATION, ALIAS, 1, 1, "p1", 10),
        Tombstone(RowKind.ANNOTATION, OTHER, 1, 1, "clinician"),
        Tombstone(RowKind.NOTE, OTHER, 1, 1),
        Tombstone(RowKind.NOTE, ALIAS, 1, 2),
        Tombstone(RowKind.NOTE, ALIAS, 1, 9),
        Tombstone(9, ALIAS, 1, 1),
    )

    state = answered(store, asked(store, limit=0), tombstones=gone)

    assert [(row.author, row.comment.value) for row in store.annotations()] == [("p1", "newer")]
    assert store.notes(0, 99) == []
    assert counts(state) == {(ALIAS, 1): 3, (OTHER, 1): 2}
    assert store.superseded() == []


def test_refused_deletions_of_notes_bring_them_back_and_refused_notes_stay(store: Store) -> None:
    store.put_setting("sync_key", SYNC_KEY)
    answered(store)
    store.add_note("p", "kept", at_ms=1)
    store.add_note("p", "refused", at_ms=2)
    store.add_note("p", "gone before it was known", at_ms=3)
    said = AnnotationVerdict(RowKind.NOTE, ALIAS, 1, 2, "", RejectReason.NOT_ALLOWED)
    store.delete(Tombstone(RowKind.NOTE, ALIAS, 1, 3))
    hidden = AnnotationVerdict(RowKind.NOTE, ALIAS, 1, 3, "", RejectReason.CONFLICTS_WITH_STORED)
    state = answered(store, refused=(said, hidden))
    assert (state.refused_words, state.waiting, state.epoch) == ((said,), 0, 1)
    store.delete(Tombstone(RowKind.NOTE, ALIAS, 1, 1))

    state = answered(store, refused=(AnnotationVerdict(RowKind.NOTE, ALIAS, 1, 1, "", RejectReason.NOT_ALLOWED),))

    assert [row.text for row in store.notes(0, 9)] == ["kept", "refused"]
    assert len(state.refused_words) == 2


def test_own_notes_that_were_lost_here_come_back_and_can_be_deleted(store: Store) -> None:
    store.put_setting("sync_key", SYNC_KEY)
    state = answered(store, notes=(note(4, "old", ALIAS), note(5, "older", 0)))
    assert counts(state) == {(ALIAS, 1): 0, (ALIAS, 2): 1, (0, 2): 1}
    name = Tombstone(RowKind.NOTE, ALIAS, 1, 4)

    store.delete(name)

    assert [row.text for row in store.notes(0, 9)] == ["older"]
    assert store.pending(limit=9).deletions == (name,)
    assert counts(answered(store)) == {(ALIAS, 1): 0, (0, 2): 1}


def test_an_alert_may_be_refused_deleted_or_given_again(store: Store, make_window: MakeWindow) -> None:
    store.put_setting("sync_key", SYNC_KEY)
    for seed in range(4):
        result, segment = make_window(seed)
        store.append_window(replace(result, tier=RiskTier.URGENT if seed > 0 else RiskTier.ROUTINE), segment)
    conflict = RowVerdict(4, VerdictCode.REJECTED, RejectReason.CONFLICTS_WITH_STORED)
    state = answered(store, asked(store, limit=1), verdicts=())
    assert state.digest.count == 2  # one in its turn, one ahead: as many as the limit
    state = answered(store, asked(store, limit=0), tombstones=(Tombstone(RowKind.RESULT, ALIAS, 1, 2),))
    assert state.digest.count == 1

    request = asked(store, limit=2)
    assert [row.counter for row in request.alerts] == [4]
    state = answered(store, request, verdicts=(conflict,))

    assert state.digest.count == 3


def test_what_waits_in_the_current_epoch_can_be_asked_for_while_a_closed_one_waits(
    store: Store, make_window: MakeWindow
) -> None:
    """R7 and R14: the closed one's result was refused as another's, in an answer that did not show everything."""
    filled(store, make_window, 1)
    conflict = RowVerdict(1, VerdictCode.REJECTED, RejectReason.CONFLICTS_WITH_STORED)
    epoch = answered(store, verdicts=(conflict,), more=True).epoch
    for seed, tier in ((1, RiskTier.ROUTINE), (2, RiskTier.URGENT)):
        result, segment = make_window(seed)
        store.append_window(replace(result, tier=tier), segment)
    note = store.add_note("p1", "as well", at_ms=NOW_MS)

    waiting, current = store.pending(limit=1), store.pending(limit=1, current=True)

    assert (waiting.epoch, [row.counter for row in waiting.results], waiting.alerts) == (1, [1], ())
    assert (current.epoch, [row.counter for row in current.results]) == (epoch, [1])
    assert [row.counter for row in current.alerts] == [2]
    assert [(row.epoch, row.text) for row in current.notes] == [(note.epoch, "as well")]
    assert note.epoch == epoch != 1


def test_of_the_current_epoch_nothing_may_wait(store: Store, make_window: MakeWindow) -> None:
    filled(store, make_window, 1)
    store.add_note("p1", "of the closed epoch", at_ms=NOW_MS)
    request = msgspec.structs.replace(asked(store), notes=())
    conflict = RowVerdict(1, VerdictCode.REJECTED, RejectReason.CONFLICTS_WITH_STORED)
    epoch = answered(store, request, verdicts=(conflict,), more=True).epoch

    current = store.pending(limit=9, current=True)

    assert (current.epoch, current.results, current.alerts, current.notes) == (epoch, (), (), ())


def test_another_key_of_an_owner_has_its_buckets_computed_anew(store: Store, make_window: MakeWindow) -> None:
    before = told_all(store, make_window)
    store.retain(RetentionPolicy(results_max_age_ms=0), at_ms=NOW_MS)
    owners = (OWNERS[0], Owner(OTHER, b"q" * 32))

    state = answered(store, owners=owners)

    assert counts(state)[OTHER, 2] == 1
    assert {one.total for one in state.digests} != {one.total for one in before.digests}
    state = answered(store, owners=OWNERS[:1])
    assert set(counts(state)) == {(ALIAS, 1), (ALIAS, 2)}


def test_words_that_were_never_sent_are_simply_gone(store: Store, make_window: MakeWindow) -> None:
    filled(store, make_window, 1)
    store.annotate(annotation())

    store.delete(Tombstone(RowKind.ANNOTATION, ALIAS, 1, 1, "p1"))

    assert (store.annotations(), store.sync_state().waiting_deletions) == ([], 0)
    for name in (
        Tombstone(RowKind.ANNOTATION, ALIAS, 1, 1, "p1"),
        Tombstone(RowKind.NOTE, ALIAS, 1, 1),
        Tombstone(RowKind.RESULT, ALIAS, 1, 1),
    ):
        with pytest.raises(InputError, match="no such"):
            store.delete(name)


def test_a_note_that_was_deleted_before_the_first_exchange_gets_this_devices_name(store: Store) -> None:
    store.put_setting("sync_key", SYNC_KEY)
    row = store.add_note("p", "x", at_ms=1)
    store.delete(Tombstone(RowKind.NOTE, row.device_alias, row.epoch, row.counter))
    answered(store, asked(store, limit=0))

    answered(store)

    assert store.pending(limit=9).deletions == (Tombstone(RowKind.NOTE, ALIAS, 1, 1),)


def test_a_store_that_never_spoke_keeps_its_notes_through_another_enrolment(store: Store) -> None:
    store.put_setting("sync_key", SYNC_KEY)
    kept, gone = (store.add_note("p", text, at_ms=1) for text in ("kept", "gone"))
    store.delete(Tombstone(RowKind.NOTE, gone.device_alias, gone.epoch, gone.counter))

    store.put_setting("sync_key", b"n" * 32)

    assert store.notes(0, 9) == [kept]
    state = store.sync_state()
    assert (state.waiting_notes, state.waiting_deletions) == (2, 1)


def test_an_annotation_written_anew_waits_for_the_deletion_of_the_old_one(
    store: Store, make_window: MakeWindow
) -> None:
    filled(store, make_window, 1)
    answered(store)
    store.annotate(annotation())
    answered(store)
    store.delete(Tombstone(RowKind.ANNOTATION, ALIAS, 1, 1, "p1"))
    anew = annotation(comment="anew", hlc=30)
    assert store.annotate(anew) == anew

    assert (store.pending(limit=9).annotations, len(store.pending(limit=9).deletions)) == ((), 1)
    answered(store)
    waiting = store.pending(limit=9)
    assert (waiting.annotations, waiting.annotation_bases) == ((anew,), ((0, 0),))
    assert answered(store).digest.count == 2


def test_a_word_that_was_overtaken_before_it_was_sent_goes_up_once(store: Store, make_window: MakeWindow) -> None:
    filled(store, make_window, 1)
    answered(store)
    store.annotate(annotation(comment="mine", hlc=10))
    later = annotation(comment="theirs", hlc=20)
    question = msgspec.structs.replace(asked(store), annotations=(), annotation_bases=())
    answered(store, question, annotations=(later,))
    assert store.annotations() == [later]

    waiting = store.pending(limit=9)

    assert [row.comment for row in waiting.annotations] == [Register("mine", 10)]
    assert waiting.annotation_bases == ((0, 0),)
    assert store.sync_state().waiting_annotations == 1
    assert answered(store).waiting_annotations == 0


def test_a_refused_word_that_is_overtaken_goes_up_once_more(store: Store, make_window: MakeWindow) -> None:
    filled(store, make_window, 1)
    answered(store)
    store.annotate(annotation(comment="mine", hlc=10))
    refused = AnnotationVerdict(RowKind.ANNOTATION, ALIAS, 1, 1, "p1", RejectReason.CLOCK_SKEW)
    answered(store, refused=(refused,))

    state = answered(store, annotations=(annotation(comment="theirs", hlc=20),))

    assert (state.waiting_annotations, state.refused_words) == (1, ())
    assert [row.comment for row in store.pending(limit=9).annotations] == [Register("mine", 10)]
    assert answered(store, refused=(refused,)).waiting_annotations == 0
    assert store.annotations() == [annotation(comment="theirs", hlc=20)]


def test_a_result_that_was_given_again_before_is_not_given_a_third_time(store: Store, make_window: MakeWindow) -> None:
    (mine,) = filled(store, make_window, 1)
    store.annotate(annotation())
    row = msgspec.structs.replace(to_row(mine), counter=5)
    conflict = (RowVerdict(1, VerdictCode.REJECTED, RejectReason.CONFLICTS_WITH_STORED),)
    question = msgspec.structs.replace(asked(store), results=())
    answered(store, question, results=(IdentifiedResult(device_alias=ALIAS, epoch=9, row=row),))

    state = answered(store, verdicts=conflict)

    assert (state.last_counter, store.stats().results) == (0, 0)
    assert [(one.epoch, one.row.counter) for one in store.replicas(0, 2**60)] == [(9, 5)]
    assert [row.target for row in store.pending(limit=9).annotations] == [ResultId(ALIAS, 9, 5)]


def test_a_deletion_goes_as_far_as_it_says(store: Store, make_window: MakeWindow) -> None:
    filled(store, make_window, 1)
    answered(store)
    store.annotate(annotation(hlc=10))
    answered(store)
    lost = Superseded(ResultId(ALIAS, 1, 1), "p1", 2, 9, "before")
    answered(store, superseded=(lost,))
    store.delete(Tombstone(RowKind.ANNOTATION, ALIAS, 1, 1, "p1"))
    (pushed,) = store.pending(limit=9).deletions
    assert pushed.hlc == 10
    heard = msgspec.structs.replace(annotation(hlc=10), comment=Register("elsewhere", 30))
    answered(store, msgspec.structs.replace(asked(store), deletions=()), annotations=(heard,))

    answered(store)

    assert [(row.rhythm, row.comment) for row in store.annotations()] == [(Register("", 0), Register("elsewhere", 30))]
    assert store.superseded() == []


def test_a_result_is_given_again_only_once_all_that_the_server_has_was_heard(
    store: Store, make_window: MakeWindow
) -> None:
    (mine,) = filled(store, make_window, 1)
    conflict = (RowVerdict(1, VerdictCode.REJECTED, RejectReason.CONFLICTS_WITH_STORED),)

    state = answered(store, verdicts=conflict, more=True)

    assert state.epoch != 1, "forked"
    assert (state.waiting, store.pending(limit=9).epoch) == (1, 1), "and waits where it is"
    row = msgspec.structs.replace(to_row(mine), counter=5)
    came = (IdentifiedResult(device_alias=ALIAS, epoch=9, row=row),)
    state = answered(store, verdicts=conflict, results=came)
    assert (state.waiting, state.last_counter, store.stats().results) == (0, 0, 0)
    assert [(one.epoch, one.row.counter) for one in store.replicas(0, 2**60)] == [(9, 5)]


def test_what_stands_where_an_equal_row_came_from_is_given_again_as_well(store: Store, make_window: MakeWindow) -> None:
    (mine,) = filled(store, make_window, 1)
    store.annotate(annotation())
    conflict = (RowVerdict(1, VerdictCode.REJECTED, RejectReason.CONFLICTS_WITH_STORED),)
    epoch = answered(store, verdicts=conflict, more=True).epoch
    # In a life that this one does not know of, the first was given again there.
    came = (IdentifiedResult(device_alias=ALIAS, epoch=epoch, row=to_row(mine)),)
    later = store.append_window(*make_window(1))
    store.annotate(annotation(comment="of the later one", epoch=epoch))

    state = answered(store, verdicts=conflict, results=came)

    assert (state.epoch != epoch, state.last_counter, store.stats().results) == (True, 1, 1)
    assert store.pending(limit=9).results == (to_row(later),)
    assert [(one.epoch, one.row) for one in store.replicas(0, 2**60)] == [(epoch, to_row(mine))]
    words = {row.target.epoch: row.comment.value for row in store.annotations()}
    assert words == {epoch: "seen", state.epoch: "of the later one"}


def test_a_note_that_was_given_again_where_another_stands_now_is_not_given_a_third_time(store: Store) -> None:
    store.put_setting("sync_key", SYNC_KEY)
    mine = store.add_note("p", "mine", at_ms=5)
    conflict = (AnnotationVerdict(RowKind.NOTE, ALIAS, 1, 1, "", RejectReason.CONFLICTS_WITH_STORED),)
    epoch = answered(store, refused=conflict, more=True).epoch
    came = (msgspec.structs.replace(mine, device_alias=ALIAS, epoch=epoch),)
    store.add_note("p", "later", at_ms=6)

    state = answered(store, refused=conflict, notes=came)

    assert (state.epoch, state.waiting_notes) == (epoch, 1)
    assert [row.text for row in store.pending(limit=9).notes] == ["later"]
    taken = (AnnotationVerdict(RowKind.NOTE, ALIAS, epoch, 1, "", RejectReason.CONFLICTS_WITH_STORED),)
    answered(store, refused=taken)
    assert [row.text for row in store.notes(0, 9)] == ["mine", "later"]


@pytest.mark.parametrize("came_before", [True, False])
def test_a_note_is_given_again_only_once_all_that_the_server_has_was_heard(store: Store, came_before: bool) -> None:
    store.put_setting("sync_key", SYNC_KEY)
    mine = store.add_note("p", "mine", at_ms=5)
    conflict = (AnnotationVerdict(RowKind.NOTE, ALIAS, 1, 1, "", RejectReason.CONFLICTS_WITH_STORED),)

    state = answered(store, refused=conflict, more=True)

    assert (state.epoch != 1, state.waiting_notes, store.pending(limit=9).epoch) == (True, 1, 1)
    came = (msgspec.structs.replace(mine, device_alias=ALIAS, epoch=9),) if came_before else ()
    state = answered(store, refused=conflict, notes=came)
    waiting = store.pending(limit=9)
    assert (state.waiting_notes, len(waiting.notes)) == ((0, 0) if came_before else (1, 1))
    assert waiting.epoch == state.epoch
    assert [row.text for row in store.notes(0, 9)] == ["mine"]


def test_the_rest_is_heard_in_an_epoch_in_which_nothing_was_written(store: Store, make_window: MakeWindow) -> None:
    filled(store, make_window, 1)
    conflict = (RowVerdict(1, VerdictCode.REJECTED, RejectReason.CONFLICTS_WITH_STORED),)
    first = answered(store, verdicts=conflict, more=True).epoch
    assert answered(store, verdicts=conflict, more=True).epoch == first, "nothing was written there"
    store.add_note("p", "of a later life", at_ms=6)

    state = answered(store, verdicts=conflict, more=True)

    assert state.epoch not in (1, first)
    assert (store.pending(limit=9).epoch, len(store.pending(limit=9).results)) == (1, 1)


def test_a_hole_is_judged_only_once_all_that_the_server_has_was_heard(store: Store, make_window: MakeWindow) -> None:
    filled(store, make_window, 2)
    answered(store)
    store.retain(RetentionPolicy(results_max_age_ms=1), at_ms=NOW_MS + 10**12)
    store.put_setting("sync_key", b"n" * 32)
    store.append_window(*make_window(7))
    assert store.pending(limit=9).results == (), "there is a hole"

    assert answered(store, acknowledged=0, more=True).epoch == 1
    assert answered(store, acknowledged=0).epoch != 1


def test_former_notes_that_the_new_server_did_not_send_are_said_again_once(store: Store) -> None:
    store.put_setting("sync_key", SYNC_KEY)
    sent, unsent = (store.add_note("p", text, at_ms=at_ms) for text, at_ms in (("sent", 1), ("unsent", 2)))
    answered(store, notes_acknowledged=1)
    assert store.say_former_notes("p") == 0
    store.put_setting("sync_key", b"n" * 32)
    came = msgspec.structs.replace(sent, device_alias=ALIAS)
    request = msgspec.structs.replace(asked(store), device_alias=OTHER)
    answered(store, request, notes=(came,))

    said = store.say_former_notes("q")

    assert (said, store.say_former_notes("q")) == (1, 0)
    (again,) = store.pending(limit=9).notes
    assert (again.author, again.text, again.at_ms, again.counter) == ("q", unsent.text, unsent.at_ms, 1)
    assert [(row.device_alias, row.text) for row in store.notes(0, 9)] == [(ALIAS, "sent"), (OTHER, "unsent")]
    assert store.audit_trail()[-1].action is AuditAction.ANNOTATED


def test_words_that_a_tombstone_spared_are_still_this_devices_to_send(store: Store, make_window: MakeWindow) -> None:
    filled(store, make_window, 1)
    answered(store)
    store.annotate(annotation(hlc=20))
    gone = Tombstone(RowKind.ANNOTATION, ALIAS, 1, 1, "p1", hlc=10)
    assert answered(store, tombstones=(gone,)).waiting == 0

    state = answered(store, cursor=Cursor(2, 1), acknowledged=1)

    assert state.waiting_annotations == 1
    assert store.pending(limit=9).annotations == (annotation(hlc=20),)


def superseded(comment: str, hlc: int, counter: int = 1) -> Superseded:
    return Superseded(ResultId(ALIAS, 1, counter), "p1", Field.COMMENT, hlc, comment)


def comments_up(store: Store) -> list[list[Register]]:
    """The comments of each of the exchanges that it takes until no annotation waits."""
    sent = []
    while store.sync_state().waiting_annotations:
        request = asked(store)
        sent.append([row.comment for row in request.annotations])
        assert set(request.annotation_bases) == {(0, 0)}
        at = request.cursor
        answered(store, request, cursor=Cursor(at.shard_epoch, at.commit_seq + 1))
    return sent


def test_in_a_new_history_own_superseded_writes_are_said_again_after_what_stands(
    store: Store, make_window: MakeWindow
) -> None:
    filled(store, make_window, 2)
    answered(store)
    store.annotate(annotation(comment="mine", hlc=10))
    stands = annotation(comment="theirs", hlc=40)
    strangers = superseded("a stranger's", 5, counter=2)
    lost = superseded("mine", 10), superseded("second", 20), superseded("third", 30)
    assert answered(store, annotations=(stands,), superseded=(*lost, strangers)).waiting == 0

    state = answered(store, cursor=Cursor(2, 1), acknowledged=2, superseded=lost[1:2])

    assert state.waiting_annotations == 1
    assert comments_up(store) == [
        [Register("theirs", 40)],
        [Register("third", 30)],
        [Register("mine", 10)],
    ]
    assert store.superseded() == sorted((*lost, strangers))
    answered(store, cursor=Cursor(3, 1), acknowledged=2, annotations=(stands,))
    assert comments_up(store) == [[Register("third", 30)], [Register("second", 20)], [Register("mine", 10)]]


def test_a_new_history_in_which_superseded_writes_were_said_again_begins_with_the_latest(
    store: Store, make_window: MakeWindow
) -> None:
    filled(store, make_window, 1)
    answered(store)
    store.annotate(annotation(comment="mine", hlc=10))
    stands = annotation(comment="theirs", hlc=40)
    lost = superseded("mine", 10), superseded("second", 20), superseded("third", 30)
    answered(store, annotations=(stands,), superseded=lost)
    answered(store, cursor=Cursor(2, 1), acknowledged=1, annotations=(stands,))
    answered(store, cursor=Cursor(2, 2), acknowledged=1)
    assert [row.comment for row in store.pending(limit=9).annotations] == [Register("second", 20)]
    question = msgspec.structs.replace(asked(store), annotations=(), annotation_bases=())

    answered(store, question, cursor=Cursor(3, 1), acknowledged=1, annotations=(stands,))

    assert comments_up(store) == [[Register("third", 30)], [Register("second", 20)], [Register("mine", 10)]]


def test_the_feed_is_read_from_its_beginning_once_the_server_has_one(store: Store) -> None:
    store.put_setting("sync_key", SYNC_KEY)
    assert answered(store, capabilities=0, cursor=Cursor(1, 7)).cursor == Cursor(1, 7)
    request = asked(store)
    assert answered(store, request, cursor=Cursor(1, 8)).cursor == Cursor(1, 0)
    assert answered(store, request, cursor=Cursor(1, 8)).cursor == Cursor(1, 0)
    assert answered(store, cursor=Cursor(1, 8)).cursor == Cursor(1, 8)


def test_a_store_that_lost_its_place_believes_what_the_server_says_that_it_holds(
    store: Store, make_window: MakeWindow
) -> None:
    filled(store, make_window, 3)
    request = asked(store)
    answered(store, request, cursor=Cursor(0, 0))
    assert store.sync_state().acknowledged == 3

    state = answered(store, cursor=Cursor(3, 1), acknowledged=1)

    assert (state.acknowledged, state.waiting, state.cursor) == (1, 2, Cursor(3, 1))
    assert [row.counter for row in store.pending(limit=9).results] == [2, 3]
    state = answered(store, cursor=Cursor(3, 2), acknowledged=1)
    assert (state.acknowledged, state.waiting) == (1, 2)


def test_in_a_new_history_a_tombstone_still_takes_what_others_said(store: Store, make_window: MakeWindow) -> None:
    filled(store, make_window, 2)
    answered(store)
    gone, later = annotation(author="p2"), annotation(2, "p2", hlc=40)
    mine = annotation()
    store.annotate(mine)
    answered(store, annotations=(gone, later))
    taken = (
        Tombstone(RowKind.ANNOTATION, ALIAS, 1, counter, author, 20)
        for counter, author in ((1, "p2"), (2, "p2"), (1, "p1"))
    )

    answered(store, cursor=Cursor(2, 1), acknowledged=2, tombstones=tuple(taken))

    assert store.annotations() == [mine, later]
