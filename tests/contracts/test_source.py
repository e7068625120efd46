"""What every adapter of the ``Source`` port holds to, file or simulator."""

from __future__ import annotations

import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from tests.einthoven import ecg_exports
from tests.einthoven.binary_records import edf_plus_d, scp_bytes, small_dicom

from einthoven.ports import MISSING_UV, Source
from einthoven.samples import MAX_ABS_UV
from einthoven.simulator import SimulatedRhythm
from einthoven.source_simulated import SimulatedSource
from einthoven.sources import open_source

N_SAMPLES = 2_750
EXPECTED_UV = (300 * np.sin(np.arange(N_SAMPLES) / 20)).round().astype(np.int32)
FORMATS = Path(__file__).parents[3] / "shared" / "data" / "formats"


def simulated(_folder: Path) -> Source:
    return SimulatedSource(SimulatedRhythm(duration_s=N_SAMPLES / 250, sampling_rate_hz=Fraction(250)))


def csv(folder: Path) -> Source:
    lines = ["# sampling_rate_hz=250", "# unit=uV", *map(str, EXPECTED_UV)]
    (folder / "x.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return open_source(folder / "x.csv")


def npy(folder: Path) -> Source:
    np.save(folder / "x.npy", EXPECTED_UV.astype(np.float32) / 1000)
    return open_source(folder / "x.npy", sampling_rate_hz=250, unit="mV")


def wfdb_16(folder: Path) -> Source:
    (folder / "x.dat").write_bytes(EXPECTED_UV.astype("<i2").tobytes())
    (folder / "x.hea").write_text(f"x 1 250 {N_SAMPLES}\nx.dat 16 1000/mV 16 0 0 0 0 ECG\n", encoding="ascii")
    return open_source(folder / "x.hea")


def wfdb_212(folder: Path) -> Source:
    pairs = (EXPECTED_UV.reshape(-1, 2) & 0xFFF).tolist()
    packed = b"".join(bytes((a & 0xFF, (a >> 8) | (b >> 8) << 4, b & 0xFF)) for a, b in pairs)
    (folder / "x.dat").write_bytes(packed)
    (folder / "x.hea").write_text(f"x 1 250 {N_SAMPLES}\nx.dat 212 1000 12 0 0 0 0 MLII\n", encoding="ascii")
    return open_source(folder / "x")


def wfdb_segments(folder: Path) -> Source:
    half = N_SAMPLES // 2
    for name, part in (("a", EXPECTED_UV[:half]), ("b", EXPECTED_UV[half:])):
        (folder / f"{name}.dat").write_bytes(part.astype("<i2").tobytes())
        (folder / f"{name}.hea").write_text(
            f"{name} 1 250 {half}\n{name}.dat 16 1000 16 0 0 0 0 II\n", encoding="ascii"
        )
    (folder / "x.hea").write_text(f"x/2 1 250 {N_SAMPLES}\na {half}\nb {half}\n", encoding="ascii")
    return open_source(folder / "x.hea")


def edf(folder: Path) -> Source:
    fixed = f"{0:<8}{'X X X X':<80}{'Startdate X X X X':<80}01.01.8500.00.00{512:<8}{'':<44}{11:<8}{1:<8}{1:<4}"
    signal = f"{'ECG':<16}{'':<80}{'uV':<8}{-32768:<8}{32767:<8}{-32768:<8}{32767:<8}{'':<80}{250:<8}{'':<32}"
    (folder / "x.edf").write_bytes((fixed + signal).encode("ascii") + EXPECTED_UV.astype("<i2").tobytes())
    return open_source(folder / "x.edf")


def edf_interrupted(folder: Path) -> Source:
    (folder / "x.edf").write_bytes(edf_plus_d(EXPECTED_UV, range(100, 111)))
    return open_source(folder / "x.edf")


def dicom(folder: Path) -> Source:
    (folder / "x.dcm").write_bytes(small_dicom(EXPECTED_UV))
    return open_source(folder / "x.dcm")


def scp(folder: Path) -> Source:
    (folder / "x.bin").write_bytes(scp_bytes({2: EXPECTED_UV}, interval_us=4000))  # known by its content
    return open_source(folder / "x.bin")


def aecg(folder: Path) -> Source:
    lead = ecg_exports.aecg_lead("II", EXPECTED_UV.tolist(), scale="1")
    (folder / "x.xml").write_bytes(ecg_exports.aecg(ecg_exports.aecg_series(ecg_exports.aecg_time("0.004"), lead)))
    return open_source(folder / "x.xml")


def sierra(folder: Path) -> Source:
    leads = ecg_exports.twelve_leads(N_SAMPLES) | {"II": EXPECTED_UV.astype(int)}
    chunks = ecg_exports.sierra_chunks(leads)
    (folder / "x.xml").write_bytes(ecg_exports.sierra(chunks, rate="250", resolution="1", duration="11000"))
    return open_source(folder / "x.xml")


def schiller(folder: Path) -> Source:
    (folder / "x.xml").write_bytes(ecg_exports.schiller({"II": EXPECTED_UV.tolist()}, rate="250"))
    return open_source(folder / "x.xml")


def apple(folder: Path) -> Source:
    samples = [f"{value},000" for value in EXPECTED_UV]
    (folder / "x.csv").write_bytes(ecg_exports.apple(samples, rate="Sample Rate,250 hertz"))
    return open_source(folder / "x.csv")


WITH_KNOWN_SAMPLES = [
    csv,
    npy,
    wfdb_16,
    wfdb_212,
    wfdb_segments,
    edf,
    edf_interrupted,
    dicom,
    scp,
    aecg,
    sierra,
    schiller,
    apple,
]


@pytest.fixture(params=[simulated, *WITH_KNOWN_SAMPLES], ids=lambda make: make.__name__)
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Source:
    make: Callable[[Path], Source] = request.param
    return make(tmp_path)


def check(source: Source) -> np.ndarray:
    """The port's promises; returns all samples."""
    assert source.name
    assert "/" not in source.name
    assert ("simulated" in source.name.lower()) is source.simulated
    assert isinstance(source.sampling_rate_hz, Fraction)
    assert 100 <= source.sampling_rate_hz <= 1000
    assert source.started_at_ms is None or isinstance(source.started_at_ms, int)
    chunks = list(source.chunks())
    for chunk in chunks:
        assert chunk.dtype == np.int32
        assert chunk.ndim == 1
        assert 0 < chunk.size <= round(source.sampling_rate_hz)  # a screen can follow
    samples = np.concatenate(chunks)
    received = samples[samples != MISSING_UV]
    assert np.abs(received).max(initial=0) <= MAX_ABS_UV
    assert np.array_equal(samples, np.concatenate(list(source.chunks())))  # reading again gives the same
    return samples


def test_every_source_keeps_the_ports_promises(source: Source):
    assert check(source).size == N_SAMPLES


@pytest.mark.parametrize("make", WITH_KNOWN_SAMPLES, ids=lambda make: make.__name__)
def test_every_reader_gives_the_same_microvolts(make: Callable[[Path], Source], tmp_path: Path):
    source = make(tmp_path)
    assert source.sampling_rate_hz == 250
    assert not source.simulated
    assert np.array_equal(check(source), EXPECTED_UV)


@pytest.mark.parametrize("make", WITH_KNOWN_SAMPLES, ids=lambda make: make.__name__)
def test_an_abandoned_reading_leaves_nothing_behind(make: Callable[[Path], Source], tmp_path: Path):
    source = make(tmp_path)
    chunks = source.chunks()
    next(chunks)
    chunks.close()
    assert np.array_equal(np.concatenate(list(source.chunks())), EXPECTED_UV)


@pytest.mark.data
@pytest.mark.parametrize(
    ("record", "rate_hz", "n_samples", "n_missing", "lead"),
    [
        ("wfdb/A00001.hea", 300, 9_000, 0, "ECG"),
        ("wfdb/208.hea", 360, 650_000, 0, "MLII"),
        ("wfdb/sele0106.hea", 250, 225_000, 0, "D3"),
        ("wfdb/JS01048.hea", 500, 5_000, 0, "II"),
        ("wfdb/data_101_6.hea", 200, 22_355, 0, "II"),
        ("wfdb/041s.hea", 500, 8_000, 1, "I"),
        ("wfdb/a103l.hea", 250, 82_500, 0, "II"),
        ("wfdb/a103l-no-len.hea", 250, 82_500, 0, "II"),
        ("wfdb/s0010_re.hea", 1000, 38_400, 0, "II"),
        ("edf/A00001.edf", 300, 12_000, 3_000, "ECG"),
        ("edf/test_generator_2.edf", 200, 120_000, 0, "ECG"),
        ("dicom/hl7_example_12lead_500hz.dcm", 500, 5_000, 0, "II"),
        ("dicom/anonymous_12lead_500hz.dcm", 500, 5_000, 0, "II"),
        ("scp/hl7_example.scp", 500, 5_000, 0, "II"),
        ("aecg/hl7_example_subject1.xml", 500, 5_000, 0, "II"),
        ("aecg/minimum_aecg.xml", 500, 13, 0, "II"),
        ("philips_sierra/v1_03.xml", 500, 5_500, 236, "II"),
        ("philips_sierra/v1_04.xml", 500, 5_500, 200, "II"),
        ("philips_sierra/v1_04_01.xml", 500, 5_500, 200, "II"),
        ("schiller/schiller_12lead.xml", 500, 5_000, 0, "II"),
        ("constructed/apple_health_ecg_A_decimal_comma.csv", 512, 15_360, 0, "I"),
        ("constructed/apple_health_ecg_A_decimal_point.csv", 512, 15_360, 0, "I"),
        ("constructed/apple_health_ecg_N_decimal_comma.csv", 512, 15_360, 0, "I"),
        ("constructed/apple_health_ecg_N_decimal_point.csv", 512, 15_360, 0, "I"),
    ],
)
def test_sample_files(record: str, rate_hz: int, n_samples: int, n_missing: int, lead: str):
    if not FORMATS.is_dir():
        pytest.skip("needs ../shared/data/formats")
    source = open_source(FORMATS / record)
    samples = check(source)
    assert source.sampling_rate_hz == rate_hz
    assert source.name.endswith(f"lead {lead}")
    assert samples.size == n_samples
    assert (samples == MISSING_UV).sum() == n_missing


@pytest.mark.data
def test_one_recording_is_the_same_in_wfdb_and_in_edf():
    if not FORMATS.is_dir():
        pytest.skip("needs ../shared/data/formats")
    wfdb, edf = (
        np.concatenate(list(open_source(FORMATS / record).chunks())) for record in ("wfdb/A00001.hea", "edf/A00001.edf")
    )
    raw = np.array(struct.unpack("<9000h", (FORMATS / "wfdb/A00001.mat").read_bytes()[24:]))  # counts are microvolts
    assert np.array_equal(wfdb, raw)
    assert np.array_equal(edf[:9_000], raw)
