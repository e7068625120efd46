"""Ids of a result where FHIR wants one: UUIDs (RFC 9562, version 8), computed from its identity and back. Pure.

They are no secret and deliberately hide nothing: who may read a result is decided when it is read. Because the id leads
back to the result, no database needs a column or an index for it.

Layout, from the most significant bit, around the version's 4 and the variant's 2 bits: device_alias 31, epoch 31,
counter 31, check 29. The check is the first 29 bits of SHA-256 over a label, the kind, the identity and the tenant.

Invariants:
    1. ``result_of(tenant, resource_id(tenant, result, kind), kind) == result``.
    2. An id of another tenant or kind, or one that was made up, leads nowhere (but for chance, 2**-29).
"""

from __future__ import annotations

import hashlib
import struct
import uuid
from typing import Final

from einthoven_protocol import limits
from einthoven_protocol.messages import ResultId

_LABEL: Final = b"einthoven fhir id 1\0"
_IDENTITY: Final = struct.Struct(">III")
_PART_BITS: Final = 31
_CHECK_BITS: Final = 29
_LOW_BITS: Final = 62
_MIDDLE_BITS: Final = 12
_VERSION: Final = 8
_VARIANT: Final = 0b10


def resource_id(tenant: str, result: ResultId, kind: str) -> uuid.UUID:
    """Return the FHIR id of a result.

    Args:
        tenant: Whose server; empty for a device that was never enrolled.
        result: The result.
        kind: What it becomes, a FHIR resource type.
    """
    identity = _IDENTITY.pack(result.device_alias, result.epoch, result.counter)
    hashed = hashlib.sha256(_LABEL + kind.encode() + b"\0" + identity + tenant.encode()).digest()
    check = int.from_bytes(hashed[:4], "big") >> (32 - _CHECK_BITS)
    content = 0
    for part in (result.device_alias, result.epoch, result.counter):
        content = content << _PART_BITS | part
    content = content << _CHECK_BITS | check
    high = content >> (_MIDDLE_BITS + _LOW_BITS)
    middle = content >> _LOW_BITS & ((1 << _MIDDLE_BITS) - 1)
    low = content & ((1 << _LOW_BITS) - 1)
    return uuid.UUID(int=high << 80 | _VERSION << 76 | middle << 64 | _VARIANT << _LOW_BITS | low)


def result_of(tenant: str, resource: uuid.UUID, kind: str) -> ResultId | None:
    """Return the result that ``resource_id`` gives this id for, if any."""
    number = resource.int
    content = (number >> 80) << _MIDDLE_BITS | number >> 64 & ((1 << _MIDDLE_BITS) - 1)
    content = content << _LOW_BITS | number & ((1 << _LOW_BITS) - 1)
    content >>= _CHECK_BITS
    mask = (1 << _PART_BITS) - 1
    alias, epoch, counter = content >> 2 * _PART_BITS, content >> _PART_BITS & mask, content & mask
    if not (alias <= limits.MAX_DEVICE_ALIAS and epoch and counter):
        return None
    result = ResultId(alias, epoch, counter)
    return result if resource_id(tenant, result, kind) == resource else None
