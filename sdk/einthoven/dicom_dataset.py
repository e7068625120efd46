"""Reads the elements that an ECG needs from DICOM bytes, by pydicom, in bounded memory.

By DICOM PS3.5 (data structures and encoding) and PS3.10 (file format; a missing preamble is tolerated).

pydicom makes an object of several hundred bytes of an element that takes eight, and inflates a deflated file whole.
So it reads from a file that counts: after ``MAX_READS`` the reading ends. Sequences whose length is stated come from
pydicom as bytes, and are taken apart here, by the same counter, only where they are wanted.

It deliberately keeps no element of the patient or the study: all of them are skipped while reading.

Invariants:
    1. Nothing deflated is inflated.
    2. pydicom makes at most ``MAX_READS`` elements of a file, whatever its bytes.
    3. Of text, only numbers, codes and channel labels are looked at.
"""

from __future__ import annotations

import io
from typing import Any, Final

from einthoven.errors import RecordFormatError
from einthoven.source_checks import library

MAX_DICOM_BYTES: Final = 64 * 2**20
"""A whole file; 12 leads of 16 bits at 500 Hz for an hour and a half."""
MAX_READS: Final = 15_000
"""Reads of one file, of which an element takes one to three; the sample files of 12 leads take 700 and 1,700."""
DEFLATED_UID: Final = b"1.2.840.10008.1.2.1.99"
KEPT: Final = ("SOPClassUID", "AcquisitionDateTime", "TimezoneOffsetFromUTC", "WaveformSequence")


class _CountedFile(io.BytesIO):
    """Bytes that can be read from a limited number of times; shares its count with those made ``like`` it."""

    def __init__(self, content: bytes, like: _CountedFile | None = None) -> None:
        super().__init__(content)
        self.reads: list[int] = [0] if like is None else like.reads

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads[0] += 1
        if self.reads[0] > MAX_READS:
            raise RecordFormatError("the file has more elements than an ECG needs", "export the record again")
        return super().read(size)


class DicomDataset:
    """A dataset, or an item of a sequence, of which single elements are asked for.

    Every method may raise whatever pydicom does; the source translates it.
    """

    def __init__(self, dataset: Any, file: _CountedFile) -> None:
        self._dataset = dataset
        self._file = file

    @classmethod
    def read(cls, content: bytes) -> DicomDataset:
        """Read the elements of ``KEPT``.

        Raises:
            RecordFormatError: Deflated, big endian, or more elements than ``MAX_READS``.
        """
        if DEFLATED_UID in content:
            raise RecordFormatError("the DICOM file is deflated", "export it without compression")
        pydicom, file = library("pydicom"), _CountedFile(content)
        dataset = pydicom.dcmread(file, force=True, specific_tags=list(KEPT))
        if dataset.original_encoding[1] is False:
            raise RecordFormatError("the DICOM file is big endian", "export it as little endian")
        return cls(dataset, file)

    def text(self, keyword: str) -> str | None:
        """An element as text, a number in the digits of the file; ``None`` where it is missing or empty."""
        value = self._dataset.get(keyword)
        return None if value is None or str(value).strip() == "" else str(value).strip(" \0")

    def count(self, keyword: str) -> int:
        """A whole number of the file; 0 where it is missing."""
        value = self._dataset.get(keyword)
        return value if isinstance(value, int) else 0

    def content(self, keyword: str) -> bytes:
        """The bytes of an element; none where it is missing."""
        value = self._dataset.get(keyword)
        return value if isinstance(value, bytes) else b""

    def items(self, keyword: str, *, at_most: int) -> list[DicomDataset]:
        """The items of a sequence.

        Raises:
            RecordFormatError: More than ``at_most``.
        """
        keyword_tag = library("pydicom.datadict").tag_for_keyword(keyword)
        element = self._dataset.get_item(keyword_tag)
        value = element.value if element is not None else None
        if isinstance(value, bytes):  # its length is stated: pydicom has not looked inside
            if element.length != len(value):  # nor noticed that the file ends here
                raise RecordFormatError("the file is shorter than its header claims", "copy the record again")
            value = library("pydicom.filereader").read_sequence(
                _CountedFile(value, self._file),
                element.is_implicit_VR,
                element.is_little_endian,
                len(value),
                "iso8859",  # of labels only ASCII lead names are used
            )
        found = [] if value is None else list(value)
        if len(found) > at_most:
            raise RecordFormatError("a sequence of the file is longer than an ECG needs", "export the record again")
        return [DicomDataset(item, self._file) for item in found]
