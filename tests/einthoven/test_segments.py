"""Segments as bytes: exact, bounded, and calm about whatever bytes they are given."""

from __future__ import annotations

import hashlib
import struct
import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from einthoven.errors import RecordFormatError
from einthoven.ports import MISSING_UV, Segment
from einthoven.segments import (
    MAX_SEGMENT_BYTES,
    MAX_SEGMENT_SAMPLES,
    decode_segment,
    encode_segment,
    segment_digest,
)

rates = st.builds(Fraction, st.integers(1, 2**32 - 1), st.integers(1, 2**32 - 1))
samples = npst.arrays(np.int32, st.integers(0, 300))
segments = st.builds(Segment, rates, samples)


def ecg_like(n: int = 9_000, seed: int = 0) -> Segment:
    rng = np.random.default_rng(seed)
    return Segment(Fraction(300), np.cumsum(rng.integers(-12, 13, n)).astype(np.int32))


@given(segments)
def test_decoding_gives_back_every_bit(segment: Segment) -> None:
    decoded = decode_segment(encode_segment(segment))

    assert decoded.sampling_rate_hz == segment.sampling_rate_hz
    assert decoded.samples_uv.dtype == np.int32
    assert np.array_equal(decoded.samples_uv, segment.samples_uv)
    assert segment_digest(decoded) == segment_digest(segment)
    assert not decoded.samples_uv.flags.writeable


@pytest.mark.parametrize(
    "samples_uv",
    [
        [],
        [MISSING_UV],
        [MISSING_UV] * 5,
        [0, MISSING_UV, 2**31 - 1, MISSING_UV, -1],
        [2**31 - 1, -(2**31) + 1] * 3,
    ],
)
def test_missing_samples_and_extremes_are_exact(samples_uv: list[int]) -> None:
    segment = Segment(Fraction(512_617, 1_000), np.array(samples_uv, np.int32))

    assert decode_segment(encode_segment(segment)).samples_uv.tolist() == samples_uv


def test_a_view_with_a_stride_is_encoded_as_what_it_shows() -> None:
    every_second = Segment(Fraction(300), np.arange(100, dtype=np.int32)[::-2])

    assert decode_segment(encode_segment(every_second)).samples_uv.tolist() == list(range(99, 0, -2))
    assert segment_digest(every_second) == segment_digest(Segment(Fraction(300), every_second.samples_uv.copy()))


def test_the_digest_is_of_the_documented_bytes() -> None:
    segment = Segment(Fraction(1_000, 4), np.array([1, -2, MISSING_UV], np.int32))
    canonical = struct.pack("<BIII3i", 1, 250, 1, 3, 1, -2, MISSING_UV)

    assert segment_digest(segment) == hashlib.sha256(canonical).digest()


def test_rate_and_samples_are_both_in_the_digest() -> None:
    one = ecg_like()
    changed = one.samples_uv.copy()
    changed[-1] ^= 1

    distinct = {
        segment_digest(one),
        segment_digest(Segment(Fraction(301), one.samples_uv)),
        segment_digest(Segment(Fraction(300), changed)),
        segment_digest(Segment(Fraction(300), one.samples_uv[:-1])),
    }

    assert len(distinct) == 4


@pytest.mark.parametrize(
    "segment",
    [
        Segment(Fraction(300), np.zeros(MAX_SEGMENT_SAMPLES + 1, np.int32)),
        Segment(Fraction(300), np.zeros(3, np.int64)),  # type: ignore[arg-type]
        Segment(Fraction(300), np.zeros((3, 1), np.int32)),
        Segment(Fraction(0), np.zeros(3, np.int32)),
        Segment(Fraction(-1), np.zeros(3, np.int32)),
        Segment(Fraction(2**32), np.zeros(3, np.int32)),
        Segment(Fraction(1, 2**32), np.zeros(3, np.int32)),
    ],
    ids=["too long", "int64", "two axes", "no rate", "negative rate", "rate over 32 bits", "denominator over 32 bits"],
)
def test_what_goes_over_a_limit_is_not_encoded(segment: Segment) -> None:
    with pytest.raises(ValueError, match=r"samples|rate"):
        encode_segment(segment)
    with pytest.raises(ValueError, match=r"samples|rate"):
        segment_digest(segment)


def test_the_longest_segment_fits_even_as_noise() -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(-(2**31), 2**31, MAX_SEGMENT_SAMPLES, dtype=np.int64).astype(np.int32)

    stored = encode_segment(Segment(Fraction(1_000), noise))

    assert len(stored) <= MAX_SEGMENT_BYTES
    assert np.array_equal(decode_segment(stored).samples_uv, noise)


def test_thirty_seconds_of_ecg_take_few_bytes() -> None:
    assert len(encode_segment(ecg_like())) < 9_000 * 6 / 8


@given(st.binary(max_size=400))
@settings(max_examples=300)
def test_any_bytes_are_decoded_or_refused(stored: bytes) -> None:
    refuse_or_decode(stored)


@given(st.binary(max_size=60), st.integers(0, 2**32 - 1))
def test_any_body_behind_a_good_header_is_decoded_or_refused(body: bytes, n_samples: int) -> None:
    refuse_or_decode(struct.pack("<BIII", 1, 300, 1, n_samples) + body)


@given(st.data())
@settings(max_examples=300)
def test_any_mutation_is_refused_or_gives_another_digest_or_the_same_samples(data: st.DataObject) -> None:
    original = ecg_like(200)
    stored = bytearray(encode_segment(original))
    match data.draw(st.sampled_from(["flip", "cut", "insert", "append"])):
        case "flip":
            stored[data.draw(st.integers(0, len(stored) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        case "cut":
            del stored[data.draw(st.integers(0, len(stored) - 1)) :]
        case "insert":
            stored.insert(data.draw(st.integers(0, len(stored))), data.draw(st.integers(0, 255)))
        case _:
            stored += data.draw(st.binary(min_size=1, max_size=40))

    decoded = refuse_or_decode(bytes(stored))

    if decoded is not None and segment_digest(decoded) == segment_digest(original):
        assert np.array_equal(decoded.samples_uv, original.samples_uv)
        assert decoded.sampling_rate_hz == original.sampling_rate_hz


def refuse_or_decode(stored: bytes) -> Segment | None:
    try:
        return decode_segment(stored)
    except RecordFormatError:
        return None


def framed(planes: bytes, n_samples: int, *, codec: int = 1, rate: tuple[int, int] = (300, 1)) -> bytes:
    return struct.pack("<BIII", codec, *rate, n_samples) + zstandard.ZstdCompressor().compress(planes)


def without_content_size(planes: bytes, n_samples: int) -> bytes:
    body = zstandard.ZstdCompressor(write_content_size=False).compress(planes)
    return struct.pack("<BIII", 1, 300, 1, n_samples) + body


@pytest.mark.parametrize(
    ("stored", "why"),
    [
        (b"", "it has 0 bytes"),
        (b"\x01" * (MAX_SEGMENT_BYTES + 1), "bytes, allowed are"),
        (framed(b"", 0, codec=0), "codec 0"),
        (framed(b"", 0, codec=2), "update this software"),
        (framed(b"", 0, rate=(0, 1)), "rate is not positive"),
        (framed(b"", 0, rate=(300, 0)), "rate is not positive"),
        (framed(b"", 0, rate=(600, 2)), "lowest terms"),
        (framed(b"\0" * 8, MAX_SEGMENT_SAMPLES + 1), "samples, allowed are"),
        (framed(b"\0" * 8, 3), "not the one it claims"),
        (framed(b"\0" * 12, 2), "not the one it claims"),
        (without_content_size(b"\0" * 12, 3), "not the one it claims"),
        (framed(b"\0" * 12, 3)[:-1], "decompressed"),
        (framed(b"\0" * 12, 3) + b"\0", "decompressed"),
        (struct.pack("<BIII", 1, 300, 1, 3) + b"not zstd", "decompressed"),
    ],
)
def test_damage_is_named(stored: bytes, why: str) -> None:
    with pytest.raises(RecordFormatError, match=why) as refused:
        decode_segment(stored)

    assert "\n" not in str(refused.value)


def test_a_decompression_bomb_is_refused_without_making_it() -> None:
    bomb = framed(b"\0" * 200_000_000, MAX_SEGMENT_SAMPLES)
    assert len(bomb) < MAX_SEGMENT_BYTES
    tracemalloc.start()
    try:
        with pytest.raises(RecordFormatError):
            decode_segment(bomb)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak_bytes < 2_000_000
