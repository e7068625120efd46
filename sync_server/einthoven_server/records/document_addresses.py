"""Addresses for documents: an admin decides settings, models and consents, for the tenant or for one patient.

A document travels to devices with the signature of the authority that they pinned, so that whoever alters the database
decides nothing. It deliberately has no deletion: what is to count no longer is replaced by a version that says so.

Invariants:
    1. Each put that changes a body gets the next version; putting what is held already changes nothing.
    2. The version that is signed is the one that is stored: who comes second signs again.
"""

from __future__ import annotations

import base64
from typing import Final

import msgspec
from aiohttp import web

from einthoven_protocol.limits import MAX_DOCUMENT_BYTES
from einthoven_protocol.messages import Document
from einthoven_server import limits
from einthoven_server.audit.trail import Trail
from einthoven_server.certificates import DocumentSigner
from einthoven_server.clock import Clock
from einthoven_server.errors import Conflict
from einthoven_server.identity.access import PATIENT_IN_PATH, Access, access_of
from einthoven_server.identity.callers import Principal
from einthoven_server.identity.guard import Guard
from einthoven_server.identity.permissions import Operation, Resource
from einthoven_server.identity.store import IdentityStore
from einthoven_server.patient_keys import PatientKeys
from einthoven_server.records.changes import PutDocument
from einthoven_server.records.commits import WHOLE_TENANT
from einthoven_server.records.documents import check_document, document_name
from einthoven_server.records.word_store import WordStore
from einthoven_server.records.writer import Writer
from einthoven_server.requests import JSON_TYPE, json_response, read_body

WORDS: Final = web.AppKey("document_words", WordStore)
IDENTITIES: Final = web.AppKey("document_identities", IdentityStore)
KEYS: Final = web.AppKey("document_keys", PatientKeys)
WRITER: Final = web.AppKey("document_writer", Writer)
SIGNER: Final = web.AppKey("document_signer", DocumentSigner)
CLOCK: Final = web.AppKey("document_clock", Clock)


async def list_documents(request: web.Request, principal: Principal, trail: Trail) -> web.Response:
    """GET /v1/documents, or /v1/patients/{patient_id}/documents."""
    del principal, trail
    access = access_of(request)
    found = await request.app[WORDS].documents_of(access.patient_id or WHOLE_TENANT)
    return json_response({"documents": [_shown(access, document) for document in found]})


async def put_document(request: web.Request, principal: Principal, trail: Trail) -> web.Response:
    """PUT /v1/documents/{kind}/{name}, or /v1/patients/{patient_id}/documents/{kind}/{name}."""
    del principal
    name = document_name(request.match_info["kind"], request.match_info["name"])
    body = await read_body(request, MAX_DOCUMENT_BYTES, JSON_TYPE)
    check_document(body)
    access = access_of(request)
    patient_id = access.patient_id or WHOLE_TENANT
    for _ in range(limits.DOCUMENT_PUT_ATTEMPTS_MAX):
        try:
            document = await _put(request.app, patient_id, name, body, trail)
        except Conflict as refused:
            if refused.code != "version_conflict":
                raise
        else:
            return json_response(_shown(access, document))
    raise Conflict("somebody else puts this document, too", "look at it, then try again", code="version_conflict")


async def _put(app: web.Application, patient_id: str, name: str, body: bytes, trail: Trail) -> Document:
    held = {document.name: document for document in await app[WORDS].documents_of(patient_id)}
    if name in held and held[name].body == body:
        return held[name]
    if name not in held and len(held) >= limits.DOCUMENTS_OF_ONE_MAX:
        raise Conflict(f"there are {len(held)} documents already", "put one of those", code="too_many_documents")
    version = held[name].version + 1 if name in held else 1
    now_ms, tenant = app[CLOCK].now_ms(), app[IDENTITIES].tenant
    signature = app[SIGNER].sign_document(tenant, patient_id, name, version, now_ms, body)
    change = PutDocument(
        patient_id=patient_id,
        patient_key=None if patient_id == WHOLE_TENANT else await app[KEYS].get(patient_id),
        document=Document(name=name, version=version, issued_at_ms=now_ms, body=body, signature=signature),
        event=trail.event(),
        now_ms=now_ms,
    )
    document = await app[WRITER].put_document(change)
    trail.written = True
    return document


def _shown(access: Access, document: Document) -> dict[str, object]:
    shown = {
        "name": document.name,
        "version": document.version,
        "issued_at_ms": document.issued_at_ms,
        "body": msgspec.Raw(document.body),
        "signature": base64.b64encode(document.signature).decode("ascii"),
    }
    return access.shown(Resource.DOCUMENT, shown)


def add_documents(
    app: web.Application,
    *,
    words: WordStore,
    identities: IdentityStore,
    keys: PatientKeys,
    writer: Writer,
    signer: DocumentSigner,
    guard: Guard,
    clock: Clock,
) -> None:
    """Give an application these addresses.

    Args:
        app: Where to.
        words: For reading.
        identities: Patients.
        keys: Patients' data keys.
        writer: For writing.
        signer: Signs with the authority's key.
        guard: Authentication, permission, audit.
        clock: Wall time.
    """
    app[WORDS] = words
    app[IDENTITIES] = identities
    app[KEYS] = keys
    app[WRITER] = writer
    app[SIGNER] = signer
    app[CLOCK] = clock
    for prefix, about, listing, putting in (
        ("", None, Operation.LIST_DOCUMENTS, Operation.PUT_DOCUMENT),
        (
            "/patients/{patient_id}",
            PATIENT_IN_PATH,
            Operation.LIST_PATIENT_DOCUMENTS,
            Operation.PUT_PATIENT_DOCUMENT,
        ),
    ):
        listed = guard.principal(listing, list_documents, about=about)
        app.router.add_get(prefix + "/documents", listed, allow_head=False)
        put = guard.principal(putting, put_document, about=about)
        app.router.add_put(prefix + "/documents/{kind}/{name}", put)
