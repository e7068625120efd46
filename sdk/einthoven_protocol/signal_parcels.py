"""Parcels: a chunk with the proofs that its signals are those of the device's results, as one upload.

Proofs are no part of a chunk, so that its name does not depend on how its results once were sealed.

It deliberately verifies nothing: it gives a receiver the seals that are meant and the hashes that lead to their roots.
One seal is named by its run; its two trees (``merkle``) have the same shape, so the same places are proven in both:
that the row which the receiver holds is the one that was sealed, and that the signal is the one sealed with it.

Invariants:
    1. ``decode_parcel(encode_parcel(proofs, chunk))`` gives back both.
    2. The proofs of a parcel account for the chunk's signals in order, each for the next ``n_segments`` of them.
    3. Decoding raises only ``DecodeError``, ``LimitExceeded`` and ``OutOfRange``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from einthoven_protocol import limits
from einthoven_protocol.checks import require_range
from einthoven_protocol.errors import DecodeError, LimitExceeded
from einthoven_protocol.fields import Reader, varint
from einthoven_protocol.merkle_subsets import HASH_BYTES
from einthoven_protocol.messages import Run
from einthoven_protocol.signal_chunks import MAX_CHUNK_SEGMENTS, MAX_LONE_CHUNK_BYTES

MAX_PATH_HASHES: Final = 14
"""Hashes that prove one leaf of a seal: the logarithm of ``limits.MAX_RESULTS_PER_EXCHANGE``, rounded up."""
MAX_PROOF_BYTES: Final = MAX_CHUNK_SEGMENTS * (2 * MAX_PATH_HASHES * HASH_BYTES + 20) + 8
"""All proofs of a parcel: at worst, a path of its own in both trees for every signal."""
MAX_PARCEL_BYTES: Final = MAX_PROOF_BYTES + MAX_LONE_CHUNK_BYTES + 8


class SealProof(msgspec.Struct, frozen=True, kw_only=True):
    """That the next signals of a chunk belong to results of one seal.

    Attributes:
        seal: The run that names the seal.
        n_segments: Of how many signals this speaks.
        results: Hashes (``merkle_subsets``) for the rows under ``Seal.results_root``.
        segments: As many, for the digests under ``Seal.segments_root``.
    """

    seal: Run
    n_segments: int
    results: tuple[bytes, ...]
    segments: tuple[bytes, ...]


def encode_parcel(proofs: Sequence[SealProof], chunk: bytes) -> bytes:
    """Return the bytes of an upload.

    Raises:
        LimitExceeded: The proofs are over ``MAX_PROOF_BYTES``.
    """
    parts = [varint(len(proofs))]
    for proof in proofs:
        parts += [varint(proof.seal.epoch), varint(proof.seal.first), varint(proof.seal.last)]
        parts += [varint(proof.n_segments), varint(len(proof.results)), *proof.results, *proof.segments]
    proven = b"".join(parts)
    if len(proven) > MAX_PROOF_BYTES:
        raise LimitExceeded(f"the proofs of a parcel are over {MAX_PROOF_BYTES} bytes")
    return varint(len(proven)) + proven + chunk


def decode_parcel(parcel: bytes) -> tuple[tuple[SealProof, ...], bytes]:
    """Read an upload; the chunk is not looked into.

    Raises:
        DecodeError: These bytes are no parcel.
        OutOfRange: A value is outside its range.
        LimitExceeded: It is too long.
    """
    if len(parcel) > MAX_PARCEL_BYTES:
        raise LimitExceeded(f"a parcel is over {MAX_PARCEL_BYTES} bytes")
    reader = Reader(parcel)
    n_bytes = reader.varint()
    if n_bytes > MAX_PROOF_BYTES:
        raise LimitExceeded(f"the proofs of a parcel are over {MAX_PROOF_BYTES} bytes")
    proofs = Reader(reader.take(n_bytes))
    n_proofs = proofs.varint()
    if not 1 <= n_proofs <= MAX_CHUNK_SEGMENTS:
        raise DecodeError("a parcel has no proof, or more than a chunk has signals")
    read = tuple(_read_proof(proofs) for _ in range(n_proofs))
    if not proofs.at_end:
        raise DecodeError("the proofs of a parcel go on behind the last one")
    return read, reader.rest()


def read_run(reader: Reader) -> Run:
    """Read a run: epoch, first and last counter.

    Raises:
        DecodeError: It is cut off.
        OutOfRange: A value is outside its range.
    """
    epoch, first, last = reader.varint(), reader.varint(), reader.varint()
    require_range("epoch", epoch, 1, limits.MAX_EPOCH)
    require_range("first counter", first, 1, limits.MAX_COUNTER)
    require_range("last counter", last, first, limits.MAX_COUNTER)
    return Run(epoch, first, last)


def _read_proof(reader: Reader) -> SealProof:
    seal = read_run(reader)
    n_segments, n_hashes = reader.varint(), reader.varint()
    require_range("signals of a proof", n_segments, 1, MAX_CHUNK_SEGMENTS)
    require_range("hashes of a proof", n_hashes, 0, MAX_CHUNK_SEGMENTS * MAX_PATH_HASHES)
    results, segments = (tuple(reader.take(HASH_BYTES) for _ in range(n_hashes)) for _ in range(2))
    return SealProof(seal=seal, n_segments=n_segments, results=results, segments=segments)
