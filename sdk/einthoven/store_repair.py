"""Makes a whole file of a damaged one: every valid row of every whole page, and a note of what is missing.

The rows are salvaged (``store_salvage``), written to a new file under the same data key and another salt, and counted
anew; what was lost goes into the quarantine. The new file begins a new epoch: rows that were given to a server may be
among the lost, and their counters are never given again. The damaged file is set aside, and the new one takes its place
as any new file of a store does (``store_replacement``): at every crash point one file and one key are left.

It deliberately guesses nothing: a row is kept as it was written or not at all, but for what the store needs to go on
(an epoch's counters, the place in the sync), which is begun anew where it is lost and has the server asked again.

Invariants:
    1. Until the new file is whole, the damaged one and its log keep their bytes and their names.
    2. A row that is kept is one that was written under this store's keys: its page and its tag say so. Where the key
       of the tags is lost with the store's own line, its page alone does.
    3. At most ``MAX_SET_ASIDE`` damaged files are kept; the oldest go.
    4. Nothing is said or kept of a row's content but its key.
    5. What a disk withheld for a while is not taken for lost: if it can be read at the end, nothing was changed.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Final

from sqlcipher3 import dbapi2

from einthoven.errors import StoreDamaged, StoreError
from einthoven.key_slots import KeySlot, KeySlots
from einthoven.local_audit import FIRST_PREVIOUS_HASH
from einthoven.ports import Anchor
from einthoven.private_files import sync_folder
from einthoven.rollback import AnchorRecord, StoredState, decode_record, encode_record, record_of
from einthoven.sqlcipher_connection import SALT_BYTES, FileKey, check_encrypted, make_file, move_log, translated
from einthoven.sqlcipher_page_file import PageFile
from einthoven.sqlcipher_pages import CipherPages
from einthoven.sqlcipher_rows import SqlCipherRows
from einthoven.store_events import DamageQuarantined, ForkReason, StoreEvent, StoreForked
from einthoven.store_line import TAGGED_SHAPES, StoreLine, find_store_line, untagged, valid_by_tag
from einthoven.store_losses import Loss, losses_of
from einthoven.store_mending import drop_broken_signals, mend_books
from einthoven.store_replacement import discard_prepared, discard_undecided, prepared_path, replace_store_file
from einthoven.store_salvage import Salvage, SalvagedRow
from einthoven.store_schema import INTEGRITY_KEY_BYTES, NEWEST_VERSION, TABLE_BY_NAME
from einthoven.store_tags import RowTags, TableSums
from einthoven.store_values import AuditAction, ContentKind, DamageReason

DAMAGED_SUFFIX: Final = ".damaged-"
"""What the name of a file that was set aside goes on with, before its number."""
MAX_SET_ASIDE: Final = 2
"""Damaged files kept beside a store."""
ROWS_PER_TRANSACTION: Final = 20_000
"""Rows written to the new file at once: its log stays small."""


@dataclass(frozen=True, slots=True)
class Repaired:
    """What a repair did.

    Attributes:
        rows: Rows kept.
        damaged_pages: Pages that were not whole.
        losses: What was lost.
        events: For ``Store.take_events``, in order.
    """

    rows: int
    damaged_pages: tuple[int, ...]
    losses: tuple[Loss, ...]
    events: tuple[StoreEvent, ...]


def repair_store_file(path: Path, key: FileKey, slots: KeySlots, anchor: Anchor, *, at_ms: int) -> Repaired:
    """Put a whole file in the place of a damaged one. The caller holds the lock; nobody has the file open.

    Args:
        path: The damaged file, of the newest version.
        key: Its data key, and its salt as the key slot has it.
        slots: One slot, which is that of ``key``.
        anchor: Told beforehand that another file is about to take the place.
        at_ms: UTC for audit trail and quarantine, ms since 1970.

    Raises:
        StoreDamaged: No page of it can be read under this key.
        StoreIOError: The disk says no, or does so now and then. The damaged file is where it was, or the next opening
            carries on.
        OSError: Likewise.
    """
    prepared = prepared_path(path)
    discard_prepared(path)
    new_key = FileKey(key.data_key, secrets.token_bytes(SALT_BYTES))
    slot = slots.slots[-1]
    both = KeySlots(slots.store_id, (slot, KeySlot(slot.wrapped, new_key.salt)))
    try:
        with PageFile(path) as damaged, damaged.pages(key) as pages:
            anchored = anchor.read()
            rebuilt = _Rebuilding(pages, slots.store_id, anchored, at_ms).into(prepared, new_key)
            damaged.check_lasting()
            old_inode = damaged.inode
        check_encrypted(prepared, new_key)
        set_aside(path)
        _announce(anchor, anchored, rebuilt, old_inode, prepared.stat().st_ino)
        replace_store_file(path, both)
    except BaseException:
        # What is decided, or may be, is for the next opening to carry on or to clear away.
        with suppress(StoreError, OSError):
            discard_undecided(path)
        raise
    return rebuilt.repaired


@dataclass(frozen=True, slots=True)
class _Rebuilt:
    repaired: Repaired
    state: StoredState
    integrity_key: bytes = field(repr=False)


def _announce(anchor: Anchor, anchored: bytes | None, rebuilt: _Rebuilt, old_inode: int, new_inode: int) -> None:
    """Let the anchor expect the new file. A record that is right stays, but for that: either file fits it."""
    record: AnchorRecord | None = decode_record(anchored, rebuilt.integrity_key)
    if record is None or record.store_id != rebuilt.state.store_id:
        record = record_of(rebuilt.state, old_inode)
    record = replace(record, inode=old_inode, next_inode=new_inode)
    # An anchor that can't be written costs another fork when the store is opened, and no row.
    with suppress(StoreError, OSError):
        anchor.write(encode_record(record, rebuilt.integrity_key), durable=True)


class _Rebuilding:
    """One new file, while it is filled."""

    def __init__(self, pages: CipherPages, store_id: bytes, anchored: bytes | None, at_ms: int) -> None:
        self._pages = pages
        self._line = _line_of(pages, store_id)
        self._anchored = decode_record(anchored, self._line.integrity_key)
        self._at_ms = at_ms
        self._line_is_lost = self._line.commit_seq < 0

    def into(self, prepared: Path, key: FileKey) -> _Rebuilt:
        """Write everything to a new file, and close it with no log left."""
        with closing(make_file(prepared, key)) as connection, translated(prepared.name):
            for statement in NEWEST_VERSION:
                connection.execute(statement)
            _write_line(connection, self._line, self._anchored)
            rows = SqlCipherRows(connection)
            salvage = Salvage(self._pages, TAGGED_SHAPES, valid_by_tag(self._tags()))
            kept = _keep_all(rows, salvage.rows())
            written = None if self._line_is_lost else self._line.sums
            losses = losses_of(connection, self._pages, salvage.lost, written, rows.sums)
            if self._line_is_lost:
                losses.append(Loss(ContentKind.SYNC, "store", DamageReason.PAGE_UNREADABLE))
            with rows.transaction():
                drop_broken_signals(rows)
                mend_books(rows)
            rows = _after_the_last_audit_entry(connection)
            fork = self._finish(rows, losses)
            move_log(connection, prepared.name)
            events: tuple[StoreEvent, ...] = (
                fork,
                *(DamageQuarantined(loss.kind, loss.place, loss.reason) for loss in losses),
            )
            repaired = Repaired(kept, tuple(sorted(salvage.damaged_pages)), tuple(losses), events)
            return _Rebuilt(repaired, rows.state(), rows.integrity_key)

    def _tags(self) -> RowTags | None:
        return None if self._line_is_lost else RowTags(self._line.integrity_key)

    def _finish(self, rows: SqlCipherRows, losses: list[Loss]) -> StoreForked:
        """Quarantine, audit and fork, in one transaction."""
        with rows.transaction():
            for quarantine_id, loss in enumerate(losses, rows.next_id("quarantine")):
                rows.insert("quarantine", (quarantine_id, int(loss.kind), loss.place, int(loss.reason), self._at_ms))
            rows.append_audit(AuditAction.REPAIRED, f"{len(losses)} lost", at_ms=self._at_ms)
            return rows.fork(ForkReason.REPAIRED, at_ms=self._at_ms, anchored=self._anchored)


def _line_of(pages: CipherPages, store_id: bytes) -> StoreLine:
    """The store's own line, or one to begin anew with, whose commit number is below 0.

    Raises:
        StoreDamaged: Not one page can be read.
    """
    line = find_store_line(pages)
    if line is not None and line.store_id == store_id:
        return line
    if not any(pages.whole(number) for number in range(1, pages.n_present + 1)):
        raise StoreDamaged("no page of the store can be read", "restore it from a backup")
    return StoreLine(store_id, secrets.token_bytes(INTEGRITY_KEY_BYTES), -1, TableSums(), FIRST_PREVIOUS_HASH)


def _write_line(connection: dbapi2.Connection, line: StoreLine, anchored: AnchorRecord | None) -> None:
    commit_seq = max(line.commit_seq, 0, anchored.commit_seq if anchored is not None else 0)
    connection.execute(
        """INSERT INTO store (only_line, store_id, integrity_key, commit_seq, sums, audit_head)
            VALUES (1, ?, ?, ?, ?, ?)""",
        (line.store_id, line.integrity_key, commit_seq, TableSums().encode(), FIRST_PREVIOUS_HASH),
    )


def _keep_all(rows: SqlCipherRows, found: Iterator[SalvagedRow]) -> int:
    kept = 0
    while batch := list(islice(found, ROWS_PER_TRANSACTION)):
        with rows.transaction():
            for row in batch:
                kept += _keep(rows, row)
    return kept


def _keep(rows: SqlCipherRows, row: SalvagedRow) -> bool:
    """Write a row, unless there is one of its key: what a tree led to comes first and stands."""
    table = TABLE_BY_NAME[row.table]
    values = untagged(row.table, row.values)
    if not row.in_tree:
        key = [values[table.columns.index(column)] for column in table.key]
        where = " AND ".join(f"{column} = ?" for column in table.key)
        known = rows.connection.execute(f"SELECT 1 FROM {table.name} WHERE {where}", key)  # noqa: S608
        if known.fetchone() is not None:
            return False
    try:
        rows.insert(row.table, values)
    except dbapi2.IntegrityError:
        # The same signal twice, the one off an old page.
        return False
    return True


def _after_the_last_audit_entry(connection: dbapi2.Connection) -> SqlCipherRows:
    """The rows again, so that the audit trail goes on from the last entry that was kept."""
    last = connection.execute("SELECT entry_hash FROM audit ORDER BY seq DESC LIMIT 1").fetchone()
    if last is not None:
        connection.execute("UPDATE store SET audit_head = ?", last)
    return SqlCipherRows(connection)


def set_aside(path: Path) -> Path:
    """Give the damaged file a second name, ``NAME.damaged-N``, and its log; the caller replaces the first.

    Returns:
        The second name.

    Raises:
        OSError: The disk says no.
    """
    kept = damaged_files(path)
    for _, other in kept:
        if other.samefile(path):
            return other
    number = kept[-1][0] + 1 if kept else 1
    for _, oldest in kept[: len(kept) + 1 - MAX_SET_ASIDE]:
        for suffix in ("-wal", ""):
            oldest.with_name(oldest.name + suffix).unlink(missing_ok=True)
    aside = path.with_name(f"{path.name}{DAMAGED_SUFFIX}{number}")
    for suffix in ("-wal", ""):
        source = path.with_name(path.name + suffix)
        if source.exists():
            _second_name(source, aside.with_name(aside.name + suffix))
    sync_folder(path.parent)
    return aside


def damaged_files(path: Path) -> list[tuple[int, Path]]:
    """The files that were set aside of the store at ``path``, with their numbers, oldest first; without their logs."""
    prefix = path.name + DAMAGED_SUFFIX
    found = [file for file in path.parent.iterdir() if file.name.startswith(prefix)]
    return sorted((int(file.name[len(prefix) :]), file) for file in found if file.name[len(prefix) :].isdecimal())


def _second_name(source: Path, name: Path) -> None:
    name.unlink(missing_ok=True)
    try:
        os.link(source, name)
    except OSError:
        # A file system or a system's rules without hard links.
        shutil.copyfile(source, name)
        name.chmod(0o600)
