"""Writes small SCP-ECG, DICOM, EDF and WFDB recordings, so that the readers' tests need no recorded file.

Each is written from the specification and apart from the readers: codes are made here as strings of bits.
"""

from __future__ import annotations

import binascii
import io
import struct
import warnings
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset

# --- SCP-ECG -----------------------------------------------------------------------------------------------------

Structure = tuple[int, int, int, int, str]
"""(bits of the prefix, bits of the entire code, mode, base value, prefix with the first bit first)."""
SWITCHING_TABLES: Sequence[Sequence[Structure]] = (
    ((1, 1, 1, 0, "0"), (2, 2, 0, 2, "10"), (2, 18, 1, 0, "11")),
    ((1, 9, 1, 0, "0"), (1, 1, 0, 1, "1")),
)
"""Table 1: zero, a switch to table 2, 16 bits. Table 2: 8 bits, a switch back."""


def signed_bits(value: int, bits: int) -> str:
    return f"{value % 2**bits:0{bits}b}"


def default_bits(values: Sequence[int]) -> str:
    """By annex C of the standard."""
    bits = []
    for value in values:
        if value == 0:
            bits.append("0")
        elif abs(value) <= 8:
            bits.append("1" * abs(value) + "0" + ("1" if value < 0 else "0"))
        elif -128 <= value <= 127:
            bits.append("1" * 9 + "0" + signed_bits(value, 8))
        else:
            bits.append("1" * 10 + signed_bits(value, 16))
    return "".join(bits)


def switching_bits(values: Sequence[int]) -> str:
    """By ``SWITCHING_TABLES``."""
    bits, table = [], 1
    for value in values:
        small = value != 0 and -128 <= value <= 127
        if table == 1 and small:
            bits.append("10")
        if table == 2 and not small:
            bits.append("1")
        table = 2 if small else 1
        bits.append("0" + signed_bits(value, 8) if small else "0" if value == 0 else "11" + signed_bits(value, 16))
    return "".join(bits)


def differences(samples: Sequence[int], order: int) -> list[int]:
    values = [int(sample) for sample in samples]
    if order == 0:
        return values
    if order == 1:
        return values[:1] + [b - a for a, b in pairwise(values)]
    second = [c - 2 * b + a for a, b, c in zip(values, values[1:], values[2:], strict=False)]
    return values[:2] + second


def packed(bits: str) -> bytes:
    bits += "0" * (-len(bits) % 16)
    return int(bits or "0", 2).to_bytes(len(bits) // 8, "big")


def encoded_leads(leads: Sequence[Sequence[int]], order: int, code: Callable[[Sequence[int]], str] | None) -> bytes:
    plain = [differences(samples, order) for samples in leads]
    blobs = [packed(code(v)) if code else np.array(v, dtype="<i2").tobytes() for v in plain]
    return struct.pack(f"<{len(blobs)}H", *map(len, blobs)) + b"".join(blobs)


def scp_section(number: int, content: bytes) -> bytes:
    content += bytes(len(content) % 2)
    rest = struct.pack("<HIBB6s", number, 16 + len(content), 20, 20, b"SCPECG" if number == 0 else bytes(6)) + content
    return struct.pack("<H", binascii.crc_hqx(rest, 0xFFFF)) + rest


def scp_file(sections: Mapping[int, bytes]) -> bytes:
    """A record of sections; their numbers with what they hold."""
    numbers = [*range(1, 12), *(n for n in sections if n > 11)]
    blobs = {n: scp_section(n, sections[n]) for n in numbers if n in sections}
    at = 6 + 16 + 10 * (len(numbers) + 1)
    pointers = struct.pack("<HII", 0, at - 6, 7)
    for n in numbers:
        pointers += struct.pack("<HII", n, len(blobs.get(n, b"")), at + 1 if n in blobs else 0)
        at += len(blobs.get(n, b""))
    rest = struct.pack("<I", at) + scp_section(0, pointers) + b"".join(blobs.values())
    return struct.pack("<H", binascii.crc_hqx(rest, 0xFFFF)) + rest


def with_right_checksums(record: bytes) -> bytes:
    """A damaged record with the checksums of its sections and its own made right, so that its insides are read."""
    fixed = bytearray(record)
    for at in range(22, min(len(record), 22 + 12 * 10), 10):
        _, length, position = struct.unpack_from("<HII", fixed.ljust(at + 10, b"\0"), at)
        if position >= 7 and length > 16 and position - 1 + length <= len(fixed):
            body = bytes(fixed[position + 1 : position - 1 + length])
            struct.pack_into("<H", fixed, position - 1, binascii.crc_hqx(body, 0xFFFF))
    if len(fixed) >= 6:
        size = min(len(fixed), struct.unpack_from("<I", fixed, 2)[0])
        struct.pack_into("<H", fixed, 0, binascii.crc_hqx(bytes(fixed[2:size]), 0xFFFF))
    return bytes(fixed)


def scp_sections(  # one option for each field that a test turns
    leads: Mapping[int, Sequence[int]],
    *,
    step_nv: int = 1000,
    interval_us: int = 2000,
    order: int = 2,
    tables: str = "default",
    first: int = 1,
    bimodal: int = 0,
    reference: Sequence[Sequence[int]] = (),
    fiducial: int = 1,
    zones: Sequence[tuple[int, int, int, int]] = (),
    section_1: bytes = b"",
) -> dict[int, bytes]:
    """The sections of a record with these leads (lead code: samples); ``tables`` is default, switching or none."""
    code = {"default": default_bits, "switching": switching_bits, "none": None}[tables]
    sections = {}
    if section_1:
        sections[1] = section_1
    if tables == "default":
        sections[2] = struct.pack("<H", 19_999)
    elif tables == "switching":
        sections[2] = huffman_section(SWITCHING_TABLES)
    definitions = b"".join(struct.pack("<IIB", first, first + len(v) - 1, n) for n, v in leads.items())
    sections[3] = struct.pack("<BB", len(leads), (1 if zones else 0) | 4 | len(leads) % 32 << 3) + definitions
    head = struct.pack("<HHB", step_nv, interval_us, order)
    samples = list(leads.values())
    if reference:
        length_ms = len(reference[0]) * interval_us // 1000
        sections[4] = struct.pack("<3H", length_ms, fiducial, len(zones)) + b"".join(
            struct.pack("<HIII", *zone) for zone in zones
        )
        sections[5] = head + b"\0" + encoded_leads(reference, order, code)
    sections[6] = head + bytes([bimodal]) + encoded_leads(samples, order, code)
    return sections


def huffman_section(tables: Sequence[Sequence[Structure]]) -> bytes:
    section = struct.pack("<H", len(tables))
    for table in tables:
        section += struct.pack("<H", len(table))
        for prefix_bits, all_bits, mode, base, prefix in table:
            section += struct.pack("<BBBhI", prefix_bits, all_bits, mode, base, int(prefix[::-1], 2))
    return section


def scp_bytes(leads: Mapping[int, Sequence[int]], **options: object) -> bytes:
    return scp_file(scp_sections(leads, **options))  # type: ignore[arg-type]


# --- DICOM -------------------------------------------------------------------------------------------------------

SAMPLE_TYPES = {"SB": "i1", "UB": "u1", "SS": "<i2", "US": "<u2", "SL": "<i4", "UL": "<u4"}


def coded(value: str, scheme: str, meaning: str = "") -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def dicom_channel(
    source: str | None = None, label: str | None = None, meaning: str = "", unit: str | None = "uV", **fields: object
) -> Dataset:
    channel = Dataset()
    if label is not None:
        channel.ChannelLabel = label
    if source is not None:
        channel.ChannelSourceSequence = [coded(source, "MDC" if source.startswith("2:") else "SCPECG", meaning)]
    channel.ChannelSensitivity = "1"
    channel.ChannelSensitivityCorrectionFactor = "1"
    channel.ChannelBaseline = "0"
    if unit is not None:
        channel.ChannelSensitivityUnitsSequence = [coded(unit, "UCUM", unit)]
    channel.ChannelSampleSkew = "0"
    channel.WaveformBitsStored = 16
    for name, value in fields.items():
        if value is None:
            delattr(channel, name)
        else:
            setattr(channel, name, value)
    return channel


def dicom_group(
    samples: Sequence[Sequence[int]],
    channels: Sequence[Dataset],
    *,
    kind: str = "SS",
    rate: str = "250",
    **fields: object,
) -> Dataset:
    """A multiplex group; ``samples`` is [channels][n]."""
    group, dtype = Dataset(), np.dtype(SAMPLE_TYPES[kind])
    group.WaveformOriginality = "ORIGINAL"
    group.NumberOfWaveformChannels = len(channels)
    group.NumberOfWaveformSamples = len(samples[0])
    group.SamplingFrequency = rate
    group.ChannelDefinitionSequence = list(channels)
    group.WaveformBitsAllocated = 8 * dtype.itemsize
    group.WaveformSampleInterpretation = kind
    content = np.asarray(samples).T.astype(dtype).tobytes()
    group.WaveformData = content + bytes(len(content) % 2)
    for name, value in fields.items():
        setattr(group, name, value)
    return group


def dicom_bytes(
    groups: Sequence[Dataset],
    *,
    sop_class: str = "1.2.840.10008.5.1.4.1.1.9.1.1",
    implicit: bool = False,
    preamble: bool = True,
    undefined_length: bool = False,
    **fields: object,
) -> bytes:
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, "1.2.3"
    dataset.PatientName, dataset.PatientID, dataset.Modality = "Doe^Jane", "4711", "ECG"
    dataset.WaveformSequence = list(groups)
    for name, value in fields.items():
        setattr(dataset, name, value)
    if undefined_length:
        dataset["WaveformSequence"].is_undefined_length = True
        for group in groups:
            group.is_undefined_length_sequence_item = True
            group["ChannelDefinitionSequence"].is_undefined_length = True
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if preamble:
            dataset.file_meta = FileMetaDataset()
            syntax = pydicom.uid.ImplicitVRLittleEndian if implicit else pydicom.uid.ExplicitVRLittleEndian
            dataset.file_meta.TransferSyntaxUID = syntax
            pydicom.dcmwrite(file, dataset, enforce_file_format=True)
        else:
            pydicom.dcmwrite(file, dataset, implicit_vr=implicit, little_endian=True, enforce_file_format=False)
    return file.getvalue()


def small_dicom(samples: Sequence[int], **options: object) -> bytes:
    """One lead II in microvolts, 250 Hz."""
    return dicom_bytes([dicom_group([samples], [dicom_channel("2:2")])], **options)  # type: ignore[arg-type]


# --- EDF ---------------------------------------------------------------------------------------------------------

EDF_FIELDS = (
    *(("label", 16), ("transducer", 80), ("unit", 8), ("pmin", 8), ("pmax", 8)),
    *(("dmin", 8), ("dmax", 8), ("filter", 80), ("samples", 8), ("reserved", 32)),
)
ECG: dict[str, object] = {
    **{"label": "ECG", "unit": "uV", "pmin": -32768, "pmax": 32767},
    **{"dmin": -32768, "dmax": 32767, "samples": 250},
}
NOTES: dict[str, object] = {
    **{"label": "EDF Annotations", "pmin": -1, "pmax": 1, "dmin": -32768, "dmax": 32767, "samples": 8},
}


def edf_header(
    *signals: Mapping[str, object],
    magic: str = "0",
    records: object = 8,
    record_s: str = "1",
    n_signals: int | None = None,
    kind: str = "",
    size: int | None = None,
) -> bytes:
    n_signals = len(signals) if n_signals is None else n_signals
    size = 256 * (1 + len(signals)) if size is None else size
    fixed = f"{magic:<8}{'Jane Doe':<80}{'Startdate X X X X':<80}01.01.8500.00.00{size:<8}{kind:<44}"
    fixed += f"{records:<8}{record_s:<8}{n_signals:<4}"
    fields = "".join(f"{signal.get(name, '')!s:<{width}}" for name, width in EDF_FIELDS for signal in signals)
    return (fixed + fields).encode("latin-1")


def edf_plus_d(samples: Sequence[int], onsets: Sequence[object], **options: object) -> bytes:
    """An interrupted recording of data records of 250 samples with these onsets, as text or numbers of seconds."""
    content = edf_header(ECG, NOTES, kind="EDF+D", records=len(onsets), **options)  # type: ignore[arg-type]
    for n, onset in enumerate(onsets):
        stamp = f"+{onset}\x14\x14".replace("+-", "-").encode("ascii").ljust(16, b"\0")
        content += np.asarray(samples[n * 250 : n * 250 + 250], dtype="<i2").tobytes() + stamp
    return content


# --- WFDB --------------------------------------------------------------------------------------------------------


def _packed_212(values: Sequence[int]) -> bytes:
    out = bytearray()
    for n in range(0, len(values), 2):
        a, b = values[n] & 0xFFF, (values[n + 1] if n + 1 < len(values) else 0) & 0xFFF
        out += bytes((a & 0xFF, a >> 8 | b >> 8 << 4, b & 0xFF))
    return bytes(out)


def _triples(values: Sequence[int]) -> list[tuple[int, int, int]]:
    padded = [value & 0x3FF for value in values] + [0] * (-len(values) % 3)
    return [(padded[n], padded[n + 1], padded[n + 2]) for n in range(0, len(padded), 3)]


def _packed_310(values: Sequence[int]) -> bytes:
    return b"".join(
        struct.pack("<HH", a << 1 | (c & 0x1F) << 11, b << 1 | (c >> 5) << 11) for a, b, c in _triples(values)
    )


def _packed_311(values: Sequence[int]) -> bytes:
    return b"".join(struct.pack("<I", a | b << 10 | c << 20) for a, b, c in _triples(values))


WFDB_WRITERS: dict[str, Callable[[Sequence[int]], bytes]] = {
    "8": lambda values: np.array(values, dtype="i1").tobytes(),  # the caller gives differences
    "16": lambda values: np.array(values, dtype="<i2").tobytes(),
    "24": lambda values: b"".join(int(value).to_bytes(3, "little", signed=True) for value in values),
    "32": lambda values: np.array(values, dtype="<i4").tobytes(),
    "61": lambda values: np.array(values, dtype=">i2").tobytes(),
    "80": lambda values: bytes(int(value) + 128 for value in values),
    "160": lambda values: np.array([int(value) + 2**15 for value in values], dtype="<u2").tobytes(),
    "212": lambda values: _packed_212([int(value) for value in values]),
    "310": lambda values: _packed_310([int(value) for value in values]),
    "311": lambda values: _packed_311([int(value) for value in values]),
}
WFDB_BITS = {"8": 8, "16": 16, "24": 24, "32": 32, "61": 16, "80": 8, "160": 16, "212": 12, "310": 10, "311": 10}


def wfdb_record(folder: Path, signal_lines: Sequence[str], blobs: Mapping[str, bytes], *, first: str) -> Path:
    """Write a record called x: its first line, its signal lines, its signal files by name."""
    for name, blob in blobs.items():
        (folder / name).write_bytes(blob)
    (folder / "x.hea").write_text("\n".join([first, *signal_lines]) + "\n", encoding="latin-1")
    return folder / "x.hea"
