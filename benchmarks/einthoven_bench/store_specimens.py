"""A store with rows of every kind, pages of every sort, and earlier moments of itself: what tampering is tried on.

It is filled below the ``Store`` (``sqlcipher_rows``), so that every table has many rows, whatever a device would write
in a second. It deliberately holds no patient: bodies are random bytes.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sqlcipher3 import dbapi2

from einthoven.anchor_file import FileAnchor, anchor_path
from einthoven.key_slots import KeySlot, KeySlots, write_slots
from einthoven.rollback import encode_record, record_of
from einthoven.sqlcipher_connection import FileKey, make_file, move_log, open_reader, open_writer
from einthoven.sqlcipher_page_file import PageFile
from einthoven.sqlcipher_rows import SqlCipherRows
from einthoven.store_check import check_store
from einthoven.store_migrations import create_tables
from einthoven.store_schema import TABLES, position_of
from einthoven.store_tags import Value
from einthoven.store_values import AuditAction, CheckReport, ContentKind, DamageReason

AT_MS: Final = 1_700_000_000_000
"""When everything happens, UTC in ms since 1970."""
PAGE_BYTES: Final = 4_096
RESULTS: Final = 600
RESULT_BODY_BYTES: Final = 90

Rows = dict[str, dict[tuple[Value, ...], tuple[Value, ...]]]
"""Rows by table and key, without tags."""


@dataclass(frozen=True, slots=True)
class Specimen:
    """A closed store.

    Attributes:
        path: Its file.
        key: What opens it.
        slots: Its key slots.
        moments: The whole file at each moment, oldest first; the last one lies at ``path``.
        rows: What it holds at the last moment.
    """

    path: Path
    key: FileKey
    slots: KeySlots = field(repr=False)
    moments: tuple[bytes, ...] = field(repr=False)
    rows: Rows = field(repr=False)

    @property
    def anchor(self) -> FileAnchor:
        """Its anchor, as of the last moment."""
        return FileAnchor(anchor_path(self.path))

    @property
    def content(self) -> bytes:
        """The file at the last moment."""
        return self.moments[-1]

    @property
    def n_pages(self) -> int:
        """Pages of the file."""
        return len(self.content) // PAGE_BYTES

    def page(self, number: int, moment: int = -1) -> bytes:
        """A page as it was stored at a moment."""
        return self.moments[moment][(number - 1) * PAGE_BYTES : number * PAGE_BYTES]

    def with_page(self, number: int, stored: bytes, content: bytes | None = None) -> bytes:
        """The file with another page in one place."""
        content = self.content if content is None else content
        return content[: (number - 1) * PAGE_BYTES] + stored + content[number * PAGE_BYTES :]

    def check(self, content: bytes | None = None, log: bytes = b"") -> CheckReport:
        """What ``check`` says of the store with this content."""
        # Written in place: another inode would be a finding of its own.
        self.put(self.content if content is None else content, log)
        with PageFile(self.path) as file, file.pages(self.key) as pages:
            return check_store(pages, self.key.salt, self._connected, anchored=self.anchor.read(), inode=file.inode)

    def put(self, content: bytes, log: bytes = b"") -> None:
        """Put a content and a log in the place of the file's own."""
        with self.path.open("r+b") as file:
            file.write(content)
            file.truncate()
        for suffix, side in (("-wal", log), ("-shm", b"")):
            beside = self.path.with_name(self.path.name + suffix)
            beside.unlink(missing_ok=True)
            if side:
                beside.write_bytes(side)

    def copied_to(self, folder: Path) -> Specimen:
        """The same store in another folder, its anchor none the wiser."""
        shutil.copytree(self.path.parent, folder)
        copied = Specimen(folder / self.path.name, self.key, self.slots, self.moments, self.rows)
        copied.put(self.content)
        anchor_file_of(copied.path, self.key)
        return copied

    @contextmanager
    def _connected(self) -> Iterator[dbapi2.Connection]:
        with closing(open_reader(self.path, self.key)) as connection:
            yield connection


def make_specimen(folder: Path, seed: int = 0, *, results: int = RESULTS) -> Specimen:
    """Make a store that lives through three moments and is closed.

    Args:
        folder: An empty folder.
        seed: Of its content.
        results: Rows of the largest table at the last moment; other tables have fewer.
    """
    chance = random.Random(seed)  # noqa: S311 - content, not a secret
    path = folder / "store.db"
    key = FileKey(os.urandom(32), os.urandom(16))
    slots = KeySlots(os.urandom(16), (KeySlot(b"wrapped", key.salt),))
    moments = []
    with closing(make_file(path, key)) as connection:
        create_tables(connection, store_id=slots.store_id, at_ms=AT_MS)
        rows = SqlCipherRows(connection)
        for part in range(3):
            _live(rows, chance, part, results // 3)
            move_log(connection, path.name)
            moments.append(path.read_bytes())
    write_slots(path, slots)
    anchor_file_of(path, key)
    return Specimen(path, key, slots, tuple(moments), read_rows(path, key))


def read_rows(path: Path, key: FileKey) -> Rows:
    """Everything that a whole store holds."""
    found: Rows = {}
    with closing(open_reader(path, key)) as connection:
        rows = SqlCipherRows(connection)
        for table in TABLES:
            places = [table.columns.index(column) for column in table.key]
            found[table.name] = {tuple(row[place] for place in places): row for row in rows.select(table.name)}
    return found


def anchor_file_of(path: Path, key: FileKey) -> None:
    """Write the anchor of a closed store as it stands."""
    with closing(open_writer(path, key)) as connection:
        rows = SqlCipherRows(connection)
        record = record_of(rows.state(), path.stat().st_ino)
        octets = encode_record(record, rows.integrity_key)
    FileAnchor(anchor_path(path)).write(octets, durable=False)


def _live(rows: SqlCipherRows, chance: random.Random, part: int, results: int) -> None:
    """A third of the store's life: rows of every kind, some changed, some dropped."""
    first = part * results
    with rows.transaction():
        epoch, last_counter, _, first_kept = rows.current_epoch()
        for counter in range(last_counter + 1, last_counter + 1 + results):
            at_ms = AT_MS + 30_000 * counter
            digest = chance.randbytes(32)
            body = chance.randbytes(5) + at_ms.to_bytes(8, "big") + chance.randbytes(RESULT_BODY_BYTES - 13)
            rows.insert("result", (position_of(epoch, counter), at_ms, body, digest))
            if counter % 8 == 0:
                signal = chance.randbytes(chance.choice([700, 3_000, 9_000]))
                rows.insert_segment(digest, at_ms, signal)
            if counter % 4 == 0:
                beats = chance.randbytes(chance.choice([100, 5_000]))
                rows.insert("beat_run", (rows.next_id("beat_run"), at_ms, at_ms + 30_000, 30, beats))
        rows.put("epoch", (epoch, last_counter + results, last_counter, first_kept))
    with rows.transaction():
        for number in range(first, first + results // 2):
            rows.insert("annotation", (7, epoch, number + 1, "device", chance.randbytes(150), None, number % 2))
            rows.put("setting", (f"name{number % 150}", chance.randbytes(chance.choice([20, 300]))))
            rows.insert("refusal", (epoch, number + 1, 4, 1))
            kind, reason = int(ContentKind.SEGMENT), int(DamageReason.ROW_MISSING)
            rows.insert("quarantine", (rows.next_id("quarantine"), kind, f"{number:064x}", reason, AT_MS))
            rows.append_audit(AuditAction.VIEWED, f"{number}", at_ms=AT_MS + number)
    with rows.transaction():
        _live_with_others(rows, chance, epoch, range(first + 1, first + 1 + results // 2))
    with rows.transaction():
        # Free pages, and pages that change without growing.
        rows.remove_segments([row[0] for row in rows.select("segment", "WHERE id % 5 = ? ORDER BY id", (part,))])
        rows.delete_where("annotation", "WHERE counter % 9 = ?", (part,))
        for name, _value in rows.select("setting", "WHERE name LIKE 'name1%'"):
            rows.put("setting", (name, chance.randbytes(60)))


def _live_with_others(rows: SqlCipherRows, chance: random.Random, epoch: int, numbers: range) -> None:
    """What came down, notes, and what is known of pushes: rows of every kind that version 3 added."""
    for number in numbers:
        position, at_ms = position_of(epoch, number), AT_MS + number
        rows.insert("own_note", (position, at_ms, 0, 0, chance.randbytes(150)))
        rows.insert("note", (9, epoch, number, at_ms, 1, 0, chance.randbytes(150)))
        rows.insert("replica", (9, position, at_ms, 0, chance.randbytes(RESULT_BODY_BYTES)))
        rows.insert("superseded", (7, epoch, number, chance.randbytes(32), 1, chance.randbytes(150)))
        rows.insert("document", (f"settings/{number}", 1, AT_MS, chance.randbytes(64), chance.randbytes(150)))
        rows.insert("owner", (number, chance.randbytes(32)))
        rows.insert("bucket", (number, 1, 1, chance.randbytes(16), None, None))
        rows.insert("deletion", (3, 7, epoch, number, "", -1, 0))
        rows.insert("alert_sent", (position, 1))
        rows.insert("to_give", (position,))
        rows.insert("dropped_run", (9, position, position + 3, chance.randbytes(64)))
        rows.insert("draft", (7, epoch, number, "device", 5, 0, 0, 0, 0, None))
    rows.put("note_log", (epoch, numbers[-1], 0))
