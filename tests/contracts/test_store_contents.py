"""The Store port's acceptance suite: results without signal, beats, times, audit trail, events, retention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from tests.contracts.exchanges import MakeWindow, annotation, filled, push, question

from einthoven.local_audit import FIRST_PREVIOUS_HASH, verify
from einthoven.ports import Store
from einthoven.result_rows import to_row
from einthoven.retention import MAX_UNWITNESSED_MS
from einthoven.store_events import ContentDropped
from einthoven.store_rules import MAX_ROWS_PER_CALL
from einthoven.store_values import (
    MAX_BEATS_PER_RUN,
    MAX_SUBJECT_CHARS,
    AuditAction,
    BeatRun,
    ContentKind,
    DropReason,
    RetentionPolicy,
    RetentionReport,
)
from einthoven_protocol.messages import Cursor, ExchangeResponse, RowVerdict, VerdictCode

START_MS = 1_700_000_000_000
WINDOW_MS = 30_000
YEAR_MS = 365 * 24 * 3600 * 1000
NOTHING = RetentionReport()


def beats(first_ms: int, *more_ms: int, classes: Sequence[int] | None = None) -> BeatRun:
    at_ms = np.array([first_ms, *more_ms], np.int64)
    return BeatRun(at_ms, np.zeros(len(at_ms), np.uint8) if classes is None else np.array(classes, np.uint8))


# ---- results without signal ------------------------------------------------------------------------------------------


def test_results_without_signal_take_the_next_counters(store: Store, make_window: MakeWindow) -> None:
    store.append_window(*make_window(0))
    rows = [make_window(seed)[0] for seed in (1, 2, 3)]

    assert store.append_results(rows) == range(2, 5)

    assert list(store.results(first_counter=2)) == [
        replace(row, counter=counter) for counter, row in enumerate(rows, 2)
    ]
    assert store.stats().segments == 1
    assert store.segment(rows[0].segment_digest) is None
    assert len(push(store).results) == 4
    assert store.append_window(*make_window(9)).counter == 5


def test_no_results_are_no_counters(store: Store) -> None:
    assert store.append_results([]) == range(1, 1)
    assert store.append_windows([]) == []
    assert store.sync_state().last_counter == 0


def test_results_are_kept_all_or_none(store: Store, make_window: MakeWindow) -> None:
    good, bad = make_window(1)[0], replace(make_window(2)[0], confidence_permille=1_001)

    with pytest.raises(ValueError, match="does not fit"):
        store.append_results([good, bad])
    with pytest.raises(ValueError, match="does not fit"):
        store.append_windows([make_window(1), (bad, make_window(2)[1])])
    with pytest.raises(ValueError, match="at most"):
        store.append_results([good] * (MAX_ROWS_PER_CALL + 1))

    assert store.stats().results == 0
    assert store.stats().segments == 0
    assert store.sync_state().last_counter == 0


def test_windows_of_one_call_take_consecutive_counters(store: Store, make_window: MakeWindow) -> None:
    stored = store.append_windows([make_window(seed) for seed in (4, 5)])

    assert [result.counter for result in stored] == [1, 2]
    assert store.stats().segments == 2


# ---- times -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "last", "limit", "expected"),
    [
        (0, 2**62, 10, [0, 1, 1, 2, 3]),
        (START_MS + WINDOW_MS, START_MS + 2 * WINDOW_MS, 10, [1, 1, 2]),
        (START_MS + WINDOW_MS + 1, START_MS + 2 * WINDOW_MS - 1, 10, []),
        (-(2**70), 2**70, 2, [0, 1]),
        (START_MS + WINDOW_MS, 0, 10, []),
        (0, 2**62, 0, []),
    ],
)
def test_results_between_two_times_in_their_order(
    store: Store, make_window: MakeWindow, first: int, last: int, limit: int, expected: list[int]
) -> None:
    for seed in (3, 1, 0, 2, 1):
        store.append_window(*make_window(seed))

    found = store.results_between(first, last, limit=limit)

    assert [stored.result.started_at_ms for stored in found] == [START_MS + WINDOW_MS * seed for seed in expected]
    assert {stored.epoch for stored in found} <= {1}


def test_equal_times_come_in_the_order_of_their_counters(store: Store, make_window: MakeWindow) -> None:
    for _ in range(3):
        store.append_window(*make_window(1))

    assert [stored.result.counter for stored in store.results_between(0, 2**60)] == [1, 2, 3]


# ---- beats -----------------------------------------------------------------------------------------------------------


def test_beats_read_back_exactly_and_read_only(store: Store) -> None:
    at_ms = np.array([5, 5, 900, 2**46], np.int64)
    run = BeatRun(at_ms, np.array([0, 3, 2, 1], np.uint8))
    kept = BeatRun(at_ms.copy(), run.classes.copy())

    store.append_beats(run)
    at_ms[0] = 4  # the caller's array stays the caller's
    (read,) = store.beats(0, 2**60)

    assert read == kept
    assert read.at_ms.dtype == np.int64
    assert read.classes.dtype == np.uint8
    assert not read.at_ms.flags.writeable
    assert not read.classes.flags.writeable
    assert store.stats().beats == 4


@pytest.mark.parametrize(
    ("first", "last", "limit", "expected"),
    [
        (0, 2**60, 9, [100, 300, 300, 700]),
        (0, 99, 9, []),
        (0, 100, 9, [100]),
        (250, 299, 9, [100]),
        (251, 299, 9, []),
        (701, 2**60, 9, []),
        (-(2**70), 2**70, 3, [100, 300, 300]),
        (0, 2**60, 0, []),
    ],
)
def test_runs_of_beats_that_overlap_a_stretch(
    store: Store, first: int, last: int, limit: int, expected: list[int]
) -> None:
    for run in (beats(700), beats(300, 500), beats(100, 250), beats(300, 310)):
        store.append_beats(run)

    assert [int(run.at_ms[0]) for run in store.beats(first, last, limit=limit)] == expected


@pytest.mark.parametrize(
    "run",
    [
        BeatRun(np.array([], np.int64), np.array([], np.uint8)),
        BeatRun(np.array([2, 1], np.int64), np.array([0, 0], np.uint8)),
        BeatRun(np.array([1, 2], np.int64), np.array([0], np.uint8)),
        BeatRun(np.array([1], np.int64), np.array([4], np.uint8)),
        BeatRun(np.array([-1], np.int64), np.array([0], np.uint8)),
        BeatRun(np.array([2**47], np.int64), np.array([0], np.uint8)),
        BeatRun(np.arange(MAX_BEATS_PER_RUN + 1), np.zeros(MAX_BEATS_PER_RUN + 1, np.uint8)),
        BeatRun(np.array([1], np.int32), np.array([0], np.uint8)),
    ],
    ids=["none", "descending", "too few classes", "class", "before 1970", "too late", "too many", "type"],
)
def test_beats_over_a_limit_are_refused_with_their_window(store: Store, make_window: MakeWindow, run: BeatRun) -> None:
    with pytest.raises(ValueError, match=r"beat"):
        store.append_beats(run)
    with pytest.raises(ValueError, match=r"beat"):
        store.append_window(*make_window(1), run)

    assert store.stats().beats == store.stats().results == 0


def test_a_window_brings_its_beats(store: Store, make_window: MakeWindow) -> None:
    store.append_window(*make_window(1), beats(START_MS, START_MS + 800))

    assert list(store.beats(START_MS, START_MS)) == [beats(START_MS, START_MS + 800)]


@pytest.mark.parametrize("limit", [-1, MAX_ROWS_PER_CALL + 1])
def test_pages_over_the_limit_are_refused(store: Store, limit: int) -> None:
    for call in (
        lambda: store.beats(0, 1, limit=limit),
        lambda: store.results_between(0, 1, limit=limit),
        lambda: store.audit_trail(limit=limit),
    ):
        with pytest.raises(ValueError, match="limit must be"):
            call()


# ---- audit trail and events ------------------------------------------------------------------------------------------


def test_the_audit_trail_is_a_chain_from_the_stores_beginning(store: Store) -> None:
    store.put_setting("colour", b"green")
    store.annotate(annotation(3))
    viewed = store.record(AuditAction.VIEWED, "1:5", at_ms=77)

    trail = store.audit_trail()

    assert [(entry.seq, entry.action, entry.subject) for entry in trail] == [
        (1, AuditAction.CREATED, ""),
        (2, AuditAction.SETTING_CHANGED, "colour"),
        (3, AuditAction.ANNOTATED, "7:1:3"),
        (4, AuditAction.VIEWED, "1:5"),
    ]
    assert trail[-1] == viewed
    assert viewed.at_ms == 77
    assert verify(trail, head=viewed.entry_hash) is None
    assert verify(trail[1:], previous=trail[0]) is None
    assert trail[0].entry_hash != FIRST_PREVIOUS_HASH
    assert list(store.audit_trail(first_seq=2, limit=2)) == list(trail[1:3])
    assert list(store.audit_trail(first_seq=-5, limit=1)) == list(trail[:1])
    assert store.stats().audit_entries == 4


def test_an_exchange_is_on_the_trail_if_it_changed_anything(store: Store, make_window: MakeWindow) -> None:
    filled(store, make_window, 2)
    store.apply_exchange(push(store), ExchangeResponse(acknowledged=2), at_ms=1)
    store.apply_exchange(question(store), ExchangeResponse(acknowledged=2), at_ms=2)

    synced = [entry.subject for entry in store.audit_trail() if entry.action is AuditAction.SYNCED]

    assert synced == ["1:2"]


@pytest.mark.parametrize(
    ("subject", "at_ms"), [("x" * (MAX_SUBJECT_CHARS + 1), 1), ("\ud800", 1), ("a\0b", 1), ("x", -1)]
)
def test_an_audit_entry_over_its_limits_is_refused(store: Store, subject: str, at_ms: int) -> None:
    with pytest.raises(ValueError, match="audit entry"):
        store.record(AuditAction.VIEWED, subject, at_ms=at_ms)

    assert store.stats().audit_entries == 1


def test_a_fresh_store_is_sound_and_has_nothing_to_say(store: Store) -> None:
    assert store.take_events() == []
    assert list(store.quarantined()) == []
    assert store.check().sound


def test_a_store_with_everything_in_it_is_sound(store: Store, make_window: MakeWindow) -> None:
    filled(store, make_window, 3)
    store.append_beats(beats(5, 6))
    store.annotate(annotation(1))
    store.apply_exchange(
        push(store),
        ExchangeResponse(acknowledged=3, verdicts=(RowVerdict(2, VerdictCode.REJECTED, 1),), cursor=Cursor(1, 4)),
        at_ms=1,
    )

    report = store.check()

    assert report.sound, report
    assert report.rows >= 9


# ---- retention -------------------------------------------------------------------------------------------------------


def witnessed(store: Store, make_window: MakeWindow, count: int) -> None:
    """Windows whose results the server holds, as of the newest's start."""
    filled(store, make_window, count)
    store.apply_exchange(push(store), ExchangeResponse(acknowledged=count), at_ms=START_MS + WINDOW_MS * (count - 1))


def digests_of(make_window: MakeWindow, *seeds: int) -> list[bytes]:
    return [make_window(seed)[0].segment_digest for seed in seeds]


def test_without_limits_nothing_goes(store: Store, make_window: MakeWindow) -> None:
    witnessed(store, make_window, 3)
    store.acknowledge_segments(digests_of(make_window, 0, 1, 2))

    assert store.retain(RetentionPolicy(), at_ms=START_MS + 9 * YEAR_MS) == NOTHING

    assert store.stats().segments == 3
    assert store.take_events() == []


def test_what_the_server_holds_of_signals_is_noted_once(store: Store, make_window: MakeWindow) -> None:
    filled(store, make_window, 3)
    known = digests_of(make_window, 0, 1)

    assert store.acknowledge_segments([*known, known[0], b"x" * 32]) == 2
    assert store.acknowledge_segments(known) == 0
    assert store.acknowledge_segments([]) == 0
    assert store.stats().unacknowledged_segments == 1


def test_by_age_only_acknowledged_signals_go_and_their_results_stay(store: Store, make_window: MakeWindow) -> None:
    witnessed(store, make_window, 4)
    store.acknowledge_segments(digests_of(make_window, 0, 2, 3))
    sizes = store.stats().segment_bytes

    report = store.retain(RetentionPolicy(signal_max_age_ms=WINDOW_MS - 1), at_ms=START_MS + 3 * WINDOW_MS)

    assert report == RetentionReport(segments=2, segment_bytes=sizes - store.stats().segment_bytes)
    assert [store.segment(digest) is None for digest in digests_of(make_window, 0, 1, 2, 3)] == [
        True,
        False,
        True,
        False,
    ]
    assert store.stats().results == 4
    assert store.take_events() == [
        ContentDropped(
            kind=ContentKind.SEGMENT,
            count=2,
            dropped_bytes=report.segment_bytes,
            unacknowledged=0,
            reason=DropReason.AGE,
        )
    ]
    entry = store.audit_trail()[-1]
    assert (entry.action, entry.subject, entry.at_ms) == (
        AuditAction.DROPPED,
        "segment age 2",
        START_MS + 3 * WINDOW_MS,
    )


def test_by_size_the_oldest_acknowledged_signals_go(store: Store, make_window: MakeWindow) -> None:
    witnessed(store, make_window, 4)
    store.acknowledge_segments(digests_of(make_window, 1, 2, 3))
    total = store.stats().segment_bytes

    report = store.retain(RetentionPolicy(signal_max_bytes=total - 1), at_ms=START_MS)

    assert (report.segments, report.unacknowledged_segments) == (1, 0)
    assert store.segment(digests_of(make_window, 1)[0]) is None
    report = store.retain(RetentionPolicy(signal_max_bytes=0), at_ms=START_MS)
    assert report.segments == 2
    assert store.stats().segments == 1  # it is on no server


def test_at_the_ceiling_what_is_on_no_server_goes_last_and_it_is_said(store: Store, make_window: MakeWindow) -> None:
    witnessed(store, make_window, 4)
    store.acknowledge_segments(digests_of(make_window, 2))
    store.take_events()

    report = store.retain(RetentionPolicy(store_max_bytes=0), at_ms=START_MS)

    assert (report.segments, report.unacknowledged_segments) == (4, 3)
    (event,) = store.take_events()
    assert isinstance(event, ContentDropped)
    assert (event.count, event.unacknowledged, event.reason) == (4, 3, DropReason.SIZE)
    assert store.stats().results == 4


def test_results_go_from_the_beginning_and_not_above_the_mark(store: Store, make_window: MakeWindow) -> None:
    filled(store, make_window, 5)
    store.apply_exchange(push(store, limit=3), ExchangeResponse(acknowledged=3), at_ms=START_MS + 4 * WINDOW_MS)

    report = store.retain(RetentionPolicy(results_max_age_ms=0), at_ms=START_MS + 4 * WINDOW_MS)

    assert report == RetentionReport(results=3)
    assert [result.counter for result in store.results()] == [4, 5]
    assert store.result(3) is None
    state = store.sync_state()
    assert (state.acknowledged, state.last_counter, state.waiting) == (3, 5, 2)
    assert [row.counter for row in push(store).results] == [4, 5]
    assert store.append_window(*make_window(9)).counter == 6
    assert store.stats().oldest_ms == START_MS + 3 * WINDOW_MS


def test_a_refusal_goes_with_its_result(store: Store, make_window: MakeWindow) -> None:
    results = filled(store, make_window, 2)
    verdict = RowVerdict(1, VerdictCode.REJECTED, 1)
    store.apply_exchange(push(store), ExchangeResponse(acknowledged=2, verdicts=(verdict,)), at_ms=START_MS + WINDOW_MS)

    store.retain(RetentionPolicy(results_max_age_ms=0), at_ms=START_MS + WINDOW_MS)

    assert list(store.results()) == results[1:]
    assert store.sync_state().refused == ()


def test_beats_go_by_age_whether_or_not_a_server_was_ever_met(store: Store) -> None:
    for first_ms in (START_MS, START_MS + 1_000, START_MS + 2_000):
        store.append_beats(beats(first_ms, first_ms + 10))

    report = store.retain(RetentionPolicy(beats_max_age_ms=500), at_ms=START_MS + 2_000)

    assert report == RetentionReport(beat_runs=2)
    assert [int(run.at_ms[0]) for run in store.beats(0, 2**60)] == [START_MS + 2_000]


def test_a_clock_that_is_a_year_ahead_drops_no_more_than_a_week_early(store: Store, make_window: MakeWindow) -> None:
    witnessed(store, make_window, 3)
    store.acknowledge_segments(digests_of(make_window, 0, 1, 2))
    store.append_beats(beats(START_MS))
    policy = RetentionPolicy(
        signal_max_age_ms=MAX_UNWITNESSED_MS,
        beats_max_age_ms=2 * MAX_UNWITNESSED_MS,
        results_max_age_ms=2 * MAX_UNWITNESSED_MS,
    )

    report = store.retain(policy, at_ms=START_MS + YEAR_MS)

    assert report == RetentionReport(segments=2, segment_bytes=report.segment_bytes)


def test_a_clock_that_is_a_year_behind_drops_nothing(store: Store, make_window: MakeWindow) -> None:
    witnessed(store, make_window, 3)
    store.acknowledge_segments(digests_of(make_window, 0, 1, 2))

    policy = RetentionPolicy(signal_max_age_ms=0, results_max_age_ms=0, beats_max_age_ms=0)

    assert store.retain(policy, at_ms=START_MS - YEAR_MS) == NOTHING


def test_a_result_recorded_under_a_wrong_clock_goes_with_its_neighbours(store: Store, make_window: MakeWindow) -> None:
    store.put_setting("sync_key", b"k" * 32)
    starts = [START_MS, START_MS + YEAR_MS, START_MS + 1, START_MS - YEAR_MS, START_MS + 9, START_MS + YEAR_MS]
    store.append_results([replace(make_window(0)[0], started_at_ms=start) for start in starts])
    request = push(store)
    store.apply_exchange(request, ExchangeResponse(acknowledged=6), at_ms=START_MS + 10)

    policy = RetentionPolicy(results_max_age_ms=5)

    assert store.retain(policy, at_ms=START_MS + 5).results == 0
    assert store.retain(policy, at_ms=START_MS + 7).results == 4
    assert [row.started_at_ms for row in store.results()] == starts[4:]
    assert store.retain(policy, at_ms=START_MS + 60_000).results == 1  # nothing after the last tells how old it is


def test_a_policy_below_nothing_is_refused(store: Store) -> None:
    for policy in (
        RetentionPolicy(signal_max_age_ms=-1),
        RetentionPolicy(signal_max_bytes=-1),
        RetentionPolicy(beats_max_age_ms=-1),
        RetentionPolicy(results_max_age_ms=-1),
        RetentionPolicy(store_max_bytes=-1),
    ):
        with pytest.raises(ValueError, match="negative"):
            store.retain(policy, at_ms=1)


def test_retaining_twice_drops_once(store: Store, make_window: MakeWindow) -> None:
    witnessed(store, make_window, 3)
    policy = RetentionPolicy(results_max_age_ms=0)
    store.retain(policy, at_ms=START_MS + 2 * WINDOW_MS)
    store.take_events()
    entries = store.stats().audit_entries

    assert store.retain(policy, at_ms=START_MS + 2 * WINDOW_MS) == NOTHING

    assert store.take_events() == []
    assert store.stats().audit_entries == entries


def test_what_was_dropped_is_still_waited_for_by_nobody(store: Store, make_window: MakeWindow) -> None:
    results = filled(store, make_window, 3)
    store.apply_exchange(push(store), ExchangeResponse(acknowledged=3), at_ms=START_MS + 2 * WINDOW_MS)
    store.retain(RetentionPolicy(results_max_age_ms=0), at_ms=START_MS + 2 * WINDOW_MS)

    assert push(store).results == ()
    assert push(store).epoch == 1
    assert [to_row(result) for result in store.results()] == [to_row(results[2])]
