"""What the in-memory store has beyond the port: a disk that can be full."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from einthoven.errors import StoreIOError
from einthoven.ports import Segment
from einthoven.results import InconclusiveReason, Quality, Rhythm, RiskTier, WindowResult
from einthoven.segments import encode_segment, segment_digest
from einthoven.store_events import ContentDropped
from einthoven.store_memory import MemoryStore
from einthoven.store_values import DropReason


def window(seed: int) -> tuple[WindowResult, Segment]:
    segment = Segment(Fraction(128), np.full(8, seed, np.int32))
    result = WindowResult(
        counter=0,
        started_at_ms=0,
        duration_ms=62,
        n_steps=0,
        usable_s=0,
        quality=Quality.FLAT,
        rhythm=Rhythm.NOISE,
        confidence_permille=0,
        logits=(0, 0, 0, 0),
        tier=RiskTier.INCONCLUSIVE,
        reason=InconclusiveReason.TOO_SHORT,
        model_digest=b"m" * 32,
        front_end_version=1,
        segment_digest=segment_digest(segment),
    )
    return result, segment


def test_a_full_store_refuses_without_a_hole_and_takes_rows_again_once_there_is_space() -> None:
    with MemoryStore(max_windows=2) as store:
        store.append_windows([window(1), window(2)])
        with pytest.raises(StoreIOError, match="full"):
            store.append_window(*window(3))
        assert (store.stats().results, store.stats().segments) == (2, 2)

        store.max_windows = None
        assert store.append_window(*window(3)).counter == 3


def test_a_full_disk_drops_the_oldest_signals_and_says_so() -> None:
    windows = [window(seed) for seed in range(4)]
    sizes = [len(encode_segment(segment)) for _, segment in windows]
    store = MemoryStore(max_signal_bytes=3 * max(sizes))
    for each in windows[:3]:
        store.append_window(*each)
    store.acknowledge_segments([windows[1][0].segment_digest])

    store.append_window(*windows[3])

    assert [store.segment(result.segment_digest) is None for result, _ in windows] == [False, True, False, False]
    (event,) = store.take_events()
    assert isinstance(event, ContentDropped)
    assert (event.count, event.unacknowledged, event.reason) == (1, 0, DropReason.DISK_FULL)
    store.append_window(*window(4))
    (event,) = store.take_events()
    assert isinstance(event, ContentDropped)
    assert (event.count, event.unacknowledged) == (1, 1)


def test_a_signal_that_does_not_fit_an_empty_disk_is_refused() -> None:
    store = MemoryStore(max_signal_bytes=10)

    with pytest.raises(StoreIOError, match="full"):
        store.append_window(*window(1))

    assert store.stats().results == 0
