"""Results that come down as a batch leave a store as they do one by one, whatever was there before."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import numpy as np
import pytest
from tests.contracts.conftest import StoreMaker, window
from tests.contracts.exchanges import ALIAS, SYNC_KEY

from einthoven.ports import Store
from einthoven.result_rows import to_row
from einthoven.store_sqlcipher import SqlCipherStore
from einthoven.store_values import RetentionPolicy
from einthoven_protocol.canonical import encode_result_rows
from einthoven_protocol.canonical_results import packed_results
from einthoven_protocol.messages import (
    Capability,
    Cursor,
    ExchangeRequest,
    ExchangeResponse,
    IdentifiedResult,
    Owner,
    ResultId,
)
from einthoven_protocol.packed_results import IdentifiedResults

NOW_MS = 1_800_000_000_000
DEVICES = (ALIAS, 8, 9)
OWNERS = tuple(Owner(alias, SYNC_KEY if alias == ALIAS else bytes([alias]) * 32) for alias in DEVICES[:2])
"""The key of the last device is not known."""
N_OWN = 6


def a_page(chance: random.Random, step: int) -> tuple[IdentifiedResult, ...]:
    """Results of some devices and epochs, some of which came before, some with another content."""
    names = {
        ResultId(alias, epoch, counter)
        for alias in DEVICES
        for epoch in (1, 2)
        if chance.random() < 0.6
        for counter in chance.sample(range(1, 25), chance.randrange(1, 9))
        if (alias, epoch) != (ALIAS, 1) or counter <= N_OWN + 3
    }
    names |= {ResultId(8, 3, 10 * step + n) for n in range(1, 10)}
    found = sorted(names)
    if chance.random() < 0.3:
        chance.shuffle(found)
    changed = chance.random() < 0.2
    return tuple(
        IdentifiedResult(
            device_alias=name.device_alias,
            epoch=name.epoch,
            row=msgspec.structs.replace(
                to_row(window(name.counter)[0]), counter=name.counter, n_steps=30 + (changed and name.counter % 3 == 0)
            ),
        )
        for name in found
    )


def as_batch(page: tuple[IdentifiedResult, ...]) -> IdentifiedResults:
    rows = packed_results(encode_result_rows([one.row for one in page]))
    assert rows is not None
    aliases, epochs = ([one.device_alias for one in page], [one.epoch for one in page])
    return IdentifiedResults(np.array(aliases, np.int64), np.array(epochs, np.int64), rows)


def tell(store: Store, results: Any, step: int, *, new_history: bool) -> None:
    state = store.sync_state()
    pending = store.pending(limit=4)
    request = ExchangeRequest(device_alias=ALIAS, epoch=pending.epoch, cursor=state.cursor, results=pending.results)
    response = ExchangeResponse(
        acknowledged=request.results[-1].counter if request.results else state.acknowledged,
        cursor=Cursor(state.cursor.shard_epoch + new_history, step),
        capabilities=int(Capability.FEED),
        owners=() if state.owners else OWNERS,
        results=results,
    )
    store.apply_exchange(request, response, at_ms=NOW_MS + step)


def told(store: Store, seed: int, *, batches: bool) -> dict[str, Any]:
    """Everything that a store holds after some answers."""
    chance = random.Random(seed)
    store.put_setting("sync_key", SYNC_KEY)
    store.append_results([window(seed)[0] for seed in range(N_OWN)])
    for step in range(1, 8):
        page = a_page(chance, step)
        new_history = chance.random() < 0.1
        tell(store, as_batch(page) if batches else page, step, new_history=new_history)
        if chance.random() < 0.25:
            first_kept_ms = 1_700_000_000_000 + 30_000 * chance.randrange(1, 12)
            store.retain(RetentionPolicy(results_max_age_ms=NOW_MS - first_kept_ms), at_ms=NOW_MS)
    state = store.sync_state()
    held: dict[str, Any] = {
        "replicas": list(store.replicas(0, 2**60, limit=10_000)),
        "state": state,
        "shares": [store.shares(alias, 1).shares.tolist() for alias in DEVICES],
    }
    if isinstance(store, SqlCipherStore):
        assert store.check().sound
        held["lines"] = store._read(
            lambda rows: rows.connection.execute("SELECT * FROM replica ORDER BY 1, 2").fetchall()
        )
    return held


@pytest.mark.parametrize("seed", range(12))
def test_a_batch_is_taken_in_as_its_rows_are(open_store: StoreMaker, seed: int) -> None:
    found = []
    for batches in (False, True):
        store = open_store()
        try:
            found.append(told(store, seed, batches=batches))
        finally:
            store.close()
    one_by_one, at_once = found
    # Tags are keyed by the store, and so differ.
    for held in found:
        held["lines"] = [line[:-1] for line in held.get("lines", ())]
    assert at_once == one_by_one
    assert len(at_once["replicas"]) > 20
