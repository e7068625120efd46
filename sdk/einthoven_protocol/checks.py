"""Ranges, lengths and texts: what every value is held to, on its way in and out.

They deliberately name fields and limits in an error, never a value.

Invariants:
    1. Text is Unicode without lone surrogates and without U+0000 (SQL text can't hold it). It is not normalised.
    2. A canonical text is the length of its UTF-8 as u16, then the bytes.
"""

from __future__ import annotations

import struct
from typing import Final

from einthoven_protocol import limits
from einthoven_protocol.errors import DecodeError, OutOfRange

_TEXT_LENGTH: Final = struct.Struct(">H")


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


def text_from(octets: bytes) -> str:
    """Return the text whose UTF-8 these are.

    Raises:
        DecodeError: They are not UTF-8.
    """
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        raise DecodeError("a text is not UTF-8") from None


def prefixed(octets: bytes) -> bytes:
    """Return the canonical bytes of a text, given its UTF-8."""
    return _TEXT_LENGTH.pack(len(octets)) + octets


def text_at(octets: bytes, at: int) -> tuple[str, int]:
    """Return the text whose canonical bytes lie at a place, and the place behind them.

    Raises:
        DecodeError: It is cut off, or not UTF-8.
        struct.error: Its length is cut off.
    """
    (length,) = _TEXT_LENGTH.unpack_from(octets, at)
    start = at + _TEXT_LENGTH.size
    end = start + length
    if end > len(octets):
        raise DecodeError("the row is cut off")
    return text_from(octets[start:end]), end
