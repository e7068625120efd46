"""The merge rule is a join: commutative, associative, idempotent; and the clock under it only goes forward."""

from __future__ import annotations

import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from einthoven_protocol import hlc, limits
from einthoven_protocol.errors import LimitExceeded
from einthoven_protocol.merge import base_mark, merge_annotation
from einthoven_protocol.messages import AnnotationRow, FurtherRegister, Register, ResultId

TARGET = ResultId(7, 1, 42)

# Few times and few values, so that equal times with different values come up often.
registers = st.builds(Register, st.sampled_from(["", "A", "N", "a", "é", "e\u0301", "\uffff", "😀"]), st.integers(0, 3))
few_further = st.dictionaries(
    st.integers(0, 2), st.tuples(st.integers(0, 3), st.sampled_from([b"", b"\x7f", b"\x80"]))
).map(lambda held: tuple(FurtherRegister(n, hlc, value) for n, (hlc, value) in sorted(held.items()) if hlc or value))
rows = st.builds(
    AnnotationRow,
    target=st.just(TARGET),
    author=st.just("p-1"),
    rhythm=registers,
    comment=registers,
    further=few_further,
)
NOTHING = AnnotationRow(target=TARGET, author="p-1", rhythm=Register("", 0), comment=Register("", 0))


@given(a=rows, b=rows)
def test_merge_is_commutative(a: AnnotationRow, b: AnnotationRow) -> None:
    assert merge_annotation(a, b) == merge_annotation(b, a)


@given(a=rows, b=rows, c=rows)
def test_merge_is_associative(a: AnnotationRow, b: AnnotationRow, c: AnnotationRow) -> None:
    assert merge_annotation(merge_annotation(a, b), c) == merge_annotation(a, merge_annotation(b, c))


@given(a=rows, b=rows)
def test_merge_is_idempotent(a: AnnotationRow, b: AnnotationRow) -> None:
    assert merge_annotation(a, a) == a
    assert merge_annotation(merge_annotation(a, b), b) == merge_annotation(a, b)


@given(written=st.lists(rows, min_size=1, max_size=4))
def test_replicas_agree_in_whatever_order_rows_come(written: list[AnnotationRow]) -> None:
    outcomes = set()
    for order in itertools.permutations(written):
        merged = order[0]
        for row in order[1:]:
            merged = merge_annotation(merged, row)
        outcomes.add(msgspec.json.encode(merged))
    assert len(outcomes) == 1


@given(row=rows)
def test_what_says_nothing_is_the_identity(row: AnnotationRow) -> None:
    assert merge_annotation(row, NOTHING) == merge_annotation(NOTHING, row) == row


@given(a=rows, b=rows)
def test_further_registers_are_united_and_stay_in_order(a: AnnotationRow, b: AnnotationRow) -> None:
    merged = {register.number: register for register in merge_annotation(a, b).further}
    assert list(merged) == sorted({register.number for register in (*a.further, *b.further)})
    for register in (*a.further, *b.further):
        held = merged[register.number]
        assert (held.hlc, held.value) >= (register.hlc, register.value)


def test_a_base_mark_tells_times_apart() -> None:
    assert base_mark(0) == 0
    assert base_mark(limits.MAX_BASE_MARK - 1) == limits.MAX_BASE_MARK
    now = 1_780_000_000_000 << 16
    marks = [base_mark(now + count) for count in range(1_000)] + [base_mark(now + (ms << 16)) for ms in range(1, 1_000)]
    assert min(marks) >= 1
    assert max(marks) <= limits.MAX_BASE_MARK
    # 1,999 of 65,521: some few meet by chance where counts and milliseconds cross, none within a kind.
    assert len(set(marks[:1_000])) == 1_000
    assert len(set(marks[1_000:])) == 999


def test_fields_are_decided_one_by_one() -> None:
    a = AnnotationRow(target=TARGET, author="p-1", rhythm=Register("A", 5), comment=Register("old", 1))
    b = AnnotationRow(target=TARGET, author="p-1", rhythm=Register("N", 4), comment=Register("new", 2))
    merged = merge_annotation(a, b)
    assert (merged.rhythm.value, merged.comment.value) == ("A", "new")


def test_equal_times_are_decided_by_utf8_order() -> None:
    # UTF-16 would put U+FFFF above U+1F600.
    low, high = Register("\uffff", 1), Register("😀", 1)
    assert low.value.encode() < high.value.encode()
    row = AnnotationRow(target=TARGET, author="p-1", rhythm=Register("", 0), comment=low)
    assert merge_annotation(row, msgspec.structs.replace(row, comment=high)).comment == high


def test_rows_of_other_results_or_authors_do_not_merge() -> None:
    row = AnnotationRow(target=TARGET, author="p-1", rhythm=Register("", 0), comment=Register("", 0))
    for other in (
        msgspec.structs.replace(row, author="p-2"),
        msgspec.structs.replace(row, target=ResultId(7, 1, 43)),
    ):
        with pytest.raises(ValueError, match="one result by one author"):
            merge_annotation(row, other)


# ---- hybrid logical clock -----------------------------------------------------------------------------------------

times_ms = st.integers(-(10**12), limits.MAX_TIME_MS + 10**12)
hlcs = st.integers(0, limits.MAX_HLC - 2)


@given(last=hlcs, now_ms=times_ms)
def test_a_tick_goes_forward_and_never_behind_the_wall_clock(last: int, now_ms: int) -> None:
    time = hlc.tick(last, now_ms)
    assert last < time <= limits.MAX_HLC
    assert hlc.hlc_ms(time) >= min(now_ms, limits.MAX_TIME_MS)


@given(last=hlcs, remote=hlcs, now_ms=st.integers(0, limits.MAX_TIME_MS // 2))
def test_what_is_received_goes_forward_and_is_clamped(last: int, remote: int, now_ms: int) -> None:
    time = hlc.receive(last, remote, now_ms)
    assert time > last
    if remote <= hlc.latest_believed(now_ms):
        assert time > remote
    assert time <= max(last, hlc.latest_believed(now_ms)) + 1


def test_a_wrong_clock_drags_nobody_further_than_the_skew() -> None:
    now_ms = 1_780_000_000_000
    year_ahead = (now_ms + 365 * 86_400_000) << 16
    time = hlc.receive(now_ms << 16, year_ahead, now_ms)
    assert hlc.hlc_ms(time) <= now_ms + limits.MAX_CLOCK_SKEW_MS + 1


def test_a_remote_time_within_the_skew_is_believed() -> None:
    now_ms = 1_780_000_000_000
    ahead = (now_ms + limits.MAX_CLOCK_SKEW_MS) << 16 | 9
    assert hlc.receive(0, ahead, now_ms) == ahead + 1


def test_a_clock_that_is_set_back_keeps_its_order() -> None:
    later = hlc.tick(0, 1_780_000_000_000)
    assert hlc.tick(later, 1_780_000_000_000 - 365 * 86_400_000) == later + 1


def test_a_count_that_runs_over_carries_into_the_milliseconds() -> None:
    full = 5 << 16 | 0xFFFF
    assert hlc.tick(full, 5) == 6 << 16


def test_a_clock_that_has_run_out_says_so() -> None:
    with pytest.raises(LimitExceeded):
        hlc.tick(limits.MAX_HLC, 0)
    with pytest.raises(LimitExceeded):
        hlc.receive(limits.MAX_HLC, 0, 0)
