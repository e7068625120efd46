"""Who can call: principals and devices, as values. Pure; ``store`` finds them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from einthoven_server.envelope import PatientKey
from einthoven_server.identity.codes import Secret
from einthoven_server.identity.roles import Role


class Principal(NamedTuple):
    """Who an access token stands for, as the database has it now.

    Attributes:
        principal_id: Opaque id; a device's, where a device asked for the token.
        role: What kind of caller.
        patient_id: Whom a patient or a device belongs to.
        scopes: What the token was issued for; empty for people and devices, who have no scopes.
    """

    principal_id: str
    role: Role
    patient_id: str | None = None
    scopes: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, repr=False)
class Device:
    """An enrolled device with what its requests need.

    Attributes:
        device_id: UUID.
        alias: Small integer, part of its rows' identity.
        patient_id: Whom it belongs to.
        public_key: Ed25519, 32 bytes.
        sync_key: Key of its digests, 32 bytes.
        revoked: Whether it may no longer do anything.
        patient_key: Its patient's data key.
        erased: Whether its patient was erased: it is revoked, and its keys open nothing.
    """

    device_id: str
    alias: int
    patient_id: str
    public_key: bytes
    sync_key: bytes
    revoked: bool
    patient_key: PatientKey
    erased: bool = False


class NewDevice(NamedTuple):
    """What a device brings to its enrolment."""

    secret: Secret
    public_key: bytes
