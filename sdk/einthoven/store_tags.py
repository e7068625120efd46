"""The tag of a row, the sums of a table's tags, and the digest of a whole store. Pure.

A tag is the keyed BLAKE2b-128 (RFC 7693) of a row's table, key and content; the table is the hash's personalisation.
What is hashed is each column in the order of ``store_schema.TABLES``: one byte for its type, then a NULL nothing, an
integer its 8 bytes, a text (UTF-8) or a blob its length in 4 bytes and its bytes; all big-endian. A result, of which
there are the most, is hashed as its position (8 bytes), its segment's digest (32 bytes) and its body, which fits one
block of the hash; its time is a copy of the body's, and is held to it.

It deliberately knows no SQL, and does not say where in a table something is missing: a sum only says that it is.

Invariants:
    1. Different rows of one table are different inputs of the hash, and so are equal rows of two tables.
    2. The sum of a table does not depend on the order of its rows, and removing a row undoes adding it.
    3. No error message and no ``repr`` holds a byte of the key.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Final

import numpy as np

from einthoven.store_schema import INTEGRITY_KEY_BYTES, N_TABLES_OF_VERSION_2, TABLES
from einthoven_protocol.limits import DIGEST_BYTES

TAG_BYTES: Final = 16
"""Length of a tag."""
STATE_DIGEST_BYTES: Final = 16
"""Length of the digest of a whole store."""

Value = int | str | bytes | None
"""What a column holds."""

_MODULUS: Final = 1 << 8 * TAG_BYTES
_INTEGER: Final = struct.Struct(">cq")
_LENGTH: Final = struct.Struct(">cI")
_POSITION: Final = struct.Struct(">Q")
_REPLICA: Final = struct.Struct(">cqcqcqcqcI")
_SUM: Final = struct.Struct(f">Q{TAG_BYTES}s")
_BODY_TIME: Final = slice(5, 13)
"""Where a result's canonical bytes hold its time (``einthoven_protocol.canonical``)."""
_INDEX: Final = {table.name: index for index, table in enumerate(TABLES)}


class RowTags:
    """Makes tags under one key.

    Args:
        integrity_key: 32 bytes.

    Raises:
        ValueError: The key is not 32 bytes long.
    """

    def __init__(self, integrity_key: bytes) -> None:
        if len(integrity_key) != INTEGRITY_KEY_BYTES:
            raise ValueError(f"an integrity key has {INTEGRITY_KEY_BYTES} bytes, not {len(integrity_key)}")
        # Copying a hash that has its key is twice as fast as keying one.
        self._keyed = {name: _keyed(integrity_key, f"row.{name}") for name in _INDEX}
        self._keyed_state = _keyed(integrity_key, "store.state")

    def tag(self, table: str, values: Sequence[Value]) -> bytes:
        """The tag of a row, ``TAG_BYTES`` long.

        Args:
            table: Its table.
            values: Its columns but the tag, in the order of ``store_schema.TABLES``.

        Raises:
            ValueError: They can't be a row of this table.
        """
        hashed = self._keyed[table].copy()
        hashed.update(_result_octets(values) if table == "result" else _octets(values))
        return hashed.digest()

    def holds(self, table: str, values: Sequence[Value], tag: object) -> bool:
        """Whether a tag is that of a row."""
        try:
            return isinstance(tag, bytes) and hmac.compare_digest(self.tag(table, values), tag)
        except (TypeError, ValueError, struct.error):
            return False

    def result_tags(self, rows: Iterable[bytes]) -> list[bytes]:
        """Tags of many results.

        Args:
            rows: Of each result its position (8 bytes), segment digest (32 bytes) and body.
        """
        copy = self._keyed["result"].copy
        tags: list[bytes] = []
        append = tags.append
        for row in rows:
            hashed = copy()
            hashed.update(row)
            append(hashed.digest())
        return tags

    def begun(self, table: str) -> hashlib.blake2b:
        """A hash that has the key and the table's name, to be told of a row of it (``store_run_tags``)."""
        return self._keyed[table].copy()

    def replica_tags(self, lines: Iterable[tuple[int, int, int, int, bytes]]) -> list[bytes]:
        """Tags of many replicas: ``tag`` of each, without looking at the types of the columns."""
        copy, pack = self._keyed["replica"].copy, _REPLICA.pack
        tags: list[bytes] = []
        append = tags.append
        for alias, position, started_at_ms, history, body in lines:
            hashed = copy()
            hashed.update(pack(b"i", alias, b"i", position, b"i", started_at_ms, b"i", history, b"b", len(body)) + body)
            append(hashed.digest())
        return tags

    def state_digest(self, commit_seq: int, sums: TableSums, audit_head: bytes) -> bytes:
        """The digest of all that a store holds, ``STATE_DIGEST_BYTES`` long."""
        hashed = self._keyed_state.copy()
        hashed.update(_POSITION.pack(commit_seq) + audit_head + sums.encode())
        return hashed.digest()

    def __repr__(self) -> str:
        return "RowTags(<key not shown>)"


class TableSums:
    """How many rows each table has, and the sum of their tags modulo 2**128; changes as rows do."""

    def __init__(self, n_tables: int = len(TABLES)) -> None:
        """Begin with empty tables.

        Args:
            n_tables: How many, of ``TABLES``: older versions have the first of them.
        """
        self._counts = [0] * n_tables
        self._totals = [0] * n_tables

    def add(self, table: str, tag: bytes) -> None:
        """Count a row in."""
        index = _INDEX[table]
        self._counts[index] += 1
        self._totals[index] = (self._totals[index] + int.from_bytes(tag, "big")) % _MODULUS

    def remove(self, table: str, tag: bytes) -> None:
        """Count a row out."""
        index = _INDEX[table]
        self._counts[index] -= 1
        self._totals[index] = (self._totals[index] - int.from_bytes(tag, "big")) % _MODULUS

    def add_many(self, table: str, tags: bytes) -> None:
        """Count rows in, whose tags are these, one after the other."""
        self._add_many(table, tags, 1)

    def remove_many(self, table: str, tags: bytes) -> None:
        """Count rows out, whose tags are these, one after the other."""
        self._add_many(table, tags, -1)

    def count(self, table: str) -> int:
        """How many rows a table has."""
        return self._counts[_INDEX[table]]

    def copy(self) -> TableSums:
        """The same sums, which go their own way."""
        copied = TableSums(len(self._counts))
        copied._counts, copied._totals = self._counts.copy(), self._totals.copy()
        return copied

    def widened(self) -> TableSums:
        """The same sums of a store that has all tables, the further ones empty."""
        widened = TableSums()
        widened._counts[: len(self._counts)], widened._totals[: len(self._totals)] = self._counts, self._totals
        return widened

    def differing(self, other: TableSums) -> list[str]:
        """Names of the tables whose count or sum is another."""
        mine, theirs = (list(zip(sums._counts, sums._totals, strict=True)) for sums in (self, other))
        pairs = zip_longest(mine, theirs, fillvalue=(0, 0))
        return [table.name for table, (one, two) in zip(TABLES, pairs, strict=False) if one != two]

    def encode(self) -> bytes:
        """Of each table its count (8 bytes) and sum (16 bytes), big-endian, in the order of ``TABLES``."""
        return b"".join(
            _SUM.pack(count % 2**64, total.to_bytes(TAG_BYTES, "big"))
            for count, total in zip(self._counts, self._totals, strict=True)
        )

    @classmethod
    def decode(cls, octets: bytes) -> TableSums:
        """Read what ``encode`` wrote.

        Raises:
            ValueError: These are no sums of these tables.
        """
        n_tables, left = divmod(len(octets), _SUM.size)
        if left or n_tables not in (N_TABLES_OF_VERSION_2, len(TABLES)):
            raise ValueError(f"the sums of {len(TABLES)} tables have {_SUM.size * len(TABLES)} bytes")
        sums = cls(n_tables)
        pairs = list(_SUM.iter_unpack(octets))
        sums._counts = [count for count, _ in pairs]
        sums._totals = [int.from_bytes(total, "big") for _, total in pairs]
        return sums

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TableSums) and not self.differing(other)

    __hash__ = None  # type: ignore[assignment]  # it changes

    def _add_many(self, table: str, tags: bytes, sign: int) -> None:
        if len(tags) % TAG_BYTES:
            raise ValueError("these are no whole tags")
        # Four columns of 32 bits: their 64-bit sums hold 2**32 rows.
        columns = np.frombuffer(tags, ">u4").reshape(-1, TAG_BYTES // 4).sum(axis=0, dtype=np.uint64)
        total = 0
        for column in columns:
            total = (total << 32) + int(column)
        index = _INDEX[table]
        self._counts[index] += sign * (len(tags) // TAG_BYTES)
        self._totals[index] = (self._totals[index] + sign * total) % _MODULUS


def _keyed(integrity_key: bytes, person: str) -> hashlib.blake2b:
    return hashlib.blake2b(digest_size=TAG_BYTES, key=integrity_key, person=person.encode("ascii"))


def _result_octets(values: Sequence[Value]) -> bytes:
    position, started_at_ms, body, segment_digest = values
    if (
        not isinstance(position, int)
        or not isinstance(body, bytes)
        or not isinstance(segment_digest, bytes)
        or len(segment_digest) != DIGEST_BYTES
        or int.from_bytes(body[_BODY_TIME], "big") != started_at_ms
    ):
        raise ValueError("these are not the columns of a result")
    return _POSITION.pack(position) + segment_digest + body


def _octets(values: Sequence[Value]) -> bytes:
    parts = []
    for value in values:
        if value is None:
            parts.append(b"n")
        elif isinstance(value, int):
            parts.append(_INTEGER.pack(b"i", value))
        else:
            kind, octets = (b"t", value.encode("utf-8")) if isinstance(value, str) else (b"b", value)
            parts.append(_LENGTH.pack(kind, len(octets)) + octets)
    return b"".join(parts)
