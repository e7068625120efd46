"""Reading results and annotations. It deliberately writes nothing: ``writer`` is the only one that does.

Invariants:
    1. Every query names shard and tenant; nothing of another tenant is found.
    2. What is returned was opened with the patient's key and found in its place.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from einthoven_protocol.messages import AnnotationRow, ResultId
from einthoven_server.database import Database, Row, Scope
from einthoven_server.patient_keys import PatientKeys
from einthoven_server.records.resource_ids import Kind, resource_id
from einthoven_server.records.sealing import open_annotation, open_result
from einthoven_server.records.stored_result import StoredResult

_RESULT = (
    "SELECT device_alias, epoch, counter, patient_id, row_sealed FROM result_row WHERE shard = $1 AND tenant = $2 AND "
)
# Device by device, so that each is a scan of the primary key that ends at the limit.
_PAGE = """
SELECT found.* FROM device CROSS JOIN LATERAL (
    SELECT device_alias, epoch, counter, patient_id, row_sealed FROM result_row
    WHERE shard = $1 AND tenant = $2 AND device_alias = device.device_alias
        AND (epoch, counter) > (CASE WHEN device.device_alias > $4::int THEN 0 ELSE $5::int END,
                                CASE WHEN device.device_alias > $4::int THEN 0 ELSE $6::int END)
    ORDER BY epoch, counter LIMIT $7
) AS found
WHERE device.shard = $1 AND device.tenant = $2 AND device.patient_id = $3 AND device.device_alias >= $4::int
ORDER BY found.device_alias, found.epoch, found.counter LIMIT $7
"""
_ASKED = """
FROM unnest($3::int[], $4::int[], $5::int[]) AS asked(alias, epoch, counter)
JOIN result_row AS stored ON stored.shard = $1 AND stored.tenant = $2 AND stored.device_alias = asked.alias
    AND stored.epoch = asked.epoch AND stored.counter = asked.counter
"""
_OWNERS = "SELECT stored.device_alias, stored.epoch, stored.counter, stored.patient_id" + _ASKED
_NAMED = "SELECT stored.device_alias, stored.epoch, stored.counter, stored.patient_id, stored.row_sealed" + _ASKED
_START = ResultId(-1, 0, 0)


class RecordStore:
    """Results and annotations of one tenant.

    Args:
        database: Where they are.
        scope: Shard and tenant.
        keys: Patients' data keys.
    """

    def __init__(self, database: Database, scope: Scope, keys: PatientKeys) -> None:
        self._database = database
        self._scope = scope
        self._keys = keys

    async def results_of(self, patient_id: str, after: ResultId | None, limit: int) -> list[StoredResult]:
        """Results of a patient in order of identity, those after ``after``."""
        place = after or _START
        rows = await self._database.fetch(
            _PAGE,
            *self._scope,
            patient_id,
            place.device_alias,
            place.epoch,
            place.counter,
            limit,
        )
        return await self._opened(rows)

    async def patient_of(self, result: ResultId) -> str | None:
        """The patient a result is of, if there is such a result."""
        rows = await self._by_id(result)
        return str(rows[0]["patient_id"]) if rows else None

    async def patients_of(self, results: Sequence[ResultId]) -> dict[ResultId, str]:
        """Whose these results are, as far as they are held; none of them is opened."""
        rows = await self._database.fetch(_OWNERS, *self._scope, *_columns(results))
        return {ResultId(row["device_alias"], row["epoch"], row["counter"]): str(row["patient_id"]) for row in rows}

    async def named(self, results: Sequence[ResultId]) -> list[StoredResult]:
        """These results as far as they are held, in the order asked."""
        rows = await self._database.fetch(_NAMED, *self._scope, *_columns(results))
        found = {stored.result: stored for stored in await self._opened(rows)}
        return [found[result] for result in results if result in found]

    async def _by_id(self, result: ResultId) -> list[Row]:
        return await self._database.fetch(
            _RESULT + "device_alias = $3 AND epoch = $4 AND counter = $5",
            *self._scope,
            result.device_alias,
            result.epoch,
            result.counter,
        )

    async def _opened(self, rows: Sequence[Row]) -> list[StoredResult]:
        ids = [ResultId(row["device_alias"], row["epoch"], row["counter"]) for row in rows]
        annotations = await self._annotations(ids)
        opened = []
        for result, row in zip(ids, rows, strict=True):
            key = await self._keys.get(row["patient_id"])
            opened.append(
                StoredResult(
                    result=result,
                    patient_id=row["patient_id"],
                    row=open_result(key, result, row["row_sealed"]),
                    annotations=tuple(annotations[result]),
                    risk_id=resource_id(self._scope.tenant, result, Kind.RISK),
                    observation_id=resource_id(self._scope.tenant, result, Kind.OBSERVATION),
                )
            )
        return opened

    async def _annotations(self, ids: Sequence[ResultId]) -> dict[ResultId, list[AnnotationRow]]:
        found: dict[ResultId, list[AnnotationRow]] = defaultdict(list)
        rows = await self._database.fetch(
            "SELECT stored.device_alias, stored.epoch, stored.counter, author, patient_id, row_sealed "
            "FROM unnest($3::int[], $4::int[], $5::int[]) AS asked(alias, epoch, counter) "
            "JOIN annotation AS stored ON shard = $1 AND tenant = $2 AND stored.device_alias = asked.alias "
            "AND stored.epoch = asked.epoch AND stored.counter = asked.counter ORDER BY author",
            *self._scope,
            *_columns(ids),
        )
        for row in rows:
            target = ResultId(row["device_alias"], row["epoch"], row["counter"])
            key = await self._keys.get(row["patient_id"])
            found[target].append(open_annotation(key, target, row["author"], row["row_sealed"]))
        return found


def _columns(ids: Sequence[ResultId]) -> tuple[list[int], list[int], list[int]]:
    return [one.device_alias for one in ids], [one.epoch for one in ids], [one.counter for one in ids]
