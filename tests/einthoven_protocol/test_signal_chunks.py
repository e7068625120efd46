"""Chunks, parcels and the question which are missing: there and back, one spelling, every limit, any bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from einthoven.segments import MAX_SEGMENT_BYTES
from einthoven_protocol import limits, signal_chunks, signal_missing, signal_parcels
from einthoven_protocol.errors import DecodeError, LimitExceeded, OutOfRange, ProtocolError
from einthoven_protocol.fields import varint
from einthoven_protocol.merkle_subsets import proof_hashes
from einthoven_protocol.messages import Run
from einthoven_protocol.signal_chunks import ChunkSegment, chunk_name, cut, decode_chunk, encode_chunk
from einthoven_protocol.signal_missing import (
    MissingRequest,
    MissingResponse,
    decode_missing_request,
    decode_missing_response,
    encode_missing_request,
    encode_missing_response,
)
from einthoven_protocol.signal_parcels import SealProof, decode_parcel, encode_parcel

epochs = st.sampled_from([1, 2, 127, 128, limits.MAX_EPOCH])
counters = st.sampled_from([1, 2, 3, 300, limits.MAX_COUNTER])
segments = st.lists(
    st.builds(
        ChunkSegment,
        epoch=epochs,
        counter=counters,
        digest=st.binary(min_size=32, max_size=32),
        stored=st.binary(min_size=1, max_size=40),
    ),
    min_size=1,
    max_size=8,
    unique_by=lambda one: (one.epoch, one.counter),
)
runs = st.builds(
    lambda epoch, first, more: Run(epoch, first, min(first + more, limits.MAX_COUNTER)),
    epochs,
    counters,
    st.integers(0, 10_000),
)


def segment(counter: int = 1, length: int = 100, epoch: int = 1) -> ChunkSegment:
    digest = hashlib.sha256(b"%d" % counter).digest()
    return ChunkSegment(epoch=epoch, counter=counter, digest=digest, stored=bytes(length))


@given(alias=st.sampled_from([1, 127, 128, limits.MAX_DEVICE_ALIAS]), group=segments)
def test_a_chunk_there_and_back(alias: int, group: list[ChunkSegment]) -> None:
    octets = encode_chunk(alias, group)
    chunk = decode_chunk(octets)
    assert chunk.device_alias == alias
    assert [msgspec.structs.replace(one, offset=0) for one in chunk.segments] == sorted(
        group, key=lambda one: (one.epoch, one.counter)
    )
    assert all(octets[one.offset : one.offset + len(one.stored)] == one.stored for one in chunk.segments)
    assert encode_chunk(alias, chunk.segments) == octets
    assert encode_chunk(alias, group[::-1]) == octets
    assert chunk_name(octets) == hashlib.sha256(octets).digest()


def test_a_chunks_bytes_are_frozen() -> None:
    group = [
        ChunkSegment(epoch=1, counter=300, digest=b"\x11" * 32, stored=b"first"),
        ChunkSegment(epoch=2, counter=1, digest=b"\x22" * 32, stored=b"second"),
    ]
    octets = encode_chunk(7, group)
    assert octets.hex() == ("010702" + "01ac02" + "11" * 32 + "05" + "0201" + "22" * 32 + "06" + b"firstsecond".hex())
    assert chunk_name(octets).hex() == hashlib.sha256(octets).hexdigest()


@given(st.binary(max_size=200))
def test_no_bytes_break_the_readers(octets: bytes) -> None:
    for read in (
        decode_chunk,
        decode_parcel,
        decode_missing_request,
        lambda body: decode_missing_response(body, 3),
        lambda body: decode_chunk(b"\x01\x07\x01" + body),
        lambda body: decode_missing_request(b"\x01\x05\x00" + body),
        lambda body: decode_missing_response(b"\x01\x06\x00" + body, 3),
    ):
        try:
            read(octets)
        except ProtocolError:
            continue


@given(group=segments, at=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_a_changed_chunk_is_refused_or_another_one(group: list[ChunkSegment], at: int, bit: int) -> None:
    octets = bytearray(encode_chunk(7, group))
    octets[at % len(octets)] ^= 1 << bit
    try:
        chunk = decode_chunk(bytes(octets))
    except ProtocolError:
        return
    assert encode_chunk(chunk.device_alias, chunk.segments) == bytes(octets)


def test_a_cut_or_longer_chunk_is_refused() -> None:
    octets = encode_chunk(7, [segment(1), segment(2)])
    for wrong in (*(octets[:length] for length in range(len(octets))), octets + b"\0"):
        with pytest.raises(ProtocolError):
            decode_chunk(wrong)


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: encode_chunk(0, [segment()]), OutOfRange),
        (lambda: encode_chunk(7, []), OutOfRange),
        (lambda: encode_chunk(7, [segment(), segment()]), OutOfRange),
        (lambda: encode_chunk(7, [segment(0)]), OutOfRange),
        (lambda: encode_chunk(7, [segment(1, epoch=0)]), OutOfRange),
        (lambda: encode_chunk(7, [segment(1, 0)]), OutOfRange),
        (lambda: encode_chunk(7, [msgspec.structs.replace(segment(), digest=b"short")]), OutOfRange),
        (lambda: encode_chunk(7, [segment(1, signal_chunks.MAX_STORED_SEGMENT_BYTES + 1)]), OutOfRange),
        (lambda: encode_chunk(7, [segment(n, 10) for n in range(1, 258)]), LimitExceeded),
        (lambda: encode_chunk(7, [segment(n, 131_000) for n in (1, 2, 3)]), LimitExceeded),
        (lambda: decode_chunk(bytes(signal_chunks.MAX_LONE_CHUNK_BYTES + 1)), LimitExceeded),
        (lambda: decode_chunk(b"\x02\x07\x01"), DecodeError),
        (lambda: decode_chunk(b"\x01\x07\x00"), LimitExceeded),
        (lambda: decode_chunk(b"\x01\x07" + varint(257)), LimitExceeded),
    ],
)
def test_every_limit_of_a_chunk(make: Callable[[], object], error: type[ProtocolError]) -> None:
    with pytest.raises(error):
        make()


def test_signals_out_of_order_are_refused() -> None:
    octets = encode_chunk(7, [segment(1), segment(2)])
    swapped = octets[:3] + octets[38:73] + octets[3:38] + octets[73:]
    assert len(swapped) == len(octets)
    with pytest.raises(DecodeError, match="order"):
        decode_chunk(swapped)


def test_a_cut_makes_chunks_that_fit_and_leaves_nothing_out() -> None:
    group = [segment(n, 3_600 + n % 7) for n in range(1, 301)]
    groups = list(cut(group))
    assert [one for part in groups for one in part] == group
    sizes = [len(encode_chunk(limits.MAX_DEVICE_ALIAS, part)) for part in groups]
    assert max(sizes) <= signal_chunks.MAX_CHUNK_BYTES
    assert min(sizes[:-1]) > signal_chunks.MAX_CHUNK_BYTES - 2 * 3_700
    # What follows a chunk is cut alike without it, and whatever comes behind.
    assert list(cut(group[len(groups[0]) :])) == groups[1:]
    assert list(cut([*group, segment(400, 100_000)]))[: len(groups) - 1] == groups[:-1]


def test_a_long_signal_goes_alone_and_short_ones_by_number() -> None:
    longest = segment(1, signal_chunks.MAX_STORED_SEGMENT_BYTES)
    assert [len(part) for part in cut([longest, segment(2), segment(3)])] == [1, 2]
    assert len(encode_chunk(limits.MAX_DEVICE_ALIAS, [longest])) <= signal_chunks.MAX_LONE_CHUNK_BYTES
    assert [len(part) for part in cut([segment(n, 1) for n in range(1, 601)])] == [256, 256, 88]
    assert list(cut([])) == []


def test_limits_fit_those_of_the_store_and_of_proofs() -> None:
    assert signal_chunks.MAX_STORED_SEGMENT_BYTES == MAX_SEGMENT_BYTES
    assert 2**signal_parcels.MAX_PATH_HASHES >= limits.MAX_RESULTS_PER_EXCHANGE


@given(
    proofs=st.lists(
        st.tuples(runs, st.integers(1, 256), st.lists(st.binary(min_size=32, max_size=32), max_size=3)),
        min_size=1,
        max_size=4,
    ),
    chunk=st.binary(max_size=50),
)
def test_a_parcel_there_and_back(proofs: list[tuple[Run, int, list[bytes]]], chunk: bytes) -> None:
    made = tuple(
        SealProof(seal=run, n_segments=n, results=tuple(hashes), segments=tuple(hashes[::-1]))
        for run, n, hashes in proofs
    )
    assert decode_parcel(encode_parcel(made, chunk)) == (made, chunk)


def test_the_worst_proof_of_a_chunk_fits() -> None:
    # Scattered as evenly as can be, 256 of 10,000.
    positions = [n * 10_000 // 256 for n in range(256)]
    hashes = (bytes(32),) * proof_hashes(10_000, positions)
    proof = SealProof(seal=Run(limits.MAX_EPOCH, 1, 10_000), n_segments=256, results=hashes, segments=hashes)
    assert len(encode_parcel([proof], b"")) <= signal_parcels.MAX_PROOF_BYTES
    # And each of its own seal, by a path of its own.
    alone = SealProof(seal=Run(limits.MAX_EPOCH, 1, 10_000), n_segments=1, results=hashes[:14], segments=hashes[:14])
    parcel = encode_parcel([alone] * 256, bytes(signal_chunks.MAX_LONE_CHUNK_BYTES))
    assert len(parcel) <= signal_parcels.MAX_PARCEL_BYTES
    assert len(decode_parcel(parcel)[0]) == 256
    with pytest.raises(LimitExceeded):
        encode_parcel([alone] * 300, b"")


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"\x01\x00",
        varint(signal_parcels.MAX_PROOF_BYTES + 1),
        bytes(signal_parcels.MAX_PARCEL_BYTES + 1),
        b"\x05\x01\x01\x02\x01\x01",
        b"\x06\x01\x01\x01\x01\x00\x00",
        b"\x06\x01\x01\x01\x01\x01\x01",
        b"\x07\x01\x01\x01\x01\x01\x00\x00",
        b"\x02" + varint(257),
    ],
)
def test_what_is_no_parcel_is_refused(octets: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_parcel(octets)


@given(
    names=st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=64),
    asked=st.lists(runs, max_size=5),
    data=st.data(),
)
def test_question_and_answer_there_and_back(names: list[bytes], asked: list[Run], data: st.DataObject) -> None:
    request = MissingRequest(tuple(names), tuple(asked))
    assert decode_missing_request(encode_missing_request(request)) == request
    missing = data.draw(st.lists(st.booleans(), min_size=len(names), max_size=len(names)))
    response = MissingResponse(tuple(missing), tuple(asked))
    assert decode_missing_response(encode_missing_response(response), len(names)) == response
    if len(names) % 8:
        with pytest.raises(DecodeError, match="another length"):
            decode_missing_response(encode_missing_response(response), len(names) + 8)


def test_every_limit_of_a_question() -> None:
    too_many = tuple(Run(1, n, n) for n in range(1, signal_missing.MAX_RUNS_PER_QUESTION + 2))
    with pytest.raises(LimitExceeded):
        encode_missing_request(MissingRequest((bytes(32),), too_many))
    with pytest.raises(LimitExceeded):
        encode_missing_request(MissingRequest((bytes(32),) * 65))
    with pytest.raises(DecodeError):
        decode_missing_request(encode_missing_request(MissingRequest(())))
    answered = encode_missing_response(MissingResponse((True,), too_many))
    asked = b"\x01\x05" + answered[2:]
    with pytest.raises(ProtocolError):
        decode_missing_request(asked)
