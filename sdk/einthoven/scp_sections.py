"""The outer layout of an SCP-ECG record: its pointer section, its sections, their checksums. Pure.

By EN 1064:2005+A1:2007 (ISO 11073-91064:2009), clause 5. All numbers are little endian; byte positions in pointers
count from 1.

It deliberately reads no text of section 1 (the patient's): of that section only the date, the time and the time zone
are looked at, and only where all three are there do they give a time.

Invariants:
    1. Whatever the bytes, the result is sections or an ``InputError``; time is linear in their number.
    2. A record or a section whose checksum is not right is refused: a damaged record would decode to a plausible ECG.
    3. No section reaches beyond the record, and none is copied before its length was compared with it.
"""

from __future__ import annotations

import binascii
import struct
from datetime import datetime, timedelta, timezone
from typing import Final

from einthoven.errors import RecordFormatError

MAX_SCP_BYTES: Final = 32 * 2**20
"""255 leads of at most 65,535 bytes are half of it."""
MAX_POINTERS: Final = 1024
"""Pointers in section 0; the standard names 12, and leaves 128-1023 to manufacturers."""
RECORD_HEADER: Final = struct.Struct("<HI")
SECTION_HEADER: Final = struct.Struct("<HHIBB6s")
POINTER: Final = struct.Struct("<HII")
MAGIC: Final = b"SCPECG"
"""In the reserved bytes of section 0's header, since version 1.3 of the protocol."""
MAGIC_AT: Final = 16
UNKNOWN_ZONE: Final = 0x7FFF
DATE_TAG, TIME_TAG, ZONE_TAG, END_TAG = 25, 26, 34, 255
"""Tags of section 1 (clause 5.4.3): acquisition date, acquisition time, date time zone, terminator."""
_REMEDY: Final = "export the record again"


def read_sections(content: bytes) -> dict[int, bytes]:
    """Return what each section holds after its 16-byte header, by section number; empty sections are left out.

    Raises:
        RecordFormatError: Not SCP-ECG, truncated, or a checksum that is not right.
    """
    if len(content) < RECORD_HEADER.size + SECTION_HEADER.size:
        raise RecordFormatError("this is not an SCP-ECG record", "give an SCP-ECG file")
    stated_crc, size = RECORD_HEADER.unpack_from(content)
    _, number, length, _, _, magic = SECTION_HEADER.unpack_from(content, RECORD_HEADER.size)
    if number != 0 or (magic != MAGIC and magic.strip(b"\0")):
        raise RecordFormatError("this is not an SCP-ECG record", "give an SCP-ECG file")
    if size > len(content):
        raise RecordFormatError("the file is shorter than its header claims", "copy the record again")
    content = content[:size]  # what a carrier padded it with is not part of the record
    if crc(content[2:]) != stated_crc:
        raise RecordFormatError("the record's checksum is not right: the file is damaged", "copy the record again")
    return dict(_sections(content, length))


def _sections(content: bytes, pointer_bytes: int) -> list[tuple[int, bytes]]:
    first = RECORD_HEADER.size + SECTION_HEADER.size
    end = RECORD_HEADER.size + pointer_bytes
    n_pointers = (pointer_bytes - SECTION_HEADER.size) // POINTER.size
    if not first <= end <= len(content) or not 1 <= n_pointers <= MAX_POINTERS:
        raise RecordFormatError("the pointer section is not possible", _REMEDY)
    sections: dict[int, bytes] = {}
    for number, length, position in POINTER.iter_unpack(content[first : first + n_pointers * POINTER.size]):
        if number == 0 or length <= SECTION_HEADER.size:
            continue
        if number in sections:
            raise RecordFormatError("a section is there twice", _REMEDY)
        start = position - 1
        if start < RECORD_HEADER.size or start + length > len(content):
            raise RecordFormatError("a section reaches beyond the record", _REMEDY)
        if sum(map(len, sections.values())) + length > len(content):
            raise RecordFormatError("the sections overlap", _REMEDY)
        sections[number] = _section(content[start : start + length], number)
    return list(sections.items())


def _section(section: bytes, number: int) -> bytes:
    stated_crc, stated_number, length, *_ = SECTION_HEADER.unpack_from(section)
    if stated_number != number or length != len(section):
        raise RecordFormatError("a section is not where its pointer says", _REMEDY)
    if crc(section[2:]) != stated_crc:
        raise RecordFormatError("a section's checksum is not right: the file is damaged", "copy the record again")
    return section[SECTION_HEADER.size :]


def crc(content: bytes) -> int:
    """CRC-CCITT (x^16 + x^12 + x^5 + 1, from 0xFFFF) as clause 5.2.7 asks for."""
    return binascii.crc_hqx(content, 0xFFFF)


def acquired_at_ms(section_1: bytes) -> int | None:
    """UTC of the acquisition, ms since 1970, where date, time and zone are all stated; else ``None``."""
    fields: dict[int, bytes] = {}
    at = 0
    while at + 3 <= len(section_1) and section_1[at] != END_TAG:
        length = int.from_bytes(section_1[at + 1 : at + 3], "little")
        if section_1[at] in {DATE_TAG, TIME_TAG, ZONE_TAG}:
            fields.setdefault(section_1[at], section_1[at + 3 : at + 3 + length])
        at += 3 + length
    date, time, zone = (fields.get(tag, b"") for tag in (DATE_TAG, TIME_TAG, ZONE_TAG))
    if len(date) != 4 or len(time) != 3 or len(zone) < 2:
        return None
    zone_min = int.from_bytes(zone[:2], "little", signed=True)
    if zone_min == UNKNOWN_ZONE:
        return None
    try:
        east = timezone(timedelta(minutes=zone_min))
        day = datetime(int.from_bytes(date[:2], "little"), date[2], date[3], tzinfo=east)
        moment = day.replace(hour=time[0], minute=time[1], second=time[2])
        return round(moment.timestamp()) * 1000
    except (ValueError, OverflowError):
        return None  # an impossible date is no time at all
