"""Damaged binary recordings: every reader yields samples or one of our own refusals, in bounded memory and time.

The number of executions is in each test's name or marks: 100 truncations and 150 flips a target by default, and under
``slow`` 10,000 flips. Of SCP-ECG the checksums are made right after the damage; else none would get past them.
"""

from __future__ import annotations

import io
import resource
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.einthoven.binary_records import (
    ECG,
    NOTES,
    WFDB_WRITERS,
    dicom_bytes,
    dicom_channel,
    dicom_group,
    edf_header,
    edf_plus_d,
    scp_bytes,
    with_right_checksums,
)
from tests.einthoven.reader_damage import PEAK_BYTES, flips, peak_bytes, read_or_refuse, truncations

from einthoven.ports import Source
from einthoven.source_dicom import DicomSource
from einthoven.source_edf import EdfSource
from einthoven.source_scp import ScpSource
from einthoven.source_wfdb import WfdbSource

FORMATS = Path(__file__).parents[3] / "shared" / "data" / "formats"
CASE_S = 20
"""Longest that one damaged file may take on a busy machine, seconds; one takes milliseconds."""
WAVE = (300 * np.sin(np.arange(2000) / 20)).round().astype(int)
SEGMENTED = "x/2 1 250 2000\nx_layout 0\na 2000\n"


@dataclass(frozen=True)
class Target:
    """A reader and a sound file for it.

    Attributes:
        open: Opens the file at a path.
        blob: The sound file; a callable where it is a recorded one.
        name: What the file has to be called.
        beside: Other files of the record, by name.
        repair: What is done to a damaged file before it is read.
        cut_is_refused: Whether every shortened file has to be refused.
    """

    open: Callable[[Path], Source]
    blob: bytes | Path
    name: str = "x"
    beside: tuple[tuple[str, bytes], ...] = ()
    repair: Callable[[bytes], bytes] = bytes
    cut_is_refused: bool = True

    def content(self) -> bytes:
        if isinstance(self.blob, bytes):
            return self.blob
        if not self.blob.is_file():
            pytest.skip("needs ../shared/data/formats")
        return self.blob.read_bytes()


def beside(path: Path) -> Source:
    return WfdbSource.open(path.with_suffix(".hea"))


def wfdb_header(form: str, more: str = "") -> bytes:
    lines = f"x.dat {form} 1000(3)/mV 16 0 0 0 0 II\nx.dat {form}:2 200 16 0 0 0 0 V1\n"
    return f"x 2 250/0.5(12) 1000 10:00:00 1/2/2003\n{lines}# Jane Doe\n{more}".encode()


def flac() -> bytes:
    file = io.BytesIO()
    soundfile.write(file, WAVE.reshape(-1, 2).astype(np.int16), 250, subtype="PCM_16", format="FLAC")
    return file.getvalue()


def wfdb_signal(form: str, blob: bytes) -> Target:
    return Target(beside, blob, "x.dat", (("x.hea", wfdb_header(form)),))


def wfdb_headers() -> dict[str, Target]:
    two = WFDB_WRITERS["212"](WAVE.tolist())
    part = (("a.dat", WFDB_WRITERS["16"](WAVE.tolist())), ("a.hea", b"a 1 250 2000\na.dat 16 1000 16 0 0 0 0 II\n"))
    layout = (("x_layout.hea", b"x_layout 1 250 0\n~ 0 1000 16 0 0 0 0 II\n"),)
    return {
        "wfdb header": Target(beside, wfdb_header("212"), "x.hea", (("x.dat", two),), cut_is_refused=False),
        "wfdb segments": Target(beside, SEGMENTED.encode(), "x.hea", part + layout, cut_is_refused=False),
    }


TARGETS = {
    "edf": Target(EdfSource.open, edf_header(ECG, records=8) + WAVE.astype("<i2").tobytes()),
    "edf+d": Target(EdfSource.open, edf_plus_d(WAVE, (0, 1, 2, 10, "11.5", 13, 14, 20))),
    "bdf": Target(
        EdfSource.open,
        b"\xffBIOSEMI"
        + edf_header({**ECG, "dmin": -(2**23), "dmax": 2**23 - 1}, NOTES, kind="BDF+D", records=4)[8:]
        + b"".join(bytes(750) + f"+{n}\x14\x14".encode().ljust(24, b"\0") for n in range(4)),
    ),
    "edf sample": Target(EdfSource.open, FORMATS / "edf" / "A00001.edf"),
    "dicom": Target(
        DicomSource.open,  # the rhythm lies before the median beat: cut off, the file may not pass for whole
        dicom_bytes([dicom_group([wave], [dicom_channel("2:2")]) for wave in (WAVE, WAVE[:300])]),
    ),
    "dicom implicit": Target(
        DicomSource.open,
        dicom_bytes(
            [
                dicom_group(
                    [WAVE, WAVE], [dicom_channel("2:2"), dicom_channel(label="V1")], MultiplexGroupTimeOffset="5"
                )
            ],
            **{"implicit": True, "preamble": False, "undefined_length": True},
        ),
    ),
    "dicom sample": Target(DicomSource.open, FORMATS / "dicom" / "hl7_example_12lead_500hz.dcm"),
    "scp": Target(ScpSource.open, scp_bytes({2: WAVE, 1: -WAVE}), repair=with_right_checksums),
    "scp tables": Target(
        ScpSource.open,
        scp_bytes(
            {2: WAVE}, tables="switching", order=1, reference=[WAVE[:50]], fiducial=25, zones=[(0, 100, 125, 149)] * 20
        ),
        repair=with_right_checksums,
    ),
    "scp sample": Target(ScpSource.open, FORMATS / "scp" / "hl7_example.scp", repair=with_right_checksums),
    **wfdb_headers(),
    "wfdb 8": wfdb_signal("8", WFDB_WRITERS["8"]((WAVE // 3).tolist())),
    "wfdb 212": wfdb_signal("212", WFDB_WRITERS["212"](WAVE.tolist())),
    "wfdb 310": wfdb_signal("310", WFDB_WRITERS["310"](WAVE.tolist())),
    "wfdb flac": wfdb_signal("516", flac()),
}
ALL = pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS.keys())


def outcomes(target: Target, folder: Path, blobs: Iterable[bytes]) -> Counter[str]:
    """Read each blob by the rules of ``reader_damage``; count the refusals by their text, "" for what was read."""
    for name, content in target.beside:
        (folder / name).write_bytes(content)
    counted: Counter[str] = Counter()
    for blob in blobs:
        started = time.monotonic()
        counted[read_or_refuse(target.open, folder / target.name, target.repair(blob))] += 1
        assert time.monotonic() - started < CASE_S
    return counted


def test_every_sound_file_is_read(tmp_path):
    for name, target in TARGETS.items():
        if isinstance(target.blob, Path) and not target.blob.is_file():
            continue
        assert outcomes(target, tmp_path, [target.content()]) == {"": 1}, name


@ALL
def test_a_file_cut_at_each_of_100_places(tmp_path, target):
    content, counted = target.content(), Counter()
    assert peak_bytes(lambda: counted.update(outcomes(target, tmp_path, truncations(content)))) < PEAK_BYTES
    assert counted.total() == 100
    assert counted[""] == 0 or not target.cut_is_refused


@ALL
def test_150_flips(tmp_path, target):
    damaged, counted = flips(target.content(), 150, seed=27), Counter()
    measured = islice(damaged, 30)  # tracing memory takes ten times as long as reading
    assert peak_bytes(lambda: counted.update(outcomes(target, tmp_path, measured))) < PEAK_BYTES
    assert (counted + outcomes(target, tmp_path, damaged)).total() == 150


@pytest.mark.slow
@pytest.mark.timeout(3600)
@ALL
def test_10_000_flips(tmp_path, target):
    content = target.content()
    held_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    counted = outcomes(target, tmp_path, flips(content, 10_000, seed=28))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - held_kib < PEAK_BYTES // 2**10  # native memory too
    assert counted.total() == 10_000
    print(f"{counted.total()} executions, {counted['']} read, {len(counted) - 1} kinds of refusal")  # shown by -rP


@ALL
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    edits=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=8)), max_size=6),
    keep=st.floats(0, 1) | st.just(1.0),
    more=st.binary(max_size=64),
)
def test_any_edit_of_a_file(tmp_path, target, edits, keep, more):
    content = bytearray(target.content())
    for at, patch in edits:
        start = int(at * len(content))
        content[start : start + len(patch)] = patch
    outcomes(target, tmp_path, [bytes(content[: int(keep * len(content))]) + more])


@pytest.mark.parametrize(
    ("open_source", "magic"),
    [(EdfSource.open, b"0       "), (EdfSource.open, b"\xffBIOSEMI"), (DicomSource.open, bytes(128) + b"DICM")],
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rest=st.binary(max_size=2000))
def test_any_bytes_after_the_magic(tmp_path, open_source, magic, rest):
    assert read_or_refuse(open_source, tmp_path / "x", magic + rest)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rest=st.binary(max_size=2000))
def test_any_bytes_after_the_magic_of_scp(tmp_path, rest):
    head = (22 + len(rest)).to_bytes(4, "little") + bytes(4) + b"\x88\0\0\0\x14\x14SCPECG"
    assert read_or_refuse(ScpSource.open, tmp_path / "x", with_right_checksums(b"\0\0" + head + rest))


@pytest.mark.parametrize("open_source", [EdfSource.open, DicomSource.open, ScpSource.open, WfdbSource.open])
@pytest.mark.parametrize(
    "content", [b"\x7fELF" + bytes(5000), b"%PDF-1.7\n" * 500, b"PK\3\4" + bytes(300), b"\n" * 999]
)
def test_another_kind_of_file_is_refused(tmp_path, open_source, content):
    assert read_or_refuse(open_source, tmp_path / "x.hea", content)
