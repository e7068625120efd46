"""What a server holds while it is fuzzed: somebody of every role, patients, results, notes, documents.

It deliberately makes things as their users do, through the server's addresses.

Invariants:
    1. The file with the accounts' keys is the owner's alone, and lies in the run's own temporary folder.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from einthoven import MemoryStore
from einthoven.account import Account
from einthoven_bench.sync_content import judged_windows
from einthoven_bench.sync_ingest import Push, prepared, sent
from einthoven_bench.sync_site import Site
from einthoven_protocol.messages import ResultId
from einthoven_protocol.resource_ids import resource_id

RESULTS: Final = 40
"""Of each patient."""
PATIENTS: Final = 3
SPARE: Final = 40
"""Principals and devices that requests may revoke, so that those who ask go on."""
SPARE_DEVICES: Final = 20
ERASED: Final = "erased_patient_id"
"""Patients whom requests may erase: nothing else is asked about them."""
_KINDS: Final = ("RiskAssessment", "Observation", "DiagnosticReport", "Provenance")


class Ground(msgspec.Struct, frozen=True):
    """What the tool has to know.

    Attributes:
        url: The server's address.
        key_files: By role, key files of who asks.
        device_ids: Of devices that sign; their keys are in ``device_keys``, hexadecimal.
        device_keys: See there.
        places: By the name of a place in a path, what may stand there.
        message: An exchange as it should be, for its bytes to be damaged.
    """

    url: str
    key_files: dict[str, list[str]]
    device_ids: list[str]
    device_keys: list[str]
    places: dict[str, list[str]]
    message: bytes

    def __repr__(self) -> str:
        return f"Ground(url={self.url!r})"


def read_ground(path: Path) -> Ground:
    """As ``made_ground`` left it."""
    return msgspec.json.decode(path.read_bytes(), type=Ground)


def made_ground(site: Site, folder: Path, spare: int = SPARE) -> Ground:
    """Fill a server.

    Args:
        site: Running and empty.
        folder: Where key files are put.
        spare: How many principals and devices may be revoked.

    Raises:
        MeasurementFailed: The server refuses something.
    """
    judged = judged_windows(None, 100)
    pushes = [prepared(site, judged, RESULTS, seed) for seed in range(PATIENTS)]
    asyncio.run(sent(site, pushes, RESULTS))
    identities = [push.identity for push in pushes]
    patients = [identity.patient_id for identity in identities]
    clinicians = [site.principal("clinician", patients), site.principal("clinician", patients[:1])]
    service = site.principal("service", patients)
    patient = site.principal("patient", patient_id=patients[0])
    notes = [
        site.ask("POST", f"/v1/patients/{one}/notes", {"text": "palpitations"}, clinicians[0])["id"]
        for one in patients
        for _ in range(5)
    ]
    for place, one in (("", "ours"), (f"/patients/{patients[0]}", "theirs")):
        site.ask("PUT", f"/v1{place}/documents/settings/{one}", {"x": 1}, site.admin)
    spared = [site.principal("clinician", ()).client_id for _ in range(spare)]
    devices = [site.enrol(MemoryStore(), patients[0]).device_id for _ in range(min(spare, SPARE_DEVICES))]
    roles = {"admin": [site.admin], "clinician": clinicians, "service": [service], "patient": [patient]}
    return Ground(
        url=site.url,
        key_files={role: [_saved(one, folder) for one in accounts] for role, accounts in roles.items()},
        device_ids=[identity.device_id for identity in identities],
        device_keys=[identity.signing_key.hex() for identity in identities],
        places={
            "patient_id": patients,
            "principal_id": spared,
            ERASED: [site.ask("POST", "/v1/patients", None, site.admin)["patient_id"] for _ in range(spare)],
            "device_id": devices,
            "note_id": notes,
            "result_id": [f"{identity.device_alias}-1-{n}" for identity in identities for n in range(1, 6)],
            "kind": ["settings", "models", "consents", "Patient", "Observation"],
            "name": ["ours", "theirs", "new"],
            "id": [*_resource_ids(pushes), *patients, *(identity.device_id for identity in identities)],
        },
        message=pushes[0].body,
    )


def written(ground: Ground, folder: Path) -> Path:
    """Put it where the tool reads it."""
    path = folder / "ground.json"
    path.touch(mode=0o600)
    path.write_bytes(msgspec.json.encode(ground))
    return path


def _saved(account: Account, folder: Path) -> str:
    path = folder / f"{account.client_id}.json"
    account.save(path)
    return str(path)


def _resource_ids(pushes: Sequence[Push]) -> list[str]:
    return [
        str(resource_id(push.identity.tenant, ResultId(push.identity.device_alias, 1, counter), kind))
        for push in pushes
        for counter in (1, 2)
        for kind in _KINDS
    ]
