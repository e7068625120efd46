"""A transaction bundle: what is taken of one, and what is answered. Pure.

It deliberately takes patients only, with no reference to anything: what a device sealed can't come by this way, and a
bundle that refers to somebody is refused whole (attack 17).

Invariants:
    1. Every entry is read before any is done; the first that is not taken refuses the bundle, by its place.
    2. No two entries name the same patient or the same condition.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal, NamedTuple

import msgspec

from einthoven_server import limits
from einthoven_server.errors import Unprocessable
from einthoven_server.fhir.mapping import instant
from einthoven_server.fhir.patients import Demographics, Written, taken

_PUT: Final = re.compile(r"Patient/([A-Za-z0-9.-]{1,64})", re.ASCII)
_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=limits.FHIR_TEXT_MAX_CHARS)]


class _Request(msgspec.Struct, forbid_unknown_fields=True):
    method: Literal["POST", "PUT"]
    url: _Text
    ifNoneExist: _Text | None = None  # noqa: N815
    ifMatch: _Text | None = None  # noqa: N815


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    resource: dict[str, Any]
    request: _Request
    fullUrl: _Text | None = None  # noqa: N815


class _Bundle(msgspec.Struct, forbid_unknown_fields=True, tag_field="resourceType", tag="Bundle"):
    type: Literal["transaction"]
    entry: Annotated[list[_Entry], msgspec.Meta(min_length=1, max_length=limits.FHIR_BUNDLE_MAX_ENTRIES)]
    id: _Text | None = None


TRANSACTION_BODY: Final = _Bundle
"""What a body is held to, for the server's description of itself."""


class Entry(NamedTuple):
    """A patient to be made or changed.

    Attributes:
        demographics: Who it is.
        patient_id: Whom to change; ``None`` to make one.
        if_none_exist: Make one only if none fits.
        if_match: Change this version only.
    """

    demographics: Demographics
    patient_id: str | None
    if_none_exist: str | None
    if_match: str | None


def read_transaction(body: object) -> list[Entry]:
    """The entries of a bundle.

    Args:
        body: Decoded JSON (``check_json``).

    Raises:
        Unprocessable: Names the first entry that is not taken.
    """
    try:
        bundle = msgspec.convert(body, _Bundle, strict=True)
    except msgspec.ValidationError as error:
        place = re.search(r"\$\.(entry\[[0-9.]{1,4}\]|type|id)", str(error))
        where = "Bundle" + (f".{place[1]}" if place is not None else "")
        raise Unprocessable(where, "is not of the form that is taken here", "see docs/fhir.md") from error
    entries = [_read(one, f"Bundle.entry[{place}]") for place, one in enumerate(bundle.entry)]
    named = [one.patient_id or one.if_none_exist for one in entries]
    again = [name for name in named if name is not None]
    if len(set(again)) != len(again):
        raise Unprocessable("Bundle.entry", "names a patient or a condition twice", "send one bundle after the other")
    return entries


def _read(given: _Entry, at: str) -> Entry:
    asked, resource = given.request, given.resource
    if resource.get("resourceType") != "Patient":
        raise Unprocessable(f"{at}.resource", "is no Patient", "results come from devices, by sync")
    found = _PUT.fullmatch(asked.url)
    if asked.method == "POST":
        if asked.url != "Patient" or asked.ifMatch is not None:
            raise Unprocessable(f"{at}.request", "creates no Patient", "give POST Patient")
        demographics = taken(resource, patient_id=None, at=f"{at}.resource")
        return Entry(demographics, None, asked.ifNoneExist, None)
    if found is None or asked.ifNoneExist is not None:
        raise Unprocessable(f"{at}.request", "changes no Patient", "give PUT Patient/{id}")
    return Entry(taken(resource, patient_id=found[1], at=f"{at}.resource"), found[1], None, asked.ifMatch)


def transaction_response(written: Sequence[Written], shown: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """The bundle that is answered.

    Args:
        written: What became of the entries, in their order.
        shown: The patients that are to be in it, by id.
    """
    entries = []
    for status, patient, _ in written:
        one: dict[str, Any] = {
            "response": {
                "status": "201 Created" if status == 201 else "200 OK",
                "location": f"Patient/{patient.patient_id}/_history/{patient.version}",
                "etag": f'W/"{patient.version}"',
                "lastModified": instant(patient.updated_at_ms),
            }
        }
        if patient.patient_id in shown:
            one["resource"] = shown[patient.patient_id]
        entries.append(one)
    return {"resourceType": "Bundle", "type": "transaction-response", "entry": entries}
