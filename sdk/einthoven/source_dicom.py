"""DICOM ECG waveforms (12-lead, general, ambulatory, general 32-bit) as a ``Source``; read by pydicom.

By DICOM PS3.3, A.34 and C.10.9 (Waveform Module). Of several multiplex groups the longest that holds the lead is read:
the rhythm, not the median beat. A channel is named by its source's code (SCP-ECG or ISO/IEEE 11073-10101 lead codes)
before its label.

It deliberately reads nothing of the patient (see ``dicom_dataset``), no annotations, and no companded (mu-law, A-law)
samples. A channel's time skew is not corrected: one lead alone has none.

Invariants:
    1. The samples that a group claims are compared with the bytes of its waveform before any is used.
    2. microvolts = (sample * sensitivity * correction + baseline) * unit (C.10.9.1.4), with exact factors.
    3. The padding value is ``MISSING_UV``, but not where it stands for 0 V: real files state 0 as their padding value,
       and 0 is also where an ECG rests.
    4. The start is passed on only where the file states its offset from UTC.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from fractions import Fraction
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from einthoven.dicom_dataset import MAX_DICOM_BYTES, DicomDataset
from einthoven.errors import InputError, RecordFormatError, UnknownUnit
from einthoven.held_lead import HeldLead
from einthoven.samples import MAX_ABS_UV, as_microvolts
from einthoven.scp_rhythm import LEADS_BY_CODE
from einthoven.source_checks import (
    MAX_SIGNALS,
    choose_lead,
    lead_name,
    library,
    microvolts_per,
    number,
    regular_file,
    sample_count,
    sampling_rate,
    source_name,
    translated,
)

ECG_CLASSES: Final = tuple(f"1.2.840.10008.5.1.4.1.1.9.1.{n}" for n in (1, 2, 3, 4))
"""SOP classes: 12-lead ECG, general ECG, ambulatory ECG, general 32-bit ECG waveform storage."""
SAMPLE_TYPES: Final = {
    **{("SB", 8): "i1", ("UB", 8): "u1", ("SS", 16): "<i2", ("US", 16): "<u2"},
    **{("SL", 32): "<i4", ("UL", 32): "<u4"},
}
"""NumPy's name for (Waveform Sample Interpretation, Waveform Bits Allocated)."""
MAX_GROUPS: Final = 64
_REMEDY: Final = "export the record again"
_LEAD_CODE: Final = re.compile(r"(?:5\.6\.3-9-|2:)(\d{1,3})", re.ASCII)
_MOMENT: Final = re.compile(r"(\d{14})(?:\.(\d{1,6}))?([+-]\d{4})?", re.ASCII)
_OFFSET: Final = re.compile(r"([+-])(\d{2})(\d{2})", re.ASCII)


@dataclass(frozen=True, slots=True)
class _Group:
    """One multiplex group: its lead names, its exact rate and its length in samples."""

    item: DicomDataset
    channels: list[DicomDataset]
    names: list[str]
    rate_hz: Fraction
    n_samples: int


class DicomSource(HeldLead):
    """One lead of a DICOM ECG. Made by ``open``."""

    __slots__ = ()

    @classmethod
    def open(cls, path: Path, *, lead: str | None = None) -> Self:
        """Open a recording.

        Args:
            path: The ``.dcm`` file, with or without the 128-byte preamble.
            lead: Name of the lead; without, the best of ``source_checks.LEADS``.

        Raises:
            RecordNotFound: It is not there.
            RecordFormatError: Not a DICOM ECG, damaged, deflated, or larger than ``MAX_DICOM_BYTES``.
            UnknownUnit: The channel states no sensitivity, or one that is not a voltage.
            SamplingRateError: The rate is not supported.
            InputError: There is no such lead, or pydicom is not installed.
        """
        library("pydicom")
        regular_file(path, max_bytes=MAX_DICOM_BYTES)
        with translated("DICOM"), library("pydicom.config").disable_value_validation():
            dataset = DicomDataset.read(path.read_bytes())
            if dataset.text("SOPClassUID") not in ECG_CLASSES:
                raise RecordFormatError("this is not a DICOM ECG", "give a DICOM file with an ECG waveform")
            group, index = _choose(dataset, lead)
            rate_hz = sampling_rate(group.rate_hz)
            counts = _counts(group, index)
            return cls(
                name=source_name("DICOM", group.names[index]),
                sampling_rate_hz=rate_hz,
                started_at_ms=_started_at_ms(dataset, group.item),
                samples_uv=_microvolts(counts, group.channels[index], _padding(group.item, counts.dtype)),
            )


def _choose(dataset: DicomDataset, lead: str | None) -> tuple[_Group, int]:
    """The longest group that holds the lead, and the lead's place in it."""
    groups = [_group(item) for item in dataset.items("WaveformSequence", at_most=MAX_GROUPS)]
    if not groups:
        raise RecordFormatError("the DICOM file holds no waveform", "give a DICOM file with an ECG waveform")
    refusal: InputError | None = None
    for group in sorted(groups, key=lambda g: g.n_samples / g.rate_hz, reverse=True):
        try:
            return group, choose_lead(group.names, lead)
        except InputError as problem:
            refusal = refusal or problem
    assert refusal is not None
    raise refusal


def _group(item: DicomDataset) -> _Group:
    channels = item.items("ChannelDefinitionSequence", at_most=MAX_SIGNALS)
    if not channels or len(channels) != item.count("NumberOfWaveformChannels"):
        raise RecordFormatError("a group's channels are not all defined", _REMEDY)
    rate_hz = number(item.text("SamplingFrequency") or "", "sampling rate")
    if rate_hz <= 0:
        raise RecordFormatError("a group's sampling rate is not possible", _REMEDY)
    return _Group(
        item, channels, [_name(channel) for channel in channels], rate_hz, item.count("NumberOfWaveformSamples")
    )


def _name(channel: DicomDataset) -> str:
    """A channel's lead by its source's code, else by the name the file gives it."""
    texts = [channel.text("ChannelLabel")]
    for source in channel.items("ChannelSourceSequence", at_most=1):
        code = _LEAD_CODE.fullmatch(source.text("CodeValue") or "")
        if code and int(code[1]) in LEADS_BY_CODE:
            return LEADS_BY_CODE[int(code[1])]
        texts.append(source.text("CodeMeaning"))
    known = [text for text in texts if text and lead_name(text)]
    return (known or [text for text in texts if text] or [""])[0]


def _counts(group: _Group, index: int) -> NDArray[np.generic]:
    """The lead's stored samples [n], after their number was compared with the bytes there are."""
    kind = (group.item.text("WaveformSampleInterpretation") or "", group.item.count("WaveformBitsAllocated"))
    if kind not in SAMPLE_TYPES:
        raise RecordFormatError("this kind of DICOM samples is not read", "export it as 16-bit samples (SS)")
    dtype, n_channels = np.dtype(SAMPLE_TYPES[kind]), len(group.channels)
    content = group.item.content("WaveformData")
    needed = sample_count(group.n_samples) * n_channels * dtype.itemsize
    if not needed <= len(content) <= needed + 1:  # an odd number of bytes is made even (PS3.5, 7.1.1)
        raise RecordFormatError("the waveform is not as long as its header claims", "copy the record again")
    stored: NDArray[np.generic] = np.frombuffer(content, dtype=dtype, count=group.n_samples * n_channels)
    return stored[index::n_channels]


def _padding(item: DicomDataset, dtype: np.dtype[np.generic]) -> int | None:
    """The count that stands for no sample, where the group states one."""
    content = item.content("WaveformPaddingValue")
    if len(content) < dtype.itemsize:
        return None
    return int(np.frombuffer(content, dtype=dtype, count=1)[0])


def _microvolts(counts: NDArray[np.generic], channel: DicomDataset, padding: int | None) -> NDArray[np.int32]:
    sensitivity = channel.text("ChannelSensitivity")
    units = channel.items("ChannelSensitivityUnitsSequence", at_most=1)
    if sensitivity is None or not units:
        raise UnknownUnit("the channel is not calibrated", "give a recording that states its sensitivity")
    unit_uv = microvolts_per(units[0].text("CodeValue"))
    correction = number(channel.text("ChannelSensitivityCorrectionFactor") or "1", "correction factor")
    scale_uv = number(sensitivity, "sensitivity") * correction * unit_uv
    offset_uv = number(channel.text("ChannelBaseline") or "0", "baseline") * unit_uv
    if not 0 < scale_uv <= MAX_ABS_UV or abs(offset_uv) > MAX_ABS_UV * 2**16:
        raise RecordFormatError("the sensitivity of the channel is not possible", _REMEDY)
    microvolts = counts.astype(np.float64) * float(scale_uv) + float(offset_uv)
    if padding is not None and padding * scale_uv + offset_uv != 0:
        microvolts[counts == padding] = np.nan
    return as_microvolts(microvolts, max_samples=counts.size)


def _started_at_ms(dataset: DicomDataset, group: DicomDataset) -> int | None:
    """UTC of the group's first sample, ms since 1970; ``None`` where the file leaves the offset from UTC open."""
    moment = _MOMENT.fullmatch(dataset.text("AcquisitionDateTime") or "")
    if moment is None:
        return None
    offset = _OFFSET.fullmatch(moment[3] or dataset.text("TimezoneOffsetFromUTC") or "")
    if offset is None:
        return None
    east_min = int(offset[1] + "1") * (60 * int(offset[2]) + int(offset[3]))
    try:
        east = timezone(timedelta(minutes=east_min))
        seconds = datetime.strptime(moment[1], "%Y%m%d%H%M%S").replace(tzinfo=east).timestamp()
        group_offset_ms = number(group.text("MultiplexGroupTimeOffset") or "0", "time offset")
    except (ValueError, OverflowError, RecordFormatError):
        return None  # an impossible date is no time at all
    return round(int(seconds) * 1000 + Fraction(f"0.{moment[2] or 0}") * 1000 + group_offset_ms)
