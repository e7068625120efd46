"""Opens a store's files in the one order that loses nothing, and says in events what was found.

Lock; what a crash left half done is carried on or cleared away; the data key is unwrapped; the file is proved through a
connection that can't write; its place in time is judged against the anchor; only then is it opened for writing. A store
of version 1 is adopted (``store_adoption``), a file that can't be opened though parts of it are whole is repaired
(``store_repair``), one that was turned back goes on in a new epoch.

It deliberately holds no SQL and no cryptography, and does not keep the store: ``SqlCipherStore`` does.

Invariants:
    1. A file that is refused keeps its bytes, and so does everything beside it; no file is made without a key.
    2. While a store is open its lock is held; a refusal gives it back.
    3. A file that is not the last one that was written goes on in a new epoch, and an event says so; the anchor is
       written only after that is committed.
    4. Whatever a crash left, one file and one key slot are left of it once the store is open.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from einthoven.anchor_file import FileAnchor, anchor_path
from einthoven.clock import SystemClock
from einthoven.errors import KeyUnavailable, StoreDamaged, StoreIOError, WrongKey
from einthoven.file_lock import FileLock
from einthoven.key_slots import KeySlot, KeySlots, read_slots, slots_path, write_slots
from einthoven.ports import Anchor, Clock, HoldsRawKey, KeyProvider
from einthoven.private_files import make_private_folder
from einthoven.rollback import CONTINUES, decode_record, judge, record_of
from einthoven.sqlcipher_connection import (
    DAMAGED_REMEDY,
    FileKey,
    look_at,
    open_writer,
    translated,
)
from einthoven.sqlcipher_reserve import Reserve
from einthoven.sqlcipher_rows import SqlCipherRows
from einthoven.store_adoption import adopt_store
from einthoven.store_anchoring import Continuity
from einthoven.store_creating import FreshKey, fresh_key, make_store
from einthoven.store_events import ForkReason, StoreEvent, StoreMigrated
from einthoven.store_migrations import migrate
from einthoven.store_opened_file import OpenedFile
from einthoven.store_proving import Proof, log_is_whole, pages_prove, prove, prove_twice, state_of
from einthoven.store_repair import repair_store_file
from einthoven.store_replacement import carry_on, discard_prepared, is_decided, keep_slot, prepared_path
from einthoven.store_rules import Draw
from einthoven.store_schema import FIRST_TAGGED_VERSION, SCHEMA_VERSION
from einthoven.store_unlocking import Unlocked, unlock

__all__ = ["OpenedFile", "Report", "open_store_file"]

Report = Callable[[StoreEvent], None]
"""Told of each event; must not raise."""

_ADOPTABLE_VERSION: Final = 1


def open_store_file(
    path: Path | str,
    key_provider: KeyProvider,
    *,
    create: bool = True,
    anchor: Anchor | None = None,
    repair: bool = True,
    clock: Clock | None = None,
    report: Report = lambda event: None,
    draw: Draw = secrets.randbelow,
) -> OpenedFile:
    """Open a store's file, or make one.

    Args:
        path: The file. Its key slots, log and lock lie beside it.
        key_provider: Unwraps the data key; asked once or twice.
        create: Make the file, and its folder, if there is none.
        anchor: Where the last commit is remembered; a file beside the store if not given.
        repair: Salvage what is whole of a file that can't be opened any more; otherwise that is an error.
        clock: For the audit trail.
        report: Told of what was found, now and while the store is open.
        draw: Where a new epoch's number comes from (``store_rules.next_epoch``).

    Raises:
        KeyUnavailable: There is no usable key, or the key slots are gone.
        WrongKey: The key does not open the file, or it is no store.
        StoreTooNew: A newer version wrote it.
        StoreUnsafe: The SQLCipher build is not one to trust with data.
        StoreDamaged: Its key slots are damaged, or it is and is not to be repaired.
        StoreIOError: There is no such file, it is open elsewhere, or the disk says no.
    """
    # Two names of one file must not give two locks.
    path = Path(path).resolve()
    if not create and not path.exists() and not slots_path(path).exists():
        raise StoreIOError(f"there is no store at {path}", "name one that exists, or allow it to be made")
    opening = _Opening(
        path, key_provider, anchor or FileAnchor(anchor_path(path)), repair, clock or SystemClock(), report, draw
    )
    try:
        fresh = None
        if create and not path.parent.is_dir():
            fresh = fresh_key(key_provider)  # without a key not even the folder is made
            make_private_folder(path.parent)
        lock = FileLock(path)
        try:
            try:
                return opening.open(lock, create=create, fresh=fresh)
            except StoreIOError as error:
                # Even opening needs room, for the log's index, and a full disk does not always say that it is.
                if isinstance(error, StoreDamaged) or not Reserve(path).free():
                    raise
                return opening.open(lock, create=create, fresh=fresh)
        except BaseException:
            lock.release()
            raise
    except OSError as error:
        raise StoreIOError(
            f"the store {path} can't be opened ({error.strerror})", "name a file in a folder that you may write to"
        ) from error


@dataclass(slots=True)
class _Opening:
    """One opening of a store; its lock is held throughout."""

    path: Path
    provider: KeyProvider
    anchor: Anchor
    repair: bool
    clock: Clock
    report: Report
    draw: Draw
    found_lost: bool = False
    doubted: bool = False
    mended: bool = False

    def open(self, lock: FileLock, *, create: bool, fresh: FreshKey | None) -> OpenedFile:
        """Carry on what was cut off, make what there is not, then open what there is."""
        slots = read_slots(self.path)
        if slots is not None and is_decided(self.path, slots):
            slots = self._carried_on(slots)
        if not self.path.exists():
            if not create:
                raise StoreIOError(
                    f"{self.path.name} is gone, only its keys are left", "put it back, or allow a new one to be made"
                )
            self.found_lost = slots is not None
            make_store(self.path, fresh or fresh_key(self.provider, slots), at_ms=self.clock.now_ms())
        while True:
            opened = self._opened(lock)
            if opened is not None:
                return opened

    def _carried_on(self, slots: KeySlots) -> KeySlots:
        """Finish a replacement that was decided, once its key is proved."""
        slot = slots.slots[-1]
        key = FileKey(self.provider.unwrap(slot.wrapped, slots.store_id), slot.salt)
        try:
            prove_twice(prepared_path(self.path), key)
        except (StoreDamaged, WrongKey):
            if len(slots.slots) == 1 or not self.path.exists():
                raise
            # The disk lost what it had said was safe; the file that was to be replaced is still there.
            return keep_slot(self.path, slots, 0)
        return carry_on(self.path, slots)

    def _opened(self, lock: FileLock) -> OpenedFile | None:
        """The file, open; ``None`` if it was adopted or mended, so that another one is to be opened now."""
        salt = look_at(self.path)
        slots = read_slots(self.path)
        if slots is None:
            if not self._adopted(salt, None):
                raise KeyUnavailable(
                    f"{slots_path(self.path).name} is missing, without which nothing opens {self.path.name}",
                    "put it back from a backup of the store",
                )
            return None
        try:
            unlocked = unlock(self.path, slots, salt, self.provider)
        except WrongKey:
            if not self._adopted(salt, slots):
                raise
            return None
        slots = self._settled(slots, unlocked)
        anchored = self.anchor.read()
        reason = self._judged(unlocked.proof, anchored)
        if unlocked.proof is None or (
            reason is ForkReason.TURNED_BACK and not log_is_whole(self.path, unlocked.key) and not self.mended
        ):
            self._mend(slots, unlocked.key)
            return None
        discard_prepared(self.path)
        try:
            return self._written(lock, slots, unlocked.key, reason, anchored)
        except StoreDamaged:
            self._mend(slots, unlocked.key)
            return None

    def _settled(self, slots: KeySlots, unlocked: Unlocked) -> KeySlots:
        """Leave only the slot that opens the file, with the salt that does."""
        wrapped = slots.slots[unlocked.index].wrapped
        settled = KeySlots(slots.store_id, (KeySlot(wrapped, unlocked.key.salt),))
        if settled != slots:
            write_slots(self.path, settled)
        return settled

    def _adopted(self, salt: bytes, slots: KeySlots | None) -> bool:
        """Whether this was a store of version 1 under the provider's own key; it no longer is."""
        if not isinstance(self.provider, HoldsRawKey):
            return False
        key = FileKey(self.provider.load(), salt)
        try:
            version = prove(self.path, key).version
        except WrongKey:
            return False
        if version != _ADOPTABLE_VERSION:
            return False
        fresh = fresh_key(self.provider, slots)
        for event in adopt_store(self.path, key, fresh, self.anchor, at_ms=self.clock.now_ms()):
            self.report(event)
        return True

    def _judged(self, proof: Proof | None, anchored: bytes | None) -> ForkReason | None:
        """Why the file must go on in a new epoch, if it must."""
        if proof is None or proof.state is None or self.mended:
            return CONTINUES
        reason = judge(proof.state, anchored, proof.integrity_key, self.path.stat().st_ino)
        return ForkReason.TURNED_BACK if reason is CONTINUES and self.found_lost else reason

    def _mend(self, slots: KeySlots, key: FileKey) -> None:
        """Have what is whole salvaged into a new file, once, if it is found damaged twice and parts of it can be read.

        SQLite calls a failed read damage, so the first time it is opened again from the beginning. A disk that gives
        nothing at all is out of order, which a repair would not mend; one that has lost some blocks is what it is for.
        """
        if not self.doubted:
            self.doubted = True
            return
        if not pages_prove(self.path, key):
            raise StoreIOError(f"{self.path.name} can't be read", "see to the disk, then try again")
        if not self.repair or self.mended:
            raise StoreDamaged(f"{self.path.name} is damaged and can't be opened", DAMAGED_REMEDY)
        self.mended = True
        repaired = repair_store_file(self.path, key, slots, self.anchor, at_ms=self.clock.now_ms())
        for event in repaired.events:
            self.report(event)

    def _written(
        self, lock: FileLock, slots: KeySlots, key: FileKey, reason: ForkReason | None, anchored: bytes | None
    ) -> OpenedFile:
        """Open for writing, go on in a new epoch if need be, and anchor where the file then stands."""
        connection = open_writer(self.path, key)
        try:
            with translated(self.path.name):
                # Refused here if it can't write: SQLite falls back to reading where it can't open for writing, also if
                # that fails only once (``says_read_only``).
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("PRAGMA user_version = 0")
                connection.execute("ROLLBACK")
                at_ms = self.clock.now_ms()
                version = migrate(connection, self.path.name, store_id=slots.store_id, at_ms=at_ms)
                rows = SqlCipherRows(connection, draw=self.draw)
                events: list[StoreEvent] = []
                if version < SCHEMA_VERSION:
                    events.append(StoreMigrated(version, SCHEMA_VERSION))
                if version < FIRST_TAGGED_VERSION:
                    reason = self._judged(Proof(version, state_of(rows), rows.integrity_key), anchored)
                if reason is not None:
                    known = decode_record(anchored, rows.integrity_key)
                    with rows.transaction():
                        forked = rows.fork(reason, at_ms=at_ms, anchored=known)
                    events.append(forked)
                record = record_of(rows.state(), self.path.stat().st_ino)
                integrity_key = rows.integrity_key
        except BaseException:
            connection.close()
            raise
        for event in events:
            self.report(event)
        continuity = Continuity(self.anchor, record, integrity_key, self.report)
        return OpenedFile(self.path, connection, key, slots, continuity, lock, self.clock, self.draw)
