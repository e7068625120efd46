"""Checks and repairs a store that is open: hands its parts to ``store_check`` and ``store_repair``.

It deliberately decides nothing, and takes no turn: who calls sees to it that nobody writes.

Invariants:
    1. After a repair the opened file has the key, slots and anchor of the file that took the damaged one's place; after
       one that failed, of whichever file is in place when it is next connected to.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

from einthoven.errors import StoreIOError
from einthoven.ports import Anchor
from einthoven.rollback import record_of
from einthoven.sqlcipher_connection import FileKey, open_writer, translated
from einthoven.sqlcipher_page_file import PageFile
from einthoven.sqlcipher_rows import SqlCipherRows
from einthoven.store_anchoring import Continuity
from einthoven.store_check import check_store
from einthoven.store_events import StoreEvent
from einthoven.store_opened_file import OpenedFile
from einthoven.store_repair import repair_store_file
from einthoven.store_replacement import settle_replacement
from einthoven.store_values import CheckReport


def check_opened(file: OpenedFile, page_file: PageFile, anchor: Anchor) -> CheckReport:
    """Read everything and say what is wrong; nobody may write or move the log meanwhile.

    Raises:
        StoreIOError: The anchor can't be read.
    """
    with page_file.pages(file.key) as pages:
        return check_store(
            pages,
            file.key.salt,
            lambda: closing(file.connect_reader()),
            anchored=anchor.read(),
            inode=page_file.inode,
        )


def repair_opened(file: OpenedFile, anchor: Anchor, report: Callable[[StoreEvent], None]) -> None:
    """Put a whole file in the place of a damaged one; all its connections are closed.

    Args:
        file: The damaged one; on return the whole one, whose writer is for the caller to open.
        anchor: Of this store.
        report: Told of what was lost; must not raise.

    Raises:
        StoreDamaged: Nothing of it can be read.
        StoreIOError: The disk says no.
    """
    path = file.path
    file.unsettled = lambda: _take_over(file, anchor, report)
    try:
        done = repair_store_file(path, file.key, file.slots, anchor, at_ms=file.clock.now_ms())
        file.settle()
    except OSError as error:
        raise StoreIOError(
            f"{path.name} can't be repaired ({error.strerror})", "see to disk and folder, then try again"
        ) from error
    for event in done.events:
        report(event)


def _take_over(file: OpenedFile, anchor: Anchor, report: Callable[[StoreEvent], None]) -> None:
    """Make ``file`` fit the one that is in place: the damaged one still, or the whole one."""
    slots = settle_replacement(file.path)
    salt = slots.slots[-1].salt
    if salt == file.key.salt:
        file.slots = slots
        return
    key = FileKey(file.key.data_key, salt)
    with translated(file.path.name), closing(open_writer(file.path, key)) as connection:
        rows = SqlCipherRows(connection)
        # The key of the tags may be a new one, if the old one was lost.
        record = record_of(rows.state(), file.path.stat().st_ino)
        integrity_key = rows.integrity_key
    file.key, file.slots = key, slots
    file.continuity = Continuity(anchor, record, integrity_key, report)
