"""Puts the applications together: one process, one database, one address.

It deliberately holds no logic; each application also runs alone from the same parts.
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Middleware

from einthoven_protocol.messages import Capability
from einthoven_server import limits
from einthoven_server.audit.checkpoint_keeper import CheckpointKeeper
from einthoven_server.audit.log import AuditLog
from einthoven_server.audit.recorder import AuditRecorder
from einthoven_server.certificates import Certificates
from einthoven_server.clock import Clock
from einthoven_server.database import Database
from einthoven_server.fhir.application import FhirParts
from einthoven_server.fhir.application import make_application as make_fhir
from einthoven_server.fhir.application import make_parts as make_fhir_parts
from einthoven_server.identity.application import make_application as make_identity
from einthoven_server.identity.break_glass import BreakGlass
from einthoven_server.identity.care_teams import CareTeams
from einthoven_server.identity.client_store import ClientStore
from einthoven_server.identity.consent_store import ConsentStore
from einthoven_server.identity.guard import Guard
from einthoven_server.identity.presented_tokens import PresentedTokens
from einthoven_server.identity.privacy_state import PrivacyState
from einthoven_server.identity.relations import Relations
from einthoven_server.identity.signing_keys import SigningKeys
from einthoven_server.identity.store import IdentityStore
from einthoven_server.identity.tenancy import Tenancy
from einthoven_server.identity.token_application import make_application as make_tokens
from einthoven_server.identity.token_application import make_well_known
from einthoven_server.key_service import KeyService
from einthoven_server.key_services.probe import KeyServiceProbe
from einthoven_server.memory_in_flight import Budget, lends
from einthoven_server.patient_keys import PatientKeys
from einthoven_server.privacy.addresses import make_application as make_privacy
from einthoven_server.privacy.export_content import ExportContent, ExportParts
from einthoven_server.privacy.patient_export import PatientExport
from einthoven_server.records.application import make_application as make_records
from einthoven_server.records.audit_addresses import make_application as make_audit
from einthoven_server.records.change_store import ChangeStore
from einthoven_server.records.change_store_postgres import PostgresChangeStore
from einthoven_server.records.checkpoint_publisher import CheckpointPublisher
from einthoven_server.records.consent_publisher import ConsentPublisher
from einthoven_server.records.housekeeping import Housekeeping
from einthoven_server.records.result_months import ResultMonths
from einthoven_server.records.store import RecordStore
from einthoven_server.records.word_store import WordStore
from einthoven_server.records.writer import Writer
from einthoven_server.requests import answers_errors, json_response, mount, render_json
from einthoven_server.signals.application import make_application as make_signals
from einthoven_server.signals.catalog import SignalCatalog
from einthoven_server.signals.receiving import SignalReceiver
from einthoven_server.signals.signal_store import SignalStore
from einthoven_server.signals.uploads import UploadStore
from einthoven_server.signals.waveforms import StoredWaveforms
from einthoven_server.sync.application import make_application as make_sync
from einthoven_server.sync.service import SyncService
from einthoven_server.sync.wake import WakePoll, WakeRegistry
from einthoven_server.sync.wake_changes import PostgresChanges


@dataclass(frozen=True, slots=True)
class Parts:
    """What the applications share.

    Attributes:
        database: Open and migrated.
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
        consents: What patients agreed to.
        privacy: Restrictions, and the tenant's policy.
    """

    database: Database
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
    consents: ConsentStore
    privacy: PrivacyState


def make_parts(
    database: Database,
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
    keys = PatientKeys(database, key_service, scope)
    identities = IdentityStore(database, scope, keys, audit)
    clients, signing_keys = ClientStore(database, scope, audit), SigningKeys(database, scope, key_service, clock)
    uploads = UploadStore(database, scope)
    consents = ConsentStore(database, scope, keys, audit)
    relations = Relations(database, scope, consents)
    changes, waiting = PostgresChangeStore(database, scope, audit), WakeRegistry()
    return Parts(
        database=database,
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
            scope,
            key_service=key_service,
            keys=keys,
            identities=identities,
            audit=audit,
            consents=consents,
        ),
        consents=consents,
        privacy=PrivacyState(database, scope, audit),
    )


def make_application(
    parts: Parts,
    certificates: Certificates,
    public_url: str,
    *outermost: Middleware,
    signals: SignalStore,
    budget: Budget | None = None,
) -> web.Application:
    """All applications under one root.

    Args:
        parts: What they share.
        certificates: What clients pin.
        public_url: Where clients reach this server.
        outermost: Middlewares around everything.
        signals: Where chunks of raw signals lie.
        budget: What requests under way may take.
    """

    async def livez(request: web.Request) -> web.Response:
        del request
        return json_response({"status": "alive"})

    async def readyz(request: web.Request) -> web.Response:
        del request
        await parts.database.ping()
        await parts.key_service.check()
        return json_response({"status": "ready"}, HTTPStatus.OK)

    root = web.Application(
        middlewares=[answers_errors(render_json), *outermost, lends(budget or Budget())],
        client_max_size=limits.JSON_BODY_MAX_BYTES,
    )
    root.add_routes([web.get("/livez", livez), web.get("/readyz", readyz)])
    identities = make_identity(
        store=parts.identities,
        keys=parts.keys,
        guard=parts.guard,
        clock=parts.clock,
        certificates=certificates,
        public_url=public_url,
        care_teams=parts.care_teams,
        break_glass=parts.break_glass,
    )
    publisher = ConsentPublisher(
        parts.consents,
        parts.privacy,
        parts.words,
        parts.keys,
        parts.writer,
        certificates.signer,
        parts.identities.tenant,
    )
    results = make_records(
        store=parts.records,
        words=parts.words,
        identities=parts.identities,
        keys=parts.keys,
        writer=parts.writer,
        signer=certificates.signer,
        housekeeping=Housekeeping(
            parts.changes,
            parts.identities,
            parts.clock,
            months=parts.months,
            signing_keys=parts.signing_keys,
            checkpoints=CheckpointPublisher(
                parts.checkpoints, parts.words, parts.writer, certificates.signer, parts.identities.tenant
            ),
            consents=publisher,
        ),
        guard=parts.guard,
        clock=parts.clock,
    )
    tokens = make_tokens(
        clients=parts.clients,
        keys=parts.signing_keys,
        store=parts.identities,
        guard=parts.guard,
        clock=parts.clock,
        public_url=public_url,
    )
    root.add_subapp("/.well-known", make_well_known(parts.signing_keys, public_url))
    mount(root, "/v1", identities)
    mount(root, "/v1", tokens)
    mount(root, "/v1", results)
    mount(
        root,
        "/v1",
        make_audit(log=parts.audit, keeper=parts.checkpoints, guard=parts.guard, clock=parts.clock),
    )
    devices = make_sync(
        service=SyncService(parts.changes, parts.writer, parts.clock),
        writer=parts.writer,
        guard=parts.guard,
        registry=parts.waiting,
        poll=parts.poll,
        capabilities=Capability.SIGNALS,
    )
    mount(root, "/v1", devices)
    receiver = SignalReceiver(parts.signals, parts.uploads, signals, parts.keys)
    fhir_url, waveforms = f"{public_url}/fhir/R4", StoredWaveforms(parts.signals, receiver)
    everything = ExportParts(parts.fhir, parts.records, parts.words, waveforms, parts.care_teams, parts.break_glass)
    export = PatientExport(ExportContent(everything, fhir_url), parts.guard, parts.clock)
    privacy = make_privacy(
        state=parts.privacy, publisher=publisher, export=export, guard=parts.guard, clock=parts.clock
    )
    mount(root, "/v1", privacy)
    mount(
        root,
        "/v1",
        make_signals(
            catalog=parts.signals, uploads=parts.uploads, receiver=receiver, guard=parts.guard, clock=parts.clock
        ),
    )
    root.add_subapp(
        "/fhir/R4",
        make_fhir(
            parts=parts.fhir,
            store=parts.records,
            guard=parts.guard,
            clock=parts.clock,
            public_url=public_url,
            base_url=fhir_url,
            publisher=publisher,
            waveforms=waveforms,
        ),
    )
    return root
