"""Repair: a whole file of a damaged one, every row of a whole page in it, and what is missing named."""

from __future__ import annotations

import os
import random
import re
import shutil
from contextlib import closing
from pathlib import Path

import pytest
from tests.contracts.conftest import window

from einthoven.anchor_file import FileAnchor, anchor_path
from einthoven.errors import StoreDamaged, StoreIOError
from einthoven.file_lock import FileLock
from einthoven.key_slots import read_slots
from einthoven.keys import StaticKeyProvider
from einthoven.rollback import judge
from einthoven.sqlcipher_connection import FileKey, open_reader, open_writer
from einthoven.sqlcipher_page_file import PageFile
from einthoven.sqlcipher_rows import SqlCipherRows
from einthoven.sqlcipher_signals import read_signal
from einthoven.sqlite_btree import Row, walk
from einthoven.sqlite_schema_pages import schema_of
from einthoven.store_check import check_store
from einthoven.store_events import DamageQuarantined, ForkReason, StoreForked
from einthoven.store_line import STORE_SHAPES, untagged
from einthoven.store_losses import pages_of_extent
from einthoven.store_repair import MAX_SET_ASIDE, Repaired, damaged_files, repair_store_file, set_aside
from einthoven.store_schema import CONTENT_KINDS, TABLE_BY_NAME, TABLES
from einthoven.store_sqlcipher import SqlCipherStore
from einthoven.store_values import CheckReport, ContentKind
from einthoven_bench.store_specimens import AT_MS, PAGE_BYTES, Rows, Specimen, make_specimen, read_rows

NOW_MS = AT_MS + 10**9
MENDED = {"epoch", "sync", "quarantine", "audit", "signal_page", "link", "note_log"}
"""Tables that a repair itself writes to."""
SMALL = {"epoch", "sync", "refusal", "segment", "link", "note_log"}
SMALL |= {"owner", "bucket", "deletion", "alert_sent", "to_give", "draft", "dropped_run"}
"""Tables whose rows may all lie on one page."""


@pytest.fixture(scope="module")
def specimen(tmp_path_factory: pytest.TempPathFactory) -> Specimen:
    return make_specimen(tmp_path_factory.mktemp("specimen"), results=120)


@pytest.fixture(scope="module")
def lying_on(specimen: Specimen) -> dict[int, set[tuple[str, tuple[object, ...]]]]:
    """Rows by each page that they lie on, overflow pages too, of the whole file."""
    found: dict[int, set[tuple[str, tuple[object, ...]]]] = {}
    shapes = {shape.name: shape for shape in STORE_SHAPES}
    with PageFile(specimen.path) as file, file.pages(specimen.key) as pages:
        entered: set[int] = set()
        entries, _ = schema_of(pages, entered)
        for entry in entries:
            if entry.name not in TABLE_BY_NAME:
                continue
            table = TABLE_BY_NAME[entry.name]
            seen = set(entered)
            for row in walk(pages, entry.root, entered):
                assert isinstance(row, Row)
                values = shapes[entry.name].row(row)
                assert values is not None
                content = untagged(entry.name, values)
                key = tuple(content[table.columns.index(column)] for column in table.key)
                overflow = {number for number in entered - seen if pages.page(number)[0] == 0}
                seen = set(entered)
                for number in {row.page, *overflow}:
                    found.setdefault(number, set()).add((entry.name, key))
    return {number: on_page | with_their_signals(specimen, on_page) for number, on_page in found.items()}


def with_their_signals(
    specimen: Specimen, on_page: set[tuple[str, tuple[object, ...]]]
) -> set[tuple[str, tuple[object, ...]]]:
    """A signal goes with any of its bytes, and bytes go with the last signal among them."""
    extents = {key: pages_of_extent(row[4:6]) for key, row in specimen.rows["segment"].items()}  # type: ignore[arg-type]
    signals = {
        key
        for key, (first, last) in extents.items()
        if ("segment", key) in on_page or any(("signal_page", (page,)) in on_page for page in range(first, last + 1))
    }
    pages = {("signal_page", (page,)) for key in signals for page in range(extents[key][0], extents[key][1] + 1)}
    return {("segment", key) for key in signals} | pages


def key_now(specimen: Specimen) -> FileKey:
    slots = read_slots(specimen.path)
    assert slots is not None
    assert len(slots.slots) == 1
    return FileKey(specimen.key.data_key, slots.slots[0].salt)


def check_now(specimen: Specimen) -> CheckReport:
    key = key_now(specimen)
    with PageFile(specimen.path) as file, file.pages(key) as pages:
        return check_store(
            pages,
            key.salt,
            lambda: closing(open_reader(specimen.path, key)),
            anchored=specimen.anchor.read(),
            inode=file.inode,
        )


def repair(specimen: Specimen) -> Repaired:
    lock = FileLock(specimen.path)
    try:
        return repair_store_file(specimen.path, specimen.key, specimen.slots, specimen.anchor, at_ms=NOW_MS)
    finally:
        lock.release()


def flipped(specimen: Specimen, *numbers: int, seed: int = 0) -> bytes:
    chance = random.Random(seed)
    content = bytearray(specimen.content)
    for number in numbers:
        content[(number - 1) * PAGE_BYTES + chance.randrange(16, PAGE_BYTES)] ^= 1 << chance.randrange(8)
    return bytes(content)


def gone(before: Rows, after: Rows) -> set[tuple[str, tuple[object, ...]]]:
    """Rows that are not there any more, tables aside whose rows the repair rewrote; no row may have changed."""
    for table, rows in before.items():
        for key, row in rows.items():
            if table not in MENDED:
                assert after[table].get(key, row) == row
    return {(table, key) for table, rows in before.items() for key in rows.keys() - after[table].keys()}


def repaired_copy(specimen: Specimen, folder: Path, content: bytes) -> tuple[Specimen, Repaired]:
    copy = specimen.copied_to(folder)
    copy.put(content)
    repaired = repair(copy)
    assert not copy.path.with_name(copy.path.name + ".new").exists()
    return copy, repaired


def pages_to_try(specimen: Specimen, every: int) -> list[int]:
    return [1, 2, *range(3, specimen.n_pages + 1, every)]


def try_pages(
    specimen: Specimen,
    lying_on: dict[int, set[tuple[str, tuple[object, ...]]]],
    folder: Path,
    numbers: list[int],
) -> int:
    lost = 0
    for number in numbers:
        copy, repaired = repaired_copy(specimen, folder / str(number), flipped(specimen, number, seed=number))
        rows = read_rows(copy.path, key_now(copy))
        missing = gone(specimen.rows, rows)
        assert missing <= lying_on.get(number, set()), number
        lost += len(missing)
        named = {table for table, _ in missing} - {"sync", "epoch"}
        assert bool(named) <= bool(repaired.losses), (number, named)
        assert repaired.damaged_pages == (number,) or not missing
        report = check_now(copy)
        assert report.sound, (number, report.findings)
    return lost


def test_whatever_page_is_damaged_the_rest_is_kept(
    specimen: Specimen, lying_on: dict[int, set[tuple[str, tuple[object, ...]]]], tmp_path: Path
) -> None:
    assert try_pages(specimen, lying_on, tmp_path, pages_to_try(specimen, 6)) > 0


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_page_of_the_file(
    specimen: Specimen, lying_on: dict[int, set[tuple[str, tuple[object, ...]]]], tmp_path: Path
) -> None:
    assert try_pages(specimen, lying_on, tmp_path, pages_to_try(specimen, 1)) > 100


@pytest.mark.parametrize("seed", range(3))
def test_many_damaged_pages_at_once(
    specimen: Specimen, lying_on: dict[int, set[tuple[str, tuple[object, ...]]]], tmp_path: Path, seed: int
) -> None:
    numbers = random.Random(seed).sample(range(1, specimen.n_pages + 1), specimen.n_pages // 4)
    copy, _ = repaired_copy(specimen, tmp_path / "copy", flipped(specimen, *numbers))
    on_them = set().union(*(lying_on.get(number, set()) for number in numbers))
    assert gone(specimen.rows, read_rows(copy.path, key_now(copy))) <= on_them
    assert check_now(copy).sound


def test_what_was_lost_is_named_and_the_store_forks(
    specimen: Specimen, lying_on: dict[int, set[tuple[str, tuple[object, ...]]]], tmp_path: Path
) -> None:
    number = max(
        (number for number, rows in lying_on.items() if {table for table, _ in rows} == {"result"}),
        key=lambda number: len(lying_on[number]),
    )
    copy, repaired = repaired_copy(specimen, tmp_path / "copy", flipped(specimen, number))
    counters = sorted(key[0] & 0xFFFFFFFF for _, key in lying_on[number])
    (loss,) = repaired.losses
    assert (loss.kind, loss.place) == (ContentKind.RESULT, f"1:{counters[0]}-{counters[-1]}")
    forked, damage = repaired.events
    assert isinstance(forked, StoreForked)
    assert (forked.old_epoch, forked.reason) == (1, ForkReason.REPAIRED)
    assert damage == DamageQuarantined(loss.kind, loss.place, loss.reason)
    with closing(open_reader(copy.path, key_now(copy))) as connection:
        rows = SqlCipherRows(connection)
        quarantined = list(rows.select("quarantine"))
        assert quarantined[-1][1:] == (int(loss.kind), loss.place, int(loss.reason), NOW_MS)
        assert rows.current_epoch() == (forked.new_epoch, 0, 0, 1)
        # The anchor was told, so opening the new file does not fork once more.
        assert judge(rows.state(), copy.anchor.read(), rows.integrity_key, copy.path.stat().st_ino) is None


@pytest.mark.parametrize(("table", "pattern"), [("segment", r"[0-9a-f]{64}"), ("setting", r"name\d+")])
def test_lost_rows_are_named_by_the_index_that_is_whole(
    specimen: Specimen,
    lying_on: dict[int, set[tuple[str, tuple[object, ...]]]],
    tmp_path: Path,
    table: str,
    pattern: str,
) -> None:
    on_pages = {number: {row for row in rows if row[0] != "signal_page"} for number, rows in lying_on.items()}
    number = max(
        (number for number, rows in on_pages.items() if {name for name, _ in rows} == {table}),
        key=lambda number: len(on_pages[number]),
    )
    _, repaired = repaired_copy(specimen, tmp_path / "copy", flipped(specimen, number))
    assert len(repaired.losses) == len(on_pages[number])
    assert all(re.fullmatch(pattern, loss.place) for loss in repaired.losses)
    if table == "setting":
        assert {(table, (loss.place,)) for loss in repaired.losses} == lying_on[number]


def test_a_lost_stretch_of_signal_costs_the_signals_in_it_and_they_are_named(
    specimen: Specimen, lying_on: dict[int, set[tuple[str, tuple[object, ...]]]], tmp_path: Path
) -> None:
    tried = 0
    for number, rows in lying_on.items():
        signals = {key for name, key in rows if name == "segment"}
        if not signals or len(signals) == len(specimen.rows["segment"]):
            continue
        tried += 1
        if tried > 5:
            break
        copy, repaired = repaired_copy(specimen, tmp_path / str(number), flipped(specimen, number))
        digests = {specimen.rows["segment"][key][1] for key in signals}
        assert {(loss.kind, loss.place) for loss in repaired.losses} == {
            (ContentKind.SEGMENT, digest.hex()) for digest in digests if isinstance(digest, bytes)
        }
        kept = read_rows(copy.path, key_now(copy))
        assert specimen.rows["segment"].keys() - kept["segment"].keys() == signals
        with closing(open_reader(copy.path, key_now(copy))) as connection:
            reader = SqlCipherRows(connection)
            for line in kept["segment"].values():
                assert read_signal(reader, *line[4:6]) is not None  # type: ignore[arg-type]
    assert tried > 3


def test_lost_audit_entries_are_named_and_the_trail_goes_on(
    specimen: Specimen, lying_on: dict[int, set[tuple[str, tuple[object, ...]]]], tmp_path: Path
) -> None:
    pages = sorted(number for number, rows in lying_on.items() if {name for name, _ in rows} == {"audit"})
    assert len(pages) > 1
    for number in pages:
        copy, repaired = repaired_copy(specimen, tmp_path / str(number), flipped(specimen, number))
        seqs = sorted(key[0] for _, key in lying_on[number])
        assert [loss.kind for loss in repaired.losses] == [ContentKind.AUDIT]
        assert repaired.losses[0].place.startswith(f"audit {seqs[0]}-")
        assert check_now(copy).sound


def test_without_the_stores_own_line_pages_are_the_proof(
    specimen: Specimen, lying_on: dict[int, set[tuple[str, tuple[object, ...]]]], tmp_path: Path
) -> None:
    with PageFile(specimen.path) as file, file.pages(specimen.key) as pages:
        root = next(entry.root for entry in schema_of(pages, set())[0] if entry.name == "store")
    copy, repaired = repaired_copy(specimen, tmp_path / "copy", flipped(specimen, root))
    assert gone(specimen.rows, read_rows(copy.path, key_now(copy))) == set()
    assert [(loss.kind, loss.place) for loss in repaired.losses] == [(ContentKind.SYNC, "store")]
    assert check_now(copy).sound


def test_without_the_books_of_epoch_and_sync_the_store_goes_on(
    specimen: Specimen, lying_on: dict[int, set[tuple[str, tuple[object, ...]]]], tmp_path: Path
) -> None:
    pages = [number for number, rows in lying_on.items() if {name for name, _ in rows} <= {"epoch", "sync"} and rows]
    assert len(pages) == 2
    for numbers in (pages[:1], pages[1:], pages):
        copy, repaired = repaired_copy(
            specimen, tmp_path / str(len(list(tmp_path.iterdir()))), flipped(specimen, *numbers)
        )
        assert {loss.kind for loss in repaired.losses} == {ContentKind.SYNC}
        assert isinstance(repaired.events[0], StoreForked)
        rows = read_rows(copy.path, key_now(copy))
        assert rows["epoch"][(1,)][1] == 120
        assert rows["sync"][(1,)][1] == repaired.events[0].new_epoch > 1
        assert check_now(copy).sound


def test_rows_in_a_log_that_was_not_moved_are_kept_and_the_log_is_set_aside(specimen: Specimen, tmp_path: Path) -> None:
    copy = specimen.copied_to(tmp_path / "copy")
    log_path = copy.path.with_name(copy.path.name + "-wal")
    with closing(open_writer(copy.path, copy.key)) as connection:
        rows = SqlCipherRows(connection)
        for number in range(5):
            with rows.transaction():
                rows.put("setting", (f"late{number}", b"kept"))
        log, content = log_path.read_bytes(), copy.path.read_bytes()
    copy.put(flipped(specimen, specimen.n_pages), log)
    assert content == specimen.content
    repair(copy)
    assert not log_path.exists()
    kept = read_rows(copy.path, key_now(copy))["setting"]
    assert all(kept[(f"late{number}",)] == (f"late{number}", b"kept") for number in range(5))
    ((number, aside),) = damaged_files(copy.path)
    assert number == 1
    assert aside.with_name(aside.name + "-wal").read_bytes() == log


def test_a_turned_back_page_is_repaired_and_said(specimen: Specimen, tmp_path: Path) -> None:
    """Rows on it are true and old: what is missing from the sums is named."""
    differing = [n for n in range(2, len(specimen.moments[0]) // PAGE_BYTES) if specimen.page(n, 0) != specimen.page(n)]
    for number in differing[::5]:
        copy, repaired = repaired_copy(
            specimen, tmp_path / str(number), specimen.with_page(number, specimen.page(number, 0))
        )
        report = check_now(copy)
        assert report.sound, (number, report.findings)
        assert isinstance(repaired.events[0], StoreForked)


def test_the_damaged_file_is_set_aside_and_only_so_many_are_kept(specimen: Specimen, tmp_path: Path) -> None:
    copy = specimen.copied_to(tmp_path / "copy")
    damaged = flipped(specimen, 5)
    copy.put(damaged)
    repair(copy)
    ((number, aside),) = damaged_files(copy.path)
    assert (number, aside.read_bytes()) == (1, damaged)
    assert aside.stat().st_mode & 0o077 == 0
    for _ in range(3):
        now = Specimen(copy.path, key_now(copy), read_slots(copy.path) or copy.slots, copy.moments, copy.rows)
        repair(now)
    assert [number for number, _ in damaged_files(copy.path)] == [3, 4][-MAX_SET_ASIDE:]
    assert check_now(copy).sound


def test_a_repair_that_was_cut_off_sets_the_file_aside_once(specimen: Specimen, tmp_path: Path) -> None:
    copy = specimen.copied_to(tmp_path / "copy")
    assert set_aside(copy.path) == set_aside(copy.path)
    assert len(damaged_files(copy.path)) == 1


def test_where_not_one_page_is_whole_nothing_is_touched(specimen: Specimen, tmp_path: Path) -> None:
    copy = specimen.copied_to(tmp_path / "copy")
    copy.put(os.urandom(len(specimen.content)))
    before = {file.name: file.read_bytes() for file in copy.path.parent.iterdir()}
    with pytest.raises(StoreDamaged, match="no page"):
        repair(copy)
    assert {file.name: file.read_bytes() for file in copy.path.parent.iterdir()} == before


def test_a_disk_that_says_no_leaves_the_damaged_file(specimen: Specimen, tmp_path: Path) -> None:
    copy = specimen.copied_to(tmp_path / "copy")
    damaged = flipped(specimen, 5)
    copy.put(damaged)
    (copy.path.with_name(copy.path.name + ".new")).mkdir()
    with pytest.raises(OSError, match="directory"):
        repair(copy)
    assert copy.path.read_bytes() == damaged


def test_every_table_has_rows_and_more_than_one_page(
    specimen: Specimen, lying_on: dict[int, set[tuple[str, tuple[object, ...]]]]
) -> None:
    """Or the tests above would prove little."""
    on = {
        table.name: sum(any(name == table.name for name, _ in rows) for rows in lying_on.values()) for table in TABLES
    }
    assert all(on.values()), on
    assert all(on[name] > 1 for name in on if name not in SMALL), on
    assert FileAnchor(anchor_path(specimen.path)).read()


@pytest.mark.timeout(300)
def test_a_damaged_store_opens_is_repaired_if_need_be_and_gives_its_rows(tmp_path: Path) -> None:
    """From outside: every fourth page of a store damaged in turn, the store opened, checked and repaired."""
    provider = StaticKeyProvider(os.urandom(32))
    made = tmp_path / "made" / "store.db"
    windows = [window(seed) for seed in range(60)]
    with SqlCipherStore.open(made, provider) as store:
        store.append_windows(windows)
        for number in range(30):
            store.put_setting(f"name{number}", os.urandom(200))
        assert store.check().sound
    n_pages = made.stat().st_size // PAGE_BYTES
    for number in [1, *range(2, n_pages + 1, 4)]:
        folder = tmp_path / str(number)
        shutil.copytree(made.parent, folder)
        path = folder / "store.db"
        content = bytearray(path.read_bytes())
        content[(number - 1) * PAGE_BYTES + 20] ^= 1
        path.write_bytes(content)
        with SqlCipherStore.open(path, provider, create=False) as store:
            if not store.check().sound:
                store.repair()
            assert store.check().sound, number
            events = store.take_events()
            assert any(isinstance(event, StoreForked) for event in events)
            kept = store.results_between(0, 2**62, limit=100)
            lost = [entry for entry in store.quarantined() if entry.kind is ContentKind.RESULT]
            assert len(kept) == len(windows) or lost
            signals = [store.segment(stored.result.segment_digest) for stored in kept]
            named = {entry.place for entry in store.quarantined() if entry.kind is ContentKind.SEGMENT}
            for stored, signal in zip(kept, signals, strict=True):
                assert signal is not None or stored.result.segment_digest.hex() in named
            store.append_windows([window(99)])
            assert store.check().sound


def test_a_disk_that_fails_in_the_midst_of_a_repair_does_not_cost_the_open_store(tmp_path: Path) -> None:
    path, provider = tmp_path / "store.db", StaticKeyProvider(os.urandom(32))
    windows = [window(seed) for seed in range(20)]
    with SqlCipherStore.open(path, provider) as store:
        store.append_windows(windows)
    content = bytearray(path.read_bytes())
    number = len(content) // PAGE_BYTES
    content[(number - 1) * PAGE_BYTES + 20] ^= 1
    path.write_bytes(content)
    journal = path.with_name("store.db-journal")
    with SqlCipherStore.open(path, provider) as store:
        journal.mkdir()  # it can't be removed, so the new file can't take the damaged one's place
        for _ in range(2):
            with pytest.raises(StoreIOError):
                store.repair()
            with pytest.raises(StoreIOError, match="can't be opened"):
                store.results()
        journal.rmdir()
        assert len(store.results()) <= len(windows)
        store.append_windows([window(99)])
        assert store.check().sound
    with SqlCipherStore.open(path, provider) as store:
        assert store.take_events() == []
        assert store.check().sound


def test_every_table_has_a_word_for_what_it_holds() -> None:
    assert CONTENT_KINDS.keys() == TABLE_BY_NAME.keys() == {table.name for table in TABLES}
