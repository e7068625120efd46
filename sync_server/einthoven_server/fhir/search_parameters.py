"""Which search parameters each kind of resource takes, and a query as typed criteria. Pure.

It deliberately follows no chain and no ``_has``, sorts by nothing but the date, and ignores nothing: one that is
ignored looks like one that was obeyed, and one that reaches into another resource tells what the caller may not read.

Invariants:
    1. A parameter that is not in ``PARAMETERS`` is refused by name; so are modifiers, chains and ``_has``.
    2. Criteria of one query are all to hold; alternatives of one of them, any.
    3. What the CapabilityStatement says is made of the same table.
"""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final, NamedTuple

from einthoven_server import limits
from einthoven_server.errors import ParameterRefused
from einthoven_server.fhir.search_values import (
    DateRange,
    Token,
    alternatives,
    parse_count,
    parse_date,
    parse_id,
    parse_reference,
    parse_token,
    shown,
)


class Form(StrEnum):
    """What a parameter's values are, as FHIR names it."""

    DATE = "date"
    TOKEN = "token"  # noqa: S105  # a kind of search parameter, no secret
    REFERENCE = "reference"
    STRING = "string"


class Parameter(NamedTuple):
    """A search parameter.

    Attributes:
        form: What its values are.
        says: What they are compared with.
        target: Of a reference, to what.
    """

    form: Form
    says: str
    target: str = ""


_ID: Final = Parameter(Form.TOKEN, "the logical id")
_SUBJECT: Final = Parameter(Form.REFERENCE, "whose it is", "Patient")
_DATE: Final = Parameter(Form.DATE, "the time that was recorded")
_IDENTIFIER: Final = Parameter(Form.TOKEN, "urn:einthoven:result|alias-epoch-counter")
_STATUS: Final = Parameter(Form.TOKEN, "final or preliminary")
_CATEGORY: Final = Parameter(Form.TOKEN, "the category")
_DEVICE: Final = Parameter(Form.REFERENCE, "what recorded it", "Device")
_OF_RESULT: Final = {"_id": _ID, "identifier": _IDENTIFIER, "patient": _SUBJECT, "subject": _SUBJECT, "date": _DATE}
_WORD: Final = "equals a whole word, whatever its case and accents (there is no search by beginnings)"

PARAMETERS: Final = MappingProxyType(
    {
        "RiskAssessment": _OF_RESULT | {"performer": _DEVICE},
        "Observation": _OF_RESULT
        | {
            "code": Parameter(Form.TOKEN, "heart rhythm (LOINC 8884-9) if not given, or an ECG (MDC 131328)"),
            "status": _STATUS,
            "category": _CATEGORY,
            "device": _DEVICE,
            "value-concept": Parameter(Form.TOKEN, "the rhythm class, SNOMED CT"),
        },
        "DiagnosticReport": _OF_RESULT
        | {"code": Parameter(Form.TOKEN, "LOINC 11524-6"), "status": _STATUS, "category": _CATEGORY},
        "Provenance": {
            "_id": _ID,
            "patient": _SUBJECT,
            "recorded": Parameter(Form.DATE, "when the result was made"),
            "agent": _DEVICE,
        },
        "Device": {
            "_id": _ID,
            "patient": _SUBJECT,
            "identifier": Parameter(Form.TOKEN, "urn:einthoven:device-alias|number"),
            "status": Parameter(Form.TOKEN, "active, or inactive when revoked"),
        },
        "AuditEvent": {
            "_id": _ID,
            "patient": Parameter(Form.REFERENCE, "whom it concerns", "Patient"),
            "date": Parameter(Form.DATE, "when it was recorded"),
            "agent": Parameter(Form.REFERENCE, "who acted: the id of a principal or of a device", "Device"),
        },
        "Patient": {
            "_id": _ID,
            "_lastUpdated": Parameter(Form.DATE, "when it was last written"),
            "identifier": Parameter(Form.TOKEN, "system|value, or value"),
            "family": Parameter(Form.STRING, f"the family name; {_WORD}"),
            "given": Parameter(Form.STRING, f"a given name; {_WORD}"),
            "name": Parameter(Form.STRING, f"a family or given name; {_WORD}"),
            "birthdate": Parameter(Form.DATE, "the date of birth, whole and without a prefix"),
            "gender": Parameter(Form.TOKEN, "narrows what others found"),
            "phone": Parameter(Form.TOKEN, "narrows what others found"),
            "email": Parameter(Form.TOKEN, "narrows what others found"),
        },
        "Consent": {
            "_id": _ID,
            "patient": _SUBJECT,
            "status": Parameter(Form.TOKEN, "active, or inactive when withdrawn"),
        },
    }
)
"""By resource type."""

INCLUDES: Final = MappingProxyType(
    {
        kind: (f"{kind}:subject", f"{kind}:patient")
        + (("DiagnosticReport:result",) if kind == "DiagnosticReport" else ())
        for kind in ("RiskAssessment", "Observation", "DiagnosticReport")
    }
)
"""What a search may bring along, as far as the caller may see it."""
REVERSE_INCLUDES: Final = MappingProxyType(
    dict.fromkeys(("RiskAssessment", "Observation", "DiagnosticReport"), ("Provenance:target",))
)
_RESULT_KINDS: Final = frozenset({"RiskAssessment", "Observation", "DiagnosticReport", "Provenance"})
_PAGED: Final = _RESULT_KINDS | {"AuditEvent"}
_ONCE: Final = frozenset({"_count", "_sort", "_format", "_total", "_page"})
_PLACE: Final = struct.Struct(">BqIII")


class Place(NamedTuple):
    """Where a page begins: behind this result, in the order of the search."""

    started_at_ms: int
    device_alias: int
    epoch: int
    counter: int


Value = DateRange | Token | str


@dataclass(frozen=True, slots=True)
class Search:
    """A query.

    Attributes:
        kind: Resource type.
        criteria: Name and alternatives, in the order given; ``patient`` and ``subject`` are both ``patient``.
        count: Rows of a page.
        descending: Whether the latest comes first.
        include: What comes along.
        reverse_include: What points here and comes along.
        after: Where this page begins.
        given: Name and text of all parameters but the page, for links.
    """

    kind: str
    criteria: tuple[tuple[str, tuple[Value, ...]], ...]
    count: int
    descending: bool = False
    include: frozenset[str] = frozenset()
    reverse_include: frozenset[str] = frozenset()
    after: Place | None = None
    given: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    def values(self, name: str) -> tuple[tuple[Value, ...], ...]:
        """The alternatives of every time ``name`` was given."""
        return tuple(values for found, values in self.criteria if found == name)


def parse_search(kind: str, query: Iterable[tuple[str, str]], base_url: str) -> Search:
    """A query, typed.

    Args:
        kind: Resource type, one of ``PARAMETERS``.
        query: Names and texts, decoded, in their order.
        base_url: Where this server's resources are.

    Raises:
        ParameterRefused: Names the first parameter that is not taken.
    """
    items = list(query)
    if len(items) > limits.FHIR_PARAMETERS_MAX:
        raise ParameterRefused(shown(items[-1][0]), "is one too many", f"give at most {limits.FHIR_PARAMETERS_MAX}")
    known, criteria, plain, includes = PARAMETERS[kind], [], {}, {"_include": set[str](), "_revinclude": set[str]()}
    for name, text in items:
        if name in known:
            found = known[name]
            values = tuple(_value(name, found, part, base_url) for part in alternatives(name, text))
            criteria.append(("patient" if name == "subject" else name, values))
        elif name in includes:
            allowed = (INCLUDES if name == "_include" else REVERSE_INCLUDES).get(kind, ())
            if text not in allowed:
                raise ParameterRefused(name, "asks for what is not brought along here", _one_of(allowed))
            includes[name].add(text)
        elif name in _ONCE and name not in plain and not (name in {"_sort", "_page"} and kind not in _PAGED):
            plain[name] = text
        else:
            raise _unknown(name, name in plain, tuple(known))
    count = parse_count("_count", plain.get("_count", str(limits.FHIR_PAGE_ROWS)), limits.FHIR_PAGE_MAX_ROWS)
    _check_words(plain)
    return Search(
        kind=kind,
        criteria=tuple(criteria),
        count=count,
        descending=_descending(plain.get("_sort", _date_of(kind)), _date_of(kind)),
        include=frozenset(includes["_include"]),
        reverse_include=frozenset(includes["_revinclude"]),
        after=_place(plain["_page"]) if "_page" in plain else None,
        given=tuple((name, text) for name, text in items if name != "_page"),
    )


def page_text(place: Place) -> str:
    """A place as it stands in a link."""
    return base64.urlsafe_b64encode(_PLACE.pack(1, *place)).decode("ascii").rstrip("=")


def _place(text: str) -> Place:
    refused = ParameterRefused("_page", "is not from a link of this server", "follow the bundle's next link")
    if len(text) != 28 or not text.isascii():
        raise refused
    try:
        version, *parts = _PLACE.unpack(base64.b64decode(text, b"-_", validate=True))
    except (binascii.Error, struct.error, ValueError) as error:
        raise refused from error
    if version != 1:
        raise refused
    return Place(*parts)


def _value(name: str, parameter: Parameter, text: str, base_url: str) -> Value:
    if name == "_id":
        return parse_id(name, text)
    if parameter.form is Form.DATE:
        return parse_date(name, text)
    if parameter.form is Form.REFERENCE:
        return parse_reference(name, text, parameter.target, base_url)
    return text if parameter.form is Form.STRING else parse_token(name, text)


def _date_of(kind: str) -> str:
    return "recorded" if kind == "Provenance" else "date"


def _descending(text: str, date: str) -> bool:
    if text.removeprefix("-") != date:
        raise ParameterRefused("_sort", "is by something else than the date", f"give {date} or -{date}")
    return text.startswith("-")


def _check_words(plain: dict[str, str]) -> None:
    if plain.get("_format", "json") not in {"json", "application/json", "application/fhir+json"}:
        raise ParameterRefused("_format", "is a format that is not given here", "give json, or leave it out")
    if plain.get("_total", "none") not in {"none", "estimate", "accurate"}:
        raise ParameterRefused("_total", "is no kind of total", "give none, estimate or accurate")


def _one_of(allowed: tuple[str, ...]) -> str:
    return f"give {' or '.join(allowed)}" if allowed else "leave it out"


def _unknown(name: str, twice: bool, known: tuple[str, ...]) -> ParameterRefused:
    if twice:
        return ParameterRefused(shown(name), "is given twice", "give it once")
    base = name.partition(":")[0].partition(".")[0]
    if name.startswith("_has") or (base != name and base in known):
        return ParameterRefused(
            shown(name), "is a chain, a modifier or _has, none of which is taken", "search for one kind after the other"
        )
    return ParameterRefused(shown(name), "is no parameter of this search", f"known are {', '.join(known)}")
