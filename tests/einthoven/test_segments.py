"""Segments as bytes: exact, bounded, and calm about whatever bytes they are given."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import struct
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from einthoven.errors import RecordFormatError
from einthoven.ports import MISSING_UV, Segment
from einthoven.segment_activity import LEAST_NUMBERS, decode_by_activity, encode_by_activity
from einthoven.segment_fields import CHECKSUM_BYTES, MAX_VARINT_BYTES, FieldReader, checksum, folded, unfolded, varints
from einthoven.segment_grid import Grid, find_grid
from einthoven.segment_pcodec import BY_ACTIVITY, SAMPLES_A_RUN, decode_block, encode_block
from einthoven.segment_runs import (
    BLOCK_SAMPLES,
    MAX_RUN_SAMPLES,
    decode_run,
    encode_run,
    run_blocks,
    run_header,
)
from einthoven.segments import (
    MAX_SEGMENT_BYTES,
    MAX_SEGMENT_SAMPLES,
    decode_segment,
    encode_segment,
    segment_digest,
)

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "segments.json").read_text(encoding="utf-8"))

rates = st.builds(Fraction, st.integers(1, 2**32 - 1), st.integers(1, 2**32 - 1))
values = st.one_of(
    st.integers(-(2**31), 2**31 - 1),
    st.integers(-30, 30),
    st.sampled_from([MISSING_UV, 2**31 - 1, 32_767, -32_768, 0, 5, 10, 1_000_000]),
)
samples = npst.arrays(np.int32, st.integers(0, 300), elements=values)
segments = st.builds(Segment, rates, samples)


def ecg_like(n: int = 9_000, seed: int = 0) -> Segment:
    rng = np.random.default_rng(seed)
    return Segment(Fraction(300), np.cumsum(rng.integers(-12, 13, n)).astype(np.int32))


def with_gap_and_rail(n: int = 1_300) -> Segment:
    """Multiples of 5 uV with a lost packet, and an amplifier's rail that is no multiple."""
    samples_uv = ecg_like(n).samples_uv * 5
    samples_uv[n // 3 : n // 3 + 40] = MISSING_UV
    samples_uv[n // 2 : n // 2 + 30] = 32_767
    return Segment(Fraction(360), samples_uv)


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
    assert len(encode_segment(ecg_like())) < 9_000 * 5 / 8


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
        (framed(b"", 0, codec=4), "update this software"),
        (b"\x01" * 13, "header alone takes 13"),
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


# --- frozen: what was once stored is read for ever


@pytest.mark.parametrize(
    ("name", "codec"), [(name, codec) for name in VECTORS for codec in (1, 2, 3) if f"codec_{codec}" in VECTORS[name]]
)
def test_what_was_stored_is_still_read(name: str, codec: int) -> None:
    vector = VECTORS[name]
    stored = base64.b64decode(vector[f"codec_{codec}"])
    segment = decode_segment(stored)

    assert stored[0] == codec
    assert segment.sampling_rate_hz == Fraction(vector["sampling_rate_hz"])
    assert len(segment.samples_uv) == vector["n_samples"]
    assert segment_digest(segment).hex() == vector["sha256"]


def test_the_same_segment_is_stored_the_same_in_every_process() -> None:
    program = (
        "import hashlib, numpy as np\n"
        "from fractions import Fraction\n"
        "from einthoven.ports import Segment\n"
        "from einthoven.segments import encode_segment\n"
        "x = np.cumsum(np.arange(9000) * 7919 % 25 - 12).astype(np.int32)\n"
        "print(hashlib.sha256(encode_segment(Segment(Fraction(300), x))).hexdigest())\n"
    )
    runs = {
        subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
        for _ in range(2)
    }

    assert len(runs) == 1


# --- codec 2: any samples, and small ones small


@given(samples, st.integers(1, 9), st.integers(1, 2_000), st.integers(-(2**20), 2**20))
@settings(max_examples=200, deadline=None)
def test_repeated_scaled_and_offset_samples_come_back(
    samples_uv: np.ndarray, times: int, step: int, offset: int
) -> None:
    on_a_grid = (samples_uv.astype(np.int64) % 1_000 * step + offset).astype(np.int32)
    for shaped in (np.repeat(samples_uv, times), on_a_grid, np.repeat(on_a_grid, times)):
        stored = encode_segment(Segment(Fraction(300), shaped))
        assert stored[0] in (2, 3)
        assert np.array_equal(decode_segment(stored).samples_uv, shaped)


@pytest.mark.parametrize("n", [1, 255, 256, 257, 511, 513, 520, 1_023, 1_024, 1_025, 1_031, 2_561, 20_001, 20_225])
def test_lengths_at_the_edges_of_the_library_s_batches_come_back(n: int, capfd: pytest.CaptureFixture[str]) -> None:
    # pcodec 1.1.0 panics, and says so on stderr, if the last batch of 256 is shorter than the convolution.
    segment = ecg_like(n)

    assert np.array_equal(decode_segment(encode_segment(segment)).samples_uv, segment.samples_uv)
    assert capfd.readouterr().err == ""


def test_nothing_and_one_value_take_next_to_nothing() -> None:
    for samples_uv in ([], [-35] * 9_000, [MISSING_UV] * 9_000, [MISSING_UV] * 10 + [7] * 8_990):
        segment = Segment(Fraction(300), np.array(samples_uv, np.int32))
        stored = encode_segment(segment)
        assert len(stored) < 30
        assert decode_segment(stored).samples_uv.tolist() == samples_uv


def test_missing_samples_and_a_rail_cost_a_few_bytes() -> None:
    spoiled = ecg_like()
    signal = spoiled.samples_uv * 5
    clean = len(encode_segment(Segment(Fraction(300), signal)))
    signal = signal.copy()
    signal[2_000:2_500] = MISSING_UV
    signal[6_000:6_100] = 2**31 - 1
    signal[7_000] = 333_333

    stored = encode_segment(Segment(Fraction(300), signal))

    assert len(stored) < clean + 40
    assert np.array_equal(decode_segment(stored).samples_uv, signal)


def test_samples_missing_here_and_there_all_over_come_back() -> None:
    signal = ecg_like().samples_uv.copy()
    signal[:: SAMPLES_A_RUN - 1] = MISSING_UV

    assert np.array_equal(decode_segment(encode_segment(Segment(Fraction(300), signal))).samples_uv, signal)


def test_without_the_library_codec_1_is_written_and_codec_2_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    segment = ecg_like()
    with_library = encode_segment(segment)
    constant = encode_segment(Segment(Fraction(300), np.zeros(9_000, np.int32)))
    monkeypatch.setitem(sys.modules, "pcodec", None)

    stored = encode_segment(segment)

    assert stored[0] == 1
    assert np.array_equal(decode_segment(stored).samples_uv, segment.samples_uv)
    assert not decode_segment(constant).samples_uv.any()
    with pytest.raises(RecordFormatError, match="needs the library pcodec"):
        decode_segment(with_library)
    run = encode_run(segment)
    assert np.array_equal(decode_run(run).samples_uv, segment.samples_uv)


# --- the source's own step


@pytest.mark.parametrize("counts_per_mv", ["200", "400", "204.8", "409.6", "300", "137", "100", "204.918"])
@pytest.mark.parametrize("rounding", [np.rint, np.floor])
def test_the_step_of_a_recorder_is_found_and_worth_it(counts_per_mv: str, rounding: np.ufunc) -> None:
    counts = ecg_like().samples_uv
    samples_uv = rounding(counts * (1_000 / float(counts_per_mv))).astype(np.int32)

    grid = find_grid(samples_uv.astype(np.int64))
    as_counts = len(encode_segment(Segment(Fraction(300), counts)))
    as_microvolts = len(encode_segment(Segment(Fraction(300), samples_uv)))

    assert Fraction(grid.numerator, grid.denominator) == pytest.approx(1_000 / float(counts_per_mv), rel=1e-3)
    assert grid.holds(samples_uv.astype(np.int64)).all()
    assert as_microvolts < as_counts + 40


@given(
    npst.arrays(np.int64, st.integers(1, 50), elements=st.integers(-(2**31), 2**31 - 1)),
    st.builds(Grid, st.integers(1, 2**20), st.integers(1, 1_024), st.integers(-(2**30), 2**30), st.booleans()),
)
def test_a_grid_holds_what_it_gives(counts: np.ndarray, grid: Grid) -> None:
    counts = counts // 1_024
    samples_uv = grid.samples(counts)

    # Several counts may share a sample; the sample is given back all the same.
    assert grid.holds(samples_uv).all()
    assert np.array_equal(grid.centred(17).samples(counts - 17), samples_uv)


def test_no_step_is_found_where_there_is_none() -> None:
    rng = np.random.default_rng(0)

    assert find_grid(rng.integers(-500, 500, 9_000)) == Grid()
    assert find_grid(np.array([3, 4, 9], np.int64)) == Grid()
    wild = np.unique(rng.integers(-(2**31), 2**31, 3_000))
    assert find_grid(rng.permutation(wild)) == Grid()
    two_recorders = np.concatenate((np.rint(np.arange(400) * 3.7), np.rint(np.arange(400) * 4.3))).astype(np.int64)
    assert find_grid(two_recorders).holds(two_recorders).mean() < 1 or find_grid(two_recorders) == Grid()


# --- damage: nothing damaged reaches the native decoder


STORED = {
    "ECG": encode_segment(ecg_like(1_500)),
    "gap and rail": encode_segment(with_gap_and_rail()),
    "short": encode_segment(ecg_like(40)),
    "constant": encode_segment(Segment(Fraction(250), np.full(7_500, -35, np.int32))),
    "noise": encode_segment(
        Segment(Fraction(1_000), np.random.default_rng(1).integers(-(2**31), 2**31 - 1, 100).astype(np.int32))
    ),
}


def refused_as_damaged(stored: bytes) -> None:
    with pytest.raises(RecordFormatError) as refused:
        decode_segment(stored)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 200
    # Not by the library: the checksum, or what comes before it, has spoken.
    assert refused.value.__cause__ is None or stored[0] == 1


@pytest.mark.parametrize("name", STORED)
def test_every_wrong_byte_is_refused_before_the_library_sees_it(name: str) -> None:
    stored = STORED[name]
    assert stored[0] == 2
    for position in range(len(stored)):
        for change in (0x01, 0x80, 0xFF, 0x55):
            damaged = bytearray(stored)
            damaged[position] ^= change
            refused_as_damaged(bytes(damaged))


@pytest.mark.parametrize("name", STORED)
def test_every_truncation_is_refused(name: str) -> None:
    for length in range(len(STORED[name])):
        refused_as_damaged(STORED[name][:length])
    refused_as_damaged(STORED[name] + b"\0")


def test_ten_thousand_random_flips_are_refused() -> None:
    chance = random.Random(27)
    for _ in range(10_000):
        original = chance.choice(list(STORED.values()))
        damaged = bytearray(original)
        for _ in range(chance.randint(1, 4)):
            damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        if damaged != original:
            refused_as_damaged(bytes(damaged))


# --- forged: a right checksum over wrong bytes


def sealed(content: bytes) -> bytes:
    return b"\x02" + checksum(b"\x02" + content) + content


def head(n_samples: int) -> bytes:
    return varints([300, 1, n_samples])


ONE, COUNTS_16, COUNTS_32 = b"\x01", b"\x02", b"\x03"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "ends too early"),
        (varints([0, 1, 0]) + b"\0\0", "rate is not positive"),
        (varints([300, 0, 0]) + b"\0\0", "rate is not positive"),
        (varints([600, 2, 0]) + b"\0\0", "lowest terms"),
        (varints([2**32, 1, 0]) + b"\0\0", "allowed are 4294967295"),
        (head(MAX_SEGMENT_SAMPLES + 1) + ONE + b"\0\0", "samples, allowed are"),
        (head(2**32 - 1) + ONE + b"\0\0", "samples, allowed are"),
        (head(3), "ends too early"),
        (head(3) + b"\x04\0\0", "no known kind"),
        (head(3) + b"\0\0", "runs don't add up"),
        (head(0) + ONE + b"\0\0", "runs don't add up"),
        (head(3) + b"\0" + varints([1, 0, 3, 0]) + b"\0", "goes on after its end"),
        (head(3) + ONE + b"\0\0\0", "goes on after its end"),
        (head(3) + ONE + b"\0", "ends too early"),
        (head(3) + ONE + b"\0" + varints([folded(2**31)]), "out of range"),
        (head(3) + ONE + b"\0" + varints([2**33]), "a number in it is"),
        (head(3) + ONE + b"\0" + b"\xff" * (MAX_VARINT_BYTES + 1), "does not end"),
        (head(3) + b"\0" + varints([2]), "a number in it is 2"),
        (head(3) + b"\0" + varints([1, 4, 1, 0]), "a number in it is 4"),
        (head(3) + b"\0" + varints([1, 1, 3, 0]), "a number in it is 3"),
        (head(3) + COUNTS_16 + varints([0, 0, 1, 0, 0]), "step is not positive"),
        (head(3) + COUNTS_16 + varints([0, 1, 0, 0, 0]), "step is not positive"),
        (head(3) + COUNTS_16 + varints([0, 1, 1025, 0, 0]), "a number in it is 1025"),
        (head(3) + COUNTS_16 + varints([0, 1, 1, 0, 2]), "a number in it is 2"),
        (head(3) + COUNTS_16 + varints([0, 1, 1, 0, 0]), "decompressed"),
        (head(3) + COUNTS_32 + varints([0, 1, 1, 0, 0]) + b"not pcodec", "decompressed"),
    ],
)
def test_a_forged_header_is_refused(content: bytes, why: str) -> None:
    with pytest.raises(RecordFormatError, match=why):
        decode_segment(sealed(content))


def blocks_of(n_samples: int, value: np.ndarray, dtype: type) -> bytes:
    import pcodec

    kind = COUNTS_16 if dtype is np.int16 else COUNTS_32
    file: bytes = pcodec.standalone.simple_compress(value.astype(dtype), pcodec.ChunkConfig())
    return head(n_samples) + kind + varints([0, 1, 1, 0, 0]) + file


def test_a_body_of_another_length_or_type_is_refused_and_a_bomb_is_never_made() -> None:
    zeros = np.zeros(50_000_000, np.int8)
    for content in (
        blocks_of(3, np.arange(4), np.int16),
        blocks_of(5, np.arange(4), np.int16),
        blocks_of(4, np.arange(4), np.int32).replace(COUNTS_32 + b"\0\1\1", COUNTS_16 + b"\0\1\1"),
        blocks_of(MAX_SEGMENT_SAMPLES, zeros, np.int16),
    ):
        stored = sealed(content)
        tracemalloc.start()
        try:
            with pytest.raises(RecordFormatError, match=r"decompressed|length"):
                decode_segment(stored)
            assert tracemalloc.get_traced_memory()[1] < 4_000_000
        finally:
            tracemalloc.stop()


def test_a_grid_that_leads_out_of_range_is_refused() -> None:
    content = blocks_of(4, np.arange(4) * 10_000, np.int16)
    content = content.replace(varints([0, 1, 1, 0, 0]), varints([0, 2**32 - 1, 1, 0, 0]), 1)

    with pytest.raises(RecordFormatError, match="out of range"):
        decode_segment(sealed(content))


def test_forged_bodies_are_decoded_or_refused() -> None:
    chance = random.Random(5)
    outcomes = set()
    for _ in range(3_000):
        content = bytearray(chance.choice(list(STORED.values()))[1 + CHECKSUM_BYTES :])
        for _ in range(chance.randint(1, 4)):
            content[chance.randrange(len(content))] = chance.randrange(256)
        outcomes.add(refuse_or_decode(sealed(bytes(content))) is None)

    assert outcomes == {True, False}


# --- fields


@given(st.integers(0, 2**44), st.integers(-(2**43), 2**43))
def test_numbers_come_back_from_their_fields(number: int, signed: int) -> None:
    reader = FieldReader(varints([number, folded(signed)]) + b"abc")

    assert reader.varint(2**44) == number
    assert reader.signed(2**43) == signed
    assert unfolded(folded(signed)) == signed
    assert (reader.take(2), reader.rest()) == (b"ab", b"c")


# --- runs: a whole record


@pytest.fixture(scope="module")
def long_record() -> Segment:
    samples_uv = ecg_like(2 * BLOCK_SAMPLES + 500).samples_uv * 5
    samples_uv[BLOCK_SAMPLES - 10 : BLOCK_SAMPLES + 10] = MISSING_UV
    return Segment(Fraction(360), samples_uv)


def test_a_run_comes_back_whole_and_block_by_block(long_record: Segment) -> None:
    stored = encode_run(long_record)
    whole = decode_run(stored)

    assert run_header(stored) == (Fraction(360), len(long_record.samples_uv))
    assert np.array_equal(whole.samples_uv, long_record.samples_uv)
    assert not whole.samples_uv.flags.writeable
    assert [len(block) for block in run_blocks(stored)] == [BLOCK_SAMPLES, BLOCK_SAMPLES, 500]
    assert len(stored) < len(long_record.samples_uv) * 4.8 / 8


@given(segments)
@settings(max_examples=50, deadline=None)
def test_any_short_run_comes_back(segment: Segment) -> None:
    decoded = decode_run(encode_run(segment))

    assert decoded.sampling_rate_hz == segment.sampling_rate_hz
    assert np.array_equal(decoded.samples_uv, segment.samples_uv)


def damaged_runs(stored: bytes) -> Iterator[bytes]:
    for position in range(0, len(stored), 1 if len(stored) < 2_000 else len(stored) // 40):
        for change in (0x01, 0x80, 0xFF):
            damaged = bytearray(stored)
            damaged[position] ^= change
            yield bytes(damaged)
        yield stored[:position]
    yield stored + b"\0"


def test_every_damage_to_a_run_is_refused(long_record: Segment) -> None:
    for run in (with_gap_and_rail(), long_record):
        for damaged in damaged_runs(encode_run(run)):
            with pytest.raises(RecordFormatError) as refused:
                decode_run(damaged)
            assert "\n" not in str(refused.value)
            assert refused.value.__cause__ is None


def test_blocks_that_change_places_are_refused() -> None:
    samples_uv = np.concatenate([ecg_like(BLOCK_SAMPLES, seed=s).samples_uv for s in (1, 2)])
    stored = encode_run(Segment(Fraction(360), samples_uv))
    start = 8 + CHECKSUM_BYTES + len(varints([360, 1, 2 * BLOCK_SAMPLES]))
    first = FieldReader(stored, start)
    first.take(CHECKSUM_BYTES)
    first.take(first.varint(2**20))

    swapped = stored[:start] + stored[first.position :] + stored[start : first.position]

    assert len(swapped) == len(stored)
    with pytest.raises(RecordFormatError, match="checksum of a block"):
        decode_run(swapped)


@pytest.mark.parametrize(
    ("header", "why"),
    [
        (varints([0, 1, 0]), "rate is not positive"),
        (varints([300, 0, 0]), "rate is not positive"),
        (varints([300, 1, MAX_RUN_SAMPLES + 1]), "a number in it is"),
        (varints([300, 1, 10**12]), "a number in it is"),
        (varints([300, 1, MAX_RUN_SAMPLES]), "ends too early"),
    ],
)
def test_a_forged_run_is_refused_in_little_memory(header: bytes, why: str) -> None:
    stored = b"ECGRUN1\n" + checksum(header) + header
    tracemalloc.start()
    try:
        with pytest.raises(RecordFormatError, match=why):
            decode_run(stored)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_a_block_of_an_unknown_codec_is_refused() -> None:
    header, body = varints([300, 1, 3]), b"\x09body"
    seal = checksum(header + varints([0]) + body)
    stored = b"ECGRUN1\n" + checksum(header) + header + seal + varints([len(body)]) + body

    with pytest.raises(RecordFormatError, match="codec that this version does not know"):
        decode_run(stored)


@pytest.mark.parametrize(
    "run",
    [Segment(Fraction(0), np.zeros(3, np.int32)), Segment(Fraction(300), np.zeros(3, np.int64))],  # type: ignore[arg-type]
    ids=["no rate", "int64"],
)
def test_what_is_no_signal_is_not_encoded_as_a_run(run: Segment) -> None:
    with pytest.raises(ValueError, match=r"samples|rate"):
        encode_run(run)


class _Panic(BaseException):
    """What a Rust panic looks like from Python: no ``Exception``."""


def beating(n: int = 9_000, seed: int = 0) -> Segment:
    """A smooth wander, and a steep wave of its own height every 250 samples: what is coded by activity."""
    rng = np.random.default_rng(seed)
    samples_uv = np.convolve(rng.normal(0, 40, n), np.hanning(31), "same")
    for start in range(60, n - 25, 250):
        samples_uv[start : start + 25] += rng.normal(0, 300, 25) + 900 * np.hanning(25)
    return Segment(Fraction(300), np.round(samples_uv).astype(np.int32))


def test_beats_over_quiet_are_coded_by_activity_and_shorter_for_it() -> None:
    segment = beating()
    stored = encode_segment(segment)

    assert stored[0] == 3
    assert np.array_equal(decode_segment(stored).samples_uv, segment.samples_uv)
    assert len(stored) < 0.97 * len(encode_block(segment.samples_uv))


def test_a_run_of_blocks_is_not_coded_by_activity() -> None:
    """Readers of runs from before there was that way read what is written now."""
    segment = beating(20_100)

    assert encode_block(segment.samples_uv)[0] != BY_ACTIVITY
    assert np.array_equal(decode_run(encode_run(segment)).samples_uv, segment.samples_uv)
    with pytest.raises(RecordFormatError, match="of no known kind"):
        decode_block(encode_block(segment.samples_uv, by_activity=True), 20_100)


@given(
    npst.arrays(
        np.int16,
        st.integers(LEAST_NUMBERS, 1_300),
        elements=st.one_of(st.integers(-5, 5), st.integers(-(2**15), 2**15 - 1)),
    )
)
def test_coding_by_activity_gives_every_count_back(counts: np.ndarray) -> None:
    coded, _ = encode_by_activity(counts)

    assert np.array_equal(decode_by_activity(FieldReader(coded), len(counts)), counts)


@given(st.binary(max_size=400), st.integers(0, 2_000))
def test_other_bytes_are_refused_as_damage_by_activity(coded: bytes, n: int) -> None:
    with pytest.raises(RecordFormatError):
        decode_by_activity(FieldReader(coded), n)


@given(st.integers(0, 2**32), st.integers(1, 3))
def test_damage_behind_a_right_checksum_is_decoded_or_refused(seed: int, changes: int) -> None:
    chance = random.Random(seed)
    coded = bytearray(encode_by_activity(beating(2_000).samples_uv.astype(np.int16))[0])
    for _ in range(changes):
        coded[chance.randrange(len(coded))] ^= 1 << chance.randrange(8)

    try:
        counts = decode_by_activity(FieldReader(bytes(coded)), 2_000)
    except RecordFormatError:
        return
    assert counts.dtype == np.int16
    assert len(counts) == 2_000


class _OtherLibrary:
    """Stands in for a pcodec that fails, or that gives other numbers back."""

    def __init__(self, failure: BaseException | None) -> None:
        import pcodec

        self._failure = failure
        self._true = pcodec.standalone
        self.ChunkConfig, self.ModeSpec, self.DeltaSpec = pcodec.ChunkConfig, pcodec.ModeSpec, pcodec.DeltaSpec
        self.PagingSpec, self._wrapped = pcodec.PagingSpec, pcodec.wrapped
        self.standalone = self.wrapped = self.FileDecompressor = self

    def FileCompressor(self) -> object:
        if self._failure:
            raise self._failure
        return self._wrapped.FileCompressor()

    def new(self, stored: bytes) -> object:
        if self._failure:
            raise self._failure
        return self._wrapped.FileDecompressor.new(stored[:-1])

    def simple_compress(self, numbers: np.ndarray, config: object) -> object:
        if self._failure:
            raise self._failure
        return self._true.simple_compress(numbers[:-1], config)

    def simple_decompress_into(self, file: bytes, numbers: np.ndarray) -> object:
        if self._failure:
            raise self._failure
        return self._true.simple_decompress_into(file, numbers)


@pytest.mark.parametrize("failure", [_Panic("range end index"), RuntimeError("corrupt"), None])
def test_a_library_that_panics_or_loses_a_sample_is_not_used(
    monkeypatch: pytest.MonkeyPatch, failure: BaseException | None
) -> None:
    stored_before = encode_segment(ecg_like())
    monkeypatch.setitem(sys.modules, "pcodec", _OtherLibrary(failure))

    stored = encode_segment(ecg_like())

    assert stored[0] == 1
    assert np.array_equal(decode_segment(stored).samples_uv, ecg_like().samples_uv)
    if failure:
        with pytest.raises(RecordFormatError, match="decompressed"):
            decode_segment(stored_before)


def test_an_interrupt_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    stored = encode_segment(ecg_like())
    monkeypatch.setitem(sys.modules, "pcodec", _OtherLibrary(KeyboardInterrupt()))

    with pytest.raises(KeyboardInterrupt):
        encode_segment(ecg_like())
    with pytest.raises(KeyboardInterrupt):
        decode_segment(stored)
