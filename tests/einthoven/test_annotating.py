"""A patient's own words: later wins over earlier, whatever the clock does; nonsense is refused."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from einthoven.annotating import annotate
from einthoven.clock import FixedClock
from einthoven.errors import InputError, NotEnrolled
from einthoven.identity import Identity, save_identity
from einthoven.ports import Segment
from einthoven.results import InconclusiveReason, Quality, Rhythm, RiskTier, WindowResult
from einthoven.segments import segment_digest
from einthoven.store_memory import MemoryStore
from einthoven_protocol.messages import Cursor, ExchangeRequest, ExchangeResponse, ResultId

NOW = 1_780_000_000_000


@pytest.fixture
def store() -> MemoryStore:
    """An enrolled store with one result."""
    store = MemoryStore()
    segment = Segment(Fraction(250), np.zeros(2500, np.int32))
    result = WindowResult(
        counter=0,
        started_at_ms=NOW,
        duration_ms=10_000,
        n_steps=8,
        usable_s=0,
        quality=Quality.FLAT,
        rhythm=Rhythm.NOISE,
        confidence_permille=0,
        logits=(0, 0, 0, 0),
        tier=RiskTier.INCONCLUSIVE,
        reason=InconclusiveReason.POOR_SIGNAL,
        model_digest=bytes(32),
        front_end_version=1,
        segment_digest=segment_digest(segment),
    )
    store.append_window(replace(result), segment)
    identity = Identity(
        device_id="device-1",
        device_alias=7,
        url="https://localhost",
        ca_pem="",
        signing_key=bytes(32),
        tenant="t",
        patient_id="p",
    )
    save_identity(store, identity, bytes(32))
    return store


def test_fields_are_written_one_by_one(store: MemoryStore) -> None:
    annotate(store, 1, comment="felt dizzy", clock=FixedClock(NOW))
    row = annotate(store, 1, rhythm="A", clock=FixedClock(NOW))
    assert (row.comment.value, row.rhythm.value, row.author) == ("felt dizzy", "A", "device-1")
    assert store.sync_state().waiting == 2


def test_a_later_write_wins_although_the_clock_went_back(store: MemoryStore) -> None:
    clock = FixedClock(NOW)
    annotate(store, 1, comment="first", clock=clock)
    clock.advance(-365 * 86_400_000)
    assert annotate(store, 1, comment="second", clock=clock).comment.value == "second"


@pytest.mark.parametrize(
    "said",
    [{}, {"rhythm": "AF"}, {"comment": "x" * 2001}, {"comment": "a\0b"}, {"comment": "\ud800"}],
)
def test_nonsense_is_refused(store: MemoryStore, said: dict[str, str]) -> None:
    with pytest.raises(InputError):
        annotate(store, 1, rhythm=said.get("rhythm"), comment=said.get("comment"))
    assert store.annotations() == []


def test_a_result_that_is_not_there_is_refused(store: MemoryStore) -> None:
    with pytest.raises(InputError, match="no result 2"):
        annotate(store, 2, comment="x")


def test_a_result_of_an_epoch_that_has_ended_is_reached_by_its_epoch(store: MemoryStore) -> None:
    """As ``results_between`` lists it."""
    server_knows_more = ExchangeResponse(acknowledged=9, cursor=Cursor(1, 1))
    question = ExchangeRequest(device_alias=7, epoch=1)
    assert store.apply_exchange(question, server_knows_more, at_ms=NOW).epoch > 1
    (listed,) = store.results_between(0, NOW)

    row = annotate(store, listed.result.counter, epoch=listed.epoch, comment="x", clock=FixedClock(NOW))

    assert row.target == ResultId(7, 1, 1)
    for epoch in (None, 2**31, store.sync_state().epoch):
        with pytest.raises(InputError, match="no result 1"):
            annotate(store, 1, epoch=epoch, comment="y")


def test_without_a_server_an_author_has_no_name() -> None:
    with pytest.raises(NotEnrolled):
        annotate(MemoryStore(), 1, comment="x")
