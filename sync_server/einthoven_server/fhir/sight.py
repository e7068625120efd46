"""Whom a caller may see: the one question that every FHIR address asks before it shows anything of a patient.

It deliberately tells "not there" and "not yours" apart for nobody, and costs the same for both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from einthoven_server.database import Database, Scope
from einthoven_server.identity.callers import Principal


class Sight(Protocol):
    """Whom a caller may see."""

    async def seen(self, principal: Principal, patient_ids: Sequence[str]) -> frozenset[str]:
        """Those of ``patient_ids`` that exist and that the caller may see; asked also where there is none to ask for.

        Raises:
            Busy: It can't be told now.
        """
        ...


class TenantSight:
    """Everybody of the tenant, for every role that the table lets in; to be narrowed by relations.

    Args:
        database: Where patients are.
        scope: Shard and tenant.
    """

    def __init__(self, database: Database, scope: Scope) -> None:
        self._database = database
        self._scope = scope

    async def seen(self, principal: Principal, patient_ids: Sequence[str]) -> frozenset[str]:
        """Those that exist."""
        del principal
        rows = await self._database.fetch(
            "SELECT patient_id FROM patient WHERE shard = $1 AND tenant = $2 AND patient_id = ANY($3::text[])",
            *self._scope,
            list(patient_ids),
        )
        return frozenset(str(row["patient_id"]) for row in rows)
