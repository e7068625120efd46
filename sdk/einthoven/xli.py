"""XLI, the compression of Philips Sierra XML: bytes -> counts of one lead. Pure.

As published by the reverse engineers of the format (Watford C, sierra-ecg-tools, "XLI Compression in Detail"). A
block of XLI is one chunk a channel, each with an 8-byte little-endian header: uint32 size of the packed bytes, uint16
always 1, int16 the first difference. The packed bytes are LZW codes of 10 bits, most significant bit first, that end
with the code 1023; unpacked they are n 16-bit codes, all high bytes and then all low bytes. The first two codes are
the first two samples; after them a code predicts one sample ahead:

    x[2] = 2 x[1] - x[0] - first
    x[i] = 2 x[i-1] - x[i-2] - (code[i-1] - 64)        for i > 2

It deliberately knows neither XML nor leads, and only unpacks what has the number of samples that it was told.

Invariants:
    1. Nothing is allocated by what a chunk says: sizes are compared with the bytes that are there, and unpacking stops
       at the number of samples that was asked for.
    2. Every sample fits 16 bits, as the format states; one that does not shows damage.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from einthoven.errors import RecordFormatError

CHUNK_HEADER: Final = struct.Struct("<IHh")
CHUNK_MARK: Final = 1
CODE_BITS: Final = 10
END_CODE: Final = 2**CODE_BITS - 1
"""Ends a chunk; so the table ends one entry before it and then stays as it is."""
BYTE_CODES: Final = 256
MAX_CHANNELS: Final = 64
"""Chunks in one block; the format has 12 leads in 16."""
DIFFERENCE_OFFSET: Final = 64
MAX_SLACK_BYTES: Final = 8
"""Bytes a chunk may be longer than its codes need."""


@dataclass(frozen=True, slots=True)
class XliChunk:
    """The packed samples of one channel: the first difference, and the bytes of its LZW codes."""

    first_difference: int
    packed: bytes


def split_chunks(block: bytes) -> list[XliChunk]:
    """Return the chunks of a block, one a channel.

    Raises:
        RecordFormatError: The sizes do not add up to the block, or a header is none.
    """
    chunks: list[XliChunk] = []
    at = 0
    while at < len(block):
        if len(block) - at < CHUNK_HEADER.size or len(chunks) == MAX_CHANNELS:
            raise _damaged()
        size, mark, first_difference = CHUNK_HEADER.unpack_from(block, at)
        at += CHUNK_HEADER.size
        if mark != CHUNK_MARK or size > len(block) - at:
            raise _damaged()
        chunks.append(XliChunk(first_difference, block[at : at + size]))
        at += size
    return chunks


def unpack(chunk: XliChunk, n_samples: int) -> NDArray[np.int64]:
    """Return the counts of one channel, int64 [n_samples], each within 16 bits.

    Args:
        chunk: One of ``split_chunks``.
        n_samples: How many there must be, at least 2.

    Raises:
        RecordFormatError: The chunk does not hold exactly so many samples.
    """
    raw = np.frombuffer(_lzw(chunk.packed, 2 * n_samples), dtype=np.uint8).astype(np.uint16)
    codes = (raw[:n_samples] << 8 | raw[n_samples:]).view(np.int16).astype(np.int64)
    bend = DIFFERENCE_OFFSET - codes  # bend[i] is what sample i + 1 departs from a straight line
    start, slope = codes[0], codes[1] - codes[0]
    steps = np.empty(n_samples, dtype=np.int64)
    steps[0], steps[1] = start, slope
    if n_samples > 2:
        # Sums of sums of 16-bit numbers, over 4,000,000 samples at most: below 2**62.
        departures = np.concatenate([[-chunk.first_difference], bend[2:-1]])
        steps[2:] = slope + np.cumsum(departures)
    counts: NDArray[np.int64] = np.cumsum(steps)
    if counts.max() >= 2**15 or counts.min() < -(2**15):
        raise _damaged()
    return counts


def _lzw(packed: bytes, n_bytes: int) -> bytes:
    """Undo LZW (Welch TA, Computer 1984;17(6):8-19) with a table that is full at ``END_CODE`` and never cleared."""
    if not n_bytes // (END_CODE - BYTE_CODES) <= len(packed) <= n_bytes * 2 + MAX_SLACK_BYTES:
        raise _damaged()  # a code gives 1 to 767 bytes, so this chunk can't hold what it should
    table = [bytes((value,)) for value in range(BYTE_CODES)]
    unpacked = bytearray()
    previous = b""
    for code in _codes(packed):
        if code == END_CODE:
            break
        if code < len(table):
            entry = table[code]
        elif code == len(table) and previous:
            entry = previous + previous[:1]  # the entry that this very code completes
        else:
            raise _damaged()
        unpacked += entry
        if len(unpacked) > n_bytes:
            raise _damaged()
        if previous and len(table) < END_CODE:
            table.append(previous + entry[:1])
        previous = entry
    else:
        raise _damaged()  # no end mark
    if len(unpacked) != n_bytes:
        raise _damaged()
    return bytes(unpacked)


def _codes(packed: bytes) -> list[int]:
    """The 10-bit codes of a byte string, most significant bit first; bits left over are dropped."""
    n_codes = len(packed) * 8 // CODE_BITS
    fives = np.frombuffer(packed + bytes(-len(packed) % 5), dtype=np.uint8).reshape(-1, 5).astype(np.uint16)
    a, b, c, d, e = fives.T
    codes = np.stack([a << 2 | b >> 6, (b & 0x3F) << 4 | c >> 4, (c & 0x0F) << 6 | d >> 2, (d & 0x03) << 8 | e], axis=1)
    unpacked: list[int] = codes.reshape(-1)[:n_codes].tolist()
    return unpacked


def _damaged() -> RecordFormatError:
    return RecordFormatError("the compressed waveform does not hold together", "export the record again")
