"""Enrolment: the one-time code on paper or screen, and the two JSON messages that turn it into a device.

It deliberately draws no QR code, makes no key and checks no secret.

The text of a code is ``EIN1.`` and the unpadded base64url (RFC 4648 section 5) of::

    secret_length:u8  secret  ca_sha256:32  url (ASCII)  check:4      check = SHA-256 of all before it, cut to 4 bytes

Bytes in the JSON messages are padded base64 (RFC 4648 section 4), as ``msgspec.json`` writes ``bytes``.

Invariants:
    1. ``parse_code(format_code(code)) == code``, and a code has one text.
    2. A mistyped character is noticed before anything is sent.
    3. Neither messages of errors nor ``repr`` show the secret or the sync key.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from typing import Annotated, Final

import msgspec

from einthoven_protocol import limits
from einthoven_protocol.errors import CodeMalformed

CODE_PREFIX: Final = "EIN1."
PROOF_LABEL: Final = b"einthoven enrol 1\0"
"""Domain separation: no other message that a device signs begins like this."""
_CHECK_BYTES: Final = 4
_URL: Final = re.compile(
    r"https://(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~-]+)*", re.ASCII
)

Secret = Annotated[bytes, msgspec.Meta(min_length=limits.MIN_SECRET_BYTES, max_length=limits.MAX_SECRET_BYTES)]
PublicKey = Annotated[bytes, msgspec.Meta(min_length=limits.PUBLIC_KEY_BYTES, max_length=limits.PUBLIC_KEY_BYTES)]
Signature = Annotated[bytes, msgspec.Meta(min_length=limits.SIGNATURE_BYTES, max_length=limits.SIGNATURE_BYTES)]
SyncKey = Annotated[bytes, msgspec.Meta(min_length=limits.SYNC_KEY_BYTES, max_length=limits.SYNC_KEY_BYTES)]
OpaqueId = Annotated[str, msgspec.Meta(min_length=1, max_length=limits.MAX_ID_CHARACTERS)]


class EnrolmentCode(msgspec.Struct, frozen=True):
    """What a clinic hands to whoever sets up a device; good once, for a short time.

    Attributes:
        url: The server's base URL: https, no trailing slash, no query.
        secret: Proves that the device was meant, 16 to 64 random bytes.
        ca_sha256: SHA-256 of the DER of the authority that the server's certificate comes from, 32 bytes.
    """

    url: str
    secret: bytes
    ca_sha256: bytes

    def __repr__(self) -> str:
        return f"EnrolmentCode(url={self.url!r})"


class EnrolRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """JSON body of POST /v1/enrol.

    Attributes:
        secret: Of the code.
        public_key: The device's new Ed25519 key, 32 bytes.
        proof: Its signature over ``proof_message``, 64 bytes.
    """

    secret: Secret
    public_key: PublicKey
    proof: Signature

    def __repr__(self) -> str:
        return "EnrolRequest()"


class EnrolResponse(msgspec.Struct, frozen=True, kw_only=True):
    """JSON body of its 200 answer; a newer server may add members.

    Attributes:
        device_id: UUID, the ``keyid`` of the device's requests.
        device_alias: Small integer, part of every row's identity.
        sync_key: Key of the device's digests, 32 bytes.
        tenant: Opaque tenant id.
        patient_id: Opaque patient id.
        server_time_ms: The server's clock, ms since 1970.
    """

    device_id: OpaqueId
    device_alias: Annotated[int, msgspec.Meta(ge=0, le=limits.MAX_DEVICE_ALIAS)]
    sync_key: SyncKey
    tenant: OpaqueId
    patient_id: OpaqueId
    server_time_ms: Annotated[int, msgspec.Meta(ge=0, le=limits.MAX_TIME_MS)]

    def __repr__(self) -> str:
        return f"EnrolResponse(device_id={self.device_id!r}, device_alias={self.device_alias})"


def format_code(code: EnrolmentCode) -> str:
    """Return the text of a code, fit for a QR code and for copying.

    Raises:
        CodeMalformed: The URL is no base URL over https, or secret or fingerprint is of the wrong length.
    """
    _check(code)
    content = bytes((len(code.secret),)) + code.secret + code.ca_sha256 + code.url.encode("ascii")
    packed = base64.urlsafe_b64encode(content + _checksum(content)).rstrip(b"=")
    return CODE_PREFIX + packed.decode("ascii")


def parse_code(text: str) -> EnrolmentCode:
    """Return the code whose text this is.

    Raises:
        CodeMalformed: It is none, or was not copied whole.
    """
    if not text.startswith(CODE_PREFIX) or len(text) > limits.MAX_CODE_CHARACTERS:
        raise CodeMalformed(f"an enrolment code begins with {CODE_PREFIX}")
    content = _unpack(text[len(CODE_PREFIX) :])
    secret_end = 1 + content[0]
    url_start = secret_end + limits.DIGEST_BYTES
    try:
        url = content[url_start:].decode("ascii")
    except UnicodeDecodeError as problem:
        raise CodeMalformed("the enrolment code holds no address") from problem
    code = EnrolmentCode(url=url, secret=content[1:secret_end], ca_sha256=content[secret_end:url_start])
    _check(code)
    return code


def proof_message(secret: bytes, public_key: bytes, url: str) -> bytes:
    """Return the bytes that the device's new key signs: it holds the key, meant this server, and had this code.

    Args:
        secret: Of the code.
        public_key: The new Ed25519 key, 32 bytes.
        url: Of the code.

    Raises:
        CodeMalformed: The URL is not ASCII, or the secret too long.
    """
    if not url.isascii() or len(secret) > limits.MAX_SECRET_BYTES:
        raise CodeMalformed("the enrolment code holds no address, or an overlong secret")
    return PROOF_LABEL + bytes((len(secret),)) + secret + public_key + url.encode("ascii")


def _unpack(packed: str) -> bytes:
    """Return a code's content, its checksum and its one spelling checked."""
    try:
        octets = base64.b64decode(packed + "=" * (-len(packed) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as problem:
        raise CodeMalformed("the enrolment code was not copied whole") from problem
    content, check = octets[:-_CHECK_BYTES], octets[-_CHECK_BYTES:]
    spelled = base64.urlsafe_b64encode(octets).rstrip(b"=").decode("ascii")
    if not content or check != _checksum(content) or spelled != packed:
        raise CodeMalformed("the enrolment code was not copied whole")
    return content


def _checksum(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()[:_CHECK_BYTES]


def _check(code: EnrolmentCode) -> None:
    if not limits.MIN_SECRET_BYTES <= len(code.secret) <= limits.MAX_SECRET_BYTES:
        raise CodeMalformed(f"the secret is not {limits.MIN_SECRET_BYTES} to {limits.MAX_SECRET_BYTES} bytes long")
    if len(code.ca_sha256) != limits.DIGEST_BYTES:
        raise CodeMalformed(f"the authority's fingerprint is not {limits.DIGEST_BYTES} bytes long")
    if len(code.url) > limits.MAX_URL_CHARACTERS or not _URL.fullmatch(code.url):
        raise CodeMalformed("the address is no https URL without trailing slash, user, query or fragment")
