"""Ids of a result: as text for people and addresses, as UUIDs where FHIR wants one. Pure.

The wire carries no UUID, because it would cost more than the rest of a row; these are derived (RFC 9562, version 5).
"""

from __future__ import annotations

import re
import uuid
from enum import StrEnum
from typing import Final

from einthoven_protocol import limits
from einthoven_protocol.messages import ResultId

_NAMESPACE: Final = uuid.UUID("1a6f6f0a-7c1e-5c0e-9d0a-6f1906e1c600")
_TEXT: Final = re.compile(r"(0|[1-9][0-9]{0,9})-([1-9][0-9]{0,9})-([1-9][0-9]{0,9})", re.ASCII)


class Kind(StrEnum):
    """What a result becomes in FHIR."""

    RISK = "RiskAssessment"
    OBSERVATION = "Observation"


def resource_id(tenant: str, result: ResultId, kind: Kind) -> uuid.UUID:
    """The FHIR id of a result."""
    name = f"{tenant}/{result.device_alias}/{result.epoch}/{result.counter}/{kind}"
    return uuid.uuid5(_NAMESPACE, name)


def result_text(result: ResultId) -> str:
    """``alias-epoch-counter``."""
    return f"{result.device_alias}-{result.epoch}-{result.counter}"


def parse_result(text: str) -> ResultId | None:
    """The result that ``result_text`` gives this text for, if any."""
    found = _TEXT.fullmatch(text)
    if found is None:
        return None
    result = ResultId(*(int(part) for part in found.groups()))
    tops = (limits.MAX_DEVICE_ALIAS, limits.MAX_EPOCH, limits.MAX_COUNTER)
    parts = (result.device_alias, result.epoch, result.counter)
    return result if all(part <= top for part, top in zip(parts, tops, strict=True)) else None
