"""Opens a recorded ECG, whatever it is in: by extension, and by content where the extension says nothing.

It deliberately tries no reader after another: what a file claims to be decides, and that reader's error is the answer.
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Final

from einthoven.errors import InputError, RecordFormatError
from einthoven.ports import Source
from einthoven.source_checks import Rate, regular_file
from einthoven.source_csv import CsvSource
from einthoven.source_edf import EdfSource
from einthoven.source_npy import NpySource
from einthoven.source_wfdb import WfdbSource

FORM_OF_EXTENSION: Final = {
    ".hea": "wfdb",
    ".dat": "wfdb",
    ".mat": "wfdb",
    ".edf": "edf",
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".npy": "npy",
}
MAGIC: Final = ((b"0       ", "edf"), (b"\x93NUMPY", "npy"))
"""First bytes of a file, for files whose extension says nothing."""
SNIFF_BYTES: Final = 64


def open_source(
    path: str | PathLike[str],
    *,
    lead: str | None = None,
    sampling_rate_hz: Rate = None,
    unit: str | None = None,
) -> Source:
    """Open a recorded ECG.

    Args:
        path: A WFDB record (its header, a signal file of the same name, or the name alone), EDF, CSV or NPY.
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
    if form in {"wfdb", "edf"} and (sampling_rate_hz is not None or unit is not None):
        raise InputError("this format states its own rate and unit", "leave the options out")
    match form:
        case "wfdb":
            return WfdbSource.open(_header_of(where), lead=lead)
        case "edf":
            return EdfSource.open(where, lead=lead)
        case "npy" if lead is not None:
            raise InputError("an NPY file has one lead without a name", "leave the lead out")
        case "npy":
            return NpySource.open(where, sampling_rate_hz=sampling_rate_hz, unit=unit)
        case _:
            return CsvSource.open(where, lead=lead, sampling_rate_hz=sampling_rate_hz, unit=unit)


def _form(path: Path) -> str:
    form = FORM_OF_EXTENSION.get(path.suffix.lower())
    if form is not None:
        return form
    try:
        if not path.is_file() and path.with_name(path.name + ".hea").is_file():
            return "wfdb"
    except (OSError, ValueError) as problem:
        raise InputError("the record can't be opened", "check its path and permissions") from problem
    regular_file(path)
    try:
        with path.open("rb") as file:
            first = file.read(SNIFF_BYTES)
    except OSError as problem:
        raise InputError("the record can't be opened", "check its path and permissions") from problem
    for magic, named in MAGIC:
        if first.startswith(magic):
            return named
    if first[:1] in b"+-.0123456789" or (first[:1] == b"#" and b"=" in first.splitlines()[0]):
        return "csv"
    raise RecordFormatError("this kind of file is not known", "give a WFDB, EDF, CSV or NPY record")


def _header_of(path: Path) -> Path:
    if path.suffix.lower() not in {".dat", ".mat"}:
        return path
    regular_file(path)
    header = path.with_suffix(".hea")
    if not header.is_file():
        raise RecordFormatError("the WFDB header (.hea) is not beside the signal file", "copy the whole record")
    return header
