"""The Store port's acceptance suite, rules R2, R4 and R6 to R9: a store that was turned back, and a server that was."""

from __future__ import annotations

import msgspec
import pytest
from tests.contracts.exchanges import (
    ALIAS,
    MakeWindow,
    annotation,
    conflicts,
    digest_of,
    filled,
    plus,
    push,
    push_together,
    question,
)

from einthoven import store_rules
from einthoven.errors import StoreIOError
from einthoven.ports import Store
from einthoven.result_rows import to_row
from einthoven.store_events import ForkReason, StoreForked
from einthoven.store_values import AuditAction, RetentionPolicy
from einthoven_protocol.limits import MAX_EPOCH
from einthoven_protocol.messages import Cursor, ExchangeResponse, RejectReason, ResultId, RowVerdict, VerdictCode

EVERYTHING_OLD = RetentionPolicy(results_max_age_ms=0)
YEAR_MS = 365 * 24 * 3600 * 1000


def fork_by_server(store: Store) -> int:
    """Make the store find out that it was turned back; return its new epoch."""
    state = store.sync_state()
    return store.apply_exchange(
        question(store), ExchangeResponse(acknowledged=state.last_counter + 1, cursor=state.cursor), at_ms=7
    ).epoch


# ---- R2: the server is ahead -----------------------------------------------------------------------------------------


def test_a_server_that_holds_more_than_was_ever_given_begins_a_new_epoch(store: Store, make_window: MakeWindow) -> None:
    filled(store, make_window, 3)
    store.apply_exchange(push(store), ExchangeResponse(acknowledged=3, cursor=Cursor(1, 3)), at_ms=1)

    state = store.apply_exchange(question(store), ExchangeResponse(acknowledged=5, cursor=Cursor(1, 9)), at_ms=2)

    assert 1 < state.epoch <= 1 + store_rules.EPOCH_STEP_RANGE
    assert (state.last_counter, state.acknowledged, state.waiting) == (0, 0, 0)
    assert store.take_events() == [StoreForked(1, state.epoch, ForkReason.SERVER_AHEAD)]
    assert store.take_events() == []
    (entry,) = [entry for entry in store.audit_trail() if entry.action is AuditAction.FORKED]
    assert (entry.subject, entry.at_ms) == (f"1 {state.epoch} server_ahead", 2)
    assert store.append_window(*make_window(9)).counter == 1
    assert push(store).epoch == state.epoch
    assert store.stats().epochs == 2


def test_the_same_answer_again_forks_once(store: Store, make_window: MakeWindow) -> None:
    filled(store, make_window, 1)
    store.apply_exchange(push(store), ExchangeResponse(acknowledged=1), at_ms=1)
    request, answer = question(store), ExchangeResponse(acknowledged=4)

    once = store.apply_exchange(request, answer, at_ms=2)

    assert store.apply_exchange(request, answer, at_ms=2) == once
    assert len(store.take_events()) == 1


def test_of_a_closed_epoch_a_server_may_hold_more(store: Store, make_window: MakeWindow) -> None:
    filled(store, make_window, 2)
    epoch = fork_by_server(store)
    store.take_events()

    state = store.apply_exchange(question(store, 1), ExchangeResponse(acknowledged=50), at_ms=2)

    assert state.epoch == epoch
    assert state.waiting == 2  # what it holds under these counters may be something else
    assert store.take_events() == []


def test_results_written_while_the_question_was_under_way_are_not_taken_for_the_servers(
    store: Store, make_window: MakeWindow
) -> None:
    filled(store, make_window, 2)
    store.apply_exchange(push(store), ExchangeResponse(acknowledged=2), at_ms=1)
    request = question(store)
    written = [store.append_window(*make_window(seed)) for seed in (7, 8)]

    state = store.apply_exchange(request, ExchangeResponse(acknowledged=9), at_ms=2)

    assert state.waiting == 2
    assert push(store).results == tuple(to_row(result) for result in written)
    assert push(store).epoch == 1  # where they were written: the server will say that it has others there


def test_the_mark_passes_only_results_that_were_pushed(store: Store, make_window: MakeWindow) -> None:
    filled(store, make_window, 3)

    state = store.apply_exchange(push(store, limit=1), ExchangeResponse(acknowledged=3), at_ms=1)

    assert (state.acknowledged, state.waiting) == (1, 2)


# ---- order of epochs -------------------------------------------------------------------------------------------------


def test_the_oldest_epoch_with_something_waiting_goes_first(store: Store, make_window: MakeWindow) -> None:
    old = filled(store, make_window, 2)
    epoch = fork_by_server(store)
    new = store.append_window(*make_window(5))

    request = push(store)
    assert (request.epoch, request.results) == (1, tuple(to_row(result) for result in old))
    assert store.sync_state().waiting == 3
    store.apply_exchange(request, ExchangeResponse(acknowledged=2), at_ms=1)
    request = push(store)
    assert (request.epoch, request.results) == (epoch, (to_row(new),))
    state = store.apply_exchange(
        request,
        ExchangeResponse(acknowledged=1, digest=plus(digest_of(old), digest_of([new], epoch=epoch))),
        at_ms=1,
    )
    assert (state.waiting, state.last_digest_equal) == (0, True)
    assert push(store).epoch == epoch


def test_results_are_those_of_the_current_epoch(store: Store, make_window: MakeWindow) -> None:
    old = filled(store, make_window, 2)
    epoch = fork_by_server(store)
    new = store.append_window(*make_window(5))

    assert list(store.results()) == [new]
    assert store.result(1) == new
    assert store.result(2) is None
    assert [store.result(counter, epoch=1) for counter in (1, 2, 3)] == [*old, None]
    assert [store.result(1, epoch=named) for named in (epoch, epoch + 1, 0, -1, 2**80)] == [new, None, None, None, None]
    found = store.results_between(0, 2**60)
    assert [(stored.epoch, stored.result) for stored in found] == [(1, old[0]), (1, old[1]), (epoch, new)]


def test_refusals_of_an_epoch_that_ended_are_still_told(store: Store, make_window: MakeWindow) -> None:
    filled(store, make_window, 1)
    verdict = RowVerdict(1, VerdictCode.REJECTED, RejectReason.OUT_OF_RANGE)
    store.apply_exchange(push(store), ExchangeResponse(acknowledged=1, verdicts=(verdict,)), at_ms=1)

    fork_by_server(store)

    assert store.sync_state().refused == (verdict,)


def test_there_is_an_end_to_epochs() -> None:
    with pytest.raises(StoreIOError):
        store_rules.next_epoch(MAX_EPOCH, lambda n: 0)
    assert store_rules.next_epoch(MAX_EPOCH - 2, lambda n: n - 1) == MAX_EPOCH


# ---- R4: what this device wrote itself is heard again ----------------------------------------------------------------


def test_the_cursor_moves_in_the_current_epoch_only(store: Store, make_window: MakeWindow) -> None:
    filled(store, make_window, 1)
    store.apply_exchange(push(store), ExchangeResponse(acknowledged=1, cursor=Cursor(1, 3)), at_ms=1)
    lost = annotation(1, comment="written before the store was turned back")

    state = store.apply_exchange(question(store), ExchangeResponse(acknowledged=3, cursor=Cursor(1, 9)), at_ms=2)
    assert state.cursor == Cursor(1, 3)
    state = store.apply_exchange(question(store, 1), ExchangeResponse(acknowledged=3, cursor=Cursor(1, 9)), at_ms=2)
    assert state.cursor == Cursor(1, 3)
    state = store.apply_exchange(
        question(store), ExchangeResponse(acknowledged=0, annotations=(lost,), cursor=Cursor(1, 9)), at_ms=2
    )

    assert state.cursor == Cursor(1, 9)
    assert list(store.annotations()) == [lost]


def test_a_new_history_told_in_a_closed_epoch_is_read_from_its_beginning(store: Store, make_window: MakeWindow) -> None:
    filled(store, make_window, 2)
    fork_by_server(store)
    request, answer = push(store), ExchangeResponse(acknowledged=1, cursor=Cursor(2, 30))

    state = store.apply_exchange(request, answer, at_ms=3)

    assert state.cursor == Cursor(2, 0)
    assert store.apply_exchange(request, answer, at_ms=3) == state


# ---- R7: a counter that had been used before -------------------------------------------------------------------------


def test_a_result_under_a_used_counter_is_given_again_in_a_new_epoch(store: Store, make_window: MakeWindow) -> None:
    results = filled(store, make_window, 4)
    answer = ExchangeResponse(acknowledged=4, verdicts=conflicts(2, 4), cursor=Cursor(1, 5))
    request = push(store)

    state = store.apply_exchange(request, answer, at_ms=3)

    assert state.epoch > 1
    assert (state.last_counter, state.waiting, state.refused) == (2, 2, ())
    assert state.digest == digest_of([results[0], results[2]])
    assert store.take_events() == [StoreForked(1, state.epoch, ForkReason.COUNTER_REUSED)]
    again = store.results()
    assert [(result.counter, result.started_at_ms) for result in again] == [
        (1, results[1].started_at_ms),
        (2, results[3].started_at_ms),
    ]
    assert push(store).results == tuple(to_row(result) for result in again)
    assert store.pending(limit=9).segment_digests == (results[1].segment_digest, results[3].segment_digest)
    assert store.stats().results == 4
    assert store.apply_exchange(request, answer, at_ms=3) == state


def test_in_a_closed_epoch_a_used_counter_forks_no_more(store: Store, make_window: MakeWindow) -> None:
    filled(store, make_window, 2)
    epoch = fork_by_server(store)
    store.append_window(*make_window(8))
    store.take_events()

    state = store.apply_exchange(push(store), ExchangeResponse(acknowledged=2, verdicts=conflicts(1, 2)), at_ms=3)

    assert (state.epoch, state.last_counter, state.waiting) == (epoch, 3, 3)
    assert store.take_events() == []


def test_results_behind_the_used_counters_stay_in_their_epoch(store: Store, make_window: MakeWindow) -> None:
    results = filled(store, make_window, 5)

    state = store.apply_exchange(
        push(store, limit=2), ExchangeResponse(acknowledged=2, verdicts=conflicts(1, 2)), at_ms=3
    )

    assert state.waiting == 5
    request = push(store)
    assert (request.epoch, request.results) == (1, tuple(to_row(result) for result in results[2:]))


def test_own_words_go_along_with_a_result_that_is_given_again(store: Store, make_window: MakeWindow) -> None:
    """And never stood at the stranger's result: R9 held them back until the result had a place of its own."""
    filled(store, make_window, 2)
    store.annotate(annotation(2, "me", "felt dizzy"))
    request = push(store)
    assert request.annotations == ()

    state = store.apply_exchange(request, ExchangeResponse(acknowledged=2, verdicts=conflicts(2)), at_ms=3)

    moved = annotation(1, "me", "felt dizzy", epoch=state.epoch)
    assert list(store.annotations()) == [moved]
    assert push(store).annotations == ()
    store.apply_exchange(push(store), ExchangeResponse(acknowledged=1), at_ms=4)
    assert push(store).annotations == (moved,)


def test_words_that_were_pushed_with_it_are_on_the_server_at_both_places(store: Store, make_window: MakeWindow) -> None:
    """A version before R9 sent them; what is on the server then is known to be there."""
    filled(store, make_window, 1)
    words = annotation(1, "me", "felt dizzy")
    store.annotate(words)
    request = push_together(store, words)

    state = store.apply_exchange(
        request, ExchangeResponse(acknowledged=1, verdicts=conflicts(1), digest=digest_of([], [words])), at_ms=3
    )

    moved = annotation(1, "me", "felt dizzy", epoch=state.epoch)
    assert list(store.annotations()) == [words, moved]
    assert (state.waiting, state.last_digest_equal) == (2, True)
    store.apply_exchange(push(store), ExchangeResponse(acknowledged=1), at_ms=4)
    assert push(store).annotations == (moved,)


def test_words_that_the_server_knew_before_stay_where_they_are(store: Store, make_window: MakeWindow) -> None:
    filled(store, make_window, 1)
    theirs = annotation(1, "clinician")
    mine = annotation(1, "me")
    store.annotate(mine)
    store.apply_exchange(push_together(store, mine), ExchangeResponse(acknowledged=0, annotations=(theirs,)), at_ms=1)

    state = store.apply_exchange(push(store), ExchangeResponse(acknowledged=1, verdicts=conflicts(1)), at_ms=3)

    assert state.epoch > 1
    assert list(store.annotations()) == [theirs, mine]
    assert state.waiting == 1  # the result, and no words


def test_words_changed_since_the_server_knew_them_go_along_changed(store: Store, make_window: MakeWindow) -> None:
    filled(store, make_window, 1)
    known = annotation(1, "me", "first", hlc=10)
    store.annotate(known)
    store.apply_exchange(push_together(store, known), ExchangeResponse(acknowledged=0), at_ms=1)
    request = push(store)
    store.annotate(annotation(1, "me", "second", hlc=20))

    state = store.apply_exchange(request, ExchangeResponse(acknowledged=1, verdicts=conflicts(1)), at_ms=3)

    moved = annotation(1, "me", "second", hlc=20, epoch=state.epoch)
    assert list(store.annotations()) == [known, moved]
    store.apply_exchange(push(store), ExchangeResponse(acknowledged=1), at_ms=4)
    assert push(store).annotations == (moved,)


def test_words_on_results_behind_a_hole_are_held_back_and_go_along(store: Store, make_window: MakeWindow) -> None:
    """R8 and R9: what is pushed while a hole is asked about is no word on what waits behind it."""
    synced_and_dropped(store, make_window, 4, dropped=2)
    store.apply_exchange(question(store, 1), ExchangeResponse(acknowledged=4, cursor=Cursor(1, 9)), at_ms=2)
    epoch = fork_by_server(store)
    store.apply_exchange(question(store), ExchangeResponse(acknowledged=0, cursor=Cursor(2, 1)), at_ms=2)
    store.annotate(annotation(3, "me"))
    request = push(store)
    assert (request.epoch, request.results, request.annotations) == (1, (), ())

    store.apply_exchange(request, ExchangeResponse(acknowledged=0, cursor=Cursor(2, 1)), at_ms=3)

    assert list(store.annotations()) == [annotation(1, "me", epoch=epoch)]
    assert push(store).annotations == ()
    store.apply_exchange(push(store), ExchangeResponse(acknowledged=2, cursor=Cursor(2, 1)), at_ms=3)
    assert push(store).annotations == (annotation(1, "me", epoch=epoch),)


# ---- R6 and R8: a server that was turned back, and rows that are gone ------------------------------------------------


def synced_and_dropped(store: Store, make_window: MakeWindow, count: int, dropped: int) -> None:
    """Results 1 to ``count``, all acknowledged, of which retention dropped the first."""
    filled(store, make_window, count)
    newest_dropped = store.results()[dropped - 1].started_at_ms
    store.apply_exchange(push(store), ExchangeResponse(acknowledged=count, cursor=Cursor(1, 9)), at_ms=newest_dropped)
    store.retain(EVERYTHING_OLD, at_ms=newest_dropped + 1)
    assert [result.counter for result in store.results()] == list(range(dropped + 1, count + 1))
    store.take_events()


def test_all_epochs_wait_again_when_the_server_begins_a_new_history(store: Store, make_window: MakeWindow) -> None:
    old = filled(store, make_window, 2)
    store.apply_exchange(push(store), ExchangeResponse(acknowledged=2, cursor=Cursor(1, 2)), at_ms=1)
    epoch = fork_by_server(store)
    new = [store.append_window(*make_window(seed)) for seed in (5, 6)]
    store.apply_exchange(push(store), ExchangeResponse(acknowledged=2, cursor=Cursor(1, 4)), at_ms=1)
    assert store.sync_state().waiting == 0

    state = store.apply_exchange(
        question(store),
        ExchangeResponse(acknowledged=1, cursor=Cursor(2, 1), digest=digest_of(new[:1], epoch=epoch)),
        at_ms=2,
    )

    assert (state.waiting, state.acknowledged, state.last_digest_equal) == (3, 1, True)
    assert (push(store).epoch, len(push(store).results)) == (1, 2)
    store.apply_exchange(push(store), ExchangeResponse(acknowledged=2, cursor=Cursor(2, 1)), at_ms=3)
    state = store.apply_exchange(
        push(store),
        ExchangeResponse(acknowledged=2, cursor=Cursor(2, 5), digest=plus(digest_of(old), digest_of(new, epoch=epoch))),
        at_ms=3,
    )
    assert (state.waiting, state.last_digest_equal) == (0, True)


def test_a_dropped_result_stays_in_the_digest(store: Store, make_window: MakeWindow) -> None:
    synced_and_dropped(store, make_window, 4, dropped=2)

    state = store.apply_exchange(question(store), ExchangeResponse(acknowledged=4, cursor=Cursor(1, 9)), at_ms=9)

    assert state.digest.count == 4
    renamed = msgspec.structs.replace(question(store), device_alias=ALIAS + 1)
    state = store.apply_exchange(renamed, ExchangeResponse(acknowledged=4, cursor=Cursor(1, 9)), at_ms=9)
    assert state.digest.count == 2


def test_a_hole_that_the_server_covers_is_passed_over(store: Store, make_window: MakeWindow) -> None:
    synced_and_dropped(store, make_window, 5, dropped=2)
    epoch = fork_by_server(store)
    store.append_window(*make_window(8))
    store.apply_exchange(question(store), ExchangeResponse(acknowledged=0, cursor=Cursor(2, 1)), at_ms=2)
    request = push(store)
    assert (request.epoch, request.results) == (1, ())  # a question: from the mark on nothing is here

    store.apply_exchange(request, ExchangeResponse(acknowledged=3, cursor=Cursor(2, 1)), at_ms=3)

    request = push(store)
    assert (request.epoch, [row.counter for row in request.results]) == (1, [3, 4, 5])
    state = store.apply_exchange(request, ExchangeResponse(acknowledged=5, cursor=Cursor(2, 1)), at_ms=3)
    assert (state.epoch, state.last_counter, state.waiting) == (epoch, 1, 1)


def test_what_lies_beyond_a_hole_that_the_server_does_not_cover_is_given_again(
    store: Store, make_window: MakeWindow
) -> None:
    synced_and_dropped(store, make_window, 5, dropped=2)
    kept = list(store.results())
    epoch = fork_by_server(store)
    store.append_window(*make_window(8))
    store.apply_exchange(question(store), ExchangeResponse(acknowledged=0, cursor=Cursor(2, 1)), at_ms=2)
    store.take_events()
    request, answer = push(store), ExchangeResponse(acknowledged=1, cursor=Cursor(2, 1))

    state = store.apply_exchange(request, answer, at_ms=3)

    assert (state.epoch, state.last_counter, state.waiting) == (epoch, 4, 4)
    assert [result.started_at_ms for result in store.results()][1:] == [result.started_at_ms for result in kept]
    assert push(store).epoch == epoch
    assert store.take_events() == []
    assert store.apply_exchange(request, answer, at_ms=3) == state


def test_a_hole_in_the_current_epoch_that_the_server_does_not_cover_ends_it(
    store: Store, make_window: MakeWindow
) -> None:
    synced_and_dropped(store, make_window, 4, dropped=2)

    state = store.apply_exchange(question(store), ExchangeResponse(acknowledged=1, cursor=Cursor(2, 1)), at_ms=3)

    assert state.epoch > 1
    assert (state.last_counter, state.waiting) == (2, 2)
    assert store.take_events() == [StoreForked(1, state.epoch, ForkReason.SERVER_BEHIND)]
    assert push(store).epoch == state.epoch


def test_a_late_answer_about_a_hole_gives_nothing_again(store: Store, make_window: MakeWindow) -> None:
    synced_and_dropped(store, make_window, 5, dropped=2)
    fork_by_server(store)
    store.apply_exchange(question(store), ExchangeResponse(acknowledged=0, cursor=Cursor(2, 1)), at_ms=2)
    request = push(store)
    store.apply_exchange(request, ExchangeResponse(acknowledged=2, cursor=Cursor(2, 1)), at_ms=3)
    store.apply_exchange(push(store), ExchangeResponse(acknowledged=4, cursor=Cursor(2, 1)), at_ms=3)

    state = store.apply_exchange(request, ExchangeResponse(acknowledged=0, cursor=Cursor(2, 1)), at_ms=4)

    assert (state.last_counter, state.waiting) == (0, 1)


def test_counters_are_given_once_whatever_happens(store: Store, make_window: MakeWindow) -> None:
    given: set[tuple[int, int]] = set()
    filled(store, make_window, 0)
    for round_number in range(4):
        for seed in range(3):
            result = store.append_window(*make_window(10 * round_number + seed))
            place = (store.sync_state().epoch, result.counter)
            assert place not in given
            given.add(place)
        request = push(store)
        state = store.apply_exchange(
            request,
            ExchangeResponse(
                acknowledged=request.results[-1].counter,
                verdicts=conflicts(*(row.counter for row in request.results)),
            ),
            at_ms=round_number,
        )
        for result in store.results():
            place = (state.epoch, result.counter)
            assert place not in given
            given.add(place)
    assert store.stats().results == 12


def test_the_device_of_another_alias_keeps_its_words(store: Store, make_window: MakeWindow) -> None:
    """Only what is said of this device's own result goes along."""
    filled(store, make_window, 1)
    request = push(store)
    other = msgspec.structs.replace(annotation(1, "me"), target=ResultId(ALIAS + 1, 1, 1))
    store.annotate(other)

    store.apply_exchange(request, ExchangeResponse(acknowledged=1, verdicts=conflicts(1)), at_ms=3)

    assert list(store.annotations()) == [other]
