"""WFDB records: what is read, and what is refused and how."""

from __future__ import annotations

import time
import tracemalloc
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from einthoven.errors import (
    EinthovenError,
    InputError,
    RecordFormatError,
    RecordNotFound,
    SamplingRateError,
    UnknownUnit,
)
from einthoven.ports import MISSING_UV
from einthoven.source_wfdb import WfdbSource
from einthoven.wfdb_header import parse_header

FORMATS = Path(__file__).parents[3] / "shared" / "data" / "formats" / "wfdb"
SAMPLES = np.arange(-300, 300, dtype="<i2")


def record(folder: Path, *, first="x 1 300 600", signal="x.dat 16 1000/mV 16 0 0 0 0 ECG", samples=SAMPLES) -> Path:
    (folder / "x.hea").write_text(f"{first}\n{signal}\n", encoding="latin-1")
    (folder / "x.dat").write_bytes(np.asarray(samples, dtype="<i2").tobytes())
    return folder / "x.hea"


def read(path: Path, **options) -> np.ndarray:
    return np.concatenate(list(WfdbSource.open(path, **options).chunks()))


def refusal(attempt) -> str:
    """The message that something is refused with, "" if it is not; anything but our own errors is a failure."""
    try:
        attempt()
    except EinthovenError as error:
        return str(error)
    return ""


def test_a_date_that_wfdb_refuses_is_no_obstacle(tmp_path):
    assert np.array_equal(read(record(tmp_path, first="x 1 300 600 2014-05-08 05:05:15")), SAMPLES)


@pytest.mark.parametrize(
    ("scale", "factor"),
    [
        ("1000/mV", 1),
        ("200/mV", 5),
        ("200", 5),
        ("1/uV", 1),
        ("1/µV", 1),
        ("1000000/V", 1),
        ("1e-3/nV", 1),
        ("100", 10),
    ],
)
def test_units_become_microvolts(tmp_path, scale, factor):
    path = record(tmp_path, signal=f"x.dat 16 {scale} 16 0 0 0 0 ECG")
    path.write_text(path.read_text("latin-1"), encoding="utf-8")
    if "µ" in scale:  # not ASCII: the field's tools write u
        with pytest.raises(UnknownUnit):
            read(path)
    else:
        assert np.array_equal(read(path), SAMPLES * factor)


def test_baseline_and_adc_zero_and_invalid_samples(tmp_path):
    with_invalid = np.array([100, -32768, 102], dtype="<i2")
    declared = record(tmp_path, first="x 1 300 3", signal="x.dat 16 1000(100)/mV 16 7 0 0 0 I", samples=with_invalid)
    assert read(declared).tolist() == [0, MISSING_UV, 2]
    implied = record(tmp_path, first="x 1 300 3", signal="x.dat 16 1000/mV 16 99 0 0 0 I", samples=with_invalid)
    assert read(implied).tolist() == [1, MISSING_UV, 3]


def test_a_lead_among_interleaved_signals_of_different_rates(tmp_path):
    frames = np.array([[n, 1000 + 2 * n, 1001 + 2 * n] for n in range(200)], dtype="<i2")
    path = record(
        tmp_path,
        first="x 2 150 200",
        signal="x.dat 16 1000/mmHg 16 0 0 0 0 ABP\nx.dat 16x2 1000/mV 16 0 0 0 0 II",
        samples=frames,
    )
    source = WfdbSource.open(path)
    assert source.sampling_rate_hz == 300
    assert np.concatenate(list(source.chunks())).tolist() == list(range(1000, 1400))
    with pytest.raises(UnknownUnit):
        read(path, lead="ABP")


def test_leads_are_chosen_by_name_in_any_case_and_never_by_guess(tmp_path):
    frames = np.stack([np.zeros(100), np.ones(100), np.full(100, 2)], axis=1).astype("<i2")
    three = "x.dat 16 1000 16 0 0 0 0 {}\nx.dat 16 1000 16 0 0 0 0 {}\nx.dat 16 1000 16 0 0 0 0 {}"
    path = record(tmp_path, first="x 3 300 100", signal=three.format("V5", "ecg ii", "RESP"), samples=frames)
    assert set(read(path)) == {1}
    assert set(read(path, lead="v5")) == {0}
    assert set(read(path, lead="RESP")) == {2}  # asked for by its own name
    with pytest.raises(InputError, match="V5, II"):
        WfdbSource.open(path, lead="aVR")
    path = record(tmp_path, first="x 3 300 100", signal=three.format("RESP", "PLETH", "ABP"), samples=frames)
    with pytest.raises(InputError, match="none of the 3 signals"):
        WfdbSource.open(path)


def test_the_name_shows_a_lead_but_no_free_text(tmp_path):
    assert WfdbSource.open(record(tmp_path)).name == "WFDB record, lead ECG"
    private = record(tmp_path, signal="x.dat 16 1000 16 0 0 0 0 Jane Doe")
    assert WfdbSource.open(private).name == "WFDB record"


def test_gaps_between_segments_and_segments_without_the_lead_are_missing(tmp_path):
    for name, lead in (("a", "II"), ("b", "V1"), ("c", "II")):
        (tmp_path / f"{name}.dat").write_bytes(np.full(100, ord(name), dtype="<i2").tobytes())
        (tmp_path / f"{name}.hea").write_text(f"{name} 1 200 100\n{name}.dat 16 1000 16 0 0 0 0 {lead}\n")
    (tmp_path / "x.hea").write_text("x/5 1 200 450\nlayout 0\na 100\n~ 150\nb 100\nc 100\n")
    samples = read(tmp_path / "x.hea")
    assert samples.tolist() == [97] * 100 + [MISSING_UV] * 250 + [99] * 100
    (tmp_path / "c.hea").write_text("c 1 250 100\nc.dat 16 1000 16 0 0 0 0 II\n")
    with pytest.raises(RecordFormatError, match="segment"):
        read(tmp_path / "x.hea")
    (tmp_path / "x.hea").write_text("x/1 1 200 100\n~ 100\n")
    with pytest.raises(InputError, match="no segment"):
        read(tmp_path / "x.hea")


def test_a_missing_record_and_a_missing_signal_file(tmp_path):
    with pytest.raises(RecordNotFound):
        WfdbSource.open(tmp_path / "none.hea")
    path = record(tmp_path)
    (tmp_path / "x.dat").unlink()
    with pytest.raises(RecordNotFound, match="beside"):
        WfdbSource.open(path)


@pytest.mark.parametrize(
    ("first", "signal", "error"),
    [
        ("x 1 0 600", None, SamplingRateError),
        ("x 1 50 600", None, SamplingRateError),
        ("x 1 1001 600", None, SamplingRateError),
        ("x 1 -300 600", None, SamplingRateError),
        ("x 1 1e99 600", None, SamplingRateError),
        ("x 1 nan 600", None, RecordFormatError),
        ("x 1 300 1000000000000", None, RecordFormatError),
        ("x 1 300 601", None, RecordFormatError),
        ("x 1 300 -1", None, RecordFormatError),
        ("x 1000000 300 600", None, RecordFormatError),
        ("x 0 300 600", None, RecordFormatError),
        ("x 2 300 600", None, RecordFormatError),
        ("x/9999999 1 300 600", None, RecordFormatError),
        ("hello", None, RecordFormatError),
        ("", "", RecordFormatError),
        (None, "x.dat 16 -1000/mV 16 0 0 0 0 ECG", RecordFormatError),
        (None, "x.dat 16 1e-9/mV 16 0 0 0 0 ECG", RecordFormatError),
        (None, "x.dat 16 1e999999999/mV 16 0 0 0 0 ECG", RecordFormatError),
        (None, "x.dat 16 0/mV 16 0 0 0 0 ECG", UnknownUnit),
        (None, "x.dat 16", UnknownUnit),
        (None, "x.dat 16 1000/mmHg 16 0 0 0 0 ECG", UnknownUnit),
        (None, "x.dat 16 1000/NU 16 0 0 0 0 ECG", UnknownUnit),
        (None, "x.dat 8 1000/mV 16 0 0 0 0 ECG", RecordFormatError),
        (None, "x.dat 516 1000/mV 16 0 0 0 0 ECG", RecordFormatError),
        (None, "x.dat 16x999999999 1000/mV 16 0 0 0 0 ECG", RecordFormatError),
        (None, "x.dat 16:999999999 1000/mV 16 0 0 0 0 ECG", RecordFormatError),
        (None, "x.dat 16+99999999999 1000/mV 16 0 0 0 0 ECG", RecordFormatError),
        (None, "../x.dat 16 1000/mV 16 0 0 0 0 ECG", RecordFormatError),
        (None, "/etc/passwd 16 1000/mV 16 0 0 0 0 ECG", RecordFormatError),
        (None, ".. 16 1000/mV 16 0 0 0 0 ECG", RecordFormatError),
        (None, "~ 16 1000/mV 16 0 0 0 0 ECG", RecordNotFound),
    ],
)
def test_absurd_headers_are_refused_in_bounded_memory(tmp_path, first, signal, error):
    options = {key: value for key, value in (("first", first), ("signal", signal)) if value is not None}
    path = record(tmp_path, **options)
    tracemalloc.start()
    try:
        with pytest.raises(InputError) as caught:
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 50 * 2**20
    finally:
        tracemalloc.stop()
    assert type(caught.value) is error


def test_signals_of_one_file_in_two_formats_are_refused(tmp_path):
    two = "x.dat 16 1000 16 0 0 0 0 II\nx.dat 212 1000 12 0 0 0 0 V1"
    with pytest.raises(RecordFormatError, match="format"):
        read(record(tmp_path, first="x 2 300 100", signal=two))


def test_a_file_that_shrinks_while_it_is_read_is_noticed(tmp_path):
    source = WfdbSource.open(record(tmp_path))
    (tmp_path / "x.dat").write_bytes(SAMPLES[:10].tobytes())
    with pytest.raises(RecordFormatError):
        list(source.chunks())
    (tmp_path / "x.dat").unlink()
    with pytest.raises(RecordFormatError):
        list(source.chunks())


def test_a_directory_or_an_empty_file_is_refused(tmp_path):
    (tmp_path / "d.hea").mkdir()
    with pytest.raises(RecordFormatError, match="not a file"):
        WfdbSource.open(tmp_path / "d.hea")
    (tmp_path / "e.hea").touch()
    with pytest.raises(RecordFormatError, match="empty"):
        WfdbSource.open(tmp_path / "e.hea")


def test_long_records_are_read_in_bounded_memory(tmp_path):
    n = 2_000_000
    path = record(tmp_path, first=f"x 1 1000 {n}", samples=np.zeros(n))
    source = WfdbSource.open(path)
    next(iter(source.chunks()))  # what is loaded once
    tracemalloc.start()
    total = sum(chunk.size for chunk in source.chunks())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == n
    assert peak < 8 * 2**20  # the whole lead would be 8 MB as int32 alone


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300) | st.text(alphabet="x 0123456789./()+:-eEmV~\n#", max_size=300).map(str.encode))
def test_any_header_bytes_are_parsed_or_refused(content):
    try:
        header = parse_header(content)
    except InputError:
        return
    assert header.signals or header.segments
    assert isinstance(header.frame_rate_hz, Fraction)


@pytest.mark.parametrize("name", ["A00001", "041s01", "data_101_6", "own"])
def test_truncated_and_flipped_files_never_surprise(tmp_path, name):
    if name == "own":
        header, signal_name, signal = record(tmp_path).read_bytes(), "x.dat", SAMPLES.tobytes()
    else:
        if not FORMATS.is_dir():
            pytest.skip("needs ../shared/data/formats")
        header = (FORMATS / f"{name}.hea").read_bytes()
        signal_name = f"{name}.mat" if name == "A00001" else f"{name}.dat"
        signal = (FORMATS / signal_name).read_bytes()
    path, signal_path = tmp_path / "y.hea", tmp_path / signal_name
    started, messages = time.monotonic(), []
    rng = np.random.default_rng(27)
    for percent in range(0, 100, 5):
        path.write_bytes(header)
        signal_path.write_bytes(signal[: len(signal) * percent // 100])
        with pytest.raises(InputError):  # any shortening is noticed before a sample is used
            WfdbSource.open(path)
        signal_path.write_bytes(signal)
        path.write_bytes(header[: len(header) * percent // 100])
        messages.append(refusal(lambda: read(path)))
    for _ in range(100):
        flipped = bytearray(header)
        for at in rng.integers(0, len(flipped), rng.integers(1, 4)):
            flipped[at] ^= 1 << rng.integers(0, 8)
        path.write_bytes(flipped)
        messages.append(refusal(lambda: read(path)))
    assert any(messages)
    assert not [message for message in messages if "\n" in message or str(tmp_path) in message]
    assert time.monotonic() - started < 60
