"""Consent: what is taken of a FHIR one, and how it is shown. Pure.

It deliberately takes one form: a base rule (OPTIN permits, OPTOUT denies) and exceptions from it, each of which says
the opposite. Deeper nesting, data, security labels and exceptions that say the same again are refused by name: what is
ignored looks like what is obeyed.

Invariants:
    1. Reading what is shown gives the agreement that was shown.
    2. A refusal names the element, never its value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeVar

import msgspec

from einthoven_server import limits
from einthoven_server.errors import ParameterRefused, Unprocessable
from einthoven_server.fhir.audit_event import PRINCIPAL_SYSTEM, ROLE_SYSTEM
from einthoven_server.fhir.mapping import instant
from einthoven_server.fhir.search_values import DateRange, parse_date
from einthoven_server.identity.consent import (
    CONSENTED_PURPOSES,
    Agreement,
    Category,
    Consent,
    Period,
    Provision,
    Purpose,
)
from einthoven_server.identity.roles import CARERS, Role

CATEGORY_SYSTEM: Final = "urn:einthoven:category"
PURPOSE_SYSTEM: Final = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
_SCOPE: Final = ("http://terminology.hl7.org/CodeSystem/consentscope", "patient-privacy")
_KIND: Final = ("http://loinc.org", "59284-0")
_RULES: Final = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
_PERMITS: Final = {"OPTIN": True, "OPTOUT": False}
_RECIPIENT: Final = ("http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "IRCP")
_PATIENT: Final = re.compile(r"Patient/([A-Za-z0-9.-]{1,64})", re.ASCII)
_UNKNOWN: Final = re.compile(r"unknown field `([A-Za-z_]{1,64})`", re.ASCII)
_AT: Final = re.compile(r"`\$((?:\.[A-Za-z_]{1,64}|\[[0-9.]{1,3}\])*)`", re.ASCII)
_FIRST_MS: Final = -(2**53)
_LAST_MS: Final = 2**53
Code = TypeVar("Code", bound=StrEnum)

_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=limits.FHIR_TEXT_MAX_CHARS)]
_MANY: Final = msgspec.Meta(min_length=1, max_length=limits.CONSENT_NAMED_MAX)


class _ConsentCoding(msgspec.Struct, forbid_unknown_fields=True):
    system: _Text
    code: _Text
    display: _Text | None = None


class _ConsentConcept(msgspec.Struct, forbid_unknown_fields=True):
    coding: Annotated[list[_ConsentCoding], msgspec.Meta(min_length=1, max_length=1)]
    text: _Text | None = None


class _ConsentIdentifier(msgspec.Struct, forbid_unknown_fields=True):
    system: _Text
    value: _Text


class _ConsentPatient(msgspec.Struct, forbid_unknown_fields=True):
    reference: _Text
    display: None = None


class _ConsentWho(msgspec.Struct, forbid_unknown_fields=True):
    identifier: _ConsentIdentifier


class _ConsentPeriod(msgspec.Struct, forbid_unknown_fields=True):
    start: _Text | None = None
    end: _Text | None = None


class _ConsentActor(msgspec.Struct, forbid_unknown_fields=True):
    role: _ConsentConcept
    reference: _ConsentWho


class _ConsentException(msgspec.Struct, forbid_unknown_fields=True, rename={"kinds": "class"}):
    type: Literal["permit", "deny"]
    period: _ConsentPeriod | None = None
    actor: Annotated[list[_ConsentActor], _MANY] | None = None
    purpose: Annotated[list[_ConsentCoding], _MANY] | None = None
    kinds: Annotated[list[_ConsentCoding], _MANY] | None = None


_Exceptions = Annotated[list[_ConsentException], msgspec.Meta(min_length=1, max_length=limits.CONSENT_PROVISIONS_MAX)]


class _ConsentRoot(msgspec.Struct, forbid_unknown_fields=True):
    period: _ConsentPeriod | None = None
    provision: _Exceptions | None = None


class _ConsentMeta(msgspec.Struct, forbid_unknown_fields=True):
    versionId: _Text | None = None  # noqa: N815  # as FHIR names it
    lastUpdated: _Text | None = None  # noqa: N815


class _ConsentGiven(msgspec.Struct, forbid_unknown_fields=True, tag_field="resourceType", tag="Consent"):
    status: Literal["active", "inactive"]
    scope: _ConsentConcept
    category: Annotated[list[_ConsentConcept], msgspec.Meta(min_length=1, max_length=1)]
    patient: _ConsentPatient
    dateTime: _Text  # noqa: N815
    policyRule: _ConsentConcept  # noqa: N815
    provision: _ConsentRoot | None = None
    id: _Text | None = None
    meta: _ConsentMeta | None = None


CONSENT_BODY: Final = _ConsentGiven
"""What a client sends, for who describes it."""


class Given(NamedTuple):
    """A Consent as a client gave it.

    Attributes:
        patient_id: Whose, as it says.
        active: Whether it is to count.
        agreement: What it says.
        consent_id: Its id, if it names one.
    """

    patient_id: str
    active: bool
    agreement: Agreement
    consent_id: str | None


def taken(body: object) -> Given:
    """What a client gave.

    Args:
        body: Decoded JSON (``check_json``).

    Raises:
        Unprocessable: Names the first element that is not taken.
    """
    try:
        given = msgspec.convert(body, _ConsentGiven, strict=True)
    except msgspec.ValidationError as error:
        raise _refused(str(error)) from error
    for place, concept, wanted in (
        ("scope", given.scope, _SCOPE),
        ("category[0]", given.category[0], _KIND),
    ):
        if (concept.coding[0].system, concept.coding[0].code) != wanted:
            raise Unprocessable(f"Consent.{place}", "is another than is taken here", f"give {wanted[0]}|{wanted[1]}")
    whose, rule = _PATIENT.fullmatch(given.patient.reference), given.policyRule.coding[0]
    if whose is None:
        raise Unprocessable("Consent.patient.reference", "names no patient", "give Patient/{id}")
    if rule.system != _RULES or rule.code not in _PERMITS:
        raise Unprocessable("Consent.policyRule", "is none that is taken here", f"give {_RULES}|OPTIN or OPTOUT")
    _moment("Consent.dateTime", given.dateTime)
    permits, root = _PERMITS[rule.code], given.provision or _ConsentRoot()
    agreement = Agreement(
        permits,
        given.dateTime,
        tuple(
            _exception(one, permits, f"Consent.provision.provision[{place}]")
            for place, one in enumerate(root.provision or ())
        ),
        _period(root.period, "Consent.provision.period"),
    )
    return Given(whose[1], given.status == "active", agreement, given.id)


def _exception(given: _ConsentException, permits: bool, at: str) -> Provision:
    if (given.type == "permit") is permits:
        raise Unprocessable(f"{at}.type", "says what the policyRule says already", "give the opposite")
    roles: list[Role] = []
    principals: list[str] = []
    for place, actor in enumerate(given.actor or ()):
        where, who = f"{at}.actor[{place}]", actor.reference.identifier
        if (actor.role.coding[0].system, actor.role.coding[0].code) != _RECIPIENT:
            raise Unprocessable(
                f"{where}.role", "is another than is taken here", f"give {_RECIPIENT[0]}|{_RECIPIENT[1]}"
            )
        if who.system == PRINCIPAL_SYSTEM:
            principals.append(who.value)
        elif who.system == ROLE_SYSTEM and who.value in CARERS:
            roles.append(Role(who.value))
        else:
            raise Unprocessable(
                f"{where}.reference.identifier",
                "names nobody whom a consent can speak of",
                f"give {PRINCIPAL_SYSTEM}, or {ROLE_SYSTEM} with {' or '.join(sorted(CARERS))}",
            )
    return Provision(
        tuple(roles),
        tuple(principals),
        _codes(given.purpose, PURPOSE_SYSTEM, CONSENTED_PURPOSES, f"{at}.purpose", Purpose),
        _codes(given.kinds, CATEGORY_SYSTEM, tuple(Category), f"{at}.class", Category),
        _period(given.period, f"{at}.period"),
    )


def _codes(
    given: list[_ConsentCoding] | None, system: str, known: Sequence[Code], at: str, make: Callable[[str], Code]
) -> tuple[Code, ...]:
    for place, one in enumerate(given or ()):
        if one.system != system or one.code not in known:
            said = f"give {system} with {', '.join(known)}"
            raise Unprocessable(f"{at}[{place}]", "is none that a consent can speak of here", said)
    return tuple(make(one.code) for one in given or ())


def _period(given: _ConsentPeriod | None, at: str) -> Period | None:
    if given is None or (given.start is None and given.end is None):
        return None
    begin_ms = _FIRST_MS if given.start is None else _moment(f"{at}.start", given.start).begin_ms
    end_ms = _LAST_MS if given.end is None else _moment(f"{at}.end", given.end).end_ms
    if begin_ms >= end_ms:
        raise Unprocessable(at, "ends before it begins", "give an end behind its start")
    return Period(begin_ms, end_ms, given.start, given.end)


def _moment(at: str, text: str) -> DateRange:
    refused = Unprocessable(at, "is no date", "give a date, or date and time with a zone")
    try:
        found = parse_date(at, text)
    except ParameterRefused as error:
        raise refused from error
    if not text[0].isdigit() or ("T" in text and not re.search(r"(Z|[+-][0-9]{2}:[0-9]{2})\Z", text, re.ASCII)):
        raise refused
    return found


def _refused(said: str) -> Unprocessable:
    # The decoder's own words may repeat a value: no more than names is taken of them.
    unknown, place = _UNKNOWN.search(said), _AT.search(said)
    path = "Consent" + (place[1] if place is not None else "").replace("[...]", "")
    if unknown is not None:
        return Unprocessable(f"{path}.{unknown[1]}", "is not taken here", "leave it out")
    return Unprocessable(path, "is not of the form that is taken here", "see docs/privacy.md")


def shown(consent: Consent) -> dict[str, Any]:
    """A FHIR Consent."""
    agreement = consent.agreement
    said: dict[str, Any] = {
        "resourceType": "Consent",
        "id": consent.consent_id,
        "meta": {"versionId": str(consent.version), "lastUpdated": instant(consent.updated_at_ms)},
        "status": "active" if consent.active else "inactive",
        "scope": _concept(*_SCOPE),
        "category": [_concept(*_KIND)],
        "patient": {"reference": f"Patient/{consent.patient_id}"},
        "dateTime": agreement.said,
        "policyRule": _concept(_RULES, "OPTIN" if agreement.permits else "OPTOUT"),
    }
    root: dict[str, Any] = {}
    if agreement.period is not None:
        root["period"] = _shown_period(agreement.period)
    if agreement.exceptions:
        kind = "deny" if agreement.permits else "permit"
        root["provision"] = [_shown_exception(one, kind) for one in agreement.exceptions]
    return said | ({"provision": root} if root else {})


def _shown_exception(one: Provision, kind: str) -> dict[str, Any]:
    said: dict[str, Any] = {"type": kind}
    if one.period is not None:
        said["period"] = _shown_period(one.period)
    who = [(PRINCIPAL_SYSTEM, name) for name in one.principals] + [(ROLE_SYSTEM, name.value) for name in one.roles]
    if who:
        said["actor"] = [
            {"role": _concept(*_RECIPIENT), "reference": {"identifier": {"system": system, "value": value}}}
            for system, value in who
        ]
    if one.purposes:
        said["purpose"] = [{"system": PURPOSE_SYSTEM, "code": code.value} for code in one.purposes]
    if one.categories:
        said["class"] = [{"system": CATEGORY_SYSTEM, "code": code.value} for code in one.categories]
    return said


def _shown_period(period: Period) -> Mapping[str, str]:
    return {name: text for name, text in (("start", period.start), ("end", period.end)) if text is not None}


def _concept(system: str, code: str) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code}]}
