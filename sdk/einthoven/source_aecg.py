"""HL7 annotated ECG (aECG) as a ``Source``: one lead of the first rhythm series.

By HL7 Version 3, Annotated ECG, R1 (ANSI/HL7 V3 ECG, R1-2004) and its Implementation Guide (Brown BD, Badilini F,
2005), section 3 (waveforms): a series with code RHYTHM holds sequence sets; in a set one sequence is the time, as a
list that an increment generates (GLIST_TS, GLIST_PQ), and every other is a lead, as origin + scale x digit (SLIST_PQ).

It deliberately reads no representative beats (a derived series is no rhythm), no annotations, and no series after the
first rhythm. The time of a sample is passed on only where it states its zone; names, subjects and sites are never
touched.

Invariants:
    1. Rate and samples are exact: increments are decimal fractions, and rounding to microvolts comes last.
    2. A unit that is not written is never assumed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from fractions import Fraction
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from einthoven.errors import RecordFormatError, SamplingRateError
from einthoven.held_lead import HeldLead
from einthoven.samples import as_microvolts
from einthoven.source_checks import microvolts_per, number, sample_count, sampling_rate, source_name, translated
from einthoven.xml_records import (
    MAX_XML_SAMPLES,
    XmlElement,
    checked_root,
    listed_counts,
    one_lead,
)

RHYTHM_CODE: Final = "RHYTHM"
TIME_CODES: Final = frozenset({"TIME_ABSOLUTE", "TIME_RELATIVE"})
TIME_TYPES: Final = frozenset({"GLIST_TS", "GLIST_PQ"})
LEAD_TYPE: Final = "SLIST_PQ"
LEAD_PREFIX: Final = "MDC_ECG_LEAD_"
"""Of lead codes in ISO/IEEE 11073-10101 (MDC)."""
SECONDS: Final = {"s": Fraction(1), "ms": Fraction(1, 1000), "us": Fraction(1, 1_000_000)}
"""Seconds in one of each unit of time, in UCUM."""

# HL7 TS with seconds and a zone: YYYYMMDDhhmmss[.ffff]+zzzz. Without a zone it is local time, of a place not stated.
_TIME = re.compile(r"(\d{14})(?:\.(\d{1,6})\d*)?([+-])(\d\d)(\d\d)", re.ASCII)


@dataclass(frozen=True, slots=True)
class AecgSource(HeldLead):
    """One lead of an HL7 aECG. Made by ``open``."""

    @classmethod
    def open(cls, path: Path, *, lead: str | None = None) -> Self:
        """Read and check a file.

        Args:
            path: The XML file.
            lead: Name of the lead, as ``II`` or ``MDC_ECG_LEAD_II``; without, the best of ``source_checks.LEADS``.

        Raises:
            RecordNotFound: It is not there.
            RecordFormatError: Not aECG, without a rhythm, or its waveform is not what it should be.
            UnknownUnit: The lead's unit is not a voltage.
            SamplingRateError: The rate is missing or not supported.
            InputError: There is no such lead, or defusedxml is not installed.
        """
        root = checked_root(path, "aecg", "HL7 aECG")
        with translated("HL7 aECG"):
            leads = _leads(root)
            names = [name for name, _, _ in leads]
            index = one_lead(names, lead.strip().removeprefix(LEAD_PREFIX) if lead is not None else None)
            name, value, time = leads[index]
            return cls(
                name=source_name("HL7 aECG", name),
                sampling_rate_hz=_rate_hz(time),
                samples_uv=_samples_uv(value),
                started_at_ms=_started_at_ms(time),
            )


def _leads(root: XmlElement) -> list[tuple[str, XmlElement, XmlElement]]:
    """Name, value and time of each lead of the first rhythm series."""
    series = next((each for each in root.all("component/series") if _code(each) == RHYTHM_CODE), None)
    if series is None:
        raise RecordFormatError("the aECG has no rhythm waveform", "export it with its waveforms")
    leads = []
    for together in series.all("component/sequenceSet"):
        sequences = [(_code(each), each.first("value")) for each in together.all("component/sequence")]
        times = [value for code, value in sequences if code in TIME_CODES and _type(value) in TIME_TYPES]
        for code, value in sequences:
            if value is not None and code.startswith(LEAD_PREFIX):
                if len(times) != 1 or times[0] is None:
                    raise SamplingRateError("the aECG does not state its sampling rate", "export the record again")
                leads.append((code.removeprefix(LEAD_PREFIX), value, times[0]))
    if not leads:
        raise RecordFormatError("the aECG has no rhythm waveform", "export it with its waveforms")
    return leads


def _rate_hz(time: XmlElement) -> Fraction:
    increment = time.first("increment")
    if increment is None:
        raise SamplingRateError("the aECG does not state its sampling rate", "export the record again")
    unit = increment.attributes.get("unit", "").strip()
    if unit not in SECONDS:
        raise SamplingRateError("the time between samples has no known unit", "export it in s, ms or us")
    step_s = number(increment.attributes.get("value", ""), "time between samples") * SECONDS[unit]
    if step_s <= 0:
        raise SamplingRateError("the time between samples is not positive", "export the record again")
    return sampling_rate(1 / step_s)


def _samples_uv(value: XmlElement) -> NDArray[np.int32]:
    if _type(value) != LEAD_TYPE:
        raise RecordFormatError("the lead is not a list of scaled digits (SLIST_PQ)", "export the record again")
    origin_uv, scale_uv = _quantity_uv(value, "origin"), _quantity_uv(value, "scale")
    if scale_uv <= 0:
        raise RecordFormatError("the scale of the lead is not positive", "export the record again")
    digits = listed_counts(value.text_at("digits") or "", " ")
    sample_count(digits.size)
    with np.errstate(all="ignore"):
        microvolts = digits * float(scale_uv) + float(origin_uv)
    samples_uv = as_microvolts(microvolts, max_samples=MAX_XML_SAMPLES)
    samples_uv.flags.writeable = False
    return samples_uv


def _quantity_uv(value: XmlElement, name: str) -> Fraction:
    """A physical quantity (PQ) of the lead, microvolts."""
    quantity = value.first(name)
    if quantity is None:
        raise RecordFormatError(f"the lead has no {name}", "export the record again")
    return number(quantity.attributes.get("value", ""), name) * microvolts_per(quantity.attributes.get("unit"))


def _started_at_ms(time: XmlElement) -> int | None:
    head = time.first("head")
    stated = _TIME.fullmatch(head.attributes.get("value", "").strip()) if head is not None else None
    if stated is None or _type(time) != "GLIST_TS":
        return None
    second, fraction, sign, hours, minutes = stated.groups()
    zone = timedelta(hours=int(hours), minutes=int(minutes)) * (-1 if sign == "-" else 1)
    try:
        local = datetime.strptime(second, "%Y%m%d%H%M%S").replace(tzinfo=timezone(zone))
    except ValueError:  # no such day, hour or zone
        return None
    since = local - datetime(1970, 1, 1, tzinfo=UTC)
    return since // timedelta(milliseconds=1) + int((fraction or "").ljust(3, "0")[:3])


def _code(element: XmlElement) -> str:
    code = element.first("code")
    return code.attributes.get("code", "").strip() if code is not None else ""


def _type(value: XmlElement | None) -> str:
    """The ``xsi:type`` of a value, without its prefix."""
    return value.attributes.get("type", "").rpartition(":")[2].strip() if value is not None else ""
