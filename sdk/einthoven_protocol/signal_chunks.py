"""Chunks: many signals in one object, named by what is in it (docs/signals-v1.md).

A chunk is made of signals as they are stored on the device, byte for byte, behind a list of what they are of. The same
signals give the same chunk, so one that is sent again after a crash has the name that it had before.

It deliberately knows no codec of signals: that a signal's bytes are those of its digest is the receiver's to check. And
it encrypts nothing: a chunk travels inside TLS and is sealed by whoever stores it.

Invariants:
    1. ``decode_chunk(encode_chunk(alias, segments))`` gives back both, and every chunk has one spelling.
    2. Decoding raises only ``DecodeError``, ``LimitExceeded`` and ``OutOfRange``, and copies nothing before lengths
       were checked.
    3. Nothing in a chunk depends on when, or how often, it was made.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Final

import msgspec

from einthoven_protocol import limits
from einthoven_protocol.checks import require_length, require_range
from einthoven_protocol.errors import DecodeError, LimitExceeded, OutOfRange
from einthoven_protocol.fields import Reader, varint

CHUNK_VERSION: Final = 1
MAX_CHUNK_BYTES: Final = 256 * 1024
"""A chunk of more than one signal; one that is longer goes alone."""
MAX_STORED_SEGMENT_BYTES: Final = 484_096
"""One signal as it is stored (``einthoven.segments.MAX_SEGMENT_BYTES``)."""
MAX_LONE_CHUNK_BYTES: Final = MAX_STORED_SEGMENT_BYTES + 64
"""A chunk of one signal."""
MAX_CHUNK_SEGMENTS: Final = 256
"""Signals of one chunk; with them, proofs of any shape stay under ``signal_parcels.MAX_PROOF_BYTES``."""
CHUNK_NAME_BYTES: Final = 32
"""SHA-256 of a chunk."""

_HEAD_MAX_BYTES: Final = 1 + 5 + 2
_ENTRY_MAX_BYTES: Final = 5 + 5 + limits.DIGEST_BYTES + 3


class ChunkSegment(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A signal in a chunk.

    Attributes:
        epoch: Epoch of the result that it belongs to.
        counter: Counter of that result.
        digest: SHA-256 of the signal's canonical form, 32 bytes: the leaf under the seal's ``segments_root``.
        stored: Its stored form.
        offset: Where that begins in the chunk, bytes; 0 before it is in one.
    """

    epoch: int
    counter: int
    digest: bytes
    stored: bytes
    offset: int = 0


class Chunk(msgspec.Struct, frozen=True):
    """A chunk that was read.

    Attributes:
        device_alias: Whose results the signals belong to.
        segments: The signals, by (epoch, counter).
    """

    device_alias: int
    segments: tuple[ChunkSegment, ...]


def chunk_name(chunk: bytes) -> bytes:
    """Return a chunk's name, 32 bytes."""
    return hashlib.sha256(chunk).digest()


def cut(segments: Iterable[ChunkSegment]) -> Iterator[tuple[ChunkSegment, ...]]:
    """Divide signals, in the order given, into what one chunk holds each.

    A chunk is closed by the first signal that does not fit, so what follows an acknowledged chunk is cut as before.
    """
    group: list[ChunkSegment] = []
    size = _HEAD_MAX_BYTES
    for segment in segments:
        added = _ENTRY_MAX_BYTES + len(segment.stored)
        if group and (size + added > MAX_CHUNK_BYTES or len(group) == MAX_CHUNK_SEGMENTS):
            yield tuple(group)
            group, size = [], _HEAD_MAX_BYTES
        group.append(segment)
        size += added
    if group:
        yield tuple(group)


def encode_chunk(device_alias: int, segments: Sequence[ChunkSegment]) -> bytes:
    """Return the bytes of a chunk; the order of ``segments`` does not matter.

    Args:
        device_alias: The device.
        segments: What ``cut`` gave.

    Raises:
        OutOfRange: A value is outside its range, or two signals belong to one result.
        LimitExceeded: It is too long, or holds too many signals.
    """
    require_range("device_alias", device_alias, 1, limits.MAX_DEVICE_ALIAS)
    ordered = sorted(segments, key=_place)
    if not ordered or any(_place(a) == _place(b) for a, b in pairwise(ordered)):
        raise OutOfRange("a chunk holds no signal, or two of one result")
    if len(ordered) > MAX_CHUNK_SEGMENTS:
        raise LimitExceeded(f"a chunk holds more than {MAX_CHUNK_SEGMENTS} signals")
    parts = [bytes([CHUNK_VERSION]), varint(device_alias), varint(len(ordered))]
    for segment in ordered:
        _require_entry(segment.epoch, segment.counter, len(segment.stored))
        require_length("segment digest", segment.digest, limits.DIGEST_BYTES)
        parts += [varint(segment.epoch), varint(segment.counter), segment.digest, varint(len(segment.stored))]
    chunk = b"".join([*parts, *(segment.stored for segment in ordered)])
    _require_size(len(chunk), len(ordered))
    return chunk


def decode_chunk(chunk: bytes) -> Chunk:
    """Read a chunk.

    Raises:
        DecodeError: These bytes are no chunk.
        OutOfRange: A value is outside its range.
        LimitExceeded: It is too long, or holds too many signals.
    """
    if len(chunk) > MAX_LONE_CHUNK_BYTES:
        raise LimitExceeded(f"a chunk is over {MAX_LONE_CHUNK_BYTES} bytes")
    reader = Reader(chunk)
    if reader.take(1)[0] != CHUNK_VERSION:
        raise DecodeError("a chunk is of an unknown version")
    device_alias, n_segments = reader.varint(), reader.varint()
    require_range("device_alias", device_alias, 1, limits.MAX_DEVICE_ALIAS)
    if not 1 <= n_segments <= MAX_CHUNK_SEGMENTS:
        raise LimitExceeded(f"a chunk holds 1 to {MAX_CHUNK_SEGMENTS} signals")
    entries = [_read_entry(reader) for _ in range(n_segments)]
    if any(first[:2] >= second[:2] for first, second in pairwise(entries)):
        raise DecodeError("the signals of a chunk are not in order")
    _require_size(len(chunk), n_segments)
    offset = len(chunk) - sum(length for *_, length in entries)
    segments = []
    for epoch, counter, digest, length in entries:
        stored = reader.take(length)
        segments.append(ChunkSegment(epoch=epoch, counter=counter, digest=digest, stored=stored, offset=offset))
        offset += length
    if not reader.at_end:
        raise DecodeError("a chunk goes on behind its last signal")
    return Chunk(device_alias, tuple(segments))


def _place(segment: ChunkSegment) -> tuple[int, int]:
    return segment.epoch, segment.counter


def _read_entry(reader: Reader) -> tuple[int, int, bytes, int]:
    epoch, counter, digest = reader.varint(), reader.varint(), reader.take(limits.DIGEST_BYTES)
    length = reader.varint()
    _require_entry(epoch, counter, length)
    return epoch, counter, digest, length


def _require_entry(epoch: int, counter: int, length: int) -> None:
    require_range("epoch", epoch, 1, limits.MAX_EPOCH)
    require_range("counter", counter, 1, limits.MAX_COUNTER)
    require_range("length of a signal", length, 1, MAX_STORED_SEGMENT_BYTES)


def _require_size(chunk_bytes: int, n_segments: int) -> None:
    most = MAX_LONE_CHUNK_BYTES if n_segments == 1 else MAX_CHUNK_BYTES
    if chunk_bytes > most:
        raise LimitExceeded(f"a chunk of {n_segments} signals is over {most} bytes")
