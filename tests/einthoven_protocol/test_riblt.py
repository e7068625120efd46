"""Coded symbols: differences found exactly, a plain second implementation agrees, hostile symbols end soon."""

from __future__ import annotations

import cProfile
import math
import pstats

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.einthoven_protocol import slow_repair

from einthoven_protocol import limits, riblt
from einthoven_protocol.errors import DecodeError, LimitExceeded, ProtocolError

SESSION = bytes(range(16))
sessions = st.binary(min_size=16, max_size=16)
item_lists = st.lists(st.integers(0, 2**32 - 1), max_size=20)


def as_items(values: list[int]) -> riblt.Items:
    return np.array(values, np.uint64)


def drawn(n: int, seed: int = 1) -> riblt.Items:
    return np.unique(np.random.default_rng(seed).integers(0, 2**32, 2 * n, np.uint64))[:n]


def parts(found: riblt.Decoded | None) -> tuple[list[int], list[int]] | None:
    return None if found is None else (found.own_only.tolist(), found.foreign.tolist())


# ---- the same as the plain implementation ------------------------------------------------------------------------


@given(session=sessions, shares=st.lists(st.binary(min_size=16, max_size=16), max_size=5))
def test_items_are_those_of_the_plain_implementation(session: bytes, shares: list[bytes]) -> None:
    array = np.frombuffer(b"".join(shares), np.uint8).reshape(-1, 16)
    assert riblt.items(session, array).tolist() == [slow_repair.item_of(session, share) for share in shares]


@given(session=sessions, items=item_lists, n=st.integers(0, 300))
def test_symbols_are_those_of_the_plain_implementation(session: bytes, items: list[int], n: int) -> None:
    assert riblt.encode(session, as_items(items), n) == slow_repair.symbols(session, items, n)


@given(session=sessions, own=item_lists, foreign=item_lists, n=st.integers(1, 60))
@settings(max_examples=60)
def test_decoding_is_that_of_the_plain_implementation(
    session: bytes, own: list[int], foreign: list[int], n: int
) -> None:
    symbols = riblt.encode(session, as_items(foreign), n)
    assert parts(riblt.decode(session, as_items(own), symbols)) == slow_repair.decoded(session, own, symbols)


def test_far_cells_are_those_of_the_plain_implementation() -> None:
    items = drawn(40)
    assert riblt.encode(SESSION, items, riblt.MAX_SYMBOLS) == slow_repair.symbols(
        SESSION, items.tolist(), riblt.MAX_SYMBOLS
    )


# ---- what it is for ----------------------------------------------------------------------------------------------


@given(
    session=sessions,
    shared=st.integers(0, 200),
    own=st.integers(0, 30),
    foreign=st.integers(0, 30),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=60)
def test_enough_symbols_find_exactly_what_differs(
    session: bytes, shared: int, own: int, foreign: int, seed: int
) -> None:
    items = drawn(shared + own + foreign, seed)
    ours, theirs = items[: shared + own], np.concatenate((items[:shared], items[shared + own :]))
    # Ten times as many as there are differences never failed in a million draws.
    found = riblt.decode(session, ours, riblt.encode(session, theirs, 10 * (own + foreign) + 40))
    assert parts(found) == (list(range(shared, shared + own)), sorted(items[shared + own :].tolist()))


@given(session=sessions, items=item_lists, n=st.integers(0, 100), m=st.integers(0, 100))
def test_fewer_symbols_are_the_first_of_more(session: bytes, items: list[int], n: int, m: int) -> None:
    fewer, more = sorted((n, m))
    symbols = riblt.encode(session, as_items(items), more)
    assert riblt.encode(session, as_items(items), fewer) == symbols[: fewer * riblt.SYMBOL_BYTES]


def test_the_order_of_a_set_does_not_matter() -> None:
    items = drawn(100)
    assert riblt.encode(SESSION, items, 50) == riblt.encode(SESSION, items[::-1], 50)


def test_equal_sets_decode_to_nothing() -> None:
    items = drawn(1_000)
    assert parts(riblt.decode(SESSION, items, riblt.encode(SESSION, items, 1))) == ([], [])


def test_empty_sets() -> None:
    nothing = as_items([])
    assert parts(riblt.decode(SESSION, nothing, riblt.encode(SESSION, nothing, 5))) == ([], [])
    some = drawn(20)
    assert parts(riblt.decode(SESSION, nothing, riblt.encode(SESSION, some, 100))) == ([], sorted(some.tolist()))
    assert parts(riblt.decode(SESSION, some, riblt.encode(SESSION, nothing, 100))) == (list(range(20)), [])


def test_sets_with_nothing_in_common() -> None:
    items = drawn(2_000)
    found = riblt.decode(SESSION, items[:1_000], riblt.encode(SESSION, items[1_000:], 3_200))
    assert parts(found) == (list(range(1_000)), sorted(items[1_000:].tolist()))


def test_too_few_symbols_are_not_decoded() -> None:
    items = drawn(500)
    assert riblt.decode(SESSION, items[:400], riblt.encode(SESSION, items, 90)) is None
    assert riblt.decode(SESSION, items, b"") is None


def test_half_as_many_symbols_again_and_two_dozen_nearly_always_do() -> None:
    rounds = 30
    decoded = 0
    for seed in range(rounds):
        symbols = riblt.encode(SESSION, drawn(100, seed), 174)
        decoded += riblt.decode(SESSION, as_items([]), symbols) is not None
    assert decoded >= 0.9 * rounds


# ---- equal items -------------------------------------------------------------------------------------------------


def test_equal_items_of_one_set_cancel() -> None:
    assert riblt.encode(SESSION, as_items([5, 7, 5]), 30) == riblt.encode(SESSION, as_items([7]), 30)


def test_an_item_that_stands_for_two_own_rows_names_both() -> None:
    symbols = riblt.encode(SESSION, as_items([5]), 30)
    # Own 9 twice: cancels, unseen. Three times: one is left, and all three places are named.
    assert parts(riblt.decode(SESSION, as_items([9, 5, 9]), symbols)) == ([], [])
    assert parts(riblt.decode(SESSION, as_items([9, 5, 9, 9]), symbols)) == ([0, 2, 3], [])


@given(own=st.lists(st.integers(0, 9), max_size=12), foreign=st.lists(st.integers(0, 9), max_size=12))
@example(own=[1, 1], foreign=[1])
@example(own=[1], foreign=[1, 1])
def test_what_is_decoded_of_sets_with_equal_items_is_odd_on_one_side(own: list[int], foreign: list[int]) -> None:
    found = riblt.decode(SESSION, as_items(own), riblt.encode(SESSION, as_items(foreign), 60))
    assert found is not None
    odd = {value for value in range(10) if (own.count(value) + foreign.count(value)) % 2}
    assert found.own_only.tolist() == [place for place, value in enumerate(own) if value in odd]
    assert found.foreign.tolist() == sorted(odd - set(own))


# ---- hostile symbols ---------------------------------------------------------------------------------------------


@given(own=item_lists, symbols=st.binary(max_size=400))
@example(own=[0], symbols=bytes(6))
def test_any_bytes_give_an_answer_or_an_error_of_the_protocol(own: list[int], symbols: bytes) -> None:
    try:
        found = riblt.decode(SESSION, as_items(own), symbols)
    except ProtocolError:
        assert len(symbols) % riblt.SYMBOL_BYTES
    else:
        assert found is None or len(found.own_only) + len(found.foreign) <= len(own) + len(symbols) // 6


@given(
    flips=st.lists(st.tuples(st.integers(0, 59), st.integers(1, 2**48 - 1)), min_size=1, max_size=5, unique_by=min),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=60)
def test_symbols_that_were_tampered_with_are_not_taken_for_the_others_set(
    flips: list[tuple[int, int]], seed: int
) -> None:
    items = drawn(30, seed)
    cells = np.frombuffer(riblt.encode(SESSION, items[5:], 60), np.uint8).reshape(60, 6).copy()
    for place, bits in flips:
        cells[place % 60] ^= np.frombuffer(bits.to_bytes(6, "big"), np.uint8)
    found = riblt.decode(SESSION, items[:25], cells.tobytes())
    assert found is None or parts(found) == (list(range(5)), sorted(items[25:].tolist()))


def test_an_item_that_comes_back_ends_the_work() -> None:
    # Alone in cell 0 and missing from its other cells: taking it out puts it into those, and so on for ever.
    lonely = (77).to_bytes(4, "big") + slow_repair.check_of(SESSION, 77).to_bytes(2, "big")
    assert riblt.decode(SESSION, as_items([]), lonely + bytes(6 * 99)) is None


def test_a_chain_that_gives_one_item_a_round_is_cut_off() -> None:
    symbols = _chain(4_000, riblt.MAX_ROUNDS + 10)
    profile = cProfile.Profile()
    assert profile.runcall(riblt.decode, SESSION, as_items([]), symbols) is None
    rounds = [calls for (_, _, name), (calls, *_) in pstats.Stats(profile).stats.items() if name == "_pure"]  # type: ignore[attr-defined]
    assert rounds == [riblt.MAX_ROUNDS]


def _chain(n: int, length: int) -> bytes:
    """Symbols in which each item stands alone in one cell, as soon as the one before it is taken out."""
    cells = {item: frozenset(slow_repair.cells_of(item, n)) for item in range(1, 4_500)}
    holders: dict[int, list[int]] = {}
    for item, places in cells.items():
        for place in places:
            holders.setdefault(place, []).append(item)
    chain: list[int] = []
    links: list[int] = []
    dead: set[int] = set()
    while len(chain) < length:
        if not chain:
            chain = [min(cells.keys() - dead)]
            links = [max(cells[chain[0]])]
        # The next one shares a cell of the last, and falls into no link, which is empty by then.
        following = (
            (item, place)
            for place in sorted(cells[chain[-1]] - set(links), reverse=True)
            if place >= n // 4
            for item in holders[place]
            if item not in dead and item not in chain and not cells[item] & set(links)
        )
        found = next(following, None)
        if found is None:
            dead.add(chain.pop())
            links.pop()
        else:
            chain.append(found[0])
            links.append(found[1])
    symbols: list[int] = np.random.default_rng(7).integers(1, 2**48, n).tolist()
    for position, place in enumerate(links):
        symbols[place] = 0
        for item in chain[: position + 1]:
            symbols[place] ^= _tagged(item) if place in cells[item] else 0
    return b"".join(symbol.to_bytes(6, "big") for symbol in symbols)


def _tagged(item: int) -> int:
    return item * 2**16 + slow_repair.check_of(SESSION, item)


@pytest.mark.parametrize("excess", [1, 5])
def test_bytes_that_are_no_whole_number_of_symbols_are_refused(excess: int) -> None:
    with pytest.raises(DecodeError):
        riblt.decode(SESSION, drawn(3), bytes(6 * 4 + excess))


def test_more_symbols_than_the_limit_are_refused() -> None:
    most = limits.MAX_SYMBOLS_BYTES
    assert riblt.decode(SESSION, as_items([]), bytes(most)) is not None
    with pytest.raises(LimitExceeded):
        riblt.decode(SESSION, as_items([]), bytes(most + riblt.SYMBOL_BYTES))
    assert len(riblt.encode(SESSION, drawn(3), riblt.MAX_SYMBOLS)) == most
    for n in (-1, riblt.MAX_SYMBOLS + 1):
        with pytest.raises(ValueError, match="symbols"):
            riblt.encode(SESSION, drawn(3), n)


def test_more_items_than_symbols_are_not_decoded() -> None:
    # Two cells that each hold one of two items of cell 1 only: three items cannot come out of two symbols.
    items = drawn(64)
    for n in range(1, 64):
        found = riblt.decode(SESSION, as_items([]), riblt.encode(SESSION, items, n))
        assert found is None


def test_a_session_or_shares_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        riblt.items(b"short", np.zeros((1, 16), np.uint8))
    with pytest.raises(ValueError, match="shares"):
        riblt.items(SESSION, np.zeros((1, 15), np.uint8))


# ---- the mapping -------------------------------------------------------------------------------------------------


def test_a_cell_holds_about_one_item_in_one_and_half_its_place() -> None:
    counts = np.zeros(200, np.int64)
    for item in range(4_000):
        for cell in slow_repair.cells_of(item, 200):
            counts[cell] += 1
    assert counts[0] == 4_000
    for place in (1, 2, 5, 20, 100):
        expected = 4_000 / (1 + place / 2)
        assert abs(counts[place] - expected) < 6 * math.sqrt(expected) + 0.15 * expected
