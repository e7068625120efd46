"""The canonical bytes of a row: what is hashed, sealed, summed and stored. Independent of how a row travels.

They deliberately hold neither device nor epoch of a result (its hash inputs prefix them) nor any compression.

Layout, all integers big-endian (docs/sync-protocol-v1.md, canonical rows); a text is its UTF-8 length as u16, then the
bytes; ``columns`` and ``registers`` are what a newer version added (``extras``):

    result      0x01 counter:u32 started_at_ms:u64 duration_ms:u32 n_steps:u16 usable_s:u16 quality:u16 rhythm:u8
                confidence_permille:u16 logits:4xi32 tier:u8 reason:u8 front_end_version:u16 model_digest:32
                0x03, the same, columns            if there are any
    annotation  0x02 device_alias:u32 epoch:u32 counter:u32 author:text rhythm_hlc:u64 rhythm:text comment_hlc:u64
                comment:text
                0x04, the same, registers          if there are any
    note        0x05 device_alias:u32 epoch:u32 counter:u32 author:text at_ms:u64 text:text columns
    superseded  0x06 device_alias:u32 epoch:u32 counter:u32 author:text field:u8 hlc:u64 value:text

Invariants:
    1. ``decode(encode(row)) == row`` and ``encode(decode(octets)) == octets``: one row, one encoding.
    2. Every value is checked against ``limits`` in both directions.
    3. Text is Unicode without lone surrogates and without U+0000 (SQL text can't hold it). It is not normalised.
    4. Decoding raises only ``ProtocolError``.
"""

from __future__ import annotations

from einthoven_protocol.canonical_results import (
    EXTENDED_RESULT_FORMAT,
    MAX_RESULT_ROW_BYTES,
    RESULT_RANGES,
    decode_result_row,
    decode_result_rows,
    encode_result_row,
    encode_result_rows,
)
from einthoven_protocol.canonical_words import (
    ANNOTATION_FORMAT,
    EXTENDED_ANNOTATION_FORMAT,
    NOTE_FORMAT,
    SUPERSEDED_FORMAT,
    decode_annotation_row,
    decode_note_row,
    decode_superseded_row,
    encode_annotation_row,
    encode_note_row,
    encode_superseded_row,
)
from einthoven_protocol.checks import author_octets, require_length, require_range, text_from, text_octets
from einthoven_protocol.packed_results import RESULT_FORMAT, RESULT_ROW_BYTES

__all__ = [
    "ANNOTATION_FORMAT",
    "EXTENDED_ANNOTATION_FORMAT",
    "EXTENDED_RESULT_FORMAT",
    "MAX_RESULT_ROW_BYTES",
    "NOTE_FORMAT",
    "RESULT_FORMAT",
    "RESULT_RANGES",
    "RESULT_ROW_BYTES",
    "SUPERSEDED_FORMAT",
    "author_octets",
    "decode_annotation_row",
    "decode_note_row",
    "decode_result_row",
    "decode_result_rows",
    "decode_superseded_row",
    "encode_annotation_row",
    "encode_note_row",
    "encode_result_row",
    "encode_result_rows",
    "encode_superseded_row",
    "require_length",
    "require_range",
    "text_from",
    "text_octets",
]
