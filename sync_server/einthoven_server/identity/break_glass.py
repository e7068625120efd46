"""Emergency access: a clinician who is not in the care team gives a reason and reads one patient for an hour.

Asking is not refused to any clinician of the tenant, so it tells whether a patient exists; that is why it is kept,
audited, bounded and reviewed. It deliberately can't be made longer: who needs more asks again, and is listed again.

Invariants:
    1. An access and its audit event are one transaction; it is kept after it has expired.
    2. What somebody wrote is in the database only sealed, under the patient's key.
    3. A principal has at most ``BREAK_GLASS_OPEN_MAX`` open at once.
"""

from __future__ import annotations

import uuid
from typing import Final, NamedTuple

from einthoven_server import limits
from einthoven_server.audit.chain import Event
from einthoven_server.audit.log import AuditLog
from einthoven_server.database import Connection, Database, Row, Scope
from einthoven_server.errors import EnvelopeRefused, TooMany
from einthoven_server.patient_keys import PatientKeys, hold_version

TABLE: Final = "break_glass"
COLUMN: Final = "text_sealed"
_COLUMNS: Final = "access_id, patient_id, principal_id, reason, text_sealed, opened_at_ms, expires_at_ms"
# Two that are asked for at once by one principal wait for each other, so that the count holds.
_WHO: Final = "SELECT 1 FROM principal WHERE shard = $1 AND tenant = $2 AND principal_id = $3 FOR UPDATE"
_OPEN: Final = """
SELECT count(*) FROM break_glass WHERE shard = $1 AND tenant = $2 AND principal_id = $3 AND expires_at_ms > $4
"""
_INSERT: Final = "INSERT INTO break_glass VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"
_NEWEST: Final = f"""
SELECT {_COLUMNS} FROM break_glass WHERE shard = $1 AND tenant = $2 AND ($3::text = '' OR patient_id = $3)
    AND (opened_at_ms, access_id) < ($4::bigint, $5::text)
ORDER BY opened_at_ms DESC, access_id DESC LIMIT $6
"""  # noqa: S608  # constants of ours
_END_OF_TIME: Final = 2**63 - 1


class Place(NamedTuple):
    """Where a page begins: the access before it, in the order "newest first"."""

    opened_at_ms: int
    access_id: str


class EmergencyAccess(NamedTuple):
    """One access; times are ms since 1970.

    Attributes:
        access_id: UUID.
        patient_id: To whose record.
        principal_id: Whose.
        reason: One of a few.
        text: In words; ``None`` where the patient's key is gone.
        opened_at_ms: From when.
        expires_at_ms: Until when.
    """

    access_id: str
    patient_id: str
    principal_id: str
    reason: str
    text: str | None
    opened_at_ms: int
    expires_at_ms: int


class BreakGlass:
    """Emergency accesses of one tenant.

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

    async def open(
        self, patient_id: str, principal_id: str, reason: str, text: str, now_ms: int, event: Event
    ) -> EmergencyAccess:
        """Give access to a patient who exists.

        Raises:
            TooMany: Too many are open.
            Busy: The database does not answer, or the patient's key was rotated meanwhile.
        """
        key, access_id = await self._keys.get(patient_id), str(uuid.uuid4())
        expires_at_ms = now_ms + limits.BREAK_GLASS_LIFETIME_MS
        sealed = key.seal(text.encode(), TABLE, COLUMN, access_id)

        async def work(connection: Connection) -> None:
            await connection.execute(_WHO, *self._scope, principal_id)
            if await connection.fetchval(_OPEN, *self._scope, principal_id, now_ms) >= limits.BREAK_GLASS_OPEN_MAX:
                wait_s = limits.RETRY_AFTER_MAX_S
                raise TooMany("too many emergency accesses are open", "wait for one to expire", wait_s)
            await hold_version(connection, self._scope, key)
            names = (access_id, patient_id, principal_id, reason)
            await connection.execute(_INSERT, *self._scope, *names, sealed, key.version, now_ms, expires_at_ms)
            await self._audit.append(connection, [event])

        await self._database.transact(work)
        return EmergencyAccess(access_id, patient_id, principal_id, reason, text, now_ms, expires_at_ms)

    async def newest(self, patient_id: str, before: Place | None, limit: int) -> list[EmergencyAccess]:
        """Accesses, newest first.

        Args:
            patient_id: To whose record; ``""`` for anybody's.
            before: Where the page begins.
            limit: How many at most.
        """
        place = before or Place(_END_OF_TIME, "")
        rows = await self._database.fetch(_NEWEST, *self._scope, patient_id, *place, limit)
        return [await self._opened(row) for row in rows]

    async def _opened(self, row: Row) -> EmergencyAccess:
        text: str | None
        try:
            key = await self._keys.get(row["patient_id"])
            text = key.open(row["text_sealed"], TABLE, COLUMN, row["access_id"]).decode()
        except EnvelopeRefused:
            text = None
        names = (row["access_id"], row["patient_id"], row["principal_id"], row["reason"])
        return EmergencyAccess(*names, text, row["opened_at_ms"], row["expires_at_ms"])
