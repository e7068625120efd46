"""Pages that lie in a write-ahead log, committed and not yet moved into the file. Pure over bytes.

SQLite reads a log up to the first frame whose checksum is wrong and drops the rest, which is right after a power cut:
what follows was never committed. After damage it is not: transactions that were acknowledged follow. Here a frame
is whole if its checksum follows from the frame before it, or if its page proves itself, and a wrong one spoils itself
alone. The last transaction is one that a power cut may have torn, so there only checksums count, as with SQLite: a page
of an earlier generation that lies under a new frame's header proves itself and was not written there.

Source: "WAL-mode File Format", sections 4.1 to 4.3, sqlite.org/walformat.html. SQLCipher encrypts a frame's page as it
does one of the file; checksums are over the ciphertext.

It deliberately knows no key: whether a page proves itself is asked of the caller.

Invariants:
    1. Frames of an earlier generation (other salts) never count.
    2. A transaction counts if the checksums of all its frames follow, or if a later one counts.
    3. Whatever the bytes, the only exception is ``DamagedPage``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from einthoven.sqlite_pages import ByteSource, DamagedPage

PAGE_BYTES: Final = 4_096
"""One page of SQLCipher 4."""
HEADER_BYTES: Final = 32
"""The log's header."""
FRAME_HEADER_BYTES: Final = 24
"""What stands before each page in the log."""

_FRAME_BYTES: Final = FRAME_HEADER_BYTES + PAGE_BYTES
_MAGIC: Final = 0x377F0682
"""Its last bit says that checksums are over big-endian words."""

_Sums = tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Frame:
    position: int
    page: int
    n_pages: int
    sums: _Sums
    computed: _Sums
    follows: bool
    whole: bool


class LoggedPages:
    """The committed pages of one log.

    Attributes:
        n_pages: Pages of the database after the last commit; 0 if nothing was committed.
        n_frames: Frames of this generation, committed or not.
        damaged: Pages whose last version in the log is not whole, in order of number.
        header_whole: Whether the log's own header is; without it, SQLite drops the whole log.
        read_whole: Whether SQLite reads all that counts here; else it drops commits once the log's index is lost.
        ends_whole: Whether no frame is wrong: what follows the last commit, if anything, is one that was cut off.
    """

    def __init__(self, log: ByteSource, proves: Callable[[int, bytes], bool]) -> None:
        """Read the log once, frame by frame.

        Args:
            log: The log's bytes.
            proves: Whether stored bytes are what was written as this page.
        """
        self._log = log
        self._places: dict[int, int | None] = {}
        self.n_pages = 0
        self.header_whole, frames = _read_frames(log, proves)
        self.n_frames = len(frames)
        self.ends_whole = self.header_whole and all(frame.whole for frame in frames)
        committed = frames[: _committed(frames)]
        self.read_whole = not committed or (self.header_whole and all(frame.follows for frame in committed))
        for frame in committed:
            if frame.page:
                self._places[frame.page] = frame.position + FRAME_HEADER_BYTES if frame.whole else None
            self.n_pages = frame.n_pages or self.n_pages
        self.damaged = tuple(sorted(number for number, place in self._places.items() if place is None))

    def __contains__(self, number: int) -> bool:
        return number in self._places

    def stored(self, number: int) -> bytes | None:
        """A page's last committed version; ``None`` if the log holds none.

        Raises:
            DamagedPage: It is not whole.
        """
        if number not in self._places:
            return None
        place = self._places[number]
        if place is None:
            raise DamagedPage(number, "is not what was written to the log")
        return self._log.read_at(place, PAGE_BYTES)


def _read_frames(log: ByteSource, proves: Callable[[int, bytes], bool]) -> tuple[bool, list[_Frame]]:
    """Whether the header is whole, and the frames of its generation."""
    header = log.read_at(0, HEADER_BYTES)
    if len(header) != HEADER_BYTES:
        return not header, []
    magic, _, _, _, *salts, sum_1, sum_2 = struct.unpack(">8I", header)
    order = ">" if magic & 1 else "<"
    sums = _summed(header[:24], (0, 0), order)
    header_whole = magic & ~1 == _MAGIC and sums == (sum_1, sum_2)
    positions = range(HEADER_BYTES, log.n_bytes - _FRAME_BYTES + 1, _FRAME_BYTES)
    if not header_whole and positions:
        # A generation shares its salts, so its first frame says which they were.
        salts = list(struct.unpack(">2I", log.read_at(HEADER_BYTES + 8, 8).ljust(8, b"\0")))
        order = "<"
    last = max((at for at in positions if log.read_at(at + 8, 8) == struct.pack(">2I", *salts)), default=-1)
    frames: list[_Frame] = []
    befores = (sums, (sum_1, sum_2))
    for position in positions:
        if position > last:
            break
        # What can't be read is a frame of no page.
        stored = log.read_at(position, _FRAME_BYTES).ljust(_FRAME_BYTES, b"\0")
        frame = _frame(position, stored, befores, salts, order, proves)
        # Where only the checksum was hit, the next frame follows from what it should have been.
        befores = (frame.sums, frame.computed)
        frames.append(frame)
    return header_whole, frames


def _frame(
    position: int,
    stored: bytes,
    befores: tuple[_Sums, _Sums],
    salts: list[int],
    order: str,
    proves: Callable[[int, bytes], bool],
) -> _Frame:
    page, n_pages, *found_salts, sum_1, sum_2 = struct.unpack_from(">6I", stored)
    content = stored[FRAME_HEADER_BYTES:]
    summed = stored[:8] + content
    computed = _summed(summed, befores[0], order)
    follows = computed == (sum_1, sum_2)
    if not follows and befores[1] != befores[0]:
        follows = _summed(summed, befores[1], order) == (sum_1, sum_2)
    follows = follows and found_salts == salts
    return _Frame(position, page, n_pages, (sum_1, sum_2), computed, follows, follows or proves(page, content))


def _committed(frames: list[_Frame]) -> int:
    """How many frames, from the first, were committed."""
    committed, follow = 0, True
    for count, frame in enumerate(frames, 1):
        follow = follow and frame.follows
        if frame.n_pages:
            committed = count if follow else committed
            follow = True
    return committed


def _summed(content: bytes, sums: _Sums, order: str) -> _Sums:
    """The log's checksum, carried on (section 4.2)."""
    words = struct.unpack(f"{order}{len(content) // 4}I", content)
    sum_1, sum_2 = sums
    for even, odd in zip(words[::2], words[1::2], strict=True):
        sum_1 = (sum_1 + even + sum_2) & 0xFFFFFFFF
        sum_2 = (sum_2 + odd + sum_1) & 0xFFFFFFFF
    return sum_1, sum_2
