"""Puts the applications together under one root: one process, one address.

It deliberately holds no logic; each application also runs alone from the same parts.
"""

from __future__ import annotations

from http import HTTPStatus

from aiohttp import web
from aiohttp.typedefs import Middleware

from einthoven_protocol.messages import Capability
from einthoven_server import limits
from einthoven_server.assembly import Parts
from einthoven_server.backup.places import open_place
from einthoven_server.certificates import Certificates
from einthoven_server.erasure.addresses import make_application as make_erasure
from einthoven_server.erasure.erasing import Erasures
from einthoven_server.fhir.application import make_application as make_fhir
from einthoven_server.identity.account_addresses import add_accounts
from einthoven_server.identity.application import make_application as make_identity
from einthoven_server.identity.login_application import add_logins
from einthoven_server.identity.login_application import make_application as make_logins
from einthoven_server.identity.token_application import make_application as make_tokens
from einthoven_server.identity.token_application import make_well_known
from einthoven_server.memory_in_flight import Budget, lends
from einthoven_server.openapi.addresses import add_openapi
from einthoven_server.privacy.addresses import make_application as make_privacy
from einthoven_server.privacy.export_content import ExportContent, ExportParts
from einthoven_server.privacy.patient_export import PatientExport
from einthoven_server.records.application import make_application as make_records
from einthoven_server.records.audit_addresses import make_application as make_audit
from einthoven_server.records.checkpoint_publisher import CheckpointPublisher
from einthoven_server.records.consent_publisher import ConsentPublisher
from einthoven_server.records.housekeeping import Housekeeping
from einthoven_server.replaying.application import make_application as make_replaying
from einthoven_server.replaying.service import ReplayService
from einthoven_server.requests import answers_errors, json_response, mount, render_json
from einthoven_server.signals.application import make_application as make_signals
from einthoven_server.signals.receiving import SignalReceiver
from einthoven_server.signals.signal_store import SignalStore
from einthoven_server.signals.waveforms import StoredWaveforms
from einthoven_server.sync.application import make_application as make_sync
from einthoven_server.sync.service import SyncService


def make_application(
    parts: Parts,
    certificates: Certificates,
    public_url: str,
    *outermost: Middleware,
    signals: SignalStore,
    budget: Budget | None = None,
    replay_permille: int = limits.REPLAY_SAMPLE_PERMILLE,
) -> web.Application:
    """All applications under one root.

    Args:
        parts: What they share.
        certificates: What clients pin.
        public_url: Where clients reach this server.
        outermost: Middlewares around everything.
        signals: Where chunks of raw signals lie.
        budget: What requests under way may take.
        replay_permille: Of 1,000 results with a signal, how many are recomputed; 0 for none.
    """
    receiver = SignalReceiver(parts.signals, parts.uploads, signals, parts.keys)
    root = web.Application(
        middlewares=[answers_errors(render_json), *outermost, lends(budget or Budget())],
        client_max_size=limits.JSON_BODY_MAX_BYTES,
    )
    _add_probes(root, parts)
    root.add_subapp("/.well-known", make_well_known(parts.signing_keys, public_url))
    mount(root, "/v1", _identity(parts, certificates, public_url))
    mount(root, "/v1", _tokens(parts, public_url))
    mount(root, "/v1", _people(parts, public_url))
    publisher = _publisher(parts, certificates)
    mount(root, "/v1", _records(parts, certificates, publisher))
    mount(root, "/v1", make_audit(log=parts.audit, keeper=parts.checkpoints, guard=parts.guard, clock=parts.clock))
    mount(root, "/v1", _privacy(parts, public_url, receiver, publisher))
    mount(root, "/v1", _sync(parts))
    mount(root, "/v1", _erasure(parts, signals))
    mount(root, "/v1", _signals(parts, receiver))
    mount(root, "/v1", _replaying(parts, receiver, replay_permille))
    root.add_subapp("/fhir/R4", _fhir(parts, public_url, receiver, publisher))
    add_openapi(root, parts.guard, public_url)
    return root


def _add_probes(root: web.Application, parts: Parts) -> None:
    async def livez(request: web.Request) -> web.Response:
        del request
        return json_response({"status": "alive"})

    async def readyz(request: web.Request) -> web.Response:
        del request
        await parts.database.ping()
        await parts.key_service.check()
        return json_response({"status": "ready"}, HTTPStatus.OK)

    root.add_routes([web.get("/livez", livez), web.get("/readyz", readyz)])


def _identity(parts: Parts, certificates: Certificates, public_url: str) -> web.Application:
    return make_identity(
        store=parts.identities,
        keys=parts.keys,
        guard=parts.guard,
        clock=parts.clock,
        certificates=certificates,
        public_url=public_url,
        care_teams=parts.care_teams,
        break_glass=parts.break_glass,
    )


def _tokens(parts: Parts, public_url: str) -> web.Application:
    return make_tokens(
        clients=parts.clients,
        keys=parts.signing_keys,
        store=parts.identities,
        guard=parts.guard,
        clock=parts.clock,
        public_url=public_url,
    )


def _people(parts: Parts, public_url: str) -> web.Application:
    people = make_logins()
    add_logins(
        people,
        logins=parts.logins,
        passkeys=parts.passkeys,
        keys=parts.signing_keys,
        guard=parts.guard,
        clock=parts.clock,
        public_url=public_url,
    )
    add_accounts(people, accounts=parts.accounts, store=parts.identities, guard=parts.guard, clock=parts.clock)
    return people


def _publisher(parts: Parts, certificates: Certificates) -> ConsentPublisher:
    return ConsentPublisher(
        parts.consents,
        parts.privacy,
        parts.words,
        parts.keys,
        parts.writer,
        certificates.signer,
        parts.identities.tenant,
    )


def _records(parts: Parts, certificates: Certificates, publisher: ConsentPublisher) -> web.Application:
    return make_records(
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
            keys=parts.keys,
            logins=parts.logins,
            consents=publisher,
            checkpoints=CheckpointPublisher(
                parts.checkpoints, parts.words, parts.writer, certificates.signer, parts.identities.tenant
            ),
        ),
        guard=parts.guard,
        clock=parts.clock,
    )


def _sync(parts: Parts) -> web.Application:
    return make_sync(
        service=SyncService(parts.changes, parts.writer, parts.clock),
        writer=parts.writer,
        guard=parts.guard,
        registry=parts.waiting,
        poll=parts.poll,
        capabilities=Capability.SIGNALS,
    )


def _erasure(parts: Parts, signals: SignalStore) -> web.Application:
    erasures = Erasures(
        parts.database,
        parts.vault,
        parts.scope,
        signals,
        parts.audit,
        parts.clock,
        lambda url: open_place(url, parts.data),
    )
    return make_erasure(erasures=erasures, guard=parts.guard)


def _privacy(parts: Parts, public_url: str, receiver: SignalReceiver, publisher: ConsentPublisher) -> web.Application:
    waveforms = StoredWaveforms(parts.signals, receiver)
    everything = ExportParts(parts.fhir, parts.records, parts.words, waveforms, parts.care_teams, parts.break_glass)
    export = PatientExport(ExportContent(everything, f"{public_url}/fhir/R4"), parts.guard, parts.clock)
    return make_privacy(state=parts.privacy, publisher=publisher, export=export, guard=parts.guard, clock=parts.clock)


def _signals(parts: Parts, receiver: SignalReceiver) -> web.Application:
    return make_signals(
        catalog=parts.signals, uploads=parts.uploads, receiver=receiver, guard=parts.guard, clock=parts.clock
    )


def _replaying(parts: Parts, receiver: SignalReceiver, permille: int) -> web.Application:
    service = ReplayService(parts.replays, parts.keys, receiver, parts.clock, permille)
    return make_replaying(store=parts.replays, service=service, guard=parts.guard)


def _fhir(parts: Parts, public_url: str, receiver: SignalReceiver, publisher: ConsentPublisher) -> web.Application:
    return make_fhir(
        parts=parts.fhir,
        store=parts.records,
        guard=parts.guard,
        clock=parts.clock,
        public_url=public_url,
        base_url=f"{public_url}/fhir/R4",
        publisher=publisher,
        waveforms=StoredWaveforms(parts.signals, receiver),
    )
