"""What tus 1.0.0 asks of a request, and of an upload's state. Pure (https://tus.io/protocols/resumable-upload).

Core, and the extensions creation, creation-with-upload, expiration, checksum and termination. It deliberately leaves
out: deferred lengths and concatenation, for a chunk is whole before it is sent; and ``X-HTTP-Method-Override``, which
is refused, because a device's signature covers the method of the request line.

Invariants:
    1. An upload's offset is its length only once all of it was verified and is kept.
    2. A request is refused before its body is read wherever its head shows that it must be.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from email.utils import formatdate
from typing import Final, NamedTuple

from einthoven_protocol.signal_chunks import CHUNK_NAME_BYTES
from einthoven_protocol.signal_parcels import MAX_PARCEL_BYTES
from einthoven_server.errors import (
    ChecksumMismatch,
    Conflict,
    Gone,
    Malformed,
    PreconditionFailed,
    TooLarge,
    UnsupportedMedia,
)

VERSION: Final = "1.0.0"
EXTENSIONS: Final = "creation,creation-with-upload,expiration,checksum,termination"
CHECKSUMS: Final = {"sha1": hashlib.sha1, "sha256": hashlib.sha256}
"""tus asks for SHA-1 at least; it is against accidents only, a chunk's own name is SHA-256."""
CONTENT_TYPE: Final = "application/offset+octet-stream"
MAX_SIZE_BYTES: Final = MAX_PARCEL_BYTES

_CHUNK_KEY: Final = "chunk"
_MAX_NUMBER_DIGITS: Final = 12


class Upload(NamedTuple):
    """An upload as far as it came.

    Attributes:
        upload_id: Opaque, part of its address.
        device_alias: Whose it is.
        chunk: Name of the chunk in it, 32 bytes.
        length: Bytes that it will have.
        offset: Bytes that are durable.
        expires_at_ms: When it is given up, ms since 1970.
    """

    upload_id: str
    device_alias: int
    chunk: bytes
    length: int
    offset: int
    expires_at_ms: int

    @property
    def whole(self) -> bool:
        """Whether it was verified and is kept."""
        return self.offset == self.length


class Creation(NamedTuple):
    """What a POST asks for."""

    length: int
    chunk: bytes


class Checksum(NamedTuple):
    """What a body was declared to hash to."""

    algorithm: str
    digest: bytes

    def check(self, body: bytes) -> None:
        """Refuse another body.

        Raises:
            ChecksumMismatch: It is another.
        """
        if not hmac.compare_digest(CHECKSUMS[self.algorithm](body).digest(), self.digest):
            raise ChecksumMismatch("the body has another checksum than declared", "send it again from the same offset")


def check_version(headers: Mapping[str, str]) -> None:
    """Refuse another version of tus, and a method that was not signed.

    Raises:
        PreconditionFailed: It is another, or none.
        Malformed: The method is to be overridden.
    """
    if headers.get("Tus-Resumable") != VERSION:
        raise PreconditionFailed(f"Tus-Resumable is not {VERSION}", f"speak tus {VERSION}")
    if "X-HTTP-Method-Override" in headers:
        raise Malformed("X-HTTP-Method-Override is not taken", "send the method itself, which the signature covers")


def creation_of(headers: Mapping[str, str]) -> Creation:
    """Read the head of a POST.

    Raises:
        Malformed: It names no length or no chunk.
        TooLarge: The upload would be over ``MAX_SIZE_BYTES``.
    """
    if "Upload-Defer-Length" in headers:
        raise Malformed("Upload-Defer-Length is not taken", "send Upload-Length")
    length = _number(headers, "Upload-Length")
    if length > MAX_SIZE_BYTES:
        raise TooLarge(f"an upload is over {MAX_SIZE_BYTES} bytes", "send one chunk at a time")
    if length == 0:
        raise Malformed("an upload has no bytes", "send a chunk")
    return Creation(length, _chunk_of(headers.get("Upload-Metadata", "")))


def offset_of(headers: Mapping[str, str], content_type: str) -> int:
    """Read the head of a PATCH.

    Raises:
        Malformed: There is no offset.
        UnsupportedMedia: Another content type.
    """
    check_type(content_type)
    return _number(headers, "Upload-Offset")


def check_type(content_type: str) -> None:
    """Refuse a body of another type.

    Raises:
        UnsupportedMedia: It is another.
    """
    if content_type != CONTENT_TYPE:
        raise UnsupportedMedia("the content type is not what this address takes", f"send {CONTENT_TYPE}")


def checksum_of(headers: Mapping[str, str]) -> Checksum | None:
    """Read Upload-Checksum, if there is one.

    Raises:
        Malformed: It is of no known form or algorithm.
    """
    given = headers.get("Upload-Checksum")
    if given is None:
        return None
    algorithm, _, encoded = given.partition(" ")
    try:
        digest = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Malformed("Upload-Checksum is not base64", "see https://tus.io") from error
    if algorithm not in CHECKSUMS or len(digest) != CHECKSUMS[algorithm]().digest_size:
        raise Malformed("Upload-Checksum is of no known form", f"send one of {', '.join(CHECKSUMS)}")
    return Checksum(algorithm, digest)


def check_alive(upload: Upload, now_ms: int) -> None:
    """Refuse an expired upload.

    Raises:
        Gone: It expired.
    """
    if now_ms >= upload.expires_at_ms:
        raise Gone("this upload expired", "begin a new one")


def check_append(upload: Upload, offset: int, n_bytes: int) -> None:
    """Refuse bytes that do not go on where the upload stands.

    Raises:
        Conflict: They begin elsewhere.
        TooLarge: They go beyond its length.
    """
    if offset != upload.offset:
        raise Conflict("the upload stands at another offset", "ask for it with HEAD")
    if n_bytes > upload.length - upload.offset:
        raise TooLarge("the body goes beyond the length of the upload", "send what is left of it")


def state_headers(upload: Upload) -> dict[str, str]:
    """The headers that say how far an upload is."""
    expires = {} if upload.whole else {"Upload-Expires": formatdate(upload.expires_at_ms // 1000, usegmt=True)}
    return {"Upload-Offset": str(upload.offset), "Upload-Length": str(upload.length), **expires}


def option_headers() -> dict[str, str]:
    """What an OPTIONS request is told."""
    return {
        "Tus-Version": VERSION,
        "Tus-Extension": EXTENSIONS,
        "Tus-Max-Size": str(MAX_SIZE_BYTES),
        "Tus-Checksum-Algorithm": ",".join(CHECKSUMS),
    }


def _number(headers: Mapping[str, str], name: str) -> int:
    text = headers.get(name, "")
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_NUMBER_DIGITS):
        raise Malformed(f"{name} is missing, or no number of bytes", "see https://tus.io")
    return int(text)


def _chunk_of(metadata: str) -> bytes:
    for pair in metadata.split(","):
        key, _, value = pair.strip().partition(" ")
        if key == _CHUNK_KEY:
            try:
                name = base64.b64decode(value, validate=True)
            except (binascii.Error, ValueError):
                break
            if len(name) == CHUNK_NAME_BYTES:
                return name
    raise Malformed("Upload-Metadata names no chunk", "send 'chunk' and the base64 of its SHA-256")
