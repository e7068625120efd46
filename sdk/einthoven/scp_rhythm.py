"""One lead of an SCP-ECG record, from sections 3 to 6 to samples. Pure.

By EN 1064:2005+A1:2007, clauses 5.6 (lead definition), 5.7 (QRS locations), 5.8 (reference beat), 5.9 (rhythm data).

Reference-beat subtraction is undone where the reference beat has the rhythm's own rate and step: then the result is
exact. It deliberately refuses bimodal compression (between the QRS complexes only a low-passed fourth of the samples
is kept): what it would give is not what was recorded. Where leads begin at different times, a lead's own first sample
is the beginning.

Invariants:
    1. Every length is compared with the bytes that are there before anything is made of it.
    2. A sample outside of 16 bits is a fault of the file, not a signal.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from einthoven.errors import RecordFormatError
from einthoven.scp_huffman import decode_lead, read_tables

LEADS_BY_CODE: Final = {
    **{1: "I", 2: "II", 3: "V1", 4: "V2", 5: "V3", 6: "V4", 7: "V5", 8: "V6", 9: "V7", 16: "VX", 17: "VY", 18: "VZ"},
    **{19: "CC5", 20: "CM5", 61: "III", 62: "aVR", 63: "aVL", 64: "aVF", 66: "V8", 67: "V9", 86: "V", 87: "V"},
    **{92: "MCL1", 107: "CM2"},
}
"""Lead codes (table A.1 of the standard; ISO/IEEE 11073-10101 uses the same numbers) by the names in ``LEADS``."""
_LEAD: Final = struct.Struct("<IIB")
_LOCATIONS: Final = struct.Struct("<3H")
_ZONE: Final = struct.Struct("<HIII")
_REMEDY: Final = "export the record again"
_USES_REFERENCE_BEAT: Final = 1


@dataclass(frozen=True, slots=True)
class Lead:
    """One entry of section 3.

    Attributes:
        name: Name of the lead in ``LEADS_BY_CODE``, "" for others.
        first: Number of its first sample, from 1.
        n_samples: Samples in the rhythm data.
    """

    name: str
    first: int
    n_samples: int


@dataclass(frozen=True, slots=True)
class _Zone:
    """Where a reference beat was subtracted.

    Attributes:
        first: First sample of the rhythm, from 1.
        last: Last sample.
        before: Samples of the rhythm before the reference beat, when their fiducial points lie on each other.
    """

    first: int
    last: int
    before: int


@dataclass(frozen=True, slots=True)
class EncodedLeads:
    """Section 5 or 6, taken apart.

    Attributes:
        step_nv: Nanovolts a count (the amplitude value multiplier).
        interval_us: Microseconds between samples.
        order: Order of the differences.
        bimodal: Byte 6: in section 6, whether bimodal compression was used.
        leads: Encoded bytes, one for each lead of section 3.
    """

    step_nv: int
    interval_us: int
    order: int
    bimodal: int
    leads: tuple[bytes, ...]

    @property
    def rate_hz(self) -> Fraction:
        """Samples a second, exact."""
        return Fraction(1_000_000, self.interval_us)


def read_leads(section_3: bytes) -> tuple[tuple[Lead, ...], bool]:
    """Return the leads in the order they are stored, and whether reference beats were subtracted.

    Raises:
        RecordFormatError: Truncated, or a lead that ends before it begins.
    """
    n_leads = section_3[0] if section_3 else 0
    if n_leads == 0 or len(section_3) < 2 + n_leads * _LEAD.size:
        raise RecordFormatError("the lead definitions can't be read", _REMEDY)
    leads = []
    for first, last, code in _LEAD.iter_unpack(section_3[2 : 2 + n_leads * _LEAD.size]):
        if last < first:
            raise RecordFormatError("a lead ends before it begins", _REMEDY)
        leads.append(Lead(LEADS_BY_CODE.get(code, ""), first, last - first + 1))
    return tuple(leads), bool(section_3[1] & _USES_REFERENCE_BEAT)


def read_encoded(section: bytes, n_leads: int) -> EncodedLeads:
    """Take section 5 or 6 apart.

    Raises:
        RecordFormatError: Truncated, without a step or a rate, or shorter than its leads.
    """
    start = 6 + 2 * n_leads
    if len(section) < start:
        raise RecordFormatError("the rhythm data can't be read", _REMEDY)
    step_nv, interval_us, order, bimodal = struct.unpack_from("<HHBB", section)
    if step_nv == 0 or interval_us == 0:
        raise RecordFormatError("the rhythm data state no step or no rate", _REMEDY)
    lengths = struct.unpack_from(f"<{n_leads}H", section, 6)
    if start + sum(lengths) > len(section):
        raise RecordFormatError("the rhythm data are shorter than they claim", _REMEDY)
    ends = [start, *(start + sum(lengths[: n + 1]) for n in range(n_leads))]
    return EncodedLeads(step_nv, interval_us, order, bimodal, tuple(section[a:b] for a, b in pairwise(ends)))


def decode_rhythm(
    sections: dict[int, bytes], rhythm: EncodedLeads, lead: Lead, index: int, *, subtracted: bool
) -> NDArray[np.int64]:
    """Return a lead's samples, int64 [n_samples], in counts of ``rhythm.step_nv``.

    Args:
        sections: All sections, by number.
        rhythm: Section 6, taken apart.
        lead: The lead.
        index: Its place among the leads of section 3.
        subtracted: Whether reference beats were subtracted.

    Raises:
        RecordFormatError: Damaged, or compressed with loss.
    """
    if rhythm.bimodal:
        raise RecordFormatError(
            "the rhythm was compressed with loss (bimodal)", "export it without bimodal compression"
        )
    tables = read_tables(sections.get(2, b""))
    counts = decode_lead(rhythm.leads[index], tables, lead.n_samples, rhythm.order)
    if subtracted:
        beat, length_ms, zones = _reference_beat(sections, rhythm)
        n_samples = length_ms * 1000 // beat.interval_us
        _add_reference_beat(counts, lead.first, zones, decode_lead(beat.leads[index], tables, n_samples, beat.order))
    if np.abs(counts).max(initial=0) > 2**15:
        raise RecordFormatError("a lead holds samples outside of 16 bits", _REMEDY)
    return counts


def _reference_beat(sections: dict[int, bytes], rhythm: EncodedLeads) -> tuple[EncodedLeads, int, list[_Zone]]:
    """The reference beat, its length in milliseconds, and the zones it was subtracted from."""
    locations, section_5 = sections.get(4, b""), sections.get(5, b"")
    if len(locations) < _LOCATIONS.size or not section_5:
        raise RecordFormatError("the reference beat that was subtracted is not in the record", _REMEDY)
    beat = read_encoded(section_5, len(rhythm.leads))
    if (beat.step_nv, beat.interval_us) != (rhythm.step_nv, rhythm.interval_us):
        raise RecordFormatError(
            "the reference beat has another rate or step than the rhythm", "export it without reference beats"
        )
    length_ms, fiducial, n_zones = _LOCATIONS.unpack_from(locations)
    end = _LOCATIONS.size + n_zones * _ZONE.size
    if len(locations) < end:
        raise RecordFormatError("the QRS locations are shorter than they claim", _REMEDY)
    zones = _ZONE.iter_unpack(locations[_LOCATIONS.size : end])
    # Beats of other kinds than 0 were left as they are.
    return beat, length_ms, [_Zone(first, last, centre - fiducial) for kind, first, centre, last in zones if kind == 0]


def _add_reference_beat(
    counts: NDArray[np.int64], first: int, zones: list[_Zone], reference: NDArray[np.int64]
) -> None:
    """Add the reference beat in each zone, in place; ``counts[0]`` is sample number ``first`` of the rhythm."""
    for zone in zones:
        begin = max(zone.first, first, zone.before + 1)
        end = min(zone.last, first + counts.size - 1, zone.before + reference.size)
        if begin <= end:
            counts[begin - first : end - first + 1] += reference[begin - zone.before - 1 : end - zone.before]
