"""DICOM ECGs: what is read, and what is refused and how; pydicom's own decoding is the oracle."""

from __future__ import annotations

import io
import tracemalloc
import warnings
import zlib
from fractions import Fraction
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileMetaDataset
from tests.einthoven.binary_records import SAMPLE_TYPES, coded, dicom_bytes, dicom_channel, dicom_group, small_dicom

from einthoven.errors import InputError, RecordFormatError, RecordNotFound, SamplingRateError, UnknownUnit
from einthoven.ports import MISSING_UV
from einthoven.source_dicom import DicomSource
from einthoven.sources import open_source

FORMATS = Path(__file__).parents[3] / "shared" / "data" / "formats"
SAMPLES = (300 * np.sin(np.arange(1001) / 20)).round().astype(int)
TWELVE = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")


def write(folder: Path, content: bytes) -> Path:
    (folder / "x.dcm").write_bytes(content)
    return folder / "x.dcm"


def read(path: Path, **options) -> np.ndarray:
    return np.concatenate(list(DicomSource.open(path, **options).chunks()))


def one(samples=SAMPLES, *, kind="SS", rate="250", group=None, **channel) -> bytes:
    """A recording of one lead II; the rest are fields of the group and of the channel."""
    return dicom_bytes(
        [dicom_group([samples], [dicom_channel("2:2", **channel)], kind=kind, rate=rate, **(group or {}))]
    )


@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize("preamble", [False, True])
@pytest.mark.parametrize("undefined_length", [False, True])
def test_every_encoding(tmp_path, implicit, preamble, undefined_length):
    content = small_dicom(SAMPLES, implicit=implicit, preamble=preamble, undefined_length=undefined_length)
    source = DicomSource.open(write(tmp_path, content))
    assert source.name == "DICOM record, lead II"
    assert source.sampling_rate_hz == 250
    assert source.n_samples == SAMPLES.size
    assert source.started_at_ms is None
    assert np.array_equal(np.concatenate(list(source.chunks())), SAMPLES)


def test_a_file_is_known_by_its_name_or_its_content(tmp_path):
    for name in ("x.dcm", "x.DCM", "x.bin", "x"):
        (tmp_path / name).write_bytes(small_dicom(SAMPLES))
        assert open_source(tmp_path / name).name == "DICOM record, lead II"
    with pytest.raises(InputError, match="its own rate"):
        open_source(tmp_path / "x.dcm", unit="uV")


@pytest.mark.parametrize("kind", SAMPLE_TYPES)
def test_every_kind_of_samples(tmp_path, kind):
    limits = np.iinfo(SAMPLE_TYPES[kind])
    samples = np.clip([limits.min, limits.max, 0, 1, -1, 100, 127, 128, -128], limits.min, limits.max)
    read_uv = read(write(tmp_path, one(samples, kind=kind)))
    possible = np.abs(samples) <= 1_000_000
    assert np.array_equal(read_uv, np.where(possible, samples, MISSING_UV))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"ChannelSensitivity": "2.5"}, 250),
        ({"ChannelSensitivity": "2.5", "ChannelSensitivityCorrectionFactor": "1.02"}, 255),
        ({"ChannelSensitivity": "0.005", "unit": "mV"}, 500),
        ({"ChannelSensitivity": "2500", "unit": "nV"}, 250),
        ({"ChannelSensitivity": "1e-6", "unit": "V"}, 100),
        ({"ChannelSensitivity": "2", "ChannelBaseline": "-150"}, 50),
        ({"ChannelSensitivity": "0.002", "ChannelBaseline": "-0.15", "unit": "mV"}, 50),
        ({"ChannelSensitivityCorrectionFactor": None, "ChannelBaseline": None}, 100),
    ],
)
def test_sensitivity_correction_baseline_and_unit(tmp_path, fields, expected):
    assert read(write(tmp_path, one([100, 0], **fields)))[0] == expected


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(
    st.lists(st.integers(-32_768, 32_767), min_size=1, max_size=30),
    st.decimals("0.01", "20", places=3),
    st.decimals("-500", "500", places=2),
)
def test_pydicom_decodes_the_same(tmp_path, samples, sensitivity, baseline):
    content = one(samples, ChannelSensitivity=str(sensitivity), ChannelBaseline=str(baseline))
    decoded = pydicom.dcmread(io.BytesIO(content)).waveform_array(0)[:, 0]
    assert np.abs(read(write(tmp_path, content)) - decoded).max() <= 0.5 + 1e-6


def test_the_rate_is_the_files_decimal_number(tmp_path):
    assert DicomSource.open(write(tmp_path, one(rate="499.998"))).sampling_rate_hz == Fraction(499_998, 1000)
    assert DicomSource.open(write(tmp_path, one(rate=" 1.28E2 "))).sampling_rate_hz == 128


def test_the_padding_value_is_missing(tmp_path):
    padded = one([1, -32768, 3], group={"WaveformPaddingValue": b"\x00\x80"})
    assert read(write(tmp_path, padded)).tolist() == [1, MISSING_UV, 3]
    unsigned = one([100, 0, 90], kind="US", ChannelBaseline="-100", group={"WaveformPaddingValue": b"\0\0"})
    assert read(write(tmp_path, unsigned)).tolist() == [0, MISSING_UV, -10]
    byte = one([1, 255, 3], kind="UB", group={"WaveformPaddingValue": b"\xff\0"})
    assert read(write(tmp_path, byte)).tolist() == [1, MISSING_UV, 3]


def test_a_padding_value_that_is_where_an_ecg_rests_is_not_believed(tmp_path):
    assert read(write(tmp_path, one([1, 0, 3], group={"WaveformPaddingValue": b"\0\0"}))).tolist() == [1, 0, 3]


def test_the_longest_group_that_holds_the_lead_is_read(tmp_path):
    median = dicom_group([[7] * 600], [dicom_channel("2:2")], rate="1000", WaveformOriginality="DERIVED")
    rhythm = dicom_group([[1] * 500, [2] * 500], [dicom_channel("2:2"), dicom_channel("2:3")])
    short = dicom_group([[3] * 100], [dicom_channel("2:1")])
    path = write(tmp_path, dicom_bytes([median, short, rhythm]))
    assert read(path).tolist() == [1] * 500
    assert read(path, lead="V1").tolist() == [2] * 500
    assert read(path, lead="I").tolist() == [3] * 100
    with pytest.raises(InputError, match="II, V1"):
        read(path, lead="aVR")


@pytest.mark.parametrize(
    ("channel", "lead"),
    [
        ({"source": "5.6.3-9-62"}, "AVR"),
        ({"source": "2:3"}, "V1"),
        ({"source": "2:3", "label": "Lead II"}, "V1"),  # the code decides
        ({"source": "9999", "meaning": "Lead V4"}, "V4"),
        ({"source": "9999", "label": "ECG III", "meaning": "Jane"}, "III"),
        ({"label": "II"}, "II"),
        ({"label": "Jane Doe"}, None),
        ({}, None),
    ],
)
def test_leads_by_code_label_or_meaning(tmp_path, channel, lead):
    source = DicomSource.open(write(tmp_path, dicom_bytes([dicom_group([SAMPLES], [dicom_channel(**channel)])])))
    assert source.name == (f"DICOM record, lead {lead}" if lead else "DICOM record")


@pytest.mark.parametrize(
    ("fields", "group", "at_ms"),
    [
        ({"AcquisitionDateTime": "20021122091000"}, {}, None),
        ({"AcquisitionDateTime": "20021122091000+0100"}, {}, 1_037_952_600_000),
        ({"AcquisitionDateTime": "20021122091000.25-0530"}, {}, 1_037_952_600_250 + 390 * 60_000),
        ({"AcquisitionDateTime": "20021122091000", "TimezoneOffsetFromUTC": "+0100"}, {}, 1_037_952_600_000),
        ({"AcquisitionDateTime": "20021122091000+0100"}, {"MultiplexGroupTimeOffset": "1500"}, 1_037_952_601_500),
        ({"AcquisitionDateTime": "200211220910+0100"}, {}, None),
        ({"AcquisitionDateTime": "20021322091000+0100"}, {}, None),
        ({"AcquisitionDateTime": "20021122091000+2500"}, {}, None),
        ({"AcquisitionDateTime": "20021122091000", "TimezoneOffsetFromUTC": "CET"}, {}, None),
        ({"AcquisitionDateTime": "yesterday"}, {}, None),
        ({"TimezoneOffsetFromUTC": "+0100"}, {}, None),
    ],
)
def test_a_start_only_where_the_offset_from_utc_is_stated(tmp_path, fields, group, at_ms):
    recording = dicom_group([SAMPLES], [dicom_channel("2:2")], **group)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        content = dicom_bytes([recording], **fields)
    assert DicomSource.open(write(tmp_path, content)).started_at_ms == at_ms


def test_nothing_of_the_patient_is_kept_or_said(tmp_path):
    path = write(tmp_path, one())
    assert b"Jane" in path.read_bytes()
    assert "Jane" not in repr(DicomSource.open(path))


@pytest.mark.parametrize(
    ("content", "error", "says"),
    [
        (b"", RecordFormatError, "empty"),
        (b"DICM" * 100, RecordFormatError, "DICOM"),
        (b"\0" * 128 + b"DICM", RecordFormatError, "not a DICOM ECG"),
        (dicom_bytes([], sop_class="1.2.840.10008.5.1.4.1.1.2"), RecordFormatError, "not a DICOM ECG"),
        (dicom_bytes([], sop_class="1.2.840.10008.5.1.4.1.1.9.4.1"), RecordFormatError, "not a DICOM ECG"),
        (dicom_bytes([]), RecordFormatError, "no waveform"),
        (one(rate="0"), RecordFormatError, "sampling rate"),
        (one(rate="-250"), RecordFormatError, "sampling rate"),
        (one(rate="50"), SamplingRateError, "range"),
        (one(rate="1e9"), SamplingRateError, "range"),
        (one(group={"SamplingFrequency": None}), RecordFormatError, "sampling rate"),
        (one(unit=None), UnknownUnit, "not calibrated"),
        (one(ChannelSensitivity=None), UnknownUnit, "not calibrated"),
        (one(unit="mm[Hg]"), UnknownUnit, "not a voltage"),
        (one(ChannelSensitivity="0"), RecordFormatError, "sensitivity"),
        (one(ChannelSensitivity="-1"), RecordFormatError, "sensitivity"),
        (one(ChannelSensitivityCorrectionFactor="-1"), RecordFormatError, "sensitivity"),
        (one(ChannelSensitivity="1e30"), RecordFormatError, "sensitivity"),
        (one(ChannelBaseline="1e30"), RecordFormatError, "sensitivity"),
        (one(group={"NumberOfWaveformSamples": 10**9}), RecordFormatError, "more than"),
        (one(group={"NumberOfWaveformSamples": 10**8}), RecordFormatError, "as long as"),
        (one(group={"NumberOfWaveformSamples": 1002}), RecordFormatError, "as long as"),
        (one(group={"NumberOfWaveformSamples": 900}), RecordFormatError, "as long as"),
        (one(group={"NumberOfWaveformSamples": 0}), RecordFormatError, "no samples"),
        (one(group={"NumberOfWaveformChannels": 2}), RecordFormatError, "channels"),
        (one(group={"NumberOfWaveformChannels": 0}), RecordFormatError, "channels"),
        (one(group={"ChannelDefinitionSequence": []}), RecordFormatError, "channels"),
        (one(group={"WaveformSampleInterpretation": "MB"}), RecordFormatError, "kind of DICOM samples"),
        (one(group={"WaveformBitsAllocated": 8}), RecordFormatError, "kind of DICOM samples"),
        (dicom_bytes([dicom_group([[1]], [dicom_channel("2:2")])] * 65), RecordFormatError, "longer than an ECG"),
        (
            dicom_bytes([dicom_group([[1]] * 2, [dicom_channel(label="RESP"), dicom_channel(label="ABP")])]),
            InputError,
            "none of the 2",
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
    assert "Jane" not in str(caught.value)


def test_a_file_that_is_not_there_or_too_large(tmp_path):
    with pytest.raises(RecordNotFound):
        read(tmp_path / "none.dcm")
    with (tmp_path / "x.dcm").open("wb") as file:
        file.truncate(65 * 2**20)
    with pytest.raises(RecordFormatError, match="larger than 64 MiB"):
        read(tmp_path / "x.dcm")


def file_meta(transfer_syntax: str) -> bytes:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = transfer_syntax
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.9.1.1", "1.2.3"
    file, dataset = io.BytesIO(), Dataset()
    dataset.file_meta = meta
    pydicom.dcmwrite(file, dataset, enforce_file_format=True)
    return file.getvalue()


def traced_refusal(path: Path) -> tuple[str, int]:
    """The refusal of a file, and the most memory held meanwhile."""
    tracemalloc.start()
    try:
        with pytest.raises(RecordFormatError) as caught:
            read(path)
        return str(caught.value), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_deflated_bomb_is_not_inflated(tmp_path):
    squeeze = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    bomb = squeeze.compress(bytes(200 * 2**20)) + squeeze.flush()
    says, peak = traced_refusal(write(tmp_path, file_meta(pydicom.uid.DeflatedExplicitVRLittleEndian) + bomb))
    assert "deflated" in says
    assert peak < 4 * 2**20


def test_big_endian_is_refused(tmp_path):
    dataset = pydicom.dcmread(io.BytesIO(small_dicom(SAMPLES)))
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRBigEndian
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pydicom.dcmwrite(file, dataset, implicit_vr=False, little_endian=False)
    with pytest.raises(RecordFormatError, match="big endian"):
        read(write(tmp_path, file.getvalue()))


def element(group: int, number: int, content: bytes, length: int | None = None) -> bytes:
    """Implicit VR."""
    head = group.to_bytes(2, "little") + number.to_bytes(2, "little")
    return head + (len(content) if length is None else length).to_bytes(4, "little") + content


SOP_CLASS = element(8, 0x16, b"1.2.840.10008.5.1.4.1.1.9.1.1\0")
UNDEFINED = 2**32 - 1
ITEM = element(0xFFFE, 0xE000, b"")


@pytest.mark.parametrize(
    "waveforms",
    [
        element(0x5400, 0x100, ITEM * 20_000),
        element(0x5400, 0x100, ITEM * 20_000, UNDEFINED),
        element(0x5400, 0x100, element(0xFFFE, 0xE000, b"".join(element(9, n, b"") for n in range(20_000)))),
        element(0x5400, 0x100, element(0xFFFE, 0xE000, element(0x3A, 0x200, ITEM * 20_000))),
        # Sequences within sequences, none of which ends.
        (element(0x5400, 0x100, b"", UNDEFINED) + element(0xFFFE, 0xE000, b"", UNDEFINED)) * 20_000,
        element(0x5400, 0x100, b"", 2**31),
    ],
    ids=["items", "items without end", "elements", "channels", "depth", "length"],
)
def test_millions_of_elements_are_refused_in_bounded_memory(tmp_path, waveforms):
    _, peak = traced_refusal(write(tmp_path, SOP_CLASS + waveforms))
    assert peak < 64 * 2**20


@pytest.mark.data
@pytest.mark.parametrize("name", ["hl7_example_12lead_500hz.dcm", "anonymous_12lead_500hz.dcm"])
def test_the_sample_files_are_read_as_pydicom_reads_them(name):
    if not FORMATS.is_dir():
        pytest.skip("needs ../shared/data/formats")
    path = FORMATS / "dicom" / name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rhythm = pydicom.dcmread(path).waveform_array(0)
    for index, lead in enumerate(TWELVE):
        source = DicomSource.open(path, lead=lead)
        assert (source.sampling_rate_hz, source.started_at_ms) == (500, None)
        assert source.name.endswith(f"lead {lead.upper()}")
        assert np.array_equal(np.concatenate(list(source.chunks())), np.rint(rhythm[:, index]))


def test_an_item_that_is_no_dataset_is_refused(tmp_path):
    channel = dicom_channel("2:2")
    channel.ChannelSensitivityUnitsSequence = [coded("uV", "UCUM"), coded("mV", "UCUM")]
    with pytest.raises(RecordFormatError, match="sequence"):
        read(write(tmp_path, dicom_bytes([dicom_group([SAMPLES], [channel])])))
