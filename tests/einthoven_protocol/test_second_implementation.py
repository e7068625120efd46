"""A second implementation, written from ``docs/sync-protocol-v1.md`` section 4 alone, in plain Python.

It reads what the first one writes, verdicts in one column among it. It writes what a lawful but different writer might:
no delta where delta is advised and the other way round, wider numbers than needed, doubled dictionary entries, columns
of defaults, no compression; the first one reads it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from decimal import Decimal, localcontext
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from einthoven_protocol import codec
from einthoven_protocol.frame import open_frame
from einthoven_protocol.messages import ExchangeRequest, ExchangeResponse, ResultRow

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


RESULT = dict.fromkeys(range(1, 16), "i") | {16: "b"}
IDENTIFIED = RESULT | {17: "i", 18: "i"}
ANNOTATION = {1: "i", 2: "i", 3: "i", 4: "t", 5: "i", 6: "t", 7: "i", 8: "t"}
WITH_BASES = ANNOTATION | {9: "i", 10: "i"}
SEAL = {1: "i", 2: "i", 3: "i", 4: "b", 5: "b", 6: "b"}
NOTE = {1: "i", 2: "i", 3: "i", 4: "t", 5: "i", 6: "t"}
NAMED = {1: "i", 2: "i", 3: "i", 4: "i", 5: "t"}
LAYOUTS: dict[str, dict[int, tuple[str, dict[int, str]]]] = {
    "request": {
        16: ("results", RESULT),
        17: ("annotations", WITH_BASES),
        18: ("seals", SEAL),
        19: ("alerts", RESULT),
        20: ("notes", NOTE),
        21: ("deletions", NAMED | {7: "i"}),
    },
    "response": {
        16: ("verdicts", {1: "i", 2: "i", 3: "i"}),
        17: ("annotations", ANNOTATION),
        18: ("refused", NAMED | {6: "i"}),
        19: ("results", IDENTIFIED),
        20: ("notes", NOTE),
        21: ("tombstones", NAMED | {7: "i"}),
        22: ("documents", {1: "t", 2: "i", 3: "i", 4: "b", 5: "b"}),
        23: ("superseded", {1: "i", 2: "i", 3: "i", 4: "t", 5: "i", 6: "i", 7: "t"}),
        24: ("digests", {1: "i", 2: "i", 3: "i", 4: "b"}),
        25: ("owners", {1: "i", 2: "b"}),
    },
}
"""By field number: a table's name, and what its columns hold: i integers, b bytes, t text."""
GROWING = ("results", "alerts", "annotations", "notes")
NUMBERS = {"request": range(1, 7), "response": (1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13)}
with localcontext() as context:
    context.prec = 60
    POWERS = [int(Decimal(2) ** (30 - Decimal(k) / 1024)) for k in range(1024)]


def expected(logits: tuple[int, ...]) -> tuple[int, int]:
    """Class and confidence that logits say."""
    highest = max(logits)
    weights = [POWERS[(highest - logit) % 1024] >> ((highest - logit) // 1024) for logit in logits]
    shares = [1000 * weight // sum(weights) for weight in weights]
    likeliest = logits.index(highest)
    return likeliest, 1000 - sum(shares) + shares[likeliest]


def unpacked(columns: dict[int, bytes], rows: int) -> dict[int, list[int]]:
    """Columns 5 to 10 as columns 19 and 20 say them."""
    logits = list(zip(*(read_integers(columns.get(n), rows) for n in (12, 13, 14, 15)), strict=True))
    said: dict[int, list[int]] = {n: [] for n in range(5, 11)}
    for entry, surprise, four in zip(
        read_octets(columns[19], rows), read_integers(columns.get(20), rows), logits, strict=True
    ):
        likeliest, confidence = expected(four)
        said[5].append(int.from_bytes(entry[0:2], "big"))
        said[6].append(int.from_bytes(entry[2:4], "big"))
        said[7].append((entry[4] + likeliest) % 256)
        said[8].append(confidence + surprise)
        said[9].append(entry[5])
        said[10].append(entry[6])
    return said


def from_line(columns: dict[int, bytes], rows: int) -> list[int]:
    """Column 2 as columns 21 and 22 say it."""
    (step,) = set(read_integers(columns[22], rows))
    counters, offsets = read_integers(columns.get(1), rows), read_integers(columns.get(21), rows)
    return [offset + step * counter for counter, offset in zip(counters, offsets, strict=True)]


def read_table(name: str, octets: bytes | None, layout: dict[int, str]) -> list[tuple[Any, ...]]:
    """Rows of a table: its columns' values, and last, where it may grow, the columns of a newer version."""
    if octets is None:
        return []
    table = Octets(octets)
    rows, columns = table.varint(), table.fields()
    packed = unpacked(columns, rows) if 1 in layout and 12 in layout and 19 in columns else {}
    if 1 in layout and 12 in layout and 22 in columns:
        packed[2] = from_line(columns, rows)
    read: list[Any] = []
    for number, kind in layout.items():
        if kind == "i":
            read.append(packed.get(number) or read_integers(columns.get(number), rows))
        else:
            values = read_octets(columns.get(number), rows)
            read.append([value.decode() for value in values] if kind == "t" else values)
    if name in GROWING:
        further: list[list[tuple[int, Any]]] = [[] for _ in range(rows)]
        for number in (n for n in columns if 64 <= n <= 127):
            reader: Callable[[bytes, int], list[Any]] = read_octets if number % 2 else read_integers
            for row, value in zip(further, reader(columns[number], rows), strict=True):
                if value:
                    row.append((number, value))
        read.append(map(tuple, further))
    return list(zip(*read, strict=True))


def read_message(kind: str, content: bytes) -> dict[str, Any]:
    fields = Octets(content).fields()
    read: dict[str, Any] = {
        "numbers": [Octets(fields[n]).varint() if n in fields else 0 for n in NUMBERS[kind]],
        "total": fields.get(5, bytes(16)) if kind == "response" else b"",
    }
    for number, (name, layout) in LAYOUTS[kind].items():
        if name == "annotations" and kind == "request" and number in fields:
            table = Octets(fields[number])
            table.varint()
            given = table.fields().keys() & {9, 10}
            read["bases given"] = bool(given)
        read[name] = read_table(name, fields.get(number), layout)
    return read


def result_columns(row: ResultRow) -> tuple[Any, ...]:
    return (
        *(row.counter, row.started_at_ms, row.duration_ms, row.n_steps, row.usable_s, row.quality),
        *(row.rhythm, row.confidence_permille, row.tier, row.reason, row.front_end_version),
        *row.logits,
        row.model_digest,
    )


def identity(row: Any) -> tuple[int, int, int]:
    return row.device_alias, row.epoch, row.counter


def annotation_columns(row: Any) -> tuple[Any, ...]:
    return *identity(row.target), row.author, row.rhythm.hlc, row.rhythm.value, row.comment.hlc, row.comment.value


def registers(row: Any) -> tuple[tuple[int, Any], ...]:
    pairs = ((64 + 2 * one.number, one.hlc, one.value) for one in row.further)
    return tuple(column for n, hlc, value in pairs for column in ((n, hlc), (n + 1, value)) if column[1])


def note_columns(row: Any) -> tuple[Any, ...]:
    return *identity(row), row.author, row.at_ms, row.text, row.extra


def request_as_read(request: ExchangeRequest) -> dict[str, Any]:
    """A request as ``read_message`` gives it."""
    bases = request.annotation_bases or ((0, 0),) * len(request.annotations)
    read: dict[str, Any] = {
        "numbers": [
            *(request.device_alias, request.epoch, request.cursor.shard_epoch, request.cursor.commit_seq),
            *(request.capabilities, request.owners_known),
        ],
        "total": b"",
        "results": [(*result_columns(row), row.extra) for row in request.results],
        "annotations": [
            (*annotation_columns(row), *marks, registers(row))
            for row, marks in zip(request.annotations, bases, strict=True)
        ],
        "seals": [tuple(getattr(row, name) for name in row.__struct_fields__) for row in request.seals],
        "alerts": [(*result_columns(row), row.extra) for row in request.alerts],
        "notes": list(map(note_columns, request.notes)),
        "deletions": [(row.kind, *identity(row), row.author, row.hlc) for row in request.deletions],
    }
    if request.annotations:
        read["bases given"] = bool(request.annotation_bases)
    return read


def response_as_read(response: ExchangeResponse) -> dict[str, Any]:
    """A response as ``read_message`` gives it."""
    asked = response.limits
    return {
        "numbers": [
            *(response.acknowledged, response.cursor.shard_epoch, response.cursor.commit_seq, response.digest.count),
            *(response.more, response.server_time_ms, response.capabilities, response.notes_acknowledged),
            *(response.rebaseline, asked.max_results, asked.max_annotations, asked.min_interval_s),
        ],
        "total": response.digest.total.to_bytes(16, "big"),
        "verdicts": [(row.counter, row.code, row.reason) for row in response.verdicts],
        "annotations": [(*annotation_columns(row), registers(row)) for row in response.annotations],
        "refused": [(row.kind, *identity(row), row.author, row.reason) for row in response.refused],
        "results": [(*result_columns(one.row), one.device_alias, one.epoch, one.row.extra) for one in response.results],
        "notes": list(map(note_columns, response.notes)),
        "tombstones": [(row.kind, *identity(row), row.author, row.hlc) for row in response.tombstones],
        "documents": [tuple(getattr(row, name) for name in row.__struct_fields__) for row in response.documents],
        "superseded": [
            (*identity(row.target), row.author, row.field, row.hlc, row.value) for row in response.superseded
        ],
        "digests": [(row.device_alias, row.kind, row.count, row.total.to_bytes(16, "big")) for row in response.digests],
        "owners": [(row.device_alias, row.sync_key) for row in response.owners],
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


def write_column(kind: str, values: list[Any], *, delta: bool) -> bytes:
    if kind == "i":
        return write_integers(values, delta=delta)
    return write_octets([value.encode() if kind == "t" else value for value in values])


def write_table(rows: list[tuple[Any, ...]], layout: dict[int, str], *, growing: bool, delta: bool) -> bytes:
    if not rows:
        return b""
    *columns, last = zip(*rows, strict=True) if growing else (*zip(*rows, strict=True), ())
    written = [
        field(number, write_column(kind, list(values), delta=delta))
        for (number, kind), values in zip(layout.items(), columns, strict=True)
    ]
    for number in sorted({number for further in last for number, _ in further}):
        values = [dict(further).get(number, b"" if number % 2 else 0) for further in last]
        written.append(field(number, write_column("b" if number % 2 else "i", values, delta=delta)))
    return varint(len(rows)) + b"".join(written)


def write_message(kind: str, plain: dict[str, Any], *, delta: bool) -> bytes:
    fields = {number: varint(value) for number, value in zip(NUMBERS[kind], plain["numbers"], strict=True)}
    if kind == "response":
        fields[5] = plain["total"]
    for number, (name, known) in LAYOUTS[kind].items():
        layout, rows = known, plain[name]
        if name == "annotations" and kind == "request" and not plain.get("bases given"):
            layout, rows = ANNOTATION, [(*row[:8], row[-1]) for row in rows]
        table = write_table(rows, layout, growing=name in GROWING, delta=delta)
        if table:
            fields[number] = table
    return b"".join(field(number, fields[number]) for number in sorted(fields))


@given(request=...)
def test_it_reads_the_requests_that_the_first_writes(request: ExchangeRequest) -> None:
    assert read_message("request", open_frame(codec.encode_request(request), 1)) == request_as_read(request)


@given(response=...)
def test_it_reads_the_responses_that_the_first_writes(response: ExchangeResponse) -> None:
    assert read_message("response", open_frame(codec.encode_response(response), 2)) == response_as_read(response)


def test_it_reads_verdicts_in_one_column(device_results: Callable[[int], tuple[ResultRow, ...]]) -> None:
    # Logits whose unit is a 1/1024 octave, and confidences that follow from them but for two.
    rows = tuple(
        msgspec.structs.replace(row, confidence_permille=expected(row.logits)[1] if row.counter > 2 else 7)
        for row in device_results(500)
    )
    request = ExchangeRequest(device_alias=7, epoch=1, results=rows)
    plain, packed = (open_frame(codec.encode_request(request, peer), 1) for peer in (0, 2**32 - 1))
    assert len(packed) < len(plain)
    assert read_message("request", packed) == read_message("request", plain) == request_as_read(request)


@settings(max_examples=50)
@given(request=..., delta=st.booleans())
def test_the_first_reads_the_requests_that_it_writes(request: ExchangeRequest, delta: bool) -> None:
    content = write_message("request", request_as_read(request), delta=delta)
    assert codec.decode_request(b"\x01\x01\x00" + content) == request


@settings(max_examples=50)
@given(response=..., delta=st.booleans())
def test_the_first_reads_the_responses_that_it_writes(response: ExchangeResponse, delta: bool) -> None:
    content = write_message("response", response_as_read(response), delta=delta)
    assert codec.decode_response(b"\x01\x02\x00" + content) == response
