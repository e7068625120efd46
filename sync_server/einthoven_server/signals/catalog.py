"""What is known of stored signals, in the database: chunks, whose signals are in them, and the seals that prove it.

It deliberately holds no signal and opens none.

Invariants:
    1. Every query names shard and tenant; of devices, the device.
    2. A chunk is listed only once its object is durable; listing it, what is in it, its share of the quota, the end of
       its upload and the audit entry are one transaction.
    3. The first chunk that brought a result's signal stays the one that it is read from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from einthoven_protocol.canonical import encode_result_row
from einthoven_protocol.messages import ResultId, Run, Seal
from einthoven_protocol.signal_chunks import ChunkSegment
from einthoven_server.audit.chain import Event
from einthoven_server.audit.log import AuditLog
from einthoven_server.database import Connection, Database, Scope
from einthoven_server.identity.callers import Device
from einthoven_server.patient_keys import hold_version
from einthoven_server.records.sealing import open_result
from einthoven_server.signals import quotas
from einthoven_server.signals.tus import Upload
from einthoven_server.signals.uploads import UploadStore
from einthoven_server.signals.verifying import Sealed

_SEALS_OVER: Final = """
SELECT DISTINCT stored.epoch, stored.first_counter, stored.last_counter
FROM unnest($4::int[], $5::int[], $6::int[]) AS asked(epoch, first, last)
JOIN result_seal AS stored ON stored.shard = $1 AND stored.tenant = $2 AND stored.device_alias = $3
    AND stored.epoch = asked.epoch AND stored.first_counter <= asked.last AND stored.last_counter >= asked.first
ORDER BY stored.epoch, stored.first_counter, stored.last_counter LIMIT $7
"""
_SEALS: Final = """
SELECT stored.epoch, first_counter, last_counter, results_root, segments_root, signature
FROM unnest($4::int[], $5::int[], $6::int[]) AS asked(epoch, first, last)
JOIN result_seal AS stored ON stored.shard = $1 AND stored.tenant = $2 AND stored.device_alias = $3
    AND stored.epoch = asked.epoch AND first_counter = asked.first AND last_counter = asked.last
"""
_ROWS: Final = """
SELECT stored.epoch, stored.counter, row_sealed FROM unnest($4::int[], $5::int[]) AS asked(epoch, counter)
JOIN result_row AS stored ON stored.shard = $1 AND stored.tenant = $2 AND stored.device_alias = $3
    AND stored.epoch = asked.epoch AND stored.counter = asked.counter
"""
_INSERT_SIGNALS: Final = """
INSERT INTO result_signal
SELECT $1, $2, $3, asked.epoch, asked.counter, $4, asked.digest, $5, asked.first_byte, asked.n_bytes
FROM unnest($6::int[], $7::int[], $8::bytea[], $9::int[], $10::int[])
    AS asked(epoch, counter, digest, first_byte, n_bytes)
ON CONFLICT DO NOTHING
"""
_SEALED_WITH: Final = (
    "UPDATE signal_chunk SET key_version = $5 WHERE shard = $1 AND tenant = $2 AND device_alias = $3 AND chunk = $4 "
    "AND key_version <> $5"
)
_ADD_USAGE: Final = """
INSERT INTO signal_usage VALUES ($1, $2, $3, $4, $5, $5)
ON CONFLICT (shard, tenant, device_alias) DO UPDATE SET
    day_bytes = excluded.day_bytes + CASE WHEN signal_usage.day = excluded.day THEN signal_usage.day_bytes ELSE 0 END,
    day = excluded.day, total_bytes = signal_usage.total_bytes + excluded.total_bytes
"""


class SignalPlace(NamedTuple):
    """Where a result's signal lies.

    Attributes:
        patient_id: Whose it is.
        device_alias: Who recorded it.
        chunk: Name of its chunk.
        first_byte: Where it begins in there.
        n_bytes: Its length.
        digest: SHA-256 of its canonical form.
    """

    patient_id: str
    device_alias: int
    chunk: bytes
    first_byte: int
    n_bytes: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class KeptChunk:
    """A chunk whose object is durable.

    Attributes:
        device: Whose it is.
        upload: What brought it.
        segments: Its signals.
        length: Its bytes.
        now_ms: When, ms since 1970.
        event: Audit event of the request.
    """

    device: Device
    upload: Upload
    segments: tuple[ChunkSegment, ...]
    length: int
    now_ms: int
    event: Event


class SignalCatalog:
    """Stored signals of one tenant.

    Args:
        database: Where the lists are.
        scope: Shard and tenant.
        audit: The tenant's audit log.
        uploads: Uploads under way.
    """

    def __init__(self, database: Database, scope: Scope, audit: AuditLog, uploads: UploadStore) -> None:
        self._database = database
        self._scope = scope
        self._audit = audit
        self._uploads = uploads

    @property
    def tenant(self) -> str:
        """Whose signals these are."""
        return self._scope.tenant

    async def held(self, device: Device, names: Sequence[bytes]) -> set[bytes]:
        """Which of these chunks are stored."""
        rows = await self._database.fetch(
            "SELECT chunk FROM signal_chunk WHERE shard = $1 AND tenant = $2 AND device_alias = $3 "
            "AND chunk = ANY($4::bytea[])",
            *self._scope,
            device.alias,
            list(names),
        )
        return {row["chunk"] for row in rows}

    async def seals_over(self, device: Device, runs: Sequence[Run], limit: int) -> tuple[Run, ...]:
        """Runs of the seals that cover a result of ``runs``, ascending."""
        columns = [[run.epoch for run in runs], [run.first for run in runs], [run.last for run in runs]]
        rows = await self._database.fetch(_SEALS_OVER, *self._scope, device.alias, *columns, limit)
        return tuple(Run(row["epoch"], row["first_counter"], row["last_counter"]) for row in rows)

    async def sealed(self, device: Device, runs: Sequence[Run], results: Sequence[tuple[int, int]]) -> Sealed:
        """Seals by their runs, and rows by (epoch, counter), as far as they are held.

        Raises:
            EnvelopeRefused: A row is not what was stored there.
        """
        columns = [[run.epoch for run in runs], [run.first for run in runs], [run.last for run in runs]]
        seals = await self._database.fetch(_SEALS, *self._scope, device.alias, *columns)
        places = [[epoch for epoch, _ in results], [counter for _, counter in results]]
        rows = await self._database.fetch(_ROWS, *self._scope, device.alias, *places)
        return Sealed(
            alias=device.alias,
            public_key=device.public_key,
            seals={Run(row["epoch"], row["first_counter"], row["last_counter"]): Seal(**row) for row in seals},
            rows={
                (row["epoch"], row["counter"]): encode_result_row(
                    open_result(
                        device.patient_key, ResultId(device.alias, row["epoch"], row["counter"]), row["row_sealed"]
                    )
                )
                for row in rows
            },
        )

    async def keep(self, kept: KeptChunk) -> None:
        """List a stored chunk and end its upload."""
        device, segments = kept.device, kept.segments
        columns = [
            [segment.epoch for segment in segments],
            [segment.counter for segment in segments],
            [segment.digest for segment in segments],
            [segment.offset for segment in segments],
            [len(segment.stored) for segment in segments],
        ]

        async def work(connection: Connection) -> None:
            await hold_version(connection, self._scope, device.patient_key)
            new = await connection.fetchrow(
                "INSERT INTO signal_chunk VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING "
                "RETURNING length",
                *self._scope,
                device.alias,
                kept.upload.chunk,
                device.patient_id,
                kept.length,
                device.patient_key.version,
                kept.now_ms,
            )
            place = (device.alias, device.patient_id, kept.upload.chunk)
            await connection.execute(_INSERT_SIGNALS, *self._scope, *place, *columns)
            if new is not None:
                usage = (device.alias, kept.now_ms // quotas.DAY_MS, kept.length)
                await connection.execute(_ADD_USAGE, *self._scope, *usage)
            else:  # its object was put in place of the one that was there
                sealed_with = (device.alias, kept.upload.chunk, device.patient_key.version)
                await connection.execute(_SEALED_WITH, *self._scope, *sealed_with)
            await self._uploads.finish(connection, kept.upload)
            await self._audit.append(connection, [kept.event])

        await self._database.transact(work)

    async def place_of(self, result: ResultId) -> SignalPlace | None:
        """Where a result's signal lies, if it was uploaded and the result is still held."""
        row = await self._database.fetchrow(
            "SELECT kept.patient_id, kept.device_alias, kept.chunk, kept.first_byte, kept.n_bytes, "
            "kept.segment_digest AS digest FROM result_signal AS kept "
            "JOIN result_row AS held USING (shard, tenant, device_alias, epoch, counter) "
            "WHERE kept.shard = $1 AND kept.tenant = $2 AND kept.device_alias = $3 AND kept.epoch = $4 "
            "AND kept.counter = $5",
            *self._scope,
            result.device_alias,
            result.epoch,
            result.counter,
        )
        return None if row is None else SignalPlace(**row)

    async def stored_among(self, results: Sequence[ResultId]) -> set[ResultId]:
        """Those of ``results`` whose signal was uploaded."""
        rows = await self._database.fetch(
            "SELECT kept.device_alias, kept.epoch, kept.counter "
            "FROM unnest($3::int[], $4::int[], $5::int[]) AS asked(alias, epoch, counter) "
            "JOIN result_signal AS kept ON kept.shard = $1 AND kept.tenant = $2 AND kept.device_alias = asked.alias "
            "AND kept.epoch = asked.epoch AND kept.counter = asked.counter",
            *self._scope,
            [result.device_alias for result in results],
            [result.epoch for result in results],
            [result.counter for result in results],
        )
        return {ResultId(row["device_alias"], row["epoch"], row["counter"]) for row in rows}
