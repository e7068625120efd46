"""A stretch of raw signal as bytes: what is hashed, and what is stored.

Two forms, on purpose. The canonical form is what the SHA-256 of a segment is taken over; it is plain, so that an
auditor can rebuild it in any language. The stored form is compressed, names its codec in its first byte, and may
change from version to version without changing a single digest.

Canonical form, little endian: version (uint8, 1), rate numerator and denominator (uint32 each), n (uint32),
n samples (int32, microvolts).

Stored form: codec id (uint8), rate numerator and denominator (uint32 each), n (uint32), body. Codec 1 takes the first
difference modulo 2**32, folds the sign into the lowest bit (zigzag), writes the four byte planes one after another
(the upper three are nearly all zero) and compresses that with zstd.

It deliberately keeps no digest, no time and no patient, reads no file, and makes nothing of ``MISSING_UV``: to the
codec that is a sample like any other.

Invariants:
    1. ``decode_segment(encode_segment(s))`` equals ``s``, bit for bit, for every int32 value.
    2. ``decode_segment`` raises only ``RecordFormatError``, whatever the bytes, and claims memory in proportion to
       ``MAX_SEGMENT_SAMPLES`` at most: a length is checked before anything is made of it.
    3. A decoded segment's samples are read-only.
    4. A codec id is never reused.
"""

from __future__ import annotations

import hashlib
import struct
from fractions import Fraction
from typing import Final

import numpy as np
import zstandard
from numpy.typing import NDArray

from einthoven.errors import RecordFormatError
from einthoven.ports import Segment

MAX_SEGMENT_SAMPLES: Final = 120_000
"""Samples in one segment: two minutes at 1000 Hz, four times the longest window."""
MAX_SEGMENT_BYTES: Final = 4 * MAX_SEGMENT_SAMPLES + 4_096
"""Bytes of one stored segment; zstd adds less than 4,096 bytes to what it can't compress."""
SEGMENT_DIGEST_BYTES: Final = 32
"""Bytes of a SHA-256."""
ZSTD_LEVEL: Final = 9
"""4.71 bits a sample on 200 records of cinc2017 (level 3: 4.90; 12: 4.70), 0.7 ms for 30 s at 300 Hz."""

_CANONICAL_VERSION: Final = 1
_CODEC_DELTA_ZSTD: Final = 1
_HEADER: Final = struct.Struct("<BIII")
_MAX_UINT32: Final = 2**32 - 1


def segment_digest(segment: Segment) -> bytes:
    """SHA-256 of the canonical form, 32 bytes.

    Raises:
        ValueError: The segment is over a limit, see ``encode_segment``.
    """
    samples_uv = _checked(segment)
    canonical = hashlib.sha256(_header(_CANONICAL_VERSION, segment))
    canonical.update(np.ascontiguousarray(samples_uv, dtype="<i4").tobytes())
    return canonical.digest()


def encode_segment(segment: Segment) -> bytes:
    """Return the stored form.

    Raises:
        ValueError: More than ``MAX_SEGMENT_SAMPLES`` samples, samples that are not int32 [n], or a rate that is not
            positive or does not fit two uint32.
    """
    samples_uv = _checked(segment)
    planes = _folded_differences(samples_uv).astype("<u4").view(np.uint8).reshape(-1, 4).T.tobytes()
    body = zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress(planes)
    return _header(_CODEC_DELTA_ZSTD, segment) + body


def decode_segment(stored: bytes) -> Segment:
    """Read the stored form.

    Raises:
        RecordFormatError: These bytes are not a stored segment, or go over a limit.
    """
    if not _HEADER.size < len(stored) <= MAX_SEGMENT_BYTES:
        raise _damaged(f"it has {len(stored)} bytes, allowed are {_HEADER.size + 1} to {MAX_SEGMENT_BYTES}")
    codec_id, numerator, denominator, n_samples = _HEADER.unpack_from(stored)
    if codec_id != _CODEC_DELTA_ZSTD:
        raise RecordFormatError(
            f"a stored segment uses codec {codec_id}, which this version does not know", "update this software"
        )
    if n_samples > MAX_SEGMENT_SAMPLES:
        raise _damaged(f"it claims {n_samples} samples, allowed are {MAX_SEGMENT_SAMPLES}")
    if numerator == 0 or denominator == 0:
        raise _damaged("its sampling rate is not positive")
    rate = Fraction(numerator, denominator)
    if rate.denominator != denominator:
        raise _damaged("its sampling rate is not in lowest terms")
    samples_uv = _unfolded(_decompressed(stored[_HEADER.size :], 4 * n_samples))
    samples_uv.flags.writeable = False
    return Segment(sampling_rate_hz=rate, samples_uv=samples_uv)


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


def _folded_differences(samples_uv: NDArray[np.int32]) -> NDArray[np.uint32]:
    """First differences modulo 2**32, sign in the lowest bit: uint32 [n]."""
    # Unsigned arithmetic wraps by definition, so that a step to or from MISSING_UV is exact as well.
    unsigned = samples_uv.view(np.uint32)
    difference = unsigned.copy()
    difference[1:] -= unsigned[:-1]
    negative = difference >> np.uint32(31)
    return (difference << np.uint32(1)) ^ (np.uint32(0) - negative)


def _unfolded(planes: bytes) -> NDArray[np.int32]:
    """The inverse of ``_folded_differences`` and of the byte planes: int32 [n]."""
    folded = np.frombuffer(planes, np.uint8).reshape(4, -1).T.copy().view("<u4").ravel().astype(np.uint32)
    difference = (folded >> np.uint32(1)) ^ (np.uint32(0) - (folded & np.uint32(1)))
    return np.cumsum(difference, dtype=np.uint32).view(np.int32)


def _decompressed(body: bytes, n_bytes: int) -> bytes:
    # zstandard allocates what the frame's header claims, so that claim is compared before it is believed.
    try:
        if zstandard.frame_content_size(body) != n_bytes:
            raise _damaged("its length is not the one it claims")
        plain = zstandard.ZstdDecompressor().decompress(body, max_output_size=n_bytes, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise _damaged("its body can't be decompressed") from error
    if len(plain) != n_bytes:
        raise _damaged("its length is not the one it claims")
    return plain


def _damaged(why: str) -> RecordFormatError:
    return RecordFormatError(f"a stored segment is damaged: {why}", "restore it from a backup or leave it out")
