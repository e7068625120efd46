"""The beat detector's numbers, as they ship in ``beats.json``: band-pass taps and the scorer's layers. Checked on load.

It deliberately computes nothing with them (``beat_candidates`` and ``beat_scorer`` do) and trains nothing
(``einthoven_conversion.beats`` does).

Invariants:
    1. The digest in the file covers every other byte that means something, so a damaged table is refused.
    2. No sum that the tables allow reaches 2**24 in float32 or 2**53 in float64: there floats are integers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from einthoven import beat_context, beat_features
from einthoven.beat_candidates import FILTER_SHIFT
from einthoven.beat_features import LIMIT
from einthoven.beat_scanning import MAX_TAPS
from einthoven.errors import ModelCorrupt, ModelError, ModelUnverified
from einthoven.packed_integers import PackedIntegers, pack_integers
from einthoven_models import read_resource

RESOURCE: Final = "beats.json"
SCHEMA: Final = 2
"""1 had its layers in digits."""
MAX_TABLE_BYTES: Final = 1_000_000
MAX_LAYERS: Final = 4
MAX_UNITS: Final = 256
EXACT_FLOAT32: Final = 2**24
MAX_ACTIVATION: Final = 1_023
"""Largest output of a hidden unit."""

_Integer = Annotated[int, msgspec.Meta(ge=-(2**24), le=2**24)]
_Shift = Annotated[int, msgspec.Meta(ge=0, le=24)]
_Row = Annotated[tuple[_Integer, ...], msgspec.Meta(min_length=1, max_length=MAX_UNITS)]


class LayerEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One layer, in digits.

    Attributes:
        weights: One row an input, one integer an output.
        bias: One integer an output.
        shift: The sum is divided by 2**shift, rounding down.
    """

    weights: Annotated[tuple[_Row, ...], msgspec.Meta(min_length=1, max_length=MAX_UNITS)]
    bias: _Row
    shift: _Shift

    def arrays(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Weights int64 [inputs, outputs] and bias int64 [outputs].

        Raises:
            ValueError: Rows of different lengths.
        """
        return np.array(self.weights, np.int64), np.array(self.bias, np.int64)


class PackedLayer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One layer, packed.

    Attributes:
        weights: [inputs, outputs].
        bias: [outputs].
        shift: The sum is divided by 2**shift, rounding down.
    """

    weights: PackedIntegers
    bias: PackedIntegers
    shift: _Shift

    def arrays(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Weights int64 [inputs, outputs] and bias int64 [outputs].

        Raises:
            ValueError: Packed integers that are not whole.
        """
        return self.weights.values(), self.bias.values()


def pack_layers(layers: Sequence[LayerEntry]) -> tuple[PackedLayer, ...]:
    """The same layers as ``beats.json`` has them."""
    return tuple(
        PackedLayer(weights=pack_integers(weights), bias=pack_integers(bias), shift=layer.shift)
        for layer in layers
        for weights, bias in [layer.arrays()]
    )


_Layers = Annotated[tuple[PackedLayer, ...], msgspec.Meta(min_length=2, max_length=MAX_LAYERS)]


class TablesEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What decides.

    Attributes:
        band_pass: Symmetric taps with a gain of about 2**``beat_candidates.FILTER_SHIFT`` in the pass band.
        first: From ``beat_features`` to one logit, whose unit is 1/256.
        second: From ``beat_context`` to the logit that decides.
        threshold: Least logit of a beat.
    """

    band_pass: Annotated[tuple[_Integer, ...], msgspec.Meta(min_length=3, max_length=MAX_TAPS)]
    first: _Layers
    second: _Layers
    threshold: _Integer


class Document(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``beats.json``.

    Attributes:
        schema: Version of this layout.
        version: Version of the tables; a stored beat was found with one of them.
        sha256: Of the canonical JSON (sorted keys) of ``tables`` and ``provenance``, hexadecimal.
        tables: What decides.
        provenance: How they were made: data sets, record ids, recipe, figures.
    """

    schema: int
    version: int
    sha256: str
    tables: TablesEntry
    provenance: dict[str, object]


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer, ready to multiply.

    Attributes:
        weights: float32 [inputs, outputs], integers divided by 2**shift, which is exact.
        bias: float32 [outputs], likewise.
    """

    weights: NDArray[np.float32]
    bias: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class BeatTables:
    """The tables, checked.

    Attributes:
        version: See ``Document``.
        band_pass: float64 [odd], integers.
        first: From ``beat_features`` to the first logit.
        second: From ``beat_context`` to the logit that decides.
        threshold: Least logit of a beat.
    """

    version: int
    band_pass: NDArray[np.float64]
    first: tuple[Layer, ...]
    second: tuple[Layer, ...]
    threshold: int


def digest(tables: TablesEntry, provenance: dict[str, object]) -> str:
    """SHA-256 over the canonical JSON of what the file says."""
    canonical = msgspec.json.encode({"tables": tables, "provenance": provenance}, order="sorted")
    return hashlib.sha256(canonical).hexdigest()


def read_tables(content: bytes) -> BeatTables:
    """Check and unpack.

    Args:
        content: The bytes of ``beats.json``.

    Raises:
        ModelCorrupt: Not the layout, sizes that do not fit together, or numbers that could overflow.
        ModelUnverified: The digest is not that of the content.
    """
    remedy = "install the package again"
    if len(content) > MAX_TABLE_BYTES:
        raise ModelCorrupt("the beat tables are too large", remedy)
    try:
        document = msgspec.json.decode(content, type=Document)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ModelCorrupt("the beat tables are damaged", remedy) from error
    if document.schema != SCHEMA:
        raise ModelCorrupt(f"the beat tables have layout {document.schema}, not {SCHEMA}", remedy)
    if digest(document.tables, document.provenance) != document.sha256:
        raise ModelUnverified("the beat tables are not the ones their digest names", remedy)
    return _unpacked(document.version, document.tables)


def _misfit() -> ModelCorrupt:
    return ModelCorrupt("the beat tables do not fit together", "install the package again")


def _unpacked(version: int, entry: TablesEntry) -> BeatTables:
    taps = np.array(entry.band_pass, np.float64)
    if len(taps) % 2 == 0 or (taps != taps[::-1]).any() or np.abs(taps).sum() >= 2 ** (FILTER_SHIFT + 4):
        raise _misfit()
    first = layers_from(entry.first, beat_features.FEATURES)
    second = layers_from(entry.second, beat_context.FEATURES)
    return BeatTables(version, taps, first, second, entry.threshold)


def layers_from(entries: Sequence[LayerEntry | PackedLayer], inputs: int, last_outputs: int = 1) -> tuple[Layer, ...]:
    """Unpack a network with ``inputs`` features and ``last_outputs`` logits.

    Raises:
        ModelCorrupt: Sizes that do not fit together, or a sum that could reach 2**24.
    """
    layers = []
    largest = LIMIT
    for entry in entries:
        try:
            weights, bias = (part.astype(np.float64) for part in entry.arrays())
        except ValueError as error:
            raise _misfit() from error
        outputs = bias.size
        if bias.ndim != 1 or weights.shape != (inputs, outputs) or max(inputs, outputs) > MAX_UNITS:
            raise _misfit()
        if (np.abs(weights).sum(axis=0) * largest + np.abs(bias)).max() >= EXACT_FLOAT32:
            raise _misfit()
        scale = 2.0**-entry.shift
        layers.append(Layer((weights * scale).astype(np.float32), (bias * scale).astype(np.float32)))
        inputs, largest = outputs, MAX_ACTIVATION
    if inputs != last_outputs:
        raise _misfit()
    return tuple(layers)


@lru_cache(maxsize=1)
def load_beat_tables() -> BeatTables:
    """The shipped tables, read once.

    Raises:
        ModelError: They are missing or damaged.
    """
    try:
        content = read_resource(RESOURCE)
    except OSError as error:
        raise ModelError("the beat tables can't be read", "install the package again") from error
    return read_tables(content)
