"""Tags, sums and packed rows: what is written is what is counted, whichever way it was written."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlcipher3 import dbapi2

from einthoven.errors import StoreDamaged
from einthoven.result_packing import HEAD_BYTES, pack_results
from einthoven.results import InconclusiveReason, Quality, Rhythm, RiskTier, WindowResult
from einthoven.sqlcipher_rows import RESULTS_PER_STATEMENT, SqlCipherRows
from einthoven.sqlcipher_signals import PAGE_BODY_BYTES, read_signal
from einthoven.store_events import ForkReason
from einthoven.store_migrations import create_tables
from einthoven.store_rules import result_row_bytes
from einthoven.store_schema import TABLES, place_of, position_of
from einthoven.store_tags import RowTags, TableSums
from einthoven.store_values import DamageReason

KEY = bytes(range(32))
BASE = WindowResult(
    counter=0,
    started_at_ms=1_700_000_000_000,
    duration_ms=30_000,
    n_steps=30,
    usable_s=29,
    quality=Quality.GAP | Quality.MAINS,
    rhythm=Rhythm.AF,
    confidence_permille=871,
    logits=(-(2**31), 0, 5, 2**31 - 1),
    tier=RiskTier.URGENT,
    reason=InconclusiveReason.NONE,
    model_digest=b"m" * 32,
    front_end_version=3,
    segment_digest=b"s" * 32,
)


@pytest.fixture
def rows() -> Iterator[SqlCipherRows]:
    connection = dbapi2.connect(":memory:", isolation_level=None)
    create_tables(connection, store_id=bytes(16), at_ms=1)
    yield SqlCipherRows(connection)
    connection.close()


def counted(rows: SqlCipherRows) -> TableSums:
    sums = TableSums()
    for table in TABLES:
        for (tag,) in rows.connection.execute(f"SELECT tag FROM {table.name}"):
            sums.add(table.name, tag)
    return sums


def as_stored(rows: SqlCipherRows) -> tuple[int, TableSums, bytes]:
    line = rows.connection.execute("SELECT commit_seq, sums, audit_head FROM store").fetchone()
    return line[0], TableSums.decode(line[1]), line[2]


# ---- tags ------------------------------------------------------------------------------------------------------------

VALUES = st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1), st.text(max_size=4), st.binary(max_size=4))


@given(st.lists(VALUES, max_size=4), st.lists(VALUES, max_size=4))
def test_different_rows_have_different_tags(
    one: list[int | str | bytes | None], two: list[int | str | bytes | None]
) -> None:
    tags = RowTags(KEY)
    same = [(type(value), value) for value in one] == [(type(value), value) for value in two]

    assert (tags.tag("setting", one) == tags.tag("setting", two)) == same
    assert tags.tag("setting", one) != tags.tag("annotation", one)
    assert tags.tag("setting", one) != RowTags(bytes(32)).tag("setting", one)


def test_a_result_whose_time_is_not_that_of_its_body_has_no_right_tag() -> None:
    tags = RowTags(KEY)
    body = result_row_bytes(replace(BASE, counter=7))
    good = (position_of(1, 7), BASE.started_at_ms, body, BASE.segment_digest)
    tag = tags.tag("result", good)

    assert tags.holds("result", good, tag)
    for bad in ((*good[:1], 5, *good[2:]), (None, *good[1:]), (*good[:3], b"short"), (*good[:2], "text", good[3])):
        assert not tags.holds("result", bad, tag)
    assert not tags.holds("result", good, None)
    assert not tags.holds("setting", ("name", 1.5), tag)  # type: ignore[arg-type]  # what a changed file may hold


def test_a_key_of_the_wrong_length_is_refused_and_none_is_shown() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        RowTags(b"short")
    assert KEY.hex() not in repr(RowTags(KEY))


@given(st.lists(st.binary(min_size=16, max_size=16), max_size=20))
def test_sums_of_many_are_those_of_each_and_can_be_taken_back(tags: list[bytes]) -> None:
    one_by_one, at_once = TableSums(), TableSums()
    for tag in tags:
        one_by_one.add("result", tag)
    at_once.add_many("result", b"".join(tags))

    assert at_once == one_by_one
    assert TableSums.decode(at_once.encode()) == at_once
    assert at_once.count("result") == len(tags)
    at_once.remove_many("result", b"".join(reversed(tags)))
    assert at_once == TableSums()
    assert (one_by_one.differing(TableSums()) == ["result"]) == bool(tags)


def test_what_are_no_sums_is_refused() -> None:
    with pytest.raises(ValueError, match="tables"):
        TableSums.decode(b"x")
    with pytest.raises(ValueError, match="whole"):
        TableSums().add_many("result", b"x")


# ---- packed results --------------------------------------------------------------------------------------------------

RESULTS = st.builds(
    WindowResult,
    counter=st.just(0),
    started_at_ms=st.integers(0, 2**47 - 1),
    duration_ms=st.integers(0, 24 * 3600 * 1000),
    n_steps=st.integers(0, 2**15 - 1),
    usable_s=st.integers(0, 2**15 - 1),
    quality=st.builds(Quality, st.integers(0, 255)),
    rhythm=st.sampled_from(Rhythm),
    confidence_permille=st.integers(0, 1_000),
    logits=st.tuples(*[st.integers(-(2**31), 2**31 - 1)] * 4),
    tier=st.sampled_from(RiskTier),
    reason=st.sampled_from(InconclusiveReason),
    model_digest=st.binary(min_size=32, max_size=32),
    front_end_version=st.integers(0, 2**15 - 1),
    segment_digest=st.binary(min_size=32, max_size=32),
)


@given(st.lists(RESULTS, min_size=1, max_size=4), st.integers(1, 2**31 - 1), st.integers(1, 2**31 - 5))
def test_packed_rows_are_the_canonical_ones(results: list[WindowResult], epoch: int, first: int) -> None:
    packed = pack_results(results, epoch, first)

    for number, (result, row) in enumerate(zip(results, packed.rows, strict=True)):
        assert row[:HEAD_BYTES] == position_of(epoch, first + number).to_bytes(8, "big") + result.segment_digest
        assert row[HEAD_BYTES:] == result_row_bytes(replace(result, counter=first + number))
        assert int(packed.times[15 * number : 15 * number + 15]) == result.started_at_ms


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("started_at_ms", -1),
        ("started_at_ms", 2**47),
        ("duration_ms", 24 * 3600 * 1000 + 1),
        ("n_steps", 2**15),
        ("usable_s", 2**16),
        ("quality", 2**15),
        ("rhythm", 256),
        ("confidence_permille", 1_001),
        ("logits", (0, 0, 0)),
        ("logits", (0, 0, 0, 2**31)),
        ("tier", -1),
        ("reason", 1.5),
        ("front_end_version", 2**15),
        ("model_digest", b"m" * 31),
        ("segment_digest", b"s" * 33),
        ("segment_digest", "s" * 32),
    ],
)
def test_a_value_that_does_not_fit_is_named_and_nothing_is_written(
    rows: SqlCipherRows, field: str, value: object
) -> None:
    before = as_stored(rows)
    results = [BASE, replace(BASE, **{field: value}), BASE]  # type: ignore[arg-type]

    with pytest.raises(ValueError, match="|".join((field, "logit", "integer", "wrong type"))), rows.transaction():
        rows.append_results(results)

    assert as_stored(rows) == before
    assert rows.sums == counted(rows)


def test_the_counters_of_an_epoch_end(rows: SqlCipherRows) -> None:
    with rows.transaction():
        rows.put("epoch", (1, 2**31 - 2, 0, 1))
    with rows.transaction():
        assert rows.append_results([BASE]) == range(2**31 - 1, 2**31)
    with pytest.raises(ValueError, match="counter"), rows.transaction():
        rows.append_results([BASE])


def test_many_results_at_once_are_what_one_at_a_time_would_be(rows: SqlCipherRows) -> None:
    n = RESULTS_PER_STATEMENT + 3
    results = [
        replace(BASE, started_at_ms=BASE.started_at_ms + i, segment_digest=i.to_bytes(32, "big")) for i in range(n)
    ]
    with rows.transaction():
        assert rows.append_results(results) == range(1, n + 1)
        assert rows.append_results([]) == range(n + 1, n + 1)

    found = list(rows.select("result", "ORDER BY position"))
    assert [row[0] for row in found] == [position_of(1, counter) for counter in range(1, n + 1)]
    assert [row[1:] for row in found] == [
        (result.started_at_ms, result_row_bytes(replace(result, counter=counter)), result.segment_digest)
        for counter, result in enumerate(results, 1)
    ]
    assert rows.sums == counted(rows)
    assert rows.current_epoch() == (1, n, 0, 1)


# ---- transactions ----------------------------------------------------------------------------------------------------


def test_a_commit_is_numbered_once_and_one_that_changes_nothing_is_none(rows: SqlCipherRows) -> None:
    with rows.transaction():
        rows.put("setting", ("a", b"1"))
        rows.put("setting", ("a", b"2"))
        rows.put("setting", ("b", b"3"))
        assert rows.delete("setting", ("b",))
        assert not rows.delete("setting", ("c",))
    digest = rows.state_digest()
    assert as_stored(rows) == (1, counted(rows), rows.audit_head)

    with rows.transaction():
        assert rows.get("setting", ("a",)) == ("a", b"2")
    assert (rows.commit_seq, rows.state_digest()) == (1, digest)
    assert SqlCipherRows(rows.connection).state_digest() == digest

    with rows.transaction():
        rows.put("setting", ("a", b"4"))
    assert rows.state_digest() != digest


def test_what_failed_leaves_memory_as_the_file_is(rows: SqlCipherRows) -> None:
    with rows.transaction():
        rows.append_windows([(BASE, b"signal")])
    before, digest = as_stored(rows), rows.state_digest()

    def write_and_fail() -> None:
        with rows.transaction():
            rows.append_windows([(replace(BASE, segment_digest=b"t" * 32), b"another")])
            rows.fork(ForkReason.COPIED, at_ms=5)
            raise KeyError

    with pytest.raises(KeyError):
        write_and_fail()

    assert rows.events == []
    assert (as_stored(rows), rows.state_digest()) == (before, digest)
    with rows.transaction():
        assert rows.append_windows([(replace(BASE, segment_digest=b"u" * 32), b"more")])[0].counter == 2
        assert rows.append_audit(1, "", at_ms=2).seq == 2  # type: ignore[arg-type]
    assert rows.sums == counted(rows)


def test_a_fork_goes_on_in_a_higher_epoch_with_counters_of_its_own(rows: SqlCipherRows) -> None:
    with rows.transaction():
        rows.append_results([BASE, BASE])
        forked = rows.fork(ForkReason.TURNED_BACK, at_ms=9)
        assert rows.append_results([BASE]) == range(1, 2)

    assert rows.events == [forked]
    assert forked.old_epoch == 1 < forked.new_epoch
    assert [row[0] for row in rows.select("result")] == [
        position_of(1, 1),
        position_of(1, 2),
        position_of(forked.new_epoch, 1),
    ]
    state = rows.state()
    assert (state.epoch, state.highest_epoch, state.commit_seq) == (forked.new_epoch, forked.new_epoch, 1)


def test_damaged_rows_are_left_out_reported_and_refused(rows: SqlCipherRows) -> None:
    seen: list[tuple[str, str, DamageReason]] = []
    reader = SqlCipherRows(
        rows.connection, lambda table, values, reason: seen.append((table, place_of(table, values), reason))
    )
    with rows.transaction():
        rows.put("setting", ("a", b"1"))
        rows.put("setting", ("b", b"2"))
    rows.connection.execute("UPDATE setting SET value = x'00' WHERE name = 'a'")

    assert list(reader.select("setting")) == [("b", b"2")]
    with pytest.raises(StoreDamaged, match="setting a"):
        reader.get("setting", ("a",))
    assert seen == [("setting", "a", DamageReason.TAG_WRONG)] * 2


@pytest.mark.parametrize("statement", ["DELETE FROM store", "UPDATE store SET sums = x'00'"])
def test_without_its_own_line_a_store_is_damaged(rows: SqlCipherRows, statement: str) -> None:
    rows.connection.execute(statement)
    with pytest.raises(StoreDamaged):
        SqlCipherRows(rows.connection)


@pytest.mark.parametrize("statement", ["DELETE FROM epoch", "DELETE FROM sync"])
def test_without_its_epoch_a_store_writes_no_result(rows: SqlCipherRows, statement: str) -> None:
    rows.connection.execute(statement)
    with pytest.raises(StoreDamaged), rows.transaction():
        rows.append_results([BASE])


def test_without_its_place_in_the_sync_a_store_does_not_fork(rows: SqlCipherRows) -> None:
    rows.connection.execute("DELETE FROM sync")
    with pytest.raises(StoreDamaged), rows.transaction():
        rows.fork(ForkReason.COPIED, at_ms=1)


# ---- signals ---------------------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(
    st.lists(st.integers(1, 3 * PAGE_BODY_BYTES), min_size=1, max_size=8),
    st.data(),
)
def test_signals_of_any_length_are_read_back_whatever_is_removed(lengths: list[int], data: st.DataObject) -> None:
    connection = dbapi2.connect(":memory:", isolation_level=None)
    create_tables(connection, store_id=bytes(16), at_ms=1)
    rows = SqlCipherRows(connection)
    held: dict[bytes, bytes] = {}
    given_so_far = 0
    for _ in range(3):
        with rows.transaction():
            for length in lengths:
                given_so_far += 1
                signal = np.random.default_rng(given_so_far).integers(1, 256, length, dtype=np.uint8).tobytes()
                held[digest := secrets.token_bytes(32)] = signal
                rows.insert_segment(digest, 1, signal)
                rows.insert_segment(digest, 1, b"not kept twice")
        if data.draw(st.booleans()):
            rows = SqlCipherRows(connection)
        removed = data.draw(st.sets(st.sampled_from(sorted(held)))) if held else set()
        numbers = sorted(row[0] for row in rows.select("segment") if row[1] in removed)
        with rows.transaction():
            rows.remove_segments(numbers)
        gone = [held.pop(digest) for digest in removed]
        lines = {row[1]: read_signal(rows, *row[4:]) for row in rows.select("segment")}

        assert lines == held
        assert rows.sums == counted(rows)
        run = b"".join(body for _, body in rows.select("signal_page", "ORDER BY id"))
        # Nothing is left of what was removed, and nothing is kept that no signal lies in.
        assert not any(signal[at : at + 24] in run for signal in gone for at in range(0, len(signal) - 24, 997))
        assert len(run) <= sum(map(len, held.values())) + 2 * PAGE_BODY_BYTES * (len(held) + 1)
    connection.close()


def test_a_signal_with_a_part_that_is_missing_or_changed_is_not_to_be_had(rows: SqlCipherRows) -> None:
    with rows.transaction():
        rows.insert_segment(b"a" * 32, 1, bytes(2 * PAGE_BODY_BYTES))
        rows.insert_segment(b"b" * 32, 1, b"whole")
    (one, other) = rows.select("segment", "ORDER BY id")
    rows.connection.execute("UPDATE signal_page SET body = zeroblob(length(body) - 1) WHERE id = 1")
    assert read_signal(rows, *one[4:]) is None
    assert read_signal(rows, *other[4:]) == b"whole"

    rows.connection.execute("DELETE FROM signal_page WHERE id > 0")
    assert read_signal(rows, *one[4:]) is None
    # What is written next overlaps nothing, so removing what was lost takes nothing else along.
    rows = SqlCipherRows(rows.connection)
    with rows.transaction():
        rows.insert_segment(b"c" * 32, 1, b"new")
        rows.remove_segments([one[0], other[0]])
    (new,) = rows.select("segment")
    assert read_signal(rows, *new[4:]) == b"new"
