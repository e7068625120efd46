"""Reading results and annotations. It deliberately writes nothing: ``writer`` is the only one that does.

Invariants:
    1. Every query names shard and tenant; nothing of another tenant is found.
    2. What is returned was opened with the patient's key and found in its place.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from einthoven_protocol.messages import ResultId
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
# One statement for a result and what was said of it: each of them by itself takes as long as both.
_HELD = f"""
SELECT stored.device_alias, stored.epoch, stored.counter, stored.patient_id, stored.row_sealed,
    said.authors, said.sealed
{_ASKED}
CROSS JOIN LATERAL (
    SELECT array_agg(author ORDER BY author) AS authors, array_agg(row_sealed ORDER BY author) AS sealed
    FROM annotation WHERE shard = $1 AND tenant = $2 AND device_alias = stored.device_alias
        AND epoch = stored.epoch AND counter = stored.counter
) AS said
"""  # noqa: S608  # a constant
_START = ResultId(-1, 0, 0)


class HeldResult(NamedTuple):
    """A result as it lies, sealed.

    Attributes:
        result: Its identity.
        patient_id: Whose it is.
        row_sealed: What the device said.
        said: What people said of it: author and the sealed row, by author.
    """

    result: ResultId
    patient_id: str
    row_sealed: bytes
    said: tuple[tuple[str, bytes], ...]


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
        return await self.opened(await self._said(rows))

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
        return await self.opened(await self.held(results))

    async def held(self, results: Sequence[ResultId]) -> list[HeldResult]:
        """These results as far as they are held, in the order asked; none of them is opened."""
        found = {}
        for row in await self._database.fetch(_HELD, *self._scope, *_columns(results)):
            result = ResultId(row["device_alias"], row["epoch"], row["counter"])
            said = zip(row["authors"] or (), row["sealed"] or (), strict=True)
            found[result] = HeldResult(result, str(row["patient_id"]), row["row_sealed"], tuple(said))
        return [found[result] for result in results if result in found]

    async def opened(self, held: Sequence[HeldResult]) -> list[StoredResult]:
        """Open what ``held`` gave, once the caller may see it.

        Raises:
            EnvelopeRefused: One is not what was stored there.
            Busy: The database does not answer.
        """
        opened = []
        for one in held:
            key = await self._keys.get(one.patient_id)
            opened.append(
                StoredResult(
                    result=one.result,
                    patient_id=one.patient_id,
                    row=open_result(key, one.result, one.row_sealed),
                    annotations=tuple(open_annotation(key, one.result, author, sealed) for author, sealed in one.said),
                    risk_id=resource_id(self._scope.tenant, one.result, Kind.RISK),
                    observation_id=resource_id(self._scope.tenant, one.result, Kind.OBSERVATION),
                )
            )
        return opened

    async def _by_id(self, result: ResultId) -> list[Row]:
        return await self._database.fetch(
            _RESULT + "device_alias = $3 AND epoch = $4 AND counter = $5",
            *self._scope,
            result.device_alias,
            result.epoch,
            result.counter,
        )

    async def _said(self, rows: Sequence[Row]) -> list[HeldResult]:
        """Rows with what was said of them."""
        ids = [ResultId(row["device_alias"], row["epoch"], row["counter"]) for row in rows]
        said = await self._annotations(ids)
        return [
            HeldResult(result, str(row["patient_id"]), row["row_sealed"], tuple(said[result]))
            for result, row in zip(ids, rows, strict=True)
        ]

    async def _annotations(self, ids: Sequence[ResultId]) -> dict[ResultId, list[tuple[str, bytes]]]:
        found: dict[ResultId, list[tuple[str, bytes]]] = defaultdict(list)
        rows = await self._database.fetch(
            "SELECT stored.device_alias, stored.epoch, stored.counter, author, row_sealed "
            "FROM unnest($3::int[], $4::int[], $5::int[]) AS asked(alias, epoch, counter) "
            "JOIN annotation AS stored ON shard = $1 AND tenant = $2 AND stored.device_alias = asked.alias "
            "AND stored.epoch = asked.epoch AND stored.counter = asked.counter ORDER BY author",
            *self._scope,
            *_columns(ids),
        )
        for row in rows:
            target = ResultId(row["device_alias"], row["epoch"], row["counter"])
            found[target].append((row["author"], row["row_sealed"]))
        return found


def _columns(ids: Sequence[ResultId]) -> tuple[list[int], list[int], list[int]]:
    return [one.device_alias for one in ids], [one.epoch for one in ids], [one.counter for one in ids]
