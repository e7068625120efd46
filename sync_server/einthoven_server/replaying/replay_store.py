"""What was replayed, and which signals come next, in the database.

It deliberately opens nothing: rows come sealed, as they lie.

Invariants:
    1. Chunks are looked at in the order in which they were stored, each once; of two servers that look at the same one,
       the first to write counts.
    2. Verdicts, how far it went and the audit entries are one transaction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from einthoven_protocol.messages import ResultId
from einthoven_server.audit.chain import Event
from einthoven_server.audit.log import AuditLog
from einthoven_server.database import Connection, Database, Scope
from einthoven_server.replaying.outcomes import ReplayOutcome, Verdict
from einthoven_server.signals.catalog import SignalPlace

_NEXT: Final = """
SELECT stored_at_ms, device_alias, chunk, patient_id FROM signal_chunk
WHERE shard = $1 AND tenant = $2 AND (stored_at_ms, device_alias, chunk) > ($3, $4, $5) AND stored_at_ms < $6
ORDER BY stored_at_ms, device_alias, chunk LIMIT 1
"""
_CONTENTS: Final = """
SELECT kept.epoch, kept.counter, kept.segment_digest, kept.first_byte, kept.n_bytes, held.row_sealed
FROM result_signal AS kept JOIN result_row AS held USING (shard, tenant, device_alias, epoch, counter)
WHERE kept.shard = $1 AND kept.tenant = $2 AND kept.device_alias = $3 AND kept.chunk = $4
    AND NOT EXISTS (SELECT 1 FROM result_replay AS done WHERE done.shard = kept.shard AND done.tenant = kept.tenant
        AND done.device_alias = kept.device_alias AND done.epoch = kept.epoch AND done.counter = kept.counter)
ORDER BY kept.epoch, kept.counter
"""
_INSERT: Final = """
INSERT INTO result_replay
SELECT $1, $2, $3, found.epoch, found.counter, $4, found.outcome, string_to_array(found.differing, ','), found.model, $5
FROM unnest($6::int[], $7::int[], $8::text[], $9::text[], $10::bytea[])
    AS found(epoch, counter, outcome, differing, model)
ON CONFLICT DO NOTHING
"""
_ADVANCE: Final = """
INSERT INTO replay_progress VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (shard, tenant) DO UPDATE
    SET stored_at_ms = excluded.stored_at_ms, device_alias = excluded.device_alias, chunk = excluded.chunk
    WHERE (replay_progress.stored_at_ms, replay_progress.device_alias, replay_progress.chunk)
        < (excluded.stored_at_ms, excluded.device_alias, excluded.chunk)
RETURNING 1
"""
_DIFFERENT: Final = """
SELECT device_alias, epoch, counter, patient_id, outcome, differing, model_digest, replayed_at_ms FROM result_replay
WHERE shard = $1 AND tenant = $2 AND outcome = $3
    AND (replayed_at_ms, device_alias, epoch, counter) > ($4, $5, $6, $7)
ORDER BY replayed_at_ms, device_alias, epoch, counter LIMIT $8
"""
_COUNTS: Final = "SELECT outcome, count(*) AS n FROM result_replay WHERE shard = $1 AND tenant = $2 GROUP BY outcome"


class ChunkPlace(NamedTuple):
    """A stored chunk, and when it was stored: what the order goes by.

    Attributes:
        stored_at_ms: UTC, ms since 1970.
        device_alias: Whose it is.
        chunk: Its name.
        patient_id: Whose signals are in it.
    """

    stored_at_ms: int
    device_alias: int
    chunk: bytes
    patient_id: str


class SealedResult(NamedTuple):
    """A result whose signal is in a chunk.

    Attributes:
        result: Its identity.
        row_sealed: The result, as it lies.
        signal: Where its signal lies.
    """

    result: ResultId
    row_sealed: bytes
    signal: SignalPlace


class Replayed(NamedTuple):
    """A result that was replayed.

    Attributes:
        result: Its identity.
        verdict: What was found.
        model_digest: SHA-256 of the model's manifest that the result names; 32 bytes.
    """

    result: ResultId
    verdict: Verdict
    model_digest: bytes


class ListedReplay(NamedTuple):
    """One entry of a list.

    Attributes:
        replayed: What was found.
        patient_id: Whose result it is.
        replayed_at_ms: When, UTC, ms since 1970.
    """

    replayed: Replayed
    patient_id: str
    replayed_at_ms: int


class ReplayStore:
    """Replays of one tenant.

    Args:
        database: Where they are kept.
        scope: Shard and tenant.
        audit: The tenant's audit log.
    """

    def __init__(self, database: Database, scope: Scope, audit: AuditLog) -> None:
        self._database = database
        self._scope = scope
        self._audit = audit

    async def next_chunk(self, before_ms: int) -> ChunkPlace | None:
        """The next chunk that was stored before a time, if any.

        Raises:
            Busy: The database can't be reached.
        """
        done = await self._database.fetchrow(
            "SELECT stored_at_ms, device_alias, chunk FROM replay_progress WHERE shard = $1 AND tenant = $2",
            *self._scope,
        )
        after: tuple[object, ...] = (0, -1, b"") if done is None else tuple(done.values())
        row = await self._database.fetchrow(_NEXT, *self._scope, *after, before_ms)
        return None if row is None else ChunkPlace(**row)

    async def contents(self, place: ChunkPlace) -> list[SealedResult]:
        """The results whose signal is in a chunk, and that were not replayed yet."""
        rows = await self._database.fetch(_CONTENTS, *self._scope, place.device_alias, place.chunk)
        alias, patient, chunk = place.device_alias, place.patient_id, place.chunk
        return [
            SealedResult(
                ResultId(alias, row["epoch"], row["counter"]),
                row["row_sealed"],
                SignalPlace(patient, alias, chunk, row["first_byte"], row["n_bytes"], row["segment_digest"]),
            )
            for row in rows
        ]

    async def keep(self, place: ChunkPlace, found: Sequence[Replayed], now_ms: int, events: Sequence[Event]) -> bool:
        """Keep what was found in a chunk, and go on behind it; False if somebody else did before.

        Raises:
            Busy: The database can't be reached; nothing was kept.
        """
        columns = [
            [one.result.epoch for one in found],
            [one.result.counter for one in found],
            [one.verdict.outcome.value for one in found],
            [",".join(one.verdict.differing) for one in found],
            [one.model_digest for one in found],
        ]
        reached = (place.stored_at_ms, place.device_alias, place.chunk)

        async def work(connection: Connection) -> bool:
            if await connection.fetchval(_ADVANCE, *self._scope, *reached) is None:
                return False
            if found:
                about = (place.device_alias, place.patient_id, now_ms)
                await connection.execute(_INSERT, *self._scope, *about, *columns)
            if events:
                await self._audit.append(connection, events)
            return True

        return await self._database.transact(work)

    async def begin_again(self) -> None:
        """Look at all chunks once more; what was replayed is not replayed again."""

        async def work(connection: Connection) -> None:
            await connection.execute("DELETE FROM replay_progress WHERE shard = $1 AND tenant = $2", *self._scope)

        await self._database.transact(work)

    async def counts(self) -> Mapping[ReplayOutcome, int]:
        """How many results had which outcome."""
        rows = await self._database.fetch(_COUNTS, *self._scope)
        return {ReplayOutcome(row["outcome"]): row["n"] for row in rows}

    async def listed(
        self, outcome: ReplayOutcome, after: tuple[int, ResultId] | None, limit: int
    ) -> list[ListedReplay]:
        """Results with an outcome, in the order in which they were replayed.

        Args:
            outcome: Which.
            after: When the last one of the page before was replayed, and which it was.
            limit: At most so many.
        """
        at_ms, last = after or (-1, ResultId(0, 0, 0))
        start = (at_ms, last.device_alias, last.epoch, last.counter)
        rows = await self._database.fetch(_DIFFERENT, *self._scope, outcome.value, *start, limit)
        return [
            ListedReplay(
                Replayed(
                    ResultId(row["device_alias"], row["epoch"], row["counter"]),
                    Verdict(ReplayOutcome(row["outcome"]), tuple(row["differing"])),
                    row["model_digest"],
                ),
                row["patient_id"],
                row["replayed_at_ms"],
            )
            for row in rows
        ]
