"""FHIR ids lead back to their result, and to no other."""

from __future__ import annotations

import uuid

from hypothesis import given
from hypothesis import strategies as st

from einthoven_protocol import limits
from einthoven_protocol.messages import ResultId
from einthoven_protocol.resource_ids import resource_id, result_of

RESULTS = st.builds(
    ResultId,
    st.integers(0, limits.MAX_DEVICE_ALIAS),
    st.integers(1, limits.MAX_EPOCH),
    st.integers(1, limits.MAX_COUNTER),
)


@given(st.text(max_size=40), RESULTS, st.sampled_from(["Observation", "RiskAssessment"]))
def test_an_id_leads_back(tenant: str, result: ResultId, kind: str) -> None:
    made = resource_id(tenant, result, kind)
    assert (made.version, made.variant) == (8, uuid.RFC_4122)
    assert result_of(tenant, made, kind) == result
    assert result_of(tenant + "x", made, kind) is None
    assert result_of(tenant, made, kind + "x") is None


@given(st.uuids())
def test_a_made_up_id_leads_nowhere(made_up: uuid.UUID) -> None:
    assert result_of("tenant", made_up, "Observation") is None


def test_ids_are_frozen() -> None:
    assert str(resource_id("t", ResultId(3, 1, 7), "Observation")) == FROZEN


FROZEN = "00000006-0000-8000-9000-0000eb040c24"
