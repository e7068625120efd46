"""Makes checkpoints and keeps them twice: in the database, and in a file of the data folder that only grows.

It deliberately signs no log that is not a continuation of the last one it signed, whatever the database says now.

Invariants:
    1. A checkpoint is signed only if its tree grew from that of the last one in the file, which the database's owner
       can't reach.
    2. The file gets it before the database does, and on the disk (fsync): what was told anybody is in the file.
    3. What stands in the file or table and does not hold is said, never passed over; a torn end, left by a crash, was
       told nobody.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from pathlib import Path
from typing import Final

import msgspec

from einthoven_server import limits
from einthoven_server.audit.chain import tampered
from einthoven_server.audit.checkpoints import (
    Checkpoint,
    CheckpointSigner,
    CheckpointVerifier,
    notes_in,
    origin_of,
    seed_of,
)
from einthoven_server.audit.log import AuditLog
from einthoven_server.audit.merkle import Frontier, verify_consistency
from einthoven_server.audit.proofs import Proofs
from einthoven_server.audit.verification import KnownState
from einthoven_server.database import Connection
from einthoven_server.errors import CheckpointRefused, DataFolderUnsafe
from einthoven_server.private_files import read_or_make, read_private

KEY_NAME: Final = "audit-key"
FILE_NAME: Final = "audit-checkpoints"
_INSERT: Final = "INSERT INTO audit_checkpoint VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING"
_LAST: Final = (
    "SELECT size, signed_ms, note FROM audit_checkpoint WHERE shard = $1 AND tenant = $2 ORDER BY size DESC LIMIT 1"
)
_ALL: Final = "SELECT note FROM audit_checkpoint WHERE shard = $1 AND tenant = $2 ORDER BY size"
_NEWER: Final = """
SELECT 1 FROM audit_entry WHERE shard = $1 AND tenant = $2 AND seq > $3 AND operation <> $4 LIMIT 1
"""


class CheckpointKeeper:
    """Keeps the checkpoints of one log.

    Args:
        log: The log.
        folder: The data folder: its signing key, made on first use, and its file of checkpoints.

    Raises:
        KeyUnavailable: The key is damaged, or others can read it.
    """

    def __init__(self, log: AuditLog, folder: Path) -> None:
        self._log = log
        self._proofs = Proofs(log)
        self._file = folder / FILE_NAME
        text = read_or_make(folder / KEY_NAME, lambda: secrets.token_bytes(32).hex().encode() + b"\n")
        self._signer = CheckpointSigner(origin_of(log.scope.tenant), seed_of(text))

    @property
    def verifier(self) -> CheckpointVerifier:
        """For whoever holds checkpoints."""
        return self._signer.verifier

    async def make(self, now_ms: int) -> str:
        """Sign the log as it is now; the last note again where nothing was added.

        Args:
            now_ms: UTC, ms since 1970.

        Raises:
            AuditTampered: The log is not a continuation of the last one that was signed, or its head was altered.
            Busy: The database can't be reached.
            DataFolderUnsafe: The file can't be read or written.
        """
        head = await self._log.head()
        root = Frontier(head.tree_size, head.frontier).root()
        last = await asyncio.to_thread(self._last_in_file)
        note = self._signer.sign(head.seq, root)
        if last is not None:
            if last.size == head.seq and last.root == root:
                return note  # Ed25519 signs alike each time
            await self._require_grown(last, Checkpoint(last.origin, head.seq, root))
        if head.seq:
            await asyncio.to_thread(_append, self._file, note)
            scope = self._log.scope

            async def work(connection: Connection) -> None:
                await connection.execute(_INSERT, *scope, head.seq, now_ms, note)

            await self._log.database.transact(work)
        return note

    async def last(self) -> tuple[int, int, str] | None:
        """Size, time (ms since 1970) and note of the last one in the database; ``None`` before the first.

        Raises:
            Busy: The database can't be reached.
        """
        row = await self._log.database.fetchrow(_LAST, *self._log.scope)
        return None if row is None else (row["size"], row["signed_ms"], row["note"])

    async def grown_since(self, size: int, own_operation: str) -> bool:
        """Whether anything but ``own_operation`` was added after the first ``size`` entries.

        Raises:
            Busy: The database can't be reached.
        """
        return await self._log.database.fetchrow(_NEWER, *self._log.scope, size, own_operation) is not None

    async def known(self, *files: Path) -> list[KnownState]:
        """Every state that the database, the file of the data folder, and other files know of.

        Args:
            files: Checkpoints that someone else held: notes, or the document of a device.

        Raises:
            AuditTampered: A checkpoint in the database does not hold.
            CheckpointRefused: One of a file does not hold.
            Busy: The database can't be reached.
        """
        states = []
        for row in await self._log.database.fetch(_ALL, *self._log.scope):
            try:
                found = self.verifier.open(row["note"])
            except CheckpointRefused as error:
                raise tampered("a checkpoint in the database was altered") from error
            states.append(KnownState(found.size, found.root, "a checkpoint in the database"))
        in_file = await asyncio.to_thread(self._in_file)
        states.extend(KnownState(one.size, one.root, f"a checkpoint in {FILE_NAME}") for one in in_file)
        for file in files:
            note = await asyncio.to_thread(_note_in, file)
            found = self.verifier.open(note)
            states.append(KnownState(found.size, found.root, "the checkpoint that was given"))
        return states

    def _in_file(self) -> list[Checkpoint]:
        return [self.verifier.open(note) for note in self._notes()]

    def _last_in_file(self) -> Checkpoint | None:
        # One appends in order, so the last one is the largest; its signature is the only one that counts here.
        notes = self._notes()
        return self.verifier.open(notes[-1]) if notes else None

    def _notes(self) -> list[str]:
        if not self._file.exists():
            return []
        if self._file.stat().st_size > limits.AUDIT_CHECKPOINT_FILE_MAX_BYTES:
            raise DataFolderUnsafe(f"{FILE_NAME} is too long", "move the older half of it elsewhere")
        text = read_private(self._file).decode("utf-8", "replace")
        # Tenants of one data folder share the file.
        return [note for note in notes_in(text) if note.startswith(self.verifier.origin + "\n")]

    async def _require_grown(self, last: Checkpoint, now: Checkpoint) -> None:
        if last.size <= now.size:
            path = await self._proofs.consistency(last.size, now.size)
            if verify_consistency(last.size, now.size, last.root, now.root, path):
                return
        raise tampered(f"the audit log is not what it was when {last.size} entries of it were signed")


def _append(path: Path, note: str) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            # A line of its own: a torn one before it stays torn, and takes this one not with it.
            os.write(descriptor, b"\n" + note.encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise DataFolderUnsafe(
            f"can't write {path.name}: {error.strerror}", "make room, or make it writable"
        ) from error


def _note_in(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            octets = stream.read(limits.AUDIT_NOTE_MAX_BYTES + 1)
    except OSError as error:
        raise CheckpointRefused(f"can't read {path.name}: {error.strerror}", "give a file with a checkpoint") from error
    if len(octets) > limits.AUDIT_NOTE_MAX_BYTES:
        raise CheckpointRefused(f"{path.name} is too long for a checkpoint", "give one checkpoint")
    if octets.lstrip()[:1] == b"{":
        try:
            return msgspec.json.decode(octets, type=CheckpointDocument).checkpoint
        except msgspec.MsgspecError as error:
            raise CheckpointRefused(f"{path.name} holds no checkpoint", "give a device's document as it is") from error
    return octets.decode("utf-8", "replace")


class CheckpointDocument(msgspec.Struct, frozen=True):
    """What devices hold.

    Attributes:
        checkpoint: The note.
    """

    checkpoint: str
