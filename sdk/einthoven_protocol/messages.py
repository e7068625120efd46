"""The messages of the sync protocol, version 1, under one name: rows, the exchange's messages, the repair's.

It deliberately defines nothing but the version.
"""

from __future__ import annotations

from einthoven_protocol.exchange_messages import (
    AnnotationVerdict,
    BucketDigest,
    BucketKind,
    Capability,
    Cursor,
    Digest,
    ExchangeRequest,
    ExchangeResponse,
    Owner,
    RejectReason,
    RowVerdict,
    ServerLimits,
    VerdictCode,
)
from einthoven_protocol.repair_messages import RepairRequest, RepairResponse, Run
from einthoven_protocol.rows import (
    AnnotationRow,
    Document,
    Extra,
    Field,
    FurtherRegister,
    IdentifiedResult,
    NoteRow,
    Register,
    ResultId,
    ResultRow,
    RowKind,
    Seal,
    Superseded,
    Tombstone,
)

PROTOCOL_VERSION = 1

__all__ = [
    "PROTOCOL_VERSION",
    "AnnotationRow",
    "AnnotationVerdict",
    "BucketDigest",
    "BucketKind",
    "Capability",
    "Cursor",
    "Digest",
    "Document",
    "ExchangeRequest",
    "ExchangeResponse",
    "Extra",
    "Field",
    "FurtherRegister",
    "IdentifiedResult",
    "NoteRow",
    "Owner",
    "Register",
    "RejectReason",
    "RepairRequest",
    "RepairResponse",
    "ResultId",
    "ResultRow",
    "RowKind",
    "RowVerdict",
    "Run",
    "Seal",
    "ServerLimits",
    "Superseded",
    "Tombstone",
    "VerdictCode",
]
