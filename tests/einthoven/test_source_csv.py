"""CSV and NPY: what is read, and what is refused and how."""

from __future__ import annotations

import tracemalloc
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
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
from einthoven.source_csv import CsvSource
from einthoven.source_npy import NpySource

HEAD = "# sampling_rate_hz=300\n# unit=uV\n"


def write(folder: Path, text: str | bytes, name: str = "x.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def read(path: Path, **options) -> list[int]:
    return np.concatenate(list(CsvSource.open(path, **options).chunks())).tolist()


def test_plain_numbers_with_declarations(tmp_path):
    assert read(write(tmp_path, HEAD + "1\n-2.5\n3.5\n1e2\n")) == [1, -2, 4, 100]


def test_declarations_as_options_and_in_other_units(tmp_path):
    path = write(tmp_path, "0.001\n-0.25\n")
    assert read(path, sampling_rate_hz=Fraction(511422, 1000), unit="mV") == [1, -250]
    assert CsvSource.open(path, sampling_rate_hz="511.422", unit="mV").sampling_rate_hz == Fraction(511422, 1000)


def test_missing_samples(tmp_path):
    missing = MISSING_UV
    text = HEAD + "ecg\n1\nNaN\n\n\nna\n inf \n-2\n\n\n"
    assert read(write(tmp_path, text)) == [1, missing, missing, missing, missing, missing, -2]


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_several_columns_under_a_header_row(tmp_path, mark):
    rows = [("time", '"Lead II"', "RESP"), ("0", "5", "9"), ("1", "", "9"), ("2", "7", "9")]
    path = write(tmp_path, HEAD + "\r\n".join(mark.join(row) for row in rows) + "\r\n")
    assert read(path) == [5, MISSING_UV, 7]
    assert read(path, lead="RESP") == [9, 9, 9]
    assert CsvSource.open(path).name == "CSV record, lead II"


def test_a_byte_order_mark_is_no_number(tmp_path):
    assert read(write(tmp_path, b"\xef\xbb\xbf" + HEAD.encode() + b"4\n")) == [4]


@pytest.mark.parametrize(
    ("text", "options", "error", "says"),
    [
        ("1\n2\n", {"unit": "uV"}, SamplingRateError, "no sampling rate"),
        ("1\n2\n", {"unit": "uV", "sampling_rate_hz": 0}, SamplingRateError, "range"),
        ("1\n2\n", {"unit": "uV", "sampling_rate_hz": "often"}, SamplingRateError, "not a number"),
        ("1\n2\n", {"unit": "uV", "sampling_rate_hz": float("nan")}, SamplingRateError, "not a number"),
        ("1\n2\n", {"unit": "uV", "sampling_rate_hz": "1/0"}, SamplingRateError, "not a number"),
        ("1\n2\n", {"unit": "uV", "sampling_rate_hz": "3e999999999"}, SamplingRateError, "not a number"),
        ("1\n2\n", {"sampling_rate_hz": 300}, UnknownUnit, "no unit"),
        ("1\n2\n", {"sampling_rate_hz": 300, "unit": "mmHg"}, UnknownUnit, "not a voltage"),
        (HEAD + "1\n", {"sampling_rate_hz": 250}, InputError, "differs"),
        (HEAD + "1\n", {"unit": "mV"}, InputError, "differs"),
        (HEAD, {}, RecordFormatError, "no samples"),
        (HEAD + "ecg\n", {}, RecordFormatError, "no samples"),
        (HEAD + "1\nhello\n", {}, RecordFormatError, "line 4 is not a number"),
        (HEAD + "1\n1_000\n", {}, RecordFormatError, "line 4 is not a number"),
        (HEAD + "1\n0x10\n", {}, RecordFormatError, "line 4 is not a number"),
        (HEAD + "1\n1,5\n", {}, RecordFormatError, "line 4"),
        (HEAD + "1,5\n2,5\n", {}, RecordFormatError, "no header row"),
        (HEAD + "a,b\n2,5\n", {}, InputError, "none of the 2"),
        (HEAD + "ECG,b\n2,5\n3\n", {}, RecordFormatError, "line 5 has 1 fields"),
        (HEAD + "ECG,II\n2,5\n", {"lead": "V1"}, InputError, "ECG, II"),
        (HEAD + "7" * 5000 + "\n", {}, RecordFormatError, "longer"),
        (HEAD.encode() + b"1\n\xff\xfe\n", {}, RecordFormatError, "UTF-8"),
        (b"\x00\x01\x02\x00" * 100, {"sampling_rate_hz": 300, "unit": "uV"}, RecordFormatError, "no samples"),
        (b"", {}, RecordFormatError, "empty"),
    ],
)
def test_what_is_refused_and_what_it_says(tmp_path, text, options, error, says):
    with pytest.raises(InputError) as caught:
        read(write(tmp_path, text), **options)
    assert type(caught.value) is error
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(RecordNotFound):
        CsvSource.open(tmp_path / "none.csv")
    with pytest.raises(RecordFormatError, match="not a file"):
        CsvSource.open(tmp_path)


def test_a_line_without_end_is_not_read_into_memory(tmp_path):
    path = write(tmp_path, HEAD.encode() + b"1" * 30_000_000)
    tracemalloc.start()
    with pytest.raises(RecordFormatError):
        read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


def test_long_tables_come_through_whole(tmp_path):
    values = np.arange(150_000) % 1000
    path = write(tmp_path, HEAD + "\n".join(map(str, values)))
    assert read(path) == values.tolist()


def refusal(attempt) -> str:
    """The message that something is refused with, "" if it is not; anything but our own errors is a failure."""
    try:
        attempt()
    except EinthovenError as error:
        return str(error)
    return ""


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary(max_size=200)
    | st.text(alphabet='#=sampling_rate_hz unit0123456789.,;-+eENa\n\t"', max_size=200).map(str.encode)
)
def test_any_bytes_are_read_or_refused(tmp_path, content):
    path = write(tmp_path, content)
    samples = []
    message = refusal(lambda: samples.extend(read(path, sampling_rate_hz=300, unit="uV")))
    assert "\n" not in message
    assert len(samples) <= content.count(b"\n") + content.count(b"\r") + 1


def test_npy_files(tmp_path):
    np.save(tmp_path / "x.npy", np.array([1.0, np.nan, -2.5, np.inf], dtype=np.float32))
    source = NpySource.open(tmp_path / "x.npy", sampling_rate_hz=300, unit="mV")
    assert np.concatenate(list(source.chunks())).tolist() == [1000, MISSING_UV, -2500, MISSING_UV]
    with pytest.raises(SamplingRateError):
        NpySource.open(tmp_path / "x.npy", unit="mV")
    with pytest.raises(UnknownUnit):
        NpySource.open(tmp_path / "x.npy", sampling_rate_hz=300)


@pytest.mark.parametrize(
    "array", [np.zeros((3, 3)), np.array(["a", "b"]), np.array([1 + 2j]), np.zeros(0), np.array(5)]
)
def test_npy_of_other_shapes_and_types_is_refused(tmp_path, array):
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(RecordFormatError):
        NpySource.open(tmp_path / "x.npy", sampling_rate_hz=300, unit="uV")


def test_npy_with_objects_is_never_unpickled(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "boom",))

    np.save(tmp_path / "x.npy", np.array([Bomb()], dtype=object), allow_pickle=True)
    with pytest.raises(RecordFormatError):
        NpySource.open(tmp_path / "x.npy", sampling_rate_hz=300, unit="uV")
    assert not (tmp_path / "boom").exists()


def test_npy_truncated_and_flipped_never_surprises(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(500, dtype=np.int16))
    content = (tmp_path / "x.npy").read_bytes()
    path = tmp_path / "y.npy"
    for percent in range(0, 100, 5):
        path.write_bytes(content[: len(content) * percent // 100])
        with pytest.raises(InputError):
            NpySource.open(path, sampling_rate_hz=300, unit="uV")
    rng = np.random.default_rng(27)
    for _ in range(250):
        flipped = bytearray(content)
        flipped[rng.integers(0, 128)] ^= 1 << rng.integers(0, 8)
        path.write_bytes(flipped)
        sizes = []
        message = refusal(
            lambda sizes=sizes: sizes.extend(
                chunk.size for chunk in NpySource.open(path, sampling_rate_hz=300, unit="uV").chunks()
            )
        )
        assert "\n" not in message
        assert sum(sizes) <= 1000
