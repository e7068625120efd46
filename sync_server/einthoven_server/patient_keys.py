"""Patients' data keys: made with the patient, wrapped by the key service, unwrapped once and kept in memory.

A wrapped key lies in the vault; the database only says which versions there are (ADR 29). A key is made in the vault
before it is named in the database: what a kill leaves behind there is a key that nothing was sealed with.

It deliberately rotates and erases nothing (``rotation`` does): it only notices, in time, that somebody did.

Invariants:
    1. The vault holds a data key only wrapped, bound to its tenant, patient and version; the database holds none.
    2. At most ``DATA_KEYS_CACHED_MAX`` patients' keys are in memory; the least recently used goes first.
    3. Nothing older than ``KEYS_CHECK_INTERVAL_S`` is given out: once in that time the database is asked what changed.
    4. Whoever writes a sealed value makes sure, in the same transaction, that its key's version is still there
       (``hold_version``, or the shard's lock): else it could be the last that was sealed under a key that is removed.
"""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import NamedTuple

from einthoven_server import envelope, limits
from einthoven_server.database import Connection, Database, Scope
from einthoven_server.envelope import FIRST_VERSION, PatientKey, Place
from einthoven_server.errors import Busy, EnvelopeRefused
from einthoven_server.key_service import KeyService
from einthoven_server.vault.port import KeptKey, Vault

_CHANGED = "SELECT patient_id, generation FROM patient_key_change WHERE shard = $1 AND tenant = $2 AND generation > $3"
_VERSIONS = (
    "SELECT key_version, seals FROM patient_key WHERE shard = $1 AND tenant = $2 AND patient_id = $3 "
    "ORDER BY key_version"
)


class MadeKey(NamedTuple):
    """A new patient's key, in the vault and not yet in the database.

    Attributes:
        key: As it seals.
        wrapped: As it lies in the vault.
    """

    key: PatientKey
    wrapped: bytes


class PatientKeys:
    """Data keys of one tenant's patients.

    Args:
        database: Says which versions there are.
        vault: Where wrapped keys are.
        key_service: What wraps them.
        scope: Shard and tenant.
        cached_max: How many patients' keys may be in memory.
        elapsed_s: A clock that never goes back, seconds.
    """

    def __init__(
        self,
        database: Database,
        vault: Vault,
        key_service: KeyService,
        scope: Scope,
        cached_max: int = limits.DATA_KEYS_CACHED_MAX,
        elapsed_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._vault = vault
        self._key_service = key_service
        self._scope = scope
        self._cached_max = cached_max
        self._elapsed_s = elapsed_s
        self._cached: OrderedDict[str, PatientKey] = OrderedDict()
        self._generation = -1
        self._checked_at_s: float | None = None
        self._listeners: list[Callable[[str], None]] = []

    def on_change(self, forget: Callable[[str], None]) -> None:
        """Have something else forgotten as well when a patient's keys changed, or are gone."""
        self._listeners.append(forget)

    async def refresh(self) -> None:
        """Forget what changed, though nobody asks for a key.

        Raises:
            Busy: The database does not answer.
        """
        await self._forget_changed()

    async def prepare(self, patient_id: str) -> MadeKey:
        """Make a new patient's key in the vault; outside of any transaction, for the key service may be far away.

        Raises:
            KeyServiceUnavailable: No answer.
            Busy: The vault does not answer.
        """
        key = secrets.token_bytes(envelope.KEY_BYTES)
        wrapped = await self._key_service.wrap(key, key_context(self._scope, patient_id, FIRST_VERSION))
        await self._vault.keep([KeptKey(patient_id, FIRST_VERSION, wrapped)])
        return MadeKey(PatientKey(self._scope.tenant, patient_id, FIRST_VERSION, key), wrapped)

    async def insert(self, connection: Connection, made: MadeKey) -> None:
        """Name a key that was prepared, in the transaction that makes the patient."""
        await connection.execute(
            "INSERT INTO patient_key (shard, tenant, patient_id, key_version) VALUES ($1, $2, $3, $4)",
            *self._scope,
            made.key.patient,
            made.key.version,
        )

    async def discard(self, made: MadeKey) -> None:
        """Remove a key that was prepared for a patient who was not made."""
        await self._vault.erase(made.key.patient)

    async def get(self, patient_id: str) -> PatientKey:
        """A patient's keys.

        Raises:
            EnvelopeRefused: They are gone, or the key service does not open them.
            Busy: Database, vault or key service do not answer.
        """
        await self._forget_changed()
        cached = self._cached.get(patient_id)
        if cached is not None:
            self._cached.move_to_end(patient_id)
            return cached
        generation = self._generation
        fresh = await self._read(patient_id)
        if generation == self._generation:  # else it may have been read before what changed since
            self._cached[patient_id] = fresh
            while len(self._cached) > self._cached_max:
                self._cached.popitem(last=False)
        return fresh

    async def _read(self, patient_id: str) -> PatientKey:
        rows = await self._database.fetch(_VERSIONS, *self._scope, patient_id)
        sealing = max((row["key_version"] for row in rows if row["seals"]), default=None)
        wrapped = {} if sealing is None else await self._vault.keys(patient_id)
        if sealing is None or any(row["key_version"] not in wrapped for row in rows):
            raise EnvelopeRefused("a patient's data key is gone", "its data can't be read any more")
        keys = {
            row["key_version"]: await self._key_service.unwrap(
                wrapped[row["key_version"]], key_context(self._scope, patient_id, row["key_version"])
            )
            for row in rows
        }
        return PatientKey(self._scope.tenant, patient_id, sealing, keys.pop(sealing), keys)

    async def _forget_changed(self) -> None:
        now_s = self._elapsed_s()
        if self._checked_at_s is not None and now_s - self._checked_at_s < limits.KEYS_CHECK_INTERVAL_S:
            return
        for row in await self._database.fetch(_CHANGED, *self._scope, self._generation):
            self._cached.pop(row["patient_id"], None)
            for forget in self._listeners:
                forget(row["patient_id"])
            self._generation = max(self._generation, row["generation"])
        self._checked_at_s = now_s


def key_context(scope: Scope, patient_id: str, version: int) -> bytes:
    """What a patient's wrapped key is bound to."""
    return Place(scope.tenant, patient_id, "patient_key", "wrapped", patient_id, version).to_bytes()


async def hold_version(connection: Connection, scope: Scope, key: PatientKey) -> None:
    """See to it, until the transaction ends, that the version that seals is not removed.

    Raises:
        Busy: It was removed since the request was let in.
    """
    held = await connection.fetchrow(
        "SELECT 1 FROM patient_key WHERE shard = $1 AND tenant = $2 AND patient_id = $3 AND key_version = $4 FOR SHARE",
        *scope,
        key.patient,
        key.version,
    )
    if held is None:
        raise rotated()


def is_stale(key: PatientKey, versions: Mapping[int, bool]) -> bool:
    """Whether a key was overtaken by a rotation since it was read.

    Args:
        key: As it was read.
        versions: Those that are there now, and whether each may have sealed something; none if nothing is known.
    """
    if not versions:
        return False
    return key.version not in versions or any(
        seals and version not in key.versions for version, seals in versions.items()
    )


def rotated() -> Busy:
    """The refusal of a value that was sealed with a version that is gone."""
    return Busy("the patient's key was rotated meanwhile", "send it again", limits.BUSY_RETRY_AFTER_S, "key_rotated")


async def tell_change(connection: Connection, scope: Scope, patient_id: str) -> None:
    """Let every process forget what it knows of a patient's keys, when the transaction ends."""
    generation = await connection.fetchval(
        "UPDATE tenant SET key_generation = key_generation + 1 WHERE shard = $1 AND tenant = $2 "
        "RETURNING key_generation",
        *scope,
    )
    await connection.execute(
        "INSERT INTO patient_key_change VALUES ($1, $2, $3, $4) "
        "ON CONFLICT (shard, tenant, patient_id) DO UPDATE SET generation = excluded.generation",
        *scope,
        patient_id,
        generation,
    )
