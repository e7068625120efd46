"""The reader of SQLite's file format: the same rows as `sqlite3`, around damage, and never lost in hostile bytes."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.einthoven.sqlite_files import PlainPages, plain_file, query

from einthoven.errors import StoreDamaged
from einthoven.sqlite_btree import Lost, Row, leaf_rows, read_btree_page, walk
from einthoven.sqlite_pages import DamagedPage, MalformedRecord
from einthoven.sqlite_records import as_signed, decode_record, read_varint
from einthoven.sqlite_schema_pages import free_pages, read_file_header, schema_of

STEP_S = 2.0
"""Longest that one hostile file may take."""


def everything(pages: PlainPages) -> tuple[dict[str, list[Row]], list[Lost]]:
    """All rows by table or index, and all that was lost."""
    entered: set[int] = set()
    entries, lost = schema_of(pages, entered)
    rows: dict[str, list[Row]] = {}
    for entry in entries:
        found = list(walk(pages, entry.root, entered))
        rows[entry.name] = [row for row in found if isinstance(row, Row)]
        lost += [row for row in found if isinstance(row, Lost)]
    return rows, lost


@pytest.mark.parametrize("page_bytes", [512, 1_024, 4_096, 65_536])
@pytest.mark.parametrize("seed", range(3))
def test_every_row_is_the_one_that_sqlite_reads(page_bytes: int, seed: int) -> None:
    content = plain_file(seed, page_bytes=page_bytes)
    rows, lost = everything(PlainPages(content))
    assert lost == []
    assert [(row.rowid, *row.values[1:]) for row in rows["mixed"]] == query(content, "SELECT * FROM mixed ORDER BY a")
    assert [row.values for row in rows["keyed"]] == query(content, "SELECT y, x, z FROM keyed ORDER BY y, x")
    assert [row.values for row in rows["by_c"]] == query(content, "SELECT c, a FROM mixed ORDER BY c, a")


@pytest.mark.parametrize("page_bytes", [512, 4_096])
def test_every_page_is_in_a_tree_or_free(page_bytes: int) -> None:
    pages = PlainPages(plain_file(4, page_bytes=page_bytes))
    entered: set[int] = set()
    entries, _ = schema_of(pages, entered)
    for entry in entries:
        list(walk(pages, entry.root, entered))
    free = list(free_pages(pages, entered))
    header = read_file_header(pages)
    assert entered == set(range(1, pages.n_pages + 1))
    assert (header.n_pages, header.n_free) == (pages.n_pages, len(free))
    assert any(trunk for _, trunk in free)
    assert any(not trunk for _, trunk in free)
    # With secure_delete, a leaf of the freelist is zeros: what store_check relies on.
    assert all(not any(pages.page(number)) for number, trunk in free if not trunk)


@pytest.mark.parametrize("page_bytes", [512, 4_096])
def test_a_damaged_page_costs_what_lay_on_it_and_its_place_is_said(page_bytes: int) -> None:
    """Each page is taken away in turn; what is gone of the rowid table lies between the keys that are named."""
    content = plain_file(5, page_bytes=page_bytes, rows=150, longest=2_000)
    whole, _ = everything(PlainPages(content))
    all_rowids = {row.rowid for row in whole["mixed"]}
    told = 0
    for number in range(2, PlainPages(content).n_pages + 1):
        pages = PlainPages(content, frozenset({number}))
        entered: set[int] = set()
        entries, _ = schema_of(pages, entered)
        root = next(entry.root for entry in entries if entry.name == "mixed")
        found = list(walk(pages, root, entered))
        gone = all_rowids - {row.rowid for row in found if isinstance(row, Row)}
        places = [place for place in found if isinstance(place, Lost)]
        for rowid in gone:
            assert any(
                (place.after is None or place.after < (rowid,)) and (place.until is None or (rowid,) <= place.until)
                for place in places
            )
            told += 1
        assert {place.page for place in places} <= {number}
        assert bool(places) or not gone
    assert told > len(all_rowids) // 2


def test_rows_of_a_page_are_read_without_its_tree() -> None:
    """What salvaging strays needs: a leaf read alone gives the rows that a walk found on it."""
    pages = PlainPages(plain_file(6))
    rows, _ = everything(pages)
    for name in ("mixed", "keyed"):
        for number in {row.page for row in rows[name]}:
            alone = [row for row in leaf_rows(pages, read_btree_page(pages, number), set()) if isinstance(row, Row)]
            assert alone == [row for row in rows[name] if row.page == number]


@pytest.mark.parametrize("seed", range(40))
def test_flipped_bits_never_escape_as_another_error_and_always_end(seed: int) -> None:
    chance = random.Random(seed)
    content = bytearray(plain_file(7, page_bytes=512, rows=60, longest=1_500))
    for _ in range(chance.choice([1, 5, 100, 2_000])):
        # Lengths, types and pointers lie at the front of pages.
        page = chance.randrange(len(content) // 512)
        place = 512 * page + chance.randrange(chance.choice([16, 512]))
        if not 16 <= place < 21:
            content[place] ^= 1 << chance.randrange(8)
    began_s = time.process_time()
    pages = PlainPages(bytes(content))
    rows, _ = everything(pages)
    entered: set[int] = set()
    try:
        for _ in free_pages(pages, entered):
            pass
    except DamagedPage:
        pass
    for number in range(1, pages.n_pages + 1):
        try:
            list(leaf_rows(pages, read_btree_page(pages, number), set()))
        except DamagedPage:
            continue
    assert sum(len(found) for found in rows.values()) < 100_000
    assert time.process_time() - began_s < STEP_S


@given(st.binary(max_size=200))
def test_any_bytes_are_a_record_or_malformed(payload: bytes) -> None:
    try:
        values = decode_record(payload)
    except MalformedRecord:
        return
    assert sum(len(value) for value in values if isinstance(value, bytes | str)) <= len(payload)


@settings(max_examples=60)
@given(st.binary(min_size=512, max_size=512), st.sampled_from([2, 5, 10, 13]))
def test_any_page_gives_rows_or_says_that_it_can_not(noise: bytes, kind: int) -> None:
    header = bytearray(plain_file(8, page_bytes=512, rows=2, longest=10)[:512])
    pages = PlainPages(bytes(header) + bytes([kind]) + noise[1:] + noise)
    list(walk(pages, 2, set()))
    try:
        list(leaf_rows(pages, read_btree_page(pages, 2), set()))
    except DamagedPage:
        assert (kind, noise) != (13, bytes(512))


@given(st.integers(-(2**63), 2**63 - 1))
def test_varints_are_read_as_sqlite_writes_them(number: int) -> None:
    written = sqlite_varint(number % 2**64)
    assert read_varint(written, 0) == (number % 2**64, len(written))
    assert as_signed(read_varint(written, 0)[0]) == number


def sqlite_varint(number: int) -> bytes:
    """Section 1.6, written down the other way round."""
    if number >= 2**56:
        return bytes(0x80 | (number >> shift) & 0x7F for shift in range(57, 7, -7)) + bytes([number & 0xFF])
    groups = [number & 0x7F]
    while number := number >> 7:
        groups.append(0x80 | number & 0x7F)
    return bytes(reversed(groups))


def test_pages_that_point_at_each_other_are_entered_once() -> None:
    content = bytearray(plain_file(9, page_bytes=512, rows=200))
    pages = PlainPages(bytes(content))
    interior = next(n for n in range(2, pages.n_pages) if content[(n - 1) * 512] == 5)
    at = (interior - 1) * 512
    content[at + 8 : at + 12] = interior.to_bytes(4, "big")
    _, lost = everything(PlainPages(bytes(content)))
    assert interior in {place.page for place in lost}


def test_errors_are_of_the_store_and_name_no_content() -> None:
    for error in (DamagedPage(7, MISSING_WORDS), MalformedRecord("x")):
        assert isinstance(error, StoreDamaged)
    assert str(DamagedPage(7, MISSING_WORDS)).startswith("page 7 of the store is gone; ")


MISSING_WORDS = "is gone"


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (b"", "ends within a number"),
        (b"\x05\x01", "header is longer"),
        (b"\x00", "header is longer"),
        (b"\x02\x0a", "reserved"),
        (b"\x02\x01", "longer than the row"),
        (b"\x02\x08\x00", "longer than its values"),
        (b"\x02\x0f\xff", "not UTF-8"),
        (b"\x02\x8f", "ends within a number"),
    ],
)
def test_what_is_no_record_is_said(payload: bytes, why: str) -> None:
    with pytest.raises(MalformedRecord, match=why):
        decode_record(payload)


def test_a_stored_nan_is_null() -> None:
    assert decode_record(b"\x02\x07\x7f\xf8" + bytes(6)) == (None,)


def freelist_of(n_leaves: int, leaves: tuple[int, ...]) -> PlainPages:
    """A file whose freelist is one trunk, page 2."""
    content = bytearray(plain_file(8, page_bytes=512, rows=2, longest=10)[:512])
    content[32:40] = (2).to_bytes(4, "big") + (1 + n_leaves).to_bytes(4, "big")
    trunk = bytes(4) + n_leaves.to_bytes(4, "big") + b"".join(leaf.to_bytes(4, "big") for leaf in leaves)
    return PlainPages(bytes(content) + trunk.ljust(512, b"\0") + bytes(512))


def test_a_freelist_that_lies_is_damage() -> None:
    assert list(free_pages(freelist_of(1, (3,)), set())) == [(2, True), (3, False)]
    for pages in (freelist_of(500, ()), freelist_of(1, (9,)), freelist_of(1, (2,)), freelist_of(1, (1,))):
        with pytest.raises(DamagedPage):
            list(free_pages(pages, set()))


def test_a_schema_line_that_is_none_is_lost() -> None:
    content = bytearray(plain_file(8, page_bytes=512, rows=2, longest=10))
    where = content.index(b"tablemixedmixed")
    content[where : where + 5] = b"tacle"
    entries, lost = schema_of(PlainPages(bytes(content)), set())
    assert {entry.name for entry in entries} == {"keyed", "by_c"}
    assert [place.page for place in lost] == [1]
