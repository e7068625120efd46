"""Who can call: principals and devices, as values. Pure; ``store`` finds them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from einthoven_server.envelope import PatientKey
from einthoven_server.identity.codes import Secret
from einthoven_server.identity.roles import Role


class Principal(NamedTuple):
    """Who a bearer token stands for.

    Attributes:
        principal_id: UUID.
        role: What kind of caller.
        patient_id: The patient it belongs to, where its role belongs to one.
    """

    principal_id: str
    role: Role
    patient_id: str | None = None


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
    """

    device_id: str
    alias: int
    patient_id: str
    public_key: bytes
    sync_key: bytes
    revoked: bool
    patient_key: PatientKey


class NewDevice(NamedTuple):
    """What a device brings to its enrolment."""

    secret: Secret
    public_key: bytes
