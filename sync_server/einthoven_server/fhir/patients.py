"""A patient's demographics: what is taken of a FHIR Patient, how it is shown, and by which terms it is found. Pure.

It deliberately takes nothing that it does not know: role, tenant, audit fields, links to other patients and extensions
are refused by name, not dropped (attack 18).

Invariants:
    1. ``shown(taken(body))`` gives back every element that was given.
    2. A refusal names the element, never its value.
    3. Terms are whole words, without case and accents; no name can be searched by its beginning, since a blind index of
       beginnings would give the name away letter by letter.
"""

from __future__ import annotations

import datetime as dt
import re
import unicodedata
from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal, NamedTuple

import msgspec

from einthoven_server import limits
from einthoven_server.errors import Malformed, Unprocessable
from einthoven_server.fhir.mapping import instant
from einthoven_server.strict_json import check_json

PATIENT_SYSTEM: Final = "urn:einthoven:patient"
_UNKNOWN: Final = re.compile(r"unknown field `([A-Za-z_]{1,64})`", re.ASCII)
_AT: Final = re.compile(r"`\$((?:\.[A-Za-z_]{1,64}|\[[0-9.]{1,3}\])*)`", re.ASCII)
_WORD: Final = re.compile(r"\w+")
_FIRST_YEAR: Final = 1850

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=limits.FHIR_TEXT_MAX_CHARS)]
_MANY: Final = msgspec.Meta(min_length=1, max_length=limits.FHIR_REPEATS_MAX)


class Identifier(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """FHIR Identifier, as far as it is taken."""

    value: Text
    system: Text | None = None
    use: Literal["usual", "official", "temp", "secondary", "old"] | None = None


class HumanName(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """FHIR HumanName, as far as it is taken."""

    use: Literal["usual", "official", "temp", "nickname", "anonymous", "old", "maiden"] | None = None
    text: Text | None = None
    family: Text | None = None
    given: Annotated[list[Text], _MANY] | None = None
    prefix: Annotated[list[Text], _MANY] | None = None
    suffix: Annotated[list[Text], _MANY] | None = None


class ContactPoint(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """FHIR ContactPoint, as far as it is taken."""

    system: Literal["phone", "fax", "email", "pager", "url", "sms", "other"]
    value: Text
    use: Literal["home", "work", "temp", "old", "mobile"] | None = None


class Demographics(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Who a patient is; what is sealed."""

    identifier: Annotated[list[Identifier], _MANY] | None = None
    name: Annotated[list[HumanName], _MANY] | None = None
    telecom: Annotated[list[ContactPoint], _MANY] | None = None
    gender: Literal["male", "female", "other", "unknown"] | None = None
    birthDate: Text | None = None  # noqa: N815  # as FHIR names it


class _Meta(msgspec.Struct, forbid_unknown_fields=True):
    versionId: Text | None = None  # noqa: N815
    lastUpdated: Text | None = None  # noqa: N815


class _Given(Demographics, forbid_unknown_fields=True, tag_field="resourceType", tag="Patient"):
    id: Text | None = None
    meta: _Meta | None = None


PATIENT_BODY: Final = _Given
"""What a body is held to, for the server's description of itself."""
NOBODY_KNOWN: Final = Demographics()


class KnownPatient(NamedTuple):
    """A patient as stored.

    Attributes:
        patient_id: Opaque id.
        version: From 1.
        updated_at_ms: When it was last written, ms since 1970.
        demographics: Who it is.
    """

    patient_id: str
    version: int
    updated_at_ms: int
    demographics: Demographics

    def shown(self) -> dict[str, Any]:
        """As a FHIR Patient."""
        return shown(self.patient_id, self.demographics, self.version, self.updated_at_ms)


class Wanted(NamedTuple):
    """A patient to be made, or changed.

    Attributes:
        demographics: Who it is.
        unless: Create only if none has this index entry, ``system|value`` or value.
        patient_id: Whom to change; ``None`` to create.
        if_version: Change only this version.
    """

    demographics: Demographics
    unless: str | None = None
    patient_id: str | None = None
    if_version: int | None = None


class Written(NamedTuple):
    """What became of one.

    Attributes:
        status: 201 made, 200 changed or found.
        patient: As it now is.
        found: Whether a condition found it, so that it is as it was.
    """

    status: int
    patient: KnownPatient
    found: bool = False


def taken(body: object, *, patient_id: str | None, at: str = "Patient") -> Demographics:
    """What a client gave of a patient.

    Args:
        body: Decoded JSON (``check_json``).
        patient_id: Whom it is to be; ``None`` where the server names the patient.
        at: Where it stands, for refusals.

    Raises:
        Unprocessable: Names the first element that is not taken.
    """
    try:
        given = msgspec.convert(body, _Given, strict=True)
    except msgspec.ValidationError as error:
        raise _refused(at, str(error)) from error
    if given.id != patient_id:
        raise Unprocessable(f"{at}.id", "is not that of the address", "leave ids to the server when creating")
    if given.meta is not None and patient_id is None:
        raise Unprocessable(f"{at}.meta", "is the server's", "leave it out")
    # What the server says of every patient comes back when a client changes what it has read.
    own = [one for one in given.identifier or [] if one.system == PATIENT_SYSTEM]
    if any(one.value != patient_id for one in own):
        raise Unprocessable(f"{at}.identifier", "has a system that is the server's", "use one of your own")
    if given.birthDate is not None:
        _check_birth_date(given.birthDate, at)
    identifiers = [one for one in given.identifier or [] if one.system != PATIENT_SYSTEM]
    return Demographics(identifiers or None, given.name, given.telecom, given.gender, given.birthDate)


def read_patient(octets: bytes, *, patient_id: str | None) -> Demographics:
    """The same from JSON.

    Raises:
        Malformed: It is no JSON.
        Unprocessable: Names the first element that is not taken.
    """
    return taken(check_json(octets), patient_id=patient_id)


def _refused(at: str, said: str) -> Unprocessable:
    # The decoder's own words may repeat a value: no more than names is taken of them.
    unknown, place = _UNKNOWN.search(said), _AT.search(said)
    path = at + (place[1] if place is not None else "").replace("[...]", "")
    if unknown is not None:
        return Unprocessable(f"{path}.{unknown[1]}", "is not taken here", "leave it out")
    return Unprocessable(path, "is not of the form that is taken here", "see docs/fhir.md")


def _check_birth_date(text: str, at: str) -> None:
    refused = Unprocessable(f"{at}.birthDate", "is no date", "give YYYY-MM-DD, YYYY-MM or YYYY")
    if not re.fullmatch(r"[0-9]{4}(-[0-9]{2}){0,2}", text, re.ASCII):
        raise refused
    year, month, day = (int(part) for part in (text + "-01-01").split("-")[:3])
    try:
        dt.date(year, month, day)
    except ValueError as error:
        raise refused from error
    if year < _FIRST_YEAR:
        raise refused


def sealed_form(demographics: Demographics) -> bytes:
    """What is sealed."""
    return msgspec.json.encode(demographics)


def opened_form(octets: bytes) -> Demographics:
    """What was sealed.

    Raises:
        Malformed: It is of no form this version reads.
    """
    try:
        return msgspec.json.decode(octets, type=Demographics)
    except msgspec.DecodeError as error:
        raise Malformed("stored demographics can't be read", "use the version that wrote them") from error


def shown(patient_id: str, demographics: Demographics, version: int, updated_at_ms: int) -> dict[str, Any]:
    """A FHIR Patient."""
    known: dict[str, Any] = msgspec.to_builtins(demographics)
    own = {"system": PATIENT_SYSTEM, "value": patient_id}
    return {
        "resourceType": "Patient",
        "id": patient_id,
        "meta": {"versionId": str(version), "lastUpdated": instant(updated_at_ms)},
        **known,
        "identifier": [own, *known.get("identifier", [])],
    }


def folded(text: str) -> str:
    """Text without case, accents and outer space."""
    parts = unicodedata.normalize("NFKD", text.strip().casefold())
    return "".join(part for part in parts if not unicodedata.combining(part)).casefold()


def terms(demographics: Demographics) -> Iterator[tuple[str, str]]:
    """By what a patient is found: names of indexes and values."""
    for identifier in demographics.identifier or []:
        yield "identifier", identifier.value
        yield "identifier", f"{identifier.system or ''}|{identifier.value}"
    for name in demographics.name or []:
        for family in _words(name.family or ""):
            yield "family", family
        for given in name.given or []:
            for word in _words(given):
                yield "given", word
    if demographics.birthDate is not None:
        for length in {4, 7, len(demographics.birthDate)}:
            yield "birthdate", demographics.birthDate[:length]


def _words(text: str) -> list[str]:
    """A text's words, and the whole of it where it has several."""
    whole = folded(text)
    found = _WORD.findall(whole)
    return sorted({*found, whole} - {""})


def reaches(demographics: Demographics, system: str, value: str) -> bool:
    """Whether a patient is reached by a telephone number or an address of mail."""
    return any(one.system == system and folded(one.value) == folded(value) for one in demographics.telecom or [])
