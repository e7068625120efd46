"""The question which chunks are missing, and its answer, as bytes (docs/signals-v1.md).

With it a device learns by which seals it can prove its signals: what it pushed together, it has forgotten.

It deliberately holds no field that either side would have to believe: what is named is proven by the upload.

Invariants:
    1. ``decode(encode(message)) == message``; unknown fields are skipped.
    2. Decoding raises only ``ProtocolError``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from einthoven_protocol.errors import DecodeError, LimitExceeded
from einthoven_protocol.fields import Reader, varint, write_fields
from einthoven_protocol.frame import close_frame, open_frame
from einthoven_protocol.messages import Run
from einthoven_protocol.signal_chunks import CHUNK_NAME_BYTES, MAX_CHUNK_SEGMENTS
from einthoven_protocol.signal_parcels import read_run

MISSING_REQUEST: Final = 5
MISSING_RESPONSE: Final = 6
MAX_CHUNKS_PER_QUESTION: Final = 64
MAX_RUNS_PER_QUESTION: Final = 2_048
MAX_SEALS_PER_ANSWER: Final = MAX_CHUNKS_PER_QUESTION * MAX_CHUNK_SEGMENTS

_NAMES, _RUNS = 1, 2
_BITMAP, _SEALS = 1, 2


class MissingRequest(msgspec.Struct, frozen=True):
    """Device to server.

    Attributes:
        names: Names of chunks, 32 bytes each.
        runs: Runs of the results whose signals are in them.
    """

    names: tuple[bytes, ...]
    runs: tuple[Run, ...] = ()


class MissingResponse(msgspec.Struct, frozen=True):
    """Server to device.

    Attributes:
        missing: For each name, whether the server lacks that chunk.
        seals: Runs of the seals that cover a result asked for, ascending.
    """

    missing: tuple[bool, ...]
    seals: tuple[Run, ...] = ()


def encode_missing_request(request: MissingRequest) -> bytes:
    """Return the bytes of a question.

    Raises:
        LimitExceeded: It asks for too much.
    """
    if len(request.names) > MAX_CHUNKS_PER_QUESTION:
        raise LimitExceeded(f"more than {MAX_CHUNKS_PER_QUESTION} chunks in one question")
    fields = {_NAMES: list(request.names), _RUNS: _runs_octets(request.runs, MAX_RUNS_PER_QUESTION)}
    return close_frame(MISSING_REQUEST, write_fields(fields))


def decode_missing_request(body: bytes) -> MissingRequest:
    """Read a question.

    Raises:
        ProtocolError: It is none.
    """
    fields = Reader(open_frame(body, MISSING_REQUEST)).fields()
    octets = fields.get(_NAMES, b"")
    if not octets or len(octets) % CHUNK_NAME_BYTES:
        raise DecodeError("a question names no chunk, or half a one")
    if len(octets) > MAX_CHUNKS_PER_QUESTION * CHUNK_NAME_BYTES:
        raise LimitExceeded(f"more than {MAX_CHUNKS_PER_QUESTION} chunks in one question")
    names = tuple(octets[at : at + CHUNK_NAME_BYTES] for at in range(0, len(octets), CHUNK_NAME_BYTES))
    return MissingRequest(names, _read_runs(fields.get(_RUNS, b""), MAX_RUNS_PER_QUESTION))


def encode_missing_response(response: MissingResponse) -> bytes:
    """Return the bytes of an answer: bit ``i % 8`` of byte ``i // 8``, the least significant first, is of name ``i``.

    Raises:
        LimitExceeded: It names too many seals.
    """
    bitmap = bytearray(-(-len(response.missing) // 8))
    for place, missing in enumerate(response.missing):
        bitmap[place // 8] |= missing << place % 8
    fields = {_BITMAP: [bytes(bitmap)], _SEALS: _runs_octets(response.seals, MAX_SEALS_PER_ANSWER)}
    return close_frame(MISSING_RESPONSE, write_fields(fields))


def decode_missing_response(body: bytes, n_names: int) -> MissingResponse:
    """Read the answer to a question of ``n_names``.

    Raises:
        ProtocolError: It is none, or to another question.
    """
    fields = Reader(open_frame(body, MISSING_RESPONSE)).fields()
    bitmap = fields.get(_BITMAP, b"")
    if len(bitmap) != -(-n_names // 8) or int.from_bytes(bitmap, "little") >> n_names:
        raise DecodeError("the bitmap has another length than the question")
    missing = tuple(bool(bitmap[place // 8] >> place % 8 & 1) for place in range(n_names))
    return MissingResponse(missing, _read_runs(fields.get(_SEALS, b""), MAX_SEALS_PER_ANSWER))


def _runs_octets(runs: Sequence[Run], most: int) -> list[bytes]:
    if len(runs) > most:
        raise LimitExceeded(f"more than {most} runs in one message")
    return [varint(number) for run in runs for number in (run.epoch, run.first, run.last)]


def _read_runs(octets: bytes, most: int) -> tuple[Run, ...]:
    reader = Reader(octets)
    runs: list[Run] = []
    while not reader.at_end:
        if len(runs) == most:
            raise LimitExceeded(f"more than {most} runs in one message")
        runs.append(read_run(reader))
    return tuple(runs)
