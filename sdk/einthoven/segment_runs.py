"""A whole record of one lead as bytes: long blocks, each with its own checksum. Pure.

Where a record is kept as a file and not window by window, blocks of ``BLOCK_SAMPLES`` code better than 30-s segments.
Layout: ``MAGIC``, checksum of the header, header (rate numerator and denominator, n), then blocks: checksum, number of
bytes (varint), codec id (uint8), body. All blocks but the last hold ``BLOCK_SAMPLES``. A block's checksum covers the
header, its index, codec and body, so that a block lost, doubled or moved is noticed.

It deliberately is no store: it has no time, patient, digest or encryption, and writes no file. What a store keeps, and
results are replayed from, are segments (``segments``).

Invariants:
    1. ``decode_run(encode_run(s))`` equals ``s``, bit for bit.
    2. Reading raises only ``RecordFormatError``; a body is decoded only behind a checksum that is right.
    3. ``run_blocks`` holds one block at a time, whatever the header claims.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from einthoven import segment_zstd
from einthoven.ports import Segment
from einthoven.segment_fields import CHECKSUM_BYTES, FieldReader, checksum, damaged, varints
from einthoven.segment_pcodec import decode_block, encode_block
from einthoven.segment_pcodec_library import PcodecUnavailable

MAGIC: Final = b"ECGRUN1\n"
BLOCK_SAMPLES: Final = 120_000
"""Samples of a block: 5.6 minutes at 360 Hz. 4.13 bits a sample (mitdb); twice as many win 0.002."""
MAX_RUN_SAMPLES: Final = 200_000_000
"""Samples of one run: 55 hours at 1000 Hz."""
MAX_BLOCK_BYTES: Final = 4 * BLOCK_SAMPLES + 4_096
"""Bytes of one block's body."""
_MAX_UINT32: Final = 2**32 - 1
_ZSTD, _PCODEC = 1, 2


def encode_run(run: Segment) -> bytes:
    """Return the bytes of a whole record.

    Raises:
        ValueError: More than ``MAX_RUN_SAMPLES`` samples, samples that are not int32 [n], or a rate that is not
            positive or does not fit two uint32.
    """
    samples_uv, rate = run.samples_uv, run.sampling_rate_hz
    if samples_uv.dtype != np.int32 or samples_uv.ndim != 1 or len(samples_uv) > MAX_RUN_SAMPLES:
        raise ValueError(f"samples_uv must be int32 [n], n at most {MAX_RUN_SAMPLES}")
    if not (0 < rate.numerator <= _MAX_UINT32 and rate.denominator <= _MAX_UINT32):
        raise ValueError("the sampling rate must be positive and fit two 32-bit integers")
    header = varints([rate.numerator, rate.denominator, len(samples_uv)])
    written = [MAGIC, checksum(header), header]
    for index, start in enumerate(range(0, len(samples_uv), BLOCK_SAMPLES)):
        body = _body(samples_uv[start : start + BLOCK_SAMPLES])
        written += [_block_checksum(header, index, body), varints([len(body)]), body]
    return b"".join(written)


def decode_run(stored: bytes) -> Segment:
    """Read a whole record at once; its samples are read-only.

    Raises:
        RecordFormatError: These bytes are not a run, or are damaged.
    """
    rate, _ = run_header(stored)
    samples_uv = np.concatenate([np.empty(0, np.int32), *run_blocks(stored)])
    samples_uv.flags.writeable = False
    return Segment(rate, samples_uv)


def run_header(stored: bytes) -> tuple[Fraction, int]:
    """Return sampling rate (Hz) and number of samples.

    Raises:
        RecordFormatError: These bytes are not a run, or its header is damaged.
    """
    rate, n_samples, _, _ = _read_header(stored)
    return rate, n_samples


def run_blocks(stored: bytes) -> Iterator[NDArray[np.int32]]:
    """Yield the samples block by block, int32 [n].

    Raises:
        RecordFormatError: These bytes are not a run, or are damaged; blocks before the damage were yielded.
    """
    _, n_samples, header, position = _read_header(stored)
    fields = FieldReader(stored, position)
    for index, start in enumerate(range(0, n_samples, BLOCK_SAMPLES)):
        found = fields.take(CHECKSUM_BYTES)
        body = fields.take(fields.varint(MAX_BLOCK_BYTES))
        if found != _block_checksum(header, index, body):
            raise damaged("the checksum of a block is not that of its bytes")
        yield _samples(body, min(BLOCK_SAMPLES, n_samples - start))
    if fields.position != len(stored):
        raise damaged("it goes on after its end")


def _read_header(stored: bytes) -> tuple[Fraction, int, bytes, int]:
    """Rate, number of samples, the header's bytes, and where the blocks begin."""
    fields = FieldReader(stored)
    if fields.take(len(MAGIC)) != MAGIC:
        raise damaged("it does not begin as a run of blocks does")
    found, start = fields.take(CHECKSUM_BYTES), fields.position
    numerator, denominator = fields.varint(_MAX_UINT32), fields.varint(_MAX_UINT32)
    n_samples = fields.varint(MAX_RUN_SAMPLES)
    header = stored[start : fields.position]
    if found != checksum(header):
        raise damaged("the checksum of its header is not that of its bytes")
    if numerator == 0 or denominator == 0:
        raise damaged("its sampling rate is not positive")
    return Fraction(numerator, denominator), n_samples, header, fields.position


def _block_checksum(header: bytes, index: int, body: bytes) -> bytes:
    return checksum(header + varints([index]) + body)


def _body(samples_uv: NDArray[np.int32]) -> bytes:
    try:
        return bytes([_PCODEC]) + encode_block(samples_uv)
    except PcodecUnavailable:
        return bytes([_ZSTD]) + segment_zstd.packed(samples_uv)


def _samples(body: bytes, n_samples: int) -> NDArray[np.int32]:
    if body[:1] == bytes([_PCODEC]):
        return decode_block(body[1:], n_samples)
    if body[:1] == bytes([_ZSTD]):
        return segment_zstd.unpacked(body[1:], n_samples)
    raise damaged("a block uses a codec that this version does not know")
