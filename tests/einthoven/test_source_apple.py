"""Apple Health electrocardiograms: every locale known, exact rates; and what is refused and how."""

from __future__ import annotations

from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.einthoven.ecg_exports import apple

from einthoven.errors import InputError, RecordFormatError, RecordNotFound, SamplingRateError, UnknownUnit
from einthoven.ports import MISSING_UV
from einthoven.source_apple import MAX_APPLE_BYTES, MAX_HEADER_LINES, AppleSource, looks_like_apple
from einthoven.sources import open_source

FORMATS = Path(__file__).parents[3] / "shared" / "data" / "formats"
needs_files = pytest.mark.skipif(not FORMATS.is_dir(), reason="needs ../shared/data/formats")
SAMPLES = ["-69.047", "12", "150.5", "-0.5"]
STARTED = round(datetime(2024, 1, 15, 10, tzinfo=UTC).timestamp() * 1000)


def open_bytes(folder: Path, content: bytes, **options) -> AppleSource:
    (folder / "ecg_2024-01-15.csv").write_bytes(content)
    source = open_source(folder / "ecg_2024-01-15.csv", **options)
    assert isinstance(source, AppleSource)  # by its content: the extension is any table's
    return source


def test_an_english_export(tmp_path):
    source = open_bytes(tmp_path, apple(SAMPLES))
    assert np.concatenate(list(source.chunks())).tolist() == [-69, 12, 150, 0]
    assert source.sampling_rate_hz == 512
    assert source.name == "Apple Health record, lead I"
    assert source.started_at_ms == STARTED


def test_a_german_export(tmp_path):
    """Row for row as such files are: a bare name, quoted comma after a no-break space, decimals of any length."""
    content = apple(
        ["-180,596", "-199,83", "-217,333", "12", "0,5"],
        name="Name",
        date="Aufzeichnungsdatum,2020-07-31 22:48:19 +0200",
        rate='Messrate,"511,562\u00a0Hertz"',
        lead="Ableitung,Ableitung I",
        unit="Einheit,µV",
        between=1,
    )
    source = open_bytes(tmp_path, content)
    assert source.samples_uv.tolist() == [-181, -200, -217, 12, 0]
    assert source.sampling_rate_hz == Fraction(511_562, 1000)
    assert source.name == "Apple Health record, lead I"
    assert source.started_at_ms == round(datetime(2020, 7, 31, 20, 48, 19, tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("row", "rate_hz"),
    [
        ("Sample Rate,512 hertz", Fraction(512)),
        ("Sample Rate,512.844 hertz", Fraction(512_844, 1000)),
        ("Sample Rate,511,422 hertz", Fraction(511_422, 1000)),  # not quoted: the row has three fields
        ('Sample Rate,"511,422 hertz"', Fraction(511_422, 1000)),
        ('"Sample Rate","512 Hz"', Fraction(512)),
        ("Sample Rate,512Hz", Fraction(512)),
        ("Messrate,512 HERTZ", Fraction(512)),
        ("Fréquence d’échantillonnage,512,617 hertz", Fraction(512_617, 1000)),
        ("Frecuencia de muestreo,512 hercios", Fraction(512)),
        ("Частота дискретизации,512 Гц", Fraction(512)),
        ("サンプルレート,512ヘルツ", Fraction(512)),
        ("采样率,512 赫兹", Fraction(512)),
    ],
)
def test_rates_are_exact_in_any_language(tmp_path, row, rate_hz):
    assert open_bytes(tmp_path, apple(SAMPLES, rate=row)).sampling_rate_hz == rate_hz


@pytest.mark.parametrize(("unit", "expected"), [("µV", 150), ("μV", 150), ("uV", 150), ("mV", 150_500), ("nV", 0)])
def test_units(tmp_path, unit, expected):
    assert open_bytes(tmp_path, apple(SAMPLES, unit=f"Unit,{unit}")).samples_uv[2] == expected


@pytest.mark.parametrize("between", [0, 1, 2, 3])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_blank_lines_between_the_parts(tmp_path, between, newline):
    content = apple(SAMPLES, between=between, newline=newline)
    assert open_bytes(tmp_path, content).samples_uv.tolist() == [-69, 12, 150, 0]


def test_a_byte_order_mark_quotes_and_missing_samples(tmp_path):
    content = b"\xef\xbb\xbf" + apple(['"1,5"', "NaN", '"-2,5"', "9999999"])
    assert open_bytes(tmp_path, content).samples_uv.tolist() == [2, MISSING_UV, -2, MISSING_UV]


@pytest.mark.parametrize(
    "date",
    ["Recorded Date,2024-01-15 10:00:00", "Recorded Date,15.01.2024", "Recorded Date,2024-13-15 10:00:00 +0000", "x"],
)
def test_the_start_is_known_only_with_its_zone(tmp_path, date):
    assert open_bytes(tmp_path, apple(SAMPLES, date=date)).started_at_ms is None


def test_the_lead_asked_for_must_be_the_watchs(tmp_path):
    assert open_bytes(tmp_path, apple(SAMPLES), lead="I").samples_uv.size == 4
    with pytest.raises(InputError, match="no lead of that name"):
        open_bytes(tmp_path, apple(SAMPLES), lead="II")
    with pytest.raises(InputError, match="states its own rate"):
        open_bytes(tmp_path, apple(SAMPLES), sampling_rate_hz=512)


@pytest.mark.parametrize(
    ("content", "error", "says"),
    [
        (apple(SAMPLES, rate="Sample Rate,often"), SamplingRateError, "no sampling rate"),
        (apple(SAMPLES, rate="Sample Rate,512"), SamplingRateError, "no sampling rate"),
        (apple(SAMPLES, rate="Sample Rate,512 bpm"), SamplingRateError, "no sampling rate"),
        (apple(SAMPLES, rate="Sample Rate,1.234,5 hertz"), SamplingRateError, "no sampling rate"),
        (apple(SAMPLES, rate="Sample Rate,512 Hz\nSample Rate,256 Hz"), SamplingRateError, "two sampling rates"),
        (apple(SAMPLES, rate="Sample Rate,0 hertz"), SamplingRateError, "out of range"),
        (apple(SAMPLES, rate="Sample Rate,51200 hertz"), SamplingRateError, "out of range"),
        (apple(SAMPLES, rate="Sample Rate,NaN hertz"), SamplingRateError, "no sampling rate"),
        (apple(SAMPLES, unit="Unit,"), UnknownUnit, "no unit"),
        (apple(SAMPLES, unit="Unit,mmHg"), UnknownUnit, "not a voltage"),
        (apple([]), RecordFormatError, "no samples"),
        (apple(["1.5", "Roe"]), RecordFormatError, "line 15 is not a number"),
        (apple(["1.5", "", "2"]), RecordFormatError, "line 15 is not a number"),
        (apple(["1.5", "-2,5"]), RecordFormatError, "mixed"),
        (apple(["1.5", "1.234,5"]), RecordFormatError, "not a number"),
        (apple(["1.5", "1,2,3"]), RecordFormatError, "not a number"),
        (apple(["1.5", "1e5"]), RecordFormatError, "not a number"),
        (apple(["1.5", "1" * 5000]), RecordFormatError, "not a number"),
        (apple(SAMPLES)[:-3] + b"\xff\xfe\n", RecordFormatError, "UTF-8"),
        (apple(SAMPLES) + b"1\n" * (MAX_APPLE_BYTES // 2), RecordFormatError, "larger than"),
    ],
)
def test_what_is_refused_and_what_it_says(tmp_path, content, error, says):
    (tmp_path / "x.csv").write_bytes(content)
    with pytest.raises(InputError, match=says) as caught:
        AppleSource.open(tmp_path / "x.csv")
    assert type(caught.value) is error
    assert "\n" not in str(caught.value)
    assert "Roe" not in str(caught.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(RecordNotFound):
        AppleSource.open(tmp_path / "none.csv")


@pytest.mark.parametrize(
    "table",
    [
        b"# sampling_rate_hz=300\n# unit=uV\n1\n2\n",
        b"1.5\n2.5\n",
        b"time,ECG\n0,1\n",
        b"-69,047\n512 hertz,512 hertz\n",
        b"comment,512 hertz of what\n1\n",
        b"\n" * MAX_HEADER_LINES + b"Sample Rate,512 hertz\n",
        b"",
    ],
)
def test_other_tables_are_left_to_their_reader(table):
    assert not looks_like_apple(table)


def test_an_export_is_known_without_its_extension_too(tmp_path):
    (tmp_path / "ecg").write_bytes(apple(SAMPLES))
    assert open_source(tmp_path / "ecg").name == "Apple Health record, lead I"


@given(st.lists(st.integers(-(10**8), 10**8), min_size=1, max_size=50), st.sampled_from(".,"))
def test_point_and_comma_give_the_same_microvolts(tmp_path_factory, thousandths, mark):
    written = [f"{value / 1000:.3f}".replace(".", mark) for value in thousandths]
    source = open_bytes(tmp_path_factory.mktemp("apple"), apple(written))
    assert source.samples_uv.tolist() == [round(value / 1000) for value in thousandths]


@pytest.mark.data
@needs_files
@pytest.mark.parametrize("rhythm", ["A", "N"])
def test_the_sample_files_are_the_same_with_point_and_comma(rhythm):
    path = FORMATS / "constructed" / f"apple_health_ecg_{rhythm}_decimal_point.csv"
    lines = path.read_text(encoding="utf-8").splitlines()
    first = next(at for at, line in enumerate(lines) if line.endswith("V")) + 3
    expected = np.rint(np.array(lines[first:], dtype=float)).astype(int)
    for mark in ("point", "comma"):
        source = open_source(FORMATS / "constructed" / f"apple_health_ecg_{rhythm}_decimal_{mark}.csv")
        assert source.sampling_rate_hz == 512
        assert source.started_at_ms == STARTED
        assert np.array_equal(np.concatenate(list(source.chunks())), expected)
    assert expected.size == 15_360
