"""The header of an EDF+ or BDF+ file of one lead and its annotations, as bytes. Pure.

The counterpart of ``edf_header``. It deliberately names nobody: the patient's field holds a pseudonym or nothing.

Invariants:
    1. The header has exactly the bytes that its own field says, whatever the recording.
    2. A start that two digits of a year can't say is said in full in the recording's identification, as EDF+ asks.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from typing import Final

from einthoven.edf_header import BDF_MAGIC, EDF_MAGIC, FIXED_HEADER_BYTES, SIGNAL_HEADER_BYTES
from einthoven.errors import InputError

MAX_PSEUDONYM_CHARS: Final = 40
"""Characters of a pseudonym; its field has 80 for all there is to say of a patient."""
_FIRST_YEAR, _LAST_YEAR = 1985, 2084
_MONTHS: Final = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_PSEUDONYM: Final = re.compile(rf"[A-Za-z0-9._-]{{1,{MAX_PSEUDONYM_CHARS}}}", re.ASCII)
_EPOCH: Final = dt.datetime.fromtimestamp(0, dt.UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderContent:
    """What a header says.

    Attributes:
        sample_bytes: 2 for EDF+, 3 for BDF+.
        interrupted: Whether data records need not follow each other.
        started_at_s: UTC of the second that the recording begins in, seconds since 1970.
        n_records: Data records.
        record_text: Duration of one, seconds, as its field spells it.
        n_samples: Samples of the lead in a data record.
        note_samples: Samples that the annotations take in a data record.
        pseudonym: What to call the patient; ``None`` for nothing.
    """

    sample_bytes: int
    interrupted: bool
    started_at_s: int
    n_records: int
    record_text: str
    n_samples: int
    note_samples: int
    pseudonym: str | None


def edf_header_bytes(content: HeaderContent) -> bytes:
    """Spell a header.

    Raises:
        InputError: The pseudonym has a character that its field can't hold, or is too long.
    """
    if content.pseudonym is not None and not _PSEUDONYM.fullmatch(content.pseudonym):
        raise InputError(
            "the pseudonym can't be written",
            f"use 1 to {MAX_PSEUDONYM_CHARS} letters, digits, dots, dashes, underscores",
        )
    form, magic = ("EDF", EDF_MAGIC) if content.sample_bytes == 2 else ("BDF", BDF_MAGIC)
    lowest = -(2 ** (8 * content.sample_bytes - 1))
    started = _EPOCH + dt.timedelta(seconds=content.started_at_s)
    # A two-digit year stands for 1985 to 2084; "yy" says that only the recording's identification knows it.
    year = f"{started:%y}" if _FIRST_YEAR <= started.year <= _LAST_YEAR else "yy"
    date = f"{started.day:02d}-{_MONTHS[started.month - 1]}-{started.year:04d}"
    fixed = [
        (f"{content.pseudonym or 'X'} X X X", 80),
        (f"Startdate {date} X X Einthoven", 80),
        (f"{started:%d.%m}.{year}", 8),
        (f"{started:%H.%M.%S}", 8),
        (str(FIXED_HEADER_BYTES + 2 * SIGNAL_HEADER_BYTES), 8),
        (f"{form}+{'D' if content.interrupted else 'C'}", 44),
        (str(content.n_records), 8),
        (content.record_text, 8),
        ("2", 4),
    ]
    signals = [
        (("ECG", f"{form} Annotations"), 16),
        (("", ""), 80),
        (("uV", ""), 8),
        ((str(lowest), "-1"), 8),
        ((str(-lowest - 1), "1"), 8),
        ((str(lowest), str(lowest)), 8),
        ((str(-lowest - 1), str(-lowest - 1)), 8),
        (("", ""), 80),
        ((str(content.n_samples), str(content.note_samples)), 8),
        (("", ""), 32),
    ]
    texts = [*fixed, *((text, width) for pair, width in signals for text in pair)]
    return magic + b"".join(_field(text, width) for text, width in texts)


def _field(text: str, width: int) -> bytes:
    field = text.encode("ascii").ljust(width)
    if len(field) != width:
        raise InputError("a field of the EDF header overflows", "write a shorter recording")
    return field
