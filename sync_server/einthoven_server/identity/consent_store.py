"""Consents in the database: sealed under the patient's key, kept after they are withdrawn.

It deliberately judges nothing: ``consent`` does.

Invariants:
    1. A change, the patient's next generation and the audit event are one transaction.
    2. What was opened is kept in memory with its generation, and used only while the database says that this is the
       last one: a change counts with the next request, on every process.
    3. A consent that can't be opened keeps everybody out.
"""

from __future__ import annotations

import uuid
from collections import OrderedDict
from typing import Final

import msgspec

from einthoven_server import limits
from einthoven_server.audit.chain import Event
from einthoven_server.audit.log import AuditLog
from einthoven_server.database import Connection, Database, Row, Scope
from einthoven_server.errors import Conflict, EnvelopeRefused, NotFound, PreconditionFailed
from einthoven_server.identity.consent import Agreement, Consent
from einthoven_server.patient_keys import PatientKeys, hold_version

TABLE: Final = "consent"
COLUMN: Final = "body_sealed"
# Changes of one patient wait for each other here, so that the count holds.
_NEXT: Final = """
INSERT INTO patient_privacy (shard, tenant, patient_id, generation) VALUES ($1, $2, $3, 1)
ON CONFLICT (shard, tenant, patient_id) DO UPDATE SET generation = patient_privacy.generation + 1
"""
_OF_PATIENT: Final = """
SELECT consent_id, patient_id, version, active, updated_at_ms, body_sealed FROM consent
WHERE shard = $1 AND tenant = $2 AND patient_id = $3 ORDER BY consent_id
"""
# Generation and consents of one moment: a statement sees one state of the database.
_ACTIVE: Final = """
SELECT state.generation, consent_id, version, body_sealed FROM patient_privacy AS state
LEFT JOIN consent ON consent.shard = state.shard AND consent.tenant = state.tenant
    AND consent.patient_id = state.patient_id AND consent.active
WHERE state.shard = $1 AND state.tenant = $2 AND state.patient_id = $3 ORDER BY consent_id
"""
_ONE: Final = """
SELECT consent_id, patient_id, version, active, updated_at_ms, body_sealed FROM consent
WHERE shard = $1 AND tenant = $2 AND consent_id = $3
"""
_COUNT: Final = "SELECT count(*) FROM consent WHERE shard = $1 AND tenant = $2 AND patient_id = $3"
_INSERT: Final = "INSERT INTO consent VALUES ($1, $2, $3, $4, 1, true, $5, $6, $7)"
_WITHDRAW: Final = """
UPDATE consent SET version = $4, active = false, updated_at_ms = $5, body_sealed = $6, key_version = $7
WHERE shard = $1 AND tenant = $2 AND consent_id = $3
"""


class ConsentStore:
    """Consents of one tenant's patients.

    Args:
        database: Where they are.
        scope: Shard and tenant.
        keys: Patients' data keys.
        audit: The tenant's log.
    """

    def __init__(self, database: Database, scope: Scope, keys: PatientKeys, audit: AuditLog) -> None:
        self._database = database
        self._scope = scope
        self._keys = keys
        self._audit = audit
        self._opened: OrderedDict[str, tuple[int, tuple[Agreement, ...] | None]] = OrderedDict()

    async def create(self, patient_id: str, agreement: Agreement, now_ms: int, event: Event) -> Consent:
        """Keep what a patient who exists agreed to.

        Raises:
            Conflict: There are too many.
            Busy: The database does not answer, or the patient's key was rotated meanwhile.
        """
        key, consent_id = await self._keys.get(patient_id), str(uuid.uuid4())
        sealed = key.seal(msgspec.json.encode(agreement), TABLE, COLUMN, _row(consent_id, 1))

        async def work(connection: Connection) -> None:
            await connection.execute(_NEXT, *self._scope, patient_id)
            if await connection.fetchval(_COUNT, *self._scope, patient_id) >= limits.CONSENTS_OF_ONE_MAX:
                problem = f"there are {limits.CONSENTS_OF_ONE_MAX} consents already"
                raise Conflict(problem, "they are kept as proof; ask the operator", code="too_many_consents")
            await hold_version(connection, self._scope, key)
            await connection.execute(_INSERT, *self._scope, consent_id, patient_id, now_ms, sealed, key.version)
            await self._audit.append(connection, [event._replace(resource_id=consent_id)])

        await self._database.transact(work)
        return Consent(consent_id, patient_id, 1, True, now_ms, agreement)

    async def withdraw(self, consent_id: str, if_version: int | None, now_ms: int, event: Event) -> Consent:
        """Let a consent count no longer; for one that does not already, nothing changes.

        Raises:
            NotFound: There is none.
            PreconditionFailed: It has another version.
            Busy: The database does not answer, or the patient's key was rotated meanwhile.
        """

        async def work(connection: Connection) -> Consent:
            row = await connection.fetchrow(f"{_ONE} FOR UPDATE", *self._scope, consent_id)
            if row is None:
                raise NotFound("no such Consent", "check the id")
            if if_version is not None and if_version != row["version"]:
                raise PreconditionFailed("the consent was changed meanwhile", "read it again", code="version_changed")
            held = await self._of(row)
            if held.active:
                held = held._replace(version=held.version + 1, active=False, updated_at_ms=now_ms)
                key = await self._keys.get(held.patient_id)
                octets = msgspec.json.encode(held.agreement)
                sealed = key.seal(octets, TABLE, COLUMN, _row(consent_id, held.version))
                await connection.execute(_NEXT, *self._scope, held.patient_id)
                await hold_version(connection, self._scope, key)
                new = (held.version, now_ms, sealed, key.version)
                await connection.execute(_WITHDRAW, *self._scope, consent_id, *new)
            await self._audit.append(connection, [event])
            return held

        return await self._database.transact(work)

    async def find(self, consent_id: str) -> Consent | None:
        """One, if it is there."""
        row = await self._database.fetchrow(_ONE, *self._scope, consent_id)
        return None if row is None else await self._of(row)

    async def patient_of(self, consent_id: str) -> str | None:
        """Whose a consent is, if it is there; it is not opened."""
        row = await self._database.fetchrow(_ONE, *self._scope, consent_id)
        return None if row is None else str(row["patient_id"])

    async def of_patient(self, patient_id: str) -> list[Consent]:
        """All of a patient, also those that were withdrawn, by id."""
        return [await self._of(row) for row in await self._database.fetch(_OF_PATIENT, *self._scope, patient_id)]

    async def agreements(self, patient_id: str, generation: int) -> tuple[Agreement, ...] | None:
        """What counts of a patient's consents.

        Args:
            patient_id: Whose.
            generation: The last change, as the database has it.

        Returns:
            ``None`` where one can't be opened: nobody knows what it says.
        """
        known = self._opened.get(patient_id)
        if known is not None and known[0] >= generation:
            self._opened.move_to_end(patient_id)
            return known[1]
        rows = await self._database.fetch(_ACTIVE, *self._scope, patient_id)
        found: tuple[Agreement, ...] | None
        try:
            key = await self._keys.get(patient_id)
            found = tuple(
                _opened(key.open(row["body_sealed"], TABLE, COLUMN, _row(row["consent_id"], row["version"])))
                for row in rows
                if row["consent_id"] is not None
            )
        except EnvelopeRefused:
            return None
        if rows:
            self._opened[patient_id] = (rows[0]["generation"], found)
            while len(self._opened) > limits.CONSENTS_CACHED_MAX:
                self._opened.popitem(last=False)
        return found

    async def _of(self, row: Row) -> Consent:
        key = await self._keys.get(row["patient_id"])
        octets = key.open(row["body_sealed"], TABLE, COLUMN, _row(row["consent_id"], row["version"]))
        whose = (row["consent_id"], row["patient_id"], row["version"])
        return Consent(*whose, row["active"], row["updated_at_ms"], _opened(octets))


def _row(consent_id: str, version: int) -> str:
    return f"{consent_id}/{version}"


def _opened(octets: bytes) -> Agreement:
    try:
        return msgspec.json.decode(octets, type=Agreement)
    except msgspec.DecodeError as error:
        raise EnvelopeRefused(
            "a consent is of no form that this version reads", "use the version that wrote it"
        ) from error
