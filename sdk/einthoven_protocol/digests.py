"""Digest of a set of rows: how many, and the sum of a keyed hash of each, so that two stores can be compared.

It deliberately says only whether two sets are equal, not where they differ, and keeps no history.

Invariants:
    1. Order does not matter, and ``remove`` undoes ``add``: a digest is kept up to date in the transaction that changes
       a row.
    2. A row's share is BLAKE2b-128 under the device's sync key, personalised by kind: nobody without the key can build
       two sets that look equal, and a result can't stand in for an annotation.
    3. Equal sets give equal digests; unequal ones collide with probability 2**-128 for who does not hold the key.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np

from einthoven_protocol import limits
from einthoven_protocol.canonical import (
    encode_annotation_row,
    encode_note_row,
    encode_result_row,
    encode_superseded_row,
    require_range,
)
from einthoven_protocol.messages import AnnotationRow, Digest, NoteRow, ResultRow, Superseded

EMPTY: Final = Digest(0, 0)

_MODULUS: Final = 1 << (8 * limits.SUM_BYTES)
_RESULT_PERSON: Final = b"einthoven.result"
_ANNOTATION_PERSON: Final = b"einthoven.annot."
_NOTE_PERSON: Final = b"einthoven.note.."
_SUPERSEDED_PERSON: Final = b"einthoven.supers"
_OWNER: Final = struct.Struct(">II")


def result_sum(key: bytes, device_alias: int, epoch: int, row: ResultRow) -> int:
    """Return a result's share of a digest, 0 to 2**128 - 1.

    Args:
        key: The device's sync key, 32 bytes.
        device_alias: The device that made the row.
        epoch: The epoch it made it in.
        row: The row.

    Raises:
        OutOfRange: A value is outside its range.
        ValueError: The key is not 32 bytes long.
    """
    require_range("device_alias", device_alias, 0, limits.MAX_DEVICE_ALIAS)
    require_range("epoch", epoch, 1, limits.MAX_EPOCH)
    return _share(key, _RESULT_PERSON, _OWNER.pack(device_alias, epoch) + encode_result_row(row))


def result_sums(key: bytes, device_alias: int, epoch: int, octets: Sequence[bytes]) -> list[int]:
    """Return the shares of results of one device and epoch whose canonical bytes are at hand.

    Args:
        key: The device's sync key, 32 bytes.
        device_alias: The device that made the rows.
        epoch: The epoch it made them in.
        octets: ``canonical.encode_result_row`` of each.

    Raises:
        OutOfRange: A value is outside its range.
        ValueError: The key is not 32 bytes long.
    """
    return [int.from_bytes(share, "big") for share in _result_octet_sums(key, device_alias, epoch, octets)]


def _result_octet_sums(key: bytes, device_alias: int, epoch: int, octets: Sequence[bytes]) -> list[bytes]:
    require_range("device_alias", device_alias, 0, limits.MAX_DEVICE_ALIAS)
    require_range("epoch", epoch, 1, limits.MAX_EPOCH)
    begun = _keyed(key, _RESULT_PERSON)
    begun.update(_OWNER.pack(device_alias, epoch))
    copy = begun.copy
    shares: list[bytes] = []
    append = shares.append
    for row in octets:
        # A copy is cheaper than keying anew.
        keyed = copy()
        keyed.update(row)
        append(keyed.digest())
    return shares


def results_digest(key: bytes, device_alias: int, epoch: int, octets: Sequence[bytes]) -> Digest:
    """Return the digest of results of one device and epoch whose canonical bytes are at hand.

    Args:
        key: The device's sync key, 32 bytes.
        device_alias: The device that made the rows.
        epoch: The epoch it made them in.
        octets: ``canonical.encode_result_row`` of each.

    Raises:
        OutOfRange: A value is outside its range.
        ValueError: The key is not 32 bytes long.
    """
    shares = b"".join(_result_octet_sums(key, device_alias, epoch, octets))
    # Four columns of 32 bits: their 64-bit sums hold 2**32 rows.
    columns = np.frombuffer(shares, ">u4").reshape(-1, limits.SUM_BYTES // 4).sum(axis=0, dtype=np.uint64)
    total = 0
    for column in columns:
        total = (total << 32) + int(column)
    return Digest(len(octets), total % _MODULUS)


def annotation_sum(key: bytes, row: AnnotationRow) -> int:
    """Return an annotation's share of a digest, 0 to 2**128 - 1.

    Raises:
        OutOfRange: A value is outside its range.
        ValueError: The key is not 32 bytes long.
    """
    return _share(key, _ANNOTATION_PERSON, encode_annotation_row(row))


def note_sum(key: bytes, row: NoteRow) -> int:
    """Return a note's share of a digest, 0 to 2**128 - 1.

    Raises:
        OutOfRange: A value is outside its range.
        ValueError: The key is not 32 bytes long.
    """
    return _share(key, _NOTE_PERSON, encode_note_row(row))


def superseded_sum(key: bytes, row: Superseded) -> int:
    """Return a superseded write's share of a digest, 0 to 2**128 - 1.

    Raises:
        OutOfRange: A value is outside its range.
        ValueError: The key is not 32 bytes long.
    """
    return _share(key, _SUPERSEDED_PERSON, encode_superseded_row(row))


def add(digest: Digest, value: int) -> Digest:
    """Return the digest with one more row, whose share is ``value``."""
    return Digest(digest.count + 1, (digest.total + value) % _MODULUS)


def add_all(digest: Digest, values: Iterable[int]) -> Digest:
    """Return the digest with more rows, whose shares are ``values``."""
    shares = list(values)
    return Digest(digest.count + len(shares), (digest.total + sum(shares)) % _MODULUS)


def remove(digest: Digest, value: int) -> Digest:
    """Return the digest without a row that it holds, whose share is ``value``."""
    return Digest(digest.count - 1, (digest.total - value) % _MODULUS)


def _share(key: bytes, person: bytes, octets: bytes) -> int:
    keyed = _keyed(key, person)
    keyed.update(octets)
    return int.from_bytes(keyed.digest(), "big")


def _keyed(key: bytes, person: bytes) -> hashlib.blake2b:
    if len(key) != limits.SYNC_KEY_BYTES:
        raise ValueError(f"the sync key is not {limits.SYNC_KEY_BYTES} bytes long")
    return hashlib.blake2b(digest_size=limits.SUM_BYTES, key=key, person=person)
