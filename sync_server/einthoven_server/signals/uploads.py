"""Uploads under way, in the database: how far they are, and what of them arrived, sealed.

It deliberately looks into no upload. Bytes and offset are one transaction, so that after a crash of either side the
offset is that of bytes that are there; a parcel that arrives in one go never gets here (``receiving``).

Invariants:
    1. A device sees its own uploads only.
    2. Pieces lie without holes from 0 to the offset, each sealed with the patient's key, bound to upload and place.
    3. An offset moves only from where the writer believed it to be: of two writers, in whatever processes, one loses.
"""

from __future__ import annotations

import uuid
from typing import Final

from einthoven_server.database import Connection, Database, Row, Scope
from einthoven_server.errors import Conflict, TooLarge, TooMany
from einthoven_server.identity.callers import Device
from einthoven_server.patient_keys import hold_version
from einthoven_server.signals import quotas, statements
from einthoven_server.signals.tus import Creation, Upload

_TABLE: Final = "signal_upload_piece"
_COLUMN: Final = "piece_sealed"


class UploadStore:
    """Uploads of one tenant's devices.

    Args:
        database: Where they are.
        scope: Shard and tenant.
    """

    def __init__(self, database: Database, scope: Scope) -> None:
        self._database = database
        self._scope = scope

    async def create(self, device: Device, asked: Creation, now_ms: int, *, whole: bool = False) -> Upload:
        """Begin an upload, or find the one that was begun for the same chunk.

        Args:
            device: Whose it is.
            asked: What it is to be.
            now_ms: Now, ms since 1970.
            whole: Its chunk is stored already, so nothing is left to send.

        Raises:
            TooMany: The device has just begun too many, or stored too much today.
            TooLarge: It stored too much altogether.
        """

        async def work(connection: Connection) -> Upload:
            await self._clear_expired(connection, now_ms)
            present = await connection.fetchrow(statements.FIND_BY_CHUNK, *self._scope, device.alias, asked.chunk)
            if present is not None:
                upload = _upload(present)
                if upload.length == asked.length and now_ms < upload.expires_at_ms and upload.whole == whole:
                    return upload
                await self._remove(connection, upload.upload_id)
            if not whole:
                await self._check_quota(connection, device, asked.length, now_ms)
                await self._make_way(connection, device, now_ms)
            row = await connection.fetchrow(
                statements.CREATE,
                *self._scope,
                str(uuid.uuid4()),
                device.alias,
                device.patient_id,
                asked.chunk,
                asked.length,
                asked.length if whole else 0,
                now_ms + quotas.UPLOAD_LIFETIME_MS,
            )
            return _upload(row)

        return await self._database.transact(work)

    async def find(self, device: Device, upload_id: str) -> Upload | None:
        """One of the device's uploads."""
        row = await self._database.fetchrow(statements.FIND, *self._scope, device.alias, upload_id)
        return None if row is None else _upload(row)

    async def append(self, device: Device, upload: Upload, piece: bytes) -> Upload:
        """Keep what goes on where the upload stands; durable on return.

        Raises:
            Conflict: It stands elsewhere by now.
        """
        place = f"{upload.upload_id}/{upload.offset}"
        sealed = device.patient_key.seal(piece, _TABLE, _COLUMN, place)

        async def work(connection: Connection) -> Upload:
            moved = (device.alias, upload.upload_id, upload.offset, len(piece))
            row = await connection.fetchrow(statements.ADVANCE, *self._scope, *moved)
            if row is None:
                raise Conflict("the upload stands at another offset", "ask for it with HEAD")
            await hold_version(connection, self._scope, device.patient_key)
            kept = (upload.upload_id, upload.offset, sealed, device.patient_key.version)
            await connection.execute(statements.PUT_PIECE, *self._scope, *kept)
            return _upload(row)

        return await self._database.transact(work)

    async def take_back(self, device: Device, upload: Upload) -> None:
        """Forget what was kept behind an offset: it turned out not to be what was signed."""

        async def work(connection: Connection) -> None:
            place = (upload.upload_id, upload.offset)
            await connection.execute(statements.REMOVE_PIECES, *self._scope, *place)
            await connection.execute(statements.SET_BACK, *self._scope, device.alias, *place)

        await self._database.transact(work)

    async def content(self, device: Device, upload: Upload) -> bytes:
        """What was kept, from 0 to the offset.

        Raises:
            EnvelopeRefused: A piece is not what was kept there.
        """
        rows = await self._database.fetch(statements.PIECES, *self._scope, upload.upload_id)
        return b"".join(
            device.patient_key.open(row["piece_sealed"], _TABLE, _COLUMN, f"{upload.upload_id}/{row['first_byte']}")
            for row in rows
        )

    async def remove(self, upload: Upload) -> None:
        """Give an upload up, its bytes with it."""
        await self._database.transact(lambda connection: self._remove(connection, upload.upload_id))

    async def finish(self, connection: Connection, upload: Upload) -> None:
        """Note, in the transaction that keeps its chunk, that an upload is whole; its pieces are of no more use."""
        await connection.execute(statements.REMOVE_PIECES, *self._scope, upload.upload_id, 0)
        await connection.execute(statements.FINISH, *self._scope, upload.upload_id)

    async def _clear_expired(self, connection: Connection, now_ms: int) -> None:
        most = quotas.EXPIRED_AT_ONCE_MAX
        forgotten = now_ms - quotas.UPLOAD_REMEMBERED_MS
        for row in await connection.fetch(statements.FORGOTTEN, *self._scope, forgotten, most):
            await self._remove(connection, row["upload_id"])
        # Those that still answer 410 keep their line, and no bytes.
        await connection.execute(statements.REMOVE_EXPIRED_PIECES, *self._scope, now_ms, most)

    async def _make_way(self, connection: Connection, device: Device, now_ms: int) -> None:
        """Let the device's oldest unfinished uploads expire, so that with a new one there are not too many.

        Refused instead, a device that forgot what it had begun (killed, put back from a backup) would be kept out until
        those expire by themselves. Those that have just begun are likely under way, and stay.

        Raises:
            TooMany: All of them have just begun.
        """
        most_others = quotas.UPLOADS_OPEN_MAX - 1
        begun_long_ago = now_ms + quotas.UPLOAD_LIFETIME_MS - quotas.UPLOAD_STAYS_S * 1_000
        names = (*self._scope, device.alias, now_ms)
        await connection.execute(statements.MAKE_WAY, *names, most_others, begun_long_ago)
        await connection.execute(statements.REMOVE_EXPIRED_PIECES, *self._scope, now_ms, quotas.EXPIRED_AT_ONCE_MAX)
        opened = await connection.fetchrow(statements.COUNT_OPEN, *names)
        if opened["n"] > most_others:
            what = "too many unfinished uploads"
            raise TooMany(what, "finish or delete one", quotas.UPLOAD_STAYS_S, code="too_many_uploads")

    async def _check_quota(self, connection: Connection, device: Device, length: int, now_ms: int) -> None:
        used = await connection.fetchrow(statements.USAGE, *self._scope, device.alias)
        if used is None:
            return
        if used["total_bytes"] + length > quotas.DEVICE_TOTAL_MAX_BYTES:
            raise TooLarge("this device's signals fill its share", "ask the clinic", code="quota_exceeded")
        today, into_day_ms = divmod(now_ms, quotas.DAY_MS)
        if used["day"] == today and used["day_bytes"] + length > quotas.DEVICE_DAY_MAX_BYTES:
            wait_s = -(-(quotas.DAY_MS - into_day_ms) // 1000)
            raise TooMany("this device's signals fill its share of the day", "go on tomorrow", wait_s, "quota_of_day")

    async def _remove(self, connection: Connection, upload_id: str) -> None:
        await connection.execute(statements.REMOVE_PIECES, *self._scope, upload_id, 0)
        await connection.execute(statements.REMOVE, *self._scope, upload_id)


def _upload(row: Row) -> Upload:
    return Upload(
        upload_id=row["upload_id"],
        device_alias=row["device_alias"],
        chunk=row["chunk"],
        length=row["length"],
        offset=row["received"],
        expires_at_ms=row["expires_at_ms"],
    )
