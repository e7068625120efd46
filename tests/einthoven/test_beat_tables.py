"""The shipped tables are whole, and damaged ones are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from einthoven.beat_tables import (
    MAX_TABLE_BYTES,
    RESOURCE,
    Document,
    LayerEntry,
    TablesEntry,
    digest,
    layers_from,
    load_beat_tables,
    pack_layers,
    read_tables,
)
from einthoven.errors import ModelCorrupt, ModelError, ModelUnverified
from einthoven.packed_integers import PackedIntegers, pack_integers
from einthoven_models import read_resource

CONTENT = read_resource(RESOURCE)


def resealed(change: Any) -> bytes:
    """The shipped document with its tables changed and a digest that fits."""
    document = json.loads(CONTENT)
    change(document["tables"])
    tables = msgspec.convert(document["tables"], TablesEntry)
    document["sha256"] = digest(tables, document["provenance"])
    return json.dumps(document).encode()


def test_the_shipped_tables_load_once() -> None:
    assert load_beat_tables() is load_beat_tables()
    assert load_beat_tables().version >= 1


def test_the_shipped_tables_say_where_they_come_from() -> None:
    provenance = msgspec.json.decode(CONTENT, type=Document).provenance
    assert {"recipe", "records_marked", "out_of_fold"} <= set(provenance)
    assert not any(name.startswith("mitdb/100") for name in provenance["records_marked"])  # type: ignore[attr-defined]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(CONTENT) - 1), st.integers(1, 255))
def test_a_damaged_byte_is_refused_or_changes_nothing(place: int, flip: int) -> None:
    damaged = bytearray(CONTENT)
    damaged[place] ^= flip
    try:
        tables = read_tables(bytes(damaged))
    except ModelError as error:
        assert "\n" not in str(error)  # noqa: PT017
    else:  # white space, or the version number
        shipped = load_beat_tables()
        assert tables.threshold == shipped.threshold
        assert all((a.weights == b.weights).all() for a, b in zip(tables.first, shipped.first, strict=True))


@pytest.mark.parametrize("length", [0, 1, len(CONTENT) // 2, len(CONTENT) - 3])
def test_a_truncated_file_is_refused(length: int) -> None:
    with pytest.raises(ModelCorrupt):
        read_tables(CONTENT[:length])


def test_a_file_that_is_too_large_is_refused_unread() -> None:
    with pytest.raises(ModelCorrupt, match="too large"):
        read_tables(CONTENT + b" " * MAX_TABLE_BYTES)


def test_another_digest_is_refused() -> None:
    document = json.loads(CONTENT)
    document["tables"]["threshold"] += 1
    with pytest.raises(ModelUnverified):
        read_tables(json.dumps(document).encode())


def test_another_layout_is_refused() -> None:
    document = json.loads(CONTENT)
    document["schema"] += 1
    with pytest.raises(ModelCorrupt, match="layout"):
        read_tables(json.dumps(document).encode())


def _asymmetric(tables: Any) -> None:
    tables["band_pass"][0] += 1


def _even(tables: Any) -> None:
    tables["band_pass"].pop()


def _rewritten(layer: Any, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    values = msgspec.convert(layer[name], PackedIntegers).values()
    layer[name] = msgspec.to_builtins(pack_integers(change(values)))


def _missing_row(tables: Any) -> None:
    _rewritten(tables["first"][0], "weights", lambda rows: rows[:-1])


def _one_column_more(tables: Any) -> None:
    _rewritten(tables["second"][0], "weights", lambda rows: np.hstack([rows, rows[:, :1]]))


def _turned(tables: Any) -> None:
    _rewritten(tables["second"][0], "weights", lambda rows: rows.T)


def _flat(tables: Any) -> None:
    _rewritten(tables["second"][-1], "weights", lambda rows: rows.ravel())


def _offsets_in_rows(tables: Any) -> None:
    _rewritten(tables["first"][1], "bias", lambda offsets: offsets[None])


def _no_last_layer(tables: Any) -> None:
    _rewritten(tables["second"][-1], "bias", lambda offsets: np.zeros(2, np.int64))
    _rewritten(tables["second"][-1], "weights", lambda rows: np.zeros((len(rows), 2), np.int64))


def _overflowing(tables: Any) -> None:
    _rewritten(tables["first"][0], "weights", lambda rows: np.full_like(rows, 2_000))


def _largest(tables: Any) -> None:
    _rewritten(tables["first"][0], "weights", lambda rows: np.full_like(rows, -(2**63)))


def _too_wide(tables: Any) -> None:
    _rewritten(tables["first"][0], "weights", lambda rows: np.zeros((len(rows), 257), np.int64))
    _rewritten(tables["first"][0], "bias", lambda offsets: np.zeros(257, np.int64))
    _rewritten(tables["first"][1], "weights", lambda rows: np.zeros((257, rows.shape[1]), np.int64))


def _half_an_integer(tables: Any) -> None:
    tables["first"][0]["weights"]["base64"] = tables["first"][0]["weights"]["base64"][:-4]


def _not_base64(tables: Any) -> None:
    tables["first"][0]["bias"]["base64"] = "\u00e4" + tables["first"][0]["bias"]["base64"][1:]


def _another_type(tables: Any) -> None:
    tables["first"][0]["weights"]["type"] = "i8"


@pytest.mark.parametrize(
    "change",
    [
        _asymmetric,
        _even,
        _missing_row,
        _one_column_more,
        _turned,
        _flat,
        _offsets_in_rows,
        _no_last_layer,
        _overflowing,
        _largest,
        _too_wide,
        _half_an_integer,
        _not_base64,
        _another_type,
    ],
)
def test_tables_that_do_not_fit_together_are_refused_whatever_their_digest(change: Any) -> None:
    with pytest.raises(ModelCorrupt, match="fit together"):
        read_tables(resealed(change))


@pytest.mark.parametrize("keyword", ["type", "shape", "base64"])
def test_a_packed_array_without_one_of_its_keys_is_refused(keyword: str) -> None:
    document = json.loads(CONTENT)
    del document["tables"]["first"][0]["weights"][keyword]
    with pytest.raises(ModelCorrupt, match="damaged"):
        read_tables(json.dumps(document).encode())


def test_layers_in_digits_and_packed_are_the_same_layers() -> None:
    """What training makes, and what ships of it."""
    rng = np.random.default_rng(0)
    entries = [
        LayerEntry(
            weights=tuple(tuple(row) for row in rng.integers(-30, 30, (inputs, outputs)).tolist()),
            bias=tuple(rng.integers(-70_000, 70_000, outputs).tolist()),
            shift=shift,
        )
        for inputs, outputs, shift in ((12, 5, 4), (5, 1, 0))
    ]
    packed = pack_layers(entries)
    for one, other in zip(layers_from(entries, 12), layers_from(packed, 12), strict=True):
        assert one.weights.tobytes() == other.weights.tobytes()
        assert one.bias.tobytes() == other.bias.tobytes()
    with pytest.raises(ModelCorrupt, match="fit together"):
        layers_from([msgspec.structs.replace(entries[0], weights=((1, 2), (3,)))], 2)


def test_the_shipped_file_is_a_model_of_under_100_kilobytes() -> None:
    assert len(CONTENT) <= 100_000
