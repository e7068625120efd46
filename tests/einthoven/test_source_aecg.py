"""HL7 aECG: what is read, exactly; and what is refused and how."""

from __future__ import annotations

import warnings
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from tests.einthoven.ecg_exports import aecg, aecg_lead, aecg_series, aecg_time

from einthoven.errors import InputError, RecordFormatError, RecordNotFound, SamplingRateError, UnknownUnit
from einthoven.ports import MISSING_UV
from einthoven.source_aecg import AecgSource
from einthoven.sources import open_source

FORMATS = Path(__file__).parents[3] / "shared" / "data" / "formats"
needs_files = pytest.mark.skipif(not FORMATS.is_dir(), reason="needs ../shared/data/formats")


def open_bytes(folder: Path, content: bytes, **options) -> AecgSource:
    (folder / "x.xml").write_bytes(content)
    return AecgSource.open(folder / "x.xml", **options)


def one(*sequences: str) -> bytes:
    return aecg(aecg_series(*sequences))


def test_digits_times_scale_plus_origin(tmp_path):
    source = open_bytes(tmp_path, one(aecg_time(), aecg_lead("II", [-2, 0, 3, 1000], scale="2.5", origin="10")))
    assert np.concatenate(list(source.chunks())).tolist() == [5, 10, 18, 2510]  # 17.5 to even
    assert source.sampling_rate_hz == 500
    assert source.name == "HL7 aECG record, lead II"
    assert not source.samples_uv.flags.writeable


@pytest.mark.parametrize(
    ("unit", "scale", "expected"),
    [("uV", "1", 7), ("mV", "0.001", 7), ("nV", "1000", 7), ("V", "0.000001", 7), ("µV", "2", 14), ("uV", "25e-1", 18)],
)
def test_units_are_exact(tmp_path, unit, scale, expected):
    content = one(aecg_time(), aecg_lead("I", [7], scale=scale, unit=unit))
    assert open_bytes(tmp_path, content).samples_uv.tolist() == [expected]


@pytest.mark.parametrize(
    ("increment", "unit", "rate_hz"),
    [
        ("0.002", "s", Fraction(500)),
        ("1", "ms", Fraction(1000)),
        ("2500", "us", Fraction(400)),
        ("0.003", "s", Fraction(1000, 3)),  # no decimal fraction, and exact all the same
        ("0.00195", "s", Fraction(100_000, 195)),
    ],
)
def test_the_rate_is_exact(tmp_path, increment, unit, rate_hz):
    content = one(aecg_time(increment, unit), aecg_lead("I", [7]))
    assert open_bytes(tmp_path, content).sampling_rate_hz == rate_hz


def test_a_time_relative_to_nothing_gives_a_rate_and_no_start(tmp_path):
    time = aecg_time(head="0").replace("TIME_ABSOLUTE", "TIME_RELATIVE").replace("GLIST_TS", "GLIST_PQ")
    source = open_bytes(tmp_path, one(time, aecg_lead("I", [7])))
    assert source.sampling_rate_hz == 500
    assert source.started_at_ms is None


@pytest.mark.parametrize(
    ("head", "started"),
    [
        ("20021122091000.250-0500", datetime(2002, 11, 22, 14, 10, 0, 250_000, tzinfo=UTC)),
        ("20021122091000+0000", datetime(2002, 11, 22, 9, 10, tzinfo=UTC)),
        ("20021122091000.2+0530", datetime(2002, 11, 22, 3, 40, 0, 200_000, tzinfo=UTC)),
        ("20021122091000.250", None),  # local time of a place that is not stated
        ("20021122091000", None),
        ("200211220910+0000", None),
        ("20021322091000+0000", None),
        ("20021122091000+9900", None),
        ("", None),
    ],
)
def test_the_start_is_known_only_with_its_zone(tmp_path, head, started):
    content = one(aecg_time(head=head), aecg_lead("I", [7]))
    expected = None if started is None else round(started.timestamp() * 1000)
    assert open_bytes(tmp_path, content).started_at_ms == expected


def test_the_best_lead_or_the_one_asked_for(tmp_path):
    content = one(aecg_time(), aecg_lead("V1", [1]), aecg_lead("II", [2]), aecg_lead("AVF", [3]))
    assert open_bytes(tmp_path, content).samples_uv.tolist() == [5]
    assert open_bytes(tmp_path, content, lead="aVF").samples_uv.tolist() == [8]
    assert open_bytes(tmp_path, content, lead="MDC_ECG_LEAD_V1").name == "HL7 aECG record, lead V1"
    with pytest.raises(InputError, match="V1, II, AVF"):
        open_bytes(tmp_path, content, lead="V6")


def test_leads_in_sets_of_their_own_have_their_own_rate(tmp_path):
    two_sets = aecg_series(aecg_time("2", "ms"), aecg_lead("I", [1])).replace(
        "</sequenceSet></component>",
        f"</sequenceSet></component><component><sequenceSet>{aecg_time('4', 'ms')}{aecg_lead('II', [2])}"
        "</sequenceSet></component>",
    )
    assert open_bytes(tmp_path, aecg(two_sets), lead="I").sampling_rate_hz == 500
    assert open_bytes(tmp_path, aecg(two_sets), lead="II").sampling_rate_hz == 250


def test_a_representative_beat_is_no_rhythm(tmp_path):
    beat = aecg_series(aecg_time(), aecg_lead("II", [9, 9]), code="REPRESENTATIVE_BEAT")
    rhythm = aecg_series(aecg_time(), aecg_lead("V1", [2]))
    assert open_bytes(tmp_path, aecg(beat, rhythm)).samples_uv.tolist() == [5]
    nested = rhythm.replace("</series>", f"<derivation><derivedSeries>{beat}</derivedSeries></derivation></series>")
    assert open_bytes(tmp_path, aecg(nested)).samples_uv.tolist() == [5]
    with pytest.raises(RecordFormatError, match="no rhythm"):
        open_bytes(tmp_path, aecg(beat))


def test_the_first_rhythm_is_read(tmp_path):
    first, second = (aecg_series(aecg_time(), aecg_lead("II", [digit])) for digit in (1, 2))
    assert open_bytes(tmp_path, aecg(first, second)).samples_uv.tolist() == [2]


def test_a_digit_that_is_no_number_or_beyond_any_electrode_is_missing(tmp_path):
    content = one(aecg_time(), aecg_lead("II", [1, "NaN", 999_999_999, -4], scale="1"))
    assert open_bytes(tmp_path, content).samples_uv.tolist() == [1, MISSING_UV, MISSING_UV, -4]


def test_in_utf_16_too(tmp_path):
    content = one(aecg_time(), aecg_lead("II", [4])).decode().replace("UTF-8", "UTF-16").encode("utf-16")
    assert open_bytes(tmp_path, content).samples_uv.tolist() == [10]
    assert open_source(tmp_path / "x.xml").name == "HL7 aECG record, lead II"


GOOD = (aecg_time(), aecg_lead("II", [1, 2]))


@pytest.mark.parametrize(
    ("content", "error", "says"),
    [
        (aecg(), RecordFormatError, "no rhythm"),
        (one(aecg_time()), RecordFormatError, "no rhythm"),
        (one(GOOD[1]), SamplingRateError, "does not state"),
        (one(aecg_time(), *GOOD), SamplingRateError, "does not state"),
        (one(GOOD[0].replace("GLIST_TS", "SLIST_TS"), GOOD[1]), SamplingRateError, "does not state"),
        (one(GOOD[0].replace("increment", "decrement"), GOOD[1]), SamplingRateError, "does not state"),
        (one(aecg_time("0"), GOOD[1]), SamplingRateError, "not positive"),
        (one(aecg_time("-0.002"), GOOD[1]), SamplingRateError, "not positive"),
        (one(aecg_time("NaN"), GOOD[1]), RecordFormatError, "not a number"),
        (one(aecg_time("1e-99"), GOOD[1]), SamplingRateError, "not a number"),
        (one(aecg_time("1e-12"), GOOD[1]), SamplingRateError, "out of range"),
        (one(aecg_time("1"), GOOD[1]), SamplingRateError, "out of range"),
        (one(aecg_time("2", "h"), GOOD[1]), SamplingRateError, "unit"),
        (one(aecg_time("2", ""), GOOD[1]), SamplingRateError, "unit"),
        (one(GOOD[0], aecg_lead("II", [])), RecordFormatError, "no samples"),
        (one(GOOD[0], GOOD[1].replace("digits", "numbers")), RecordFormatError, "no samples"),
        (one(GOOD[0], aecg_lead("II", ["1.5"])), RecordFormatError, "whole number"),
        (one(GOOD[0], aecg_lead("II", ["١"])), RecordFormatError, "whole number"),
        (one(GOOD[0], aecg_lead("II", ["1" * 400])), RecordFormatError, "whole number"),
        (one(GOOD[0], aecg_lead("II", [1], unit="")), UnknownUnit, "no unit"),
        (one(GOOD[0], aecg_lead("II", [1], unit="mmHg")), UnknownUnit, "not a voltage"),
        (one(GOOD[0], aecg_lead("II", [1], scale="0")), RecordFormatError, "not positive"),
        (one(GOOD[0], aecg_lead("II", [1], scale="-2.5")), RecordFormatError, "not positive"),
        (one(GOOD[0], aecg_lead("II", [1], scale="NaN")), RecordFormatError, "not a number"),
        (one(GOOD[0], GOOD[1].replace("origin", "source")), RecordFormatError, "no origin"),
        (one(GOOD[0], GOOD[1].replace("SLIST_PQ", "SLIST_XX")), RecordFormatError, "SLIST_PQ"),
        (one(*GOOD, GOOD[1]), RecordFormatError, "more than once"),
        (one(*GOOD).replace(b"AnnotatedECG", b"AnnotatedEEG"), RecordFormatError, "not a HL7 aECG"),
    ],
)
def test_what_is_refused_and_what_it_says(tmp_path, content, error, says):
    with pytest.raises(InputError, match=says) as caught:
        open_bytes(tmp_path, content)
    assert type(caught.value) is error
    assert "\n" not in str(caught.value)
    assert "Roe" not in str(caught.value)


def test_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(RecordNotFound):
        AecgSource.open(tmp_path / "none.xml")
    with pytest.raises(RecordFormatError, match="not a file"):
        AecgSource.open(tmp_path)


@pytest.mark.data
@needs_files
def test_hl7s_example_is_the_same_in_dicom_by_an_independent_decoder():
    pydicom = pytest.importorskip("pydicom")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pydicom, about values in the file that are not ours
        other = pydicom.dcmread(FORMATS / "dicom/hl7_example_12lead_500hz.dcm")
        waveform_uv = other.waveform_array(0)
    channels = other.WaveformSequence[0].ChannelDefinitionSequence
    names = [channel.ChannelSourceSequence[0].CodeMeaning.removeprefix("Lead ") for channel in channels]
    assert len(names) == 12
    for index, name in enumerate(names):
        source = AecgSource.open(FORMATS / "aecg/hl7_example_subject1.xml", lead=name)
        assert source.sampling_rate_hz == 500
        assert np.array_equal(source.samples_uv, np.rint(waveform_uv[:, index]).astype(int)), name


@pytest.mark.data
@needs_files
def test_the_smallest_example_has_thirteen_samples():
    source = AecgSource.open(FORMATS / "aecg/minimum_aecg.xml")
    assert source.samples_uv.tolist() == [-5, -5, -5, -5, -8, -10, -8, -12, -12, -10, -15, -22, -22]
    assert source.started_at_ms is None
