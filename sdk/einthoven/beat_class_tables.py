"""The beat classifier's numbers, as they ship in ``beat_classes.json``: the layers of its network. Checked on load.

It deliberately computes nothing with them (``beat_classes`` does) and trains nothing
(``einthoven_conversion.beat_classes`` does).

Invariants:
    1. The digest in the file covers every other byte that means something, so a damaged table is refused.
    2. No sum that the tables allow reaches 2**24: there float32 is integer arithmetic.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Final

import msgspec

from einthoven import beat_class_context
from einthoven.beat_tables import MAX_LAYERS, Layer, PackedLayer, layers_from
from einthoven.errors import ModelCorrupt, ModelError, ModelUnverified
from einthoven_models import read_resource

RESOURCE: Final = "beat_classes.json"
SCHEMA: Final = 1
MAX_TABLE_BYTES: Final = 1_000_000
CLASSES: Final = 3
"""Normal, supraventricular, ventricular: one logit each, in the order of ``BeatClass``."""
MAX_OFFSET: Final = 2**16

_Offset = Annotated[int, msgspec.Meta(ge=-MAX_OFFSET, le=MAX_OFFSET)]
_REMEDY: Final = "install the package again"


class BeatClassTablesEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What decides.

    Attributes:
        layers: From ``beat_class_context`` to a logit for each class, whose unit is 1/``beat_scorer.LOGIT_ONE``.
        offsets: Added to the logits before the largest is chosen; probabilities are taken without them.
    """

    layers: Annotated[tuple[PackedLayer, ...], msgspec.Meta(min_length=2, max_length=MAX_LAYERS)]
    offsets: tuple[_Offset, _Offset, _Offset]


class Document(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``beat_classes.json``.

    Attributes:
        schema: Version of this layout.
        version: Version of the tables; a stored class was found with one of them.
        sha256: Of the canonical JSON (sorted keys) of ``tables`` and ``provenance``, hexadecimal.
        tables: What decides.
        provenance: How they were made: data sets, record ids, recipe, figures.
    """

    schema: int
    version: int
    sha256: str
    tables: BeatClassTablesEntry
    provenance: dict[str, object]


@dataclass(frozen=True, slots=True)
class BeatClassTables:
    """The tables, checked.

    Attributes:
        version: See ``Document``.
        layers: From ``beat_class_context`` to three logits.
        offsets: See ``BeatClassTablesEntry``.
    """

    version: int
    layers: tuple[Layer, ...]
    offsets: tuple[int, int, int]


def digest(tables: BeatClassTablesEntry, provenance: dict[str, object]) -> str:
    """SHA-256 over the canonical JSON of what the file says."""
    canonical = msgspec.json.encode({"tables": tables, "provenance": provenance}, order="sorted")
    return hashlib.sha256(canonical).hexdigest()


def read_document(content: bytes) -> Document:
    """Decode and verify ``beat_classes.json``.

    Raises:
        ModelCorrupt: Not the layout.
        ModelUnverified: The digest is not that of the content.
    """
    if len(content) > MAX_TABLE_BYTES:
        raise ModelCorrupt("the beat class tables are too large", _REMEDY)
    try:
        document = msgspec.json.decode(content, type=Document)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ModelCorrupt("the beat class tables are damaged", _REMEDY) from error
    if document.schema != SCHEMA:
        raise ModelCorrupt(f"the beat class tables have layout {document.schema}, not {SCHEMA}", _REMEDY)
    if digest(document.tables, document.provenance) != document.sha256:
        raise ModelUnverified("the beat class tables are not the ones their digest names", _REMEDY)
    return document


def tables_from(entry: BeatClassTablesEntry, version: int) -> BeatClassTables:
    """Unpack.

    Raises:
        ModelCorrupt: Sizes that do not fit together, or a sum that could reach 2**24.
    """
    return BeatClassTables(version, layers_from(entry.layers, beat_class_context.FEATURES, CLASSES), entry.offsets)


def read_tables(content: bytes) -> BeatClassTables:
    """Check and unpack the bytes of ``beat_classes.json``.

    Raises:
        ModelCorrupt: Not the layout, sizes that do not fit together, or numbers that could overflow.
        ModelUnverified: The digest is not that of the content.
    """
    document = read_document(content)
    return tables_from(document.tables, document.version)


@lru_cache(maxsize=1)
def load_beat_class_tables() -> BeatClassTables:
    """The shipped tables, read once.

    Raises:
        ModelError: They are missing or damaged.
    """
    try:
        content = read_resource(RESOURCE)
    except OSError as error:
        raise ModelError("the beat class tables can't be read", _REMEDY) from error
    return read_tables(content)
