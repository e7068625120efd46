"""Opens a recorded ECG, whatever it is in: by extension, and by content where the extension says nothing or too little.

``docs/formats.md`` lists the forms.

It deliberately tries no reader after another: what a file claims to be decides, and that reader's error is the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Final

from einthoven.errors import InputError, RecordFormatError
from einthoven.ports import Source
from einthoven.source_aecg import AecgSource
from einthoven.source_apple import SNIFF_BYTES, AppleSource, looks_like_apple
from einthoven.source_checks import Rate, regular_file
from einthoven.source_csv import CsvSource
from einthoven.source_dicom import DicomSource
from einthoven.source_edf import EdfSource
from einthoven.source_npy import NpySource
from einthoven.source_schiller import SchillerSource
from einthoven.source_scp import ScpSource
from einthoven.source_sierra import SierraSource
from einthoven.source_wfdb import WfdbSource
from einthoven.xml_records import xml_form

FORM_OF_EXTENSION: Final = {
    ".hea": "wfdb",
    ".dat": "wfdb",
    ".mat": "wfdb",
    ".edf": "edf",
    ".bdf": "edf",
    ".dcm": "dicom",
    ".scp": "scp",
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".npy": "npy",
    ".xml": "xml",
}
MAGIC: Final = ((b"0       ", "edf"), (b"\xffBIOSEMI", "edf"), (b"\x93NUMPY", "npy"))
"""First bytes of a file, for files whose extension says nothing."""
MAGIC_AT: Final = ((16, b"SCPECG", "scp"), (128, b"DICM", "dicom"))
"""(position, bytes, form) of forms that begin with something else."""
XML_BEGINS: Final = (b"<", b"\xef\xbb\xbf<", b"\xff\xfe<\x00", b"\xfe\xff\x00<")
"""A document's first bytes, in UTF-8 or, after a byte order mark, in UTF-8 or UTF-16."""
READERS: Final[Mapping[str, Callable[..., Source]]] = {
    "edf": EdfSource.open,
    "dicom": DicomSource.open,
    "scp": ScpSource.open,
    "aecg": AecgSource.open,
    "sierra": SierraSource.open,
    "schiller": SchillerSource.open,
    "apple": AppleSource.open,
}
"""Readers of forms that are one file and state their rate and unit themselves."""


def open_source(
    path: str | PathLike[str],
    *,
    lead: str | None = None,
    sampling_rate_hz: Rate = None,
    unit: str | None = None,
) -> Source:
    """Open a recorded ECG.

    Args:
        path: A WFDB record (its header, a signal file of the same name, or the name alone), or a file in any other
            form of docs/formats.md.
        lead: Name of the lead to read; without, the best known one.
        sampling_rate_hz: Samples a second, for CSV and NPY.
        unit: Unit of the numbers, for CSV and NPY.

    Returns:
        A source whose ``chunks`` can be read as often as wanted.

    Raises:
        InputError: In one of its kinds; see the readers.
    """
    where = Path(path)
    form = _form(where)
    if (form == "wfdb" or form in READERS) and (sampling_rate_hz is not None or unit is not None):
        raise InputError("this format states its own rate and unit", "leave the options out")
    if form in READERS:
        return READERS[form](where, lead=lead)
    match form:
        case "wfdb":
            return WfdbSource.open(_header_of(where), lead=lead)
        case "npy" if lead is not None:
            raise InputError("an NPY file has one lead without a name", "leave the lead out")
        case "npy":
            return NpySource.open(where, sampling_rate_hz=sampling_rate_hz, unit=unit)
        case _:
            return CsvSource.open(where, lead=lead, sampling_rate_hz=sampling_rate_hz, unit=unit)


def _form(path: Path) -> str:
    form = FORM_OF_EXTENSION.get(path.suffix.lower())
    if form == "xml":
        return xml_form(path)
    if form == "csv":
        return "apple" if looks_like_apple(_first_bytes(path)) else "csv"
    if form is not None:
        return form
    try:
        if not path.is_file() and path.with_name(path.name + ".hea").is_file():
            return "wfdb"
    except (OSError, ValueError) as problem:
        raise InputError("the record can't be opened", "check its path and permissions") from problem
    return _form_of_content(path, _first_bytes(path))


def _form_of_content(path: Path, first: bytes) -> str:
    for magic, named in MAGIC:
        if first.startswith(magic):
            return named
    for at, magic, named in MAGIC_AT:
        if first[at:].startswith(magic):
            return named
    if first.startswith(XML_BEGINS):
        return xml_form(path)
    if looks_like_apple(first):
        return "apple"
    if first[:1] in b"+-.0123456789" or (first[:1] == b"#" and b"=" in first.splitlines()[0]):
        return "csv"
    raise RecordFormatError("this kind of file is not known", "give a record in one of the forms of docs/formats.md")


def _first_bytes(path: Path) -> bytes:
    regular_file(path)
    try:
        with path.open("rb") as file:
            return file.read(SNIFF_BYTES)
    except OSError as problem:
        raise InputError("the record can't be opened", "check its path and permissions") from problem


def _header_of(path: Path) -> Path:
    if path.suffix.lower() not in {".dat", ".mat"}:
        return path
    regular_file(path)
    header = path.with_suffix(".hea")
    if not header.is_file():
        raise RecordFormatError("the WFDB header (.hea) is not beside the signal file", "copy the whole record")
    return header
