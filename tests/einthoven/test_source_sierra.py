"""Philips Sierra: the packing, the derived limb leads, the calibration pulse; and what is refused and how."""

from __future__ import annotations

import base64
import re
import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.einthoven.ecg_exports import LEADS, lzw, pack_codes, sierra, sierra_chunks, twelve_leads, xli_chunk

from einthoven.errors import InputError, RecordFormatError, SamplingRateError
from einthoven.ports import MISSING_UV
from einthoven.source_sierra import SierraSource
from einthoven.sources import open_source
from einthoven.xli import MAX_CHANNELS, XliChunk, split_chunks, unpack

FORMATS = Path(__file__).parents[3] / "shared" / "data" / "formats"
needs_files = pytest.mark.skipif(not FORMATS.is_dir(), reason="needs ../shared/data/formats")
FILES = ("v1_03.xml", "v1_04.xml", "v1_04_01.xml")


def open_bytes(folder: Path, content: bytes, **options) -> SierraSource:
    (folder / "x.xml").write_bytes(content)
    return SierraSource.open(folder / "x.xml", **options)


@pytest.mark.parametrize("name", LEADS)
def test_every_lead_comes_back_as_it_was(tmp_path, name):
    leads = twelve_leads()
    source = open_bytes(tmp_path, sierra(sierra_chunks(leads)), lead=name)
    assert np.array_equal(np.concatenate(list(source.chunks())), leads[name] * 5)
    assert source.sampling_rate_hz == 500
    assert source.name == f"Philips Sierra record, lead {name.upper()}"
    assert source.started_at_ms is None


@pytest.mark.parametrize(
    "options",
    [
        {"version": "1.03", "labels": None, "packing": 'compressflag="True" compressmethod="XLI"'},
        {"version": "1.04", "encoding": "UTF-16"},
        {"version": "1.04.01"},
    ],
)
def test_each_version(tmp_path, options):
    leads = twelve_leads()
    source = open_bytes(tmp_path, sierra(sierra_chunks(leads), **options))
    assert np.array_equal(source.samples_uv, leads["II"] * 5)
    assert open_source(tmp_path / "x.xml").name == source.name


def test_the_rate_may_be_fractional_and_the_resolution_a_decimal(tmp_path):
    content = sierra(sierra_chunks(twelve_leads()), rate="512.5", resolution="2.44", duration="1200")
    with pytest.raises(RecordFormatError, match="does not hold together"):
        open_bytes(tmp_path, content)  # 615 samples are claimed, 600 are there
    content = sierra(sierra_chunks(twelve_leads(615)), rate="512.5", resolution="2.44", duration="1200")
    source = open_bytes(tmp_path, content)
    assert source.sampling_rate_hz == Fraction(1025, 2)
    assert source.samples_uv[0] == round(float(twelve_leads(615)["II"][0]) * 2.44)


def test_the_calibration_pulse_is_missing_with_the_zeros_around_it_and_nothing_else(tmp_path):
    leads = twelve_leads()
    for name in leads:
        leads[name][500:] = 0
        leads[name][520:560] = 200  # 1 mV at 5 uV
    leads["II"][100] = 200  # one lead at 1 mV is an ECG
    leads["I"][200] = leads["II"][200] = leads["III"][200] = 0  # so are three at nothing
    samples_uv = open_bytes(tmp_path, sierra(sierra_chunks(leads)), lead="V3").samples_uv
    assert (samples_uv[500:] == MISSING_UV).all()
    assert np.array_equal(samples_uv[:500], leads["V3"][:500] * 5)


def test_without_limb_leads_nothing_is_derived_and_no_pulse_is_known(tmp_path):
    leads = twelve_leads()
    chunks = b"".join(xli_chunk(leads[name]) for name in ("V1", "V2", "III"))
    content = sierra(chunks, labels="V1 V2 III")
    assert np.array_equal(open_bytes(tmp_path, content, lead="V2").samples_uv, leads["V2"] * 5)
    with pytest.raises(InputError, match="relative to I and II"):
        open_bytes(tmp_path, content, lead="III")


CHUNKS = sierra_chunks(twelve_leads())
GOOD = sierra(CHUNKS)
SIZE = struct.calcsize("<IHh")


def with_first_chunk(chunk: bytes) -> bytes:
    return sierra(chunk + CHUNKS[SIZE + struct.unpack_from("<I", CHUNKS)[0] :])


@pytest.mark.parametrize(
    ("content", "error", "says"),
    [
        (sierra(CHUNKS, version="1.05"), RecordFormatError, "version"),
        (GOOD.replace(b"parsedwaveforms", b"rawwaveforms"), RecordFormatError, "no waveforms"),
        (sierra(CHUNKS, packing=""), RecordFormatError, "not packed"),
        (sierra(CHUNKS, packing='compression="LZ4"'), RecordFormatError, "not packed"),
        (sierra(CHUNKS, packing='compressflag="False" compressmethod="XLI"'), RecordFormatError, "not packed"),
        (sierra(CHUNKS, base="Hex"), RecordFormatError, "unknown encoding"),
        (sierra(CHUNKS, bits="12"), RecordFormatError, "unknown encoding"),
        (sierra("%%% not base64 %%%"), RecordFormatError, "not Base64"),
        (sierra("QUJD" * 3 + "Q"), RecordFormatError, "not Base64"),
        (sierra(""), RecordFormatError, "fewer leads"),
        (sierra("QUJD" * 4), RecordFormatError, "does not hold together"),
        (sierra(CHUNKS, labels=None, leadset="MASON"), RecordFormatError, "does not name"),
        (sierra(CHUNKS, labels=" ".join([*LEADS, "V7"])), RecordFormatError, "fewer leads"),
        (sierra(CHUNKS, labels="I II III aVR aVL aVF V1 V2 V3 V4 V5 II"), RecordFormatError, "more than once"),
        (sierra(CHUNKS, labels="Jane Roe"), InputError, "none of the 2"),
        (sierra(CHUNKS, rate="0"), SamplingRateError, "out of range"),
        (sierra(CHUNKS, rate="often"), SamplingRateError, "not a number"),
        (sierra(CHUNKS, rate=""), SamplingRateError, "no sampling rate"),
        (sierra(CHUNKS, resolution="0"), RecordFormatError, "resolution"),
        (sierra(CHUNKS, resolution="-5"), RecordFormatError, "resolution"),
        (sierra(CHUNKS, resolution="NaN"), RecordFormatError, "resolution"),
        (sierra(CHUNKS, resolution="1e30"), RecordFormatError, "resolution"),
        (sierra(CHUNKS, duration="2000000000000"), RecordFormatError, "duration"),
        (sierra(CHUNKS, duration="1e12"), RecordFormatError, "duration"),
        (sierra(CHUNKS, duration="0"), RecordFormatError, "duration"),
        (sierra(CHUNKS, duration="-2"), RecordFormatError, "duration"),
        (sierra(CHUNKS, duration="1.5"), RecordFormatError, "duration"),
        (sierra(CHUNKS, duration="1198"), RecordFormatError, "does not hold together"),
        (sierra(CHUNKS, duration="8000000"), RecordFormatError, "does not hold together"),
        (sierra(CHUNKS, packing='compression="XLI" samplespersecond="250"'), RecordFormatError, "contradicts"),
        (GOOD.replace(b"restingecgdata", b"restingeegdata"), RecordFormatError, "not a Philips"),
        (with_first_chunk(xli_chunk(twelve_leads()["I"], mark=2)), RecordFormatError, "does not hold together"),
        (with_first_chunk(struct.pack("<IHh", 2**32 - 1, 1, 0)), RecordFormatError, "does not hold together"),
    ],
)
def test_what_is_refused_and_what_it_says(tmp_path, content, error, says):
    with pytest.raises(InputError, match=says) as caught:
        open_bytes(tmp_path, content, lead=None)
    assert type(caught.value) is error
    assert "\n" not in str(caught.value)
    assert "Roe" not in str(caught.value)


# The packing by itself


@given(st.lists(st.integers(-8_000, 8_000), min_size=2, max_size=300))
@example([0, -8_000, 8_000, -8_000])
def test_packing_and_unpacking_are_inverse(samples):
    """Up to 8,000 counts: four times that, and the offset, is the largest second difference that 16 bits hold."""
    (chunk,) = split_chunks(xli_chunk(samples))
    assert unpack(chunk, len(samples)).tolist() == samples


def test_a_long_record_fills_the_table_and_goes_on():
    samples = np.random.default_rng(1).integers(-8000, 8000, 20_000)
    (chunk,) = split_chunks(xli_chunk(samples))
    assert np.array_equal(unpack(chunk, 20_000), samples)


def test_a_code_may_name_the_entry_that_it_completes():
    """A run of one byte is packed as 0, 256, 257, ...: each code is one longer than the table holds."""
    assert pack_codes([0, 256, 257, 258, 1023])[:5].hex() == "0010040502"  # as the sample files begin
    assert lzw(bytes(10)) == pack_codes([0, 256, 257, 258, 1023])
    assert unpack(XliChunk(0, pack_codes([0, 256, 257, 258, 1023])), 5)[:2].tolist() == [0, 0]


@pytest.mark.parametrize(
    "codes",
    [
        [1023],
        [0, 0],  # no end mark
        [300, 1023],  # names an entry that is not there yet
        [0, 258, 1023],
        [256, 1023],
        [0, 256, 1023],  # three bytes, eight asked for
        [0, *range(256, 1022)],  # a bomb: 300,000 bytes from 960
    ],
)
def test_codes_that_do_not_add_up(codes):
    with pytest.raises(RecordFormatError, match="does not hold together"):
        unpack(XliChunk(0, pack_codes(codes)), 4)


def test_a_sample_beyond_sixteen_bits_shows_damage():
    steep = xli_chunk([0, 30_000])[:SIZE] + lzw(b"\0\x75\0\0" + b"\0\x30\0\0")
    (chunk,) = split_chunks(struct.pack("<IHh", len(steep) - SIZE, 1, 0) + steep[SIZE:])
    with pytest.raises(RecordFormatError, match="does not hold together"):
        unpack(chunk, 4)


def test_more_chunks_than_any_recorder_has_channels():
    chunk = xli_chunk([0, 0, 0])
    assert len(split_chunks(chunk * MAX_CHANNELS)) == MAX_CHANNELS
    with pytest.raises(RecordFormatError):
        split_chunks(chunk * (MAX_CHANNELS + 1))


# The sample files


@pytest.mark.data
@needs_files
@pytest.mark.parametrize(
    ("record", "middle"),
    [
        ("v1_03.xml", [-9, -17, -7, 13, -1, -12, 0, -1, -3, -4, -7, -6]),
        ("v1_04.xml", [-11, -54, -43, 32, 16, -49, 7, -4, -14, -41, -35, -33]),
        ("v1_04_01.xml", [-12, 78, 90, -33, -51, 84, 14, 3, -24, -20, -13, -21]),
    ],
)
def test_the_middle_sample_is_the_published_one(record, middle):
    """As in the tests of sierra-ecg-tools, but for aVR and aVF of 1.04: its JavaScript floors there, see the next."""
    path = FORMATS / "philips_sierra" / record
    got = [int(SierraSource.open(path, lead=name).samples_uv[2750]) for name in LEADS]
    assert got == [5 * count for count in middle]


@pytest.mark.data
@needs_files
@pytest.mark.parametrize(("record", "within"), list(zip(FILES, [(2, 1.5), (0, 0.5), (0, 0.5)], strict=True)))
def test_the_leads_obey_einthoven_and_goldberger(record, within):
    """In counts: I + III = II, and half a count, the rounding, for the augmented leads of 1.04."""
    path = FORMATS / "philips_sierra" / record
    leads = {name: SierraSource.open(path, lead=name).samples_uv for name in LEADS[:6]}
    there = leads["I"] != MISSING_UV
    one, two, three, right, left, foot = (leads[name][there] / 5 for name in LEADS[:6])
    assert there.sum() > 5_200
    assert np.abs(one + three - two).max() <= within[0]
    assert np.abs(right + (one + two) / 2).max() <= within[1]
    assert np.abs(left - (one - three) / 2).max() <= within[1]
    assert np.abs(foot - (two + three) / 2).max() <= within[1]


@pytest.mark.data
@needs_files
@pytest.mark.parametrize(("record", "last"), list(zip(FILES, [5264, 5300, 5300], strict=True)))
def test_every_lead_ends_where_the_calibration_trailer_begins(record, last):
    for name in LEADS:
        missing = SierraSource.open(FORMATS / "philips_sierra" / record, lead=name).samples_uv == MISSING_UV
        assert not missing[:last].any()
        assert missing[last:].all()


@pytest.mark.data
@needs_files
@pytest.mark.parametrize("record", FILES[1:])
def test_the_recorders_own_average_beat_is_in_the_rhythm(record):
    """The average beats stand uncompressed in the file: an independent copy of each lead's shape and amplitude."""
    path = FORMATS / "philips_sierra" / record
    text = path.read_text(encoding="utf-16")
    rate, step_uv = map(float, re.search(r'samplespersec="(\d+)" resolution="([\d.]+)"', text).groups())
    beats = re.findall(r'<repbeat leadname="(\w+)".*?<waveform [^>]*>([^<]*)<', text, re.DOTALL)
    assert len(beats) == 12
    for name, packed in beats:
        beat = np.frombuffer(base64.b64decode(packed), dtype="<i2")[:: round(rate / 500)].astype(float)
        beat = beat[beat != 2**15 - 1] * step_uv
        peak = int(np.abs(beat - np.median(beat)).argmax())
        beat = beat[max(0, peak - 60) : peak + 120]
        rhythm = SierraSource.open(path, lead=name).samples_uv[:5200].astype(float)
        windows = np.lib.stride_tricks.sliding_window_view(rhythm, beat.size)
        centred = windows - windows.mean(axis=1, keepdims=True)
        shape = beat - beat.mean()
        likeness = centred @ shape / np.sqrt((centred**2).sum(axis=1) * (shape**2).sum() + 1e-9)
        best = int(likeness.argmax())
        assert likeness[best] > 0.985, name
        assert np.ptp(windows[best]) == pytest.approx(np.ptp(beat), rel=0.2), name
