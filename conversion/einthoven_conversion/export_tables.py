"""The integers that decide beside the network, as C arrays: whatever ``*.json`` tables ship with a model.

A table is walked as it lies in its file, so that a new one needs no new code: a list of integers is an array, a list of
equally long lists is an array row after row with its sizes, a single integer is a macro; names are the path. Integers
packed as Base64 are unpacked: those that state their type and sizes (``einthoven.packed_integers``), and those whose
type ``PACKED`` states. Everything that only tells how a table was made is
left out. It deliberately writes none of the arithmetic: the modules of the SDK that read the table say what its
integers mean.

Invariants:
    1. The same file gives the same text; nothing depends on the order of a dictionary but the file's own.
    2. Every integer of a table outside ``PROVENANCE`` is written, unchanged; text that may be packed integers of a type
       that is not known is refused, never left out.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np

from einthoven.packed_integers import PackedIntegers
from einthoven_conversion.errors import ExportFailed
from einthoven_conversion.export_c import declaration, define, definition, identifier, integer_type

PROVENANCE: Final = frozenset({"card", "figures", "licences", "metrics", "note", "provenance", "recipe", "trained_on"})
"""Keys that tell how a table was made or how good it is."""
PACKED: Final[Mapping[str, str]] = {
    "features": "u1",
    "thresholds": "<i2",
    "leaves": "<i2",
    "directions": "i1",
}
"""Keys of base64 text in tables, and the types of the integers (``einthoven.verdict_tables``)."""
SELF_DESCRIBING: Final = frozenset(PackedIntegers.__struct_fields__)
"""Keys of an array that states its type and sizes."""
LONGEST_TEXT_CHARS: Final = 80
"""Longer text under any other key is taken for packed integers; digests and names are shorter."""
MAX_DEPTH: Final = 16
MAX_TABLE_BYTES: Final = 4_000_000


@dataclass(frozen=True, slots=True)
class Integers:
    """One array or macro.

    Attributes:
        name: Identifier, from the file's name and the path in it.
        values: Row after row.
        sizes: Of each dimension; empty for a single integer.
    """

    name: str
    values: tuple[int, ...]
    sizes: tuple[int, ...]

    @property
    def ctype(self) -> str:
        """The narrowest type."""
        return integer_type(min(self.values), max(self.values))

    @property
    def size_bytes(self) -> int:
        """What the array takes; nothing for a macro."""
        return len(self.values) * int(self.ctype[3:-2]) // 8 if self.sizes else 0

    def declare(self) -> str:
        """What goes into the header."""
        if not self.sizes:
            return define(self.name, self.values[0])
        named = "".join(define(f"{self.name}_{axis}", size) for axis, size in zip(self._axes, self.sizes, strict=True))
        return named + declaration(self.ctype, self.name, len(self.values))

    def define(self) -> str:
        """What goes into the source; nothing for a macro."""
        return definition(self.ctype, self.name, self.values) + "\n" if self.sizes else ""

    @property
    def _axes(self) -> tuple[str, ...]:
        return ("LENGTH",) if len(self.sizes) == 1 else ("ROWS", "COLUMNS")


def read_table(file_name: str, content: bytes, prefix: str = "einthoven") -> list[Integers]:
    """Every integer of a table file.

    Args:
        file_name: Such as ``beats.json``; begins the names.
        content: Its bytes.
        prefix: Comes before the file's name.

    Raises:
        ExportFailed: Not JSON, nested too deep, or an integer of over 64 bits.
    """
    if len(content) > MAX_TABLE_BYTES:
        raise ExportFailed(f"{file_name} is over {MAX_TABLE_BYTES} bytes", "install the package again")
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ExportFailed(f"{file_name} is not JSON", "install the package again") from error
    if not isinstance(document, dict):
        raise ExportFailed(f"{file_name} is not a table", "install the package again")
    return integers_of(f"{prefix}_{identifier(file_name.removesuffix('.json'))}", document)


def integers_of(name: str, document: Mapping[str, Any]) -> list[Integers]:
    """Every integer in a document, in its order, named by its path.

    Raises:
        ExportFailed: Nested too deep, an integer of over 64 bits, or two paths of one name.
    """
    found = list(_walk(name, document, 0))
    names = [one.name for one in found]
    if len(set(names)) != len(names):
        raise ExportFailed("two tables would have one name", "rename one in the table file")
    for one in found:
        integer_type(min(one.values), max(one.values))
    return found


def _walk(name: str, value: Any, depth: int) -> Iterator[Integers]:
    if depth > MAX_DEPTH:
        raise ExportFailed("a table is nested too deep", "install the package again")
    if isinstance(value, dict) and value.keys() == SELF_DESCRIBING:
        yield _described(name, value)
    elif isinstance(value, dict):
        for key, inner in value.items():
            if key not in PROVENANCE:
                unpacked = _unpacked(key, inner) if isinstance(inner, str) else inner
                yield from _walk(f"{name}_{identifier(key).lstrip('_')}", unpacked, depth + 1)
    elif _is_integer(value):
        yield Integers(name, (value,), ())
    elif isinstance(value, list) and value:
        if all(_is_integer(item) for item in value):
            yield Integers(name, tuple(value), (len(value),))
        elif _is_matrix(value):
            flat = tuple(item for row in value for item in row)
            yield Integers(name, flat, (len(value), len(value[0])))
        else:
            for i, item in enumerate(value):
                yield from _walk(f"{name}_{i}", item, depth + 1)


def _described(name: str, value: dict[str, Any]) -> Integers:
    """An array that states its type and sizes.

    Raises:
        ExportFailed: It is not whole.
    """
    try:
        packed = msgspec.convert(value, PackedIntegers)
        values = packed.values().ravel().tolist()
    except (msgspec.ValidationError, ValueError) as error:
        raise ExportFailed(f"the packed integers of {name} are damaged", "install the package again") from error
    return Integers(name, tuple(values), packed.shape)


def _unpacked(key: str, text: str) -> list[int] | None:
    """Integers packed as text; None for text that is only text.

    Raises:
        ExportFailed: Integers of a type that is not known, or not whole.
    """
    if key in PACKED:
        try:
            return [int(value) for value in np.frombuffer(base64.b64decode(text, validate=True), PACKED[key])]
        except ValueError as error:
            raise ExportFailed(f"the packed integers of {key} are damaged", "install the package again") from error
    if len(text) > LONGEST_TEXT_CHARS:
        raise ExportFailed(f"the type of the integers packed in {identifier(key)} is not known", "add it to PACKED")
    return None


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_matrix(rows: list[Any]) -> bool:
    return all(
        isinstance(row, list) and 0 < len(row) == len(rows[0]) and all(_is_integer(item) for item in row)
        for row in rows
    )
