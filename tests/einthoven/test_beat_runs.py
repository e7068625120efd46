"""Beats as they are stored: exact, small, and bytes that are none are told from bytes that are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from einthoven.beat_runs import MAX_BEAT_RUN_BYTES, decode_beats, encode_beats
from einthoven.errors import RecordFormatError
from einthoven.rice_codes import ESCAPE, MAX_REMAINDER_BITS, decode_rice, decode_varint, encode_rice, encode_varint
from einthoven.store_values import MAX_BEATS_PER_RUN, BeatRun
from einthoven_protocol.limits import MAX_TIME_MS

values = st.one_of(st.integers(0, 40), st.integers(0, 10_000), st.integers(0, 2**63 - 1))


def day(sd_ms: float, ectopic: float) -> BeatRun:
    """Beats with independent RR intervals of this spread, of which some are ventricular."""
    rng = np.random.default_rng(20_260_801)
    rr_ms = np.clip(rng.normal(850, sd_ms, MAX_BEATS_PER_RUN), 300, 2_000).astype(np.int64)
    classes = (2 * (rng.random(MAX_BEATS_PER_RUN) < ectopic)).astype(np.uint8)
    return BeatRun(1_700_000_000_000 + np.cumsum(rr_ms), classes)


@given(
    st.integers(0, 10_000),
    st.lists(st.tuples(st.one_of(st.integers(0, 2_000), st.integers(0, 2**40)), st.integers(0, 3)), min_size=1),
)
def test_runs_come_back(first_ms: int, beats: list[tuple[int, int]]) -> None:
    at_ms = first_ms + np.cumsum([rr_ms for rr_ms, _ in beats], dtype=np.int64)
    run = BeatRun(at_ms, np.array([kind for _, kind in beats], np.uint8))

    body = encode_beats(run)
    read = decode_beats(body)

    assert read == run
    assert read.at_ms.dtype == np.int64
    assert read.classes.dtype == np.uint8
    assert not read.at_ms.flags.writeable
    assert not read.classes.flags.writeable
    assert encode_beats(read) == body


@pytest.mark.parametrize(
    ("sd_ms", "ectopic", "most_bytes"), [(20, 0.0, 0.95), (20, 0.1, 1.05), (150, 0.02, 1.4), (20, 0.5, 1.2)]
)
def test_a_day_of_beats_takes_about_a_byte_each(sd_ms: float, ectopic: float, most_bytes: float) -> None:
    run = day(sd_ms, ectopic)

    body = encode_beats(run)

    assert len(body) <= most_bytes * MAX_BEATS_PER_RUN
    assert decode_beats(body) == run


def test_the_earliest_the_latest_and_the_longest_fit() -> None:
    at_ms = np.array([0, 0, MAX_TIME_MS, MAX_TIME_MS], np.int64)
    run = BeatRun(at_ms, np.array([3, 0, 3, 0], np.uint8))
    wild = np.sort(np.random.default_rng(1).integers(0, MAX_TIME_MS, MAX_BEATS_PER_RUN))
    longest = BeatRun(wild, np.random.default_rng(2).integers(0, 4, MAX_BEATS_PER_RUN).astype(np.uint8))

    assert decode_beats(encode_beats(run)) == run
    body = encode_beats(longest)
    assert len(body) <= MAX_BEAT_RUN_BYTES
    assert decode_beats(body) == longest


@given(st.binary(max_size=60))
def test_other_bytes_are_no_beats(octets: bytes) -> None:
    for body in (octets, b"\x01" + octets, b"\x01\x03" + octets):
        try:
            run = decode_beats(body)
        except RecordFormatError:
            continue
        assert encode_beats(run) == body


@given(st.data())
def test_a_changed_byte_is_another_run_or_none(data: st.DataObject) -> None:
    run = BeatRun(np.array([5_000, 5_800, 6_650, 7_000, 8_100], np.int64), np.array([0, 0, 2, 0, 1], np.uint8))
    body = bytearray(encode_beats(run))
    body[data.draw(st.integers(0, len(body) - 1))] ^= data.draw(st.integers(1, 255))

    try:
        assert decode_beats(bytes(body)) != run
    except RecordFormatError:
        return


@pytest.mark.parametrize("cut", range(1, 14))
def test_a_run_that_is_cut_off_or_too_long_is_none(cut: int) -> None:
    body = encode_beats(BeatRun(np.array([5_000, 5_800, 6_650], np.int64), np.array([0, 2, 0], np.uint8)))

    with pytest.raises(RecordFormatError):
        decode_beats(body[:-cut])
    with pytest.raises(RecordFormatError):
        decode_beats(body + bytes(cut))


def test_a_run_that_claims_too_many_beats_or_bytes_is_none() -> None:
    with pytest.raises(RecordFormatError):
        decode_beats(b"\x01" + encode_varint(MAX_BEATS_PER_RUN + 1) + bytes(100))
    with pytest.raises(RecordFormatError):
        decode_beats(b"\x01" + bytes(MAX_BEAT_RUN_BYTES))
    with pytest.raises(RecordFormatError):
        decode_beats(b"\x02" + encode_beats(day(1, 0.0))[1:])


@given(arrays(np.uint64, st.integers(0, 40), elements=values))
def test_rice_codes_come_back(numbers: np.ndarray[tuple[int], np.dtype[np.uint64]]) -> None:
    octets = encode_rice(numbers)

    read, end = decode_rice(b"xy" + octets + b"z", 2, len(numbers))

    assert read.tolist() == numbers.tolist()
    assert end == 2 + len(octets)


@given(arrays(np.uint64, st.integers(1, 40), elements=st.integers(0, 3_000)))
def test_a_rice_code_is_the_shortest_of_its_kind(numbers: np.ndarray[tuple[int], np.dtype[np.uint64]]) -> None:
    whole = numbers.tolist()
    sizes = []
    for bits in range(MAX_REMAINDER_BITS + 1):
        kept = [number for number in whole if number >> bits < ESCAPE]
        escaped = len(whole) - len(kept)
        sizes.append(sum((number >> bits) + 1 + bits for number in kept) + escaped * (ESCAPE + 1 + 64))

    # Each of the two streams is padded to a byte, and two bytes say how it is coded.
    assert len(encode_rice(numbers)) <= 2 + (min(sizes) + 14) // 8


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 2**62, 2**63 - 1])
def test_varints_come_back(value: int) -> None:
    octets = encode_varint(value)

    assert decode_varint(b"x" + octets, 1) == (value, 1 + len(octets))
    for cut in range(len(octets)):
        with pytest.raises(ValueError, match="integer"):
            decode_varint(octets[:cut], 0)


def test_a_varint_that_is_longer_than_it_needs_to_be_is_none() -> None:
    for octets in (b"\x80\x00", b"\x81\x80\x00", b"\xff" * 10):
        with pytest.raises(ValueError, match="integer"):
            decode_varint(octets, 0)
