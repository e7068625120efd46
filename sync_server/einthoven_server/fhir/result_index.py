"""Patients' result columns, brought up to date from the change feed and kept in memory.

It deliberately stores nothing: a date in the clear, beside a sealed result, would tell what the seal is to hide.

Invariants:
    1. What it gives holds every result that was committed before it was asked, and none that was deleted before.
    2. ``commit_seq`` orders commits (ADR 22): behind the highest one that was seen nothing comes late. Another epoch of
       the shard, or tombstones that were collected unseen, make it begin anew.
    3. At most ``RESULT_INDEXES_MAX_BYTES`` of columns are kept; the least recently used go first.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from einthoven_protocol.messages import ResultId
from einthoven_server import limits
from einthoven_server.database import Connection, Database, Row, Scope
from einthoven_server.fhir.result_columns import ResultColumns, columns_of
from einthoven_server.patient_keys import PatientKeys
from einthoven_server.records.sealing import open_results

# One statement, so that all of it is of one moment. Kind 1 of a tombstone is a result.
_STANDS: Final = """
SELECT head.shard_epoch, head.commit_seq,
    coalesce((SELECT collected_seq FROM patient_horizon
              WHERE shard = $1 AND tenant = $2 AND patient_id = $3), 0) AS collected,
    EXISTS (SELECT 1 FROM result_row WHERE shard = $1 AND tenant = $2 AND patient_id = $3 AND commit_seq > $4) AS newer,
    EXISTS (SELECT 1 FROM tombstone WHERE shard = $1 AND tenant = $2 AND patient_id = $3 AND commit_seq > $4
            AND NOT collected AND kind = 1) AS gone
FROM shard_head AS head WHERE head.shard = $1
"""
_NEW: Final = """
SELECT device_alias, epoch, counter, row_sealed, commit_seq FROM result_row
WHERE shard = $1 AND tenant = $2 AND patient_id = $3 AND commit_seq > $4 ORDER BY commit_seq LIMIT $5
"""
_GONE: Final = """
SELECT device_alias, epoch::int, counter FROM tombstone
WHERE shard = $1 AND tenant = $2 AND patient_id = $3 AND commit_seq > $4 AND NOT collected AND kind = 1
"""


class _Known(NamedTuple):
    """What is known of a patient, and up to where."""

    columns: ResultColumns
    shard_epoch: int
    seen_seq: int


_NOTHING: Final = _Known(ResultColumns(), -1, 0)


class ResultIndex:
    """Columns of one tenant's patients.

    Args:
        database: Where results are.
        scope: Shard and tenant.
        keys: Patients' data keys.
        max_bytes: Memory of all columns together.
    """

    def __init__(
        self, database: Database, scope: Scope, keys: PatientKeys, max_bytes: int = limits.RESULT_INDEXES_MAX_BYTES
    ) -> None:
        self._database = database
        self._scope = scope
        self._keys = keys
        self._max_bytes = max_bytes
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._bytes = 0
        keys.on_change(self.forget)

    async def columns(self, patient_id: str) -> ResultColumns:
        """The patient's results as of now; none of an unknown patient.

        Raises:
            EnvelopeRefused: A stored row is not what was stored there.
            Busy: No database.
        """
        known = self._known.get(patient_id, _NOTHING)
        stands = await self._database.fetchrow(_STANDS, *self._scope, patient_id, known.seen_seq)
        if stands is None:
            return known.columns
        if stands["shard_epoch"] != known.shard_epoch or stands["collected"] > known.seen_seq:
            known = _Known(ResultColumns(), stands["shard_epoch"], 0)
            stands = await self._database.fetchrow(_STANDS, *self._scope, patient_id, 0)
        if stands is not None and (stands["newer"] or stands["gone"]):
            former = known
            known = await self._database.transact(lambda at: self._read(at, patient_id, former), snapshot=True)
        elif stands is not None:
            known = known._replace(seen_seq=stands["commit_seq"])
        self._keep(patient_id, known)
        return known.columns

    def forget(self, patient_id: str) -> None:
        """Drop what is kept of a patient."""
        known = self._known.pop(patient_id, None)
        self._bytes -= known.columns.n_bytes if known is not None else 0

    async def _read(self, connection: Connection, patient_id: str, known: _Known) -> _Known:
        head = await connection.fetchval("SELECT commit_seq FROM shard_head WHERE shard = $1", self._scope.shard)
        gone = await connection.fetch(_GONE, *self._scope, patient_id, known.seen_seq)
        new, seen = [], known.seen_seq
        while rows := await connection.fetch(_NEW, *self._scope, patient_id, seen, limits.RESULT_INDEX_READ_ROWS):
            new.append(await self._opened(patient_id, rows))
            seen = rows[-1]["commit_seq"]
        columns = known.columns.changed(new, [ResultId(*row) for row in gone])
        return _Known(columns, known.shard_epoch, max(seen, head))

    async def _opened(self, patient_id: str, rows: list[Row]) -> NDArray[np.void]:
        key = await self._keys.get(patient_id)
        names = [(row["device_alias"], row["epoch"], row["counter"]) for row in rows]
        sealed = [row["row_sealed"] for row in rows]
        if len(rows) < limits.THREAD_MIN_ROWS:
            return columns_of(open_results(key, names, sealed))
        return await asyncio.to_thread(lambda: columns_of(open_results(key, names, sealed)))

    def _keep(self, patient_id: str, known: _Known) -> None:
        self.forget(patient_id)
        self._known[patient_id] = known
        self._bytes += known.columns.n_bytes
        while self._bytes > self._max_bytes and len(self._known) > 1:
            self.forget(next(iter(self._known)))
