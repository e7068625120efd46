"""HTTP Message Signatures (RFC 9421) in the one form that devices use, and Content-Digest (RFC 9530).

It deliberately is no general implementation: exactly ``"@method" "@path" "content-digest"``, the parameters
``created``, ``nonce``, ``keyid`` and ``alg="ed25519"`` in this order, the label ``sig1``. It makes and checks no
signature, keeps no nonces and knows no clock.

Invariants:
    1. Anything else is refused, so that what was parsed gives back the bytes that were signed, and nothing a signature
       does not cover is trusted. ``@path`` has no query: a signed resource must refuse one.
    2. A header that comes twice is refused.
    3. Parsing raises only ``SignatureMalformed``, and its messages quote nothing that was received.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from typing import Final

import msgspec

from einthoven_protocol import limits
from einthoven_protocol.errors import SignatureMalformed

CONTENT_DIGEST_HEADER: Final = "Content-Digest"
SIGNATURE_INPUT_HEADER: Final = "Signature-Input"
SIGNATURE_HEADER: Final = "Signature"

_SHA256_BYTES: Final = 32
_METHOD: Final = re.compile(r"[A-Z]{1,16}", re.ASCII)
_PATH: Final = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*", re.ASCII)
_SAFE: Final = r"[A-Za-z0-9_-]"
_NONCE: Final = re.compile(f"{_SAFE}{{{limits.MIN_NONCE_CHARACTERS},{limits.MAX_NONCE_CHARACTERS}}}", re.ASCII)
_KEY_ID: Final = re.compile(f"{_SAFE}{{1,{limits.MAX_KEY_ID_CHARACTERS}}}", re.ASCII)
_COMPONENTS: Final = '("@method" "@path" "content-digest")'
_SIGNATURE_INPUT: Final = re.compile(
    r'sig1=\("@method" "@path" "content-digest"\);created=(0|[1-9][0-9]{0,11});nonce="([^"]*)";keyid="([^"]*)"'
    r';alg="ed25519"',
    re.ASCII,
)
_CONTENT_DIGEST: Final = re.compile(r"sha-256=:([A-Za-z0-9+/=]*):", re.ASCII)
_SIGNATURE: Final = re.compile(r"sig1=:([A-Za-z0-9+/=]*):", re.ASCII)


class SignedParts(msgspec.Struct, frozen=True, kw_only=True):
    """What the signature headers of a request say; nothing of it is verified yet.

    Attributes:
        created_s: When it was signed, s since 1970 by the signer's clock.
        nonce: Used once, 16 to 64 characters.
        key_id: The device's id.
        content_digest: The Content-Digest header, to be compared with ``content_digest(body)``.
        signature: Ed25519 over ``signature_base``, 64 bytes.
    """

    created_s: int
    nonce: str
    key_id: str
    content_digest: str
    signature: bytes


def content_digest(body: bytes) -> str:
    """Return the Content-Digest header of a body (RFC 9530 section 2, sha-256)."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode('ascii')}:"


def signature_base(method: str, path: str, content_digest: str, created_s: int, nonce: str, key_id: str) -> bytes:
    """Return the bytes to sign (RFC 9421 section 2.5).

    Args:
        method: In capitals.
        path: Absolute and as sent, without query or fragment.
        content_digest: The Content-Digest header.
        created_s: Now, s since 1970.
        nonce: Fresh, 16 to 64 of ``A-Z a-z 0-9 _ -``.
        key_id: The device's id.

    Raises:
        SignatureMalformed: A part could not be told apart from another, or is not of the accepted form.
    """
    if not _METHOD.fullmatch(method):
        raise SignatureMalformed("the method is not 1 to 16 capital letters")
    if len(path) > limits.MAX_PATH_CHARACTERS or not _PATH.fullmatch(path):
        raise SignatureMalformed("the path is not absolute, or has a query, a fragment or unusual characters")
    _octets_in(_CONTENT_DIGEST, content_digest, _SHA256_BYTES, CONTENT_DIGEST_HEADER)
    parameters = _parameters(created_s, nonce, key_id)
    # RFC 9421 section 2.5: one line a component, joined by a newline, none after the last.
    return (
        f'"@method": {method}\n"@path": {path}\n"content-digest": {content_digest}\n"@signature-params": {parameters}'
    ).encode("ascii")


def signature_input(created_s: int, nonce: str, key_id: str) -> str:
    """Return the Signature-Input header (RFC 9421 section 4.1).

    Raises:
        SignatureMalformed: A part is not of the accepted form.
    """
    return f"sig1={_parameters(created_s, nonce, key_id)}"


def signature_header(signature: bytes) -> str:
    """Return the Signature header (RFC 9421 section 4.2).

    Raises:
        SignatureMalformed: The signature is not 64 bytes long.
    """
    if len(signature) != limits.SIGNATURE_BYTES:
        raise SignatureMalformed(f"the signature is not {limits.SIGNATURE_BYTES} bytes long")
    return f"sig1=:{base64.b64encode(signature).decode('ascii')}:"


def parse(headers: Mapping[str, str]) -> SignedParts:
    """Return what a request's signature headers say.

    Args:
        headers: All headers of the request; names in any case, and a multi-valued mapping may repeat them.

    Raises:
        SignatureMalformed: One is missing, doubled, too long, or not of the one accepted form.
    """
    digest = _only(headers, CONTENT_DIGEST_HEADER)
    _octets_in(_CONTENT_DIGEST, digest, _SHA256_BYTES, CONTENT_DIGEST_HEADER)
    covered = _SIGNATURE_INPUT.fullmatch(_only(headers, SIGNATURE_INPUT_HEADER))
    if covered is None or not _NONCE.fullmatch(covered[2]) or not _KEY_ID.fullmatch(covered[3]):
        raise SignatureMalformed(f"{SIGNATURE_INPUT_HEADER} is not of the one accepted form")
    signature = _octets_in(_SIGNATURE, _only(headers, SIGNATURE_HEADER), limits.SIGNATURE_BYTES, SIGNATURE_HEADER)
    return SignedParts(
        created_s=int(covered[1]), nonce=covered[2], key_id=covered[3], content_digest=digest, signature=signature
    )


def _parameters(created_s: int, nonce: str, key_id: str) -> str:
    if not 0 <= created_s <= limits.MAX_TIME_MS // 1000:
        raise SignatureMalformed("created is no time in seconds since 1970")
    if not _NONCE.fullmatch(nonce) or not _KEY_ID.fullmatch(key_id):
        raise SignatureMalformed("nonce or keyid is too short, too long, or has other characters than A-Z a-z 0-9 _ -")
    return f'{_COMPONENTS};created={created_s};nonce="{nonce}";keyid="{key_id}";alg="ed25519"'


def _only(headers: Mapping[str, str], name: str) -> str:
    """Return the one header of that name."""
    values = [value for given, value in headers.items() if given.lower() == name.lower()]
    if len(values) != 1:
        raise SignatureMalformed(f"{name} is missing or comes twice")
    if len(values[0]) > limits.MAX_SIGNATURE_HEADER_CHARACTERS:
        raise SignatureMalformed(f"{name} is over {limits.MAX_SIGNATURE_HEADER_CHARACTERS} characters")
    return values[0]


def _octets_in(form: re.Pattern[str], header: str, length: int, name: str) -> bytes:
    """Return the bytes between the colons, refusing all but their one encoding."""
    found = form.fullmatch(header)
    try:
        octets = base64.b64decode(found[1], validate=True) if found else b""
    except binascii.Error as problem:
        raise SignatureMalformed(f"{name} is not of the one accepted form") from problem
    if found is None or len(octets) != length or base64.b64encode(octets).decode("ascii") != found[1]:
        raise SignatureMalformed(f"{name} is not of the one accepted form")
    return octets
