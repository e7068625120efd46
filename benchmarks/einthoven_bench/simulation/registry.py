"""Who is known to the simulated server: patients' keys, devices, and who may do nothing more.

It deliberately asks for no enrolment code: a device is enrolled by being made.

Invariants:
    1. No alias is given twice, and every key follows from the history's seed.
    2. Enrolments survive a fail-over.
"""

from __future__ import annotations

import hashlib
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from einthoven.identity import Identity
from einthoven_bench.simulation.authority import authority
from einthoven_server.envelope import KEY_BYTES, PatientKey
from einthoven_server.identity.callers import Device
from einthoven_server.records.change_store_memory import MemoryChangeStore

TENANT: Final = "tenant"


class Registry:
    """Devices of a tenant.

    Args:
        changes: Told of every enrolment.
        seed: Of keys.
    """

    def __init__(self, changes: MemoryChangeStore, seed: int) -> None:
        self._changes = changes
        self._seed = seed
        self.devices: dict[str, Device] = {}

    def enrol(self, patient: int) -> tuple[Identity, bytes]:
        """A new device of a patient: who it is, and its sync key."""
        alias = len(self.devices) + 1
        secret = self._derived(f"device {alias}")
        signing = Ed25519PrivateKey.from_private_bytes(secret)
        device = Device(
            device_id=f"device-{alias}",
            alias=alias,
            patient_id=patient_id(patient),
            public_key=signing.public_key().public_bytes_raw(),
            sync_key=self._derived(f"sync key {alias}"),
            revoked=False,
            patient_key=self.patient_key(patient_id(patient)),
        )
        self.devices[device.device_id] = device
        self._changes.enrol(device)
        identity = Identity(
            device_id=device.device_id,
            device_alias=alias,
            url="https://server",
            ca_pem=authority().pem,
            signing_key=secret,
            tenant=TENANT,
            patient_id=device.patient_id,
        )
        return identity, device.sync_key

    def revoke(self, device_id: str) -> None:
        """A device may do nothing more."""
        device = self.devices[device_id]
        self.devices[device_id] = _revoked(device)
        self._changes.revoke(device.alias)

    def devices_of(self, patient: int) -> list[Device]:
        """All that were ever enrolled, by alias."""
        return [device for device in self.devices.values() if device.patient_id == patient_id(patient)]

    def patient_key(self, name: str) -> PatientKey:
        """A patient's data key."""
        return PatientKey(TENANT, name, 1, self._derived(f"key {name}")[:KEY_BYTES])

    def _derived(self, name: str) -> bytes:
        return hashlib.sha256(f"einthoven simulation {self._seed} {name}".encode()).digest()


def patient_id(patient: int) -> str:
    """A patient's name."""
    return f"patient-{patient}"


def _revoked(device: Device) -> Device:
    return Device(
        device.device_id,
        device.alias,
        device.patient_id,
        device.public_key,
        device.sync_key,
        revoked=True,
        patient_key=device.patient_key,
    )
