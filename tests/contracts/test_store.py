"""The Store port's acceptance suite: each documented behaviour, on every adapter."""

from __future__ import annotations

import threading
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from tests.contracts.exchanges import (
    ALIAS,
    SYNC_KEY,
    MakeWindow,
    annotation,
    digest_of,
    filled,
    push,
    push_together,
)

from einthoven.errors import InputError, NotEnrolled, SyncError
from einthoven.ports import MISSING_UV, Segment, Store
from einthoven.result_rows import to_row
from einthoven.results import WindowResult
from einthoven.segments import segment_digest
from einthoven.store_rules import MAX_SETTING_BYTES
from einthoven_protocol import digests
from einthoven_protocol.limits import MAX_ANNOTATIONS_PER_EXCHANGE
from einthoven_protocol.merge import merge_annotation
from einthoven_protocol.messages import (
    AnnotationRow,
    Cursor,
    ExchangeRequest,
    ExchangeResponse,
    Register,
    ResultId,
    RowVerdict,
    VerdictCode,
)

# ---- windows ---------------------------------------------------------------------------------------------------------


def test_counters_run_from_one_without_holes(store: Store, make_window: MakeWindow) -> None:
    stored = filled(store, make_window, 5)

    assert [result.counter for result in stored] == [1, 2, 3, 4, 5]


def test_a_stored_result_reads_back_equal(store: Store, make_window: MakeWindow) -> None:
    result, segment = make_window(3)

    stored = store.append_window(result, segment)

    assert stored == replace(result, counter=1)
    assert store.result(1) == stored
    assert list(store.results()) == [stored]


def test_the_counter_that_is_passed_in_does_not_matter(store: Store, make_window: MakeWindow) -> None:
    result, segment = make_window(3)

    assert store.append_window(replace(result, counter=99), segment).counter == 1


@pytest.mark.parametrize("counter", [0, -1, 3, 2**31, 2**80])
def test_a_result_that_is_not_there_is_none(store: Store, make_window: MakeWindow, counter: int) -> None:
    filled(store, make_window, 2)

    assert store.result(counter) is None


@pytest.mark.parametrize(
    ("first_counter", "limit", "expected"),
    [(1, 3, [1, 2, 3]), (4, 3, [4, 5]), (6, 3, []), (-(2**70), 1, [1]), (2**70, 1, []), (1, 0, [])],
)
def test_results_come_in_pages(
    store: Store, make_window: MakeWindow, first_counter: int, limit: int, expected: list[int]
) -> None:
    filled(store, make_window, 5)

    page = store.results(first_counter=first_counter, limit=limit)

    assert [result.counter for result in page] == expected


@pytest.mark.parametrize("limit", [-1, 100_001])
def test_a_page_over_the_limit_is_refused(store: Store, limit: int) -> None:
    with pytest.raises(ValueError, match="limit must be"):
        store.results(limit=limit)
    with pytest.raises(ValueError, match="limit must be"):
        store.pending(limit=limit)


def test_a_result_of_another_segment_is_refused_and_nothing_kept(store: Store, make_window: MakeWindow) -> None:
    (result, _), (_, other) = make_window(1), make_window(2)

    with pytest.raises(ValueError, match="segment_digest"):
        store.append_window(result, other)

    assert store.stats().results == 0
    assert store.stats().segments == 0


def test_a_result_that_does_not_fit_its_row_leaves_no_hole(store: Store, make_window: MakeWindow) -> None:
    result, segment = make_window(1)

    with pytest.raises(ValueError, match="does not fit"):
        store.append_window(replace(result, confidence_permille=1_001), segment)

    assert store.stats().segments == 0
    assert store.append_window(result, segment).counter == 1


# ---- segments --------------------------------------------------------------------------------------------------------


def test_a_segment_reads_back_exactly_and_read_only(store: Store, make_window: MakeWindow) -> None:
    samples_uv = np.array([5, MISSING_UV, MISSING_UV, 2**31 - 1, -1, 0], np.int32)
    segment = Segment(Fraction(512_617, 1_000), samples_uv)
    result = replace(make_window(1)[0], segment_digest=segment_digest(segment))

    store.append_window(result, segment)
    samples_uv[0] = 6  # the caller's array stays the caller's
    read = store.segment(result.segment_digest)

    assert read is not None
    assert read.sampling_rate_hz == Fraction(512_617, 1_000)
    assert read.samples_uv.tolist() == [5, MISSING_UV, MISSING_UV, 2**31 - 1, -1, 0]
    assert not read.samples_uv.flags.writeable


def test_an_unknown_segment_is_none(store: Store) -> None:
    assert store.segment(b"x" * 32) is None


def test_equal_segments_are_kept_once(store: Store, make_window: MakeWindow) -> None:
    store.append_window(*make_window(1))
    store.append_window(*make_window(1))

    stats = store.stats()

    assert (stats.results, stats.segments) == (2, 1)
    assert stats.segment_bytes > 0


# ---- annotations -----------------------------------------------------------------------------------------------------


def test_annotations_come_in_order_of_target_and_author(store: Store) -> None:
    rows = [annotation(2, "b"), annotation(1, "b"), annotation(1, "ä"), annotation(1, "Z"), annotation(10, "a")]
    for row in rows:
        store.annotate(row)

    assert [(row.target.counter, row.author) for row in store.annotations()] == [
        (1, "Z"),
        (1, "b"),
        (1, "ä"),
        (2, "b"),
        (10, "a"),
    ]
    assert [row.author for row in store.annotations(ResultId(ALIAS, 1, 1))] == ["Z", "b", "ä"]
    assert list(store.annotations(ResultId(ALIAS, 2, 1))) == []


def test_annotate_merges_field_by_field(store: Store) -> None:
    older = annotation(comment="first", hlc=10)
    newer = replace_registers(older, rhythm=Register("O", 5), comment=Register("second", 20))
    store.annotate(older)

    merged = store.annotate(newer)

    assert merged.rhythm == Register("A", 10)
    assert merged.comment == Register("second", 20)
    assert list(store.annotations()) == [merged]


def replace_registers(row: AnnotationRow, *, rhythm: Register, comment: Register) -> AnnotationRow:
    return AnnotationRow(target=row.target, author=row.author, rhythm=rhythm, comment=comment)


@pytest.mark.parametrize(
    "row",
    [annotation(comment="x" * 2_001), annotation(author=""), annotation(comment="\ud800"), annotation(counter=0)],
    ids=["too long", "no author", "lone surrogate", "no such counter"],
)
def test_an_annotation_that_can_not_travel_is_refused(store: Store, row: AnnotationRow) -> None:
    with pytest.raises(InputError) as refused:
        store.annotate(row)

    assert "\n" not in str(refused.value)
    assert "x" * 10 not in str(refused.value)
    assert list(store.annotations()) == []


# ---- outbox and exchange ---------------------------------------------------------------------------------------------


def test_a_fresh_store_stands_at_the_beginning(store: Store) -> None:
    state = store.sync_state()

    assert (state.epoch, state.acknowledged, state.cursor, state.waiting) == (1, 0, Cursor(0, 0), 0)
    assert (state.digest, state.refused, state.last_exchange_ms, state.last_digest_equal) == (
        digests.EMPTY,
        (),
        None,
        None,
    )


def test_pending_holds_what_was_not_acknowledged(store: Store, make_window: MakeWindow) -> None:
    results = filled(store, make_window, 4)
    store.annotate(annotation(1))

    waiting = store.pending(limit=3)

    assert waiting.results == tuple(to_row(result) for result in results[:3])
    assert waiting.segment_digests == tuple(result.segment_digest for result in results[:3])
    assert waiting.annotations == ()  # R9: result 1 waits itself
    assert store.sync_state().waiting == 5


def test_pending_fits_one_message(store: Store) -> None:
    for counter in range(1, MAX_ANNOTATIONS_PER_EXCHANGE + 2):
        store.annotate(annotation(counter))

    assert len(store.pending(limit=10_000).annotations) == MAX_ANNOTATIONS_PER_EXCHANGE
    assert store.sync_state().waiting == MAX_ANNOTATIONS_PER_EXCHANGE + 1


def test_words_wait_until_their_result_has_arrived(store: Store, make_window: MakeWindow) -> None:
    """R9: only words on result 3, which the server did not settle yet, are held back."""
    filled(store, make_window, 3)
    rows = [annotation(counter) for counter in (1, 2, 3)]
    for row in rows:
        store.annotate(row)
    assert push(store).annotations == ()

    state = store.apply_exchange(push(store), ExchangeResponse(acknowledged=2), at_ms=1)

    assert push(store).annotations == tuple(rows[:2])
    assert state.waiting == 4
    store.apply_exchange(push(store), ExchangeResponse(acknowledged=3), at_ms=2)
    assert push(store).annotations == (rows[2],)
    assert store.apply_exchange(push(store), ExchangeResponse(acknowledged=3), at_ms=3).waiting == 0


def test_words_on_a_refused_result_are_not_held_back(store: Store, make_window: MakeWindow) -> None:
    filled(store, make_window, 1)
    store.annotate(annotation(1))
    refusal = (RowVerdict(1, VerdictCode.REJECTED, 1),)

    store.apply_exchange(push(store), ExchangeResponse(acknowledged=1, verdicts=refusal), at_ms=1)

    assert push(store).annotations == (annotation(1),)


def test_words_held_back_take_no_room_in_a_message(store: Store, make_window: MakeWindow) -> None:
    filled(store, make_window, 3)
    store.apply_exchange(push(store, limit=1), ExchangeResponse(acknowledged=1), at_ms=1)
    sendable = annotation(1, author="z")
    for row in (annotation(2), annotation(3), sendable):
        store.annotate(row)

    assert store.pending(limit=1).annotations == (sendable,)


def test_an_exchange_empties_the_outbox_and_moves_the_cursor(store: Store, make_window: MakeWindow) -> None:
    results = filled(store, make_window, 3)
    store.annotate(annotation(1))
    request = push_together(store, annotation(1))
    digest = digest_of(results, [annotation(1)])

    state = store.apply_exchange(
        request, ExchangeResponse(acknowledged=3, cursor=Cursor(1, 9), digest=digest), at_ms=5_000
    )

    assert state == store.sync_state()
    assert (state.acknowledged, state.cursor, state.waiting, state.refused) == (3, Cursor(1, 9), 0, ())
    assert (state.digest, state.last_digest_equal, state.last_exchange_ms) == (digest, True, 5_000)
    assert store.pending(limit=10).results == ()
    assert store.pending(limit=10).annotations == ()


def test_an_acknowledgement_of_a_part_leaves_the_rest_waiting(store: Store, make_window: MakeWindow) -> None:
    results = filled(store, make_window, 5)

    state = store.apply_exchange(push(store), ExchangeResponse(acknowledged=2), at_ms=1)

    assert [row.counter for row in store.pending(limit=10).results] == [3, 4, 5]
    assert state.digest == digest_of(results[:2])
    assert state.last_digest_equal is False


def test_refused_rows_are_listed_and_not_in_the_digest(store: Store, make_window: MakeWindow) -> None:
    results = filled(store, make_window, 4)
    verdicts = (
        RowVerdict(1, VerdictCode.DUPLICATE, 0),
        RowVerdict(2, VerdictCode.REJECTED, 1),
        RowVerdict(3, VerdictCode.QUARANTINED, 4),
    )
    held = [results[0], results[3]]

    state = store.apply_exchange(
        push(store), ExchangeResponse(acknowledged=4, verdicts=verdicts, digest=digest_of(held)), at_ms=1
    )

    assert state.refused == verdicts[1:]
    assert state.waiting == 0
    assert state.last_digest_equal is True


def test_a_verdict_beyond_the_acknowledged_mark_decides_nothing(store: Store, make_window: MakeWindow) -> None:
    results = filled(store, make_window, 2)
    early = (RowVerdict(2, VerdictCode.REJECTED, 1),)

    assert store.apply_exchange(push(store), ExchangeResponse(acknowledged=1, verdicts=early), at_ms=1).refused == ()
    state = store.apply_exchange(push(store), ExchangeResponse(acknowledged=2), at_ms=2)

    assert state.refused == ()
    assert state.digest == digest_of(results)


def test_a_pulled_annotation_is_merged_and_does_not_wait(store: Store, make_window: MakeWindow) -> None:
    results = filled(store, make_window, 1)
    pulled = annotation(1, "clinician", "AF, sure")
    digest = digest_of(results, [pulled])

    state = store.apply_exchange(
        push(store), ExchangeResponse(acknowledged=1, annotations=(pulled,), digest=digest), at_ms=1
    )

    assert list(store.annotations()) == [pulled]
    assert (state.waiting, state.last_digest_equal) == (0, True)


def test_an_annotation_that_both_sides_wrote_is_known_as_the_merge(store: Store, make_window: MakeWindow) -> None:
    filled(store, make_window, 0)
    mine = annotation(1, comment="mine", hlc=10)
    theirs = replace_registers(mine, rhythm=Register("N", 20), comment=Register("theirs", 5))
    store.annotate(mine)

    state = store.apply_exchange(push(store), ExchangeResponse(acknowledged=0, annotations=(theirs,)), at_ms=1)

    merged = merge_annotation(mine, theirs)
    assert list(store.annotations()) == [merged]
    assert state.digest == digest_of([], [merged])
    assert state.waiting == 0


def test_an_annotation_changed_while_the_exchange_was_under_way_goes_on_waiting(
    store: Store, make_window: MakeWindow
) -> None:
    filled(store, make_window, 0)
    sent, changed = annotation(1, comment="sent", hlc=10), annotation(1, comment="changed", hlc=11)
    store.annotate(sent)
    request = push(store)
    store.annotate(changed)

    state = store.apply_exchange(request, ExchangeResponse(acknowledged=0, digest=digest_of([], [sent])), at_ms=1)

    assert state.waiting == 1
    assert state.last_digest_equal is True  # over what the server holds, not over what is here
    assert store.pending(limit=1).annotations == (changed,)
    state = store.apply_exchange(push(store), ExchangeResponse(acknowledged=0), at_ms=2)
    assert state.waiting == 0
    assert state.digest == digest_of([], [changed])


def test_an_annotation_pushed_again_unchanged_does_not_wait(store: Store, make_window: MakeWindow) -> None:
    filled(store, make_window, 0)
    store.annotate(annotation(1))
    store.apply_exchange(push(store), ExchangeResponse(acknowledged=0), at_ms=1)

    store.annotate(annotation(1))

    assert store.sync_state().waiting == 0


def test_the_same_exchange_twice_changes_nothing(store: Store, make_window: MakeWindow) -> None:
    filled(store, make_window, 3)
    store.annotate(annotation(1))
    request = push(store)
    response = ExchangeResponse(
        acknowledged=3,
        verdicts=(RowVerdict(2, VerdictCode.REJECTED, 1),),
        annotations=(annotation(3, "clinician"),),
        cursor=Cursor(1, 4),
    )
    once = store.apply_exchange(request, response, at_ms=9)
    rows = list(store.annotations())

    assert store.apply_exchange(request, response, at_ms=9) == once
    assert list(store.annotations()) == rows


def test_an_exchange_that_comes_late_takes_nothing_back(store: Store, make_window: MakeWindow) -> None:
    filled(store, make_window, 2)
    first = (push(store, limit=1), ExchangeResponse(acknowledged=1, cursor=Cursor(1, 5)))
    store.apply_exchange(*first, at_ms=1)
    after = store.apply_exchange(push(store), ExchangeResponse(acknowledged=2, cursor=Cursor(1, 8)), at_ms=2)

    late = store.apply_exchange(*first, at_ms=2)

    assert (late.acknowledged, late.cursor, late.digest) == (after.acknowledged, after.cursor, after.digest)


def test_a_server_that_lost_part_of_its_history_is_given_it_again(store: Store, make_window: MakeWindow) -> None:
    results = filled(store, make_window, 3)
    store.annotate(annotation(1, "me"))
    foreign = annotation(1, "clinician")
    verdicts = (RowVerdict(3, VerdictCode.REJECTED, 1),)
    store.apply_exchange(
        push_together(store, annotation(1, "me")),
        ExchangeResponse(acknowledged=3, verdicts=verdicts, annotations=(foreign,), cursor=Cursor(1, 50)),
        at_ms=1,
    )
    assert store.sync_state().waiting == 0
    request = push(store)
    answer = ExchangeResponse(acknowledged=1, cursor=Cursor(2, 3), digest=digest_of(results[:1]))

    state = store.apply_exchange(request, answer, at_ms=2)

    assert (state.cursor, state.acknowledged, state.refused) == (Cursor(2, 3), 1, ())
    assert state.last_digest_equal is True
    waiting = store.pending(limit=10)
    assert [row.counter for row in waiting.results] == [2, 3]
    assert waiting.annotations == (annotation(1, "me"),)  # the clinician's is not this device's to send
    assert list(store.annotations()) == [foreign, annotation(1, "me")]
    assert store.apply_exchange(request, answer, at_ms=2) == state


def test_a_late_answer_from_a_new_history_still_says_what_was_lost(store: Store, make_window: MakeWindow) -> None:
    filled(store, make_window, 3)
    early = push(store, limit=1)
    store.apply_exchange(push(store), ExchangeResponse(acknowledged=3, cursor=Cursor(1, 5)), at_ms=1)

    state = store.apply_exchange(early, ExchangeResponse(acknowledged=1, cursor=Cursor(2, 1)), at_ms=2)

    assert (state.cursor, state.acknowledged, state.waiting) == (Cursor(2, 1), 1, 2)


def test_a_fate_is_decided_once(store: Store, make_window: MakeWindow) -> None:
    results = filled(store, make_window, 3)
    early = push(store)
    store.apply_exchange(push(store, limit=2), ExchangeResponse(acknowledged=2), at_ms=1)
    verdicts = (RowVerdict(1, VerdictCode.REJECTED, 1), RowVerdict(3, VerdictCode.REJECTED, 1))

    state = store.apply_exchange(early, ExchangeResponse(acknowledged=3, verdicts=verdicts), at_ms=2)

    assert state.refused == verdicts[1:]
    assert state.digest == digest_of(results[:2])


def test_within_one_history_an_acknowledgement_takes_nothing_back(store: Store, make_window: MakeWindow) -> None:
    filled(store, make_window, 3)
    store.apply_exchange(push(store), ExchangeResponse(acknowledged=3, cursor=Cursor(1, 5)), at_ms=1)

    state = store.apply_exchange(push(store), ExchangeResponse(acknowledged=0, cursor=Cursor(1, 9)), at_ms=2)

    assert (state.acknowledged, state.waiting) == (3, 0)


def test_an_exchange_of_an_epoch_that_never_was_is_an_error_and_changes_nothing(
    store: Store, make_window: MakeWindow
) -> None:
    filled(store, make_window, 2)
    before = store.sync_state()

    with pytest.raises(SyncError):
        store.apply_exchange(ExchangeRequest(device_alias=ALIAS, epoch=2), ExchangeResponse(acknowledged=0), at_ms=1)

    assert store.sync_state() == before
    assert store.take_events() == []


def test_a_response_with_a_row_that_can_not_be_kept_changes_nothing(store: Store, make_window: MakeWindow) -> None:
    filled(store, make_window, 2)
    before = store.sync_state()
    bad = ExchangeResponse(acknowledged=2, annotations=(annotation(1), annotation(2, comment="\0")))

    with pytest.raises(InputError):
        store.apply_exchange(push(store), bad, at_ms=1)

    assert store.sync_state() == before
    assert list(store.annotations()) == []


def test_without_a_sync_key_there_is_no_exchange(store: Store, make_window: MakeWindow) -> None:
    store.append_window(*make_window(1))

    with pytest.raises(NotEnrolled):
        store.apply_exchange(push(store), ExchangeResponse(acknowledged=1), at_ms=1)

    assert store.sync_state().acknowledged == 0


def test_a_new_alias_counts_everything_anew(store: Store, make_window: MakeWindow) -> None:
    filled(store, make_window, 2)
    store.annotate(annotation(1))
    verdicts = (RowVerdict(1, VerdictCode.REJECTED, 1),)
    store.apply_exchange(
        push_together(store, annotation(1)), ExchangeResponse(acknowledged=2, verdicts=verdicts), at_ms=1
    )
    row = store.result(2)
    assert row is not None
    # Words on a result of alias 7 are of that owner's bucket (R19).
    expected = digests.add(digests.EMPTY, digests.result_sum(SYNC_KEY, 8, 1, to_row(row)))

    request = ExchangeRequest(device_alias=8, epoch=1, cursor=store.sync_state().cursor)
    state = store.apply_exchange(request, ExchangeResponse(acknowledged=2, digest=expected), at_ms=2)

    assert state.last_digest_equal is True


# ---- settings, closing, threads --------------------------------------------------------------------------------------


def test_settings_are_kept_and_replaced(store: Store) -> None:
    assert store.setting("identity") is None
    store.put_setting("identity", b"one")
    store.put_setting("other", b"")
    store.put_setting("identity", b"two\x00")

    assert store.setting("identity") == b"two\x00"
    assert store.setting("other") == b""


@pytest.mark.parametrize(
    ("name", "value"),
    [("", b"x"), ("x" * 65, b"x"), ("naïve", b"x"), ("x", b"x" * (MAX_SETTING_BYTES + 1)), ("sync_key", b"short")],
)
def test_a_setting_over_its_limit_is_refused(store: Store, name: str, value: bytes) -> None:
    with pytest.raises(ValueError, match=r"setting|sync key"):
        store.put_setting(name, value)


def test_a_setting_at_its_limit_is_kept(store: Store) -> None:
    value = bytes(range(256)) * (MAX_SETTING_BYTES // 256)

    store.put_setting("x" * 64, value)

    assert store.setting("x" * 64) == value


def test_a_closed_store_says_so(store: Store, make_window: MakeWindow) -> None:
    store.close()
    store.close()

    for call in (
        store.sync_state,
        store.stats,
        store.results,
        store.annotations,
        lambda: store.append_window(*make_window(1)),
        lambda: store.setting("x"),
        lambda: store.pending(limit=1),
        lambda: store.annotate(annotation(1)),
    ):
        with pytest.raises(ValueError, match="closed"):
            call()


def test_threads_take_turns(store: Store, make_window: MakeWindow) -> None:
    counters: list[int] = []
    windows = [[make_window(100 * thread + number) for number in range(5)] for thread in range(4)]

    def append(mine: list[tuple[WindowResult, Segment]]) -> None:
        for item in mine:
            counters.append(store.append_window(*item).counter)
            store.sync_state()

    threads = [threading.Thread(target=append, args=(mine,)) for mine in windows]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(counters) == list(range(1, 21))
    assert [result.counter for result in store.results()] == list(range(1, 21))
