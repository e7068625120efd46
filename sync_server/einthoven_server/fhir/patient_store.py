"""Patients' demographics in the database: sealed, versioned, found by blind indexes.

It deliberately decides nothing about who may see a patient.

Invariants:
    1. A patient, which of its keys there are, its demographics and the audit event are one transaction; so are all
       patients of one bundle. Index entries are in the vault before, and count only for the version of the demographics
       that they name: those of a write that came to nothing, or was overtaken, find nobody.
    2. Conditional creation holds the tenant's row: of two at once with one identifier, the second finds the first.
    3. Nothing of a patient but opaque ids, versions, times and hashes is in the clear.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from typing import Final

from einthoven_server import limits
from einthoven_server.audit.chain import Event
from einthoven_server.audit.log import AuditLog
from einthoven_server.database import Connection, Database, Row, Scope
from einthoven_server.envelope import PatientKey
from einthoven_server.errors import NotFound, ParameterRefused, PreconditionFailed
from einthoven_server.fhir.blind_index import BlindIndexKey
from einthoven_server.fhir.patients import NOBODY_KNOWN, KnownPatient, Wanted, Written, opened_form, sealed_form, terms
from einthoven_server.identity.store import IdentityStore
from einthoven_server.patient_keys import MadeKey, PatientKeys, hold_version
from einthoven_server.vault.port import Indexed, Vault

_TABLE, _COLUMN = "patient_demographics", "body_sealed"
_PATIENT: Final = """
SELECT patient.patient_id, coalesce(version, 1) AS version, coalesce(updated_at_ms, created_at_ms) AS updated_at_ms,
    body_sealed
FROM patient LEFT JOIN patient_demographics AS said USING (shard, tenant, patient_id)
WHERE shard = $1 AND tenant = $2 AND
"""
# Index entries that name the version that is there.
_CURRENT: Final = """
SELECT DISTINCT said.patient_id FROM unnest($3::text[], $4::int[]) AS asked(patient_id, version)
JOIN patient_demographics AS said ON said.shard = $1 AND said.tenant = $2
    AND said.patient_id = asked.patient_id AND said.version = asked.version
"""


class PatientStore:
    """Patients of one tenant.

    Args:
        database: Where they are.
        vault: Where their index entries are.
        scope: Shard and tenant.
        keys: Patients' data keys.
        identities: Makes patients.
        audit: The tenant's log.
        index_key: Of the blind indexes.
    """

    def __init__(
        self,
        database: Database,
        vault: Vault,
        scope: Scope,
        keys: PatientKeys,
        identities: IdentityStore,
        audit: AuditLog,
        index_key: BlindIndexKey,
    ) -> None:
        self._database = database
        self._vault = vault
        self._scope = scope
        self._keys = keys
        self._identities = identities
        self._audit = audit
        self._index_key = index_key
        # One write at a time: who holds the tenant's row reads keys on a second connection, so that as many writers as
        # there are connections would wait for each other.
        self._turn = asyncio.Lock()

    async def by_ids(self, patient_ids: Sequence[str]) -> list[KnownPatient]:
        """Those of these patients that exist, by id."""
        query = f"{_PATIENT} patient.patient_id = ANY($3::text[]) ORDER BY patient.patient_id"
        return [await self._opened(row) for row in await self._database.fetch(query, *self._scope, list(patient_ids))]

    async def found(
        self, conditions: Sequence[Sequence[tuple[str, str]]], among: Sequence[str] | None = None
    ) -> list[str]:
        """Ids of patients of whom each condition holds: of its index entries, any.

        Args:
            conditions: Names of indexes and values.
            among: Whom to look for; everybody where ``None``.

        Raises:
            ParameterRefused: More than ``FHIR_CANDIDATES_MAX`` of the first condition.
        """
        left = None if among is None else set(among)
        for condition in conditions:
            hashed = [(name, await self._index_key.hashed(name, value)) for name, value in condition]
            at_most = limits.FHIR_CANDIDATES_MAX + 1
            indexed = await self._vault.find(hashed, None if left is None else list(left), at_most)
            if len(indexed) > limits.FHIR_CANDIDATES_MAX:
                name = condition[0][0]
                raise ParameterRefused(name, "fits too many patients", "put a rarer criterion first")
            rows = await self._database.fetch(_CURRENT, *self._scope, *_columns(indexed))
            left = {str(row["patient_id"]) for row in rows}
        return sorted(left or ())

    async def write(self, wanted: Sequence[Wanted], now_ms: int, event: Event) -> list[Written]:
        """Make and change patients: all, or none.

        Raises:
            NotFound: One to be changed is not there.
            PreconditionFailed: One has another version, or a condition fits several.
        """
        entries = [
            [(name, await self._index_key.hashed(name, value)) for name, value in sorted(set(terms(one.demographics)))]
            for one in wanted
        ]
        unless = [
            None if one.unless is None else await self._index_key.hashed("identifier", one.unless) for one in wanted
        ]

        made = [await self._keys.prepare(str(uuid.uuid4())) if one.patient_id is None else None for one in wanted]

        async def work(connection: Connection) -> list[Written]:
            await connection.execute("SELECT 1 FROM tenant WHERE shard = $1 AND tenant = $2 FOR UPDATE", *self._scope)
            done = []
            for one, index, condition, new in zip(wanted, entries, unless, made, strict=True):
                found = None if condition is None else await self._holder(connection, condition)
                if found is not None:
                    done.append(Written(200, found, found=True))
                else:
                    done.append(await self._written(connection, one, new, index, now_ms))
            await self._audit.append(connection, [_about(event, done)])
            return done

        async with self._turn:
            try:
                done = await self._database.transact(work)
            except (NotFound, PreconditionFailed):
                for new in made:
                    if new is not None:
                        await self._keys.discard(new)
                raise
        for one in done:
            if not one.found:
                await self._vault.prune_index(one.patient.patient_id, one.patient.version)
        for one, new in zip(done, made, strict=True):
            if one.found and new is not None:
                await self._keys.discard(new)
        return done

    async def _holder(self, connection: Connection, hashed: bytes) -> KnownPatient | None:
        # Asked again and again within the tenant's lock, so that what others wrote before is seen.
        indexed = await self._vault.find([("identifier", hashed)], None, limits.FHIR_CANDIDATES_MAX)
        rows = await connection.fetch(_CURRENT, *self._scope, *_columns(indexed))
        if len(rows) > 1:
            raise PreconditionFailed("the condition fits several patients", "name the system of the identifier")
        if not rows:
            return None
        query = f"{_PATIENT} patient.patient_id = $3"
        row = await connection.fetchrow(query, *self._scope, rows[0]["patient_id"])
        return None if row is None else await self._opened(row)

    async def _written(
        self, connection: Connection, one: Wanted, made: MadeKey | None, index: list[tuple[str, bytes]], now_ms: int
    ) -> Written:
        if made is not None:
            patient_id, status, version, key = made.key.patient, 201, 1, made.key
            await self._identities.add_patient(connection, made, now_ms)
        else:
            patient_id, status = one.patient_id or "", 200
            row = await connection.fetchrow(f"{_PATIENT} patient.patient_id = $3", *self._scope, patient_id)
            if row is None:
                raise NotFound("no such Patient", "check the id")
            if one.if_version is not None and one.if_version != row["version"]:
                raise PreconditionFailed("the patient was changed meanwhile", "read it again", code="version_changed")
            version, key = row["version"] + 1, await self._keys.get(patient_id)
        await self._put(connection, KnownPatient(patient_id, version, now_ms, one.demographics), key, index)
        return Written(status, KnownPatient(patient_id, version, now_ms, one.demographics))

    async def _put(
        self, connection: Connection, patient: KnownPatient, key: PatientKey, index: list[tuple[str, bytes]]
    ) -> None:
        await hold_version(connection, self._scope, key)
        await self._vault.index(patient.patient_id, patient.version, index)
        sealed = key.seal(sealed_form(patient.demographics), _TABLE, _COLUMN, f"{patient.version}")
        await connection.execute(
            "INSERT INTO patient_demographics VALUES ($1, $2, $3, $4, $5, $6, $7) "
            "ON CONFLICT (shard, tenant, patient_id) DO UPDATE SET version = excluded.version, "
            "updated_at_ms = excluded.updated_at_ms, body_sealed = excluded.body_sealed, "
            "key_version = excluded.key_version",
            *self._scope,
            patient.patient_id,
            patient.version,
            patient.updated_at_ms,
            sealed,
            key.version,
        )

    async def _opened(self, row: Row) -> KnownPatient:
        if row["body_sealed"] is None:
            return KnownPatient(row["patient_id"], row["version"], row["updated_at_ms"], NOBODY_KNOWN)
        key = await self._keys.get(row["patient_id"])
        octets = key.open(row["body_sealed"], _TABLE, _COLUMN, f"{row['version']}")
        return KnownPatient(row["patient_id"], row["version"], row["updated_at_ms"], opened_form(octets))


def _columns(indexed: Sequence[Indexed]) -> tuple[list[str], list[int]]:
    return [one.patient_id for one in indexed], [one.version for one in indexed]


def _about(event: Event, written: Sequence[Written]) -> Event:
    """An event that names whom it concerned: those who were asked for, made, and found."""
    ids = dict.fromkeys([event.patient, *event.others, *(one.patient.patient_id for one in written)])
    first, *others = [one for one in ids if one]
    only = event.resource_id or (first if len(written) == 1 else "")
    return event._replace(patient=first, others=tuple(others), resource_id=only)
