"""The addresses of ``records``: a clinician reads results and says what they think of one.

Notes and documents have theirs in ``note_addresses`` and ``document_addresses``. It deliberately offers no change and
no deletion of a result.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Final, Literal

import msgspec
from aiohttp import web

from einthoven_protocol import hlc
from einthoven_protocol.canonical import text_octets
from einthoven_protocol.errors import ProtocolError
from einthoven_protocol.messages import AnnotationRow, Field
from einthoven_server import limits
from einthoven_server.audit.trail import Trail
from einthoven_server.certificates import DocumentSigner
from einthoven_server.clock import Clock
from einthoven_server.errors import Malformed, NotFound
from einthoven_server.identity.access import PATIENT_IN_PATH, Access, Locator, access_of
from einthoven_server.identity.callers import Principal
from einthoven_server.identity.guard import Guard
from einthoven_server.identity.permissions import Operation, Resource
from einthoven_server.identity.store import IdentityStore
from einthoven_server.patient_keys import PatientKeys
from einthoven_server.records.changes import Annotate
from einthoven_server.records.document_addresses import add_documents
from einthoven_server.records.housekeeping import Housekeeping
from einthoven_server.records.note_addresses import add_notes
from einthoven_server.records.paging import page_limit
from einthoven_server.records.resource_ids import parse_result, result_text
from einthoven_server.records.store import RecordStore
from einthoven_server.records.stored_result import StoredResult
from einthoven_server.records.word_store import Overtaken, WordStore
from einthoven_server.records.writer import Writer
from einthoven_server.requests import answers_errors, json_response, read_json, render_json

STORE: Final = web.AppKey("record_store", RecordStore)
WORDS: Final = web.AppKey("record_words", WordStore)
IDENTITIES: Final = web.AppKey("record_identities", IdentityStore)
WRITER: Final = web.AppKey("record_writer", Writer)
CLOCK: Final = web.AppKey("record_clock", Clock)


class AnnotationRequest(msgspec.Struct, forbid_unknown_fields=True):
    """JSON body of PUT /v1/results/{result_id}/annotation; a member left out keeps its value."""

    rhythm: Literal["", "N", "A", "O", "~"] | None = None
    comment: Annotated[str, msgspec.Meta(max_length=limits.COMMENT_MAX_CHARS)] | None = None


async def list_results(request: web.Request, principal: Principal, trail: Trail) -> web.Response:
    """GET /v1/patients/{patient_id}/results?after=ID&limit=N."""
    del principal
    app, access = request.app, access_of(request)
    after = request.query.get("after")
    place = parse_result(after) if after is not None else None
    if after is not None and place is None:
        raise Malformed("'after' is no result id", "give one as alias-epoch-counter")
    limit = page_limit(request, limits.RESULTS_PAGE_ROWS, limits.RESULTS_PAGE_MAX_ROWS)
    trail.about("result")
    found = await app[STORE].results_of(access.patient_id, place, limit)
    following = result_text(found[-1].result) if len(found) == limit else None
    overtaken = await app[WORDS].overtaken_of([stored.result for stored in found])
    shown = [_document(access, stored, overtaken.get(stored.result, ())) for stored in found]
    return json_response({"results": shown, "next": following})


async def annotate(request: web.Request, principal: Principal, trail: Trail) -> web.Response:
    """PUT /v1/results/{result_id}/annotation."""
    app = request.app
    asked = await read_json(request, AnnotationRequest)
    if asked.rhythm is None and asked.comment is None:
        raise Malformed("neither rhythm nor comment is given", "give at least one")
    try:
        text_octets("comment", asked.comment or "", limits.COMMENT_MAX_CHARS)
    except ProtocolError as error:
        raise Malformed(str(error), "remove what can't be kept") from error
    target = parse_result(request.match_info["result_id"])
    device = None if target is None else await app[IDENTITIES].device_by_alias(target.device_alias)
    if target is None or device is None:
        raise NotFound("no such result", "check the id")
    trail.about("result", result_text(target))
    change = Annotate(
        device=device,
        target=target,
        author=principal.principal_id,
        rhythm=asked.rhythm,
        comment=asked.comment,
        event=trail.event(),
        now_ms=app[CLOCK].now_ms(),
    )
    row = await app[WRITER].annotate(change)
    trail.written = True
    return json_response(_annotation(access_of(request), row))


def _document(access: Access, stored: StoredResult, overtaken: Sequence[Overtaken]) -> dict[str, object]:
    row = stored.row
    document = {
        "id": result_text(stored.result),
        "device_alias": stored.result.device_alias,
        "epoch": stored.result.epoch,
        "counter": stored.result.counter,
        "started_at_ms": row.started_at_ms,
        "duration_ms": row.duration_ms,
        "n_steps": row.n_steps,
        "usable_s": row.usable_s,
        "quality": row.quality,
        "rhythm": row.rhythm,
        "confidence_permille": row.confidence_permille,
        "logits": row.logits,
        "tier": row.tier,
        "reason": row.reason,
        "model_digest": row.model_digest.hex(),
        "front_end_version": row.front_end_version,
        "risk_assessment_id": str(stored.risk_id),
        "observation_id": str(stored.observation_id),
        "annotations": [_annotation(access, annotation) for annotation in stored.annotations],
        "superseded": [_superseded(access, write) for write in overtaken],
    }
    return access.shown(Resource.RESULT, document)


def _superseded(access: Access, write: Overtaken) -> dict[str, object]:
    row = write.row
    document = {
        "author": row.author,
        "field": Field(row.field).name.lower() if row.field in tuple(Field) else str(row.field),
        "value": row.value,
        "written_at_ms": hlc.hlc_ms(row.hlc),
        "concurrent": write.concurrent,
    }
    return access.shown(Resource.SUPERSEDED, document)


def _annotation(access: Access, row: AnnotationRow) -> dict[str, object]:
    document = {
        "target": result_text(row.target),
        "author": row.author,
        "rhythm": row.rhythm.value,
        "comment": row.comment.value,
    }
    return access.shown(Resource.ANNOTATION, document)


def make_application(
    *,
    store: RecordStore,
    words: WordStore,
    identities: IdentityStore,
    keys: PatientKeys,
    writer: Writer,
    signer: DocumentSigner,
    housekeeping: Housekeeping,
    guard: Guard,
    clock: Clock,
) -> web.Application:
    """The application, to be mounted at /v1; it runs the writer, and keeps house.

    Args:
        store: For reading results.
        words: For reading what people wrote, and documents.
        identities: Patients and devices.
        keys: Patients' data keys.
        writer: For writing.
        signer: Signs documents with the authority's key.
        housekeeping: What has to be done now and then.
        guard: Authentication, permission, audit.
        clock: Wall time.
    """

    async def of_result(request: web.Request) -> str | None:
        target = parse_result(request.match_info["result_id"])
        return None if target is None else await store.patient_of(target)

    async def run_writer(app: web.Application) -> AsyncIterator[None]:
        async with app[WRITER].running(), housekeeping.running():
            yield

    app = web.Application(middlewares=[answers_errors(render_json)])
    app[STORE] = store
    app[WORDS] = words
    app[IDENTITIES] = identities
    app[WRITER] = writer
    app[CLOCK] = clock
    app.cleanup_ctx.append(run_writer)
    app.add_routes(
        [
            web.get(
                "/patients/{patient_id}/results",
                guard.principal(Operation.LIST_RESULTS, list_results, about=PATIENT_IN_PATH),
            ),
            web.put(
                "/results/{result_id}/annotation",
                guard.principal(Operation.ANNOTATE_RESULT, annotate, about=Locator(of_result, "no such result")),
            ),
        ]
    )
    add_notes(app, words=words, keys=keys, writer=writer, guard=guard, clock=clock)
    add_documents(
        app, words=words, identities=identities, keys=keys, writer=writer, signer=signer, guard=guard, clock=clock
    )
    return app
