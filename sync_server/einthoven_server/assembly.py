"""Makes what the applications share: one process, one database.

It deliberately holds no logic; ``applications`` puts the applications together, and each also runs alone from the same
parts.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from einthoven_server.audit.checkpoint_keeper import CheckpointKeeper
from einthoven_server.audit.log import AuditLog
from einthoven_server.audit.recorder import AuditRecorder
from einthoven_server.clock import Clock
from einthoven_server.database import Database, Scope
from einthoven_server.fhir.parts import FhirParts
from einthoven_server.fhir.parts import make_parts as make_fhir_parts
from einthoven_server.identity.account_keys import AccountKeys
from einthoven_server.identity.account_store import AccountStore
from einthoven_server.identity.break_glass import BreakGlass
from einthoven_server.identity.care_teams import CareTeams
from einthoven_server.identity.client_store import ClientStore
from einthoven_server.identity.consent_store import ConsentStore
from einthoven_server.identity.guard import Guard
from einthoven_server.identity.logins import Logins
from einthoven_server.identity.passkey_logins import PasskeyLogins
from einthoven_server.identity.passkey_store import PasskeyStore
from einthoven_server.identity.presented_tokens import PresentedTokens
from einthoven_server.identity.privacy_state import PrivacyState
from einthoven_server.identity.relations import Relations
from einthoven_server.identity.signing_keys import SigningKeys
from einthoven_server.identity.store import IdentityStore
from einthoven_server.identity.tenancy import Tenancy
from einthoven_server.key_service import KeyService
from einthoven_server.key_services.probe import KeyServiceProbe
from einthoven_server.patient_keys import PatientKeys
from einthoven_server.records.change_store import ChangeStore
from einthoven_server.records.change_store_postgres import PostgresChangeStore
from einthoven_server.records.result_months import ResultMonths
from einthoven_server.records.store import RecordStore
from einthoven_server.records.word_store import WordStore
from einthoven_server.records.writer import Writer
from einthoven_server.replaying.replay_store import ReplayStore
from einthoven_server.signals.catalog import SignalCatalog
from einthoven_server.signals.uploads import UploadStore
from einthoven_server.sync.wake import WakePoll, WakeRegistry
from einthoven_server.sync.wake_changes import PostgresChanges
from einthoven_server.vault.port import Vault


@dataclass(frozen=True, slots=True)
class Parts:
    """What the applications share.

    Attributes:
        database: Open and migrated.
        vault: Where patients' wrapped keys are.
        scope: Shard and tenant.
        data: The data folder.
        identities: Who is known.
        clients: Who may ask for access tokens.
        signing_keys: What signs them.
        keys: Patients' data keys.
        records: For reading results.
        words: For reading what people wrote, and documents.
        changes: Where the writer writes.
        months: Where results of this month lie.
        writer: For writing; run by ``records``' application.
        waiting: Devices that wait to be woken.
        poll: Finds what other processes committed.
        audit: The tenant's log.
        checkpoints: What it was, signed.
        guard: Authentication, permission, audit.
        relations: How callers stand to patients.
        care_teams: Who treats whom.
        break_glass: Who looks at whom in an emergency.
        clock: Wall time.
        uploads: Signals under way.
        signals: Lists of stored signals.
        key_service: Whether it works.
        fhir: What the FHIR side works on.
        replays: Results that were recomputed.
        accounts: Of people who log in.
        logins: How they do.
        passkeys: How they do by a passkey.
        consents: What patients agreed to.
        privacy: Restrictions, and the tenant's policy.
    """

    database: Database
    vault: Vault
    scope: Scope
    data: Path
    identities: IdentityStore
    clients: ClientStore
    signing_keys: SigningKeys
    keys: PatientKeys
    records: RecordStore
    words: WordStore
    changes: ChangeStore
    months: ResultMonths
    writer: Writer
    waiting: WakeRegistry
    poll: WakePoll
    audit: AuditLog
    checkpoints: CheckpointKeeper
    guard: Guard
    relations: Relations
    care_teams: CareTeams
    break_glass: BreakGlass
    clock: Clock
    uploads: UploadStore
    signals: SignalCatalog
    key_service: KeyServiceProbe
    fhir: FhirParts
    replays: ReplayStore
    accounts: AccountStore
    logins: Logins
    passkeys: PasskeyLogins
    consents: ConsentStore
    privacy: PrivacyState


def make_parts(
    database: Database,
    vault: Vault,
    tenancy: Tenancy,
    key_service: KeyService,
    clock: Clock,
    data: Path,
    public_url: str = "",
    owner: Database | None = None,
) -> Parts:
    """Make what the applications share.

    Args:
        database: Open and migrated, behind the wall of ``row_security`` where there is one.
        vault: Where patients' wrapped keys are.
        tenancy: Whose server this is.
        key_service: Wraps keys.
        clock: Wall time.
        data: The data folder.
        public_url: Where clients reach this server; without, no access token is good.
        owner: The same as the owner of the tables; ``database`` where ``None``.

    Raises:
        KeyUnavailable: The key that signs checkpoints, in the data folder, is damaged or open to others.
    """
    scope = tenancy.scope
    audit = AuditLog(database, scope, tenancy.audit_key)
    keys = PatientKeys(database, vault, key_service, scope)
    identities = IdentityStore(database, scope, keys, audit)
    clients, signing_keys = ClientStore(database, scope, audit), SigningKeys(database, scope, key_service, clock)
    uploads = UploadStore(database, scope)
    consents = ConsentStore(database, scope, keys, audit)
    relations = Relations(database, scope, consents)
    account_keys = AccountKeys(database, key_service, scope)
    logins = Logins(database, scope, audit, account_keys)
    changes, waiting = PostgresChangeStore(database, scope, audit), WakeRegistry()
    return Parts(
        database=database,
        vault=vault,
        scope=scope,
        data=data,
        identities=identities,
        clients=clients,
        signing_keys=signing_keys,
        keys=keys,
        records=RecordStore(database, scope, keys),
        words=WordStore(database, scope, keys),
        changes=changes,
        months=ResultMonths(owner or database, scope),
        writer=Writer(changes, clock, on_commit=waiting.committed),
        waiting=waiting,
        poll=WakePoll(waiting, PostgresChanges(database, scope, identities)),
        audit=audit,
        checkpoints=CheckpointKeeper(audit, data),
        guard=Guard(
            identities,
            AuditRecorder(audit),
            clock,
            relations=relations,
            tokens=PresentedTokens(clients, signing_keys, clock, public_url),
        ),
        relations=relations,
        care_teams=CareTeams(database, scope, audit),
        break_glass=BreakGlass(database, scope, keys, audit),
        clock=clock,
        uploads=uploads,
        signals=SignalCatalog(database, scope, audit, uploads),
        key_service=KeyServiceProbe(key_service),
        fhir=make_fhir_parts(
            database,
            vault,
            scope,
            key_service=key_service,
            keys=keys,
            identities=identities,
            audit=audit,
            consents=consents,
        ),
        replays=ReplayStore(database, scope, audit),
        accounts=AccountStore(database, scope, account_keys, audit),
        logins=logins,
        passkeys=PasskeyLogins(logins, PasskeyStore(database, scope, account_keys), account_keys, public_url),
        consents=consents,
        privacy=PrivacyState(database, scope, audit),
    )
