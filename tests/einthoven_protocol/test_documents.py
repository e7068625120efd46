"""What is signed over a document: every part of it counts, and nothing outside its range is signed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.einthoven_protocol.conftest import text

from einthoven_protocol import limits
from einthoven_protocol.documents import DOCUMENT_LABEL, signed_bytes
from einthoven_protocol.errors import OutOfRange

DOCUMENT: dict[str, Any] = {
    "tenant": "clinic-a",
    "patient_id": "p-3f2a",
    "name": "settings/capture",
    "version": 3,
    "issued_at_ms": 1_780_000_000_000,
    "body": b"{}",
}
ids = text(limits.MAX_ID_CHARACTERS)
documents = st.fixed_dictionaries(
    {
        "tenant": ids,
        "patient_id": ids,
        "name": text(limits.MAX_DOCUMENT_NAME_CHARACTERS, 1),
        "version": st.integers(1, limits.MAX_DOCUMENT_VERSION),
        "issued_at_ms": st.integers(0, limits.MAX_TIME_MS),
        "body": st.binary(max_size=40),
    }
)


@given(a=documents, b=documents)
def test_only_equal_documents_have_equal_bytes(a: dict[str, Any], b: dict[str, Any]) -> None:
    assert (signed_bytes(**a) == signed_bytes(**b)) is (a == b)
    assert signed_bytes(**a).startswith(DOCUMENT_LABEL)


@pytest.mark.parametrize(
    "other",
    [{"tenant": "clinic-"}, {"patient_id": ""}, {"name": "x"}, {"version": 4}, {"issued_at_ms": 0}, {"body": b"{} "}],
)
def test_every_part_counts(other: dict[str, Any]) -> None:
    assert signed_bytes(**DOCUMENT) != signed_bytes(**DOCUMENT | other)


@pytest.mark.parametrize(
    "bad",
    [
        {"name": ""},
        {"name": "x" * 65},
        {"name": "\0"},
        {"tenant": "x" * 65},
        {"version": 0},
        {"issued_at_ms": -1},
        {"body": bytes(limits.MAX_DOCUMENT_BYTES + 1)},
    ],
)
def test_what_is_outside_its_range_is_not_signed(bad: dict[str, Any]) -> None:
    with pytest.raises(OutOfRange):
        signed_bytes(**DOCUMENT | bad)
