"""Schiller EDI: what is read, and what is refused and how."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from tests.einthoven.ecg_exports import counts, schiller

from einthoven.errors import InputError, RecordFormatError, SamplingRateError, UnknownUnit
from einthoven.ports import MISSING_UV
from einthoven.source_schiller import SchillerSource
from einthoven.sources import open_source

FORMATS = Path(__file__).parents[3] / "shared" / "data" / "formats"
SAMPLE = FORMATS / "schiller" / "schiller_12lead.xml"
needs_files = pytest.mark.skipif(not FORMATS.is_dir(), reason="needs ../shared/data/formats")


def open_bytes(folder: Path, content: bytes, **options) -> SchillerSource:
    (folder / "x.xml").write_bytes(content)
    return SchillerSource.open(folder / "x.xml", **options)


def test_samples_rate_and_name(tmp_path):
    values = counts()
    source = open_bytes(tmp_path, schiller({"V1": counts(seed=1), "II": values}, rate="512.5"))
    assert np.array_equal(np.concatenate(list(source.chunks())), values)
    assert source.sampling_rate_hz == Fraction(1025, 2)
    assert source.name == "Schiller record, lead II"
    assert source.started_at_ms is None
    assert open_source(tmp_path / "x.xml").name == source.name


@pytest.mark.parametrize(
    ("unit", "resolution", "expected"),
    [("UV", "2.5", 8), ("uV", "1.0", 3), ("MV", "0.001", 3), ("NV", "1000", 3), ("µV", "5", 15)],
)
def test_units(tmp_path, unit, resolution, expected):
    content = schiller({"I": [3]}, unit=unit, resolution=resolution)
    assert open_bytes(tmp_path, content).samples_uv.tolist() == [expected]


def test_blanks_and_missing_samples(tmp_path):
    content = schiller({"I": ["1", " -2 ", "NaN", "\n4"]})
    assert open_bytes(tmp_path, content).samples_uv.tolist() == [1, -2, MISSING_UV, 4]


def test_another_lead_by_name(tmp_path):
    content = schiller({"II": [1], "AVR": [7]})
    assert open_bytes(tmp_path, content, lead="aVR").samples_uv.tolist() == [7]
    with pytest.raises(InputError, match="II, AVR"):
        open_bytes(tmp_path, content, lead="V1")


GOOD = schiller({"II": [1, 2, 3]})


@pytest.mark.parametrize(
    ("content", "error", "says"),
    [
        (schiller({}), RecordFormatError, "no rhythm"),
        (schiller({"II": [1]}, kind="ECG_MEDIANS"), RecordFormatError, "no rhythm"),
        (GOOD.replace(b"eventdata", b"otherdata"), RecordFormatError, "no rhythm"),
        (schiller([("II", [1]), ("II", [2])]), RecordFormatError, "more than once"),
        (schiller([("II", [1]), ("ECG II", [2])]), RecordFormatError, "more than once"),
        (schiller({"Jane": [1], "Roe": [2]}), InputError, "none of the 2"),
        (schiller({"II": [1]}, rate="0"), SamplingRateError, "out of range"),
        (schiller({"II": [1]}, rate="-500"), SamplingRateError, "out of range"),
        (schiller({"II": [1]}, rate="NaN"), SamplingRateError, "not a number"),
        (schiller({"II": [1]}, rate=""), SamplingRateError, "not a number"),
        (schiller({"II": [1]}, exponent="2"), SamplingRateError, "exponent"),
        (schiller({"II": [1]}).replace(b"samplerate", b"rate"), SamplingRateError, "no sampling rate"),
        (schiller({"II": [1]}, unit=""), UnknownUnit, "no unit"),
        (schiller({"II": [1]}, unit="MMHG"), UnknownUnit, "not a voltage"),
        (schiller({"II": [1]}, resolution="0"), RecordFormatError, "not positive"),
        (schiller({"II": [1]}, resolution="-1"), RecordFormatError, "not positive"),
        (schiller({"II": [1]}, resolution="1e999999"), RecordFormatError, "not a number"),
        (schiller({"II": [1]}, encoding="BASE64"), RecordFormatError, "encoding"),
        (schiller({"II": [1]}, count="1000000000000"), RecordFormatError, "claims more than"),
        (schiller({"II": [1]}, count="2"), RecordFormatError, "does not hold"),
        (schiller({"II": [1]}, count="0"), RecordFormatError, "no samples"),
        (schiller({"II": [1]}, count="-1"), RecordFormatError, "no samples"),
        (schiller({"II": [1]}, count="1.5"), RecordFormatError, "not possible"),
        (schiller({"II": [1]}, count="one"), RecordFormatError, "not a number"),
        (schiller({"II": ["1.5"]}), RecordFormatError, "whole number"),
        (schiller({"II": ["", ""]}), RecordFormatError, "does not hold"),
        (schiller({"II": ["Roe"]}), RecordFormatError, "whole number"),
        (GOOD.replace(b"SchillerEDI>", b"OtherEDI>"), RecordFormatError, "not a Schiller"),
    ],
)
def test_what_is_refused_and_what_it_says(tmp_path, content, error, says):
    with pytest.raises(InputError, match=says) as caught:
        open_bytes(tmp_path, content)
    assert type(caught.value) is error
    assert "\n" not in str(caught.value)
    assert "Roe" not in str(caught.value)


@pytest.mark.data
@needs_files
def test_the_sample_file_obeys_einthovens_law_in_every_sample():
    leads = {name: SchillerSource.open(SAMPLE, lead=name).samples_uv.astype(int) for name in ("I", "II", "III")}
    assert leads["II"].size == 5_000
    assert np.abs(leads["I"] + leads["III"] - leads["II"]).max() <= 1


@pytest.mark.data
@needs_files
def test_the_sample_files_own_beats_are_where_its_rate_puts_them():
    """The file lists the onsets and ends of its QRS complexes in samples and its mean RR interval in ms."""
    text = SAMPLE.read_text(encoding="ascii")
    onsets, ends = (
        [
            int(value)
            for value in re.findall(r"<value>(\d+)</value>", re.search(rf"{name}</name>(.*?)</rhythm", text, re.S)[1])
        ]
        for name in ("R_QRS_ON", "R_QRS_OFF")
    )
    source = SchillerSource.open(SAMPLE, lead="V4")
    steep = np.abs(np.diff(source.samples_uv))
    assert len(onsets) == 11
    for onset, end in zip(onsets, ends, strict=True):
        assert steep[onset:end].max() > 3 * np.percentile(steep, 90)
    mean_rr_ms = float(np.diff(onsets).mean() / source.sampling_rate_hz * 1000)
    assert mean_rr_ms == pytest.approx(869, rel=0.02)
