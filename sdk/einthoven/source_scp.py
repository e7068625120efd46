"""SCP-ECG records (EN 1064, ISO 11073-91064) as a ``Source``, by a reader of our own: no kept library reads them.

It deliberately reads neither the patient, the diagnosis nor the measurements, and not what was compressed with loss
(see ``scp_rhythm``). The start is passed on only where the record states its time zone.

Invariants:
    1. Nothing is decoded from a record whose checksums are not right.
    2. The file is at most ``MAX_SCP_BYTES``; beside it, one lead is in memory.
    3. The rate is 1,000,000 / (microseconds between samples), exact; the step is the record's own, in nanovolts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

from einthoven.errors import RecordFormatError
from einthoven.held_lead import HeldLead
from einthoven.samples import as_microvolts
from einthoven.scp_rhythm import decode_rhythm, read_encoded, read_leads
from einthoven.scp_sections import MAX_SCP_BYTES, acquired_at_ms, read_sections
from einthoven.source_checks import (
    choose_lead,
    regular_file,
    sample_count,
    sampling_rate,
    source_name,
    translated,
)


class ScpSource(HeldLead):
    """One lead of an SCP-ECG record. Made by ``open``."""

    __slots__ = ()

    @classmethod
    def open(cls, path: Path, *, lead: str | None = None) -> Self:
        """Open a record.

        Args:
            path: The ``.scp`` file.
            lead: Name of the lead; without, the best of ``source_checks.LEADS``.

        Raises:
            RecordNotFound: It is not there.
            RecordFormatError: Not SCP-ECG, damaged, without rhythm data, or compressed with loss.
            SamplingRateError: The rate is not supported.
            InputError: There is no such lead.
        """
        regular_file(path, max_bytes=MAX_SCP_BYTES)
        with translated("SCP-ECG"):
            sections = read_sections(path.read_bytes())
            if 3 not in sections or 6 not in sections:
                raise RecordFormatError("the record holds no rhythm data", "give a record with an ECG")
            leads, subtracted = read_leads(sections[3])
            rhythm = read_encoded(sections[6], len(leads))
            rate_hz = sampling_rate(rhythm.rate_hz)
            index = choose_lead([entry.name for entry in leads], lead)
            sample_count(leads[index].n_samples)
            counts = decode_rhythm(sections, rhythm, leads[index], index, subtracted=subtracted)
            return cls(
                name=source_name("SCP-ECG", leads[index].name),
                sampling_rate_hz=rate_hz,
                started_at_ms=acquired_at_ms(sections.get(1, b"")),
                samples_uv=as_microvolts(counts * rhythm.step_nv / 1000, max_samples=counts.size),
            )
