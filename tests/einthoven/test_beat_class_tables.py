"""The shipped beat class tables are whole, say where they come from, and damaged ones are refused."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from einthoven.beat_class_tables import (
    CLASSES,
    MAX_TABLE_BYTES,
    RESOURCE,
    BeatClassTablesEntry,
    digest,
    load_beat_class_tables,
    read_document,
    read_tables,
)
from einthoven.errors import ModelCorrupt, ModelError, ModelUnverified
from einthoven.packed_integers import pack_integers
from einthoven_models import read_resource

CONTENT = read_resource(RESOURCE)
MAX_SHIPPED_BYTES = 100_000


def resealed(change: Any) -> bytes:
    """The shipped document with its tables changed and a digest that fits."""
    document = json.loads(CONTENT)
    change(document["tables"])
    tables = msgspec.convert(document["tables"], BeatClassTablesEntry, strict=False)
    document["sha256"] = digest(tables, document["provenance"])
    return json.dumps(document).encode()


def test_the_shipped_tables_load_once_and_are_small() -> None:
    assert load_beat_class_tables() is load_beat_class_tables()
    assert load_beat_class_tables().version >= 1
    assert load_beat_class_tables().layers[-1].weights.shape[1] == CLASSES
    assert len(CONTENT) <= MAX_SHIPPED_BYTES


def test_the_shipped_tables_say_what_they_were_trained_on() -> None:
    provenance = read_document(CONTENT).provenance
    assert {"recipe", "records", "out_of_fold"} <= set(provenance)
    assert len(provenance["records"]) == 22  # type: ignore[arg-type]
    assert not {"100", "103", "202", "232", "102", "217"} & set(provenance["records"])  # type: ignore[call-overload]


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
        shipped = load_beat_class_tables()
        assert tables.offsets == shipped.offsets
        assert all((a.weights == b.weights).all() for a, b in zip(tables.layers, shipped.layers, strict=True))


@pytest.mark.parametrize("length", [0, 1, len(CONTENT) // 2, len(CONTENT) - 3])
def test_a_truncated_file_is_refused(length: int) -> None:
    with pytest.raises(ModelCorrupt):
        read_tables(CONTENT[:length])


def test_a_file_that_is_too_large_is_refused_unread() -> None:
    with pytest.raises(ModelCorrupt, match="too large"):
        read_tables(CONTENT + b" " * MAX_TABLE_BYTES)


def test_another_digest_is_refused() -> None:
    document = json.loads(CONTENT)
    document["tables"]["offsets"][0] += 1
    with pytest.raises(ModelUnverified):
        read_tables(json.dumps(document).encode())


def test_another_layout_is_refused() -> None:
    document = json.loads(CONTENT)
    document["schema"] += 1
    with pytest.raises(ModelCorrupt, match="layout"):
        read_tables(json.dumps(document).encode())


def _no_last_layer(tables: Any) -> None:
    tables["layers"] = [tables["layers"][0], tables["layers"][0]]


def _larger_than_float32_counts(tables: Any) -> None:
    bias = pack_integers(np.full(len(layers_bias()), 2**24))
    tables["layers"][0]["bias"] = msgspec.to_builtins(bias)


def layers_bias() -> list[float]:
    """Those of the first layer, as they ship."""
    return load_beat_class_tables().layers[0].bias.tolist()


@pytest.mark.parametrize("change", [_no_last_layer, _larger_than_float32_counts])
def test_tables_that_do_not_fit_together_are_refused_whatever_their_digest(change: Any) -> None:
    with pytest.raises(ModelCorrupt, match="fit together"):
        read_tables(resealed(change))


def test_a_single_layer_is_no_layout() -> None:
    document = json.loads(CONTENT)
    document["tables"]["layers"] = document["tables"]["layers"][-1:]
    with pytest.raises(ModelCorrupt, match="damaged"):
        read_tables(json.dumps(document).encode())
