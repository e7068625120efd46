"""Patients' data keys: made with the patient, wrapped by the key service, unwrapped once and kept in memory.

It deliberately rotates and erases nothing yet; erasing a patient is deleting these rows and dropping the cache.

Invariants:
    1. The database holds a data key only wrapped, bound to its tenant, patient and version.
    2. At most ``DATA_KEYS_CACHED_MAX`` keys are in memory; the least recently used goes first.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict

from einthoven_server import envelope, limits
from einthoven_server.database import Connection, Database, Scope
from einthoven_server.envelope import PatientKey, Place
from einthoven_server.errors import EnvelopeRefused
from einthoven_server.key_service import KeyService

FIRST_VERSION = 1


class PatientKeys:
    """Data keys of one tenant's patients.

    Args:
        database: Where wrapped keys are.
        key_service: What wraps them.
        scope: Shard and tenant.
        cached_max: How many keys may be in memory.
    """

    def __init__(
        self,
        database: Database,
        key_service: KeyService,
        scope: Scope,
        cached_max: int = limits.DATA_KEYS_CACHED_MAX,
    ) -> None:
        self._database = database
        self._key_service = key_service
        self._scope = scope
        self._cached_max = cached_max
        self._cached: OrderedDict[str, PatientKey] = OrderedDict()

    async def make(self, connection: Connection, patient_id: str) -> PatientKey:
        """Make a new patient's key, in the transaction that makes the patient; it is not kept before that holds."""
        key = secrets.token_bytes(envelope.KEY_BYTES)
        wrapped = await self._key_service.wrap(key, self._context(patient_id, FIRST_VERSION))
        await connection.execute(
            "INSERT INTO patient_key VALUES ($1, $2, $3, $4, $5)", *self._scope, patient_id, FIRST_VERSION, wrapped
        )
        return PatientKey(self._scope.tenant, patient_id, FIRST_VERSION, key)

    async def get(self, patient_id: str) -> PatientKey:
        """A patient's current key.

        Raises:
            EnvelopeRefused: It is gone, or the key service does not open it.
        """
        cached = self._cached.get(patient_id)
        if cached is not None:
            self._cached.move_to_end(patient_id)
            return cached
        row = await self._database.fetchrow(
            "SELECT key_version, wrapped FROM patient_key WHERE shard = $1 AND tenant = $2 AND patient_id = $3 "
            "ORDER BY key_version DESC LIMIT 1",
            *self._scope,
            patient_id,
        )
        if row is None:
            raise EnvelopeRefused("a patient's data key is gone", "its data can't be read any more")
        version = int(row["key_version"])
        key = await self._key_service.unwrap(row["wrapped"], self._context(patient_id, version))
        fresh = PatientKey(self._scope.tenant, patient_id, version, key)
        self._cached[patient_id] = fresh
        while len(self._cached) > self._cached_max:
            self._cached.popitem(last=False)
        return fresh

    def _context(self, patient_id: str, version: int) -> bytes:
        return Place(self._scope.tenant, patient_id, "patient_key", "wrapped", patient_id, version).to_bytes()
