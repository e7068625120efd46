"""Bytes of the two messages of an exchange, and of the rows in them (docs/sync-protocol-v1.md has the tables).

It deliberately holds no code of its own: ``request_codec`` and ``response_codec`` are what it gathers.

Invariants:
    1. ``decode(encode(message)) == message``. Unlike a row's, a message's bytes are not unique: never hash them.
    2. Decoding raises only ``ProtocolError``, and holds no more than a few times ``limits.MAX_DECODED_BYTES``.
    3. Results in a message have contiguous, ascending counters; a seal's run lies within them when there are any.
    4. Fields, and columns below ``limits.MIN_EXTRA_NUMBER``, with unknown numbers are skipped, and never take part in a
       row's canonical bytes. Columns from there on, and registers, that a newer version added to results, annotations
       and notes stay with their rows, in formats of their own.
"""

from __future__ import annotations

from typing import Final

from einthoven_protocol.canonical import (
    decode_annotation_row,
    decode_result_row,
    encode_annotation_row,
    encode_result_row,
)
from einthoven_protocol.request_codec import decode_request, encode_request
from einthoven_protocol.response_codec import decode_response, encode_response

__all__ = [
    "CONTENT_TYPE",
    "decode_annotation_row",
    "decode_request",
    "decode_response",
    "decode_result_row",
    "encode_annotation_row",
    "encode_request",
    "encode_response",
    "encode_result_row",
]

CONTENT_TYPE: Final = "application/vnd.einthoven.sync"
"""Media type of both messages."""
