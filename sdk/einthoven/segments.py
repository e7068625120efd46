"""A stretch of raw signal as bytes: what is hashed, and what is stored.

Two forms, on purpose. The canonical form is what the SHA-256 of a segment is taken over; it is plain, so that an
auditor can rebuild it in any language. The stored form is compressed, names its codec in its first byte, and may
change from version to version without changing a single digest.

Canonical form, little endian: version (uint8, 1), rate numerator and denominator (uint32 each), n (uint32),
n samples (int32, microvolts).

Stored form: codec id (uint8), then by codec

1. rate numerator and denominator (uint32 each), n (uint32), body of ``segment_zstd``;
2. checksum (the first 8 bytes of the SHA-256 of all other bytes), rate numerator and denominator, n (varints), block
   of ``segment_pcodec``;
3. the same, with a block that is coded by activity (``segment_activity``).

Codec 3 is written where it is shorter than 2, ADR 8 says why; codec 1 where pcodec is not to be had, or does not give a
segment back. All are read. The checksum is against accidents, and there so that pcodec's native code is never shown
damaged bytes; what an intruder may not change is under the store's encryption and the segment's digest.

It deliberately keeps no digest, no time and no patient, reads no file, and makes nothing of ``MISSING_UV``: to the
canonical form that is a sample like any other.

Invariants:
    1. ``decode_segment(encode_segment(s))`` equals ``s``, bit for bit, for every int32 value.
    2. ``decode_segment`` raises only ``RecordFormatError``, whatever the bytes, and claims memory in proportion to
       ``MAX_SEGMENT_SAMPLES`` at most: a length is checked before anything is made of it.
    3. A decoded segment's samples are read-only.
    4. A codec id is never reused.
    5. A stored form of codec 2 or 3 with one wrong byte is refused before its body is looked at.
"""

from __future__ import annotations

import hashlib
import struct
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from einthoven import segment_zstd
from einthoven.errors import RecordFormatError
from einthoven.ports import Segment
from einthoven.segment_fields import CHECKSUM_BYTES, FieldReader, checksum, damaged, varints
from einthoven.segment_pcodec import BY_ACTIVITY, decode_block, encode_block
from einthoven.segment_pcodec_library import PcodecUnavailable

MAX_SEGMENT_SAMPLES: Final = 120_000
"""Samples in one segment: two minutes at 1000 Hz, four times the longest window."""
MAX_SEGMENT_BYTES: Final = 4 * MAX_SEGMENT_SAMPLES + 4_096
"""Bytes of one stored segment; neither codec adds as much as 4,096 bytes."""
SEGMENT_DIGEST_BYTES: Final = 32
"""Bytes of a SHA-256."""

_CANONICAL_VERSION: Final = 1
_CODEC_ZSTD: Final = 1
_CODEC_PCODEC: Final = 2
_CODEC_ACTIVITY: Final = 3
_HEADER: Final = struct.Struct("<BIII")
_MAX_UINT32: Final = 2**32 - 1


def segment_digest(segment: Segment) -> bytes:
    """SHA-256 of the canonical form, 32 bytes.

    Raises:
        ValueError: The segment is over a limit, see ``encode_segment``.
    """
    return hashlib.sha256(canonical_segment(segment)).digest()


def canonical_segment(segment: Segment) -> bytes:
    """Return the canonical form.

    Raises:
        ValueError: The segment is over a limit, see ``encode_segment``.
    """
    samples_uv = _checked(segment)
    return _header(_CANONICAL_VERSION, segment) + np.ascontiguousarray(samples_uv, dtype="<i4").tobytes()


def encode_segment(segment: Segment) -> bytes:
    """Return the stored form.

    Raises:
        ValueError: More than ``MAX_SEGMENT_SAMPLES`` samples, samples that are not int32 [n], or a rate that is not
            positive or does not fit two uint32.
    """
    samples_uv = _checked(segment)
    rate = segment.sampling_rate_hz
    try:
        block = encode_block(samples_uv, by_activity=True)
    except PcodecUnavailable:
        return _header(_CODEC_ZSTD, segment) + segment_zstd.packed(samples_uv)
    content = varints([rate.numerator, rate.denominator, len(samples_uv)]) + block
    codec = bytes([_CODEC_ACTIVITY if block[0] == BY_ACTIVITY else _CODEC_PCODEC])
    return codec + checksum(codec + content) + content


def decode_segment(stored: bytes) -> Segment:
    """Read the stored form.

    Raises:
        RecordFormatError: These bytes are not a stored segment, go over a limit, or need a library that is not there.
    """
    if not 1 < len(stored) <= MAX_SEGMENT_BYTES:
        raise damaged(f"it has {len(stored)} bytes, allowed are 2 to {MAX_SEGMENT_BYTES}")
    match stored[0]:
        case 1:
            segment = _decoded_zstd(stored)
        case 2 | 3:
            segment = _decoded_pcodec(stored)
        case codec_id:
            raise RecordFormatError(
                f"a stored segment uses codec {codec_id}, which this version does not know", "update this software"
            )
    segment.samples_uv.flags.writeable = False
    return segment


def _decoded_zstd(stored: bytes) -> Segment:
    if len(stored) <= _HEADER.size:
        raise damaged(f"it has {len(stored)} bytes, its header alone takes {_HEADER.size}")
    _, numerator, denominator, n_samples = _HEADER.unpack_from(stored)
    rate, n_samples = _rate(numerator, denominator), _length(n_samples)
    return Segment(rate, segment_zstd.unpacked(stored[_HEADER.size :], n_samples))


def _decoded_pcodec(stored: bytes) -> Segment:
    content = stored[1 + CHECKSUM_BYTES :]
    if checksum(stored[:1] + content) != stored[1 : 1 + CHECKSUM_BYTES]:
        raise damaged("its checksum is not that of its bytes")
    fields = FieldReader(content)
    rate = _rate(fields.varint(_MAX_UINT32), fields.varint(_MAX_UINT32))
    n_samples = _length(fields.varint(_MAX_UINT32))
    by_activity = stored[0] == _CODEC_ACTIVITY
    return Segment(rate, decode_block(fields.rest(), n_samples, by_activity=by_activity))


def _rate(numerator: int, denominator: int) -> Fraction:
    if numerator == 0 or denominator == 0:
        raise damaged("its sampling rate is not positive")
    rate = Fraction(numerator, denominator)
    if rate.denominator != denominator:
        raise damaged("its sampling rate is not in lowest terms")
    return rate


def _length(n_samples: int) -> int:
    if n_samples > MAX_SEGMENT_SAMPLES:
        raise damaged(f"it claims {n_samples} samples, allowed are {MAX_SEGMENT_SAMPLES}")
    return n_samples


def _checked(segment: Segment) -> NDArray[np.int32]:
    samples_uv = segment.samples_uv
    if samples_uv.dtype != np.int32 or samples_uv.ndim != 1:
        raise ValueError(f"samples_uv must be int32 [n], not {samples_uv.dtype} {list(samples_uv.shape)}")
    if len(samples_uv) > MAX_SEGMENT_SAMPLES:
        raise ValueError(f"a segment has {len(samples_uv)} samples, allowed are {MAX_SEGMENT_SAMPLES}")
    rate = segment.sampling_rate_hz
    if not (0 < rate.numerator <= _MAX_UINT32 and rate.denominator <= _MAX_UINT32):
        raise ValueError("the sampling rate must be positive and fit two 32-bit integers")
    return samples_uv


def _header(first_byte: int, segment: Segment) -> bytes:
    rate = segment.sampling_rate_hz
    return _HEADER.pack(first_byte, rate.numerator, rate.denominator, len(segment.samples_uv))
