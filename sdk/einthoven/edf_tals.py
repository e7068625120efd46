"""Time-stamped annotations lists (TALs) of EDF+: their bytes, and which data record holds which. Pure.

By Kemp B, Olivan J, EDF+, Clin Neurophysiol 2003;114:1755-1761, 2.2.2-2.2.4: onset, optional duration, texts, each
ended by a byte of its own; the first TAL of every data record says when the record began.

It deliberately says nothing of what is annotated (``store_export``).

Invariants:
    1. A TAL lies whole in one data record: that of its onset, or a later one where that is full.
    2. No text of a caller can end a TAL early: control characters become blanks.
    3. Every TAL finds a place: where there are many, all data records reserve more bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

ONSET_DECIMALS: Final = 6
"""Decimals of an onset in seconds: a thousandth of a sample at 1000 Hz."""
MAX_TEXT_BYTES: Final = 200
"""UTF-8 bytes of one TAL's text; a longer text goes on in a further TAL of the same onset."""
_GROWTH: Final = Fraction(5, 4)
_CONTROLS: Final = dict.fromkeys([*range(32), 127], " ")
_END_OF_ONSET: Final = b"\x14"
_DURATION: Final = b"\x15"
_END_OF_TAL: Final = b"\x14\x00"


@dataclass(frozen=True, slots=True)
class Tal:
    """One annotation.

    Attributes:
        onset_us: Microseconds since the second that the file's header names.
        text: What is said of that moment.
        duration_us: How long it lasts, microseconds; ``None`` for a moment.
    """

    onset_us: int
    text: str
    duration_us: int | None = None


@dataclass(frozen=True, slots=True)
class TalPlaces:
    """Where TALs go.

    Attributes:
        n_bytes: Bytes that each data record reserves for them.
        records: Number of the data record for each TAL, not descending.
    """

    n_bytes: int
    records: tuple[int, ...]


def record_tal(onset_us: int) -> bytes:
    """The TAL that says when a data record began, microseconds since the second that the header names."""
    return _seconds(onset_us, sign="+") + _END_OF_ONSET + _END_OF_TAL


def record_tal_bytes(onsets_us: NDArray[np.int64]) -> int:
    """Bytes in which the TALs of all data records fit; onsets int64 [records], ascending from 0 or more."""
    decimals = next(n for n in range(ONSET_DECIMALS + 1) if not (onsets_us % 10 ** (ONSET_DECIMALS - n)).any())
    return len("+") + len(str(int(onsets_us[-1]) // 10**ONSET_DECIMALS)) + len(".") * bool(decimals) + decimals + 3


def tal_bytes(tal: Tal) -> list[bytes]:
    """The bytes of an annotation: one TAL, or several where its text is long."""
    head = _seconds(tal.onset_us, sign="+")
    if tal.duration_us is not None:
        head += _DURATION + _seconds(tal.duration_us)
    return [head + _END_OF_ONSET + part + _END_OF_TAL for part in _parts(tal.text.translate(_CONTROLS))]


def place_tals(
    sizes: Sequence[int], targets: Sequence[int], *, n_records: int, head_bytes: int, multiple: int
) -> TalPlaces:
    """Find the least room, within a quarter, in which all TALs fit, and a place for each.

    Args:
        sizes: Bytes of each TAL, in order of onset.
        targets: Number of the data record that each one's onset lies in, not descending, below ``n_records``.
        n_records: Data records, at least 1.
        head_bytes: Most bytes that a record's first TAL takes.
        multiple: Bytes of a sample: the room is a multiple of it.
    """
    room = max([16, *sizes])
    while (records := _places(sizes, targets, n_records, room)) is None:
        room = int(room * _GROWTH) + 1
    n_bytes = head_bytes + (room if sizes else 0)
    return TalPlaces(-(-n_bytes // multiple) * multiple, records)


def _places(sizes: Sequence[int], targets: Sequence[int], n_records: int, room: int) -> tuple[int, ...] | None:
    """Each TAL's data record with so many bytes in each, or ``None`` where the last one overflows."""
    records, at, used = [], 0, 0
    for size, target in zip(sizes, targets, strict=True):
        if target > at:
            at, used = target, 0
        if used + size > room:
            at, used = at + 1, 0
        if at >= n_records:
            return None
        used += size
        records.append(at)
    return tuple(records)


def _seconds(us: int, sign: str = "") -> bytes:
    whole, rest = divmod(abs(us), 10**ONSET_DECIMALS)
    text = f"{whole}.{rest:0{ONSET_DECIMALS}d}".rstrip("0").rstrip(".")
    return f"{'-' if us < 0 else sign}{text}".encode("ascii")


def _parts(text: str) -> list[bytes]:
    """A text in pieces of at most ``MAX_TEXT_BYTES``, none of which ends within a character."""
    encoded = text.encode("utf-8", errors="replace")
    if len(encoded) <= MAX_TEXT_BYTES:
        return [encoded]
    parts, part = [], b""
    for character in text:
        encoded = character.encode("utf-8", errors="replace")
        if len(part) + len(encoded) > MAX_TEXT_BYTES:
            parts.append(part)
            part = b""
        part += encoded
    return [*parts, part]
