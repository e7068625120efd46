"""The form of a backup: objects of sealed, compressed pieces, and a manifest that is written last.

    backups/TENANT/ID/00000000 ...    pieces
    backups/TENANT/ID/manifest        who opens it, and what the pieces are

It deliberately reads no database and keeps no key.

Invariants:
    1. Each piece is AES-256-GCM under a key of this backup alone, which the key service wrapped; it is bound to tenant,
       backup and place. A piece that is altered, missing, moved, or of another backup, is refused.
    2. A backup without a manifest is none: whoever is killed while making one leaves nothing that restores.
    3. A piece that opens is no longer than ``BACKUP_PIECE_BYTES``, whatever it was made from.
"""

from __future__ import annotations

import base64
import secrets
from typing import Final

import msgspec
import zstandard

from einthoven_server import envelope, limits
from einthoven_server.envelope import Key, Place
from einthoven_server.errors import BackupRefused, EnvelopeRefused
from einthoven_server.key_service import KeyService
from einthoven_server.signals.signal_store import SignalStore

FORM: Final = 1
FOLDER: Final = "backups"
_MANIFEST: Final = "manifest"
_TABLE: Final = "backup"
_LEVEL: Final = 3


class Table(msgspec.Struct, frozen=True):
    """A table's rows in PostgreSQL's binary COPY form, over some pieces.

    Attributes:
        name: The table.
        columns: In their order.
        first_piece: Number of the first piece.
        n_pieces: How many; the last ends with the table.
        n_rows: Rows.
    """

    name: str
    columns: list[str]
    first_piece: int
    n_pieces: int
    n_rows: int


class Manifest(msgspec.Struct, frozen=True):
    """What a backup is of.

    Attributes:
        shard: Where the tenant's rows lay.
        at_ms: The moment that it shows (UTC, ms since 1970).
        steps: The database's shape: version and digest of each step.
        months: Months that results lay apart by, counted from January 1970.
        tables: What the pieces are.
        files: Private files of the data folder.
        n_signals: Objects of signals that lie beside it; -1 where those are elsewhere.
    """

    shard: int
    at_ms: int
    steps: list[tuple[int, str]]
    months: list[int]
    tables: list[Table]
    files: dict[str, bytes]
    n_signals: int


class _Head(msgspec.Struct, frozen=True):
    form: int
    wrapped: str
    sealed: str


class SealedBackup:
    """One backup, being written or read.

    Args:
        store: Objects.
        tenant: Whose.
        backup_id: Its name.
        key: 32 bytes.
        wrapped: The same, by the key service.
    """

    def __init__(self, store: SignalStore, tenant: str, backup_id: str, key: bytes, wrapped: bytes) -> None:
        self._store = store
        self._tenant = tenant
        self.backup_id = backup_id
        self._key = Key(key)
        self._wrapped = wrapped

    async def put(self, number: int, plain: bytes) -> None:
        """Write a piece."""
        packed = zstandard.ZstdCompressor(level=_LEVEL).compress(plain)
        await self._store.put(self._name(f"{number:08}"), self._key.seal(packed, self._place(f"{number:08}")))

    async def get(self, number: int) -> bytes:
        """Read a piece.

        Raises:
            BackupRefused: It is not what was written there.
        """
        sealed = await self._store.get(self._name(f"{number:08}"))
        if sealed is None:
            raise BackupRefused("a piece of the backup is missing", "take another backup")
        return _unpacked(self._opened(sealed, f"{number:08}"))

    async def finish(self, manifest: Manifest) -> None:
        """Write the manifest: from now on it is a backup."""
        sealed = self._key.seal(msgspec.msgpack.encode(manifest), self._place(_MANIFEST))
        head = _Head(FORM, base64.b64encode(self._wrapped).decode(), base64.b64encode(sealed).decode())
        await self._store.put(self._name(_MANIFEST), msgspec.json.encode(head))

    def manifest(self, sealed: str) -> Manifest:
        """Read a manifest.

        Raises:
            BackupRefused: It is not what was written there.
        """
        try:
            octets = base64.b64decode(sealed, validate=True)
        except ValueError as error:
            raise BackupRefused("the backup's manifest was altered or is damaged", "take another backup") from error
        try:
            return msgspec.msgpack.decode(self._opened(octets, _MANIFEST), type=Manifest)
        except msgspec.MsgspecError as error:
            raise BackupRefused("the backup's manifest is not in a known form", "use a newer version") from error

    def _opened(self, sealed: bytes, name: str) -> bytes:
        try:
            return self._key.open(sealed, self._place(name))
        except EnvelopeRefused as error:
            raise BackupRefused("a part of the backup was altered or is damaged", "take another backup") from error

    def _name(self, last: str) -> str:
        return f"{FOLDER}/{self._tenant}/{self.backup_id}/{last}"

    def _place(self, last: str) -> bytes:
        return Place(self._tenant, "", _TABLE, last, self.backup_id, FORM).to_bytes()


async def begin(store: SignalStore, key_service: KeyService, tenant: str, backup_id: str) -> SealedBackup:
    """A new backup with a key of its own.

    Raises:
        KeyServiceUnavailable: No answer.
    """
    key = secrets.token_bytes(envelope.KEY_BYTES)
    return SealedBackup(store, tenant, backup_id, key, await key_service.wrap(key, _context(tenant, backup_id)))


async def names(store: SignalStore) -> list[tuple[str, str]]:
    """Backups that are whole, as tenant and id, oldest first."""
    found = [name.split("/") for name in await store.names(FOLDER)]
    return sorted(((parts[1], parts[2]) for parts in found if len(parts) == 4 and parts[3] == _MANIFEST), key=_by_id)


async def opened(
    store: SignalStore, key_service: KeyService, tenant: str, backup_id: str
) -> tuple[SealedBackup, Manifest]:
    """A backup to read from.

    Raises:
        BackupRefused: There is none, or it is not what was written there.
        KeyServiceUnavailable: No answer.
    """
    octets = await store.get(f"{FOLDER}/{tenant}/{backup_id}/{_MANIFEST}")
    try:
        head = msgspec.json.decode(octets or b"", type=_Head)
        wrapped = base64.b64decode(head.wrapped, validate=True)
        key = await key_service.unwrap(wrapped, _context(tenant, backup_id))
    except (msgspec.MsgspecError, ValueError) as error:
        raise BackupRefused("there is no such backup, or it is damaged", "take another backup") from error
    except EnvelopeRefused as error:
        raise BackupRefused("the backup is not under this key", "give the key file of then") from error
    if head.form != FORM:
        raise BackupRefused("the backup is not in a known form", "use a newer version")
    backup = SealedBackup(store, tenant, backup_id, key, wrapped)
    return backup, backup.manifest(head.sealed)


def _by_id(backup: tuple[str, str]) -> tuple[str, str]:
    return backup[1], backup[0]


def _context(tenant: str, backup_id: str) -> bytes:
    return Place(tenant, "", _TABLE, "wrapped", backup_id, FORM).to_bytes()


def _unpacked(packed: bytes) -> bytes:
    try:
        return zstandard.ZstdDecompressor().decompress(packed, max_output_size=limits.BACKUP_PIECE_BYTES)
    except zstandard.ZstdError as error:
        raise BackupRefused("a part of the backup is longer than any", "take another backup") from error
