"""Looks for known plaintext in files: the proof that a store leaks nothing, made so that it can fail.

What must not be found is spelled as byte strings ("needles"): words, ids, comments, runs of samples, pieces of the
compressed signal. It deliberately judges no entropy and knows no file format: a needle is there or it is not.

Invariants:
    1. Every occurrence is found wherever it lies, also across the borders of what is read at once.
    2. Memory does not grow with the file. A finding holds an offset and the needle's number, never its bytes.
    3. No needles is an error, not a proof.

Stated limit: on POSIX, closing any descriptor of a database drops the locks that SQLite has on it in the same process.
Scan a store that is closed, or open in another process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from einthoven.errors import RecordNotFound
from einthoven.ports import Segment
from einthoven.segments import encode_segment

MIN_NEEDLE_BYTES: Final = 6
"""Shorter ones turn up in random bytes by chance: 1 in 70 million for each needle in 4 MB at this length."""
MAX_NEEDLE_BYTES: Final = 65_536
"""Longer ones are to be cut into pieces."""
MAX_FINDINGS: Final = 1_000
"""Occurrences reported; the first is bad enough."""
READ_BYTES: Final = 2**20
"""Read at once."""
DATABASE_HEADER: Final = b"SQLite format 3"
"""How an unencrypted database begins: a needle for every scan."""
RUN_SAMPLES: Final = 8
"""Samples in a needle made of signal."""
MIN_DISTINCT_IN_RUN: Final = 4
"""A run with fewer different values is no evidence: zeros are everywhere."""
PIECE_BYTES: Final = 32
"""Bytes in a needle made of a compressed segment."""
FEW_NEEDLES: Final = 32
"""Up to so many are looked for one by one; more of them by how they begin, all at once."""
_BEGINNING_BYTES: Final = 4


@dataclass(frozen=True, slots=True)
class Finding:
    """One occurrence of a needle.

    Attributes:
        path: The file.
        offset_bytes: Where in the file it begins.
        needle_index: Which needle, from 0, in the order they were given.
    """

    path: Path
    offset_bytes: int
    needle_index: int


def find_plaintext(paths: Iterable[Path], needles: Iterable[bytes]) -> list[Finding]:
    """Look for every needle in every file.

    Args:
        paths: Files; see ``files_of_store``.
        needles: Byte strings that must not be in them.

    Returns:
        Occurrences in order of file and offset, ``MAX_FINDINGS`` at most; empty is the proof.

    Raises:
        RecordNotFound: One of the files can't be read.
        ValueError: There is no file or no needle to look for, or a needle is too short or too long.
    """
    wanted, files = _checked(paths, needles)
    findings: list[Finding] = []
    for path in files:
        for offset_bytes, index in sorted(set(islice(_in_file(path, wanted), 2 * MAX_FINDINGS))):
            findings.append(Finding(path, offset_bytes, index))
    return findings[:MAX_FINDINGS]


def needles_found(paths: Iterable[Path], needles: Iterable[bytes]) -> set[int]:
    """Which of the needles occur at all, by their numbers, however many: the control of a search.

    Raises:
        RecordNotFound: See ``find_plaintext``.
        ValueError: See ``find_plaintext``.
    """
    wanted, files = _checked(paths, needles)
    return {index for path in files for _, index in _in_file(path, wanted)}


def _checked(paths: Iterable[Path], needles: Iterable[bytes]) -> tuple[list[bytes], list[Path]]:
    wanted, files = list(needles), list(paths)
    if not wanted or not files:
        raise ValueError("nothing to look for, or nowhere to look")
    for needle in wanted:
        if not MIN_NEEDLE_BYTES <= len(needle) <= MAX_NEEDLE_BYTES:
            raise ValueError(f"a needle has {MIN_NEEDLE_BYTES} to {MAX_NEEDLE_BYTES} bytes, not {len(needle)}")
    return wanted, files


def _in_file(path: Path, needles: Sequence[bytes]) -> Iterator[tuple[int, int]]:
    try:
        with path.open("rb") as file:
            yield from _occurrences(file, needles)
    except OSError as error:
        raise RecordNotFound(f"{path.name} can't be read ({error.strerror})", "name a file that exists") from error


def files_of_store(path: Path) -> list[Path]:
    """The files of a store that exist: database, write-ahead log, its index, journal."""
    candidates = (path.with_name(path.name + suffix) for suffix in ("", "-wal", "-shm", "-journal"))
    return [candidate for candidate in candidates if candidate.exists()]


def text_needles(texts: Iterable[str]) -> list[bytes]:
    """Texts as UTF-8 and UTF-16; those that are too short as one are left out as that."""
    encoded = (text.encode(encoding) for text in texts for encoding in ("utf-8", "utf-16-le"))
    return [needle for needle in encoded if len(needle) >= MIN_NEEDLE_BYTES]


def signal_needles(segment: Segment, *, runs: int = 64) -> list[bytes]:
    """Pieces of a signal as it could leak: samples and differences in 32 and 16 bits, and the compressed form.

    Args:
        segment: The signal.
        runs: Places in it to take pieces from, evenly spread.

    Returns:
        Needles; none for a signal that is flat throughout.
    """
    samples_uv = segment.samples_uv
    needles: list[bytes] = []
    for values in (samples_uv, np.diff(samples_uv)):
        for run in _runs(values, runs):
            needles.append(run.astype("<i4").tobytes())
            needles.append(run.astype("<i2").tobytes())
    body = encode_segment(segment)
    # The beginning is left out: headers of equal segments are equal, and say nothing.
    pieces = _spread(PIECE_BYTES, len(body) - PIECE_BYTES, runs)
    return needles + [body[start : start + PIECE_BYTES] for start in pieces]


def _runs(values: NDArray[np.int32], runs: int) -> Iterator[NDArray[np.int32]]:
    for start in _spread(0, len(values) - RUN_SAMPLES, runs):
        run = values[start : start + RUN_SAMPLES]
        if len(np.unique(run)) >= MIN_DISTINCT_IN_RUN:
            yield run


def _spread(first: int, last: int, count: int) -> Sequence[int]:
    if last < first:
        return []
    return sorted({int(start) for start in np.linspace(first, last, count)})


def _occurrences(file: BinaryIO, needles: Sequence[bytes]) -> Iterator[tuple[int, int]]:
    """Yield (offset, index of the needle); those in the overlap of two reads come twice."""
    overlap = max(map(len, needles)) - 1
    look = _Beginnings(needles).look if len(needles) > FEW_NEEDLES else _one_by_one(needles)
    kept, kept_at = b"", 0
    while read := file.read(READ_BYTES):
        window = kept + read
        for at, index in look(window):
            yield kept_at + at, index
        kept = window[-overlap:]
        kept_at += len(window) - len(kept)


def _one_by_one(needles: Sequence[bytes]) -> Callable[[bytes], Iterator[tuple[int, int]]]:
    def look(window: bytes) -> Iterator[tuple[int, int]]:
        for index, needle in enumerate(needles):
            at = window.find(needle)
            while at >= 0:
                yield at, index
                at = window.find(needle, at + 1)

    return look


class _Beginnings:
    """Looks for many needles at once, by how they begin: two bytes in a table, then four in a sorted list."""

    def __init__(self, needles: Sequence[bytes]) -> None:
        self._by_beginning: dict[int, list[tuple[int, bytes]]] = {}
        for index, needle in enumerate(needles):
            beginning = int.from_bytes(needle[:_BEGINNING_BYTES], "little")
            self._by_beginning.setdefault(beginning, []).append((index, needle))
        self._beginnings = np.array(sorted(self._by_beginning), np.uint32)
        self._two = np.zeros(2**16, np.bool_)
        self._two[self._beginnings & 0xFFFF] = True

    def look(self, window: bytes) -> Iterator[tuple[int, int]]:
        """Yield (offset, index) in order of the offset."""
        octets = np.frombuffer(window, np.uint8)
        if len(octets) < _BEGINNING_BYTES:
            return
        pairs = octets[:-1] | octets[1:].astype(np.uint16) << 8
        places = np.flatnonzero(self._two[pairs[:-2]])
        fours = pairs[places] | pairs[places + 2].astype(np.uint32) << 16
        at = np.minimum(np.searchsorted(self._beginnings, fours), len(self._beginnings) - 1)
        for place in places[self._beginnings[at] == fours].tolist():
            beginning = int.from_bytes(window[place : place + _BEGINNING_BYTES], "little")
            for index, needle in self._by_beginning[beginning]:
                if window.startswith(needle, place):
                    yield place, index
