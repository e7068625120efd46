"""How a caller stands to a patient, asked of the database with every request, so that what is taken away bites at once.

It deliberately keeps nothing in memory and decides nothing: ``permissions`` does.

Invariants:
    1. A patient of this tenant to whom the caller has no relation, and one who does not exist, take the same statement
       with the same look-ups (attack 14).
    2. A role that belongs to one patient is never in another's care team, and opens nothing in an emergency.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from einthoven_server.database import Database, Scope
from einthoven_server.identity.callers import Principal
from einthoven_server.identity.roles import CARERS, OWN_PATIENT, Relation

_RELATION: Final = """
SELECT
    EXISTS (SELECT 1 FROM patient WHERE shard = $1 AND tenant = $2 AND patient_id = $3) AS known,
    EXISTS (SELECT 1 FROM care_team
            WHERE shard = $1 AND tenant = $2 AND patient_id = $3 AND principal_id = $4) AS in_team,
    EXISTS (SELECT 1 FROM break_glass
            WHERE shard = $1 AND tenant = $2 AND principal_id = $4 AND patient_id = $3 AND expires_at_ms > $5) AS opened
"""
_RELATIONS: Final = """
SELECT asked.patient_id,
    EXISTS (SELECT 1 FROM care_team
            WHERE shard = $1 AND tenant = $2 AND patient_id = asked.patient_id AND principal_id = $4) AS in_team,
    EXISTS (SELECT 1 FROM break_glass
            WHERE shard = $1 AND tenant = $2 AND principal_id = $4 AND patient_id = asked.patient_id
                AND expires_at_ms > $5) AS opened
FROM unnest($3::text[]) AS asked(patient_id)
WHERE EXISTS (SELECT 1 FROM patient WHERE shard = $1 AND tenant = $2 AND patient_id = asked.patient_id)
"""
_PATIENTS: Final = """
SELECT patient_id, bool_or(in_team) AS in_team FROM (
    SELECT patient_id, true AS in_team FROM care_team WHERE shard = $1 AND tenant = $2 AND principal_id = $3
    UNION ALL
    SELECT patient_id, false FROM break_glass
    WHERE shard = $1 AND tenant = $2 AND principal_id = $3 AND expires_at_ms > $4
) AS found GROUP BY patient_id ORDER BY patient_id
"""
_NO_SUCH_ID: Final = "-"
"""Asked for where nobody was found, so that nothing is done faster."""


class Relations:
    """Of one tenant's principals to its patients.

    Args:
        database: Where they are.
        scope: Shard and tenant.
    """

    def __init__(self, database: Database, scope: Scope) -> None:
        self._database = database
        self._scope = scope

    async def of(self, principal: Principal, patient_id: str | None, now_ms: int) -> Relation | None:
        """How a principal stands to a patient; ``None`` where there is no such patient.

        Args:
            principal: Who asks.
            patient_id: The patient, ``None`` for one who was not found.
            now_ms: UTC, ms since 1970.

        Raises:
            Busy: The database does not answer.
        """
        asked = patient_id or _NO_SUCH_ID
        row = await self._database.fetchrow(_RELATION, *self._scope, asked, principal.principal_id, now_ms)
        if row is None or not row["known"]:
            return None
        return _closest(principal, asked, in_team=row["in_team"], opened=row["opened"])

    async def among(self, principal: Principal, patient_ids: Sequence[str], now_ms: int) -> dict[str, Relation]:
        """How a principal stands to each of these patients, as far as they exist, by one statement.

        Raises:
            Busy: The database does not answer.
        """
        asked = list(dict.fromkeys(patient_ids)) or [_NO_SUCH_ID]
        rows = await self._database.fetch(_RELATIONS, *self._scope, asked, principal.principal_id, now_ms)
        found = {row["patient_id"]: row for row in rows}
        return {
            one: _closest(principal, one, in_team=found[one]["in_team"], opened=found[one]["opened"])
            for one in asked
            if one in found
        }

    async def patients_of(self, principal: Principal, now_ms: int) -> dict[str, Relation]:
        """Patients to whom a principal stands closer than by their tenant, in order of their ids.

        Raises:
            Busy: The database does not answer.
        """
        if principal.role in OWN_PATIENT:
            return {} if principal.patient_id is None else {principal.patient_id: Relation.SELF}
        if principal.role not in CARERS:
            return {}
        rows = await self._database.fetch(_PATIENTS, *self._scope, principal.principal_id, now_ms)
        return {row["patient_id"]: Relation.CARE_TEAM if row["in_team"] else Relation.BREAK_GLASS for row in rows}


def _closest(principal: Principal, patient_id: str, *, in_team: bool, opened: bool) -> Relation:
    """The closest relation to a patient who exists."""
    if principal.role in OWN_PATIENT:
        return Relation.SELF if principal.patient_id == patient_id else Relation.TENANT
    if principal.role in CARERS and in_team:
        return Relation.CARE_TEAM
    return Relation.BREAK_GLASS if principal.role in CARERS and opened else Relation.TENANT
