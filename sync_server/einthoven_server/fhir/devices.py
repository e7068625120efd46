"""Enrolled devices as FHIR Device. It deliberately shows no key.

``device_resource`` is pure; ``DeviceStore`` reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from einthoven_server.database import Database, Row, Scope
from einthoven_server.fhir.mapping import DEVICE_SYSTEM

_COLUMNS: Final = "device_id, device_alias, patient_id, revoked_at_ms FROM device WHERE shard = $1 AND tenant = $2 AND "


class ShownDevice(NamedTuple):
    """What is shown of a device.

    Attributes:
        device_id: UUID.
        alias: Its number, part of its results' names.
        patient_id: Whose it is.
        revoked: Whether it may no longer do anything.
    """

    device_id: str
    alias: int
    patient_id: str
    revoked: bool


def device_resource(device: ShownDevice) -> dict[str, Any]:
    """A device."""
    return {
        "resourceType": "Device",
        "id": device.device_id,
        "identifier": [{"system": DEVICE_SYSTEM, "value": str(device.alias)}],
        "status": "inactive" if device.revoked else "active",
        "type": {"text": "Recorder and reader of a single-lead ECG"},
        "patient": {"reference": f"Patient/{device.patient_id}"},
    }


class DeviceStore:
    """Devices of one tenant.

    Args:
        database: Where they are.
        scope: Shard and tenant.
    """

    def __init__(self, database: Database, scope: Scope) -> None:
        self._database = database
        self._scope = scope

    async def by_id(self, device_id: str) -> ShownDevice | None:
        """A device, if there is such a one."""
        rows = await self._database.fetch(f"SELECT {_COLUMNS} device_id = $3", *self._scope, device_id)
        return _shown(rows[0]) if rows else None

    async def of_patient(self, patient_id: str) -> Sequence[ShownDevice]:
        """A patient's devices, by number."""
        query = f"SELECT {_COLUMNS} patient_id = $3 ORDER BY device_alias"
        return [_shown(row) for row in await self._database.fetch(query, *self._scope, patient_id)]


def _shown(row: Row) -> ShownDevice:
    return ShownDevice(row["device_id"], row["device_alias"], row["patient_id"], row["revoked_at_ms"] is not None)
