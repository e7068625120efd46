"""Power sums: the field is one, differences are found exactly, hostile sums end soon, a plain implementation agrees."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from tests.einthoven_protocol import slow_repair
from tests.einthoven_protocol.test_vectors import as_json

from einthoven_protocol import limits, power_sums, riblt
from einthoven_protocol.binary_field import Elements, inverse, logarithms, multiply, multiply_by, square
from einthoven_protocol.errors import DecodeError, LimitExceeded, OutOfRange
from einthoven_protocol.field_polynomials import connection, roots
from einthoven_protocol.frame import REPAIR_REQUEST, open_frame
from einthoven_protocol.messages import RepairRequest
from einthoven_protocol.repair_codec import decode_repair_request, encode_repair_request

ROOT = Path(__file__).parents[2]
VECTORS: dict[str, Any] = json.loads((ROOT / "tests/vectors/sync/repair_powers.json").read_text(encoding="ascii"))
SPECIFICATION = (ROOT / "docs" / "sync-repair-v1.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"<!-- vector: repair_powers.json (.+?) -->\n```\n(.*?)\n```", SPECIFICATION, re.DOTALL)
elements = st.integers(0, 2**32 - 1)
item_sets = st.sets(st.integers(1, 2**32 - 1), max_size=12)


def arrayed(*values: int) -> Elements:
    return np.array(values, np.uint32)


def as_items(values: set[int] | list[int]) -> riblt.Items:
    return np.array(sorted(values), np.uint64)


def parts(own: riblt.Items, found: riblt.Decoded | None) -> tuple[set[int], set[int]] | None:
    return None if found is None else (set(own[found.own_only].tolist()), set(found.foreign.tolist()))


# ---- the field -----------------------------------------------------------------------------------------------------


@given(a=elements, b=elements)
def test_products_are_those_of_the_plain_implementation(a: int, b: int) -> None:
    assert multiply(arrayed(a), arrayed(b)).tolist() == [slow_repair.field_product(a, b)]
    assert multiply_by(arrayed(a), logarithms(arrayed(b))).tolist() == [slow_repair.field_product(a, b)]
    assert square(arrayed(a)).tolist() == [slow_repair.field_product(a, a)]


@given(a=elements, b=elements, c=elements)
def test_it_is_a_field(a: int, b: int, c: int) -> None:
    x, y, z = arrayed(a), arrayed(b), arrayed(c)
    assert multiply(x, multiply(y, z)) == multiply(multiply(x, y), z)
    assert multiply(x, y ^ z) == multiply(x, y) ^ multiply(x, z)
    assert multiply(x, y) == multiply(y, x)
    assert multiply(x, arrayed(1)) == x
    assert multiply(x, inverse(x)) == (1 if a else 0)


def test_it_has_as_many_elements_as_it_should() -> None:
    """x to the power 2**32 is x, and for some x no smaller such power is: the field is not a smaller one."""
    x = arrayed(0x10002)
    powers = [x := square(x) for _ in range(32)]
    assert powers[-1] == 0x10002
    assert all(power != 0x10002 for power in powers[:-1])


@given(st.sets(elements, max_size=8))
@settings(max_examples=40)
def test_roots_of_a_product_are_its_factors(expected: set[int]) -> None:
    polynomial = arrayed(1)
    for root in expected:
        polynomial = np.concatenate((arrayed(0), polynomial)) ^ np.append(
            multiply(polynomial, arrayed(root)), arrayed(0)
        )
    found = roots(polynomial)
    assert found is not None
    assert sorted(found.tolist()) == sorted(expected)


def test_a_polynomial_without_all_its_roots_has_none() -> None:
    assert roots(arrayed(9, 0, 1)) is None  # a double root
    assert roots(multiply(arrayed(4, 4, 0, 1, 5, 1), arrayed(1))) is None
    assert connection(arrayed(0, 0, 7, 0)) is None


# ---- sets ----------------------------------------------------------------------------------------------------------


@given(items=item_sets, n=st.integers(0, 9))
def test_sums_are_those_of_the_plain_implementation(items: set[int], n: int) -> None:
    assert power_sums.encode(as_items(items), n) == slow_repair.power_sums(items, n)


@given(own=item_sets, foreign=item_sets, both=item_sets, n=st.integers(1, 24))
@settings(max_examples=60)
def test_as_many_sums_as_differences_always_suffice(own: set[int], foreign: set[int], both: set[int], n: int) -> None:
    mine, theirs = own | both, foreign | both
    items = as_items(mine)
    found = parts(items, power_sums.decode(items, power_sums.encode(as_items(theirs), n)))
    if len(mine ^ theirs) <= n:
        assert found == (mine - theirs, theirs - mine)
    elif n >= 6:
        assert found is None  # that too few of them make sense by chance is one in n!


def test_many_differences_among_many_rows() -> None:
    drawn = np.unique(np.random.default_rng(3).integers(1, 2**32, 21_000, np.uint64))
    own, foreign = np.delete(drawn, np.s_[:60]), np.delete(drawn, np.s_[-68:])
    found = power_sums.decode(own, power_sums.encode(foreign, 128))
    assert parts(own, found) == (set(drawn[-68:].tolist()), set(drawn[:60].tolist()))
    assert power_sums.decode(own, power_sums.encode(foreign, 127)) is None


def test_what_no_sum_holds_is_left_out() -> None:
    own = np.array([0, 5, 7, 7], np.uint64)
    foreign = np.array([5, 9], np.uint64)
    assert parts(own, power_sums.decode(own, power_sums.encode(foreign, 8))) == (set(), {9})


@given(octets=st.binary(min_size=4, max_size=96).map(lambda octets: octets[: len(octets) // 4 * 4]))
@settings(max_examples=40)
def test_made_up_sums_end_in_a_list_or_in_none(octets: bytes) -> None:
    own = as_items({1, 2, 3, 2**31})
    found = power_sums.decode(own, octets)
    if found is not None:
        assert len(found.own_only) + len(found.foreign) <= len(octets) // 4


def test_lengths_are_held_to() -> None:
    own = as_items({1, 2})
    assert power_sums.decode(own, b"") is None
    with pytest.raises(DecodeError):
        power_sums.decode(own, b"abc")
    with pytest.raises(LimitExceeded):
        power_sums.decode(own, bytes(limits.MAX_POWERS_BYTES + 4))
    with pytest.raises(ValueError, match="0 to 256"):
        power_sums.encode(own, power_sums.MAX_POWERS + 1)


# ---- messages and vectors ------------------------------------------------------------------------------------------

ASKED = RepairRequest(device_alias=7, owner=7, kind=1, session=bytes(16), powers=bytes(8))


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"powers": bytes(7)}, OutOfRange),
        ({"powers": bytes(limits.MAX_POWERS_BYTES + 4)}, LimitExceeded),
        ({"symbols": bytes(6)}, OutOfRange),
        ({"session": b""}, OutOfRange),
        ({"powers": b""}, OutOfRange),
    ],
)
def test_a_request_comes_whole(changed: dict[str, bytes], problem: type[Exception]) -> None:
    assert decode_repair_request(encode_repair_request(ASKED)) == ASKED
    with pytest.raises(problem):
        encode_repair_request(structs.replace(ASKED, **changed))


def test_frozen_vectors() -> None:
    items = {side: [int(item, 16) for item in VECTORS[side]] for side in ("device_items", "server_items")}
    octets = bytes.fromhex("".join(VECTORS["powers"]))
    n = len(VECTORS["powers"])
    assert power_sums.encode(as_items(items["device_items"]), n) == octets
    assert slow_repair.power_sums(items["device_items"], n) == octets
    own = as_items(items["server_items"])
    found = parts(own, power_sums.decode(own, octets))
    assert found == tuple(
        {int(item, 16) for item in VECTORS["decoded"][side]} for side in ("server_only", "device_only")
    )
    body = bytes.fromhex(VECTORS["message"]["body"])
    request = decode_repair_request(body)
    assert as_json(request) == VECTORS["message"]["message"]
    assert open_frame(encode_repair_request(request), REPAIR_REQUEST) == open_frame(body, REPAIR_REQUEST)


def test_the_specification_quotes_them() -> None:
    assert {name for name, _ in EXAMPLES} == {"powers", "product"}
    for name, shown in EXAMPLES:
        octets = "".join(VECTORS[name]) if name == "powers" else " ".join(VECTORS[name])
        assert "".join(shown.split()) == "".join(octets.split())
    a, b, product = (int(text, 16) for text in VECTORS["product"])
    assert slow_repair.field_product(a, b) == product
