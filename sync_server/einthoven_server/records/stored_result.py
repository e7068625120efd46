"""A result with what belongs to it, as a value. Pure; ``store`` reads them."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from einthoven_protocol.messages import AnnotationRow, ResultId, ResultRow


class StoredResult(NamedTuple):
    """A result with what belongs to it.

    Attributes:
        result: Its identity.
        patient_id: Whose it is.
        row: What the device said.
        annotations: What people said of it, by author.
        risk_id: FHIR id of its RiskAssessment.
        observation_id: FHIR id of its Observation.
    """

    result: ResultId
    patient_id: str
    row: ResultRow
    annotations: tuple[AnnotationRow, ...]
    risk_id: UUID
    observation_id: UUID
