"""One proof for many leaves of a tree of RFC 9162: the hashes of all subtrees that hold none of them.

An audit path (``merkle.audit_path``) proves one leaf. Neighbours share most of their paths, so a run of seventy leaves
in a tree of ten thousand is proven by some twenty hashes instead of a thousand, and all leaves together by none. For
one leaf it has the hashes of its audit path, ordered from left to right.

It deliberately signs nothing, and leaves what a leaf means to its caller.

Invariants:
    1. ``root_of_subset(n, {i: leaves[i] ...}, subset_proof(leaves, positions))`` is ``merkle.tree_hash(leaves)`` for
       every n and every subset that is not empty.
    2. How many hashes a proof has follows from the size and the positions alone (``proof_hashes``); never more than
       ``len(positions)`` audit paths, and never more than the leaves left out.
    3. Work is in proportion to positions times the logarithm of the size, whatever size is claimed.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from einthoven_protocol.errors import DecodeError

HASH_BYTES = 32
"""Bytes of one hash of a proof, SHA-256."""


def subset_proof(leaves: Sequence[bytes], positions: Sequence[int]) -> tuple[bytes, ...]:
    """Return the hashes that prove the leaves at ``positions``, from left to right.

    Args:
        leaves: All leaves of the tree.
        positions: Which are to be proven, ascending, at least one.

    Raises:
        IndexError: There is no leaf at one of them, or they do not ascend.
    """
    return SubsetProver(leaves).prove(positions)


class SubsetProver:
    """A tree that is hashed once, for several proofs.

    Args:
        leaves: All leaves of the tree.
    """

    def __init__(self, leaves: Sequence[bytes]) -> None:
        self._size = len(leaves)
        self._levels = [[_leaf_hash(leaf) for leaf in leaves]]
        while len(self._levels[-1]) > 1:
            below = self._levels[-1]
            level = [_node_hash(below[i], below[i + 1]) for i in range(0, len(below) - 1, 2)]
            # A last one without a neighbour moves up as it is: the tree of RFC 9162 section 2.1.1.
            self._levels.append(level + below[len(level) * 2 :])

    @property
    def root(self) -> bytes:
        """``merkle.tree_hash`` of the leaves, 32 bytes; there must be one."""
        return self._levels[-1][0]

    def prove(self, positions: Sequence[int]) -> tuple[bytes, ...]:
        """See ``subset_proof``."""
        _require_positions(positions, self._size)
        return tuple(
            # A subtree begins at a multiple of its size rounded up to a power of two.
            self._levels[(end - begin - 1).bit_length()][begin >> (end - begin - 1).bit_length()]
            for begin, end in _left_out(0, self._size, positions)
        )


def proof_hashes(size: int, positions: Sequence[int]) -> int:
    """Return how many hashes prove the leaves at ``positions`` of a tree of ``size``.

    Raises:
        IndexError: See ``subset_proof``.
    """
    _require_positions(positions, size)
    return sum(1 for _ in _left_out(0, size, positions))


def root_of_subset(size: int, known: Mapping[int, bytes], proof: Sequence[bytes]) -> bytes:
    """Return the root that the known leaves and a proof give; the caller compares it.

    Args:
        size: Leaves of the tree.
        known: The leaves by position, at least one.
        proof: What ``subset_proof`` gave.

    Raises:
        DecodeError: The proof has not as many hashes as it needs, or a position is outside the tree.
    """
    positions = sorted(known)
    try:
        needed = proof_hashes(size, positions)
    except IndexError as problem:
        raise DecodeError("a proof speaks of leaves that its tree does not have") from problem
    if len(proof) != needed:
        raise DecodeError("a proof has not as many hashes as it needs")
    return _root(0, size, positions, known, iter(proof))


def _root(begin: int, end: int, positions: Sequence[int], known: Mapping[int, bytes], proof: Iterator[bytes]) -> bytes:
    if not _any_within(begin, end, positions):
        return next(proof)
    if end - begin == 1:
        return _leaf_hash(known[begin])
    middle = begin + _left_size(end - begin)
    left = _root(begin, middle, positions, known, proof)
    return _node_hash(left, _root(middle, end, positions, known, proof))


def _left_out(begin: int, end: int, positions: Sequence[int]) -> Iterator[tuple[int, int]]:
    """The largest subtrees without any of the positions, from left to right."""
    if not _any_within(begin, end, positions):
        yield begin, end
    elif end - begin > 1:
        middle = begin + _left_size(end - begin)
        yield from _left_out(begin, middle, positions)
        yield from _left_out(middle, end, positions)


def _any_within(begin: int, end: int, positions: Sequence[int]) -> bool:
    at = bisect_left(positions, begin)
    return at < len(positions) and positions[at] < end


def _left_size(size: int) -> int:
    """The largest power of two smaller than ``size``."""
    return 1 << ((size - 1).bit_length() - 1)


def _require_positions(positions: Sequence[int], size: int) -> None:
    if not positions or positions[0] < 0 or positions[-1] >= size or any(a >= b for a, b in pairwise(positions)):
        raise IndexError("positions are none, outside the tree, or do not ascend")


def _leaf_hash(leaf: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + leaf).digest()


def _node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()
