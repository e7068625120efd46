"""Brings a store of version 1, encrypted with the provider's own key, under a random data key and to the newest tables.

The old file is only read until the new one is whole: copied, migrated, checked. Then it is replaced as any store is
(``store_replacement``), and the provider's key wraps from there on. It deliberately decides nothing about key slots
(``store_opening``).

Invariants:
    1. Until the replacement is decided, the old file and its log keep their bytes, and the old key opens them.
    2. Everything of the old store is in the new one (``store_migrations``), or there is no new one.
    3. An old file that lies where a newer store had its anchor was put back: it goes on in a new epoch. An anchor that
       an interrupted adoption of this very file left is none of that kind.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from einthoven.errors import StoreError
from einthoven.ports import Anchor
from einthoven.rollback import claimed_record, encode_record, record_of
from einthoven.sqlcipher_connection import FileKey, open_writer, translated
from einthoven.sqlcipher_rows import SqlCipherRows
from einthoven.store_copying import FreeBytes, check_sums, copy_store, free_bytes
from einthoven.store_creating import FreshKey
from einthoven.store_events import AnchorFailed, ForkReason, StoreEvent, StoreMigrated
from einthoven.store_migrations import migrate
from einthoven.store_replacement import discard_undecided, prepared_path, replace_store_file
from einthoven.store_schema import SCHEMA_VERSION


def adopt_store(
    path: Path, old_key: FileKey, fresh: FreshKey, anchor: Anchor, *, at_ms: int, free: FreeBytes = free_bytes
) -> list[StoreEvent]:
    """Replace an old store by one of the newest version under its own data key; the caller holds its lock.

    Args:
        path: The file; nobody has it open.
        old_key: What opens it.
        fresh: The key of the new one, and its slot.
        anchor: Is made to fit the new file before that takes the old one's place.
        at_ms: UTC for the audit trail, ms since 1970.
        free: Asked how much room there is.

    Returns:
        What there is to report.

    Raises:
        StoreIOError: There is no room for a second copy, or the disk says no; the old file was not changed.
        StoreDamaged: It can't be read throughout.
        OSError: The disk says no.
    """
    inode = path.stat().st_ino
    put_back = _was_put_back(anchor.read(), inode)
    copy_store(path, old_key, fresh.key, free=free)
    prepared = prepared_path(path)
    events: list[StoreEvent] = []
    try:
        with translated(prepared.name), closing(open_writer(prepared, fresh.key)) as connection:
            version = migrate(connection, path.name, store_id=fresh.slots.store_id, at_ms=at_ms)
            events.append(StoreMigrated(version, SCHEMA_VERSION))
            rows = SqlCipherRows(connection)
            check_sums(rows)
            if put_back:
                with rows.transaction():
                    forked = rows.fork(ForkReason.TURNED_BACK, at_ms=at_ms)
                events.append(forked)
            record = record_of(rows.state(), inode, prepared.stat().st_ino)
            encoded = encode_record(record, rows.integrity_key)
        try:
            # It must fit before the file does, or a crash between the two would look like a store that was put back.
            anchor.write(encoded, durable=True)
        except StoreError as error:
            events.append(AnchorFailed(str(error)))
        replace_store_file(path, fresh.slots)
    except BaseException:
        discard_undecided(path)
        raise
    return events


def _was_put_back(anchored: bytes | None, inode: int) -> bool:
    if anchored is None:
        return False
    claimed = claimed_record(anchored)
    return claimed is None or claimed.inode != inode or not claimed.next_inode
