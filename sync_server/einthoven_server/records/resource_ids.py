"""Ids of a result: as text for people and addresses, as UUIDs where FHIR wants one. Pure.

The wire carries no UUID, because it would cost more than the rest of a row; these are computed, and lead back.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final

from einthoven_protocol import limits
from einthoven_protocol.messages import ResultId
from einthoven_protocol.resource_ids import resource_id, result_of

__all__ = ["Kind", "parse_result", "resource_id", "result_of", "result_text"]

_TEXT: Final = re.compile(r"(0|[1-9][0-9]{0,9})-([1-9][0-9]{0,9})-([1-9][0-9]{0,9})", re.ASCII)


class Kind(StrEnum):
    """What a result becomes in FHIR."""

    RISK = "RiskAssessment"
    OBSERVATION = "Observation"
    ECG = "Observation/ecg"
    REPORT = "DiagnosticReport"
    PROVENANCE = "Provenance"


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
