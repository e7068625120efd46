"""A result as the device exports it and as the server serves it: the same resource, to the letter."""

from __future__ import annotations

import pytest
from fhir.resources.R4B.bundle import Bundle
from fhir.resources.R4B.communication import Communication
from fhir.resources.R4B.observation import Observation
from fhir.resources.R4B.riskassessment import RiskAssessment
from hypothesis import given
from hypothesis import strategies as st

from einthoven import fhir_bundle, fhir_results
from einthoven.fhir_results import DescribedResult, Owner
from einthoven_protocol import limits
from einthoven_protocol.messages import AnnotationRow, Register, ResultId, ResultRow
from einthoven_server.fhir import mapping
from einthoven_server.records.resource_ids import Kind, resource_id
from einthoven_server.records.resource_ids import result_text as server_result_text
from einthoven_server.records.stored_result import StoredResult

words = st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=30)
registers = st.builds(Register, words, st.integers(0, 9))
results = st.builds(
    ResultId,
    st.integers(0, limits.MAX_DEVICE_ALIAS),
    st.integers(1, limits.MAX_EPOCH),
    st.integers(1, limits.MAX_COUNTER),
)
annotations = st.builds(
    AnnotationRow,
    target=results,
    author=st.text("abc-0", min_size=1, max_size=9),
    rhythm=registers,
    comment=registers,
)
rows = st.builds(
    ResultRow,
    counter=st.integers(1, limits.MAX_COUNTER),
    started_at_ms=st.integers(0, limits.MAX_TIME_MS),
    duration_ms=st.integers(0, limits.MAX_DURATION_MS),
    n_steps=st.integers(0, limits.MAX_STEPS),
    usable_s=st.integers(0, limits.MAX_USABLE_S),
    quality=st.integers(0, limits.MAX_QUALITY),
    rhythm=st.integers(0, 6) | st.integers(0, limits.MAX_ENUM),
    confidence_permille=st.integers(0, 1_000),
    logits=st.just((1, 2, 3, 4)),
    tier=st.integers(0, 6) | st.integers(0, limits.MAX_ENUM),
    reason=st.integers(0, 8) | st.integers(0, limits.MAX_ENUM),
    model_digest=st.binary(min_size=32, max_size=32),
    front_end_version=st.integers(0, 9),
)
owners = st.builds(Owner, words, st.just("patient-1"), st.just("device-1"), st.just(3))


@given(owners, results, rows, st.lists(annotations, max_size=3))
def test_the_device_and_the_server_say_the_same(
    owner: Owner, result: ResultId, row: ResultRow, notes: list[AnnotationRow]
) -> None:
    here = DescribedResult(owner, result, row, tuple(notes))
    there = StoredResult(
        result=result,
        patient_id=owner.patient_id,
        row=row,
        annotations=tuple(notes),
        risk_id=resource_id(owner.tenant, result, Kind.RISK),
        observation_id=resource_id(owner.tenant, result, Kind.OBSERVATION),
    )
    assert fhir_results.observation(here) == mapping.observation(there)
    assert fhir_results.risk_assessment(here) == mapping.risk_assessment(there)
    assert fhir_results.result_text(result) == server_result_text(result)
    # The order of the fields too: an auditor may compare bytes.
    assert str(fhir_results.observation(here)) == str(mapping.observation(there))
    Observation.model_validate(fhir_results.observation(here))
    RiskAssessment.model_validate(fhir_results.risk_assessment(here))


@given(annotations)
def test_a_note_on_a_result_elsewhere_is_valid(note: AnnotationRow) -> None:
    owner = Owner("t", "p", "d", 1)
    Communication.model_validate(fhir_bundle.communication(owner, note))
    assert fhir_bundle.communication(owner, note)["about"][0]["identifier"]["value"] == server_result_text(note.target)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_bundle_is_written_an_entry_a_line(count: int) -> None:
    owner = Owner("t", "p", "d", 1)
    pieces = list(fhir_bundle.bundle_bytes([fhir_bundle.patient(owner)] * count, "https://x/fhir/R4"))
    written = b"".join(pieces)
    assert len(pieces) == count + 1
    assert written.count(b"\n") == count + 2
    bundle = Bundle.model_validate_json(written)
    assert len(bundle.entry) == count
