"""Seals a patient's values anew, with the version of its key that seals now.

It deliberately removes no key.

Invariants:
    1. A row is written only if it is still what was read, whoever else writes.
    2. A value is opened where it lies before it is sealed anew: what does not belong there stops the rotation.
    3. An object of the place for signals is replaced whole, and says itself which version sealed it: its row follows.
"""

from __future__ import annotations

from typing import Any, Final

from einthoven_server import limits
from einthoven_server.database import Connection, Database, Row, Scope
from einthoven_server.envelope import PatientKey, version_of
from einthoven_server.errors import EnvelopeRefused
from einthoven_server.rotation.tables import CHUNKS, SEALED, SealedColumn
from einthoven_server.signals.signal_store import SignalStore

_CHUNK_COLUMN: Final = "content"


class Resealing:
    """Reseals one patient's values.

    Args:
        database: Where rows are.
        scope: Shard and tenant.
        signals: Where chunks of signals lie.
        key: All versions that are there; the one that seals is the newest.
    """

    def __init__(self, database: Database, scope: Scope, signals: SignalStore, key: PatientKey) -> None:
        self._database = database
        self._scope = scope
        self._signals = signals
        self._key = key

    async def run(self) -> int:
        """Reseal all that is sealed with a former version now; return how many values.

        Raises:
            EnvelopeRefused: One does not belong where it lies.
            Busy: Something does not answer.
        """
        n_resealed = 0
        for column in SEALED:
            after = -1
            while rows := await self._page(column, after):
                if column is CHUNKS:
                    for row in rows:
                        await self._reseal_chunk(row)
                else:
                    await self._reseal(column, rows)
                n_resealed += len(rows)
                if column.by_commit:
                    after = rows[-1]["commit_seq"]
        return n_resealed

    async def left(self, connection: Connection, since: int) -> bool:
        """Whether a former version still sealed something; the shard's lock is held.

        Args:
            connection: Inside the transaction.
            since: Commit sequence from before a run that found everything: what was committed up to then was resealed.
        """
        for column in SEALED:
            late = f"AND (commit_seq > {int(since)} OR commit_seq = 0)" if column.by_commit else ""
            query = f"SELECT 1 FROM {column.table} WHERE {_OF_FORMER.format(whose=column.of_patient)} {late} LIMIT 1"  # noqa: S608
            if await connection.fetchrow(query, *self._scope, self._key.patient, self._key.version) is not None:
                return True
        return False

    async def _page(self, column: SealedColumn, after: int) -> list[Row]:
        of_former = _OF_FORMER.format(whose=column.of_patient)
        # Rows of one commit sequence (0, of history) may be many: they are asked for until none is left.
        order = f"AND commit_seq >= {int(after)} ORDER BY commit_seq" if column.by_commit else ""
        return await self._database.fetch(
            f"SELECT * FROM {column.table} WHERE {of_former} {order} LIMIT $5",  # noqa: S608  # constants and an int
            *self._scope,
            self._key.patient,
            self._key.version,
            limits.RESEAL_BATCH_ROWS,
        )

    async def _reseal(self, column: SealedColumn, rows: list[Row]) -> None:
        arrays: list[list[Any]] = [[row[name] for row in rows] for name in column.ids]
        names = [column.row(row) for row in rows]
        before = [row[column.column] for row in rows]
        plain = [self._key.open(*one) for one in _placed(column, before, names)]
        after = [self._key.seal(*one) for one in _placed(column, plain, names)]
        kinds = [*column.ids.values(), "bytea", "bytea"]
        asked = ", ".join(f"${at}::{kind}[]" for at, kind in enumerate(kinds, 4))
        same = "".join(f" AND stored.{name} = asked.{name}" for name in column.ids)
        await self._database.fetch(
            f"UPDATE {column.table} AS stored SET {column.column} = asked.sealed_anew, key_version = $3 "  # noqa: S608
            f"FROM unnest({asked}) AS asked({', '.join(column.ids)}, sealed_before, sealed_anew) "
            f"WHERE stored.shard = $1 AND stored.tenant = $2{same} AND stored.{column.column} = asked.sealed_before",
            *self._scope,
            self._key.version,
            *arrays,
            before,
            after,
        )

    async def _reseal_chunk(self, row: Row) -> None:
        name = f"{self._scope.tenant}/{self._key.patient}/{row['device_alias']}/{row['chunk'].hex()}"
        sealed, place = await self._signals.get(name), CHUNKS.row(row)
        if sealed is None:
            raise EnvelopeRefused("a stored signal's object is gone", "restore the place for signals from a backup")
        plain = self._key.open(sealed, CHUNKS.table, _CHUNK_COLUMN, place)
        if version_of(sealed) != self._key.version:
            await self._signals.put(name, self._key.seal(plain, CHUNKS.table, _CHUNK_COLUMN, place))
        await self._database.fetch(
            "UPDATE signal_chunk SET key_version = $5 "
            "WHERE shard = $1 AND tenant = $2 AND device_alias = $3 AND chunk = $4",
            *self._scope,
            row["device_alias"],
            row["chunk"],
            self._key.version,
        )


_OF_FORMER: Final = "shard = $1 AND tenant = $2 AND {whose} AND key_version < $4"


def _placed(column: SealedColumn, values: list[bytes], names: list[str]) -> list[tuple[bytes, str, str, str]]:
    return [(value, column.table, column.column, name) for value, name in zip(values, names, strict=True)]
