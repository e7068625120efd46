"""Integers as Base64: what goes in comes out, in the narrowest type, and nothing half."""

from __future__ import annotations

import base64

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from einthoven.packed_integers import MAX_VALUES, TYPES, PackedIntegers, pack_integers

INT64 = st.integers(-(2**63), 2**63 - 1)


@given(st.lists(INT64, min_size=1, max_size=40))
def test_what_goes_in_comes_out_through_json(values: list[int]) -> None:
    packed = msgspec.json.decode(msgspec.json.encode(pack_integers(np.array(values, np.int64))), type=PackedIntegers)
    assert packed.values().tolist() == values
    assert packed.values().dtype == np.int64


@given(st.integers(1, 9), st.integers(1, 9), st.randoms(use_true_random=False))
def test_rows_stay_rows_however_they_lie_in_memory(rows: int, columns: int, chance: object) -> None:
    values = np.random.default_rng(chance.getrandbits(32)).integers(-300, 300, (columns, rows)).T  # type: ignore[attr-defined]
    np.testing.assert_array_equal(pack_integers(values).values(), values)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (127, "i1"),
        (-128, "i1"),
        (128, "i2"),
        (-129, "i2"),
        (2**15, "i4"),
        (-(2**31), "i4"),
        (2**31, "i8"),
        (-(2**63), "i8"),
    ],
)
def test_the_narrowest_type_is_taken(value: int, kind: str) -> None:
    packed = pack_integers(np.array([0, value]))
    assert packed.type == kind
    assert (
        packed.base64
        == base64.b64encode(b"".join(int(v).to_bytes(int(kind[1]), "little", signed=True) for v in (0, value))).decode()
    )
    assert kind in TYPES


@pytest.mark.parametrize(
    "change",
    [
        {"shape": (3,)},
        {"shape": (1, 1)},
        {"shape": (MAX_VALUES, MAX_VALUES)},
        {"type": "i4"},
        {"base64": ""},
        {"base64": "AQI"},
        {"base64": "AQI=\n"},
        {"base64": "\u00e4QI="},
    ],
)
def test_what_is_not_whole_is_refused(change: dict[str, object]) -> None:
    packed = pack_integers(np.array([1, 2]))
    assert packed.values().tolist() == [1, 2]
    with pytest.raises(ValueError):  # noqa: PT011
        msgspec.structs.replace(packed, **change).values()


@pytest.mark.parametrize(
    "text",
    [
        b'{"type": "u1", "shape": [1], "base64": "AQ=="}',
        b'{"type": "i1", "shape": [], "base64": ""}',
        b'{"type": "i1", "shape": [0], "base64": ""}',
        b'{"type": "i1", "shape": [1, 1, 1], "base64": "AQ=="}',
        b'{"type": "i1", "shape": [-1], "base64": "AQ=="}',
        b'{"type": "i1", "shape": [1], "base64": "AQ==", "more": 1}',
        b'{"type": "i1", "shape": [1]}',
    ],
)
def test_another_layout_is_refused(text: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(text, type=PackedIntegers)
