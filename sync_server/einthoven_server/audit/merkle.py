"""The tree over the audit log (RFC 9162 section 2.1), grown entry by entry. Pure.

It deliberately keeps no leaves: what is needed of the past is a frontier of at most 64 hashes; what a proof needs of
inner nodes is asked for by name. ``einthoven_protocol.merkle`` has the same tree over leaves that are all at hand.

Invariants:
    1. ``Frontier.root()`` after n leaves is the RFC's MTH of them; of none it is SHA-256 of nothing.
    2. Leaves and nodes are hashed with different prefixes (0x00, 0x01).
    3. ``verify_inclusion`` and ``verify_consistency`` follow 2.1.3.2 and 2.1.4.2, look at no more than 64 hashes of a
       path, 128 of two, and take nothing but what the honest prover gives.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

HASH_BYTES: Final = 32
EMPTY_ROOT: Final = hashlib.sha256(b"").digest()
_PATH_MAX: Final = 64


class Node(NamedTuple):
    """A subtree of ``2 ** level`` leaves that is complete.

    Attributes:
        level: 0 for a leaf.
        position: Among those of its level, from 0.
    """

    level: int
    position: int


class Span(NamedTuple):
    """The leaves ``begin`` to ``end - 1``, which are a subtree of the RFC's tree."""

    begin: int
    end: int


def leaf_hash(leaf: bytes) -> bytes:
    """The hash of a leaf's bytes, 32 bytes."""
    return hashlib.sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of two subtrees, 32 bytes."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Frontier:
    """The right edge of a tree: the roots of its largest complete subtrees, from left to right.

    Args:
        size: Leaves so far.
        hashes: Their subtrees' roots, as ``to_bytes`` gave them.

    Raises:
        ValueError: Not as many hashes as a tree of that size has.
    """

    __slots__ = ("_hashes", "size")

    def __init__(self, size: int = 0, hashes: bytes = b"") -> None:
        if len(hashes) != HASH_BYTES * size.bit_count():
            raise ValueError("a frontier has another number of hashes than its size says")
        self.size = size
        self._hashes = [hashes[at : at + HASH_BYTES] for at in range(0, len(hashes), HASH_BYTES)]

    def append(self, leaf: bytes, completed: Callable[[int, int, bytes], None] | None = None) -> None:
        """Add a leaf.

        Args:
            leaf: Its hash.
            completed: Told level, position and hash of each subtree above it that the leaf completes.
        """
        hashes, merged, level = self._hashes, leaf, 0
        size = self.size
        while size & 1:
            merged = hashlib.sha256(b"\x01" + hashes.pop() + merged).digest()
            size >>= 1
            level += 1
            if completed is not None:
                completed(level, size, merged)
        hashes.append(merged)
        self.size += 1

    def root(self) -> bytes:
        """The tree's hash, 32 bytes."""
        if not self._hashes:
            return EMPTY_ROOT
        root = self._hashes[-1]
        for left in reversed(self._hashes[:-1]):
            root = node_hash(left, root)
        return root

    def to_bytes(self) -> bytes:
        """Its hashes, one after the other."""
        return b"".join(self._hashes)


def inclusion_spans(index: int, size: int) -> list[Span]:
    """Which subtrees' hashes prove leaf ``index`` of ``size``, from the leaf upwards (RFC 9162 section 2.1.3.1).

    Raises:
        IndexError: There is no such leaf.
    """
    if not 0 <= index < size:
        raise IndexError("there is no leaf at that index")
    spans, begin, end = [], 0, size
    while end - begin > 1:
        middle = begin + _left_size(end - begin)
        if index < middle:
            spans.append(Span(middle, end))
            end = middle
        else:
            spans.append(Span(begin, middle))
            begin = middle
    return spans[::-1]


def consistency_spans(first: int, second: int) -> list[Span]:
    """Which subtrees' hashes prove that a tree of ``second`` leaves grew from its first ``first`` (2.1.4.1).

    Raises:
        IndexError: Not 0 < first <= second.
    """
    if not 0 < first <= second:
        raise IndexError("only a tree that has leaves, and no more than the other, can be what the other grew from")
    spans, begin, end, old, whole = [], 0, second, first, True
    while old != end - begin:
        split = _left_size(end - begin)
        middle = begin + split
        if old <= split:
            spans.append(Span(middle, end))
            end = middle
        else:
            spans.append(Span(begin, middle))
            begin, old, whole = middle, old - split, False
    if not whole:
        spans.append(Span(begin, end))
    return spans[::-1]


def nodes_of(span: Span) -> list[Node]:
    """The complete subtrees that a span is made of, from left to right."""
    nodes, at, size = [], span.begin, span.end - span.begin
    for level in reversed(range(size.bit_length())):
        if size >> level & 1:
            nodes.append(Node(level, at >> level))
            at += 1 << level
    return nodes


def fold(hashes: Sequence[bytes]) -> bytes:
    """The hash of a span from those of its ``nodes_of``."""
    root = hashes[-1]
    for left in reversed(hashes[:-1]):
        root = node_hash(left, root)
    return root


def verify_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> bool:
    """Whether ``path`` proves that the leaf with this hash is leaf ``index`` of the ``size`` under ``root``."""
    if not 0 <= index < size or len(path) > _PATH_MAX:
        return False
    node, last, current = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            return False
        if node & 1 or node == last:
            current = node_hash(sibling, current)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            current = node_hash(current, sibling)
        node, last = node >> 1, last >> 1
    return last == 0 and hmac.compare_digest(current, root)


def verify_consistency(first: int, second: int, first_root: bytes, second_root: bytes, path: Sequence[bytes]) -> bool:
    """Whether ``path`` proves that the tree under ``second_root`` grew from the one under ``first_root``."""
    if first == second:
        return first > 0 and not path and hmac.compare_digest(first_root, second_root)
    if not 0 < first < second or not path or len(path) > 2 * _PATH_MAX:
        return False
    rest: Iterator[bytes] = iter(path)
    # A first tree that is one complete subtree is its own first hash, which the proof leaves out.
    old = new = first_root if first & (first - 1) == 0 else next(rest)
    node, last = first - 1, second - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    for sibling in rest:
        if last == 0:
            return False
        if node & 1 or node == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            new = node_hash(new, sibling)
        node, last = node >> 1, last >> 1
    return last == 0 and hmac.compare_digest(old, first_root) and hmac.compare_digest(new, second_root)


def _left_size(size: int) -> int:
    """The largest power of two smaller than ``size``."""
    return 1 << ((size - 1).bit_length() - 1)
