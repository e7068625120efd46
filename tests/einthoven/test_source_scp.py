"""SCP-ECG records: what is read, and what is refused and how."""

from __future__ import annotations

import struct
import time
import tracemalloc
import warnings
from fractions import Fraction
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.einthoven.binary_records import (
    SWITCHING_TABLES,
    default_bits,
    differences,
    huffman_section,
    packed,
    scp_bytes,
    scp_file,
    scp_section,
    scp_sections,
    switching_bits,
    with_right_checksums,
)
from tests.einthoven.reader_damage import peak_bytes

from einthoven.errors import InputError, RecordFormatError, RecordNotFound, SamplingRateError
from einthoven.scp_huffman import decode_lead, integrated, read_tables
from einthoven.scp_sections import acquired_at_ms, crc
from einthoven.source_scp import ScpSource
from einthoven.sources import open_source

FORMATS = Path(__file__).parents[3] / "shared" / "data" / "formats"
SAMPLES = (300 * np.sin(np.arange(1000) / 20)).round().astype(int)
TWELVE = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")


def write(folder: Path, content: bytes) -> Path:
    (folder / "x.scp").write_bytes(content)
    return folder / "x.scp"


def read(path: Path, **options) -> np.ndarray:
    return np.concatenate(list(ScpSource.open(path, **options).chunks()))


@pytest.mark.parametrize("tables", ["default", "switching", "none"])
@pytest.mark.parametrize("order", [0, 1, 2])
def test_every_coding_and_order_of_differences(tmp_path, tables, order):
    path = write(tmp_path, scp_bytes({2: SAMPLES}, tables=tables, order=order))
    source = ScpSource.open(path)
    assert source.name == "SCP-ECG record, lead II"
    assert source.sampling_rate_hz == 500
    assert source.n_samples == SAMPLES.size
    assert source.started_at_ms is None
    assert np.array_equal(read(path), SAMPLES)


@given(
    st.lists(st.integers(-32_768, 32_767), min_size=1, max_size=60),
    st.sampled_from(["default", "switching"]),
    st.integers(0, 2),
)
def test_whatever_was_encoded_is_decoded(samples, tables, order):
    numbers = differences(samples, order)
    code = default_bits if tables == "default" else switching_bits
    if max(map(abs, numbers)) > 32_767:  # no 16-bit number: a writer would not use differences here
        return
    section = struct.pack("<H", 19_999) if tables == "default" else huffman_section(SWITCHING_TABLES)
    assert decode_lead(packed(code(numbers)), read_tables(section), len(samples), order).tolist() == samples


def test_integration_undoes_differences_of_any_order():
    for order in (0, 1, 2):
        for samples in ([], [5], [5, -7], [5, -7, 100, 3]):
            numbers = np.array(differences(samples, order), dtype=np.int64)
            assert integrated(numbers, order).tolist() == samples


def test_a_record_is_known_by_its_name_or_its_content(tmp_path):
    for name in ("x.scp", "x.SCP", "x.bin", "x"):
        (tmp_path / name).write_bytes(scp_bytes({2: SAMPLES}))
        assert open_source(tmp_path / name).name == "SCP-ECG record, lead II"
    older = bytearray(scp_bytes({2: SAMPLES}))
    older[16:22] = bytes(6)  # before version 1.3 nothing was written there
    (tmp_path / "x.scp").write_bytes(with_right_checksums(bytes(older)))
    assert open_source(tmp_path / "x.scp").name == "SCP-ECG record, lead II"


def test_steps_and_rates_are_the_records_own(tmp_path):
    path = write(tmp_path, scp_bytes({1: SAMPLES}, step_nv=2500, interval_us=1953))
    assert ScpSource.open(path).sampling_rate_hz == Fraction(1_000_000, 1953)
    assert np.array_equal(read(path), np.rint(SAMPLES * 2.5))


def test_leads_by_their_codes(tmp_path):
    path = write(tmp_path, scp_bytes({3: SAMPLES, 200: SAMPLES + 1, 62: SAMPLES + 2, 2: SAMPLES + 3}))
    assert np.array_equal(read(path), SAMPLES + 3)
    assert np.array_equal(read(path, lead="V1"), SAMPLES)
    assert np.array_equal(read(path, lead="aVR"), SAMPLES + 2)
    with pytest.raises(InputError, match="V1, AVR, II"):
        read(path, lead="V6")


def test_a_lead_of_unknown_code_is_read_only_alone(tmp_path):
    assert ScpSource.open(write(tmp_path, scp_bytes({200: SAMPLES}))).name == "SCP-ECG record"
    with pytest.raises(InputError, match="none of the 2"):
        read(write(tmp_path, scp_bytes({200: SAMPLES, 201: SAMPLES})))


def test_reference_beats_are_added_where_they_were_subtracted(tmp_path):
    beat = np.array([0, 10, 200, -80, 5, 0])
    rhythm = SAMPLES.copy()
    # First and last sample of a zone, and the sample on the fiducial point, which is the third of the beat; from 1.
    zones = [(0, 99, 101, 103), (1, 300, 301, 302), (0, 500, 500, 501), (0, 0, 2, 4), (0, 998, 999, 1005)]
    residual = rhythm.copy()
    for kind, first, centre, last in zones:
        for number in range(max(first, 1), min(last, 1000) + 1):
            place = number - centre + 3 - 1
            if kind == 0 and 0 <= place < beat.size:
                residual[number - 1] -= beat[place]
    assert not np.array_equal(residual, rhythm)
    content = scp_bytes({2: residual, 1: -residual}, reference=[beat, -beat], fiducial=3, zones=zones)
    path = write(tmp_path, content)
    assert np.array_equal(read(path), rhythm)
    assert np.array_equal(read(path, lead="I"), -rhythm)


def test_reference_beats_of_a_lead_that_begins_later(tmp_path):
    beat = np.array([50, 60, 70])
    residual = np.zeros(20, dtype=int)
    path = write(
        tmp_path, scp_bytes({2: residual}, first=101, reference=[beat], fiducial=2, zones=[(0, 104, 105, 106)])
    )
    assert read(path).tolist() == [0] * 3 + [50, 60, 70] + [0] * 14


def test_a_reference_beat_that_is_not_there_or_of_another_rate_is_refused(tmp_path):
    sections = scp_sections({2: SAMPLES}, reference=[SAMPLES[:10]], zones=[(0, 5, 5, 5)])
    for gone in (4, 5):
        with pytest.raises(RecordFormatError, match="not in the record"):
            read(write(tmp_path, scp_file({n: c for n, c in sections.items() if n != gone})))
    other = {**sections, 5: struct.pack("<HH", 1000, 4000) + sections[5][4:]}
    with pytest.raises(RecordFormatError, match="another rate"):
        read(write(tmp_path, scp_file(other)))
    cut = {**sections, 4: sections[4][:10]}
    with pytest.raises(RecordFormatError, match="QRS locations"):
        read(write(tmp_path, scp_file(cut)))


def test_a_reference_beat_that_was_not_subtracted_is_left_alone(tmp_path):
    assert np.array_equal(read(write(tmp_path, scp_bytes({2: SAMPLES}, reference=[SAMPLES[:10]]))), SAMPLES)


def test_compression_with_loss_is_refused(tmp_path):
    with pytest.raises(RecordFormatError, match="bimodal"):
        read(write(tmp_path, scp_bytes({2: SAMPLES}, bimodal=1)))


def tagged(*fields: tuple[int, bytes]) -> bytes:
    return b"".join(struct.pack("<BH", tag, len(value)) + value for tag, value in fields) + b"\xff\0\0"


DATE, TIME, NAME = (25, struct.pack("<HBB", 2002, 11, 22)), (26, bytes((9, 10, 0))), (0, b"Doe\0")


@pytest.mark.parametrize(
    ("fields", "at_ms"),
    [
        ((NAME, DATE, TIME, (34, struct.pack("<hh", 60, 0))), 1_037_952_600_000),
        ((NAME, DATE, TIME, (34, struct.pack("<hh", -300, 0) + b"EST\0")), 1_037_952_600_000 + 6 * 3_600_000),
        ((NAME, DATE, TIME, (34, struct.pack("<hh", 0x7FFF, 0))), None),
        ((NAME, DATE, TIME), None),
        ((DATE, (26, b"\x09"), (34, bytes(4))), None),
        (((25, struct.pack("<HBB", 2002, 13, 22)), TIME, (34, bytes(4))), None),
        ((DATE, (26, bytes((24, 0, 0))), (34, bytes(4))), None),
        ((DATE, TIME, (34, struct.pack("<hh", 2000, 0))), None),
        (((25, bytes(4)), TIME, (34, bytes(4))), None),
        ((), None),
    ],
)
def test_a_start_only_where_date_time_and_zone_are_stated(tmp_path, fields, at_ms):
    path = write(tmp_path, scp_bytes({2: SAMPLES}, section_1=tagged(*fields)))
    assert ScpSource.open(path).started_at_ms == at_ms


def test_section_1_may_be_cut_off_anywhere():
    whole = tagged(DATE, TIME, (34, struct.pack("<hh", 60, 0)))
    for end in range(len(whole)):
        assert acquired_at_ms(whole[:end]) in {None, 1_037_952_600_000}


def test_the_checksum_is_the_standards():
    assert crc(b"123456789") == 0x29B1  # the check value of CRC-CCITT from 0xFFFF


def test_a_damaged_record_or_section_is_refused(tmp_path):
    content = scp_bytes({2: SAMPLES})
    for at in (0, 3, 100, len(content) - 1):
        damaged = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
        with pytest.raises(RecordFormatError):
            read(write(tmp_path, damaged))
    section = content.index(scp_section(6, scp_sections({2: SAMPLES})[6]))
    damaged = bytearray(content)
    damaged[section] ^= 1
    struct.pack_into("<H", damaged, 0, crc(bytes(damaged[2:])))
    with pytest.raises(RecordFormatError, match="a section's checksum"):
        read(write(tmp_path, bytes(damaged)))
    assert np.array_equal(read(write(tmp_path, with_right_checksums(bytes(damaged)))), SAMPLES)
    assert np.array_equal(read(write(tmp_path, content + b"padding")), SAMPLES)


def patched(at: int, form: str, *values: int) -> bytes:
    content = bytearray(scp_bytes({2: SAMPLES}))
    struct.pack_into(form, content, at, *values)
    return with_right_checksums(bytes(content))


def changed(number: int, at: int, form: str, *values: int, **options) -> bytes:
    sections = scp_sections({2: SAMPLES}, **options)
    section = bytearray(sections[number])
    struct.pack_into(form, section, at, *values)
    return scp_file({**sections, number: bytes(section)})


def huffman(*tables) -> bytes:
    return scp_file({**scp_sections({2: SAMPLES}), 2: huffman_section(tables)})


GOOD = (1, 17, 1, 0, "0")


@pytest.mark.parametrize(
    ("content", "error", "says"),
    [
        (b"", RecordFormatError, "empty"),
        (b"SCPECG", RecordFormatError, "not an SCP-ECG"),
        (b"x" * 100, RecordFormatError, "not an SCP-ECG"),
        (scp_bytes({2: SAMPLES})[:-1], RecordFormatError, "shorter"),
        (patched(2, "<I", 2**31), RecordFormatError, "shorter"),
        (patched(10, "<I", 2**31), RecordFormatError, "pointer section"),
        (patched(10, "<I", 16), RecordFormatError, "pointer section"),
        (patched(22 + 30 + 2, "<I", 2**31), RecordFormatError, "beyond the record"),
        (patched(22 + 30 + 6, "<I", 2**31), RecordFormatError, "beyond the record"),
        (patched(22 + 30 + 6, "<I", 0), RecordFormatError, "beyond the record"),
        (patched(22 + 30, "<H", 6), RecordFormatError, "pointer says"),
        (patched(22 + 30, "<HII", *struct.unpack_from("<HII", scp_bytes({2: SAMPLES}), 22 + 20)), InputError, "twice"),
        (scp_file({2: struct.pack("<H", 19_999)}), RecordFormatError, "no rhythm"),
        (changed(3, 0, "<B", 0), RecordFormatError, "lead definitions"),
        (changed(3, 0, "<B", 255), RecordFormatError, "lead definitions"),
        (changed(3, 2, "<II", 5, 4), RecordFormatError, "before it begins"),
        (changed(3, 2, "<II", 0, 2**32 - 1), RecordFormatError, "samples"),
        (changed(3, 2, "<II", 1, 100_000), RecordFormatError, "shorter"),
        (changed(3, 2, "<II", 1, 1_100), RecordFormatError, "Huffman"),
        (changed(6, 0, "<H", 0), RecordFormatError, "no step"),
        (changed(6, 2, "<H", 0), RecordFormatError, "no rate"),
        (changed(6, 2, "<H", 1), SamplingRateError, "range"),
        (changed(6, 2, "<H", 65_535), SamplingRateError, "range"),
        (changed(6, 4, "<B", 3), RecordFormatError, "differences"),
        (changed(6, 6, "<H", 65_535), RecordFormatError, "than they claim"),
        (changed(6, 6, "<H", 10), RecordFormatError, "shorter"),
        (changed(6, 6, "<H", 10, tables="none"), RecordFormatError, "shorter"),
        (scp_file({**scp_sections({2: SAMPLES}), 6: b"12345"}), RecordFormatError, "rhythm data"),
        (changed(2, 0, "<H", 65), RecordFormatError, "number of Huffman"),
        (changed(2, 0, "<H", 3), RecordFormatError, "beyond its section"),
        (huffman(()), RecordFormatError, "beyond its section"),
        (huffman((GOOD, GOOD)), RecordFormatError, "the same"),
        (huffman((GOOD, (2, 2, 1, 0, "01"))), RecordFormatError, "begins with"),
        (huffman(((0, 0, 1, 0, "0"),)), RecordFormatError, "not possible"),
        (huffman(((0, 0, 0, 1, "0"),)), RecordFormatError, "not possible"),  # a switch to itself without a bit
        (huffman(((9, 8, 1, 0, "000000000"),)), RecordFormatError, "not possible"),
        (huffman(((1, 18, 1, 0, "0"),)), RecordFormatError, "not possible"),
        (huffman(((33, 33, 1, 0, "0"),)), RecordFormatError, "not possible"),
        (huffman(((1, 1, 2, 0, "0"),)), RecordFormatError, "not possible"),
        (huffman(((1, 1, 1, 0, "01"),)), RecordFormatError, "not possible"),
        (huffman(((1, 1, 0, 2, "0"),)), RecordFormatError, "not possible"),
        (huffman(((1, 1, 0, 0, "0"),)), RecordFormatError, "not possible"),
        # Tables that loop: they switch to themselves, or to each other, and never give a sample.
        (huffman(((1, 1, 0, 1, "0"), (1, 1, 0, 1, "1"))), RecordFormatError, "Huffman"),
        (
            huffman(((1, 1, 0, 2, "0"), (1, 1, 0, 2, "1")), ((1, 1, 0, 1, "0"), (1, 1, 0, 1, "1"))),
            InputError,
            "Huffman",
        ),
        (huffman((GOOD,)), RecordFormatError, "Huffman"),
        (
            scp_bytes({2: [30_000] * 3, 1: [0] * 3}, order=0, reference=[[30_000] * 3] * 2, zones=[(0, 1, 1, 3)]),
            InputError,
            "16 bits",
        ),
    ],
)
def test_what_is_refused_and_what_it_says(tmp_path, content, error, says):
    path = write(tmp_path, content)
    tracemalloc.start()
    try:
        with pytest.raises(InputError) as caught:
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 50 * 2**20
    finally:
        tracemalloc.stop()
    assert isinstance(caught.value, error)
    assert says in str(caught.value)


def test_a_file_that_is_not_there_or_too_large(tmp_path):
    with pytest.raises(RecordNotFound):
        read(tmp_path / "none.scp")
    with (tmp_path / "x.scp").open("wb") as file:
        file.truncate(33 * 2**20)
    with pytest.raises(RecordFormatError, match="larger than 32 MiB"):
        read(tmp_path / "x.scp")


def test_the_longest_lead_is_decoded_in_time_and_memory(tmp_path):
    path = write(tmp_path, scp_bytes({2: np.zeros(524_000, dtype=int)}, order=0))  # a bit a sample, 65,500 bytes
    started = time.monotonic()
    assert read(path).size == 524_000
    assert time.monotonic() - started < 20
    path = write(tmp_path, scp_bytes({2: np.zeros(52_400, dtype=int)}, order=0))
    assert peak_bytes(lambda: read(path)) < 8 * 2**20


@pytest.mark.data
def test_the_sample_record_holds_the_very_tracing_of_the_dicom_file():
    if not FORMATS.is_dir():
        pytest.skip("needs ../shared/data/formats")
    path = FORMATS / "scp" / "hl7_example.scp"
    assert crc(path.read_bytes()[2:]) == 1643
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rhythm = pydicom.dcmread(FORMATS / "dicom" / "hl7_example_12lead_500hz.dcm").waveform_array(0)
    for index, lead in enumerate(TWELVE):
        source = ScpSource.open(path, lead=lead)
        assert source.sampling_rate_hz == 500
        assert source.name.endswith(f"lead {lead.upper()}")
        assert "Clark" not in repr(source)
        # Neither bimodal compression nor reference beats: equal to the microvolt, not nearly.
        samples = np.concatenate(list(source.chunks()))
        assert np.array_equal(samples, np.rint(rhythm[:, index]))
        aecg = open_source(FORMATS / "aecg" / "hl7_example_subject1.xml", lead=lead)
        assert np.array_equal(samples, np.concatenate(list(aecg.chunks())))
