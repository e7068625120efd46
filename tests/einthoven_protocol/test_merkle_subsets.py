"""Proofs of many leaves at once: of every subset of small trees, of random ones of large trees, and of nothing else."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from einthoven_protocol import merkle
from einthoven_protocol.errors import DecodeError
from einthoven_protocol.merkle_subsets import SubsetProver, proof_hashes, root_of_subset, subset_proof


def leaves(size: int) -> list[bytes]:
    return [number.to_bytes(4, "big") for number in range(size)]


@pytest.mark.parametrize("size", range(1, 10))
def test_every_subset_of_a_small_tree_gives_its_root(size: int) -> None:
    tree = leaves(size)
    for chosen in range(1, size + 1):
        for positions in combinations(range(size), chosen):
            proof = subset_proof(tree, positions)
            assert len(proof) == proof_hashes(size, positions)
            known = {position: tree[position] for position in positions}
            assert root_of_subset(size, known, proof) == merkle.tree_hash(tree)


@given(size=st.integers(1, 600), chosen=st.data())
def test_a_subset_of_any_tree_gives_its_root_with_no_more_than_its_paths(size: int, chosen: st.DataObject) -> None:
    positions = sorted(chosen.draw(st.sets(st.integers(0, size - 1), min_size=1, max_size=12)))
    tree = leaves(size)
    proof = subset_proof(tree, positions)
    assert root_of_subset(size, {position: tree[position] for position in positions}, proof) == merkle.tree_hash(tree)
    paths = [merkle.audit_path(tree, position) for position in positions]
    assert len(proof) <= sum(map(len, paths))
    assert len(proof) <= size - len(positions)
    assert set(proof) <= {hash_ for path in paths for hash_ in path}


def test_one_leaf_is_proven_by_its_audit_path_and_all_by_nothing() -> None:
    tree = leaves(11)
    for position in range(11):
        assert sorted(subset_proof(tree, [position])) == sorted(merkle.audit_path(tree, position))
    assert subset_proof(tree, range(11)) == ()
    assert SubsetProver(tree).root == merkle.tree_hash(tree)


def test_seventy_neighbours_of_ten_thousand_take_some_twenty_hashes() -> None:
    # Both ends of a run have at most a path's length of neighbours outside it.
    assert max(proof_hashes(10_000, range(first, first + 70)) for first in range(0, 9_930, 97)) <= 2 * 14


@given(size=st.integers(2, 60), drawn=st.data())
def test_another_leaf_place_or_hash_gives_another_root(size: int, drawn: st.DataObject) -> None:
    tree = leaves(size)
    positions = sorted(drawn.draw(st.sets(st.integers(0, size - 1), min_size=1, max_size=5)))
    proof, root = subset_proof(tree, positions), merkle.tree_hash(tree)
    known = {position: tree[position] for position in positions}
    wrong = drawn.draw(st.sampled_from(positions))
    assert root_of_subset(size, known | {wrong: b"other"}, proof) != root
    for place in range(len(proof)):
        changed = (*proof[:place], bytes(32), *proof[place + 1 :])
        assert root_of_subset(size, known, changed) != root
    for few_or_many in (proof[1:], (*proof, bytes(32))):
        if len(few_or_many) != len(proof):
            with pytest.raises(DecodeError, match="as many hashes"):
                root_of_subset(size, known, few_or_many)


@pytest.mark.parametrize("positions", [[], [3, 3], [4, 2], [-1], [5], [0, 5]])
def test_positions_outside_the_tree_are_refused(positions: list[int]) -> None:
    with pytest.raises(IndexError):
        subset_proof(leaves(5), positions)
    with pytest.raises(IndexError):
        proof_hashes(5, positions)
    if len(set(positions)) == len(positions) and positions == sorted(positions):
        with pytest.raises(DecodeError):
            root_of_subset(5, dict.fromkeys(positions, b""), ())


def test_a_claimed_size_costs_nothing() -> None:
    assert proof_hashes(2**31 - 1, [0, 2**30, 2**31 - 2]) <= 3 * 31
