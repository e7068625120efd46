"""Coded symbols of a set: from enough of them, two holders of nearly equal sets learn exactly where theirs differ.

A rateless invertible Bloom lookup table (Yang, Gilad and Alizadeh 2024, arXiv 2402.02668), keyed a session, with
symbols of six bytes and no counts: which side an item is on, the decoder sees from its own set. A symbol (a *cell*) is
the XOR of ``item << 16 | check`` over the items that map to it. docs/sync-repair-v1.md has every bit of it.

It deliberately chooses no number of symbols (``repair``), knows no row, and proves nothing: two rows may share an item
(one in 2**32 pairs), and then a difference goes unseen in this session. The digests have the last word.

Invariants:
    1. The same session, shares and number give the same bytes on every machine: integers modulo 2**64, and doubles
       only through operations that IEEE 754 rounds correctly (square root, division, product, difference, ceiling).
    2. The first n symbols of m > n symbols are the n symbols: more can always be asked for.
    3. Whatever the symbols are, decoding ends after at most ``MAX_ROUNDS`` rounds and as many items as there are
       symbols, holds no more than a small multiple of the set and the symbols, and answers "not decoded" or a list.
    4. Only symbols of a wrong length, or too many, raise: ``ProtocolError``.
    5. Equal items of one set cancel in pairs; they are never reported wrongly because of it, at most left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from einthoven_protocol import limits
from einthoven_protocol.errors import DecodeError, LimitExceeded
from einthoven_protocol.siphash import siphash24

SYMBOL_BYTES: Final = 6
"""Of one coded symbol: 4 of the sum of items, 2 of the sum of checks."""
ITEM_BITS: Final = 8 * limits.ITEM_BYTES
CHECK_BITS: Final = 8 * SYMBOL_BYTES - ITEM_BITS
MAX_SYMBOLS: Final = limits.MAX_SYMBOLS_BYTES // SYMBOL_BYTES
MAX_ROUNDS: Final = 200
"""Of peeling. Where symbols barely sufficed it took 80 (docs/adr/0019)."""

_CHECK_LABEL: Final = np.frombuffer(b"check\0\0\0", np.uint8)
_ITEM_MASK: Final = np.uint64((1 << ITEM_BITS) - 1)
_CHECK_MASK: Final = np.uint64((1 << CHECK_BITS) - 1)
_SHIFT: Final = np.uint64(CHECK_BITS)
_GOLDEN: Final = 0x9E3779B97F4A7C15  # splitmix64 (Steele, Lea and Flood 2014)
_CHUNK: Final = 8_192
"""Items mapped together: their state stays in a core's own cache."""

Items = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Decoded:
    """Where two sets differ.

    Attributes:
        own_only: int64 [k], places in the decoder's own items that only it holds, ascending.
        foreign: uint64 [j], items that only the other side holds, ascending.
    """

    own_only: NDArray[np.int64]
    foreign: Items


def items(session: bytes, shares: NDArray[np.uint8]) -> Items:
    """Return the item that stands for each share in this session.

    Args:
        session: Key, 16 bytes.
        shares: uint8 [n, 16], big-endian.

    Returns:
        uint64 [n], each below 2**32.

    Raises:
        ValueError: The session is not 16 bytes long, or the shares are no such array.
    """
    if shares.ndim != 2 or shares.shape[1] != limits.SUM_BYTES:
        raise ValueError(f"shares are uint8 [n, {limits.SUM_BYTES}]")
    return siphash24(session, shares) & _ITEM_MASK


def encode(session: bytes, own_items: Items, n_symbols: int) -> bytes:
    """Return the first ``n_symbols`` coded symbols of a set.

    Args:
        session: Key, 16 bytes.
        own_items: What ``items`` gave.
        n_symbols: 0 to ``MAX_SYMBOLS``.

    Raises:
        ValueError: The number or the session is out of range.
    """
    if not 0 <= n_symbols <= MAX_SYMBOLS:
        raise ValueError(f"a set has 0 to {MAX_SYMBOLS} symbols")
    octets = _cells(session, own_items, n_symbols).astype(">u8").view(np.uint8).reshape(-1, 8)
    return octets[:, -SYMBOL_BYTES:].tobytes()


def decode(session: bytes, own_items: Items, symbols: bytes) -> Decoded | None:
    """Find where the own set and the one that was encoded differ.

    Args:
        session: Key, 16 bytes.
        own_items: What ``items`` gave for the own set.
        symbols: What ``encode`` gave for the other, or anything.

    Returns:
        The differences, or ``None`` if the symbols do not suffice (or are not what they should be).

    Raises:
        DecodeError: They are no whole number of symbols.
        LimitExceeded: They are more than ``MAX_SYMBOLS``.
        ValueError: The session is not 16 bytes long.
    """
    n_symbols, rest = divmod(len(symbols), SYMBOL_BYTES)
    if rest:
        raise DecodeError(f"coded symbols are {SYMBOL_BYTES} bytes each")
    if n_symbols > MAX_SYMBOLS:
        raise LimitExceeded(f"more than {MAX_SYMBOLS} coded symbols")
    if not n_symbols:
        return None
    octets = np.zeros((n_symbols, 8), np.uint8)
    octets[:, -SYMBOL_BYTES:] = np.frombuffer(symbols, np.uint8).reshape(n_symbols, SYMBOL_BYTES)
    cells = octets.view(">u8").reshape(n_symbols).astype(np.uint64)
    found = _peel(session, cells ^ _cells(session, own_items, n_symbols))
    if found is None:
        return None
    own = np.isin(own_items, found)
    return Decoded(np.flatnonzero(own).astype(np.int64), np.setdiff1d(found, own_items[own]))


def _cells(session: bytes, own_items: Items, n_symbols: int) -> NDArray[np.uint64]:
    cells = np.zeros(n_symbols, np.uint64)
    if n_symbols:
        _toggle(cells, own_items, _tagged(session, own_items))
    return cells


def _tagged(session: bytes, some: Items) -> NDArray[np.uint64]:
    """Return ``item << 16 | check`` of each item."""
    messages = np.empty((len(some), 16), np.uint8)
    messages[:, :8] = some.astype(">u8").view(np.uint8).reshape(-1, 8)
    messages[:, 8:] = _CHECK_LABEL
    return some << _SHIFT | siphash24(session, messages) & _CHECK_MASK


def _toggle(cells: NDArray[np.uint64], some: Items, tagged: NDArray[np.uint64]) -> None:
    """XOR each item into all its cells, or out of them."""
    for start in range(0, len(some), _CHUNK):
        part = tagged[start : start + _CHUNK]
        for places, at in _mapping(some[start : start + _CHUNK], len(cells)):
            # MAX_SYMBOLS is below 2**16: two passes of a radix sort, then one XOR a run of equal places.
            order = np.argsort(places.astype(np.uint16), kind="stable")
            ordered = places[order]
            starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
            cells[ordered[starts]] ^= np.bitwise_xor.reduceat(part[at[order]], starts)


def _mapping(some: Items, n_symbols: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield the cells of each item, one cell an item at a time.

    Every item is in cell 0; from cell i it leaps to i + max(1, ceil((i + 1.5) * (1 / sqrt(u) - 1))), with u in (0, 1]
    from its own stream. So cell i holds it with probability about 1 / (1 + i / 2) (section 4.2 of the paper).

    Yields:
        Cells below ``n_symbols``, int64 [k], and the places in ``some`` of their items, int64 [k].
    """
    at = np.arange(len(some))
    places = np.zeros(len(some), np.int64)
    state = some.astype(np.uint64)
    while len(at):
        yield places, at
        state += np.uint64(_GOLDEN)
        uniform = ((_mixed(state) >> np.uint64(11)) + np.uint64(1)).astype(np.float64) * 2.0**-53
        leap = np.ceil((places + 1.5) * (1.0 / np.sqrt(uniform) - 1.0))
        places = places + np.maximum(leap, 1.0).astype(np.int64)
        inside = places < n_symbols
        at, places, state = at[inside], places[inside], state[inside]


def _mixed(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the outputs of splitmix64 in these states."""
    word = (state ^ state >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ word >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return word ^ word >> np.uint64(31)


def _peel(session: bytes, cells: NDArray[np.uint64]) -> Items | None:
    """Take item after item out of the cells that hold just one; ``None`` if something is left, or makes no sense."""
    found = np.empty(0, np.uint64)
    touched = np.arange(len(cells))
    for _ in range(MAX_ROUNDS):
        if not cells.any():
            return np.sort(found)
        pure = _pure(session, cells, touched)
        # An item that comes back, and more items than cells, are no work of an encoder.
        if not len(pure) or len(found) + len(pure) > len(cells) or np.isin(pure, found).any():
            return None
        found = np.concatenate((found, pure))
        before = cells.copy()
        _toggle(cells, pure, _tagged(session, pure))
        touched = np.flatnonzero(cells != before)
    return None


def _pure(session: bytes, cells: NDArray[np.uint64], touched: NDArray[np.int64]) -> Items:
    """Return the items that stand alone in one of the touched cells, each once.

    The check must be right, and the item must map to that very cell: together about 2**-16 / (1 + i / 2) for chance.
    """
    touched = touched[cells[touched] != 0]
    sums = cells[touched]
    alone = _tagged(session, sums >> _SHIFT) == sums
    touched, candidates = touched[alone], sums[alone] >> _SHIFT
    maps = np.zeros(len(candidates), np.bool_)
    for places, at in _mapping(candidates, len(cells)):
        maps[at] |= places == touched[at]
    return np.unique(candidates[maps])
