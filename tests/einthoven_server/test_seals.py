"""Which rows a seal covers, and that a stored row that does not decode is refused."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.einthoven_server.site import result_row

from einthoven_protocol import merkle
from einthoven_protocol.codec import encode_result_row
from einthoven_protocol.messages import ResultId, Seal
from einthoven_server.envelope import PatientKey
from einthoven_server.errors import EnvelopeRefused
from einthoven_server.identity.callers import Device
from einthoven_server.records import sealing
from einthoven_server.sync.seals import sealed_counters

KEY = Ed25519PrivateKey.generate()
PATIENT_KEY = PatientKey("t", "p", 1, bytes(32))
DEVICE = Device(
    device_id="d",
    alias=3,
    patient_id="p",
    public_key=KEY.public_key().public_bytes_raw(),
    sync_key=bytes(32),
    revoked=False,
    patient_key=PATIENT_KEY,
)
ROWS = [encode_result_row(result_row(counter)) for counter in range(11, 16)]


def seal(first: int, last: int, *, epoch: int = 1, segments_root: bytes = bytes(32)) -> Seal:
    root = merkle.tree_hash(ROWS[first - 11 : last - 10])
    message = merkle.seal_message(3, epoch, first, last, root, bytes(32))
    return Seal(
        epoch=epoch,
        first_counter=first,
        last_counter=last,
        results_root=root,
        segments_root=segments_root,
        signature=KEY.sign(message),
    )


@pytest.mark.parametrize(
    ("seals", "covered"),
    [
        ([], set()),
        ([seal(11, 15)], {11, 12, 13, 14, 15}),
        ([seal(12, 13)], {12, 13}),
        ([seal(11, 12), seal(14, 15)], {11, 12, 14, 15}),
        ([seal(11, 13), seal(12, 15)], {11, 12, 13, 14, 15}),
        ([seal(11, 15, epoch=2)], set()),
        ([seal(11, 15, segments_root=bytes([1]) * 32)], set()),
        ([seal(11, 15, segments_root=b"short")], set()),
        ([seal(11, 16)], set()),
        ([seal(11, 12), seal(11, 16)], {11, 12}),
    ],
)
def test_a_row_is_sealed_by_a_good_seal_over_rows_that_are_there(seals: list[Seal], covered: set[int]) -> None:
    assert sealed_counters(DEVICE, 1, seals, range(11, 16), ROWS) == covered


def test_rows_in_another_order_are_not_what_was_sealed() -> None:
    assert sealed_counters(DEVICE, 1, [seal(11, 15)], range(11, 16), [*ROWS[1:], ROWS[0]]) == set()


def test_a_stored_row_of_an_unknown_form_is_refused() -> None:
    result = ResultId(3, 1, 11)
    sealed = sealing.seal_result(PATIENT_KEY, sealing.RESULTS, result, b"of a later version")
    with pytest.raises(EnvelopeRefused, match="version"):
        sealing.open_result(PATIENT_KEY, result, sealed)
    said = PATIENT_KEY.seal(b"of a later version", sealing.ANNOTATIONS, "row_sealed", "3/1/11/a")
    with pytest.raises(EnvelopeRefused, match="version"):
        sealing.open_annotation(PATIENT_KEY, result, "a", said)


def test_a_quarantined_row_is_not_taken_for_a_result() -> None:
    result = ResultId(3, 1, 11)
    sealed = sealing.seal_result(PATIENT_KEY, sealing.QUARANTINE, result, ROWS[0])
    with pytest.raises(EnvelopeRefused):
        sealing.open_result(PATIENT_KEY, result, sealed)
