"""Stored signals as EDF+ (BDF+ where 16 bits are not enough): which results share a file, and its bytes. Pure.

It deliberately takes the samples as they are: no lead is named, nothing is filtered, nothing is filled.

Invariants:
    1. A file holds results of one device and epoch, in order, at one rate; a pause is a gap (EDF+D), never samples.
    2. A file has at most ``PATIENT_EXPORT_FILE_RESULTS`` results, so that memory does not grow with a patient's.
    3. Its pauses are at most ``PATIENT_EXPORT_FILE_PAUSES_S`` in all: readers refuse files with longer ones.
    4. A name is made of numbers alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final, NamedTuple

from einthoven.edf_writing import EdfPlanner, Stretch, edf_bytes
from einthoven.errors import InputError
from einthoven_protocol.messages import ResultId
from einthoven_server import limits
from einthoven_server.records.waveforms import Waveform

_JOINED_MS: Final = 100
"""Windows whose ends and beginnings are no further apart follow each other: times are rounded, and clocks drift."""


class SignalFile(NamedTuple):
    """A finished file.

    Attributes:
        name: Its name in the archive.
        octets: Its bytes.
        first: The first result in it.
        last: The last one.
        started_at_ms: UTC of its first sample, ms since 1970.
    """

    name: str
    octets: bytes
    first: ResultId
    last: ResultId
    started_at_ms: int


@dataclass(slots=True)
class _Open:
    rate_hz: Fraction
    started_at_ms: int
    planner: EdfPlanner
    stretches: list[Stretch] = field(default_factory=list)
    results: list[ResultId] = field(default_factory=list)
    paused: int = 0

    @property
    def free(self) -> int:
        """Number of the sample behind the last one."""
        return self.stretches[-1].first + len(self.stretches[-1].samples_uv) if self.stretches else 0

    def place(self, result: ResultId, started_at_ms: int, waveform: Waveform) -> int | None:
        """Number of a window's first sample in this file; ``None`` if it has to be in another."""
        last = self.results[-1]
        same = (last.device_alias, last.epoch) == (result.device_alias, result.epoch)
        if not same or waveform.sampling_rate_hz != self.rate_hz:
            return None
        if len(self.results) >= limits.PATIENT_EXPORT_FILE_RESULTS:
            return None
        off_ms = (started_at_ms - self.started_at_ms) - self.free * 1000 / self.rate_hz
        if abs(off_ms) <= _JOINED_MS:
            return self.free
        if off_ms < 0:
            return None
        place = round((started_at_ms - self.started_at_ms) * self.rate_hz / 1000)
        pauses = self.paused + place - self.free
        return place if pauses <= limits.PATIENT_EXPORT_FILE_PAUSES_S * self.rate_hz else None


class SignalFiles:
    """Puts results, in order of identity, into files."""

    def __init__(self) -> None:
        self._open: _Open | None = None

    def add(self, result: ResultId, started_at_ms: int, waveform: Waveform) -> SignalFile | None:
        """Take the next result's signal; return the file that it did not belong to any more, if it was one.

        Args:
            result: Whose signal.
            started_at_ms: UTC of its first sample, ms since 1970.
            waveform: The signal; one that ``fits``.

        Raises:
            InputError: It does not fit EDF.
        """
        held = self._open
        place = None if held is None else held.place(result, started_at_ms, waveform)
        done = None
        if held is None or place is None:
            done = self.finish()
            held = _Open(waveform.sampling_rate_hz, started_at_ms, EdfPlanner(waveform.sampling_rate_hz, started_at_ms))
            place = 0
        stretch = Stretch(place, waveform.samples_uv)
        held.paused += place - held.free
        held.planner.add(stretch)
        held.stretches.append(stretch)
        held.results.append(result)
        self._open = held
        return done

    def finish(self) -> SignalFile | None:
        """The file that is open, if it has a sample."""
        held, self._open = self._open, None
        plan = None if held is None else held.planner.plan()
        if held is None or plan is None:
            return None
        first, last = held.results[0], held.results[-1]
        name = f"signals/{first.device_alias}-{first.epoch}-{first.counter}-{last.counter}{plan.suffix}"
        return SignalFile(name, b"".join(edf_bytes(plan, held.stretches)), first, last, held.started_at_ms)


def fits(waveform: Waveform) -> bool:
    """Whether a signal can be written as EDF: its rate, its amplitude, and that there is a sample at all."""
    if waveform.missing.all():
        return False
    try:
        EdfPlanner(waveform.sampling_rate_hz, 0).add(Stretch(0, waveform.samples_uv))
    except InputError:
        return False
    return True
