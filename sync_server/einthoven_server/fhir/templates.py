"""Observation and RiskAssessment as JSON bytes, from templates that are prepared once a kind of row. Pure.

It deliberately says nothing of its own: a template is ``mapping``'s resource, encoded, with places for what differs
from row to row. So there is one mapping, and a test that both give the same.

Invariants:
    1. ``render(kind, stored, fields)`` is the JSON of ``mapping``'s resource with these fields, byte for byte.
    2. At most ``TEMPLATES_MAX`` templates are kept.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from einthoven_server.fhir.mapping import instant, observation, risk_assessment
from einthoven_server.records.resource_ids import Kind, result_text
from einthoven_server.records.stored_result import StoredResult

TEMPLATES_MAX: Final = 4_096
_RISK, _OBSERVATION, _NAME, _START, _END, _CONFIDENCE = (f"\x7f{place}\x7f" for place in range(6))
_ALL: Final = (_RISK, _OBSERVATION, _NAME, _START, _END, _CONFIDENCE)
Template = tuple[bytes | int, ...]


class Templates:
    """Prepared templates, least recently used first."""

    def __init__(self) -> None:
        self._made: OrderedDict[tuple[object, ...], Template] = OrderedDict()

    def render(self, kind: Kind, stored: StoredResult, fields: frozenset[str]) -> bytes:
        """The resource of a result as JSON.

        Args:
            kind: ``Kind.RISK`` or ``Kind.OBSERVATION``.
            stored: The result.
            fields: The elements that may be shown.
        """
        if stored.annotations and kind is Kind.OBSERVATION:
            return msgspec.json.encode(_only(observation(stored), fields))
        row = stored.row
        key = (
            kind,
            fields,
            stored.patient_id,
            stored.result.device_alias,
            row.duration_ms,
            row.usable_s,
            row.quality,
            row.rhythm,
            row.tier,
            row.reason,
            row.model_digest,
            row.front_end_version,
        )
        template = self._made.get(key)
        if template is None:
            template = self._made[key] = _prepared(kind, stored, fields)
            if len(self._made) > TEMPLATES_MAX:
                self._made.popitem(last=False)
        else:
            self._made.move_to_end(key)
        values = (
            str(stored.risk_id).encode(),
            str(stored.observation_id).encode(),
            result_text(stored.result).encode(),
            instant(row.started_at_ms).encode(),
            instant(row.started_at_ms + row.duration_ms).encode(),
            repr(row.confidence_permille / 1000).encode(),
        )
        return b"".join([part if isinstance(part, bytes) else values[part] for part in template])


def _only(resource: Mapping[str, Any], fields: frozenset[str]) -> dict[str, Any]:
    return {name: value for name, value in resource.items() if name in fields}


def _prepared(kind: Kind, stored: StoredResult, fields: frozenset[str]) -> Template:
    make: Callable[[StoredResult], dict[str, Any]] = risk_assessment if kind is Kind.RISK else observation
    resource = make(stored)
    period = "occurrencePeriod" if kind is Kind.RISK else "effectivePeriod"
    resource["id"] = _RISK if kind is Kind.RISK else _OBSERVATION
    resource["identifier"][0]["value"] = _NAME
    resource[period] = {"start": _START, "end": _END}
    if kind is Kind.RISK:
        resource["basis"] = [{"reference": f"{Kind.OBSERVATION}/{_OBSERVATION}"}]
    elif not stored.row.reason:
        resource["component"][-1]["valueQuantity"]["value"] = _CONFIDENCE
    encoded = msgspec.json.encode(_only(resource, fields))
    parts: list[bytes | int] = [encoded]
    for place, mark in enumerate(_ALL):
        octets = msgspec.json.encode(mark)
        # A number stands without the quotation marks of its mark.
        octets = octets if mark == _CONFIDENCE else octets[1:-1]
        parts = [piece for part in parts for piece in _cut(part, octets, place)]
    return tuple(parts)


def _cut(part: bytes | int, mark: bytes, place: int) -> list[bytes | int]:
    if isinstance(part, int):
        return [part]
    pieces: list[bytes | int] = []
    for piece in part.split(mark):
        pieces += [piece, place]
    return pieces[:-1]
