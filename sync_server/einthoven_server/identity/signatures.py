"""Is a device's request really from that device, fresh, and about this body? Pure but for the cryptography library.

Invariants:
    1. Nothing of the request is trusted before its signature is verified; only then is the sender told of its clock.
    2. The signature covers method, path and the body's digest, and the body has that digest.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from einthoven_protocol import http_signature
from einthoven_protocol.errors import SignatureMalformed
from einthoven_protocol.http_signature import SignedParts
from einthoven_server import limits
from einthoven_server.errors import ClockSkew, Unauthorized


def parts_of(headers: Mapping[str, str], body: bytes) -> SignedParts:
    """What the signature headers say, their digest checked against the body.

    Raises:
        Unauthorized: They are not of the one accepted form, or speak of another body.
    """
    parts = head_of(headers)
    if not hmac.compare_digest(parts.content_digest, http_signature.content_digest(body)):
        raise Unauthorized("Content-Digest is not that of the body", "sign the body that is sent")
    return parts


def head_of(headers: Mapping[str, str]) -> SignedParts:
    """What the signature headers say; the body may still be on its way.

    Raises:
        Unauthorized: They are not of the one accepted form.
    """
    try:
        return http_signature.parse(headers)
    except SignatureMalformed as error:
        raise Unauthorized("the request carries no signature of the accepted form", "sign it (RFC 9421)") from error


def verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether ``signature`` is by this Ed25519 key over ``message``."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def check_signature(parts: SignedParts, method: str, path: str, public_key: bytes) -> None:
    """Check the signature itself.

    Raises:
        Unauthorized: It is not by this key over these parts.
    """
    try:
        base = http_signature.signature_base(
            method, path, parts.content_digest, parts.created_s, parts.nonce, parts.key_id
        )
    except SignatureMalformed as error:
        raise Unauthorized("the request's path can't be signed", "send it without query") from error
    if not verify(public_key, base, parts.signature):
        raise refused_device()


def check_fresh(parts: SignedParts, now_ms: int) -> None:
    """Check when it was signed.

    Raises:
        ClockSkew: Too long ago or ahead; carries the server's time.
    """
    if abs(now_ms - parts.created_s * 1000) > limits.SIGNATURE_AGE_MAX_MS:
        raise ClockSkew("the device's clock is more than 5 minutes off", "set its clock and sign again", now_ms)


def refused_device() -> Unauthorized:
    """The one answer to an unknown device and to a wrong signature."""
    return Unauthorized("no device of this server signed this", "enrol the device")
