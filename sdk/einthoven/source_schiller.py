"""Schiller EDI XML (SCHILLER SEMA, AT and MS devices) as a ``Source``: one lead of the first rhythm recording.

No public specification is known; the layout is that of files that such devices write: ``eventdata/event/wavedata`` of
type ECG_RHYTHMS holds a resolution and channels of comma-separated whole numbers.

It deliberately reads no averages (ECG_AVERAGES), no measurements and no interpretation. The start in the file is local
time without a zone and is not passed on; names and dates of the patient are never touched.

Invariants:
    1. A channel whose number of values is not the one it states is refused.
    2. A unit, encoding or exponent that is not known is refused, never assumed.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from einthoven.errors import RecordFormatError, SamplingRateError
from einthoven.held_lead import HeldLead
from einthoven.samples import as_microvolts
from einthoven.source_checks import (
    MAX_SIGNALS,
    microvolts_per,
    number,
    sample_count,
    sampling_rate,
    source_name,
    translated,
)
from einthoven.xml_records import MAX_XML_SAMPLES, XmlElement, checked_root, listed_counts, one_lead

RHYTHM_TYPE: Final = "ECG_RHYTHMS"
ENCODING: Final = "COMMASEPARATE"
RATE_EXPONENT: Final = 1
"""The only exponent seen beside a sampling rate; with it the value is the rate: 5,000 samples for 10 s at 500."""


@dataclass(frozen=True, slots=True)
class SchillerSource(HeldLead):
    """One lead of a Schiller EDI file. Made by ``open``."""

    @classmethod
    def open(cls, path: Path, *, lead: str | None = None) -> Self:
        """Read and check a file.

        Args:
            path: The XML file.
            lead: Name of the lead; without, the best of ``source_checks.LEADS``.

        Raises:
            RecordNotFound: It is not there.
            RecordFormatError: Not Schiller EDI, without a rhythm, or its waveform is not what it should be.
            UnknownUnit: The unit is not a voltage.
            SamplingRateError: The rate is missing or not supported.
            InputError: There is no such lead, or defusedxml is not installed.
        """
        root = checked_root(path, "schiller", "Schiller EDI")
        with translated("Schiller EDI"):
            waves = (each for each in root.all("eventdata/event/wavedata") if each.text_at("type") == RHYTHM_TYPE)
            rhythm = next(waves, None)
            channels = list(rhythm.all("channel")) if rhythm is not None else []
            if rhythm is None or not 0 < len(channels) <= MAX_SIGNALS:
                raise RecordFormatError("the record has no rhythm waveform", "export it with its rhythm leads")
            names = [channel.text_at("name") or "" for channel in channels]
            index = one_lead(names, lead)
            return cls(
                name=source_name("Schiller", names[index]),
                sampling_rate_hz=_rate_hz(rhythm),
                samples_uv=_samples_uv(channels[index], _count_uv(rhythm)),
            )


def _rate_hz(rhythm: XmlElement) -> Fraction:
    exponent = rhythm.text_at("resolution/samplerate/exponent")
    stated = rhythm.text_at("resolution/samplerate/value")
    if stated is not None and exponent is not None and number(exponent, "exponent of the rate") != RATE_EXPONENT:
        raise SamplingRateError("the sampling rate has an unknown exponent", "export the record again")
    return sampling_rate(stated)


def _count_uv(rhythm: XmlElement) -> Fraction:
    """Microvolts in one count."""
    unit_uv = microvolts_per(rhythm.text_at("resolution/yres/units"))
    count_uv = number(rhythm.text_at("resolution/yres/unitperbit") or "", "resolution") * unit_uv
    if count_uv <= 0:
        raise RecordFormatError("the resolution is not positive", "export the record again")
    return count_uv


def _samples_uv(channel: XmlElement, count_uv: Fraction) -> NDArray[np.int32]:
    if channel.text_at("datastype") != ENCODING:
        raise RecordFormatError("the samples are in an unknown encoding", "export them comma-separated")
    stated = number(channel.text_at("samplecount") or "", "number of samples")
    if stated.denominator != 1:
        raise RecordFormatError("the number of samples is not possible", "export the record again")
    sample_count(int(stated))
    counts = listed_counts(channel.text_at("data") or "", ",")
    if counts.size != stated:
        raise RecordFormatError("the lead does not hold the samples it claims", "export the record again")
    with np.errstate(all="ignore"):
        microvolts = counts * float(count_uv)
    samples_uv = as_microvolts(microvolts, max_samples=MAX_XML_SAMPLES)
    samples_uv.flags.writeable = False
    return samples_uv
