"""The tree over the log, against the RFC's definition written down as such, and vectors of other implementations."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from einthoven_protocol import merkle as over_leaves
from einthoven_server.audit.merkle import (
    EMPTY_ROOT,
    Frontier,
    Node,
    Span,
    consistency_spans,
    fold,
    inclusion_spans,
    leaf_hash,
    node_hash,
    nodes_of,
    verify_consistency,
    verify_inclusion,
)

# Leaves and roots that Certificate Transparency's implementations test with (RFC 6962 and 9162 hash alike).
VECTOR_LEAVES = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
VECTOR_ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def leaves(count: int) -> list[bytes]:
    return [b"leaf %d" % n for n in range(count)]


def root_of(hashes: list[bytes]) -> bytes:
    """MTH of section 2.1.1, as it is defined."""
    if not hashes:
        return hashlib.sha256(b"").digest()
    if len(hashes) == 1:
        return hashes[0]
    k = 1 << ((len(hashes) - 1).bit_length() - 1)
    return node_hash(root_of(hashes[:k]), root_of(hashes[k:]))


def grown(hashes: list[bytes]) -> Frontier:
    frontier = Frontier()
    for one in hashes:
        frontier.append(one)
    return frontier


def prove(spans: list[Span], hashes: list[bytes]) -> list[bytes]:
    return [root_of(hashes[span.begin : span.end]) for span in spans]


def test_vectors() -> None:
    frontier = Frontier()
    assert frontier.root() == EMPTY_ROOT
    for leaf, root in zip(VECTOR_LEAVES, VECTOR_ROOTS, strict=True):
        frontier.append(leaf_hash(leaf))
        assert frontier.root().hex() == root


@given(st.integers(0, 300), st.integers(0, 300))
def test_a_frontier_gives_the_root_however_often_it_was_put_away(size: int, cut: int) -> None:
    hashes = [leaf_hash(leaf) for leaf in leaves(size)]
    first = grown(hashes[:cut])
    again = Frontier(first.size, first.to_bytes())
    for one in hashes[cut:]:
        again.append(one)
    assert again.root() == root_of(hashes) == over_leaves.tree_hash(leaves(size))


def test_a_frontier_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="another number"):
        Frontier(3, bytes(32))


def test_each_completed_subtree_is_told_once() -> None:
    hashes, told = [leaf_hash(leaf) for leaf in leaves(37)], {}
    frontier = Frontier()
    for one in hashes:
        frontier.append(one, lambda level, position, octets: told.__setitem__(Node(level, position), octets))
    expected = {
        Node(level, position): root_of(hashes[position << level : (position + 1) << level])
        for level in range(1, 6)
        for position in range(37 >> level)
    }
    assert told == expected


@pytest.mark.parametrize("size", range(1, 34))
def test_every_leaf_is_proven_as_the_other_implementation_proves_it(size: int) -> None:
    hashes = [leaf_hash(leaf) for leaf in leaves(size)]
    root = root_of(hashes)
    for index in range(size):
        path = prove(inclusion_spans(index, size), hashes)
        assert tuple(path) == over_leaves.audit_path(leaves(size), index)
        assert verify_inclusion(hashes[index], index, size, path, root)
        assert not verify_inclusion(leaf_hash(b"other"), index, size, path, root)
        assert not verify_inclusion(hashes[index], index, size, [*path, bytes(32)], root)
        if size > 1:
            assert not verify_inclusion(hashes[index], (index + 1) % size, size, path, root)
            assert not verify_inclusion(hashes[index], index, size, path[:-1], root)


@pytest.mark.parametrize("second", range(1, 34))
def test_every_growth_is_proven_and_no_other(second: int) -> None:
    hashes = [leaf_hash(leaf) for leaf in leaves(second)]
    for first in range(1, second + 1):
        old, new = root_of(hashes[:first]), root_of(hashes)
        path = prove(consistency_spans(first, second), hashes)
        assert verify_consistency(first, second, old, new, path)
        assert not verify_consistency(first, second, bytes(32), new, path)
        assert not verify_consistency(first, second, old, bytes(32), path)
        assert not verify_consistency(first, second, old, new, [*path, bytes(32)])
        if path:
            assert not verify_consistency(first, second, old, new, path[:-1])
            assert not verify_consistency(first, second, old, new, [bytes(32), *path[1:]])


@given(st.integers(1, 60), st.data())
def test_no_made_up_path_proves_a_rewritten_log(second: int, data: st.DataObject) -> None:
    hashes = [leaf_hash(leaf) for leaf in leaves(second)]
    first = data.draw(st.integers(1, second))
    changed = data.draw(st.integers(0, first - 1))
    forged = [*hashes[:changed], leaf_hash(b"forged"), *hashes[changed + 1 :]]
    path = prove(consistency_spans(first, second), forged)
    assert not verify_consistency(first, second, root_of(hashes[:first]), root_of(forged), path)


@given(st.integers(0, 200), st.integers(1, 200))
def test_a_span_is_made_of_its_complete_subtrees(skip: int, size: int) -> None:
    begin = skip << (size - 1).bit_length()  # where the tree has one
    found = nodes_of(Span(begin, begin + size))
    assert sum(1 << node.level for node in found) == size
    assert next(node.position << node.level for node in found) == begin
    hashes = [leaf_hash(b"%d" % n) for n in range(size)]
    parts, at = [], 0
    for node in found:
        parts.append(root_of(hashes[at : at + (1 << node.level)]))
        at += 1 << node.level
    assert fold(parts) == root_of(hashes)


@pytest.mark.parametrize("bad", [(0, 1), (2, 1), (-1, 4)])
def test_what_can_not_be_proven_is_refused(bad: tuple[int, int]) -> None:
    with pytest.raises(IndexError):
        consistency_spans(*bad)
    with pytest.raises(IndexError):
        inclusion_spans(bad[0] - 1, 0)
