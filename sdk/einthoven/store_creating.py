"""Makes the file of a new store, whole and encrypted before it has its name.

It deliberately takes no lock and opens nothing that is there already.

Invariants:
    1. Without a wrapping key nothing is made.
    2. A crash leaves no store, or an empty one with its key.
    3. Key slots that are left of a file that is gone keep their data key: should the file turn up, it still opens.
"""

from __future__ import annotations

import secrets
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from einthoven.errors import StoreIOError
from einthoven.key_slots import KeySlot, KeySlots
from einthoven.keys import KEY_BYTES
from einthoven.ports import KeyProvider
from einthoven.sqlcipher_connection import SALT_BYTES, FileKey, check_encrypted, make_file, side_files, translated
from einthoven.store_migrations import create_tables
from einthoven.store_replacement import discard_prepared, discard_undecided, prepared_path, replace_store_file
from einthoven.store_schema import STORE_ID_BYTES


@dataclass(frozen=True, slots=True)
class FreshKey:
    """A key for a file that is to be made, and its slot.

    Attributes:
        key: What opens it.
        slots: Its only slot.
    """

    key: FileKey
    slots: KeySlots


def fresh_key(provider: KeyProvider, left: KeySlots | None = None, store_id: bytes | None = None) -> FreshKey:
    """A random data key, wrapped.

    Args:
        provider: Wraps it.
        left: Slots of a file that is gone: their key is taken, under a new salt.
        store_id: The store's, if it has one.

    Raises:
        KeyUnavailable: There is no wrapping key.
        WrongKey: The slots that are left are another provider's.
    """
    salt = secrets.token_bytes(SALT_BYTES)
    if left is not None:
        store_id, wrapped = left.store_id, left.slots[-1].wrapped
        data_key = provider.unwrap(wrapped, store_id)
    else:
        store_id, data_key = store_id or secrets.token_bytes(STORE_ID_BYTES), secrets.token_bytes(KEY_BYTES)
        wrapped = provider.wrap(data_key, store_id)
    return FreshKey(FileKey(data_key, salt), KeySlots(store_id, (KeySlot(wrapped, salt),)))


def make_store(path: Path, fresh: FreshKey, *, at_ms: int) -> None:
    """Make an empty store; the caller holds its lock, and there is no file of this name.

    Args:
        path: The file.
        fresh: Its key.
        at_ms: UTC for the audit trail, ms since 1970.

    Raises:
        StoreError: It can't be made.
        OSError: The disk says no.
    """
    for left_over in side_files(path):
        if left_over.exists() and not left_over.name.endswith("-shm"):
            # SQLite would play a left-over log into the new file.
            raise StoreIOError(f"{left_over.name} is left over from another file", "put its file back, or move it away")
    discard_prepared(path)
    prepared = prepared_path(path)
    try:
        with translated(path.name), closing(make_file(prepared, fresh.key)) as connection:
            create_tables(connection, store_id=fresh.slots.store_id, at_ms=at_ms)
        check_encrypted(prepared, fresh.key)
        replace_store_file(path, fresh.slots)
    except BaseException:
        discard_undecided(path)
        raise
