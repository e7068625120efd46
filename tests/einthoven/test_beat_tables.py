"""The shipped tables are whole, and damaged ones are refused."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from einthoven.beat_tables import (
    MAX_TABLE_BYTES,
    RESOURCE,
    Document,
    TablesEntry,
    digest,
    load_beat_tables,
    read_tables,
)
from einthoven.errors import ModelCorrupt, ModelError, ModelUnverified
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


def _missing_row(tables: Any) -> None:
    tables["first"][0]["weights"].pop()


def _ragged(tables: Any) -> None:
    tables["second"][0]["weights"][3].append(1)


def _no_last_layer(tables: Any) -> None:
    tables["second"][-1]["bias"] = [0, 0]
    tables["second"][-1]["weights"] = [[0, 0] for _ in tables["second"][-1]["weights"]]


def _overflowing(tables: Any) -> None:
    for row in tables["first"][0]["weights"]:
        row[0] = 2_000


@pytest.mark.parametrize("change", [_asymmetric, _even, _missing_row, _ragged, _no_last_layer, _overflowing])
def test_tables_that_do_not_fit_together_are_refused_whatever_their_digest(change: Any) -> None:
    with pytest.raises(ModelCorrupt, match="fit together"):
        read_tables(resealed(change))
