"""A search's criteria on a patient's result columns. Pure.

Invariants:
    1. A token of another system than the one compared with matches nothing; one without a system matches by its code.
    2. Every criterion that was given narrows; none is left out.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from typing import Final

import numpy as np

from einthoven_protocol.messages import ResultId
from einthoven_server.errors import ParameterRefused
from einthoven_server.fhir.mapping import RESULT_SYSTEM, RHYTHM_CATEGORY, RHYTHM_CODE, RHYTHMS_BY_CODE, SNOMED
from einthoven_server.fhir.reports import ECG_CODE, REPORT_CATEGORY, REPORT_CODE
from einthoven_server.fhir.result_columns import Mask, ResultColumns
from einthoven_server.fhir.search_parameters import Search, Value
from einthoven_server.fhir.search_values import DateRange, Token
from einthoven_server.records.resource_ids import Kind, parse_result, result_of

_STATUSES: Final = {
    "Observation": "http://hl7.org/fhir/observation-status",
    "DiagnosticReport": "http://hl7.org/fhir/diagnostic-report-status",
}
_CODES: Final = {Kind.OBSERVATION: RHYTHM_CODE, Kind.ECG: ECG_CODE, Kind.REPORT: REPORT_CODE}
_CATEGORIES: Final = {Kind.OBSERVATION: RHYTHM_CATEGORY, Kind.ECG: RHYTHM_CATEGORY, Kind.REPORT: REPORT_CATEGORY}


def is_token(value: Value, system: str, code: str) -> bool:
    """Whether a token asks for this code."""
    return isinstance(value, Token) and value.system in {None, system} and value.code in {None, code}


def kind_of(search: Search) -> Kind:
    """What the results are to be shown as; of Observations, rhythm or ECG, by the code.

    Raises:
        ParameterRefused: Both at once.
    """
    if search.kind != Kind.OBSERVATION:
        return Kind(search.kind)
    for values in search.values("code"):
        wanted = {kind for kind in (Kind.OBSERVATION, Kind.ECG) if any(is_token(one, *_CODES[kind]) for one in values)}
        if len(wanted) > 1:
            raise ParameterRefused("code", "asks for rhythms and ECGs at once", "ask for one after the other")
        if wanted == {Kind.ECG}:
            return Kind.ECG
    return Kind.OBSERVATION


def ids_of(search: Search, kind: Kind, tenant: str) -> list[list[ResultId]]:
    """The results that ``_id`` and ``identifier`` name, each time they were given."""
    named: list[list[ResultId]] = []
    for name, values in search.criteria:
        if name == "_id":
            named.append([one for value in values if (one := _by_id(str(value), kind, tenant)) is not None])
        elif name == "identifier":
            named.append(
                [
                    found
                    for value in values
                    if isinstance(value, Token)
                    and value.system in {None, RESULT_SYSTEM}
                    and (found := parse_result(value.code or "")) is not None
                ]
            )
    return named


def _by_id(text: str, kind: Kind, tenant: str) -> ResultId | None:
    try:
        wanted = uuid.UUID(text)
    except ValueError:
        return None
    return result_of(tenant, wanted, kind) if str(wanted) == text else None


def mask_of(search: Search, kind: Kind, columns: ResultColumns, tenant: str, devices: Mapping[str, int]) -> Mask:
    """Which results a search asks for.

    Args:
        search: What was asked.
        kind: What the results are to be shown as.
        columns: The patient's results.
        tenant: For ids.
        devices: Numbers of the patient's devices by id.
    """
    mask = columns.every()
    for ids in ids_of(search, kind, tenant):
        mask &= columns.named(ids)
    for name, values in search.criteria:
        match name:
            case "date" | "recorded":
                mask &= _any(columns, (_dated(columns, name, value) for value in values))
            case "device" | "performer" | "agent":
                mask &= columns.of_devices(devices[str(value)] for value in values if str(value) in devices)
            case "status":
                mask &= _any(columns, (_of_status(columns, kind, value) for value in values))
            case "code":
                mask &= _all_or_none(columns, any(is_token(value, *_CODES[kind]) for value in values))
            case "category":
                mask &= _all_or_none(columns, any(is_token(value, *_CATEGORIES[kind]) for value in values))
            case "value-concept":
                rhythms = [
                    n for code, n in RHYTHMS_BY_CODE.items() if any(is_token(one, SNOMED, code) for one in values)
                ]
                mask &= columns.of_rhythms(rhythms if kind is Kind.OBSERVATION else ())
            case _:
                pass
    return mask


def _dated(columns: ResultColumns, name: str, value: Value) -> Mask:
    if not isinstance(value, DateRange):
        raise TypeError("a date was not parsed as one")
    return columns.of_date(value) if name == "date" else columns.ended_at(value)


def _of_status(columns: ResultColumns, kind: Kind, value: Value) -> Mask:
    mask = np.zeros(len(columns), np.bool_)
    system = _STATUSES[kind.value.partition("/")[0]]
    if is_token(value, system, "final"):
        mask |= columns.every() if kind is Kind.ECG else columns.conclusive()
    if is_token(value, system, "preliminary") and kind is not Kind.ECG:
        mask |= ~columns.conclusive()
    return mask


def _all_or_none(columns: ResultColumns, yes: bool) -> Mask:
    return columns.every() if yes else ~columns.every()


def _any(columns: ResultColumns, masks: Iterable[Mask]) -> Mask:
    found = ~columns.every()
    for mask in masks:
        found |= mask
    return found
