"""What each operation takes and gives: the struct that its handler decodes, its query, what it answers.

It deliberately repeats no shape: bodies are the handlers' own structs, FHIR's searches those of ``search_parameters``,
answers' fields those of the register. An operation without a row is described by the permission table alone;
``tests/einthoven_server/test_openapi.py`` says which lack one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from einthoven_protocol.enrolment import EnrolRequest
from einthoven_protocol.oauth import ASSERTION_TYPE, FORM_TYPE, GRANT_TYPE, PROOF_HEADER
from einthoven_server import limits
from einthoven_server.fhir.answers import FHIR_TYPE
from einthoven_server.fhir.consents import CONSENT_BODY
from einthoven_server.fhir.exports import KINDS, NDJSON_TYPE
from einthoven_server.fhir.patients import PATIENT_BODY
from einthoven_server.fhir.search_parameters import INCLUDES, PARAMETERS, REVERSE_INCLUDES, Form
from einthoven_server.fhir.transactions import TRANSACTION_BODY
from einthoven_server.identity.account_addresses import AccountRequest
from einthoven_server.identity.break_glass_addresses import BreakGlassRequest
from einthoven_server.identity.consent import Policy
from einthoven_server.identity.login_application import (
    AcceptByPasskeyRequest,
    AcceptRequest,
    InvitationRequest,
    LoginRequest,
    NothingRequest,
    PasskeyRequest,
    RefreshRequest,
)
from einthoven_server.identity.permissions import Operation, Resource
from einthoven_server.identity.principal_addresses import KeysRequest, PrincipalRequest, RotationRequest
from einthoven_server.identity.signed_requests import SYNC_TYPE
from einthoven_server.openapi.document import REF, Query, Shape, resource_name
from einthoven_server.privacy.addresses import RestrictionRequest
from einthoven_server.privacy.patient_export import ZIP_TYPE
from einthoven_server.records.application import AnnotationRequest
from einthoven_server.records.note_addresses import NoteRequest
from einthoven_server.replaying.outcomes import ReplayOutcome
from einthoven_server.signals import tus

_TEXT: Final = {"type": "string"}
_NUMBER: Final = {"type": "integer"}
_BYTES: Final = {"type": "string", "format": "binary"}
_ANY: Final[Mapping[str, Any]] = {}
_FHIR: Final = {"type": "object", "required": ["resourceType"], "properties": {"resourceType": {"type": "string"}}}
_COUNTED: Final = {"type": "integer", "minimum": 1}
_FHIR_ROOT: Final = "/fhir/R4/"


def _object(**properties: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "required": list(properties), "properties": properties, "additionalProperties": False}


def _one(resource: Resource) -> dict[str, Any]:
    return {"$ref": REF.format(name=resource_name(resource))}


def _list(resource: Resource) -> dict[str, Any]:
    return {"type": "array", "items": _one(resource)}


_NEXT: Final = {"type": ["string", "null"]}
_AFTER: Final = Query("after", _TEXT, "the 'next' of an answer")
_BEFORE: Final = Query("before", _TEXT, "the 'next' of an answer")
_ACCESSES: Final = _object(accesses=_list(Resource.BREAK_GLASS), next=_NEXT)
_DOCUMENTS: Final = _object(documents=_list(Resource.DOCUMENT))
_TOKEN_FORM: Final = {
    "type": "object",
    "required": ["grant_type", "client_assertion_type", "client_assertion"],
    "properties": {
        "grant_type": {"const": GRANT_TYPE},
        "client_assertion_type": {"const": ASSERTION_TYPE},
        "client_assertion": _TEXT,
        "client_id": _TEXT,
        "scope": _TEXT,
    },
}


_PROOF: Final = (Query(PROOF_HEADER, _TEXT, "RFC 9449", required=True),)
_TOKENS: Final = {"type": "object", "required": ["access_token", "token_type", "expires_in", "refresh_token"]}
_INVITATION: Final = {"type": "object", "required": ["account_id", "code", "expires_at_ms"]}


def _signed(says: str) -> Shape:
    return Shape(says, _BYTES, SYNC_TYPE, answer=_BYTES, answer_type=SYNC_TYPE)


def _limit(most: int) -> Query:
    return Query("limit", {"type": "integer", "minimum": 1, "maximum": most}, "how many at most")


SHAPES: Final[Mapping[Operation, Shape]] = {
    Operation.ENROL: Shape("A one-time code for a device", EnrolRequest, answer={"type": "object"}),
    Operation.ISSUE_TOKEN: Shape(
        "An access token for who proves a registered key",
        _TOKEN_FORM,
        FORM_TYPE,
        headers=(Query(PROOF_HEADER, _TEXT, "RFC 9449"),),
        answer={"type": "object", "required": ["access_token", "token_type", "expires_in"]},
    ),
    Operation.CREATE_PATIENT: Shape("Make a patient", status=201, answer=_object(patient_id=_TEXT)),
    Operation.CREATE_ENROLMENT_CODE: Shape(
        "A one-time code for a device", status=201, answer=_object(code=_TEXT, expires_at_ms=_NUMBER)
    ),
    Operation.CREATE_PRINCIPAL: Shape(
        "Register somebody by their public keys", PrincipalRequest, status=201, answer=_object(principal_id=_TEXT)
    ),
    Operation.REPLACE_KEYS: Shape("Replace somebody's public keys", KeysRequest, answer=_object(principal_id=_TEXT)),
    Operation.REVOKE_PRINCIPAL: Shape(
        "Let nobody in by these keys", answer=_object(principal_id=_TEXT, revoked_at_ms=_NUMBER)
    ),
    Operation.ROTATE_SIGNING_KEY: Shape(
        "A new key that signs access tokens", RotationRequest, status=201, answer=_object(kid=_TEXT)
    ),
    Operation.REVOKE_DEVICE: Shape(
        "Take no more from a device", answer=_object(device_id=_TEXT, revoked_at_ms=_NUMBER)
    ),
    Operation.ASSIGN_CARE: Shape("Let somebody treat a patient", answer=_one(Resource.CARE_TEAM_MEMBER)),
    Operation.REMOVE_CARE: Shape("End that", answer=_object(principal_id=_TEXT)),
    Operation.LIST_CARE_TEAM: Shape("Who treats a patient", answer=_object(members=_list(Resource.CARE_TEAM_MEMBER))),
    Operation.BREAK_GLASS: Shape(
        "An hour's emergency access", BreakGlassRequest, status=201, answer=_one(Resource.BREAK_GLASS)
    ),
    Operation.LIST_BREAK_GLASS: Shape("All emergency accesses", query=(_BEFORE,), answer=_ACCESSES),
    Operation.LIST_PATIENT_BREAK_GLASS: Shape("Those to one patient", query=(_BEFORE,), answer=_ACCESSES),
    Operation.EXCHANGE: _signed("What both sides lack (docs/sync-protocol-v1.md)"),
    Operation.REPAIR: _signed("What differs, and mending it (docs/sync-repair-v1.md)"),
    Operation.WAKE: Shape("A WebSocket that says when to come", status=101),
    Operation.READ_SIGNAL: Shape(
        "The samples of a result", answer=_BYTES, answer_type="application/vnd.einthoven.segment"
    ),
    Operation.LIST_RESULTS: Shape(
        "A patient's results",
        query=(_AFTER, _limit(limits.RESULTS_PAGE_MAX_ROWS)),
        answer=_object(results=_list(Resource.RESULT), next=_NEXT),
    ),
    Operation.ANNOTATE_RESULT: Shape(
        "What a clinician thinks of a result", AnnotationRequest, answer=_one(Resource.ANNOTATION)
    ),
    Operation.LIST_NOTES: Shape(
        "A patient's diary",
        query=(_AFTER, _limit(limits.NOTES_PAGE_MAX_ROWS)),
        answer=_object(notes=_list(Resource.NOTE), next=_NEXT),
    ),
    Operation.ADD_NOTE: Shape("Add to it", NoteRequest, status=201, answer=_one(Resource.NOTE)),
    Operation.DELETE_NOTE: Shape("Take back one's own", answer=_object(id=_TEXT)),
    Operation.PUT_DOCUMENT: Shape("A decision for all devices", _ANY, answer=_one(Resource.DOCUMENT)),
    Operation.PUT_PATIENT_DOCUMENT: Shape("One for a patient's devices", _ANY, answer=_one(Resource.DOCUMENT)),
    Operation.LIST_DOCUMENTS: Shape("Decisions for all devices", answer=_DOCUMENTS),
    Operation.LIST_PATIENT_DOCUMENTS: Shape("Those for a patient's devices", answer=_DOCUMENTS),
    Operation.READ_CAPABILITY: Shape("What the server can do", answer={"type": "object"}, answer_type=FHIR_TYPE),
    Operation.READ_AUDIT_CHECKPOINT: Shape(
        "The log's last checkpoint", answer=_object(checkpoint=_TEXT, verifier=_TEXT)
    ),
    Operation.READ_AUDIT_PROOF: Shape(
        "That an entry is in the log, or that it only grew (RFC 9162)",
        query=tuple(Query(name, _COUNTED) for name in ("entry", "size", "from", "to")),
        answer={"type": "object", "required": ["hashes"]},
    ),
    Operation.ERASE_PATIENT: Shape(
        "Erase a patient, for good",
        status=202,
        answer=_object(patient_id=_TEXT, erased_at_ms=_NUMBER, keys_destroyed={"type": "boolean"}),
    ),
    Operation.LIST_REPLAYS: Shape(
        "Results that were recomputed from their signals",
        query=(
            Query("outcome", {"type": "string", "enum": list(ReplayOutcome)}),
            _AFTER,
            _limit(limits.REPLAY_PAGE_MAX_ROWS),
        ),
        answer=_object(counts={"type": "object"}, replays=_list(Resource.REPLAY), next=_NEXT),
    ),
    Operation.REFRESH_SESSION: Shape("Go on with a session", RefreshRequest, headers=_PROOF, answer=_TOKENS),
    Operation.END_SESSION: Shape("End a session", RefreshRequest, headers=_PROOF, answer=_object(ended_at_ms=_NUMBER)),
    Operation.CREATE_ACCOUNT: Shape("Invite somebody", AccountRequest, status=201, answer=_INVITATION),
    Operation.RESET_ACCOUNT: Shape("Invite somebody anew", status=201, answer=_INVITATION),
    Operation.LIST_ACCOUNTS: Shape(
        "Who logs in here", query=(_AFTER,), answer=_object(accounts=_list(Resource.ACCOUNT), next=_NEXT)
    ),
    Operation.CREATE_CONSENT: Shape(
        "Write down what a patient agreed to",
        CONSENT_BODY,
        FHIR_TYPE,
        status=201,
        answer=_one(Resource.CONSENT),
        answer_type=FHIR_TYPE,
    ),
    Operation.WITHDRAW_CONSENT: Shape(
        "Change or withdraw it",
        CONSENT_BODY,
        FHIR_TYPE,
        headers=(Query("If-Match", _TEXT, "only this version"),),
        answer=_one(Resource.CONSENT),
        answer_type=FHIR_TYPE,
    ),
    Operation.EXPORT_PATIENT: Shape(
        "All that is kept of a patient, as FHIR and EDF+ in one zip", answer=_BYTES, answer_type=ZIP_TYPE
    ),
    Operation.RESTRICT: Shape(
        "Show a patient's data to nobody (GDPR art. 18)", RestrictionRequest, answer=_one(Resource.RESTRICTION)
    ),
    Operation.LIFT_RESTRICTION: Shape("End that", answer=_one(Resource.RESTRICTION)),
    Operation.READ_RESTRICTION: Shape("Whether it is so", answer=_one(Resource.RESTRICTION)),
    Operation.PUT_PRIVACY_POLICY: Shape(
        "What counts where a patient said nothing", Policy, answer=_one(Resource.PRIVACY_POLICY)
    ),
    Operation.READ_PRIVACY_POLICY: Shape("What counts there", answer=_one(Resource.PRIVACY_POLICY)),
    Operation.BRING_PATIENT: Shape(
        "Create a Patient",
        PATIENT_BODY,
        FHIR_TYPE,
        headers=(Query("If-None-Exist", _TEXT, "unless one fits"), Query("Prefer", _TEXT)),
        status=201,
        others={200: "one fitted already"},
        answer=_one(Resource.PATIENT),
        answer_type=FHIR_TYPE,
    ),
    Operation.CHANGE_PATIENT: Shape(
        "Update a Patient",
        PATIENT_BODY,
        FHIR_TYPE,
        headers=(Query("If-Match", _TEXT, "only this version"), Query("Prefer", _TEXT)),
        answer=_one(Resource.PATIENT),
        answer_type=FHIR_TYPE,
    ),
    Operation.TRANSACT: Shape(
        "Patients, all of them or none",
        TRANSACTION_BODY,
        FHIR_TYPE,
        headers=(Query("Prefer", _TEXT),),
        answer=_FHIR,
        answer_type=FHIR_TYPE,
    ),
}
"""By operation, where all its routes are alike."""

_UPLOADING: Final = (
    Query("Tus-Resumable", {"const": tus.VERSION}, "tus 1.0", required=True),
    Query("Upload-Checksum", _TEXT, "sha1 or sha256, and its base64"),
)
_EXPORTING: Final = (
    Query("_type", _TEXT, f"of {', '.join(KINDS)}"),
    Query("_outputFormat", _TEXT, NDJSON_TYPE),
)
_BY_ROUTE: Final[Mapping[tuple[str, str], Shape]] = {
    ("GET", "/livez"): Shape("Whether it lives", answer=_object(status=_TEXT)),
    ("GET", "/readyz"): Shape("Whether database and key service answer", answer=_object(status=_TEXT)),
    ("GET", "/v1/openapi.json"): Shape("This document", answer={"type": "object", "required": ["openapi", "paths"]}),
    ("GET", "/v1/ca"): Shape("The authority to pin, PEM", answer=_TEXT, answer_type="application/x-pem-file"),
    ("GET", "/.well-known/jwks.json"): Shape("The keys that sign access tokens", answer={"type": "object"}),
    ("GET", "/.well-known/oauth-authorization-server"): Shape("RFC 8414", answer={"type": "object"}),
    ("GET", "/fhir/R4/.well-known/smart-configuration"): Shape("SMART App Launch 2.2", answer={"type": "object"}),
    ("POST", "/v1/login"): Shape("Log in by password", LoginRequest, headers=_PROOF, answer=_TOKENS),
    ("POST", "/v1/login/passkey"): Shape("Log in by passkey", PasskeyRequest, headers=_PROOF, answer=_TOKENS),
    ("POST", "/v1/login/passkey/options"): Shape("A challenge", NothingRequest, answer={"type": "object"}),
    ("POST", "/v1/invitations/open"): Shape("What is to be set up", InvitationRequest, answer={"type": "object"}),
    ("POST", "/v1/invitations/passkey/options"): Shape("A challenge", InvitationRequest, answer={"type": "object"}),
    ("POST", "/v1/invitations/passkey"): Shape(
        "Set up a passkey", AcceptByPasskeyRequest, headers=_PROOF, answer=_TOKENS
    ),
    ("POST", "/v1/invitations/accept"): Shape("Set up a password", AcceptRequest, headers=_PROOF, answer=_TOKENS),
    ("OPTIONS", "/v1/uploads"): Shape("What of tus is spoken", status=204),
    ("OPTIONS", "/v1/uploads/{upload_id}"): Shape("What of tus is spoken", status=204),
    ("POST", "/v1/signals/missing"): _signed("Which chunks are missing (docs/signals-v1.md)"),
    ("POST", "/v1/uploads"): Shape(
        "Begin an upload",
        headers=(
            *_UPLOADING,
            Query("Upload-Length", {"type": "integer", "minimum": 1, "maximum": tus.MAX_SIZE_BYTES}, required=True),
            Query("Upload-Metadata", _TEXT, "chunk, and the base64 of its name", required=True),
        ),
        status=201,
    ),
    ("HEAD", "/v1/uploads/{upload_id}"): Shape("How far it is", headers=_UPLOADING[:1]),
    ("PATCH", "/v1/uploads/{upload_id}"): Shape(
        "Go on",
        _BYTES,
        tus.CONTENT_TYPE,
        headers=(*_UPLOADING, Query("Upload-Offset", {"type": "integer", "minimum": 0}, required=True)),
        status=204,
    ),
    ("DELETE", "/v1/uploads/{upload_id}"): Shape("Give it up", headers=_UPLOADING[:1], status=204),
    ("DELETE", "/fhir/R4/$export-status/{export_id}"): Shape("End an export", status=202),
    ("GET", "/fhir/R4/$export-status/{export_id}"): Shape("Its files", answer={"type": "object"}),
    ("GET", "/fhir/R4/$export-file/{export_id}/{kind}.ndjson"): Shape(
        "One of its files", answer=_TEXT, answer_type=NDJSON_TYPE
    ),
} | {
    ("GET", path): Shape(
        "Begin a bulk export",
        query=_EXPORTING,
        headers=(Query("Prefer", {"const": "respond-async"}, required=True),),
        status=202,
    )
    for path in ("/fhir/R4/$export", "/fhir/R4/Patient/$export")
}
_SCHEMA_OF: Final[Mapping[Form, Mapping[str, Any]]] = {
    Form.DATE: {"type": "string", "examples": ["ge2026-01-01"]},
    Form.TOKEN: {"type": "string", "examples": ["final"]},
    Form.REFERENCE: {"type": "string", "examples": ["Patient/1"]},
    Form.STRING: {"type": "string"},
}
_SEARCHES: Final = (
    Operation.SEARCH_RESOURCES,
    Operation.SEARCH_PATIENTS,
    Operation.SEARCH_AUDIT_EVENTS,
    Operation.SEARCH_CONSENTS,
)
_READS: Final = (
    Operation.READ_RESOURCE,
    Operation.READ_PATIENT,
    Operation.READ_AUDIT_EVENT,
    Operation.READ_CONSENT,
)
_FORMAT: Final = Query("_format", {"type": "string", "examples": ["json"]})


def shape_of(method: str, path: str, operation: Operation | None) -> Shape | None:
    """What a route takes and gives; ``None`` where this table does not know it."""
    asked = "GET" if method == "HEAD" and (method, path) not in _BY_ROUTE else method
    found = _BY_ROUTE.get((asked, path))
    if found is not None:
        return found
    kind = path.removeprefix(_FHIR_ROOT).partition("/")[0] if path.startswith(_FHIR_ROOT) else ""
    if operation in _SEARCHES and kind in PARAMETERS:
        return _search(kind, asked)
    if operation in _READS and kind in tuple(Resource):
        again = {304: "it is as it was"}
        headers = (Query("If-None-Match", _TEXT),)
        answer = _one(Resource(kind))
        return Shape(f"A {kind}", query=(_FORMAT,), headers=headers, others=again, answer=answer, answer_type=FHIR_TYPE)
    return SHAPES.get(operation) if operation is not None else None


def _search(kind: str, method: str) -> Shape:
    taken = [Query(name, _SCHEMA_OF[one.form], one.says) for name, one in PARAMETERS[kind].items()]
    taken += [
        Query(name, {"type": "string", "enum": list(values[kind])}, "what comes along")
        for name, values in (("_include", INCLUDES), ("_revinclude", REVERSE_INCLUDES))
        if kind in values
    ]
    taken += [
        Query("_count", {"type": "integer", "minimum": 0, "maximum": limits.FHIR_PAGE_MAX_ROWS}),
        Query("_sort", {"type": "string", "examples": ["-date"]}),
        Query("_total", {"type": "string", "examples": ["none"]}),
        Query("_page", _TEXT, "from a link of an answer"),
        _FORMAT,
    ]
    says = f"Search for {kind}"
    if method == "POST":
        properties = {one.name: dict(one.schema) for one in taken}
        return Shape(says, {"type": "object", "properties": properties}, FORM_TYPE, answer=_FHIR, answer_type=FHIR_TYPE)
    return Shape(says, query=tuple(taken), answer=_FHIR, answer_type=FHIR_TYPE)
