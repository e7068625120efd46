"""A second implementation, written from ``docs/sync-protocol-v1.md`` section 4 alone, in plain Python.

It reads what the first one writes. It writes what a lawful but different writer might: no delta where delta is advised
and the other way round, wider numbers than needed, doubled dictionary entries, no compression; the first one reads it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from einthoven_protocol import codec
from einthoven_protocol.frame import open_frame
from einthoven_protocol.messages import ExchangeRequest

WORD = 2**64


class Octets:
    """Bytes that are taken from the front."""

    def __init__(self, octets: bytes) -> None:
        self.left = octets

    def take(self, n: int) -> bytes:
        assert n <= len(self.left)
        taken, self.left = self.left[:n], self.left[n:]
        return taken

    def varint(self) -> int:
        value = 0
        for place in itertools.count():
            (octet,) = self.take(1)
            value += (octet % 128) * 128**place
            if octet < 128:
                return value
        raise AssertionError

    def zigzag(self) -> int:
        value = self.varint()
        return value // 2 if value % 2 == 0 else -(value + 1) // 2

    def fields(self) -> dict[int, bytes]:
        found = {}
        while self.left:
            number = self.varint()
            found[number] = self.take(self.varint())
        return found


def signed(value: int) -> int:
    return (value + 2**63) % WORD - 2**63


def read_integers(octets: bytes | None, rows: int) -> list[int]:
    if octets is None:
        return [0] * rows
    column = Octets(octets)
    (flags,) = column.take(1)
    width, delta = flags % 16, flags // 16
    values = [column.zigzag()] if delta else []
    low, n = column.zigzag(), rows - delta
    planes = [column.take(n) for _ in range(width)]
    assert not column.left
    for i in range(n):
        number = low + sum(plane[i] * 256**place for place, plane in enumerate(planes))
        values.append(signed(values[-1] + number if delta else number))
    return values


def read_octets(octets: bytes | None, rows: int) -> list[bytes]:
    if octets is None:
        return [b""] * rows
    column = Octets(octets)
    entries = [column.take(column.varint()) for _ in range(column.varint())]
    return [entries[place] for place in read_integers(column.left or None, rows)]


def read_table(octets: bytes | None, layout: str) -> Iterator[tuple[Any, ...]]:
    """Rows of a table; ``layout`` has a letter a column: i integers, b bytes, t text."""
    if octets is None:
        return iter(())
    table = Octets(octets)
    rows, columns = table.varint(), table.fields()
    read: list[Any] = []
    for number, kind in enumerate(layout, 1):
        if kind == "i":
            read.append(read_integers(columns.get(number), rows))
        else:
            values = read_octets(columns.get(number), rows)
            read.append([value.decode() for value in values] if kind == "t" else values)
    return zip(*read, strict=True)


def read_request(content: bytes) -> dict[str, Any]:
    fields = Octets(content).fields()
    numbers = [Octets(fields[n]).varint() if n in fields else 0 for n in (1, 2, 3, 4)]
    return {
        "numbers": numbers,
        "results": list(read_table(fields.get(16), "i" * 15 + "b")),
        "annotations": list(read_table(fields.get(17), "iiititit")),
        "seals": list(read_table(fields.get(18), "iiibbb")),
    }


def as_read(request: ExchangeRequest) -> dict[str, Any]:
    """A request as ``read_request`` gives it."""
    return {
        "numbers": [request.device_alias, request.epoch, request.cursor.shard_epoch, request.cursor.commit_seq],
        "results": [
            (
                *(row.counter, row.started_at_ms, row.duration_ms, row.n_steps, row.usable_s, row.quality),
                *(row.rhythm, row.confidence_permille, row.tier, row.reason, row.front_end_version),
                *row.logits,
                row.model_digest,
            )
            for row in request.results
        ],
        "annotations": [
            (
                *(row.target.device_alias, row.target.epoch, row.target.counter, row.author),
                *(row.rhythm.hlc, row.rhythm.value, row.comment.hlc, row.comment.value),
            )
            for row in request.annotations
        ],
        "seals": [
            (row.epoch, row.first_counter, row.last_counter, row.results_root, row.segments_root, row.signature)
            for row in request.seals
        ],
    }


def varint(value: int) -> bytes:
    return bytes((value,)) if value < 128 else bytes((value % 128 + 128,)) + varint(value // 128)


def zigzag(value: int) -> bytes:
    return varint(2 * value if value >= 0 else -2 * value - 1)


def field(number: int, octets: bytes) -> bytes:
    return varint(number) + varint(len(octets)) + octets


def write_integers(values: list[int], *, delta: bool) -> bytes:
    """Always eight bytes wide, and never above a low of its own: 5 is subtracted, modulo 2**64."""
    numbers = [b - a for a, b in itertools.pairwise(values)] if delta else values
    words = [((number - 5) % WORD).to_bytes(8, "little") for number in numbers]
    planes = b"".join(bytes(word[place] for word in words) for place in range(8))
    return bytes((8 + 16 * delta,)) + (zigzag(values[0]) if delta else b"") + zigzag(5) + planes


def write_octets(values: list[bytes]) -> bytes:
    """Every row has an entry of its own, equal or not."""
    entries = b"".join(varint(len(value)) + value for value in values)
    return varint(len(values)) + entries + write_integers(list(range(len(values))), delta=False)


def write_table(rows: list[tuple[Any, ...]], layout: str, *, delta: bool) -> bytes:
    if not rows:
        return b""
    columns = b""
    for number, (kind, values) in enumerate(zip(layout, zip(*rows, strict=True), strict=True), 1):
        if kind == "i":
            columns += field(number, write_integers(list(values), delta=delta))
        else:
            columns += field(number, write_octets([v.encode() if kind == "t" else v for v in values]))
    return varint(len(rows)) + columns


@given(request=...)
def test_it_reads_what_the_first_writes(request: ExchangeRequest) -> None:
    content = open_frame(codec.encode_request(request), 1)
    assert read_request(content) == as_read(request)


@given(request=..., delta=st.booleans())
def test_the_first_reads_what_it_writes(request: ExchangeRequest, delta: bool) -> None:
    plain = as_read(request)
    content = b"".join(field(number, varint(value)) for number, value in enumerate(plain["numbers"], 1))
    for number, (name, layout) in enumerate(
        (("results", "i" * 15 + "b"), ("annotations", "iiititit"), ("seals", "iiibbb")), 16
    ):
        table = write_table(plain[name], layout, delta=delta)
        content += field(number, table) if table else b""
    assert codec.decode_request(b"\x01\x01\x00" + content) == request
