"""Gives a store a new data key, and its wrapped key another wrapping.

Rekeying copies every row into a new file under a random key, proves the copy, and replaces the old file by it
(``store_replacement``): whoever has the old key, or a copy of the old file, has nothing of what is written from then
on. The old key is dropped with its slot. Rewrapping only encrypts the same data key for another provider (a new
passphrase): it costs nothing, and leaves an old ``.keys`` file as good as the passphrase that it was wrapped with.

It deliberately holds no lock of its own while a store is open: it works on an ``OpenedFile``.

Invariants:
    1. At every moment one data key opens the store, and a crash at any moment leaves it so (``store_replacement``).
    2. The old file is the store until the copy has the same rows, tags that add up to the sums, and the same state.
    3. What fails before that leaves everything as it was, and the store open. What fails later leaves it to whoever
       connects next to find out which file it is.
    4. A rekeyed store is the store that its anchor knows: it does not fork.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

from einthoven.errors import StoreDamaged, StoreError, StoreIOError
from einthoven.key_slots import KeySlot, KeySlots, read_slots, write_slots
from einthoven.ports import Anchor, Clock, KeyProvider
from einthoven.rollback import StoredState, record_of
from einthoven.sqlcipher_connection import DAMAGED_REMEDY, FileKey, open_writer, side_files, translated
from einthoven.sqlcipher_rows import SqlCipherRows
from einthoven.store_copying import FreeBytes, check_sums, copy_store, free_bytes
from einthoven.store_creating import FreshKey, fresh_key
from einthoven.store_events import StoreEvent
from einthoven.store_opened_file import OpenedFile
from einthoven.store_opening import open_store_file
from einthoven.store_proving import prove, prove_twice, state_of
from einthoven.store_replacement import discard_undecided, prepared_path, replace_store_file, settle_replacement
from einthoven.store_values import AuditAction


def rekey_store(
    path: Path | str,
    key_provider: KeyProvider,
    *,
    new_key_provider: KeyProvider | None = None,
    anchor: Anchor | None = None,
    clock: Clock | None = None,
) -> list[StoreEvent]:
    """Give a store that nobody has open a new data key.

    Args:
        path: The store's file.
        key_provider: Unwraps its present key.
        new_key_provider: Wraps the new one; the same provider if not given.
        anchor: As for opening.
        clock: For the audit trail.

    Returns:
        What opening it found.

    Raises:
        StoreError: As ``open_store_file``, and as ``rekey``.
    """
    events: list[StoreEvent] = []
    opened = open_store_file(path, key_provider, create=False, anchor=anchor, clock=clock, report=events.append)
    try:
        with translated(opened.path.name):
            opened.connection.close()
        rekey(opened, new_key_provider or key_provider)
    finally:
        opened.close()
    return events


def rekey(opened: OpenedFile, key_provider: KeyProvider, *, free: FreeBytes = free_bytes) -> None:
    """Give a store a new data key while its lock is held.

    Args:
        opened: The caller has closed every connection, the writer's too. On return it has the new key and slots; the
            writer's connection is for the caller to open again (``open_writer``), also after an error.
        key_provider: Wraps the new key.
        free: Asked how much room there is.

    Raises:
        KeyUnavailable: There is no wrapping key.
        StoreIOError: There is no room for a second copy, something else has the store open, the anchor can't be
            written, or the disk says no. Nothing was changed, or it is rekeyed but for what the next connection does
            first (``OpenedFile.settle``).
        StoreDamaged: It can't be copied as a whole; nothing was changed.
    """
    path = opened.path
    fresh = fresh_key(key_provider, store_id=opened.store_id)
    try:
        after = _replaced(opened, fresh, free)
    except BaseException as error:
        opened.unsettled = _settling(opened, fresh)
        _check_undecided(opened, fresh, error)
        if isinstance(error, OSError):
            raise StoreIOError(
                f"{path.name} can't be rekeyed ({error.strerror})", "see to disk and folder, then try again"
            ) from error
        raise
    opened.key, opened.slots = fresh.key, fresh.slots
    opened.continuity.moved(record_of(after, path.stat().st_ino))


def rewrap(opened: OpenedFile, key_provider: KeyProvider) -> None:
    """Wrap an open store's data key anew, for the same provider or another; from then on only that one opens it.

    Raises:
        KeyUnavailable: There is no wrapping key.
        StoreIOError: The key slots can't be written; the old wrap or the new one is there.
    """
    wrapped = key_provider.wrap(opened.key.data_key, opened.store_id)
    slots = KeySlots(opened.store_id, (KeySlot(wrapped, opened.key.salt),))
    write_slots(opened.path, slots)
    opened.slots = slots


def _replaced(opened: OpenedFile, fresh: FreshKey, free: FreeBytes) -> StoredState:
    """Replace the closed file; return where the new one stands."""
    path, prepared = opened.path, prepared_path(opened.path)
    if any(file.exists() for file in side_files(path)[:1]):
        # The last connection takes the log along when it is closed.
        raise StoreIOError(f"{path.name} is in use", "close what else has it open, then try again")
    before = prove(path, opened.key).state
    copy_store(path, opened.key, fresh.key, free=free)
    try:
        with translated(prepared.name), closing(open_writer(prepared, fresh.key)) as connection:
            rows = SqlCipherRows(connection)
            check_sums(rows)
            _check_state(state_of(rows), before)
            with rows.transaction():
                rows.append_audit(AuditAction.REKEYED, "", at_ms=opened.clock.now_ms())
            after = rows.state()
        opened.continuity.moving(prepared.stat().st_ino)
        replace_store_file(path, KeySlots(opened.store_id, (*opened.slots.slots, *fresh.slots.slots)))
    except BaseException:
        discard_undecided(path)
        raise
    return after


def _check_state(copied: StoredState, before: StoredState | None) -> None:
    if copied != before:
        raise StoreDamaged("the copy of the store is not equal to it", DAMAGED_REMEDY)


def _settling(opened: OpenedFile, fresh: FreshKey) -> Callable[[], None]:
    """What finds out which of the two files it is by now, and makes ``opened`` fit it."""
    data_keys = {fresh.slots.slots[-1].wrapped: fresh.key.data_key, opened.slots.slots[-1].wrapped: opened.key.data_key}

    def settle() -> None:
        slots = settle_replacement(opened.path)
        key = FileKey(data_keys[slots.slots[-1].wrapped], slots.slots[-1].salt)
        state = prove_twice(opened.path, key).state
        if state is None:
            raise StoreDamaged(f"{opened.path.name} is of an older version", DAMAGED_REMEDY)
        opened.key, opened.slots = key, slots
        opened.continuity.moved(record_of(state, opened.path.stat().st_ino))

    return settle


def _check_undecided(opened: OpenedFile, fresh: FreshKey, error: BaseException) -> None:
    """Where the disk failed after the decision, say that the store is rekeyed all the same.

    Raises:
        StoreIOError: It did.
    """
    slots = None
    with suppress(StoreError):
        slots = read_slots(opened.path)
    if slots is not None and slots.slots[-1] == fresh.slots.slots[-1]:
        raise StoreIOError(
            f"{opened.path.name} was rekeyed, but the disk failed in the midst of it",
            "see to the disk, then go on, or open the store again",
        ) from error
