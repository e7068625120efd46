"""Merkle tree hashes and audit paths of RFC 9162 section 2.1, and the message a device signs over two of them.

It deliberately signs nothing and checks no signature: ``seal_message`` gives the bytes, the key stays with its holder.

Invariants:
    1. Leaves and nodes are hashed with different prefixes (0x00, 0x01), so neither can be passed off as the other.
    2. ``verify_path(leaf, i, n, audit_path(leaves, i), tree_hash(leaves))`` is true for every i < n = len(leaves).
    3. Verification looks at no more than 64 path elements.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Sequence
from typing import Final

from einthoven_protocol import limits
from einthoven_protocol.canonical import encode_result_row, require_length, require_range
from einthoven_protocol.messages import IdentifiedResult

SEAL_LABEL: Final = b"einthoven seal 1\0"
"""Domain separation: no other message that a device signs begins like this."""
GIVEN_LABEL: Final = b"einthoven given 1\0"
"""The same for results that a device gives back in a repair."""
_SEALED_RUN: Final = struct.Struct(">IIII")
_GIVEN: Final = struct.Struct(">II")
_MAX_PATH: Final = 64


_LEAF: Final = hashlib.sha256(b"\x00")
_NODE: Final = hashlib.sha256(b"\x01")


def _leaf_hash(leaf: bytes) -> bytes:
    hashed = _LEAF.copy()  # cheaper than a new one
    hashed.update(leaf)
    return hashed.digest()


def _node_hash(left: bytes, right: bytes) -> bytes:
    hashed = _NODE.copy()
    hashed.update(left + right)
    return hashed.digest()


def _hashes(begun: hashlib._Hash, contents: Sequence[bytes]) -> list[bytes]:
    """The hash of each, by the ten thousand: no call of our own for one."""
    copy = begun.copy
    hashes: list[bytes] = []
    append = hashes.append
    for content in contents:
        hashed = copy()
        hashed.update(content)
        append(hashed.digest())
    return hashes


def _parents(level: list[bytes]) -> list[bytes]:
    """Hash neighbours together; a last one without a neighbour moves up as it is.

    This gives the RFC's tree, whose left part holds the largest power of two of the leaves, without recursion.
    """
    parents = _hashes(_NODE, [left + right for left, right in zip(level[::2], level[1::2], strict=False)])
    if len(level) % 2:
        parents.append(level[-1])
    return parents


def tree_hash(leaves: Sequence[bytes]) -> bytes:
    """Return the Merkle tree hash (RFC 9162 section 2.1.1), 32 bytes; of no leaves it is SHA-256 of nothing."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    level = _hashes(_LEAF, leaves)
    while len(level) > 1:
        level = _parents(level)
    return level[0]


def audit_path(leaves: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """Return the inclusion proof of leaf ``index`` (RFC 9162 section 2.1.3.1), from the leaf's level upwards.

    Raises:
        IndexError: There is no such leaf.
    """
    if not 0 <= index < len(leaves):
        raise IndexError("there is no leaf at that index")
    level = _hashes(_LEAF, leaves)
    path = []
    while len(level) > 1:
        sibling = index ^ 1
        if sibling < len(level):
            path.append(level[sibling])
        level = _parents(level)
        index //= 2
    return tuple(path)


def verify_path(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> bool:
    """Tell whether ``path`` proves that ``leaf`` is leaf ``index`` of the ``size`` leaves under ``root``.

    Follows RFC 9162 section 2.1.3.2.

    Args:
        leaf: The leaf's bytes, not their hash.
        index: Its position, from 0.
        size: Number of leaves.
        path: What ``audit_path`` gave.
        root: What ``tree_hash`` gave.
    """
    if not 0 <= index < size or len(path) > _MAX_PATH:
        return False
    node, last = index, size - 1
    current = _leaf_hash(leaf)
    for sibling in path:
        if last == 0:
            return False
        if node % 2 or node == last:
            current = _node_hash(sibling, current)
            while node % 2 == 0 and node:
                node //= 2
                last //= 2
        else:
            current = _node_hash(current, sibling)
        node //= 2
        last //= 2
    return last == 0 and hmac.compare_digest(current, root)


def seal_message(
    device_alias: int, epoch: int, first: int, last: int, results_root: bytes, segments_root: bytes
) -> bytes:
    """Return the bytes that a device signs over a run of its results.

    Args:
        device_alias: The device.
        epoch: Epoch of the run.
        first: First counter.
        last: Last counter, inclusive.
        results_root: ``tree_hash`` over the canonical bytes of the rows, 32 bytes.
        segments_root: ``tree_hash`` over their segment digests, 32 bytes.

    Raises:
        OutOfRange: A value is outside its range.
    """
    require_range("device_alias", device_alias, 0, limits.MAX_DEVICE_ALIAS)
    require_range("epoch", epoch, 1, limits.MAX_EPOCH)
    require_range("first counter", first, 1, limits.MAX_COUNTER)
    require_range("last counter", last, first, limits.MAX_COUNTER)
    require_length("results_root", results_root, limits.DIGEST_BYTES)
    require_length("segments_root", segments_root, limits.DIGEST_BYTES)
    return SEAL_LABEL + _SEALED_RUN.pack(device_alias, epoch, first, last) + results_root + segments_root


def given_message(device_alias: int, given: Sequence[IdentifiedResult], segments_root: bytes) -> bytes:
    """Return the bytes that a device signs over results it gives back, of any epochs.

    Args:
        device_alias: The device.
        given: Its results, in the order in which they are sent; each leaf is device alias, epoch and canonical row.
        segments_root: ``tree_hash`` over their segment digests, 32 bytes.

    Raises:
        OutOfRange: A value is outside its range.
    """
    require_range("device_alias", device_alias, 0, limits.MAX_DEVICE_ALIAS)
    require_length("segments_root", segments_root, limits.DIGEST_BYTES)
    leaves = []
    for result in given:
        require_range("device_alias", result.device_alias, 0, limits.MAX_DEVICE_ALIAS)
        require_range("epoch", result.epoch, 1, limits.MAX_EPOCH)
        leaves.append(_GIVEN.pack(result.device_alias, result.epoch) + encode_result_row(result.row))
    return GIVEN_LABEL + _GIVEN.pack(device_alias, len(leaves)) + tree_hash(leaves) + segments_root
