"""What the authority signs over a document: settings, models and consents that the server decides for a device.

It deliberately signs nothing and checks no signature: it gives the bytes, keys stay with their holders.

Invariants:
    1. Two documents that differ in anything, or are for different tenants or patients, have different bytes.
    2. No other message that the authority signs begins like these.
"""

from __future__ import annotations

import struct
from typing import Final

from einthoven_protocol import limits
from einthoven_protocol.checks import prefixed, require_range, text_octets
from einthoven_protocol.errors import OutOfRange

DOCUMENT_LABEL: Final = b"einthoven document 1\0"
"""Domain separation."""
_NUMBERS: Final = struct.Struct(">IQI")


def signed_bytes(tenant: str, patient_id: str, name: str, version: int, issued_at_ms: int, body: bytes) -> bytes:
    """Return the bytes that the authority signs with ECDSA on P-256 and SHA-256.

    Args:
        tenant: Whose server it is.
        patient_id: Whose document; empty for one of the whole tenant.
        name: Its name.
        version: From 1.
        issued_at_ms: UTC, ms since 1970.
        body: Its bytes.

    Raises:
        OutOfRange: A value is outside its range.
    """
    require_range("version", version, 1, limits.MAX_DOCUMENT_VERSION)
    require_range("issued_at_ms", issued_at_ms, 0, limits.MAX_TIME_MS)
    if len(body) > limits.MAX_DOCUMENT_BYTES:
        raise OutOfRange(f"a document is over {limits.MAX_DOCUMENT_BYTES} bytes")
    return b"".join(
        (
            DOCUMENT_LABEL,
            prefixed(text_octets("tenant", tenant, limits.MAX_ID_CHARACTERS)),
            prefixed(text_octets("patient_id", patient_id, limits.MAX_ID_CHARACTERS)),
            prefixed(name_octets(name)),
            _NUMBERS.pack(version, issued_at_ms, len(body)),
            body,
        )
    )


def name_octets(name: str) -> bytes:
    """Return the UTF-8 bytes of a document's name.

    Raises:
        OutOfRange: Empty, too long, or text that can't be kept.
    """
    if not name:
        raise OutOfRange("a document has no name")
    return text_octets("name", name, limits.MAX_DOCUMENT_NAME_CHARACTERS)
