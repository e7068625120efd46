"""Addresses for a patient's diary: a clinician reads it, adds to it, and takes back what they wrote themselves.

It deliberately changes no note, and lets nobody at the console delete what the patient wrote on a device.

Invariants:
    1. A note of another patient, of another tenant, and none at all look the same.
"""

from __future__ import annotations

import re
from typing import Annotated, Final

import msgspec
from aiohttp import web

from einthoven_protocol.checks import text_octets
from einthoven_protocol.errors import ProtocolError
from einthoven_protocol.limits import (
    MAX_COUNTER,
    MAX_DEVICE_ALIAS,
    MAX_NOTE_CHARACTERS,
    MAX_SHARD_EPOCH,
)
from einthoven_protocol.messages import NoteRow, ResultId, RowKind, Tombstone
from einthoven_server import limits
from einthoven_server.audit.trail import Trail
from einthoven_server.clock import Clock
from einthoven_server.errors import Forbidden, Malformed, NotFound
from einthoven_server.identity.access import PATIENT_IN_PATH, Access, access_of
from einthoven_server.identity.callers import Principal
from einthoven_server.identity.guard import Guard
from einthoven_server.identity.permissions import Operation, Resource
from einthoven_server.patient_keys import PatientKeys
from einthoven_server.records.changes import Delete, WriteNote
from einthoven_server.records.paging import page_limit
from einthoven_server.records.word_store import WordStore
from einthoven_server.records.writer import Writer
from einthoven_server.requests import json_response, read_json

WORDS: Final = web.AppKey("note_words", WordStore)
KEYS: Final = web.AppKey("note_keys", PatientKeys)
WRITER: Final = web.AppKey("note_writer", Writer)
CLOCK: Final = web.AppKey("note_clock", Clock)

_ID: Final = re.compile(r"(0|[1-9][0-9]{0,9})-([1-9][0-9]{0,18})-([1-9][0-9]{0,9})", re.ASCII)


class NoteRequest(msgspec.Struct, forbid_unknown_fields=True):
    """JSON body of POST /v1/patients/{patient_id}/notes; without a moment the note speaks of now."""

    text: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NOTE_CHARACTERS)]
    at_ms: Annotated[int, msgspec.Meta(ge=0)] | None = None


async def list_notes(request: web.Request, principal: Principal, trail: Trail) -> web.Response:
    """GET /v1/patients/{patient_id}/notes?after=ID&limit=N."""
    del principal, trail
    app, after = request.app, request.query.get("after")
    place = None if after is None else parse_note(after)
    if after is not None and place is None:
        raise Malformed("'after' is no note id", "give one as alias-epoch-counter")
    limit = page_limit(request, limits.NOTES_PAGE_ROWS, limits.NOTES_PAGE_MAX_ROWS)
    access = access_of(request)
    found = await app[WORDS].notes_of(access.patient_id, place, limit)
    following = note_text(found[-1]) if len(found) == limit else None
    return json_response({"notes": [note_document(access, row) for row in found], "next": following})


async def add_note(request: web.Request, principal: Principal, trail: Trail) -> web.Response:
    """POST /v1/patients/{patient_id}/notes."""
    app = request.app
    asked = await read_json(request, NoteRequest)
    now_ms = app[CLOCK].now_ms()
    at_ms = now_ms if asked.at_ms is None else asked.at_ms
    try:
        text_octets("text", asked.text, MAX_NOTE_CHARACTERS)
    except ProtocolError as error:
        raise Malformed(str(error), "remove what can't be kept") from error
    if at_ms > now_ms + limits.RESULT_AHEAD_MAX_MS:
        raise Malformed("'at_ms' lies more than a day ahead", "give ms since 1970, UTC")
    access = access_of(request)
    patient_id = access.patient_id
    change = WriteNote(
        patient_id=patient_id,
        patient_key=await app[KEYS].get(patient_id),
        author=principal.principal_id,
        at_ms=at_ms,
        text=asked.text,
        event=trail.event(),
        now_ms=now_ms,
    )
    row = await app[WRITER].note(change)
    trail.written = True
    return json_response(note_document(access, row), 201)


async def delete_note(request: web.Request, principal: Principal, trail: Trail) -> web.Response:
    """DELETE /v1/patients/{patient_id}/notes/{note_id}."""
    app = request.app
    note = parse_note(request.match_info["note_id"])
    patient_id = access_of(request).patient_id
    held = None if note is None else await app[WORDS].note(patient_id, note)
    if held is None:
        raise NotFound("no such note", "check the id")
    trail.about("note", note_text(held))
    if held.author != principal.principal_id:
        raise Forbidden("this note was written by somebody else", "ask its author")
    change = Delete(
        patient_id=patient_id,
        patient_key=await app[KEYS].get(patient_id),
        rows=(Tombstone(RowKind.NOTE, held.device_alias, held.epoch, held.counter),),
        event=trail.event(),
        now_ms=app[CLOCK].now_ms(),
    )
    await app[WRITER].delete(change)
    trail.written = True
    return json_response({"id": note_text(held)})


def note_text(row: NoteRow) -> str:
    """``alias-epoch-counter``."""
    return f"{row.device_alias}-{row.epoch}-{row.counter}"


def parse_note(text: str) -> ResultId | None:
    """The identity that ``note_text`` gives this text for, if any."""
    found = _ID.fullmatch(text)
    if found is None:
        return None
    alias, epoch, counter = (int(part) for part in found.groups())
    fits = alias <= MAX_DEVICE_ALIAS and epoch <= MAX_SHARD_EPOCH and counter <= MAX_COUNTER
    return ResultId(alias, epoch, counter) if fits else None


def note_document(access: Access, row: NoteRow) -> dict[str, object]:
    """What may be shown of a note."""
    document = {
        "id": note_text(row),
        "device_alias": row.device_alias,
        "author": row.author,
        "at_ms": row.at_ms,
        "text": row.text,
    }
    return access.shown(Resource.NOTE, document)


def add_notes(
    app: web.Application,
    *,
    words: WordStore,
    keys: PatientKeys,
    writer: Writer,
    guard: Guard,
    clock: Clock,
) -> None:
    """Give an application these addresses.

    Args:
        app: Where to.
        words: For reading.
        keys: Patients' data keys.
        writer: For writing.
        guard: Authentication, permission, audit.
        clock: Wall time.
    """
    app[WORDS] = words
    app[KEYS] = keys
    app[WRITER] = writer
    app[CLOCK] = clock
    path = "/patients/{patient_id}/notes"
    app.add_routes(
        [
            web.get(path, guard.principal(Operation.LIST_NOTES, list_notes, about=PATIENT_IN_PATH), allow_head=False),
            web.post(path, guard.principal(Operation.ADD_NOTE, add_note, about=PATIENT_IN_PATH)),
            web.delete(path + "/{note_id}", guard.principal(Operation.DELETE_NOTE, delete_note, about=PATIENT_IN_PATH)),
        ]
    )
