"""Damaged and hostile files for the XML and table readers: HL7 aECG, Sierra, Schiller, Apple Health, CSV and NPY.

The rule is that of ``reader_damage``: samples, or one of our own errors in one line; within ``CASE_S`` and
``PEAK_BYTES``. The ``slow`` cases are the 10,000 flips of the issue; the default run has fewer of the same.
"""

from __future__ import annotations

import base64
import io
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.einthoven.ecg_exports import (
    aecg,
    aecg_lead,
    aecg_series,
    aecg_time,
    apple,
    counts,
    pack_codes,
    schiller,
    sierra,
    sierra_chunks,
    twelve_leads,
)
from tests.einthoven.reader_damage import PEAK_BYTES, flips, peak_bytes, read_or_refuse, truncations

from einthoven.errors import InputError, RecordFormatError
from einthoven.ports import Source
from einthoven.source_aecg import AecgSource
from einthoven.source_apple import MAX_APPLE_BYTES, AppleSource
from einthoven.source_csv import CsvSource
from einthoven.source_npy import NpySource
from einthoven.source_schiller import SchillerSource
from einthoven.source_sierra import SierraSource
from einthoven.sources import open_source
from einthoven.xml_records import MAX_XML_BYTES, MAX_XML_DEPTH, MAX_XML_EVENTS, read_xml, xml_form

FORMATS = Path(__file__).parents[3] / "shared" / "data" / "formats"
CASE_S = 20.0
"""Longest that one file may take: the largest allowed take a few seconds where four test runs share a core."""


def npy() -> bytes:
    file = io.BytesIO()
    np.save(file, counts().astype(np.int16))
    return file.getvalue()


@dataclass(frozen=True)
class Reader:
    name: str
    open: Callable[[Path], Source]
    blob: bytes
    sample: str | None = None

    def __str__(self) -> str:
        return self.name


AECG = aecg(
    aecg_series(aecg_time(), *(aecg_lead(name, counts(80, seed)) for seed, name in enumerate(("I", "II", "V1"))))
)
SIERRA = sierra(sierra_chunks(twelve_leads(120)), n=120)
SCHILLER = schiller({name: counts(80, seed) for seed, name in enumerate(("I", "II", "V1"))})
APPLE = apple([f"{value / 3:.3f}".replace(".", ",") for value in counts(200)], rate="Messrate,511,422 hertz")
CSV = b"# sampling_rate_hz=300\n# unit=uV\ntime,ECG\n" + b"".join(b"%d,%d\n" % pair for pair in enumerate(counts(200)))

READERS = (
    Reader("aecg", AecgSource.open, AECG, "aecg/hl7_example_subject1.xml"),
    Reader("sierra", SierraSource.open, SIERRA, "philips_sierra/v1_03.xml"),
    Reader(
        "sierra_utf16",
        SierraSource.open,
        SIERRA.decode().replace("UTF-8", "UTF-16").encode("utf-16"),
        "philips_sierra/v1_04.xml",
    ),
    Reader("schiller", SchillerSource.open, SCHILLER, "schiller/schiller_12lead.xml"),
    Reader("apple", AppleSource.open, APPLE, "constructed/apple_health_ecg_A_decimal_comma.csv"),
    Reader("csv", CsvSource.open, CSV),
    Reader("npy", lambda path: NpySource.open(path, sampling_rate_hz=300, unit="uV"), npy()),
)
SUFFIX = {"apple": ".csv", "csv": ".csv", "npy": ".npy"}


@pytest.fixture(params=READERS, ids=str)
def reader(request: pytest.FixtureRequest) -> Reader:
    return request.param


def timed(open_file: Callable[[Path], Source], path: Path, blob: bytes) -> str:
    """``read_or_refuse`` within the time of a case."""
    began = time.monotonic()
    message = read_or_refuse(open_file, path, blob)
    assert time.monotonic() - began < CASE_S
    return message


def opened_by_itself(path: Path) -> Source:
    """As a user opens a file; CSV and NPY have their rate and unit stated."""
    try:
        return open_source(path)
    except InputError:
        return open_source(path, sampling_rate_hz=300, unit="uV")


# Whole, cut off, flipped


def test_the_undamaged_file_is_read(reader, tmp_path):
    assert timed(reader.open, tmp_path / "x", reader.blob) == ""


def test_cut_off_at_every_percent(reader, tmp_path):
    for blob in truncations(reader.blob):
        message = timed(reader.open, tmp_path / "x", blob)
        if reader.name not in {"apple", "csv"}:  # a shorter table is a table
            assert message


@pytest.mark.data
def test_sample_files_cut_off_at_every_percent(reader, tmp_path):
    if reader.sample is None:
        pytest.skip("there is no sample file of this form")
    if not FORMATS.is_dir():
        pytest.skip("needs ../shared/data/formats")
    for blob in truncations((FORMATS / reader.sample).read_bytes()):
        message = timed(reader.open, tmp_path / "x", blob)
        assert message or reader.name == "apple"


OUTER_GATE = ("this is not a readable XML record", "the file is not UTF-8 text")
"""What refuses a file before a reader of ours has looked at any of its values."""


def flips_in_kind(blob: bytes, count: int, seed: int) -> Iterator[bytes]:
    """The file ``count`` times with one to three bytes replaced by others of their kind; marks are left alone.

    Any byte in the place of any other (``flips``) leaves hardly a text that is still XML or UTF-8: nine in ten of those
    never reach a reader's own code. These do.
    """
    digits = [at for at, value in enumerate(blob) if value in b"0123456789"]
    letters = [at for at, value in enumerate(blob) if chr(value).isascii() and chr(value).isalpha()]
    chance = random.Random(seed)
    for _ in range(count):
        damaged = bytearray(blob)
        for _ in range(chance.randint(1, 3)):
            if chance.random() < 4 / 5:
                damaged[chance.choice(digits)] = chance.choice(b"0123456789012345678901234567890123456789+-.,eE ")
            else:
                damaged[chance.choice(letters)] = chance.choice(b"ABCDEFabcdefIVuvmnsXYZ0123456789+/=")
        yield bytes(damaged)


def put_to_the_test(reader: Reader, folder: Path, damaged_files: Iterator[bytes], *, by_itself: bool) -> Counter[str]:
    """Read each; how many were read, refused by the reader, or stopped at the outer gate, and how many there were."""
    path = folder / f"x{SUFFIX.get(reader.name, '.xml')}"
    ends: Counter[str] = Counter()
    for damaged in damaged_files:
        message = timed(reader.open, path, damaged)
        ends["all"] += 1
        ends["gate" if message.startswith(OUTER_GATE) else "refused" if message else "read"] += 1
        if by_itself:
            timed(opened_by_itself, path, damaged)
    print(f"{reader.name}: {dict(ends)}")  # for the record: pytest -rP
    return ends


def test_some_random_flips(reader, tmp_path):
    ends = put_to_the_test(reader, tmp_path, flips(reader.blob, 150, seed=27), by_itself=True)
    assert ends["all"] == 150
    assert 0 < ends["read"] < 150  # some flips are harmless, some are not


def test_some_flips_in_kind(reader, tmp_path):
    if reader.name == "npy":
        pytest.skip("NPY is no text")
    ends = put_to_the_test(reader, tmp_path, flips_in_kind(reader.blob, 150, seed=28), by_itself=True)
    assert ends["all"] == 150
    assert ends["gate"] < 75  # most reach the reader
    assert ends["read"] > 0
    assert ends["refused"] > 0


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_ten_thousand_random_flips(reader, tmp_path):
    ends = put_to_the_test(reader, tmp_path, flips(reader.blob, 10_000, seed=2), by_itself=False)
    assert ends["all"] == 10_000
    assert 0 < ends["read"] < 10_000


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_ten_thousand_flips_in_kind(reader, tmp_path):
    if reader.name == "npy":
        pytest.skip("NPY is no text")
    ends = put_to_the_test(reader, tmp_path, flips_in_kind(reader.blob, 10_000, seed=3), by_itself=False)
    assert ends["all"] == 10_000
    assert ends["gate"] < 5_000


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.timeout(3600)
def test_ten_thousand_random_flips_of_the_sample_file(reader, tmp_path):
    if reader.sample is None:
        pytest.skip("there is no sample file of this form")
    if not FORMATS.is_dir():
        pytest.skip("needs ../shared/data/formats")
    blob = (FORMATS / reader.sample).read_bytes()
    assert put_to_the_test(reader, tmp_path, flips(blob, 10_000, seed=4), by_itself=False)["all"] == 10_000


def test_flips_stay_within_memory(reader, tmp_path):
    for damaged in flips(reader.blob, 25, seed=5):
        assert peak_bytes(lambda damaged=damaged: timed(reader.open, tmp_path / "x", damaged)) < PEAK_BYTES


# Pieces taken out, doubled, put elsewhere, replaced by what a writer might write


WORDS = (
    *(
        b"0",
        b"-1",
        b"NaN",
        b"1e99",
        b"1000000000000",
        b"99999999999999999999",
        b"",
        b"\0",
        b"\xff\xfe",
        b" ",
        b",",
        b'"',
    ),
    *(b"<", b">", b"</", b"/>", b"<!--", b"]]>", b"<![CDATA[", b"&lt;", b"&#0;", b"&x;", b"<!DOCTYPE a>", b"<?xml?>"),
    *(b"uV", b"mmHg", b"II", b"RHYTHM", b"hertz", b"AAAA", b"====", b"value=", b"unit=", b"xmlns:a='b'", b"\n", b"#"),
)

edits = st.lists(
    st.tuples(
        st.sampled_from(("cut", "double", "move", "put")),
        st.floats(0, 1, exclude_max=True),
        st.integers(0, 80),
        st.floats(0, 1, exclude_max=True),
        st.sampled_from(WORDS) | st.binary(max_size=6),
    ),
    min_size=1,
    max_size=6,
)


def edited(blob: bytes, script: list[tuple[str, float, int, float, bytes]]) -> bytes:
    for what, where, length, other, word in script:
        at, to = int(len(blob) * where), int(len(blob) * other)
        piece = blob[at : at + length]
        if what == "cut":
            blob = blob[:at] + blob[at + length :]
        elif what == "double":
            blob = blob[:at] + piece + blob[at:]
        elif what == "move":
            blob = blob[:to] + piece + blob[to:]
        else:
            blob = blob[:at] + word + blob[at + length :]
    return blob


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(script=edits)
def test_edited_files_are_read_or_refused(reader, tmp_path, script):
    timed(reader.open, tmp_path / "x", edited(reader.blob, script))


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=300) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_read_or_refused(reader, tmp_path, content):
    timed(reader.open, tmp_path / "x", content)
    for suffix in (".xml", ".csv", ".npy", ""):
        timed(opened_by_itself, tmp_path / f"x{suffix}", content)


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(codes=st.lists(st.integers(0, 1023), max_size=60), first=st.integers(-(2**15), 2**15 - 1))
def test_any_packed_codes_are_read_or_refused(tmp_path, codes, first):
    packed = pack_codes([0, *codes, 1023])
    chunk = len(packed).to_bytes(4, "little") + b"\1\0" + first.to_bytes(2, "little", signed=True) + packed
    timed(SierraSource.open, tmp_path / "x", sierra(chunk * 12, n=30))


# Hostile XML (attack 23)

BILLION_LAUGHS = b"""<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY lol "lol">
%s]><AnnotatedECG>&lol9;</AnnotatedECG>""" % b"".join(
    b'<!ENTITY lol%d "%s">' % (level, b"&lol%d;" % (level - 1) * 10) for level in range(1, 10)
).replace(b"&lol0;", b"&lol;")

HOSTILE = {
    "external_entity": b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><AnnotatedECG>&x;</AnnotatedECG>',
    "external_parameter_entity": b'<!DOCTYPE a [<!ENTITY % x SYSTEM "http://x.invalid/x"> %x;]><AnnotatedECG/>',
    "external_dtd": b'<!DOCTYPE AnnotatedECG SYSTEM "http://x.invalid/x.dtd"><AnnotatedECG/>',
    "billion_laughs": BILLION_LAUGHS,
    "quadratic": b'<!DOCTYPE a [<!ENTITY x "%s">]><AnnotatedECG>%s</AnnotatedECG>' % (b"x" * 50_000, b"&x;" * 50_000),
    "plain_doctype": b"<!DOCTYPE AnnotatedECG><AnnotatedECG/>",
    "undeclared_entity": b"<AnnotatedECG>&x;</AnnotatedECG>",
    "depth_100000": b"<AnnotatedECG>" + b"<a>" * 100_000 + b"</a>" * 100_000 + b"</AnnotatedECG>",
    "huge_attribute": b'<AnnotatedECG a="' + b"x" * 20_000_000 + b'"/>',
    "many_attributes": b"<AnnotatedECG " + b" ".join(b'a%d=""' % n for n in range(90_000)) + b"/>",
    "huge_tag": b"<AnnotatedECG>" + b"<" + b"a" * 20_000_000 + b"/></AnnotatedECG>",
    "huge_comment": b"<AnnotatedECG><!--" + b"x" * 20_000_000 + b"--></AnnotatedECG>",
    "huge_instruction": b"<AnnotatedECG><?x " + b"x" * 20_000_000 + b"?></AnnotatedECG>",
    "a_million_elements": b"<AnnotatedECG>" + b"<a/>" * 1_000_000 + b"</AnnotatedECG>",
    "a_million_texts": b"<AnnotatedECG>" + b"x<!---->" * 1_000_000 + b"</AnnotatedECG>",
    "larger_than_any": b"<AnnotatedECG>" + b" " * MAX_XML_BYTES + b"</AnnotatedECG>",
    "no_end": b"<AnnotatedECG>",
    "two_roots": b"<AnnotatedECG/><AnnotatedECG/>",
    "invalid_utf8": b"<AnnotatedECG>\xff\xff</AnnotatedECG>",
    "unknown_encoding": b'<?xml version="1.0" encoding="klingon"?><AnnotatedECG/>',
    "encoding_that_runs_code": b'<?xml version="1.0" encoding="zlib_codec"?><AnnotatedECG/>',
    "half_utf_16": "<AnnotatedECG/>".encode("utf-16")[:-1],
    "nothing_but_a_mark": b"\xef\xbb\xbf",
    "control_characters": b"<AnnotatedECG>\x00\x01</AnnotatedECG>",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_xml_is_refused_in_bounded_memory(tmp_path, name):
    path = tmp_path / "x.xml"
    messages = [timed(AecgSource.open, path, HOSTILE[name])]
    peak = peak_bytes(lambda: messages.append(timed(open_source, path, HOSTILE[name])))
    assert all(messages)
    assert peak < PEAK_BYTES


@pytest.mark.parametrize("name", [name for name, content in HOSTILE.items() if b"DOCTYPE" in content])
def test_a_doctype_is_named_as_the_reason(tmp_path, name):
    path = tmp_path / "x.xml"
    path.write_bytes(HOSTILE[name])
    for attempt in (read_xml, xml_form):
        with pytest.raises(RecordFormatError, match="DOCTYPE"):
            attempt(path)


def test_depth_and_events_up_to_the_limits_are_read(tmp_path):
    deep = b"<a>" * (MAX_XML_DEPTH - 1) + b"</a>" * (MAX_XML_DEPTH - 1)
    (tmp_path / "x").write_bytes(
        b"<AnnotatedECG>" + deep + b"<b/>" * (MAX_XML_EVENTS - MAX_XML_DEPTH) + b"</AnnotatedECG>"
    )
    assert len(read_xml(tmp_path / "x").children) == MAX_XML_EVENTS - MAX_XML_DEPTH + 1
    (tmp_path / "x").write_bytes(b"<a>" * MAX_XML_DEPTH + b"<a/>" + b"</a>" * MAX_XML_DEPTH)
    with pytest.raises(RecordFormatError, match="deep"):
        read_xml(tmp_path / "x")


def test_other_xml_is_not_taken_for_an_ecg(tmp_path):
    (tmp_path / "x.xml").write_bytes(b"<html/>")
    with pytest.raises(RecordFormatError, match="not known"):
        open_source(tmp_path / "x.xml")


# Files as large as the limits let in

BIG = {
    "aecg_of_one_digit_each": (AecgSource.open, aecg(aecg_series(aecg_time(), aecg_lead("II", [7] * 3_900_000)))),
    "aecg_over_the_limit": (AecgSource.open, aecg(aecg_series(aecg_time(), aecg_lead("II", [7] * 4_100_000)))),
    "aecg_of_one_endless_digit": (AecgSource.open, aecg(aecg_series(aecg_time(), aecg_lead("II", ["7" * 30_000_000])))),
    "schiller_of_commas": (SchillerSource.open, schiller({"II": [""] * 20_000_000}, count="3000000")),
    "sierra_of_zeros": (SierraSource.open, sierra("A" * 28_000_000, duration="8000000")),
    "sierra_of_blanks": (SierraSource.open, sierra("\n" * 28_000_000, duration="8000000")),
    "sierra_xli_bomb": (
        SierraSource.open,
        sierra(
            base64.b64encode(
                b"".join(
                    len(packed).to_bytes(4, "little") + b"\1\0\0\0" + packed
                    for packed in [pack_codes([0, *range(256, 1023), *[1022] * 100_000, 1023])]
                    for _ in range(12)
                )
            ).decode(),
            duration="8000000",
        ),
    ),
    "apple_of_short_lines": (AppleSource.open, apple(["1"] * (MAX_APPLE_BYTES // 2 - 200))),
    "apple_of_one_line": (AppleSource.open, apple(["1" * (MAX_APPLE_BYTES - 1_000)])),
    "csv_of_one_line": (CsvSource.open, CSV + b"1" * 30_000_000),
    "npy_of_a_long_claim": (
        lambda path: NpySource.open(path, sampling_rate_hz=300, unit="uV"),
        npy().replace(b"(600,)", b"(10**12,)").replace(b"'shape': (10**12,)", b"'shape': (1000000000000,)"),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BIG)
def test_files_at_the_limits_take_bounded_time_and_memory(tmp_path, name):
    open_file, blob = BIG[name]
    path = tmp_path / "x"
    timed(open_file, path, blob)
    assert peak_bytes(lambda: read_or_refuse(open_file, path, blob)) < PEAK_BYTES + len(blob)


# Headers that claim the absurd, for the readers that were here before

NPY_HEAD = b"\x93NUMPY\x01\x00"


def npy_claiming(shape: str, dtype: str = "<i2") -> bytes:
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return NPY_HEAD + len(header).to_bytes(2, "little") + header.encode("latin-1") + bytes(64)


@pytest.mark.parametrize(
    "blob",
    [
        npy_claiming("(1000000000000,)"),
        npy_claiming("(-5,)"),
        npy_claiming("(9" + "9" * 60 + ",)"),
        npy_claiming("(4, 4)"),
        npy_claiming("(0,)"),
        npy_claiming("(4,)", "|O"),
        npy_claiming("(4,)", "<M8[s]"),
        npy_claiming("(4,)", "<i99"),
        npy_claiming("(4,)", "<c16"),
        npy_claiming("__import__('os').getcwd()"),
        npy_claiming("(((((((((((((((((((((((((((((((((((((((((((((1,)"),
        NPY_HEAD[:6] + b"\x09\x09" + bytes(64),
        NPY_HEAD + b"\xff\xff" + b"{" * 65535,
        b"\x93NUMPX" + npy()[6:],
    ],
)
def test_npy_headers_that_claim_the_absurd(tmp_path, blob):
    messages: list[str] = []
    read = lambda path: NpySource.open(path, sampling_rate_hz=300, unit="uV")  # noqa: E731
    assert peak_bytes(lambda: messages.append(timed(read, tmp_path / "x.npy", blob))) < 2**22
    assert messages[0]


@pytest.mark.parametrize(
    "head",
    [
        b"# sampling_rate_hz=0\n# unit=uV\n",
        b"# sampling_rate_hz=-300\n# unit=uV\n",
        b"# sampling_rate_hz=1e12\n# unit=uV\n",
        b"# sampling_rate_hz=NaN\n# unit=uV\n",
        b"# sampling_rate_hz=1000000000000\n# unit=uV\n",
        b"# sampling_rate_hz=" + b"9" * 4000 + b"\n# unit=uV\n",
        b"# sampling_rate_hz=300\n# unit=furlong\n",
        b"# sampling_rate_hz=300\n# unit=\n",
    ],
)
def test_tables_that_declare_the_absurd(tmp_path, head):
    assert timed(CsvSource.open, tmp_path / "x.csv", head + b"1\n2\n")
