"""What ``fhir`` works on, made once and shared by its addresses.

It deliberately holds no logic and no address.
"""

from __future__ import annotations

from dataclasses import dataclass

from einthoven_server.audit.log import AuditLog
from einthoven_server.audit.search import AuditSearch
from einthoven_server.database import Database, Scope
from einthoven_server.fhir.blind_index import BlindIndexKey
from einthoven_server.fhir.devices import DeviceStore
from einthoven_server.fhir.exports import ExportStore
from einthoven_server.fhir.patient_store import PatientStore
from einthoven_server.fhir.result_index import ResultIndex
from einthoven_server.identity.consent_store import ConsentStore
from einthoven_server.identity.store import IdentityStore
from einthoven_server.key_service import KeyService
from einthoven_server.patient_keys import PatientKeys
from einthoven_server.vault.port import Vault


@dataclass(frozen=True, slots=True)
class FhirParts:
    """What ``fhir`` works on.

    Attributes:
        tenant: Whose.
        index: Where and when results lie.
        patients: Demographics.
        devices: Devices.
        exports: Bulk exports.
        log: The audit log.
        consents: What patients agreed to.
    """

    tenant: str
    index: ResultIndex
    patients: PatientStore
    devices: DeviceStore
    exports: ExportStore
    log: AuditSearch
    consents: ConsentStore


def make_parts(
    database: Database,
    vault: Vault,
    scope: Scope,
    *,
    key_service: KeyService,
    keys: PatientKeys,
    identities: IdentityStore,
    audit: AuditLog,
    consents: ConsentStore,
) -> FhirParts:
    """Make what ``fhir`` works on.

    Args:
        database: Open and migrated.
        vault: Where blind indexes are.
        scope: Shard and tenant.
        key_service: Wraps the key of the blind indexes.
        keys: Patients' data keys.
        identities: Makes patients.
        audit: The tenant's log.
        consents: What patients agreed to.
    """
    index_key = BlindIndexKey(database, key_service, scope)
    return FhirParts(
        tenant=scope.tenant,
        index=ResultIndex(database, scope, keys),
        patients=PatientStore(database, vault, scope, keys, identities, audit, index_key),
        devices=DeviceStore(database, scope),
        exports=ExportStore(database, scope),
        log=AuditSearch(database, scope),
        consents=consents,
    )
