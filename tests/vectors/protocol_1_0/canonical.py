"""The canonical bytes of a row: what is hashed, sealed, summed and stored. Independent of how a row travels.

They deliberately hold neither device nor epoch of a result (its hash inputs prefix them) nor any compression.

Layout, all integers big-endian (docs/sync-protocol-v1.md, canonical rows):

    result      0x01 counter:u32 started_at_ms:u64 duration_ms:u32 n_steps:u16 usable_s:u16 quality:u16 rhythm:u8
                confidence_permille:u16 logits:4xi32 tier:u8 reason:u8 front_end_version:u16 model_digest:32
    annotation  0x02 device_alias:u32 epoch:u32 counter:u32 author:text rhythm_hlc:u64 rhythm:text comment_hlc:u64
                comment:text          where text is its UTF-8 length as u16, then the bytes

Invariants:
    1. ``decode(encode(row)) == row`` and ``encode(decode(octets)) == octets``: one row, one encoding.
    2. Every value is checked against ``limits`` in both directions.
    3. Text is Unicode without lone surrogates and without U+0000 (SQL text can't hold it). It is not normalised.
    4. Decoding raises only ``ProtocolError``.
"""

from __future__ import annotations

import struct
from typing import Final, NoReturn

from tests.vectors.protocol_1_0 import limits
from tests.vectors.protocol_1_0.errors import DecodeError, OutOfRange
from tests.vectors.protocol_1_0.messages import AnnotationRow, Register, ResultId, ResultRow

RESULT_FORMAT: Final = 1
ANNOTATION_FORMAT: Final = 2

_RESULT: Final = struct.Struct(">BIQIHHHBH4iBBH32s")
_TARGET: Final = struct.Struct(">BIII")
_TEXT_LENGTH: Final = struct.Struct(">H")
_HLC: Final = struct.Struct(">Q")

RESULT_ROW_BYTES: Final = _RESULT.size

RESULT_RANGES: Final = {
    "counter": (1, limits.MAX_COUNTER),
    "started_at_ms": (0, limits.MAX_TIME_MS),
    "duration_ms": (0, limits.MAX_DURATION_MS),
    "n_steps": (0, limits.MAX_STEPS),
    "usable_s": (0, limits.MAX_USABLE_S),
    "quality": (0, limits.MAX_QUALITY),
    "rhythm": (0, limits.MAX_ENUM),
    "confidence_permille": (0, limits.MAX_CONFIDENCE_PERMILLE),
    "tier": (0, limits.MAX_ENUM),
    "reason": (0, limits.MAX_ENUM),
    "front_end_version": (0, limits.MAX_FRONT_END_VERSION),
}
"""Smallest and largest value of a result's integer fields; logits are 32 bits, signed."""


def encode_result_row(row: ResultRow) -> bytes:
    """Return the canonical bytes of a result, ``RESULT_ROW_BYTES`` long.

    Raises:
        OutOfRange: A value is outside its range.
    """
    # One chained test for the rows that are fine, which is all of them; the slow path only finds the field to name.
    if not (
        1 <= row.counter <= limits.MAX_COUNTER
        and 0 <= row.started_at_ms <= limits.MAX_TIME_MS
        and 0 <= row.duration_ms <= limits.MAX_DURATION_MS
        and 0 <= row.n_steps <= limits.MAX_STEPS
        and 0 <= row.usable_s <= limits.MAX_USABLE_S
        and 0 <= row.quality <= limits.MAX_QUALITY
        and 0 <= row.confidence_permille <= limits.MAX_CONFIDENCE_PERMILLE
        and 0 <= row.front_end_version <= limits.MAX_FRONT_END_VERSION
        and len(row.model_digest) == limits.DIGEST_BYTES
    ):
        _name_bad_field(row)
    try:
        return _RESULT.pack(
            RESULT_FORMAT,
            row.counter,
            row.started_at_ms,
            row.duration_ms,
            row.n_steps,
            row.usable_s,
            row.quality,
            row.rhythm,
            row.confidence_permille,
            *row.logits,
            row.tier,
            row.reason,
            row.front_end_version,
            row.model_digest,
        )
    except struct.error:
        _name_bad_field(row)


def decode_result_row(octets: bytes) -> ResultRow:
    """Return the result whose canonical bytes these are.

    Raises:
        ProtocolError: They are none.
    """
    if len(octets) != _RESULT.size or octets[0] != RESULT_FORMAT:
        raise DecodeError(f"a result row is {_RESULT.size} bytes and begins with {RESULT_FORMAT}")
    _, counter, started, duration, steps, usable, quality, rhythm, confidence, *rest = _RESULT.unpack(octets)
    l0, l1, l2, l3, tier, reason, front_end, model = rest
    row = ResultRow(
        counter=counter,
        started_at_ms=started,
        duration_ms=duration,
        n_steps=steps,
        usable_s=usable,
        quality=quality,
        rhythm=rhythm,
        confidence_permille=confidence,
        logits=(l0, l1, l2, l3),
        tier=tier,
        reason=reason,
        model_digest=model,
        front_end_version=front_end,
    )
    encode_result_row(row)  # the ranges are narrower than the fields' widths
    return row


def _name_bad_field(row: ResultRow) -> NoReturn:
    for name, (low, high) in RESULT_RANGES.items():
        require_range(name, getattr(row, name), low, high)
    if len(row.logits) != 4:
        raise OutOfRange(f"logits are 4 integers, got {len(row.logits)}")
    for logit in row.logits:
        require_range("logit", logit, limits.MIN_LOGIT, limits.MAX_LOGIT)
    require_length("model_digest", row.model_digest, limits.DIGEST_BYTES)
    raise OutOfRange("a field of the result row is of the wrong type")


def encode_annotation_row(row: AnnotationRow) -> bytes:
    """Return the canonical bytes of an annotation.

    Raises:
        OutOfRange: A value is outside its range.
    """
    target = row.target
    require_range("device_alias", target.device_alias, 0, limits.MAX_DEVICE_ALIAS)
    require_range("epoch", target.epoch, 1, limits.MAX_EPOCH)
    require_range("counter", target.counter, 1, limits.MAX_COUNTER)
    require_range("rhythm hlc", row.rhythm.hlc, 0, limits.MAX_HLC)
    require_range("comment hlc", row.comment.hlc, 0, limits.MAX_HLC)
    return b"".join(
        (
            _TARGET.pack(ANNOTATION_FORMAT, target.device_alias, target.epoch, target.counter),
            _prefixed(author_octets(row.author)),
            _HLC.pack(row.rhythm.hlc),
            _prefixed(text_octets("rhythm", row.rhythm.value, limits.MAX_RHYTHM_CHARACTERS)),
            _HLC.pack(row.comment.hlc),
            _prefixed(text_octets("comment", row.comment.value, limits.MAX_COMMENT_CHARACTERS)),
        )
    )


def decode_annotation_row(octets: bytes) -> AnnotationRow:
    """Return the annotation whose canonical bytes these are.

    Raises:
        ProtocolError: They are none.
    """
    try:
        kind, alias, epoch, counter = _TARGET.unpack_from(octets)
        author, at = _text_at(octets, _TARGET.size)
        (rhythm_hlc,) = _HLC.unpack_from(octets, at)
        rhythm, at = _text_at(octets, at + _HLC.size)
        (comment_hlc,) = _HLC.unpack_from(octets, at)
        comment, at = _text_at(octets, at + _HLC.size)
    except struct.error as problem:
        raise DecodeError("the annotation row is cut off") from problem
    if kind != ANNOTATION_FORMAT or at != len(octets):
        raise DecodeError(f"an annotation row begins with {ANNOTATION_FORMAT} and ends with its comment")
    row = AnnotationRow(
        target=ResultId(alias, epoch, counter),
        author=author,
        rhythm=Register(rhythm, rhythm_hlc),
        comment=Register(comment, comment_hlc),
    )
    encode_annotation_row(row)
    return row


def require_range(name: str, value: int, low: int, high: int) -> None:
    """Refuse an integer outside ``low`` to ``high``; the message names the field, not the value.

    Raises:
        OutOfRange: It is outside, or no integer.
    """
    # A caller that is not type-checked may bring anything; the wire must not.
    if not isinstance(value, int) or not low <= value <= high:  # type: ignore[redundant-expr]
        raise OutOfRange(f"{name} is outside {low} to {high}")


def require_length(name: str, octets: bytes, length: int) -> None:
    """Refuse bytes of another length.

    Raises:
        OutOfRange: They are of another length, or no bytes.
    """
    if not isinstance(octets, bytes) or len(octets) != length:  # type: ignore[redundant-expr]
        raise OutOfRange(f"{name} is not {length} bytes long")


def author_octets(author: str) -> bytes:
    """Return an author's UTF-8 bytes.

    Raises:
        OutOfRange: Empty, too long, or text that can't be kept.
    """
    if not author:
        raise OutOfRange("an annotation has no author")
    return text_octets("author", author, limits.MAX_AUTHOR_CHARACTERS)


def text_octets(name: str, text: str, max_characters: int) -> bytes:
    """Return a text's UTF-8 bytes.

    Raises:
        OutOfRange: It is too long, or holds U+0000 or a lone surrogate.
    """
    if len(text) > max_characters:
        raise OutOfRange(f"{name} is longer than {max_characters} characters")
    if "\0" in text:
        raise OutOfRange(f"{name} holds the character U+0000")
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        # `from None`: the cause would carry the text itself, which is a clinician's.
        raise OutOfRange(f"{name} holds a lone surrogate") from None


def _prefixed(octets: bytes) -> bytes:
    return _TEXT_LENGTH.pack(len(octets)) + octets


def _text_at(octets: bytes, at: int) -> tuple[str, int]:
    (length,) = _TEXT_LENGTH.unpack_from(octets, at)
    start = at + _TEXT_LENGTH.size
    end = start + length
    if end > len(octets):
        raise DecodeError("the annotation row is cut off")
    return text_from(octets[start:end]), end


def text_from(octets: bytes) -> str:
    """Return the text whose UTF-8 these are.

    Raises:
        DecodeError: They are not UTF-8.
    """
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        raise DecodeError("a text is not UTF-8") from None
