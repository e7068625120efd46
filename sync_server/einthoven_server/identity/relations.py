"""How a caller stands to a patient, asked of the database with every request, so that what is taken away bites at once.

It deliberately keeps nothing in memory and decides nothing: ``permissions`` does.

Invariants:
    1. A patient of this tenant to whom the caller has no relation, and one who does not exist, take the same statement
       with the same look-ups (attack 14).
    2. A role that belongs to one patient is never in another's care team, and opens nothing in an emergency.
    3. Whom a consent or a restriction keeps out (``consent``) has no relation; this is the one place that asks. It is
       read by the statement that reads the relation, so that a withdrawal bites with the next request.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from einthoven_server.database import Database, Row, Scope
from einthoven_server.identity.callers import Principal
from einthoven_server.identity.consent import Agreement, Asked, Category, Standing, governs, lets_through, purpose_of
from einthoven_server.identity.consent_store import ConsentStore
from einthoven_server.identity.privacy_state import read_policy
from einthoven_server.identity.roles import CARERS, OWN_PATIENT, Relation

_SAID: Final = "said.generation, said.restricted_at_ms, said.purposes, policy.body AS policy"
_POLICY: Final = "LEFT JOIN privacy_policy AS policy ON policy.shard = $1 AND policy.tenant = $2"
_RELATION: Final = f"""
SELECT {_SAID},
    EXISTS (SELECT 1 FROM patient WHERE shard = $1 AND tenant = $2 AND patient_id = $3) AS known,
    EXISTS (SELECT 1 FROM care_team
            WHERE shard = $1 AND tenant = $2 AND patient_id = $3 AND principal_id = $4) AS in_team,
    EXISTS (SELECT 1 FROM break_glass
            WHERE shard = $1 AND tenant = $2 AND principal_id = $4 AND patient_id = $3 AND expires_at_ms > $5) AS opened
FROM (SELECT 1) AS one
LEFT JOIN patient_privacy AS said ON said.shard = $1 AND said.tenant = $2 AND said.patient_id = $3 {_POLICY}
"""  # noqa: S608  # constants of ours
_RELATIONS: Final = f"""
SELECT asked.patient_id, {_SAID},
    EXISTS (SELECT 1 FROM care_team
            WHERE shard = $1 AND tenant = $2 AND patient_id = asked.patient_id AND principal_id = $4) AS in_team,
    EXISTS (SELECT 1 FROM break_glass
            WHERE shard = $1 AND tenant = $2 AND principal_id = $4 AND patient_id = asked.patient_id
                AND expires_at_ms > $5) AS opened
FROM unnest($3::text[]) AS asked(patient_id)
LEFT JOIN patient_privacy AS said ON said.shard = $1 AND said.tenant = $2
    AND said.patient_id = asked.patient_id {_POLICY}
WHERE EXISTS (SELECT 1 FROM patient WHERE shard = $1 AND tenant = $2 AND patient_id = asked.patient_id)
"""  # noqa: S608  # constants of ours
_PATIENTS: Final = f"""
SELECT found.patient_id, found.in_team, found.opened, {_SAID} FROM (
    SELECT patient_id, bool_or(in_team) AS in_team, NOT bool_and(in_team) AS opened FROM (
    SELECT patient_id, true AS in_team FROM care_team WHERE shard = $1 AND tenant = $2 AND principal_id = $3
    UNION ALL
    SELECT patient_id, false FROM break_glass
    WHERE shard = $1 AND tenant = $2 AND principal_id = $3 AND expires_at_ms > $4
) AS every GROUP BY patient_id
) AS found
LEFT JOIN patient_privacy AS said ON said.shard = $1 AND said.tenant = $2
    AND said.patient_id = found.patient_id {_POLICY}
ORDER BY found.patient_id
"""  # noqa: S608  # constants of ours
_NO_SUCH_ID: Final = "-"
"""Asked for where nobody was found, so that nothing is done faster."""


class Relations:
    """Of one tenant's principals to its patients.

    Args:
        database: Where they are.
        scope: Shard and tenant.
        consents: What patients agreed to; without, nobody gets past a patient who ever said something.
    """

    def __init__(self, database: Database, scope: Scope, consents: ConsentStore | None = None) -> None:
        self._database = database
        self._scope = scope
        self._consents = consents

    async def of(
        self, principal: Principal, patient_id: str | None, now_ms: int, categories: Collection[Category]
    ) -> Relation | None:
        """How a principal stands to a patient; ``None`` where there is no such patient.

        Args:
            principal: Who asks.
            patient_id: The patient, ``None`` for one who was not found.
            now_ms: UTC, ms since 1970.
            categories: What of the patient is to be seen, so that consent is asked about it.

        Raises:
            Busy: The database does not answer.
        """
        asked = patient_id or _NO_SUCH_ID
        row = await self._database.fetchrow(_RELATION, *self._scope, asked, principal.principal_id, now_ms)
        if row is None or not row["known"]:
            return None
        closest = _closest(principal, asked, in_team=row["in_team"], opened=row["opened"])
        return await self._let_through(principal, asked, closest, row, now_ms, categories)

    async def among(
        self, principal: Principal, patient_ids: Sequence[str], now_ms: int, categories: Collection[Category]
    ) -> dict[str, Relation]:
        """How a principal stands to each of these patients, as far as they exist, by one statement.

        Raises:
            Busy: The database does not answer.
        """
        asked = list(dict.fromkeys(patient_ids)) or [_NO_SUCH_ID]
        rows = await self._database.fetch(_RELATIONS, *self._scope, asked, principal.principal_id, now_ms)
        found = {row["patient_id"]: row for row in rows}
        relations = {}
        for one in asked:
            if one in found:
                row = found[one]
                closest = _closest(principal, one, in_team=row["in_team"], opened=row["opened"])
                relations[one] = await self._let_through(principal, one, closest, row, now_ms, categories)
        return relations

    async def patients_of(
        self, principal: Principal, now_ms: int, categories: Collection[Category]
    ) -> dict[str, Relation]:
        """Patients to whom a principal stands closer than by their tenant, in order of their ids.

        Raises:
            Busy: The database does not answer.
        """
        if principal.role in OWN_PATIENT:
            return {} if principal.patient_id is None else {principal.patient_id: Relation.SELF}
        if principal.role not in CARERS:
            return {}
        rows = await self._database.fetch(_PATIENTS, *self._scope, principal.principal_id, now_ms)
        relations = {}
        for row in rows:
            patient_id, closest = row["patient_id"], Relation.CARE_TEAM if row["in_team"] else Relation.BREAK_GLASS
            relations[patient_id] = await self._let_through(principal, patient_id, closest, row, now_ms, categories)
        return relations

    async def _let_through(
        self,
        principal: Principal,
        patient_id: str,
        relation: Relation,
        row: Row,
        now_ms: int,
        categories: Collection[Category],
    ) -> Relation:
        """The relation, or none where consent or a restriction keep the caller out."""
        role, restricted = principal.role, row["restricted_at_ms"] is not None
        if not governs(role, relation, categories, restricted=restricted):
            return relation
        agreements = await self._agreements(patient_id, row["generation"])
        if agreements is None:
            return Relation.NONE
        purposes = frozenset((row["purposes"] or "").split())
        standing = Standing(read_policy(row["policy"]), agreements, restricted, purposes)
        # Whom a consent keeps out as a member of the care team may have broken the glass.
        emergency = [Relation.BREAK_GLASS] if relation is Relation.CARE_TEAM and row["opened"] else []
        for one in [relation, *emergency]:
            asked = Asked(role, principal.principal_id, purpose_of(role, one), now_ms)
            if lets_through(standing, asked, categories):
                return one
        return Relation.NONE

    async def _agreements(self, patient_id: str, generation: int | None) -> tuple[Agreement, ...] | None:
        if generation is None:
            return ()
        return None if self._consents is None else await self._consents.agreements(patient_id, generation)


def _closest(principal: Principal, patient_id: str, *, in_team: bool, opened: bool) -> Relation:
    """The closest relation to a patient who exists."""
    if principal.role in OWN_PATIENT:
        return Relation.SELF if principal.patient_id == patient_id else Relation.TENANT
    if principal.role in CARERS and in_team:
        return Relation.CARE_TEAM
    return Relation.BREAK_GLASS if principal.role in CARERS and opened else Relation.TENANT
