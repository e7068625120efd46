"""What a rebuilt store needs to go on, where the rows that it rests on were lost.

An epoch whose line is lost gets one that its results ask for; a lost place in the sync begins at the beginning, so
that the server is asked again, a log of notes gets the counters of its notes; lines whose signal is not whole go. It
deliberately says nothing of what was lost (``store_losses``), and runs in the caller's transaction.

Invariants:
    1. Afterwards each result lies within its epoch's counters, the current epoch has a line, and each signal that has a
       line is whole.
    2. Nothing is acknowledged that was not.
"""

from __future__ import annotations

from einthoven.sqlcipher_books import FRESH_LINK, note_log
from einthoven.sqlcipher_rows import SqlCipherRows
from einthoven.store_losses import broken_signals, pages_of_extent
from einthoven.store_rules import FIRST_EPOCH
from einthoven.store_schema import COUNTER_BITS, epoch_and_counter
from einthoven_protocol.limits import SUM_BYTES


def drop_broken_signals(rows: SqlCipherRows) -> None:
    """Remove lines whose signal is not whole, and signal that has no line any more."""
    rows.remove_segments([number for number, _ in broken_signals(rows.connection)])
    used_until = -1
    extents = rows.connection.execute("SELECT first_byte, n_bytes FROM segment ORDER BY first_byte").fetchall()
    for extent in extents:
        first, last = pages_of_extent(extent)
        rows.delete_where("signal_page", "WHERE id > ? AND id < ?", (used_until, first))
        used_until = max(used_until, last)
    rows.delete_where("signal_page", "WHERE id > ?", (used_until,))


def mend_books(rows: SqlCipherRows) -> None:
    """See that there is an epoch for each result, and a place in the sync; a lost one has the server asked again."""
    positions = rows.connection.execute(
        f"SELECT min(position), max(position) FROM result GROUP BY position >> {COUNTER_BITS}"  # noqa: S608
    ).fetchall()
    for lowest, highest in positions:
        (epoch, first), (_, last_counter) = epoch_and_counter(lowest), epoch_and_counter(highest)
        stored = rows.get("epoch", (epoch,))
        if stored is None:
            rows.insert("epoch", (epoch, last_counter, 0, first))
        elif stored[1] < last_counter:
            rows.put("epoch", (epoch, last_counter, *stored[2:]))
    sync = rows.get("sync", (1,))
    (highest,) = rows.connection.execute("SELECT ifnull(max(epoch), ?) FROM epoch", (FIRST_EPOCH,)).fetchone()
    if sync is None:
        sync = (1, highest, 0, 0, 0, bytes(SUM_BYTES), None, None, None, None)
    if rows.get("epoch", (sync[1],)) is None:
        rows.insert("epoch", (sync[1], 0, 0, 1))
    if rows.get("link", (1,)) is None:
        (heard,) = rows.connection.execute("SELECT ifnull(max(history), 0) FROM replica").fetchone()
        rows.insert("link", FRESH_LINK._replace(history=heard + 1))
    _mend_note_logs(rows)
    # Keyed with nothing, all running digests are computed anew of the rows that are here.
    rows.put("sync", (*sync[:6], None, *sync[7:]))


def _mend_note_logs(rows: SqlCipherRows) -> None:
    """See that there is a log for each own note."""
    highest = rows.connection.execute(
        f"SELECT max(position) FROM own_note GROUP BY position >> {COUNTER_BITS}"  # noqa: S608 - a number of our own
    ).fetchall()
    for (position,) in highest:
        epoch, counter = epoch_and_counter(position)
        log = note_log(rows, epoch)
        if log.last_counter < counter:
            rows.put("note_log", log._replace(last_counter=counter))
        if rows.get("epoch", (epoch,)) is None:
            rows.insert("epoch", (epoch, 0, 0, 1))
