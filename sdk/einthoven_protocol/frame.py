"""The outermost bytes of a message: version, kind, compression.

It deliberately knows nothing of what is inside.

Invariants:
    1. The version byte comes first, in every version to come.
    2. The declared size of a compressed message is checked against the limit before anything is allocated for it, and
       only one zstd frame (RFC 8878) without a dictionary is accepted.
    3. Opening raises only ``DecodeError``, ``LimitExceeded`` and ``UnsupportedVersion``.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Final

import zstandard

from einthoven_protocol import limits
from einthoven_protocol.errors import DecodeError, LimitExceeded, UnsupportedVersion
from einthoven_protocol.messages import PROTOCOL_VERSION

REQUEST: Final = 1
RESPONSE: Final = 2
REPAIR_REQUEST: Final = 3
REPAIR_RESPONSE: Final = 4

_PLAIN: Final = 0
_ZSTD: Final = 1
_HEADER_BYTES: Final = 3
_LEVEL: Final = 9
_FRAME_HEADER_MAX_BYTES: Final = 18
"""With its magic number (RFC 8878 section 3.1.1.1)."""
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_BULK_MIN_BYTES: Final = 32_768
"""A message this long is mostly planes of noise (low bytes of logits) ..."""
_NOISE_MATCH_BYTES: Final = 6
"""... in which shorter repetitions are chance: naming one costs more than its bytes' entropy."""
_OWN_BLOCK_MIN_BYTES: Final = 1_024
"""A part this long gets blocks, and so entropy tables, of its own."""


def close_frame(kind: int, parts: Sequence[bytes]) -> bytes:
    """Return the bytes of a message.

    Args:
        kind: ``REQUEST``, ``RESPONSE``, ``REPAIR_REQUEST`` or ``REPAIR_RESPONSE``.
        parts: Its content; where a part ends, the statistics of the bytes may change.

    Raises:
        LimitExceeded: It is over ``limits.MAX_DECODED_BYTES``.
    """
    content = b"".join(parts)
    if len(content) > limits.MAX_DECODED_BYTES:
        raise LimitExceeded(f"the message is over {limits.MAX_DECODED_BYTES} bytes; send fewer rows at once")
    if len(content) >= limits.MIN_COMPRESSED_BYTES:
        packed = _compress(parts, len(content))
        if len(packed) < len(content):
            return bytes((PROTOCOL_VERSION, kind, _ZSTD)) + packed
    return bytes((PROTOCOL_VERSION, kind, _PLAIN)) + content


def open_frame(body: bytes, kind: int) -> bytes:
    """Return the content of a message.

    Args:
        body: The bytes that arrived.
        kind: What is expected, one of the four.

    Raises:
        DecodeError: It is no message of that kind.
        LimitExceeded: It is, or would become, over ``limits.MAX_DECODED_BYTES``.
        UnsupportedVersion: It is of another version.
    """
    if not body:
        raise DecodeError("the message is empty")
    if body[0] != PROTOCOL_VERSION:
        raise UnsupportedVersion(body[0])
    if len(body) < _HEADER_BYTES or body[1] != kind:
        raise DecodeError("the message is of another kind than expected")
    content = body[_HEADER_BYTES:]
    if len(content) > limits.MAX_DECODED_BYTES:
        raise LimitExceeded(f"the message is over {limits.MAX_DECODED_BYTES} bytes")
    if body[2] == _PLAIN:
        return content
    if body[2] == _ZSTD:
        return _decompress(content)
    raise DecodeError("the message is compressed in an unknown way")


def content_bytes(body: bytes) -> int:
    """Return how much ``open_frame`` would allocate for the content of a message; 0 for what it would refuse.

    Args:
        body: The bytes that arrived.
    """
    if body[2:_HEADER_BYTES] != bytes((_ZSTD,)):
        return max(0, len(body) - _HEADER_BYTES)
    try:
        declared = zstandard.get_frame_parameters(body[_HEADER_BYTES : _HEADER_BYTES + _FRAME_HEADER_MAX_BYTES])
    except zstandard.ZstdError:
        return 0
    return int(declared.content_size) if declared.content_size <= limits.MAX_DECODED_BYTES else 0


def _compress(parts: Sequence[bytes], size: int) -> bytes:
    longest = {"min_match": _NOISE_MATCH_BYTES} if size >= _BULK_MIN_BYTES else {}
    parameters = zstandard.ZstdCompressionParameters.from_level(_LEVEL, source_size=size, **longest)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj(size=size)
    packed = []
    # A block has one Huffman table: random low bytes and constant high bytes must not share it.
    for long, run in groupby(parts, key=lambda part: len(part) >= _OWN_BLOCK_MIN_BYTES):
        if not long:
            packed.append(compressor.compress(b"".join(run)))
            continue
        for part in run:
            packed += [
                compressor.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK),
                compressor.compress(part),
                compressor.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK),
            ]
    packed.append(compressor.flush())
    return b"".join(packed)


def _decompress(packed: bytes) -> bytes:
    if not packed.startswith(_ZSTD_MAGIC):
        raise DecodeError("the compressed message is no zstd frame")
    try:
        declared = zstandard.get_frame_parameters(packed)
        if declared.content_size == zstandard.CONTENTSIZE_UNKNOWN or declared.dict_id:
            raise DecodeError("the zstd frame declares no size, or needs a dictionary")
        if declared.content_size > limits.MAX_DECODED_BYTES or declared.window_size > limits.MAX_ZSTD_WINDOW_BYTES:
            raise LimitExceeded(f"the message would be over {limits.MAX_DECODED_BYTES} bytes")
        decompressor = zstandard.ZstdDecompressor(max_window_size=limits.MAX_ZSTD_WINDOW_BYTES)
        # The library holds the frame to the size it declares.
        return decompressor.decompress(
            packed, max_output_size=limits.MAX_DECODED_BYTES, read_across_frames=False, allow_extra_data=False
        )
    except zstandard.ZstdError as problem:
        raise DecodeError("the compressed message is damaged") from problem
