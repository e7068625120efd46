"""The ``Store`` port: which signals wait for the server, and the rows that prove them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from tests.contracts.conftest import StoreMaker
from tests.contracts.exchanges import MakeWindow, conflicts, filled, push

from einthoven.ports import Store
from einthoven.results import WindowResult
from einthoven.segments import decode_segment, encode_segment, segment_digest
from einthoven.store_rules import result_row_bytes
from einthoven_protocol.messages import Cursor, ExchangeResponse, RowVerdict, Run

AT_MS = 1_800_000_000_000
ALL_BYTES = 10**9


def acknowledge(store: Store, upto: int, verdicts: Sequence[RowVerdict] = ()) -> None:
    """The server has all results up to a counter."""
    response = ExchangeResponse(acknowledged=upto, verdicts=tuple(verdicts), cursor=Cursor(1, upto))
    store.apply_exchange(push(store), response, at_ms=AT_MS)


def waiting(store: Store, limit_bytes: int = ALL_BYTES, skip: Sequence[bytes] = ()) -> list[tuple[int, int]]:
    return [(one.epoch, one.counter) for one in store.segments_to_send(limit_bytes=limit_bytes, skip=skip)]


def digests_of(results: Sequence[WindowResult]) -> list[bytes]:
    return [result.segment_digest for result in results]


def test_signals_wait_once_their_results_are_with_the_server(store: Store, make_window: MakeWindow) -> None:
    results = filled(store, make_window, 5)
    assert waiting(store) == []
    acknowledge(store, 3)
    sent = store.segments_to_send(limit_bytes=ALL_BYTES)
    assert [(one.epoch, one.counter, one.digest) for one in sent] == [
        (1, n, results[n - 1].segment_digest) for n in (1, 2, 3)
    ]
    for one in sent:
        assert segment_digest(decode_segment(one.stored)) == one.digest
    acknowledge(store, 5)
    assert waiting(store) == [(1, n) for n in range(1, 6)]


def test_what_the_server_keeps_waits_no_more(store: Store, make_window: MakeWindow) -> None:
    results = filled(store, make_window, 4)
    acknowledge(store, 4)
    assert store.acknowledge_segments(digests_of(results[1:3])) == 2
    assert waiting(store) == [(1, 1), (1, 4)]
    assert store.acknowledge_segments(digests_of(results)) == 2
    assert waiting(store) == []


def test_the_limit_counts_stored_bytes_and_lets_one_through(store: Store, make_window: MakeWindow) -> None:
    filled(store, make_window, 4)
    acknowledge(store, 4)
    lengths = [len(one.stored) for one in store.segments_to_send(limit_bytes=ALL_BYTES)]
    assert waiting(store, 0) == [(1, 1)]
    assert waiting(store, lengths[0]) == [(1, 1)]
    assert waiting(store, sum(lengths[:3]) - 1) == [(1, 1), (1, 2)]
    assert waiting(store, sum(lengths[:3])) == [(1, 1), (1, 2), (1, 3)]


def test_what_is_skipped_takes_no_room(store: Store, make_window: MakeWindow) -> None:
    results = filled(store, make_window, 4)
    acknowledge(store, 4)
    assert waiting(store, 1, skip=digests_of(results[:2])) == [(1, 3)]


def test_a_signal_of_two_results_goes_with_the_first_that_is_held(store: Store, make_window: MakeWindow) -> None:
    store.put_setting("sync_key", b"k" * 32)
    result, segment = make_window(1)
    later = replace(result, started_at_ms=result.started_at_ms + 60_000)
    for one in (result, later):
        store.append_window(one, segment)
    acknowledge(store, 2)
    assert waiting(store) == [(1, 1)]


def test_results_without_a_signal_send_none(store: Store, make_window: MakeWindow) -> None:
    store.put_setting("sync_key", b"k" * 32)
    store.append_results([make_window(seed)[0] for seed in range(3)])
    acknowledge(store, 3)
    assert waiting(store) == []


def test_a_refused_results_signal_does_not_wait(store: Store, make_window: MakeWindow) -> None:
    filled(store, make_window, 3)
    acknowledge(store, 3, [replace_code(conflicts(2)[0])])
    assert waiting(store) == [(1, 1), (1, 3)]


def replace_code(verdict: RowVerdict) -> RowVerdict:
    """Refused for good, and for another reason than a used counter."""
    return RowVerdict(verdict.counter, verdict.code, 1)


def test_a_run_is_given_whole_or_not_at_all(store: Store, make_window: MakeWindow) -> None:
    results = filled(store, make_window, 5)
    assert list(store.sealed_run(Run(1, 2, 4))) == [
        (result_row_bytes(result), result.segment_digest) for result in results[1:4]
    ]
    for run in (Run(1, 2, 6), Run(2, 1, 1), Run(1, 6, 6)):
        assert list(store.sealed_run(run)) == []


def test_the_stored_form_is_that_of_the_codec(open_store: StoreMaker, make_window: MakeWindow) -> None:
    with_signals = open_store()
    filled(with_signals, make_window, 1)
    acknowledge(with_signals, 1)
    (one,) = with_signals.segments_to_send(limit_bytes=ALL_BYTES)
    assert one.stored == encode_segment(make_window(0)[1])
    with_signals.close()


@pytest.mark.parametrize("limit_bytes", [0, 700, 10**6])
def test_both_stores_say_the_same(limit_bytes: int, make_window: MakeWindow, open_store: StoreMaker) -> None:
    from einthoven.store_memory import MemoryStore

    stores = [open_store(), MemoryStore()]
    given = []
    for one in stores:
        results = filled(one, make_window, 6)
        acknowledge(one, 5)
        one.acknowledge_segments(digests_of(results[:1]))
        given.append(list(one.segments_to_send(limit_bytes=limit_bytes, skip={results[2].segment_digest})))
        one.close()
    assert given[0] == given[1]
