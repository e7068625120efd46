"""Which reader a file gets, and the checks that all readers share."""

from __future__ import annotations

import os
from fractions import Fraction

import numpy as np
import pytest

from einthoven.errors import InputError, RecordFormatError, RecordNotFound, SamplingRateError
from einthoven.source_checks import LEADS, lead_name, library, number, sampling_rate, translated
from einthoven.source_simulated import SimulatedSource
from einthoven.sources import open_source

CSV = "# sampling_rate_hz=300\n# unit=uV\n1\n2\n"


def wfdb(folder):
    (folder / "x.hea").write_text("x 1 300 4\nx.dat 16 1000/mV 16 0 0 0 0 ECG\n")
    (folder / "x.dat").write_bytes(np.arange(4, dtype="<i2").tobytes())


@pytest.mark.parametrize("asked", ["x.hea", "x.dat", "x"])
def test_a_wfdb_record_by_any_of_its_names(tmp_path, asked):
    wfdb(tmp_path)
    assert np.concatenate(list(open_source(str(tmp_path / asked)).chunks())).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("name", ["x.csv", "x.CSV", "x.txt", "x.log", "x"])
def test_a_table_by_extension_or_content(tmp_path, name):
    (tmp_path / name).write_text(CSV)
    assert open_source(tmp_path / name).name.startswith("CSV")


def test_npy_by_content(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros(5))
    (tmp_path / "x.npy").rename(tmp_path / "y.bin")
    assert open_source(tmp_path / "y.bin", sampling_rate_hz=300, unit="uV").name == "NPY record"
    with pytest.raises(InputError, match="lead"):
        open_source(tmp_path / "y.bin", lead="I", sampling_rate_hz=300, unit="uV")


def test_an_extension_that_lies_gets_that_readers_error(tmp_path):
    (tmp_path / "x.edf").write_text(CSV)
    with pytest.raises(RecordFormatError, match="EDF"):
        open_source(tmp_path / "x.edf")


@pytest.mark.parametrize("content", [b"\x7fELF" + b"\0" * 100, b"<xml/>", b"# A readme\ntext"])
def test_an_unknown_kind_of_file(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(RecordFormatError, match="not known"):
        open_source(tmp_path / "x")


def test_what_is_not_there_or_no_file(tmp_path):
    for asked in ("none", "none.csv", "none.dat", "none.hea"):
        with pytest.raises(RecordNotFound):
            open_source(tmp_path / asked)
    with pytest.raises(RecordFormatError):
        open_source(tmp_path)
    (tmp_path / "alone.mat").write_bytes(b"abc")
    with pytest.raises(RecordFormatError, match="hea"):
        open_source(tmp_path / "alone.mat")
    with pytest.raises(InputError):
        open_source("bad\0name")
    with pytest.raises(InputError):
        open_source("n" * 5000)


def test_a_pipe_does_not_block(tmp_path):
    for name in ("p.csv", "p.hea", "p.edf", "p.npy", "p"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(RecordFormatError, match="not a file"):
            open_source(tmp_path / name)


def test_a_rate_for_a_format_that_states_its_own_is_refused(tmp_path):
    wfdb(tmp_path)
    with pytest.raises(InputError, match="its own rate"):
        open_source(tmp_path / "x.hea", sampling_rate_hz=300)


def test_a_library_that_is_not_installed_names_the_remedy():
    with pytest.raises(InputError, match=r"pip install 'einthoven\[formats\]'"):
        library("einthoven_no_such_library")


def test_foreign_errors_are_translated_and_keep_their_cause():
    with pytest.raises(RecordFormatError) as caught, translated("EDF"):
        raise KeyError("Jane Doe")
    assert "Jane" not in str(caught.value)
    assert isinstance(caught.value.__cause__, KeyError)


def test_rates_and_numbers_are_exact():
    assert sampling_rate("512.617") == Fraction(512617, 1000)
    assert sampling_rate(100) == 100
    assert sampling_rate(1000) == 1000
    for wrong in (99, 1001, "99.999", "1000.001", -300, 0):
        with pytest.raises(SamplingRateError):
            sampling_rate(wrong)
    assert number(" -1.5e3 ", "gain") == -1500
    with pytest.raises(RecordFormatError):
        number("1" * 33, "gain")


def test_lead_names():
    assert lead_name("ecg II") == "II"
    assert lead_name("EKG-v5") == "V5"
    assert lead_name("Lead I") == "I"
    assert lead_name("Jane Doe") is None
    assert len(set(LEADS)) == len(LEADS)


def test_the_demo_record_is_ten_minutes_and_says_simulated():
    source = SimulatedSource.demo()
    assert source.simulated
    assert "Simulated" in source.name
    assert source.ecg.samples_uv.size == 600 * source.sampling_rate_hz
    assert sum(chunk.size for chunk in source.chunks()) == 180_000
