"""Attack 13: every role x operation x relation x field through HTTP, generated from the table and the server's routes.

A route that is added joins by itself: the guard knows its operation, and its path says what it takes. An operation
without a route, or a path with a place that this test can't fill, fails.
"""

from __future__ import annotations

import datetime as dt
import io
import re
import uuid
import zipfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from tests.einthoven_server.signal_site import SignalDevice, SignalSite
from tests.einthoven_server.site import Answer, ManualClock, Site

from einthoven.account import Account
from einthoven_protocol.messages import ResultId
from einthoven_server import certificates
from einthoven_server.applications import make_application
from einthoven_server.assembly import Parts
from einthoven_server.audit.chain import Event
from einthoven_server.database import Connection
from einthoven_server.fhir import consents
from einthoven_server.identity.consent import Agreement, Consent
from einthoven_server.identity.fields_seen import FIELDS_SEEN
from einthoven_server.identity.permissions import (
    CARERS,
    Concern,
    Operation,
    Relation,
    Resource,
    Role,
    concern_of,
    decide,
    may_ever,
)
from einthoven_server.identity.roles import OWN_PATIENT
from einthoven_server.records.changes import WriteNote
from einthoven_server.records.resource_ids import Kind, resource_id
from einthoven_server.serve import parts_of
from einthoven_server.signals.signal_store_obstore import open_signal_store

EVENT: Final = Event(0, "-", "test", "", "allowed")
PRINCIPALS: Final = [role for role in Role if role is not Role.NOBODY]
RELATIONS: Final = [Relation.SELF, Relation.CARE_TEAM, Relation.BREAK_GLASS, Relation.TENANT]
SIGNED: Final[Mapping[Operation, Callable[[SignalDevice], Awaitable[Any]]]] = {
    Operation.EXCHANGE: lambda device: device.post(b"garbage"),
    Operation.REPAIR: lambda device: device.repair(b"garbage"),
    Operation.WAKE: lambda device: device.site.send("GET", "/v1/wake", headers=device.sign_wake()),
    Operation.UPLOAD_SIGNAL: lambda device: device.create(bytes(32), 100),
}
"""Operations whose caller signs: a token, whoever's, is nobody there."""
BODIES: Final[Mapping[Operation, Any]] = {
    Operation.CREATE_PRINCIPAL: {"role": "clinician", "jwks": Account().public_jwks()},
    Operation.REPLACE_KEYS: {"jwks": Account().public_jwks()},
    Operation.ROTATE_SIGNING_KEY: {},
    Operation.BREAK_GLASS: {"reason": "emergency", "text": "found on the floor"},
    Operation.ANNOTATE_RESULT: {"rhythm": "N", "comment": "seen"},
    Operation.ADD_NOTE: {"text": "called"},
    Operation.PUT_DOCUMENT: 1,
    Operation.PUT_PATIENT_DOCUMENT: 1,
    Operation.BRING_PATIENT: {"resourceType": "Patient", "gender": "female"},
    # Nothing is left over of it: it names all purposes, so that a later request is as if there were none.
    Operation.RESTRICT: {"ground": "legal_claims", "purposes": ["TREAT", "HOPERAT", "BTG", "HSYSADMIN"]},
    Operation.PUT_PRIVACY_POLICY: {"emergency_overrides_consent": True},
}
HEADERS: Final[Mapping[Operation, Mapping[str, str]]] = {
    Operation.EXPORT: {"Prefer": "respond-async"},
    Operation.TRANSACT: {"Prefer": "return=representation"},
}
FHIR_KINDS: Final = {kind.value: kind for kind in Kind if kind is not Kind.ECG}
FHIR_OTHERS: Final = ("Device", "Patient", "AuditEvent", "Consent")
FHIR_RESOURCES: Final = frozenset({Resource(kind) for kind in (*FHIR_KINDS, *FHIR_OTHERS)})
QUERIES: Final[Mapping[Operation, str]] = {Operation.READ_AUDIT_PROOF: "?entry=1&size=2"}
FHIR_SEARCHES: Final = frozenset(
    {
        Operation.SEARCH_RESOURCES,
        Operation.SEARCH_PATIENTS,
        Operation.SEARCH_AUDIT_EVENTS,
        Operation.SEARCH_CONSENTS,
    }
)
OPEN: Final = frozenset(
    {
        Operation.ENROL,
        Operation.ISSUE_TOKEN,
        Operation.LOG_IN,
        Operation.ASK_PASSKEY,
        Operation.REFRESH_SESSION,
        Operation.END_SESSION,
        Operation.OPEN_INVITATION,
        Operation.ACCEPT_INVITATION,
        Operation.READ_CAPABILITY,
    }
)
"""What needs no identity."""
LISTS: Final[Mapping[str, Resource]] = {
    "results": Resource.RESULT,
    "annotations": Resource.ANNOTATION,
    "superseded": Resource.SUPERSEDED,
    "notes": Resource.NOTE,
    "documents": Resource.DOCUMENT,
    "members": Resource.CARE_TEAM_MEMBER,
    "accesses": Resource.BREAK_GLASS,
    "replays": Resource.REPLAY,
    "accounts": Resource.ACCOUNT,
}
"""Which resource a list of that name holds."""
WRITES: Final[Mapping[Operation, Resource]] = {
    Operation.ANNOTATE_RESULT: Resource.ANNOTATION,
    Operation.ADD_NOTE: Resource.NOTE,
    Operation.PUT_DOCUMENT: Resource.DOCUMENT,
    Operation.PUT_PATIENT_DOCUMENT: Resource.DOCUMENT,
    Operation.ASSIGN_CARE: Resource.CARE_TEAM_MEMBER,
    Operation.BREAK_GLASS: Resource.BREAK_GLASS,
    Operation.RESTRICT: Resource.RESTRICTION,
    Operation.LIFT_RESTRICTION: Resource.RESTRICTION,
    Operation.READ_RESTRICTION: Resource.RESTRICTION,
    Operation.PUT_PRIVACY_POLICY: Resource.PRIVACY_POLICY,
    Operation.READ_PRIVACY_POLICY: Resource.PRIVACY_POLICY,
}
"""What an operation that writes answers with."""


@dataclass(frozen=True)
class Caller:
    """A principal who was given a relation, in the database itself where no address would."""

    role: Role
    given: Relation
    principal_id: str
    token: Account | None

    @property
    def relation(self) -> Relation:
        """What that relation is worth for this role."""
        if self.role in OWN_PATIENT:
            return Relation.SELF if self.given is Relation.SELF else Relation.TENANT
        carer = self.role in CARERS and self.given in (Relation.CARE_TEAM, Relation.BREAK_GLASS)
        return self.given if carer else Relation.TENANT


@dataclass
class Record:
    """One patient with everything that can be asked for."""

    site: Site
    parts: Parts
    connection: Connection
    device: SignalDevice
    spare_device: str
    spare_member: str
    account: str

    @property
    def patient(self) -> str:
        return self.device.identity.patient_id

    async def caller(self, role: Role, given: Relation) -> Caller:
        """Make a caller."""
        belongs = role in OWN_PATIENT
        patient = self.patient if given is Relation.SELF else await self.site.new_patient()
        account = Account()
        principal_id = await self.parts.clients.create(
            role, account.public_jwks(), self.parts.clock.now_ms(), EVENT, patient_id=patient if belongs else None
        )
        caller = Caller(role, given, principal_id, account.named(principal_id))
        if given is Relation.CARE_TEAM:
            await self.join(principal_id)
        if given is Relation.BREAK_GLASS:
            await self.break_glass(principal_id)
        return caller

    async def join(self, principal_id: str) -> None:
        query = "INSERT INTO care_team VALUES (0, $1, $2, $3, 0) ON CONFLICT DO NOTHING"
        await self.connection.execute(query, self.site.tenant, self.patient, principal_id)

    async def break_glass(self, principal_id: str) -> None:
        await self.parts.break_glass.open(
            self.patient, principal_id, "emergency", "x", self.parts.clock.now_ms(), EVENT
        )

    async def places(self, path: str, caller: Caller) -> str:
        """A path with its places filled in."""
        result = ResultId(self.device.alias, 1, 1)
        fhir = path.removeprefix("/fhir/R4/").partition("/")[0]
        kind = FHIR_KINDS.get(fhir, Kind.RISK)
        filled = {
            "patient_id": self.patient,
            "result_id": f"{self.device.alias}-1-1",
            "device_id": self.spare_device,
            "principal_id": self.spare_member,
            "kind": "Patient" if "$export" in path else "settings",
            "name": "theirs" if "patients" in path else "ours",
            "id": str(resource_id(self.site.tenant, result, kind)),
            "upload_id": "x",
            "account_id": self.account,
        }
        filled["id"] = {"Device": self.device.identity.device_id, "Patient": self.patient}.get(fhir, filled["id"])
        if fhir == "AuditEvent":
            query = "SELECT seq FROM audit_entry WHERE tenant = $1 AND patient = $2 LIMIT 1"
            filled["id"] = str(await self.connection.fetchval(query, self.site.tenant, self.patient))
        if path.endswith("/erase") and caller.role is Role.ADMIN:  # who may, leaves nobody to ask about afterwards
            made = await self.site.send("POST", "/v1/patients", token=self.site.admin)
            filled["patient_id"] = made.json["patient_id"]
        if fhir == "Consent":
            filled["id"] = await self.consent()
        if "export_id" in path:
            filled["export_id"] = await self.export(caller.principal_id)
        if "note_id" in path:
            filled["note_id"] = await self.note(caller.principal_id)
        return re.sub(r"\{(\w+)\}", lambda found: filled[found[1]], path)

    async def note(self, author: str) -> str:
        """A note that its author may delete."""
        key, now_ms = await self.parts.keys.get(self.patient), self.parts.clock.now_ms()
        row = await self.parts.writer.note(WriteNote(self.patient, key, author, now_ms, "x", EVENT, now_ms))
        return f"{row.device_alias}-{row.epoch}-{row.counter}"

    async def consent(self) -> str:
        """A consent that permits everything; those before it are forgotten, of which there may be only so many."""
        await self.connection.execute("DELETE FROM consent WHERE patient_id = $1", self.patient)
        now_ms = self.parts.clock.now_ms()
        return (await self.parts.consents.create(self.patient, Agreement(True, "2026-11-23"), now_ms, EVENT)).consent_id

    async def export(self, principal_id: str) -> str:
        """An export that its caller began; those before it are forgotten."""
        await self.connection.execute("DELETE FROM fhir_export WHERE principal_id = $1", principal_id)
        now_ms = self.parts.clock.now_ms()
        return (await self.parts.fhir.exports.begin(principal_id, ("Patient",), "x", now_ms)).export_id

    def agreed(self, consent_id: str | None = None) -> Any:
        """A Consent that permits everything: a new one, or one that is withdrawn."""
        held = Consent(consent_id or "", self.patient, 1, consent_id is None, 0, Agreement(True, "2026-11-23"))
        document = consents.shown(held)
        if consent_id is None:
            del document["id"], document["meta"]
        return document

    def body(self, operation: Operation, consent_id: str = "") -> Any:
        """What an operation is sent."""
        patient = {
            "resourceType": "Patient",
            "id": self.patient,
            "identifier": [{"system": "urn:clinic", "value": "7"}],
            "name": [{"family": "Muster"}],
            "telecom": [{"system": "phone", "value": "1"}],
            "gender": "other",
            "birthDate": "1980",
        }
        if operation is Operation.CREATE_ACCOUNT:
            return {"role": "clinician", "name": str(uuid.uuid4())}
        if operation is Operation.CHANGE_PATIENT:
            return patient
        if operation in (Operation.CREATE_CONSENT, Operation.WITHDRAW_CONSENT):
            return self.agreed(consent_id if operation is Operation.WITHDRAW_CONSENT else None)
        if operation is Operation.TRANSACT:
            request = {"method": "PUT", "url": f"Patient/{self.patient}"}
            entry = {"resource": patient, "request": request}
            return {"resourceType": "Bundle", "type": "transaction", "entry": [entry]}
        return BODIES.get(operation)

    async def ask(self, operation: Operation, method: str, path: str, caller: Caller) -> Answer:
        """Ask as somebody, and put back what that changed of the callers' relations."""
        if operation is Operation.REMOVE_CARE:
            await self.join(self.spare_member)
        filled = await self.places(path, caller)
        body = self.body(operation, filled.rpartition("/")[2])
        more: dict[str, Any] = {"json": body, "headers": HEADERS.get(operation)}
        if operation in FHIR_SEARCHES:
            name = "_id" if operation is Operation.SEARCH_PATIENTS else "patient"
            if method == "POST":
                more = {"data": {name: self.patient}}
            else:
                filled += f"?{name}={self.patient}"
        filled += QUERIES.get(operation, "")
        answer = await self.site.send(method, filled, token=caller.token, **more)
        if operation is Operation.BREAK_GLASS and answer.status == 201:
            access_id = answer.json["access_id"]
            await self.connection.execute("DELETE FROM break_glass WHERE access_id = $1", access_id)
        return answer


@pytest.fixture
async def parts(data_folder: Path, database_url: str, clock: ManualClock, site: Site) -> AsyncIterator[Parts]:
    async with parts_of(data_folder, database_url, clock, site.tenant) as parts, parts.writer.running():
        yield parts


@pytest.fixture
async def record(site: Site, parts: Parts, connection: Connection) -> Record:
    scope = parts.identities._scope
    shared: dict[str, Any] = {
        name: getattr(site, name) for name, field in Site.__dataclass_fields__.items() if field.init
    }
    signals = SignalSite(**shared, database=parts.database, scope=scope, identities=parts.identities, audit=parts.audit)
    device = await signals.new_signal_device()
    patient = device.identity.patient_id
    run = await device.with_signals(2)
    path, parcel = await device.begin(run)
    assert (await device.patch(path, 0, parcel)).status == 204
    member, token = await site.new_principal("clinician")
    made = await site.send("POST", "/v1/accounts", token=site.admin, json={"role": "admin", "name": "matrix"})
    record = Record(site, parts, connection, device, "", member, made.json["account_id"])
    record.spare_device = (await site.new_device(patient)).identity.device_id
    await record.note(member)
    for text in ("first", "second"):  # the first one is overtaken
        await site.send("PUT", f"/v1/results/{device.alias}-1-1/annotation", token=token, json={"comment": text})
    for path in ("/v1/documents/settings/ours", f"/v1/patients/{patient}/documents/settings/theirs"):
        assert (await site.send("PUT", path, token=site.admin, json=1)).status == 200
    await record.break_glass(member)
    await record.consent()
    return record


async def routes_of(parts: Parts, data_folder: Path) -> list[tuple[Operation, str, str]]:
    """Every guarded route of the whole server: operation, method, path."""
    shown = certificates.ensure(data_folder, "127.0.0.1", dt.datetime.now(dt.UTC))
    root = make_application(parts, shown, "https://x", signals=await open_signal_store(None, data_folder))
    return [
        (parts.guard.operations[route.handler], route.method, route.resource.canonical)
        for route in root.router.routes()
        if route.handler in parts.guard.operations and route.resource is not None and route.method != "HEAD"
    ]


def shown_in(operation: Operation, document: Any) -> list[tuple[Resource, set[str]]]:
    """Every resource in an answer, with its fields."""
    found: list[tuple[Resource, set[str]]] = []
    if operation in WRITES:
        found.append((WRITES[operation], set(document)))
    kind = document.get("resourceType") if isinstance(document, dict) else None
    if kind in tuple(Resource):
        found.append((Resource(kind), set(document)))
    if kind == "Bundle":
        for entry in document.get("entry", ()):
            found += shown_in(operation, entry["resource"])
    if kind is None and isinstance(document, dict):
        for name, resource in LISTS.items():
            for one in document.get(name, ()) if isinstance(document.get(name), list) else ():
                found.append((resource, set(one)))
                found += shown_in(Operation.LIST_RESULTS, one)
    return found


def documents_of(answer: Answer) -> list[Any]:
    """The JSON documents of an answer, of which an export has one a line."""
    kind = answer.headers.get("Content-Type", "").partition(";")[0]
    if kind == "application/zip":
        with zipfile.ZipFile(io.BytesIO(answer.body)) as archive:
            return [msgspec.json.decode(archive.read(name)) for name in archive.namelist() if name.endswith(".json")]
    if kind == "application/fhir+ndjson":
        return [msgspec.json.decode(line) for line in answer.body.splitlines()]
    return [answer.json] if kind in ("application/json", "application/fhir+json") and answer.body else []


def shown_of(operation: Operation, answer: Answer) -> list[tuple[Resource, set[str]]]:
    """Every resource in an answer's documents, with its fields."""
    return [found for document in documents_of(answer) for found in shown_in(operation, document)]


def shows_somebody(answer: Answer) -> bool:
    """Whether an answer about any number of patients has one."""
    return any(document.get("entry") or document["resourceType"] != "Bundle" for document in documents_of(answer))


async def test_13_every_role_operation_and_relation_is_as_the_table_says(
    record: Record, parts: Parts, data_folder: Path
) -> None:
    routes = await routes_of(parts, data_folder)
    assert {operation for operation, _, _ in routes} == set(Operation)
    callers = [await record.caller(role, relation) for role in PRINCIPALS for relation in RELATIONS]
    deviations, asked, fields = [], 0, 0
    seen: dict[tuple[Role, Resource], set[str]] = {}
    for operation, method, path in routes:
        for caller in callers:
            if operation in SIGNED or operation in OPEN:
                continue
            answer = await record.ask(operation, method, path, caller)
            relation = Relation.TENANT if concern_of(operation) is Concern.NO_PATIENT else caller.relation
            allowed = decide(caller.role, operation, relation).allowed
            if concern_of(operation) is Concern.PATIENTS and may_ever(caller.role, operation):
                refused = operation in (Operation.TRANSACT, Operation.READ_AUDIT_EVENT) and not allowed
                right = answer.status == 404 if refused else answer.status == 200 and shows_somebody(answer) == allowed
            elif allowed:
                right = answer.status in (200, 201, 202)
            else:
                right = answer.status == (404 if may_ever(caller.role, operation) else 403)
            asked += 1
            if not right:
                deviations.append((caller.role, caller.given, operation, path, answer.status, answer.body[:80]))
            for resource, names in shown_of(operation, answer) if right and allowed else ():
                fields += len(names)
                seen.setdefault((caller.role, resource), set()).update(names)
                beyond = names - FIELDS_SEEN[caller.role].get(resource, frozenset())
                if beyond:
                    deviations.append((caller.role, caller.given, operation, path, 0, str(beyond).encode()))
    assert deviations == []
    assert asked == len(callers) * sum(1 for one, _, _ in routes if one not in SIGNED and one not in OPEN)
    print(f"{asked} requests of {len(callers)} callers, {fields} fields, {len(deviations)} deviations")
    # What the register allows is also shown, or it would be longer than it has to be; FHIR's elements may be optional.
    for (role, resource), names in seen.items():
        if resource not in FHIR_RESOURCES:
            assert names == FIELDS_SEEN[role][resource], (role, resource)
    assert {resource for role, resource in seen if role is Role.PATIENT} == set(FIELDS_SEEN[Role.PATIENT])


async def test_13_without_a_token_nobody_gets_past_any_address_but_enrolment(
    record: Record, parts: Parts, data_folder: Path
) -> None:
    nobody = Caller(Role.NOBODY, Relation.NONE, str(uuid.uuid4()), None)
    for operation, method, path in await routes_of(parts, data_folder):
        answer = await record.site.send(method, await record.places(path, nobody), json=record.body(operation))
        if operation is Operation.READ_CAPABILITY:
            assert answer.status == 200, path
        elif operation in SIGNED or operation in OPEN:
            assert 400 <= answer.status < 500, path
        else:
            assert answer.status == 401, path
            assert answer.headers["WWW-Authenticate"].startswith("DPoP "), path


@pytest.mark.parametrize("operation", SIGNED)
async def test_13_what_devices_sign_takes_a_signature_and_ends_with_the_device(
    record: Record, parts: Parts, data_folder: Path, operation: Operation
) -> None:
    device = record.device
    assert (await SIGNED[operation](device)).status not in (401, 403)
    for role in PRINCIPALS:
        caller = await record.caller(role, Relation.SELF)
        for found, method, path in await routes_of(parts, data_folder):
            if found is operation:
                answer = await record.ask(operation, method, path, caller)
                assert answer.status >= 400, (role, path)
                assert answer.error in {"unauthorized", "malformed", "unsupported_media_type", "bad_signature"}, answer
    await record.site.send("POST", f"/v1/devices/{device.identity.device_id}/revoke", token=record.site.admin)
    assert (await SIGNED[operation](device)).error == "device_revoked"


@pytest.mark.parametrize(
    "name",
    ["role", "tenant", "patient_id", "principal_id", "author", "model_digest", "expires_at_ms", "outcome", "actor"],
)
async def test_18_no_body_assigns_what_is_not_the_callers(
    record: Record, parts: Parts, data_folder: Path, name: str
) -> None:
    tried = 0
    for operation, method, path in await routes_of(parts, data_folder):
        body = record.body(operation)
        allowed = [role for role in PRINCIPALS if may_ever(role, operation)]
        if not isinstance(body, dict) or name in body:
            continue
        caller = await record.caller(allowed[0], Relation.CARE_TEAM)
        filled = await record.places(path, caller)
        answer = await record.site.send(method, filled, token=caller.token, json={**body, name: "x"})
        expected = (422, "unprocessable") if path.startswith("/fhir/") else (400, "malformed")
        assert (answer.status, answer.error) == expected, path
        tried += 1
    assert tried >= 3
