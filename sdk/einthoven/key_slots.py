"""The file of key slots beside a store (``ecg.db.keys``): the store's name and its wrapped data key.

A slot holds the data key as the ``KeyProvider`` wrapped it, and the salt that SQLCipher keeps in the first 16 bytes of
the file which that key opens. There is one slot, or two while a store is being rekeyed. What is here is public: it
opens nothing without the wrapping key. It deliberately unwraps nothing and takes no lock; the caller holds the store's.

Layout, big-endian: magic (8) | version u16 | number of slots u8 | store id (16) | for each slot: length u16, wrapped
key, salt (16) | SHA-256 of all before (32). The file holds that twice, each time after its length (u32) and filled up
with zeros to whole ``BLOCK_BYTES``: the store is lost with its slots, so one bad block must not lose them.

Invariants:
    1. A copy is read whole or refused: one bit more, less or other is damage, and the other copy counts; with both
       damaged, ``StoreDamaged``. The checksum finds accidents; who can write the file can make it anew, but not a
       wrapped key that opens (see ``keys``).
    2. Under the name lies the old file or the new one, also after a power cut. What a crash left half made
       (``.keys.new``) is never read.
    3. On return from ``write_slots`` the new file is on the disk. The bytes of the one it replaced were overwritten,
       where the file system overwrites in place and no hard link keeps them for a backup.
    4. ``decode_slots`` gives back exactly what ``encode_slots`` was given.
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from einthoven.errors import StoreDamaged, StoreIOError, StoreTooNew
from einthoven.keys import STORE_ID_BYTES
from einthoven.private_files import create_private_file, put_in_place
from einthoven.shredding import overwrite, shred

SLOTS_SUFFIX: Final = ".keys"
"""Ending of the file's name, after the store's."""
SALT_BYTES: Final = 16
"""Length of SQLCipher's salt, the first bytes of a database file."""
MAX_SLOTS: Final = 2
"""The key in use, and while rekeying the one before or after it."""
MAX_WRAPPED_BYTES: Final = 4_096
"""Longest wrapped key: ours have some 100 bytes, those of a key service up to a few thousand."""
SLOTS_VERSION: Final = 1
"""Version of the layout."""

_MAGIC: Final = b"EINKEYS\n"
_HEAD: Final = struct.Struct(f">8sHB{STORE_ID_BYTES}s")
_LENGTH: Final = struct.Struct(">H")
_DIGEST_BYTES: Final = hashlib.sha256().digest_size
BLOCK_BYTES: Final = 4_096
"""What a disk or flash loses at a time; no two copies lie in one."""
COPIES: Final = 2
"""How often the file holds the slots."""
_COPY_LENGTH: Final = struct.Struct(">I")
_MAX_COPY_BYTES: Final = (
    _COPY_LENGTH.size
    + _HEAD.size
    + MAX_SLOTS * (_LENGTH.size + MAX_WRAPPED_BYTES + SALT_BYTES)
    + _DIGEST_BYTES
    + BLOCK_BYTES
)
MAX_SLOTS_FILE_BYTES: Final = COPIES * _MAX_COPY_BYTES
"""Longest file that is read."""


@dataclass(frozen=True, slots=True)
class KeySlot:
    """One data key, wrapped, and the file that it opens.

    Attributes:
        wrapped: What ``KeyProvider.wrap`` gave.
        salt: First 16 bytes of the database file that this key opens.
    """

    wrapped: bytes = field(repr=False)
    salt: bytes

    def __post_init__(self) -> None:
        """Refuse what can't be written.

        Raises:
            ValueError: A length is out of bounds.
        """
        if not 1 <= len(self.wrapped) <= MAX_WRAPPED_BYTES:
            raise ValueError(f"a wrapped key has 1-{MAX_WRAPPED_BYTES} bytes, not {len(self.wrapped)}")
        if len(self.salt) != SALT_BYTES:
            raise ValueError(f"a salt has {SALT_BYTES} bytes, not {len(self.salt)}")


@dataclass(frozen=True, slots=True)
class KeySlots:
    """All slots of one store.

    Attributes:
        store_id: 16 random bytes, made with the store.
        slots: One, or two while rekeying.
    """

    store_id: bytes
    slots: tuple[KeySlot, ...]

    def __post_init__(self) -> None:
        """Refuse what can't be written.

        Raises:
            ValueError: The store's name has another length, or there are no slots or too many.
        """
        if len(self.store_id) != STORE_ID_BYTES:
            raise ValueError(f"a store id has {STORE_ID_BYTES} bytes, not {len(self.store_id)}")
        if not 1 <= len(self.slots) <= MAX_SLOTS:
            raise ValueError(f"a store has 1-{MAX_SLOTS} key slots, not {len(self.slots)}")


def encode_file(slots: KeySlots) -> bytes:
    """The file's bytes: every copy."""
    content = encode_slots(slots)
    copy = _COPY_LENGTH.pack(len(content)) + content
    return (copy + bytes(-len(copy) % BLOCK_BYTES)) * COPIES


def decode_file(octets: bytes, file_name: str) -> KeySlots:
    """Read the file's bytes.

    Args:
        octets: All of them.
        file_name: What to call the file in a message.

    Raises:
        StoreDamaged: No copy in them is what ``encode_slots`` gives.
        StoreTooNew: One is whole, but of a later version.
    """
    blocks = len(octets) // BLOCK_BYTES
    # The second copy begins half-way; after a cut, where it did not: then the first is what is left.
    for start in (0, blocks // COPIES * BLOCK_BYTES):
        begin = start + _COPY_LENGTH.size
        (length,) = _COPY_LENGTH.unpack(octets[start:begin].ljust(_COPY_LENGTH.size, b"\0"))
        with suppress(StoreDamaged):
            return decode_slots(octets[begin : begin + length], file_name)
    raise _damaged(file_name)


def encode_slots(slots: KeySlots) -> bytes:
    """One copy."""
    content = _HEAD.pack(_MAGIC, SLOTS_VERSION, len(slots.slots), slots.store_id)
    for slot in slots.slots:
        content += _LENGTH.pack(len(slot.wrapped)) + slot.wrapped + slot.salt
    return content + hashlib.sha256(content).digest()


def decode_slots(content: bytes, file_name: str) -> KeySlots:
    """Read one copy.

    Args:
        content: All of them.
        file_name: What to call the file in a message.

    Raises:
        StoreDamaged: They are not what ``encode_slots`` gives.
        StoreTooNew: They are whole, but of a later version.
    """
    body, digest = content[:-_DIGEST_BYTES], content[-_DIGEST_BYTES:]
    if len(body) < _HEAD.size or hashlib.sha256(body).digest() != digest:
        raise _damaged(file_name)
    magic, version, n_slots, store_id = _HEAD.unpack_from(body)
    if magic != _MAGIC:
        raise _damaged(file_name)
    if version != SLOTS_VERSION:
        raise StoreTooNew(f"{file_name} was written by a newer version", "update this software")
    found = []
    position = _HEAD.size
    try:
        for _ in range(n_slots):
            (length,) = _LENGTH.unpack_from(body, position)
            position += _LENGTH.size
            salt_at = position + length
            found.append(KeySlot(body[position:salt_at], body[salt_at : salt_at + SALT_BYTES]))
            position = salt_at + SALT_BYTES
        slots = KeySlots(store_id, tuple(found))
    except (struct.error, ValueError) as error:
        raise _damaged(file_name) from error
    if position != len(body):
        raise _damaged(file_name)
    return slots


def slots_path(path: Path) -> Path:
    """Where the slots of the store at ``path`` lie."""
    return path.with_name(path.name + SLOTS_SUFFIX)


def read_slots(path: Path) -> KeySlots | None:
    """The slots of the store at ``path``; ``None`` if there is no such file (no store, or one of version 1).

    Raises:
        StoreDamaged: The file is not what was written.
        StoreTooNew: A newer version wrote it.
        StoreIOError: It can't be read, or is no file.
    """
    file_path = slots_path(path)
    try:
        # O_NONBLOCK: a named pipe must be refused, not waited for.
        descriptor = os.open(file_path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise StoreIOError(f"{file_path.name} is not a regular file", "put it back from a backup of the store")
            content = file.read(MAX_SLOTS_FILE_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _failed(file_path, "read", error) from error
    if len(content) > MAX_SLOTS_FILE_BYTES:
        raise _damaged(file_path.name)
    return decode_file(content, file_path.name)


def write_slots(path: Path, slots: KeySlots) -> None:
    """Put these slots in place of the ones of the store at ``path``, all or nothing, durable on return.

    Raises:
        StoreIOError: The disk says no; the old slots or the new ones are there, whole.
    """
    file_path = slots_path(path)
    prepared = _prepared(file_path)
    try:
        replaced = _open_replaced(file_path)
        try:
            shred(prepared)
            try:
                create_private_file(prepared, encode_file(slots))
                put_in_place(prepared, file_path)
            except BaseException:
                prepared.unlink(missing_ok=True)
                raise
            if replaced is not None:
                _overwrite_replaced(replaced)
        finally:
            if replaced is not None:
                os.close(replaced)
    except OSError as error:
        raise _failed(file_path, "written", error) from error


def destroy_slots(path: Path) -> None:
    """Overwrite and remove the slots of the store at ``path``, and what a crash left of them; twice is allowed.

    Raises:
        StoreIOError: The disk says no; call again when it no longer does.
    """
    file_path = slots_path(path)
    for name in (file_path, _prepared(file_path)):
        try:
            shred(name)
        except OSError as error:
            raise _failed(name, "destroyed", error) from error


def _prepared(file_path: Path) -> Path:
    return file_path.with_name(file_path.name + ".new")


def _open_replaced(file_path: Path) -> int | None:
    """A descriptor of the file that is about to lose its name, to overwrite it once it has."""
    try:
        return os.open(file_path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        # There is none, or it may be replaced though not written to.
        return None


def _overwrite_replaced(descriptor: int) -> None:
    """Overwrite what nothing names any more. The new slots are in place by now, so this may fail."""
    with suppress(OSError):
        if os.fstat(descriptor).st_nlink == 0:
            overwrite(descriptor)


def _damaged(file_name: str) -> StoreDamaged:
    return StoreDamaged(f"{file_name} is damaged", "put it back from a backup of the store")


def _failed(file_path: Path, verb: str, error: OSError) -> StoreIOError:
    return StoreIOError(
        f"{file_path.name} can't be {verb} ({error.strerror})", "see to disk and folder, then try again"
    )
