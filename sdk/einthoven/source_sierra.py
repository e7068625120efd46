"""Philips Sierra XML (versions 1.03, 1.04, 1.04.01) as a ``Source``: one lead of the parsed waveforms.

The layout is that of files written by PageWriter and HeartStart devices and of the published reverse engineering of
the format (Watford C, sierra-ecg-tools); the compression is in ``xli``. What the files prove by themselves:

- The resolution is in microvolts a count: with it the pulse that ends every channel is 1 mV high.
- III, aVR, aVL and aVF are stored as what is left after their computation from I and II. Halves are cut off toward
  zero in it: only then is every augmented lead within half a count of Goldberger's definition (1.04 files).

It deliberately reads no uncompressed or otherwise compressed waveforms, no representative beats (``repbeats``), no
measurements and no interpretation. Dates are local time without a zone and are not passed on; names and dates of the
patient are never touched.

Invariants:
    1. Rate, resolution and length stand in the file, or it is refused.
    2. Samples at which I, II and III are all at 1 mV are ``MISSING_UV``, and so are the zeros that enclose them: no
       heart can do that (I + III = II), it is the calibration pulse that follows the ECG in the same channels.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from einthoven.errors import InputError, RecordFormatError
from einthoven.held_lead import HeldLead
from einthoven.samples import as_microvolts
from einthoven.source_checks import lead_name, number, sample_count, sampling_rate, source_name, translated
from einthoven.xli import XliChunk, split_chunks, unpack
from einthoven.xml_records import MAX_XML_SAMPLES, XmlElement, checked_root, one_lead

VERSIONS: Final = frozenset({"1.03", "1.04", "1.04.01"})
STANDARD_LEADS: Final = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
"""Order of the channels of the lead set STD-12, which version 1.03 names instead of listing them."""
LIMB_LEADS: Final = frozenset({"III", "AVR", "AVL", "AVF"})
"""Stored as what is left after their computation from I and II."""
PULSE_UV: Final = 1000
"""Height of the calibration pulse at the end of every channel: 1 mV."""
MAX_RESOLUTION_UV: Final = 1000
"""Coarsest step of a count, microvolts; the examples have 5."""
SIGNAL: Final = "dataacquisition/signalcharacteristics"


@dataclass(frozen=True, slots=True)
class SierraSource(HeldLead):
    """One lead of a Philips Sierra file. Made by ``open``."""

    @classmethod
    def open(cls, path: Path, *, lead: str | None = None) -> Self:
        """Read and check a file.

        Args:
            path: The XML file, in any encoding that XML knows.
            lead: Name of the lead; without, the best of ``source_checks.LEADS``.

        Raises:
            RecordNotFound: It is not there.
            RecordFormatError: Not Sierra, of another version, or its waveform does not hold together.
            SamplingRateError: The rate is missing or not supported.
            InputError: There is no such lead, or defusedxml is not installed.
        """
        root = checked_root(path, "sierra", "Philips Sierra")
        with translated("Philips Sierra"):
            if root.text_at("documentinfo/documentversion") not in VERSIONS:
                raise RecordFormatError("this version of Philips Sierra is not known", "export it as 1.03 or 1.04")
            waveforms = root.first("waveforms/parsedwaveforms")
            if waveforms is None:
                raise RecordFormatError("the record has no waveforms", "export it with its waveforms")
            signal = _Signal(root, waveforms)
            names = list(signal.labels)
            index = one_lead(names, lead)
            return cls(
                name=source_name("Philips Sierra", names[index]),
                sampling_rate_hz=signal.rate_hz,
                samples_uv=_Channels(_chunks(waveforms, len(names)), names, signal).samples_uv(names[index]),
            )


class _Signal:
    """What the file says of its samples; the two places where it may say so must agree."""

    def __init__(self, root: XmlElement, waveforms: XmlElement) -> None:
        self._waveforms = waveforms
        self._root = root
        rate = self._stated("samplespersecond", "samplingrate")
        self.rate_hz: Fraction = sampling_rate(rate)
        self.resolution_uv = number(self._stated("resolution", "resolution", "signalresolution") or "", "resolution")
        if not 0 < self.resolution_uv <= MAX_RESOLUTION_UV:
            raise RecordFormatError("the resolution is not possible", "export the record again")
        self._only("bitspersample", "bitspersample", "16")
        self._only("signalsigned", "signalsigned", "True")
        self._only("signaloffset", "signaloffset", "0")
        duration_ms = number(waveforms.attributes.get("durationperchannel", ""), "duration")
        n_samples = duration_ms * self.rate_hz / 1000
        if n_samples.denominator != 1 or not 2 <= n_samples <= MAX_XML_SAMPLES:
            raise RecordFormatError("the duration of the waveforms is not possible", "export the record again")
        self.n_samples = sample_count(int(n_samples))
        self.labels = self._labels()

    def _stated(self, attribute: str, *elements: str) -> str | None:
        """The value of an attribute of the waveforms, or of an element of the signal's characteristics."""
        values = [self._waveforms.attributes.get(attribute)]
        values += [self._root.text_at(f"{SIGNAL}/{name}") for name in elements]
        stated = {value.strip() for value in values if value is not None and value.strip()}
        if len(stated) > 1:
            raise RecordFormatError("the file contradicts itself on its samples", "export the record again")
        return stated.pop() if stated else None

    def _only(self, attribute: str, element: str, known: str) -> None:
        if self._stated(attribute, element) not in {None, known}:
            raise RecordFormatError("the samples are in an unknown encoding", "export the record again")

    def _labels(self) -> tuple[str, ...]:
        listed = self._waveforms.attributes.get("leadlabels")
        if listed is not None:
            return tuple(listed.split())
        if self._root.text_at(f"{SIGNAL}/leadset") == "STD-12":
            return STANDARD_LEADS
        raise RecordFormatError("the file does not name its leads", "export the record again")


def _chunks(waveforms: XmlElement, n_leads: int) -> list[XliChunk]:
    attributes = waveforms.attributes
    packing = {attributes.get("compression"), attributes.get("compressmethod")} - {None}
    if packing != {"XLI"} or attributes.get("compressflag", "True") != "True":
        raise RecordFormatError("the waveforms are not packed as XLI", "export the record again")
    if attributes.get("dataencoding") != "Base64":
        raise RecordFormatError("the waveforms are in an unknown encoding", "export them as Base64")
    try:
        block = base64.b64decode("".join(waveforms.text.split()), validate=True)
    except (binascii.Error, ValueError) as problem:
        raise RecordFormatError("the waveforms are not Base64", "export the record again") from problem
    chunks = split_chunks(block)
    if len(chunks) < n_leads:
        raise RecordFormatError("the record holds fewer leads than it names", "export the record again")
    return chunks


class _Channels:
    """Unpacks the channels that a lead needs, each once."""

    def __init__(self, chunks: Sequence[XliChunk], names: Sequence[str], signal: _Signal) -> None:
        self._chunks = {lead_name(name) or name: chunk for name, chunk in zip(names, chunks, strict=False)}
        self._signal = signal
        self._unpacked: dict[str, NDArray[np.int64]] = {}

    def samples_uv(self, name: str) -> NDArray[np.int32]:
        """Int32 [n], microvolts, read-only, ``MISSING_UV`` in the calibration trailer."""
        resolution_uv = float(self._signal.resolution_uv)
        microvolts = self._lead(lead_name(name) or name) * resolution_uv
        microvolts[self._trailer(resolution_uv)] = np.nan
        samples_uv = as_microvolts(microvolts, max_samples=MAX_XML_SAMPLES)
        samples_uv.flags.writeable = False
        return samples_uv

    def _trailer(self, resolution_uv: float) -> NDArray[np.bool_]:
        """Where the recorder has put its calibration pulse, and the rest before and after it, bool [n]."""
        trailer = np.zeros(self._signal.n_samples, dtype=bool)
        if not {"I", "II", "III"} <= self._chunks.keys():
            return trailer
        limbs_uv = np.stack([self._lead(name) * resolution_uv for name in ("I", "II", "III")])
        pulse = (limbs_uv == PULSE_UV).all(axis=0)
        still = pulse | (limbs_uv == 0).all(axis=0)
        edges = np.flatnonzero(np.diff(still, prepend=False, append=False)).reshape(-1, 2)
        pulses_before = np.concatenate([[0], np.cumsum(pulse)])
        for start, stop in edges[pulses_before[edges[:, 1]] > pulses_before[edges[:, 0]]]:
            trailer[start:stop] = True
        return trailer

    def _stored(self, name: str) -> NDArray[np.int64]:
        if name not in self._unpacked:
            if name not in self._chunks:
                raise InputError("the lead is stored relative to I and II, which are not there", "name another lead")
            self._unpacked[name] = unpack(self._chunks[name], self._signal.n_samples)
        return self._unpacked[name]

    def _lead(self, name: str) -> NDArray[np.int64]:
        """Counts of a lead, by Einthoven's and Goldberger's definitions where only what is left is stored."""
        rest = self._stored(name)
        if name not in LIMB_LEADS:
            return rest
        one, two = self._stored("I"), self._stored("II")
        if name == "III":
            return two - one - rest
        if name == "AVR":
            return -_halved(one + two) - rest
        three = self._lead("III")
        return (_halved(one - three) if name == "AVL" else _halved(two + three)) - rest


def _halved(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Half of each, cut off toward zero."""
    halves: NDArray[np.int64] = np.sign(counts) * (np.abs(counts) // 2)
    return halves
