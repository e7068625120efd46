"""EDF recordings: what is read, and what is refused and how."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

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

FORMATS = Path(__file__).parents[3] / "shared" / "data" / "formats" / "edf"
SAMPLES = np.arange(-1000, 1000, dtype="<i2")
SIGNAL_FIELDS = (
    *(("label", 16), ("transducer", 80), ("unit", 8), ("pmin", 8), ("pmax", 8)),
    *(("dmin", 8), ("dmax", 8), ("filter", 80), ("samples", 8), ("reserved", 32)),
)
ECG = {"label": "ECG", "unit": "uV", "pmin": -32768, "pmax": 32767, "dmin": -32768, "dmax": 32767, "samples": 250}


def edf_bytes(
    *signals, samples=SAMPLES, magic="0", records=8, record_s="1", n_signals=None, kind="", size=None
) -> bytes:
    signals = signals or (ECG,)
    n_signals = len(signals) if n_signals is None else n_signals
    size = 256 * (1 + len(signals)) if size is None else size
    fixed = f"{magic:<8}{'Jane Doe':<80}{'Startdate X X X X':<80}01.01.8500.00.00{size:<8}{kind:<44}"
    fixed += f"{records:<8}{record_s:<8}{n_signals:<4}"
    fields = "".join(f"{signal.get(name, ''):<{width}}" for name, width in SIGNAL_FIELDS for signal in signals)
    return (fixed + fields).encode("latin-1") + np.asarray(samples, dtype="<i2").tobytes()


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


def annotated(tmp_path: Path, *, onsets) -> Path:
    notes = {"label": "EDF Annotations", "pmin": -1, "pmax": 1, "dmin": -32768, "dmax": 32767, "samples": 8}
    records = []
    for n, onset in enumerate(onsets):
        stamp = f"+{onset}\x14\x14".encode("ascii").ljust(16, b"\0")
        records.append(np.r_[SAMPLES[n * 250 : n * 250 + 250], np.frombuffer(stamp, dtype="<i2")])
    return write(tmp_path, ECG, notes, samples=np.concatenate(records), kind="EDF+D", records=len(onsets))


def test_an_interrupted_recording_is_refused_and_an_uninterrupted_one_is_not(tmp_path):
    assert np.array_equal(read(annotated(tmp_path, onsets=range(8))), SAMPLES)
    with pytest.raises(RecordFormatError, match="interrupted"):
        read(annotated(tmp_path, onsets=(0, 1, 2, 10, 11)))


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
