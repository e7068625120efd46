"""Are the signals of a parcel those of the device's results? Pure but for the cryptography and compression libraries.

It deliberately reads no database: seals and rows are brought by the caller. It works for many milliseconds and copies
a parcel once or twice, so it runs in a thread, a few at a time (``receiving``).

A signal is taken if all of this holds: a seal that the device signed covers its result; the row that this server holds
of that result is the one under the seal's ``results_root``; its digest stands at the same place under the seal's
``segments_root``; and its bytes decode to samples of that digest. The middle two together keep a signal from a result
with a counter that was used twice, by a device that was turned back.

Invariants:
    1. Anything else refuses the whole parcel, and names no value out of it.
    2. Compressed bytes are decoded only after their digest was proven, so only by who holds a device's key.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import NamedTuple

from einthoven.errors import RecordFormatError
from einthoven.segments import decode_segment, segment_digest
from einthoven_protocol import merkle
from einthoven_protocol.errors import ProtocolError
from einthoven_protocol.merkle_subsets import root_of_subset
from einthoven_protocol.messages import Run, Seal
from einthoven_protocol.signal_chunks import Chunk, ChunkSegment, chunk_name, decode_chunk
from einthoven_protocol.signal_parcels import SealProof, decode_parcel
from einthoven_server.errors import Malformed
from einthoven_server.identity.signatures import verify


class Parcel(NamedTuple):
    """A parcel of the form that it should have; nothing in it is believed yet."""

    proofs: tuple[SealProof, ...]
    octets: bytes
    chunk: Chunk


class Sealed(NamedTuple):
    """What this server holds of the results that a parcel speaks of.

    Attributes:
        alias: The device.
        public_key: Its key.
        seals: Its seals by run.
        rows: Canonical bytes of its results by (epoch, counter).
    """

    alias: int
    public_key: bytes
    seals: Mapping[Run, Seal]
    rows: Mapping[tuple[int, int], bytes]


def open_parcel(octets: bytes, name: bytes, alias: int) -> Parcel:
    """Read a parcel.

    Args:
        octets: All of an upload.
        name: The chunk's name, as the upload was begun with.
        alias: The device.

    Raises:
        Malformed: It is damaged, not the chunk of this name, or of another device.
    """
    try:
        proofs, chunk_octets = decode_parcel(octets)
        if not hmac.compare_digest(chunk_name(chunk_octets), name):
            raise _damaged("its SHA-256 is not its name")
        chunk = decode_chunk(chunk_octets)
    except ProtocolError as error:
        raise _damaged(str(error)) from error
    if chunk.device_alias != alias:
        raise _unproven("it is another device's")
    if sum(proof.n_segments for proof in proofs) != len(chunk.segments):
        raise _damaged("its proofs do not account for its signals")
    return Parcel(proofs, chunk_octets, chunk)


def check_parcel(parcel: Parcel, held: Sealed) -> None:
    """Check that every signal is what it is said to be, and of whom.

    Raises:
        Malformed: One is not.
    """
    at = 0
    for proof in parcel.proofs:
        _check_proof(proof, parcel.chunk.segments[at : at + proof.n_segments], held)
        at += proof.n_segments
    for segment in parcel.chunk.segments:
        try:
            digest = segment_digest(decode_segment(segment.stored))
        except RecordFormatError as error:
            raise _damaged("a signal can't be decoded") from error
        if not hmac.compare_digest(digest, segment.digest):
            raise _damaged("a signal is not that of its digest")


def _check_proof(proof: SealProof, segments: tuple[ChunkSegment, ...], held: Sealed) -> None:
    run, seal = proof.seal, held.seals.get(proof.seal)
    if seal is None or not _signed(seal, held):
        raise _unproven("no seal of this device is held for that run")
    rows: dict[int, bytes] = {}
    digests: dict[int, bytes] = {}
    for segment in segments:
        row = held.rows.get((segment.epoch, segment.counter))
        if segment.epoch != run.epoch or not run.first <= segment.counter <= run.last or row is None:
            raise _unproven("a result is not held here, or not covered by its seal")
        rows[segment.counter - run.first] = row
        digests[segment.counter - run.first] = segment.digest
    size = run.last - run.first + 1
    try:
        results_root = root_of_subset(size, rows, proof.results)
        segments_root = root_of_subset(size, digests, proof.segments)
    except ProtocolError as error:
        raise _unproven("a proof is of another shape than its seal's") from error
    if results_root != seal.results_root or segments_root != seal.segments_root:
        raise _unproven("a signal is not the one that was sealed with its result")


def _signed(seal: Seal, held: Sealed) -> bool:
    message = merkle.seal_message(
        held.alias, seal.epoch, seal.first_counter, seal.last_counter, seal.results_root, seal.segments_root
    )
    return verify(held.public_key, message, seal.signature)


def _damaged(why: str) -> Malformed:
    return Malformed(f"the chunk is damaged: {why}", "make it anew", code="chunk_damaged")


def _unproven(why: str) -> Malformed:
    return Malformed(f"the chunk is not proven: {why}", "send the result first", code="signal_unproven")
