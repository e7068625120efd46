"""EDF recordings: what is read, and what is refused and how."""

from __future__ import annotations

import tracemalloc
from fractions import Fraction
from pathlib import Path

import edfio
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.einthoven.binary_records import ECG, NOTES, edf_header, edf_plus_d
from tests.einthoven.reader_damage import peak_bytes

from einthoven.errors import (
    EinthovenError,
    InputError,
    RecordFormatError,
    RecordNotFound,
    SamplingRateError,
    UnknownUnit,
)
from einthoven.ports import MISSING_UV
from einthoven.source_edf import EdfSource
from einthoven.sources import open_source

FORMATS = Path(__file__).parents[3] / "shared" / "data" / "formats" / "edf"
SAMPLES = np.arange(-1000, 1000, dtype="<i2")


def edf_bytes(*signals, samples=SAMPLES, **options) -> bytes:
    return edf_header(*(signals or (ECG,)), **options) + np.asarray(samples, dtype="<i2").tobytes()


def write(folder: Path, *signals, **options) -> Path:
    (folder / "x.edf").write_bytes(edf_bytes(*signals, **options))
    return folder / "x.edf"


def read(path: Path, **options) -> np.ndarray:
    return np.concatenate(list(EdfSource.open(path, **options).chunks()))


@pytest.mark.parametrize(
    ("unit", "span", "factor"),
    [("uV", 1, 1), ("mV", 0.001, 1), ("mV", 0.01, 10), ("V", 1e-6, 1), ("nV", 1000, 1), ("\xb5V", 1, 1)],
)
def test_units_become_microvolts(tmp_path, unit, span, factor):
    scaled = {
        **ECG,
        "unit": unit,
        "dmin": -1000,
        "dmax": 1000,
        "pmin": f"{-1000 * span:.7g}",
        "pmax": f"{1000 * span:.7g}",
    }
    assert np.array_equal(read(write(tmp_path, scaled)), SAMPLES * factor)


def test_padding_is_missing_only_where_it_can_be_padding(tmp_path):
    samples = SAMPLES.copy()
    samples[-300:] = -32768
    padded = read(write(tmp_path, samples=samples))
    assert (padded == MISSING_UV).sum() == 300
    assert np.array_equal(padded[:-300], SAMPLES[:-300])
    narrow = {**ECG, "dmin": -32767, "pmin": -32767}
    assert not (read(write(tmp_path, narrow, samples=samples)) == MISSING_UV).any()


def test_the_rate_is_exact_also_for_odd_record_durations(tmp_path):
    source = EdfSource.open(write(tmp_path, record_s="0.8"))
    assert source.sampling_rate_hz * 8 == 2500
    assert np.array_equal(np.concatenate(list(source.chunks())), SAMPLES)


def test_a_lead_among_signals_of_other_rates(tmp_path):
    breathing = {**ECG, "label": "Resp", "samples": 50}
    second = {**ECG, "label": "ECG V5"}
    frames = np.stack([np.r_[np.full(50, 7), np.arange(250), np.full(250, 9)] for _ in range(8)])
    path = write(tmp_path, breathing, {**ECG, "label": "EKG II"}, second, samples=frames)
    assert np.array_equal(read(path), np.tile(np.arange(250), 8))
    assert set(read(path, lead="V5")) == {9}
    assert EdfSource.open(path).name == "EDF record, lead II"
    with pytest.raises(InputError, match="II, V5"):
        EdfSource.open(path, lead="III")


def test_a_record_count_of_minus_one_is_taken_from_the_size(tmp_path):
    assert read(write(tmp_path, records=-1)).size == SAMPLES.size


@pytest.mark.parametrize(
    ("changes", "options", "error"),
    [
        ({}, {"magic": "1"}, RecordFormatError),
        ({}, {"records": 9}, RecordFormatError),
        ({}, {"records": 0}, RecordFormatError),
        ({}, {"records": 99999999}, RecordFormatError),
        ({}, {"records": "many"}, RecordFormatError),
        ({}, {"record_s": "0"}, RecordFormatError),
        ({}, {"record_s": "-1"}, RecordFormatError),
        ({}, {"record_s": "1e99"}, SamplingRateError),
        ({}, {"record_s": "100"}, SamplingRateError),
        ({}, {"n_signals": 9999}, RecordFormatError),
        ({}, {"n_signals": 0}, RecordFormatError),
        ({}, {"n_signals": 40, "size": 256 * 41}, RecordFormatError),
        ({}, {"size": 12}, RecordFormatError),
        ({"samples": 0}, {}, RecordFormatError),
        ({"samples": -5}, {}, RecordFormatError),
        ({"samples": 99999999}, {}, RecordFormatError),
        ({"samples": "x"}, {}, RecordFormatError),
        ({"pmin": 5, "pmax": 5}, {}, RecordFormatError),
        ({"pmin": 5, "pmax": -5}, {}, RecordFormatError),
        ({"pmin": "nan"}, {}, RecordFormatError),
        ({"pmax": "1e99"}, {}, RecordFormatError),
        ({"dmin": 5, "dmax": 5}, {}, RecordFormatError),
        ({"dmin": -99999}, {}, RecordFormatError),
        ({"unit": ""}, {}, UnknownUnit),
        ({"unit": "degreeC"}, {}, UnknownUnit),
    ],
)
def test_absurd_headers_are_refused_in_bounded_memory(tmp_path, changes, options, error):
    path = write(tmp_path, {**ECG, **changes}, **options)
    tracemalloc.start()
    try:
        with pytest.raises(InputError) as caught:
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 50 * 2**20
    finally:
        tracemalloc.stop()
    assert type(caught.value) is error
    assert "Jane" not in str(caught.value)


def test_no_ecg_among_several_signals(tmp_path):
    eeg = [{**ECG, "label": label, "samples": 125} for label in ("EEG Fpz-Cz", "EEG Pz-Oz")]
    with pytest.raises(InputError, match="none of the 2"):
        EdfSource.open(write(tmp_path, *eeg))


def interrupted(folder: Path, onsets, samples=SAMPLES, **options) -> Path:
    (folder / "x.edf").write_bytes(edf_plus_d(samples, onsets, **options))
    return folder / "x.edf"


def test_an_interrupted_recording_has_its_gaps(tmp_path):
    assert np.array_equal(read(interrupted(tmp_path, range(8))), SAMPLES)
    gaps = read(interrupted(tmp_path, ("0.25", "1.25", "2.252", "10.25", "11.25", "12.25", "13.25", "14.27")))
    missing = gaps == MISSING_UV
    assert np.array_equal(gaps[~missing], SAMPLES)
    edges = np.flatnonzero(np.diff(missing.astype(int)))
    # Rounded to the sample, each from the first record on: 2.002 s is sample 500 (half to even), then 10 s, then 14.02.
    assert edges.tolist() == [749, 2499, 3499, 3504]
    assert missing.sum() == gaps.size - SAMPLES.size


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 5_000), min_size=1, max_size=7), st.integers(-100_000, 100_000))
def test_every_record_lies_where_its_time_says(tmp_path, pauses_ms, start_ms):
    starts_ms = np.cumsum([start_ms, *(1000 + pause for pause in pauses_ms)])
    onsets = [f"{'-' if ms < 0 else ''}{abs(ms) // 1000}.{abs(ms) % 1000:03}" for ms in starts_ms.tolist()]
    samples = read(interrupted(tmp_path, onsets))
    for n, ms in enumerate((starts_ms - start_ms).tolist()):
        first = round(Fraction(ms, 1000) * 250)
        assert np.array_equal(samples[first : first + 250], SAMPLES[n * 250 : n * 250 + 250])
    assert (samples != MISSING_UV).sum() == 250 * len(onsets)


@pytest.mark.parametrize(
    ("onsets", "says"),
    [
        ((0, 1, 2, "2.5"), "overlap"),
        ((0, 1, 2, 1), "overlap"),
        ((0, 0), "overlap"),
        ((0, 86_402), "24 hours"),
        ((0, 40_000, 86_404), "24 hours"),
        ((0, 10**12 - 1), "24 hours"),
        ((0, "1e5"), "when it began"),
        ((0, "x"), "when it began"),
        ((0, ""), "when it began"),
    ],
)
def test_times_that_can_not_be_are_refused(tmp_path, onsets, says):
    with pytest.raises(RecordFormatError, match=says):
        EdfSource.open(interrupted(tmp_path, onsets))


def test_a_day_of_gaps_is_filled_in_bounded_memory(tmp_path):
    source = EdfSource.open(interrupted(tmp_path, (0, 86_401)))
    assert source.n_samples == 86_402 * 250
    assert peak_bytes(lambda: sum(chunk.size for chunk in source.chunks())) < 4 * 2**20


def test_an_interrupted_recording_without_times_or_with_too_many_records_is_refused(tmp_path):
    (tmp_path / "x.edf").write_bytes(edf_bytes(kind="EDF+D"))
    with pytest.raises(RecordFormatError, match="without usable times"):
        read(tmp_path / "x.edf")
    tiny = [{**ECG, "samples": 1}, {**NOTES, "samples": 1}]
    content = edf_header(*tiny, kind="EDF+D", records=259_201, record_s="0.01") + bytes(4 * 259_201)
    (tmp_path / "x.edf").write_bytes(content)
    with pytest.raises(RecordFormatError, match="without usable times"):
        read(tmp_path / "x.edf")


def test_annotations_are_never_taken_for_a_lead(tmp_path):
    with pytest.raises(InputError):
        read(interrupted(tmp_path, range(8)), lead="EDF Annotations")


def bdf(folder: Path, samples, *, dmin=-(2**23), **changes) -> Path:
    signal = {**ECG, "dmin": dmin, "dmax": 2**23 - 1, "pmin": dmin, "pmax": 2**23 - 1, **changes}
    blob = b"".join(int(sample).to_bytes(3, "little", signed=True) for sample in samples)
    header = edf_header(signal, records=1, kind="24BIT")
    (folder / "x.bdf").write_bytes(b"\xffBIOSEMI" + header[8:] + blob)
    return folder / "x.bdf"


def test_bdf_has_samples_of_24_bits(tmp_path):
    samples = np.r_[-(2**23), -(2**23) + 1, 2**23 - 1, -1, 0, 1, 255, 256, -256, 65_536, np.arange(240) * 700]
    nanovolts = bdf(tmp_path, samples, unit="nV")
    assert read(nanovolts).tolist() == [MISSING_UV, *np.rint(samples[1:] / 1000).tolist()]
    assert open_source(nanovolts).name == "EDF record, lead ECG"


@pytest.mark.parametrize("chunk", [1, 7, 250, 60_000])
def test_edfio_reads_the_same(tmp_path, chunk):
    rng = np.random.default_rng(27)
    signals = [{**ECG, "label": f"V{n}", "samples": chunk, "pmin": -5000, "pmax": 5001.5 + n} for n in (1, 2)]
    path = write(
        tmp_path, *signals, samples=rng.integers(-32_767, 32_768, 6 * chunk), records=3, record_s=f"{chunk / 250:.7g}"
    )
    for n, signal in enumerate(edfio.read_edf(path).signals):
        assert np.abs(read(path, lead=f"V{n + 1}") - signal.data).max() <= 0.5 + 1e-6


@pytest.mark.data
def test_edfio_reads_the_sample_file_alike():
    if not FORMATS.is_dir():
        pytest.skip("needs ../shared/data/formats")
    path = FORMATS / "test_generator_2.edf"
    expected = edfio.read_edf(path).get_signal("ECG")
    in_microvolts = expected.data * {"uV": 1, "mV": 1000}[expected.physical_dimension]
    assert np.abs(read(path) - in_microvolts).max() <= 0.5 + 1e-6


def test_missing_empty_and_shrinking_files(tmp_path):
    with pytest.raises(RecordNotFound):
        EdfSource.open(tmp_path / "none.edf")
    (tmp_path / "x.edf").touch()
    with pytest.raises(RecordFormatError, match="empty"):
        EdfSource.open(tmp_path / "x.edf")
    (tmp_path / "x.edf").write_bytes(edf_bytes()[:100])
    with pytest.raises(RecordFormatError, match="not an EDF"):
        EdfSource.open(tmp_path / "x.edf")


def refusal(attempt) -> str:
    """The message that something is refused with, "" if it is not; anything but our own errors is a failure."""
    try:
        attempt()
    except EinthovenError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", ["A00001.edf", "own"])
def test_truncated_and_flipped_files_never_surprise(tmp_path, name):
    if name == "own":
        content = edf_bytes()
    elif not FORMATS.is_dir():
        pytest.skip("needs ../shared/data/formats")
    else:
        content = (FORMATS / name).read_bytes()
    path = tmp_path / "y.edf"
    for percent in range(0, 100, 5):
        path.write_bytes(content[: len(content) * percent // 100])
        with pytest.raises(InputError):
            EdfSource.open(path)
    rng = np.random.default_rng(27)
    for _ in range(250):
        flipped = bytearray(content)
        for at in rng.integers(0, 512, rng.integers(1, 4)):  # the header; a flipped sample is just a sample
            flipped[at] ^= 1 << rng.integers(0, 8)
        path.write_bytes(flipped)
        message = refusal(lambda: read(path))
        assert "\n" not in message
        assert str(tmp_path) not in message
