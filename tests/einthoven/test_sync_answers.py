"""What a device believes: of documents, those that the pinned authority signed for its tenant, its patient or all."""

from __future__ import annotations

import msgspec
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from tests.contracts.test_transport import issue, pem

from einthoven.errors import SyncError
from einthoven.identity import Identity
from einthoven.sync_answers import check_documents, read_exchange
from einthoven_protocol import codec, documents
from einthoven_protocol.messages import Cursor, Document, ExchangeRequest, ExchangeResponse

AUTHORITY = issue("test authority")
IDENTITY = Identity(
    device_id="device-1",
    device_alias=7,
    url="https://localhost",
    ca_pem=pem(AUTHORITY[0]),
    signing_key=bytes(range(32)),
    tenant="t",
    patient_id="patient-1",
)


def signed(key: ec.EllipticCurvePrivateKey, tenant: str = "t", patient: str = "patient-1") -> Document:
    name, version, issued_at_ms, body = "settings/signal", 3, 1_780_000_000_000, b'{"upload":true}'
    message = documents.signed_bytes(tenant, patient, name, version, issued_at_ms, body)
    signature = key.sign(message, ec.ECDSA(hashes.SHA256()))
    return Document(name=name, version=version, issued_at_ms=issued_at_ms, body=body, signature=signature)


@pytest.mark.parametrize("patient", ["patient-1", ""])
def test_what_the_authority_signed_for_this_patient_or_for_all_is_believed(patient: str) -> None:
    check_documents(IDENTITY, [signed(AUTHORITY[1], patient=patient)])


GOOD = signed(AUTHORITY[1])
FORGED = {
    "another authority": signed(issue("other")[1]),
    "another patient": signed(AUTHORITY[1], patient="patient-2"),
    "another tenant": signed(AUTHORITY[1], tenant="u"),
    "another body": msgspec.structs.replace(GOOD, body=b'{"upload":false}'),
    "a higher version": msgspec.structs.replace(GOOD, version=4),
    "another name": msgspec.structs.replace(GOOD, name="consents/signal"),
    "another time": msgspec.structs.replace(GOOD, issued_at_ms=GOOD.issued_at_ms + 1),
    "no signature": msgspec.structs.replace(GOOD, signature=b""),
    "bytes for a signature": msgspec.structs.replace(GOOD, signature=bytes(70)),
}


@pytest.mark.parametrize("forged", FORGED.values(), ids=FORGED)
def test_one_that_it_did_not_sign_makes_the_whole_answer_unbelievable(forged: Document) -> None:
    request = ExchangeRequest(device_alias=7, epoch=1)
    response = ExchangeResponse(acknowledged=0, cursor=Cursor(1, 5), documents=(forged,))
    with pytest.raises(SyncError, match="nothing was taken over") as caught:
        read_exchange(IDENTITY, request, codec.encode_response(response))
    assert "upload" not in str(caught.value)


def test_a_believed_answer_comes_back_as_it_was_sent() -> None:
    request = ExchangeRequest(device_alias=7, epoch=1)
    response = ExchangeResponse(acknowledged=0, cursor=Cursor(1, 5), documents=(GOOD,))
    assert read_exchange(IDENTITY, request, codec.encode_response(response)) == response


@pytest.mark.parametrize("ca_pem", ["", "nonsense", "\N{SNOWMAN}"])
def test_without_an_authority_no_document_is_believed(ca_pem: str) -> None:
    unpinned = msgspec.structs.replace(IDENTITY, ca_pem=ca_pem)
    check_documents(unpinned, [])
    with pytest.raises(SyncError, match="can't be read"):
        check_documents(unpinned, [GOOD])


def test_an_authority_with_another_kind_of_key_signs_nothing() -> None:
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.x509.oid import NameOID

    key = Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "other kind")])
    now = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    other = msgspec.structs.replace(IDENTITY, ca_pem=pem(builder.sign(key, None)))
    with pytest.raises(SyncError, match="signs no documents"):
        check_documents(other, [GOOD])
