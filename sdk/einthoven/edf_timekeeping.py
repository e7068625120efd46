"""When each data record of an interrupted recording (EDF+D, BDF+D) began, in samples of a lead. Pure.

By Kemp & Olivan 2003, section 2.2.4: the first annotation of the first "EDF Annotations" signal of a data record is
empty, and its onset is the record's start in seconds.

It deliberately reads no other annotation.

Invariants:
    1. Records never overlap and are never moved onto each other: where they do overlap, the file is refused.
    2. A record begins at the sample nearest to its stated start, so rounding never adds up.
    3. Gaps are at most ``MAX_FILL_S`` in all; a longer one separates two recordings, and is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fractions import Fraction
from typing import Final

from einthoven.errors import RecordFormatError

MAX_FILL_S: Final = 86_400
"""Seconds of missing signal in one recording, all gaps together: a day."""
MAX_INTERRUPTED_RECORDS: Final = 259_200
"""Data records of an interrupted recording: three days of seconds."""
_ONSET = re.compile(rb"([+-]\d{1,12}(?:\.\d{1,12})?)\x14\x14", re.ASCII)


def record_start_s(annotations: bytes) -> Fraction:
    """Start of a data record in seconds, exact, from the bytes of its first annotation signal.

    Raises:
        RecordFormatError: There is no time-keeping annotation.
    """
    onset = _ONSET.match(annotations)
    if onset is None:
        raise RecordFormatError("a data record does not say when it began (EDF+D)", "export it as continuous EDF")
    return Fraction(onset[1].decode("ascii"))


def first_samples(starts_s: Iterable[Fraction], rate_hz: Fraction, n_samples: int) -> list[int]:
    """Number of each data record's first sample, from 0.

    Args:
        starts_s: Start of each data record, seconds.
        rate_hz: Sampling rate of the lead.
        n_samples: Samples of the lead in a data record.

    Raises:
        RecordFormatError: Records overlap or run backwards, or gaps are too long.
    """
    firsts: list[int] = []
    zero_s: Fraction | None = None
    for start_s in starts_s:
        zero_s = start_s if zero_s is None else zero_s
        first, free = round((start_s - zero_s) * rate_hz), firsts[-1] + n_samples if firsts else 0
        if first < free:
            raise RecordFormatError("data records overlap or run backwards (EDF+D)", "export the record again")
        if first - len(firsts) * n_samples > MAX_FILL_S * rate_hz:
            raise RecordFormatError(
                f"the recording was interrupted for over {MAX_FILL_S // 3600} hours in all (EDF+D)",
                "export its parts one by one",
            )
        firsts.append(first)
    return firsts
