"""What a device believes of an answer: it must decode, add up with its request, and what the server decides be signed.

Pure but for the cryptography. It deliberately takes nothing over; it says yes or raises.

Invariants:
    1. Whatever bytes come, only ``SyncError`` leaves this module, and it says nothing of their content.
    2. A document counts only if the authority that enrolment pinned signed it for this tenant, and for this patient or
       for all. One that is not makes the whole answer unbelievable.
"""

from __future__ import annotations

from collections.abc import Sequence

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from einthoven.errors import SyncError
from einthoven.identity import Identity
from einthoven_protocol import codec, documents, exchange
from einthoven_protocol.errors import ProtocolError
from einthoven_protocol.messages import Document, ExchangeRequest, ExchangeResponse


def read_exchange(identity: Identity, request: ExchangeRequest, raw: bytes) -> ExchangeResponse:
    """Return the answer to an exchange.

    Raises:
        SyncError: It is none, it does not add up with the request, or a document in it is not the authority's.
    """
    try:
        response = codec.decode_response(raw)
        exchange.check_response(request, response)
    except ProtocolError as problem:
        raise unbelievable() from problem
    check_documents(identity, response.documents)
    return response


def unbelievable() -> SyncError:
    """What to raise for an answer that does not add up."""
    return SyncError(
        "the server's answer does not add up and was not taken over", "sync again; if it stays so, update the app"
    )


def check_documents(identity: Identity, received: Sequence[Document]) -> None:
    """Hold documents to the pinned authority.

    Raises:
        SyncError: One of them is not signed by it, for this device's patient or tenant.
    """
    if not received:
        return
    key = _authority_key(identity.ca_pem)
    for document in received:
        if not any(_is_signed(key, identity.tenant, patient, document) for patient in (identity.patient_id, "")):
            raise SyncError(
                "the server sent a document that its authority did not sign; nothing was taken over",
                "sync again; if it stays so, ask your clinic",
            )


def _authority_key(ca_pem: str) -> ec.EllipticCurvePublicKey:
    try:
        key = x509.load_pem_x509_certificate(ca_pem.encode("ascii", "replace")).public_key()
    except ValueError as problem:
        raise SyncError(
            "the pinned certificate authority can't be read", "enrol the device again with a new code"
        ) from problem
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise SyncError("the pinned certificate authority signs no documents", "ask your clinic")
    return key


def _is_signed(key: ec.EllipticCurvePublicKey, tenant: str, patient_id: str, document: Document) -> bool:
    message = documents.signed_bytes(
        tenant, patient_id, document.name, document.version, document.issued_at_ms, document.body
    )
    try:
        key.verify(document.signature, message, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True
