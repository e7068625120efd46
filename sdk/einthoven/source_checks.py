"""What every file reader checks before it believes a file: size, rate, unit, lead. Limits are here, units last.

It deliberately reads no format; ``source_wfdb``, ``source_edf``, ``source_csv`` and ``source_npy`` do.

Invariants:
    1. Nothing a file says is used to allocate memory or to loop before it was compared with the file's size.
    2. A message holds no file name, no path and no text of the file, except a lead name of ``LEADS``: file names and
       header texts can name a patient.
    3. A rate or unit is never guessed.
"""

from __future__ import annotations

import importlib
import re
import stat
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from einthoven.errors import (
    EinthovenError,
    InputError,
    RecordFormatError,
    RecordNotFound,
    SamplingRateError,
    UnknownUnit,
)

MIN_RATE_HZ: Final = 100
MAX_RATE_HZ: Final = 1000
"""Sampling rates the front end takes, Hz."""
MAX_RECORD_SAMPLES: Final = 200_000_000
"""Samples of one lead in one record: 55 hours at 1000 Hz, 18 days at 128 Hz."""
MAX_SIGNALS: Final = 512
"""Signals a header may list; polysomnography has under 100."""
READ_SAMPLES: Final = 60_000
"""Samples of the lead that a reader takes from its file at once: a minute at 1000 Hz."""
MAX_TEXT_CHARS: Final = 32
"""Longest number a header may spell out, characters; Fraction('1e999999999') would not come back."""

Rate = Fraction | int | float | str | None
"""A sampling rate as a caller or a file may state it, Hz."""

MICROVOLTS: Final = {
    "v": Fraction(1_000_000),
    "volt": Fraction(1_000_000),
    "mv": Fraction(1000),
    "millivolt": Fraction(1000),
    "uv": Fraction(1),
    "microvolt": Fraction(1),
    "nv": Fraction(1, 1000),
    "nanovolt": Fraction(1, 1000),
}
"""Microvolts in one of each unit, by its name in lower case; both micro signs are written as u before."""

# In the order they are preferred: what says it is the ECG, then limb leads as ambulatory recorders name them, then the
# rest of twelve. (MLII, ML2, D2, DII are all lead II; D is for derivation.)
LEADS: Final = (
    *("ECG", "EKG", "MLII", "II", "ML2", "D2", "DII", "I", "MLI", "D1", "DI", "III", "MLIII", "D3", "DIII"),
    *("ECG1", "ECG2", "EKG1", "EKG2", "CM5", "CM2", "CC5", "MV5", "V5", "V4", "V6", "V3", "V2", "V1", "V"),
    *("AVF", "AVL", "AVR", "MCL1", "MV1", "MV2", "MV3", "MV4", "MV6", "V7", "V8", "V9", "VX", "VY", "VZ"),
)
"""Names of ECG leads, upper case, most wanted first."""

_RATE = re.compile(r"[+-]?\d+(\.\d+)?|\d+/0*[1-9]\d*", re.ASCII)
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,2})?", re.ASCII)


def regular_file(path: Path, *, max_bytes: int | None = None) -> int:
    """Return the size of a file in bytes.

    Raises:
        RecordNotFound: It is not there.
        RecordFormatError: It is empty, larger than ``max_bytes``, or no regular file (a pipe could block for ever).
        InputError: It may not be looked at.
    """
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError) as problem:
        raise RecordNotFound("there is no such record", "check the path") from problem
    except (OSError, ValueError) as problem:
        raise InputError("the record can't be opened", "check its path and permissions") from problem
    if not stat.S_ISREG(status.st_mode):
        raise RecordFormatError("the record is not a file", "give the path of an ECG file")
    if status.st_size == 0:
        raise RecordFormatError("the file is empty", "export the record again")
    if max_bytes is not None and status.st_size > max_bytes:
        raise RecordFormatError(f"the file is larger than {max_bytes // 2**20} MiB", "split the record")
    return status.st_size


def number(text: str, what: str) -> Fraction:
    """Return a decimal number exactly.

    Raises:
        RecordFormatError: It is none, or absurdly long.
    """
    text = text.strip()
    if len(text) > MAX_TEXT_CHARS or not _NUMBER.fullmatch(text):
        raise RecordFormatError(f"the {what} is not a number", "export the record again")
    return Fraction(text)


def sampling_rate(rate_hz: Rate) -> Fraction:
    """Return a supported sampling rate exactly.

    Raises:
        SamplingRateError: There is none, or it is outside ``MIN_RATE_HZ`` to ``MAX_RATE_HZ``.
    """
    allowed = f"{MIN_RATE_HZ}-{MAX_RATE_HZ} Hz is supported"
    if rate_hz is None:
        raise SamplingRateError("no sampling rate is given", f"state it in the file or as an option; {allowed}")
    text = str(rate_hz).strip()
    if len(text) > MAX_TEXT_CHARS or not _RATE.fullmatch(text):
        raise SamplingRateError("the sampling rate is not a number", allowed)
    exact = Fraction(text)
    if not MIN_RATE_HZ <= exact <= MAX_RATE_HZ:
        raise SamplingRateError("the sampling rate is out of range", allowed)
    return exact


def microvolts_per(unit: str | None) -> Fraction:
    """Return how many microvolts one of a unit is.

    Raises:
        UnknownUnit: There is none, or it is not a voltage.
    """
    remedy = "state uV, mV, nV or V"
    if unit is None or not unit.strip():
        raise UnknownUnit("no unit is given for the ECG", remedy)
    name = unit.strip().replace("µ", "u").replace("μ", "u").lower()
    if name not in MICROVOLTS:
        raise UnknownUnit("the unit of the ECG is not a voltage", remedy)
    return MICROVOLTS[name]


def sample_count(n_samples: int) -> int:
    """Return a record's length in samples.

    Raises:
        RecordFormatError: There are none, or more than ``MAX_RECORD_SAMPLES``.
    """
    if n_samples <= 0:
        raise RecordFormatError("the record has no samples", "export the record again")
    if n_samples > MAX_RECORD_SAMPLES:
        raise RecordFormatError(f"the record claims more than {MAX_RECORD_SAMPLES} samples", "split the record")
    return n_samples


def choose_lead(names: Sequence[str], wanted: str | None) -> int:
    """Return the index of the signal to read.

    Without a wish it is the best of ``LEADS`` that is there, or the only signal. Signals of other names are never
    taken by guess: a breathing curve looks like an ECG to nobody but a program.

    Raises:
        InputError: The wished-for lead is not there, or no signal is known to be an ECG.
    """
    known = [lead_name(name) for name in names]
    there = ", ".join(dict.fromkeys(name for name in known if name)) or "none known by name"
    if wanted is not None:
        wish = lead_name(wanted)
        for index, name in enumerate(names):
            if name.strip() == wanted.strip() or (wish is not None and known[index] == wish):
                return index
        raise InputError("the record has no lead of that name", f"choose one of its leads: {there}")
    for lead in LEADS:
        if lead in known:
            return known.index(lead)
    if len(names) == 1:
        return 0
    raise InputError(f"none of the {len(names)} signals is named as an ECG lead", "name the lead to read")


def lead_name(name: str) -> str | None:
    """The name in ``LEADS`` for what a file calls a signal ('ECG II', 'ekg-v5', 'i'), if it is one."""
    plain = name.strip().upper().removeprefix("LEAD ").strip()
    if plain in LEADS:
        return plain
    bare = re.sub(r"^(ECG|EKG)[ \-_:]+", "", plain)
    return bare if bare in LEADS else None


def source_name(form: str, lead: str | None) -> str:
    """What to call a record on a screen: its form and lead, never its file or patient."""
    known = lead_name(lead) if lead else None
    return f"{form} record, lead {known}" if known else f"{form} record"


def pieces(samples_uv: NDArray[np.int32], rate_hz: Fraction) -> Iterator[NDArray[np.int32]]:
    """Cut samples into consecutive pieces of about a second."""
    step = max(1, round(rate_hz))
    for start in range(0, samples_uv.size, step):
        yield samples_uv[start : start + step]


def library(name: str) -> ModuleType:
    """Import one of the field's libraries when it is needed; importing them all would cost a phone a second.

    Raises:
        InputError: It is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the library's own dependencies; nothing the user can act on
            return importlib.import_module(name)
    except ImportError as problem:
        raise InputError(
            f"reading this format needs the library {name.partition('.')[0]}",
            "install it: pip install 'einthoven[formats]'",
        ) from problem


@contextmanager
def translated(form: str) -> Iterator[None]:
    """Let only our own errors out of a foreign reader, and none of its warnings.

    Raises:
        RecordFormatError: For whatever the reader raised.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except EinthovenError:
        raise
    # A parser given hostile bytes may raise anything; its text may quote the file, so it stays in __cause__ only.
    except Exception as problem:
        raise RecordFormatError(f"this is not a readable {form} record", "export the record again") from problem
