"""Own notes when a device is enrolled anew, in the encrypted store (``store_rules``, R22).

Runs inside the caller's transaction and deliberately begins and commits none.

Invariants:
    1. A former note is either in the former list or in this device's log, never in both.
"""

from __future__ import annotations

from einthoven.sqlcipher_books import note_logs
from einthoven.sqlcipher_buckets import signed
from einthoven.sqlcipher_notes import NoteLine, OwnNoteLine, add_note
from einthoven.sqlcipher_row_reading import RowReader
from einthoven.sqlcipher_rows import SqlCipherRows
from einthoven.store_rules_feed import DeletionState, Known, note_row_bytes
from einthoven_protocol.canonical import decode_note_row
from einthoven_protocol.messages import NoteRow, RowKind

_FORMER = "WHERE known = ?"


def become_former(rows: SqlCipherRows, alias: int | None) -> None:
    """R22: notes and their deletions; ``alias`` is the former one, if there was any."""
    rows.delete_where("note", "WHERE known != ?", (int(Known.FORMER),))
    for row in list(rows.select("deletion", "WHERE kind != ? OR state", (int(RowKind.NOTE),))):
        if alias is None and row[0] == RowKind.NOTE:
            rows.put("deletion", (*row[:5], int(DeletionState.WAITS), row[6]))
        else:
            rows.delete("deletion", row[:5])
    if alias is None:
        for log in note_logs(rows):
            rows.put("note_log", log._replace(acknowledged=0))
        for own in [OwnNoteLine(*row) for row in rows.select("own_note", "WHERE refused")]:
            rows.put("own_note", own._replace(refused=0))
        return
    for own in [OwnNoteLine(*row) for row in rows.select("own_note", "WHERE shown = 0")]:
        note = signed(own.body, alias, own.position)
        name = (alias, note.epoch, note.counter)
        rows.put("note", (*name, note.at_ms, int(Known.FORMER), 0, note_row_bytes(note)))
    for table in ("own_note", "note_log", "deletion"):
        rows.delete_where(table, "")


def rename_own_deletions(rows: SqlCipherRows, former: int, alias: int) -> None:
    """What was deleted before this device had its alias gets it."""
    if former == alias:
        return
    for row in list(rows.select("deletion", "WHERE kind = ? AND device_alias = ?", (int(RowKind.NOTE), former))):
        rows.delete("deletion", row[:5])
        rows.put("deletion", (row[0], alias, *row[2:]))


def any_former(rows: RowReader) -> bool:
    """Whether there are notes of a former enrolment that did not come down."""
    return bool(list(rows.select("note", f"{_FORMER} LIMIT 1", (int(Known.FORMER),))))


def say_again(rows: SqlCipherRows, author: str) -> list[NoteRow]:
    """Former notes that did not come down are this device's again; return them as they are now."""
    clause = f"{_FORMER} ORDER BY device_alias, epoch, counter"
    former = [decode_note_row(NoteLine(*row).body) for row in rows.select("note", clause, (int(Known.FORMER),))]
    rows.delete_where("note", _FORMER, (int(Known.FORMER),))
    return [add_note(rows, author, row.text, at_ms=row.at_ms) for row in former]
