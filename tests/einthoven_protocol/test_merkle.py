"""Merkle trees against the RFC's own recursive definition and Certificate Transparency's published roots."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from einthoven_protocol import limits
from einthoven_protocol.canonical import encode_result_row
from einthoven_protocol.errors import OutOfRange
from einthoven_protocol.merkle import audit_path, given_message, seal_message, tree_hash, verify_path
from einthoven_protocol.messages import IdentifiedResult, ResultRow

# The leaves of certificate-transparency's reference tests, and the roots of their first n.
LEAVES = [bytes.fromhex(leaf) for leaf in ("", "00", "10", "2021", "3031", "40414243")] + [
    bytes(range(0x50, 0x58)),
    bytes(range(0x60, 0x70)),
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]

leaf_lists = st.lists(st.binary(max_size=8), max_size=40)


def recursive_root(leaves: list[bytes]) -> bytes:
    """RFC 9162 section 2.1.1, word for word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\x01" + recursive_root(leaves[:split]) + recursive_root(leaves[split:])).digest()


def recursive_path(index: int, leaves: list[bytes]) -> tuple[bytes, ...]:
    """RFC 9162 section 2.1.3.1, word for word."""
    if len(leaves) == 1:
        return ()
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    if index < split:
        return (*recursive_path(index, leaves[:split]), recursive_root(leaves[split:]))
    return (*recursive_path(index - split, leaves[split:]), recursive_root(leaves[:split]))


@pytest.mark.parametrize("n", range(9))
def test_the_published_roots(n: int) -> None:
    assert tree_hash(LEAVES[:n]).hex() == ROOTS[n]


@given(leaves=leaf_lists)
def test_the_root_is_that_of_the_rfc(leaves: list[bytes]) -> None:
    assert tree_hash(leaves) == recursive_root(leaves)


@given(leaves=leaf_lists.filter(bool), place=st.integers(0, 10**6))
def test_a_path_is_that_of_the_rfc_and_proves_its_leaf(leaves: list[bytes], place: int) -> None:
    index = place % len(leaves)
    path = audit_path(leaves, index)
    assert path == recursive_path(index, leaves)
    assert verify_path(leaves[index], index, len(leaves), path, tree_hash(leaves))


@pytest.mark.parametrize("n", range(1, 18))
def test_a_path_proves_nothing_else(n: int) -> None:
    leaves = [bytes((i,)) for i in range(n)]
    root = tree_hash(leaves)
    for index in range(n):
        path = audit_path(leaves, index)
        assert not verify_path(b"other", index, n, path, root)
        assert not verify_path(leaves[index], index, n, (*path, bytes(32)), root)
        assert not verify_path(leaves[index], index, n, path, bytes(32))
        assert not verify_path(leaves[index], n, n, path, root)
        assert not verify_path(leaves[index], -1, n, path, root)
        if path:
            assert not verify_path(leaves[index], index, n, path[:-1], root)
            assert not verify_path(leaves[index], index ^ 1, n, path, root)


def test_a_node_does_not_pass_for_a_leaf() -> None:
    leaves = [b"a", b"b", b"c", b"d"]
    left = hashlib.sha256(b"\x00a").digest() + hashlib.sha256(b"\x00b").digest()
    right = audit_path(leaves, 0)[1:]
    assert not verify_path(left, 0, 2, right, tree_hash(leaves))


def test_a_path_of_absurd_length_is_refused() -> None:
    assert not verify_path(b"", 0, 2**200, (bytes(32),) * 200, bytes(32))


def test_there_is_no_path_without_a_leaf() -> None:
    with pytest.raises(IndexError):
        audit_path([], 0)
    with pytest.raises(IndexError):
        audit_path([b"a"], 1)


def test_a_seal_message_has_one_length_and_every_part_counts() -> None:
    parts = (7, 1, 2, 3, bytes(32), bytes(range(32)))
    message = seal_message(*parts)
    assert message.startswith(b"einthoven seal 1\0")
    assert len(message) == 17 + 16 + 64
    others = {
        seal_message(8, 1, 2, 3, bytes(32), bytes(range(32))),
        seal_message(7, 2, 2, 3, bytes(32), bytes(range(32))),
        seal_message(7, 1, 1, 3, bytes(32), bytes(range(32))),
        seal_message(7, 1, 2, 4, bytes(32), bytes(range(32))),
        seal_message(7, 1, 2, 3, bytes(range(32)), bytes(32)),
    }
    assert len(others) == 5
    assert message not in others


@pytest.mark.parametrize(
    "parts",
    [
        (-1, 1, 1, 1, bytes(32), bytes(32)),
        (limits.MAX_DEVICE_ALIAS + 1, 1, 1, 1, bytes(32), bytes(32)),
        (1, 0, 1, 1, bytes(32), bytes(32)),
        (1, 1, 0, 1, bytes(32), bytes(32)),
        (1, 1, 2, 1, bytes(32), bytes(32)),
        (1, 1, 1, limits.MAX_COUNTER + 1, bytes(32), bytes(32)),
        (1, 1, 1, 1, bytes(31), bytes(32)),
        (1, 1, 1, 1, bytes(32), bytes(33)),
    ],
)
def test_a_seal_message_is_not_made_of_values_out_of_range(parts: tuple[int, int, int, int, bytes, bytes]) -> None:
    with pytest.raises(OutOfRange):
        seal_message(*parts)


def test_the_message_over_given_results_binds_their_names_and_order(a_result: ResultRow) -> None:
    given = [IdentifiedResult(device_alias=7, epoch=epoch, row=a_result) for epoch in (1, 2)]
    root = tree_hash([b"segment"])
    message = given_message(7, given, root)
    leaves = [bytes((0, 0, 0, 7, 0, 0, 0, epoch)) + encode_result_row(a_result) for epoch in (1, 2)]
    assert message == b"einthoven given 1\0" + bytes((0, 0, 0, 7, 0, 0, 0, 2)) + tree_hash(leaves) + root
    others = (given_message(8, given, root), given_message(7, given[::-1], root), given_message(7, given, bytes(32)))
    assert message not in others
    for alias, rows, segments in ((-1, given, root), (7, given, b"short")):
        with pytest.raises(OutOfRange):
            given_message(alias, rows, segments)
