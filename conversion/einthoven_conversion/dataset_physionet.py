"""Data sets as PhysioNet gives them: WFDB records, read by the SDK's own reader.

* ``training2017`` (CinC 2017): ``RECORDS``, ``*.hea`` with ``*.mat``, labels in ``REFERENCE-v3.csv`` (the final ones)
  or an earlier ``REFERENCE*.csv``, in the folder or the one above.
* ``mitdb``: ``*.hea`` with ``*.dat``; its marks are read by ``dataset_beats``.
* ``nstdb``: of its records the noises ``bw``, ``em``, ``ma``, each cut into ``NOISE_PIECES`` pieces: ``em_0`` ...

Folds, where cross-validation needs some and PhysioNet gives none: within each label, records in the order of the
SHA-256 of their names, dealt out in turn. They are stratified and the same everywhere, and other ones than those of
``../shared/data``: figures of a cross-validation compare, but are not equal.

It deliberately reads no shard, and trains on what a record says: a missing sample stays ``MISSING_UV``.

Invariants:
    1. Microvolts are those that the SDK reads, so the same as in shards made from the same records.
    2. A name from ``RECORDS`` never leaves the folder.
    3. Whatever a file holds, the result is records or a typed error that names the record and nothing else.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from einthoven.errors import EinthovenError, RecordNotFound
from einthoven.ports import MISSING_UV
from einthoven.source_wfdb import WfdbSource
from einthoven.wfdb_header import MAX_HEADER_BYTES, Header, parse_header
from einthoven_conversion.dataset_records import (
    FETCH_AGAIN,
    LABELS,
    MAX_RECORD_SAMPLES,
    MAX_RECORDS,
    MAX_TEXT_BYTES,
    Record,
)
from einthoven_conversion.errors import DatasetCorrupt, DatasetUnknown

RECORDS: Final = "RECORDS"
REFERENCES: Final = ("REFERENCE-v3.csv", "REFERENCE-v2.csv", "REFERENCE-v1.csv", "REFERENCE.csv")
"""Newest first. PhysioNet's archive calls the labels of its time REFERENCE.csv."""
FOLDS: Final = 5
NOISES: Final = ("bw", "em", "ma")
NOISE_PIECES: Final = 5
_DS1: Final = "101 106 108 109 112 114 115 116 118 119 122 124 201 203 205 207 208 209 215 220 223 230"
MITDB_DS1: Final = frozenset(_DS1.split())
"""Training records of de Chazal et al. 2004 (doi:10.1109/TBME.2004.827359)."""
MITDB_PACED: Final = frozenset({"102", "104", "107", "217"})
MITDB_SAME_PERSON: Final = {"202": "201"}
"""The database's directory: both are of one man."""

_NAME = re.compile(r"[\w-]{1,64}(/[\w-]{1,64}){0,3}", re.ASCII)
_MITDB_RECORD = re.compile(r"[12]\d\d", re.ASCII)


def is_there(folder: Path) -> bool:
    """Whether a folder has this layout: a list of records, or WFDB headers."""
    try:
        return (folder / RECORDS).is_file() or next(folder.glob("*.hea"), None) is not None
    except OSError:
        return False


def record_names(folder: Path) -> list[str]:
    """Names of the records, relative to the folder, in the order of ``RECORDS``; by name where there is no list.

    Raises:
        DatasetCorrupt: The list is too long or holds what is no record's name.
    """
    if not (folder / RECORDS).is_file():
        names = sorted(path.stem for path in folder.glob("*.hea"))
    else:
        names = [line.strip() for line in _text(folder / RECORDS).splitlines() if line.strip()]
    if not 0 < len(names) <= MAX_RECORDS or not all(_NAME.fullmatch(name) for name in names):
        raise DatasetCorrupt(f"{folder.name}/{RECORDS} is not a list of records", FETCH_AGAIN)
    if len({name.rpartition("/")[2] for name in names}) != len(names):
        raise DatasetCorrupt(f"{folder.name}/{RECORDS} lists a record twice", FETCH_AGAIN)
    return names


def open_records(folder: Path) -> Sequence[Record]:
    """Records with a rhythm label, their rates from their headers.

    Raises:
        DatasetUnknown: A label that is not one of ``LABELS``.
        DatasetCorrupt: No labels, a record without one, or a header that is missing or damaged.
    """
    labels = _labels(folder)
    names = record_names(folder)
    unlabelled = [name for name in names if name.rpartition("/")[2] not in labels]
    if unlabelled:
        raise DatasetCorrupt(f"record {unlabelled[0].rpartition('/')[2]} has no label", FETCH_AGAIN)
    folds = assigned_folds({name.rpartition("/")[2]: labels[name.rpartition("/")[2]] for name in names})
    records = []
    for name in names:
        record_id = name.rpartition("/")[2]
        header = _header(folder, name)
        records.append(
            Record(
                record_id=record_id,
                sampling_rate_hz=header.frame_rate_hz * header.signals[0].samples_a_frame,
                label=labels[record_id],
                fold=folds[record_id],
                shard=f"{name}.hea",
                row=0,
            )
        )
    return records


def assigned_folds(labels: dict[str, int]) -> dict[str, int]:
    """Fold of each record by the rule in the module's docstring.

    Args:
        labels: Class of each record, by name.
    """
    folds: dict[str, int] = {}
    for label in sorted(set(labels.values())):
        own = [name for name in labels if labels[name] == label]
        own.sort(key=lambda name: hashlib.sha256(name.encode()).digest())
        folds |= {name: place % FOLDS for place, name in enumerate(own)}
    return folds


def read_signals(folder: Path, records: Sequence[Record]) -> Iterator[tuple[int, NDArray[np.int32]]]:
    """Yield the position in ``records`` and the lead, int32 [n] in microvolts, ``MISSING_UV`` where invalid.

    Raises:
        DatasetCorrupt: A record is missing, damaged, too long, or of another rate than before.
    """
    for position, record in enumerate(records):
        source, samples = _lead(folder, record.shard.removesuffix(".hea"), None)
        if source.sampling_rate_hz != record.sampling_rate_hz:
            raise DatasetCorrupt(f"record {record.record_id} has another rate than its header", FETCH_AGAIN)
        yield position, samples


def read_channels(folder: Path) -> Iterator[tuple[dict[str, str], NDArray[np.int32]]]:
    """Yield what is known of each record, and all of its channels, int32 [channels, n] in microvolts.

    Raises:
        DatasetCorrupt: A record is missing, damaged or too long, or lacks a sample.
    """
    names = record_names(folder)
    noises = [name for name in names if name in NOISES]
    for name in noises or names:
        record_id = name.rpartition("/")[2]
        leads = [signal.description for signal in _header(folder, name).signals]
        if len(set(leads)) != len(leads):
            raise DatasetCorrupt(f"record {record_id} has two leads of one name", FETCH_AGAIN)
        read = [_lead(folder, name, lead) for lead in leads]
        if len({(source.sampling_rate_hz, len(samples)) for source, samples in read}) != 1:
            raise DatasetCorrupt(f"the leads of record {record_id} differ in rate", FETCH_AGAIN)
        channels = np.stack([samples for _, samples in read])
        if (channels == MISSING_UV).any():
            raise DatasetCorrupt(f"record {record_id} lacks samples", FETCH_AGAIN)
        line = _line(record_id, leads, str(read[0][0].sampling_rate_hz), channels.shape[1])
        if record_id in NOISES:
            pieces = np.array_split(channels, NOISE_PIECES, axis=1)
            yield from (
                (line | {"record_id": f"{record_id}_{i}", "n_samples": str(piece.shape[1])}, piece)
                for i, piece in enumerate(pieces)
            )
        else:
            yield line, channels


def _line(record_id: str, leads: list[str], rate: str, n_samples: int) -> dict[str, str]:
    """A record's line of the index, as ``../shared/data`` would have it."""
    line = {
        "record_id": record_id,
        "fs_hz": rate,
        "n_samples": str(n_samples),
        "units": "uV",
        "leads": ";".join(leads),
        "subject_id": "",
    }
    if record_id in NOISES:
        line["kind"] = record_id
    elif _MITDB_RECORD.fullmatch(record_id):
        group = "ds1" if record_id in MITDB_DS1 else "paced" if record_id in MITDB_PACED else "ds2"
        line |= {
            "subject_id": MITDB_SAME_PERSON.get(record_id, record_id),
            "group": group,
            "mlii_channel": str(leads.index("MLII") if "MLII" in leads else -1),
        }
    return line


def _labels(folder: Path) -> dict[str, int]:
    """Class of each record, from the newest list of labels there is."""
    places = [place / name for name in REFERENCES for place in (folder, folder.parent)]
    path = next((path for path in places if path.is_file()), None)
    if path is None:
        raise DatasetCorrupt(f"{folder.name} has no {REFERENCES[0]}", "fetch the labels as well")
    labels = {}
    try:
        for row in csv.reader(_text(path).splitlines()):
            if row:
                name, label = row
                if label.strip() not in LABELS:
                    raise DatasetUnknown(
                        f"a label in {path.name} is none of {', '.join(LABELS)}", "give the final labels"
                    )
                labels[name.strip()] = LABELS.index(label.strip())
    except (ValueError, csv.Error) as error:
        raise DatasetCorrupt(f"{path.name} is not a list of labels", FETCH_AGAIN) from error
    return labels


def _text(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_TEXT_BYTES + 1)
        if len(content) > MAX_TEXT_BYTES:
            raise DatasetCorrupt(f"{path.name} is over {MAX_TEXT_BYTES} bytes", FETCH_AGAIN)
        return content.decode("ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetCorrupt(f"{path.name} can't be read", FETCH_AGAIN) from error


def _header(folder: Path, name: str) -> Header:
    record_id = name.rpartition("/")[2]
    try:
        with (folder / f"{name}.hea").open("rb") as stream:
            header = parse_header(stream.read(MAX_HEADER_BYTES))
    except OSError as error:
        raise DatasetCorrupt(f"the header of record {record_id} is not there", FETCH_AGAIN) from error
    except EinthovenError as error:
        raise DatasetCorrupt(f"record {record_id}: {error.problem}", FETCH_AGAIN) from error
    if not header.signals:
        raise DatasetCorrupt(f"record {record_id} has no signals of its own", "give records of one segment")
    return header


def _lead(folder: Path, name: str, lead: str | None) -> tuple[WfdbSource, NDArray[np.int32]]:
    """One lead, whole."""
    record_id = name.rpartition("/")[2]
    try:
        source = WfdbSource.open(folder / f"{name}.hea", lead=lead)
        if source.n_samples > MAX_RECORD_SAMPLES:
            raise DatasetCorrupt(f"record {record_id} is longer than {MAX_RECORD_SAMPLES} samples", FETCH_AGAIN)
        return source, np.concatenate(list(source.chunks()))
    except RecordNotFound as error:
        raise DatasetCorrupt(f"a file of record {record_id} is not there", FETCH_AGAIN) from error
    except EinthovenError as error:
        raise DatasetCorrupt(f"record {record_id}: {error.problem}", FETCH_AGAIN) from error
