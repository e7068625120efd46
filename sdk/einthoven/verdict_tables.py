"""The tables behind a verdict, as they ship in ``verdict.json``: trees, calibration, and what counts as never seen.

It deliberately trains nothing (``einthoven_conversion.verdict`` does) and runs nothing (``verdict``).

Invariants:
    1. Tables in hand fit together: every tree asks for a feature that exists, and all lists have the lengths they need.
    2. Damaged or unknown tables raise ``ModelCorrupt``; nothing is guessed.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Annotated, Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from einthoven.errors import ModelCorrupt
from einthoven.results import Rhythm
from einthoven.window_features import FEATURES

SCHEMA: Final = 1
CLASSES: Final = len(Rhythm)
MAX_TREES: Final = 8_192
MAX_DEPTH: Final = 8
MAX_DIRECTIONS: Final = FEATURES

_Integer = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
_Permille = Annotated[int, msgspec.Meta(ge=0, le=1000)]
_Share = Annotated[int, msgspec.Meta(ge=0, le=1001)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
_FourIntegers = tuple[_Integer, _Integer, _Integer, _Integer]
_FourShares = tuple[_Share, _Share, _Share, _Share]
_FourCounts = tuple[_Count, _Count, _Count, _Count]


class Trees(msgspec.Struct, frozen=True, kw_only=True):
    """Boosted regression trees, all perfect and of one depth; tree ``i`` adds to the logit of class ``i % 4``.

    Attributes:
        depth: Questions from root to leaf.
        count: Trees.
        features: Base64 of uint8 [count, 2**depth - 1]: which feature a node asks for, nodes level by level.
        thresholds: Base64 of little-endian int16, same shape: a value above goes right.
        leaves: Base64 of little-endian int16 [count, 2**depth]: added to the logit, in 1/1024 octave.
    """

    depth: Annotated[int, msgspec.Meta(ge=1, le=MAX_DEPTH)]
    count: Annotated[int, msgspec.Meta(ge=0, le=MAX_TREES)]
    features: str
    thresholds: str
    leaves: str


class PredictionSets(msgspec.Struct, frozen=True, kw_only=True):
    """Class-conditional split-conformal prediction sets (Vovk, Gammerman, Shafer 2005, section 4.5: Mondrian).

    Attributes:
        coverage_permille: How often at least the true class is in the set, for each class by itself.
        least_permille: A class is in the set if its probability is at least this; 0 always, 1001 never.
        n: Records of each class that this rests on.
    """

    coverage_permille: _Permille
    least_permille: _FourShares
    n: _FourCounts


class Outlyingness(msgspec.Struct, frozen=True, kw_only=True):
    """How far a window is from all that was trained on: a Mahalanobis distance in whole numbers.

    Attributes:
        center: Of each feature.
        scale: Of each feature; a deviation of that much is 1.
        directions: Base64 of int8 [k, FEATURES]: standardized deviations are projected on them.
        k: Their number.
        limit: A mean square over the directions above it is out of distribution.
        share_permille: Share of the training windows that are.
        n: Windows that this rests on.
    """

    center: tuple[_Integer, ...]
    scale: tuple[Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)], ...]
    directions: str
    k: Annotated[int, msgspec.Meta(ge=0, le=MAX_DIRECTIONS)]
    limit: _Count
    share_permille: _Permille
    n: _Count


class VerdictTables(msgspec.Struct, frozen=True, kw_only=True):
    """``verdict.json``.

    Attributes:
        schema: Version of this layout.
        features: How many features the tables are made for.
        base: Logits before any tree, 1/1024 octave.
        pooled_permille: Share of the mean logit of the seconds that is added.
        trees: See there.
        temperature: In the logits already; for people.
        af_possible_permille: From this probability on, AF is not ruled out ...
        af_certain_permille: ... and from this one on it is ruled in; between, there is no verdict.
        sets: See there.
        outlyingness: See there.
        metrics: Figures with their n.
        recipe: How it was made.
    """

    schema: int
    features: int
    base: _FourIntegers
    pooled_permille: Annotated[int, msgspec.Meta(ge=0, le=10_000)]
    trees: Trees
    temperature: float
    af_possible_permille: _Share
    af_certain_permille: _Share
    sets: PredictionSets
    outlyingness: Outlyingness
    metrics: dict[str, Any]
    recipe: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Forest:
    """The trees as arrays.

    Attributes:
        features: intp [trees, nodes].
        thresholds: int64 [trees, nodes].
        leaves: int64 [trees, leaves].
        depth: Questions from root to leaf.
    """

    features: NDArray[np.intp]
    thresholds: NDArray[np.int64]
    leaves: NDArray[np.int64]
    depth: int


def read_tables(content: bytes) -> VerdictTables:
    """Parse ``verdict.json``.

    Raises:
        ModelCorrupt: Not of this layout.
    """
    try:
        tables = msgspec.json.decode(content, type=VerdictTables)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _damaged() from error
    outlyingness = tables.outlyingness
    if tables.schema != SCHEMA:
        raise ModelCorrupt(f"the verdict's tables have schema {tables.schema}, this reads {SCHEMA}", "update einthoven")
    if tables.features != FEATURES or {len(outlyingness.center), len(outlyingness.scale)} != {FEATURES}:
        raise _damaged()
    if tables.af_certain_permille < tables.af_possible_permille:
        raise _damaged()
    return tables


def unpack_forest(trees: Trees) -> Forest:
    """Raises ``ModelCorrupt`` where the arrays do not fit together."""
    nodes = 2**trees.depth - 1
    features = unpack(trees.features, "u1", (trees.count, nodes))
    if features.size and int(features.max()) >= FEATURES:
        raise _damaged()
    thresholds = unpack(trees.thresholds, "<i2", (trees.count, nodes))
    leaves = unpack(trees.leaves, "<i2", (trees.count, nodes + 1))
    return Forest(features.astype(np.intp), thresholds.astype(np.int64), leaves.astype(np.int64), trees.depth)


def unpack(text: str, dtype: str, shape: tuple[int, int]) -> NDArray[np.int64]:
    """Integers of a Base64 text.

    Raises:
        ModelCorrupt: Not Base64, or not of this shape.
    """
    try:
        content = base64.b64decode(text, validate=True)
        return np.asarray(np.frombuffer(content, dtype).reshape(shape), np.int64)
    except (binascii.Error, ValueError) as error:
        raise _damaged() from error


def pack(values: NDArray[np.int64], dtype: str) -> str:
    """The reverse of ``unpack``.

    Raises:
        OverflowError: A value does not fit.
    """
    narrow = values.astype(dtype)
    if not np.array_equal(narrow, values):
        raise OverflowError(f"a value does not fit into {dtype}")
    return base64.b64encode(narrow.tobytes()).decode("ascii")


def _damaged() -> ModelCorrupt:
    return ModelCorrupt("the tables of the verdict are damaged", "install the package again")
