"""Identities in the database. It deliberately decides nothing: codes are judged by ``codes``, roles by ``permissions``.

Invariants:
    1. Code secrets are kept only as hashes, sync keys only sealed.
    2. A write and its audit event are one transaction.
    3. Using a code and making its device are one transaction, under the code's row lock.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Sequence

from einthoven_protocol.limits import SYNC_KEY_BYTES
from einthoven_server import limits
from einthoven_server.audit.chain import Event
from einthoven_server.audit.log import AuditLog
from einthoven_server.audit.trail import PURPOSES
from einthoven_server.database import Connection, Database, Row, Scope
from einthoven_server.envelope import FIRST_VERSION, KEY_BYTES, PatientKey
from einthoven_server.identity.callers import Device, NewDevice
from einthoven_server.identity.codes import Secret, StoredCode, Try, hash_verifier, judge, new_secret
from einthoven_server.identity.roles import Role
from einthoven_server.patient_keys import MadeKey, PatientKeys, hold_version
from einthoven_server.replays import forget_claims

_DEVICE = "SELECT * FROM device WHERE shard = $1 AND tenant = $2 AND "
_CODE = (
    "SELECT patient_id, secret_hash, expires_at_ms, wrong_tries, used_by FROM enrolment_code "
    "WHERE shard = $1 AND tenant = $2 AND selector = $3"
)


class IdentityStore:
    """Identities of one tenant.

    Args:
        database: Where they are.
        scope: Shard and tenant.
        keys: Patients' data keys.
        audit: The tenant's audit log.
    """

    def __init__(self, database: Database, scope: Scope, keys: PatientKeys, audit: AuditLog) -> None:
        self._database = database
        self._scope = scope
        self._keys = keys
        self._audit = audit

    @property
    def tenant(self) -> str:
        """Opaque tenant id."""
        return self._scope.tenant

    async def create_patient(self, patient_id: str, now_ms: int, event: Event) -> None:
        """Make a patient and its data key."""
        made = await self._keys.prepare(patient_id)

        async def work(connection: Connection) -> None:
            await self.add_patient(connection, made, now_ms)
            await self._audit.append(connection, [event])

        await self._database.transact(work)

    async def add_patient(self, connection: Connection, made: MadeKey, now_ms: int) -> None:
        """Make a patient with the key that was prepared, within a transaction whose audit event is the caller's."""
        await connection.execute("INSERT INTO patient VALUES ($1, $2, $3, $4)", *self._scope, made.key.patient, now_ms)
        await self._keys.insert(connection, made)

    async def has_patient(self, patient_id: str) -> bool:
        """Whether this tenant has that patient."""
        query = "SELECT 1 FROM patient WHERE shard = $1 AND tenant = $2 AND patient_id = $3"
        return await self._database.fetchrow(query, *self._scope, patient_id) is not None

    async def create_code(self, patient_id: str, now_ms: int, event: Event) -> tuple[Secret, int]:
        """Make a one-time code for a patient that exists; return its secret and when it expires (ms since 1970)."""
        secret, expires_at_ms = new_secret(), now_ms + limits.ENROLMENT_CODE_LIFETIME_MS

        async def work(connection: Connection) -> None:
            await connection.execute(
                "INSERT INTO enrolment_code VALUES ($1, $2, $3, $4, $5, $6)",
                *self._scope,
                secret.selector,
                patient_id,
                hash_verifier(secret.verifier),
                expires_at_ms,
            )
            await self._audit.append(connection, [event])

        await self._database.transact(work)
        return secret, expires_at_ms

    async def code_patient(self, selector: bytes) -> str | None:
        """The patient a code is for, if there is such a code."""
        row = await self._database.fetchrow(_CODE, *self._scope, selector)
        return None if row is None else str(row["patient_id"])

    async def enrol(self, new: NewDevice, patient_key: PatientKey, now_ms: int, event: Event) -> tuple[Try, str]:
        """Try a code; if it is good, make its device. The same key may come twice with the same code.

        Returns:
            What became of the try, and the device id (``""`` unless good).
        """
        device_id, sync_key = str(uuid.uuid4()), secrets.token_bytes(SYNC_KEY_BYTES)
        sealed = patient_key.seal(sync_key, "device", "sync_key_sealed", device_id)

        async def work(connection: Connection) -> tuple[Try, str]:
            row = await connection.fetchrow(f"{_CODE} FOR UPDATE", *self._scope, new.secret.selector)
            stored = None if row is None else StoredCode(**row)
            outcome = judge(stored, new.secret.verifier, now_ms)
            if outcome is Try.USED and stored is not None:
                holder = await connection.fetchrow(f"{_DEVICE} device_id = $3", *self._scope, stored.used_by)
                if holder["public_key"] != new.public_key or holder["revoked_at_ms"] is not None:
                    return outcome, ""
                # Its answer was lost on the way: it holds the key, so it gets the answer again.
                await self._audit.append(connection, [_by_device(event, holder["device_id"])])
                return Try.GOOD, holder["device_id"]
            if outcome is not Try.GOOD:
                return await self._count(connection, new.secret.selector, outcome), ""
            await hold_version(connection, self._scope, patient_key)
            alias = await connection.fetchval(
                "UPDATE tenant SET next_device_alias = next_device_alias + 1 WHERE shard = $1 AND tenant = $2 "
                "RETURNING next_device_alias - 1",
                *self._scope,
            )
            await connection.execute(
                "INSERT INTO device VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
                *self._scope,
                device_id,
                alias,
                patient_key.patient,
                new.public_key,
                sealed,
                patient_key.version,
                now_ms,
            )
            await connection.execute(
                "UPDATE enrolment_code SET used_by = $4 WHERE shard = $1 AND tenant = $2 AND selector = $3",
                *self._scope,
                new.secret.selector,
                device_id,
            )
            await self._audit.append(connection, [_by_device(event, device_id)])
            return Try.GOOD, device_id

        return await self._database.transact(work)

    async def _count(self, connection: Connection, selector: bytes, outcome: Try) -> Try:
        if outcome is Try.WRONG:
            await connection.execute(
                "UPDATE enrolment_code SET wrong_tries = least(wrong_tries, $4) + 1 "
                "WHERE shard = $1 AND tenant = $2 AND selector = $3",
                *self._scope,
                selector,
                limits.ENROLMENT_WRONG_TRIES_MAX,
            )
        return outcome

    async def device(self, device_id: str) -> Device | None:
        """A device by its id, revoked or not."""
        return await self._opened(await self._database.fetchrow(f"{_DEVICE} device_id = $3", *self._scope, device_id))

    async def device_by_alias(self, alias: int) -> Device | None:
        """A device by its alias, revoked or not."""
        return await self._opened(await self._database.fetchrow(f"{_DEVICE} device_alias = $3", *self._scope, alias))

    async def _opened(self, row: Row | None) -> Device | None:
        if row is None:
            return None
        if not row["sync_key_sealed"]:
            return _erased(self._scope, row)
        key = await self._keys.get(row["patient_id"])
        return Device(
            device_id=row["device_id"],
            alias=row["device_alias"],
            patient_id=row["patient_id"],
            public_key=row["public_key"],
            sync_key=key.open(row["sync_key_sealed"], "device", "sync_key_sealed", row["device_id"]),
            revoked=row["revoked_at_ms"] is not None,
            patient_key=key,
        )

    async def remember_nonce(self, alias: int, nonce: str, expires_at_ms: int) -> bool:
        """Remember a signature's nonce; return whether it was not known.

        Expired ones are removed by whoever calls ``forget_nonces`` now and then.
        """
        row = await self._database.fetchrow(
            "INSERT INTO request_nonce VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING RETURNING nonce",
            *self._scope,
            alias,
            nonce,
            expires_at_ms,
        )
        return row is not None

    async def forget_nonces(self, now_ms: int) -> None:
        """Remove this tenant's nonces, and claims of tokens' ids, whose signatures would be refused for their age."""
        await self._database.fetch(
            "DELETE FROM request_nonce WHERE shard = $1 AND tenant = $2 AND expires_at_ms < $3", *self._scope, now_ms
        )
        await forget_claims(self._database, self._scope, now_ms)

    async def revoked_among(self, aliases: Sequence[int]) -> set[int]:
        """Which of these devices were revoked."""
        rows = await self._database.fetch(
            "SELECT device_alias FROM device "
            "WHERE shard = $1 AND tenant = $2 AND device_alias = ANY($3::int[]) AND revoked_at_ms IS NOT NULL",
            *self._scope,
            list(aliases),
        )
        return {row["device_alias"] for row in rows}

    async def device_patient(self, device_id: str) -> str | None:
        """The patient of a device, if there is such a device."""
        row = await self._database.fetchrow(f"{_DEVICE} device_id = $3", *self._scope, device_id)
        return None if row is None else str(row["patient_id"])

    async def revoke_device(self, device_id: str, now_ms: int, event: Event) -> int:
        """Revoke a device that exists; return since when it is (ms since 1970). Revoking twice changes nothing."""

        async def work(connection: Connection) -> int:
            revoked_at_ms = await connection.fetchval(
                "UPDATE device SET revoked_at_ms = coalesce(revoked_at_ms, $4) "
                "WHERE shard = $1 AND tenant = $2 AND device_id = $3 RETURNING revoked_at_ms",
                *self._scope,
                device_id,
                now_ms,
            )
            await self._audit.append(connection, [event])
            return int(revoked_at_ms)

        return await self._database.transact(work)


def _erased(scope: Scope, row: Row) -> Device:
    """A device whose patient was erased: known by its public key, with other keys that nothing was made with."""
    opens_nothing = PatientKey(scope.tenant, row["patient_id"], FIRST_VERSION, secrets.token_bytes(KEY_BYTES))
    return Device(
        device_id=row["device_id"],
        alias=row["device_alias"],
        patient_id=row["patient_id"],
        public_key=row["public_key"],
        sync_key=secrets.token_bytes(SYNC_KEY_BYTES),
        revoked=True,
        patient_key=opens_nothing,
        erased=True,
    )


def _by_device(event: Event, device_id: str) -> Event:
    return event._replace(actor=device_id, role=Role.DEVICE.value, purpose=PURPOSES[Role.DEVICE.value])
