"""Random calls: whatever the encrypted store returns, raises or holds, so does the one in memory."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from tests.contracts.exchanges import MakeWindow

from einthoven.clock import FixedClock
from einthoven.errors import EinthovenError
from einthoven.keys import StaticKeyProvider
from einthoven.ports import Pending, Store
from einthoven.store_memory import MemoryStore
from einthoven.store_sqlcipher import SqlCipherStore
from einthoven.store_values import AuditAction, BeatRun, RetentionPolicy
from einthoven_protocol.messages import (
    AnnotationRow,
    Cursor,
    ExchangeRequest,
    ExchangeResponse,
    Register,
    RejectReason,
    ResultId,
    RowVerdict,
    VerdictCode,
)

ALIAS = 3
SYNC_KEY = b"s" * 32
START_MS = 1_700_000_000_000
WINDOW_MS = 30_000

annotation_rows = st.builds(
    lambda counter, author, rhythm, comment, hlcs: AnnotationRow(
        target=ResultId(ALIAS, 1, counter),
        author=author,
        rhythm=Register(rhythm, hlcs[0]),
        comment=Register(comment, hlcs[1]),
    ),
    st.integers(1, 3),
    st.sampled_from(["a", "b"]),
    st.sampled_from(["", "N", "A"]),
    st.sampled_from(["", "x", "ü"]),
    st.tuples(st.integers(0, 5), st.integers(0, 5)),
)
reused = st.builds(
    lambda counter: RowVerdict(counter, VerdictCode.REJECTED, RejectReason.CONFLICTS_WITH_STORED), st.integers(1, 6)
)
verdicts = st.lists(
    st.one_of(st.builds(RowVerdict, st.integers(1, 12), st.integers(0, 3), st.integers(0, 5)), reused), max_size=3
)
cursors = st.builds(Cursor, st.sampled_from([0, 1, 1, 1, 2]), st.integers(0, 9))
times = st.integers(-1, 8).map(lambda step: START_MS + WINDOW_MS * step)
ages = st.one_of(st.none(), st.integers(0, 4).map(lambda steps: WINDOW_MS * steps))
beat_runs = st.builds(
    lambda start, rr_ms, classes: BeatRun(
        START_MS + WINDOW_MS * start + np.cumsum(rr_ms[: len(classes)], dtype=np.int64),
        np.array(classes[: len(rr_ms)], np.uint8),
    ),
    st.integers(0, 6),
    st.lists(st.integers(0, 40_000), min_size=1, max_size=4),
    st.lists(st.integers(0, 3), min_size=1, max_size=4),
)


def observed(store: Store) -> dict[str, object]:
    stats = store.stats()
    return {
        "results": list(store.results()),
        "of all epochs": list(store.results_between(0, 2**60)),
        "between": list(store.results_between(START_MS + 1, START_MS + 3 * WINDOW_MS, limit=3)),
        "beats": list(store.beats(0, 2**60)),
        "beats between": list(store.beats(START_MS + 2 * WINDOW_MS, START_MS + 3 * WINDOW_MS, limit=2)),
        "annotations": list(store.annotations()),
        "of one target": list(store.annotations(ResultId(ALIAS, 1, 2))),
        "pending": store.pending(limit=2),
        "no pending": store.pending(limit=0),
        "state": store.sync_state(),
        "key": store.setting("sync_key"),
        "audit": list(store.audit_trail()),
        "events": store.take_events(),
        "stats": [
            getattr(stats, name) for name in stats.__dataclass_fields__ if name not in ("file_bytes", "free_bytes")
        ],
    }


def outcome(call: Callable[[], object]) -> object:
    try:
        return call()
    except (EinthovenError, ValueError) as error:
        return type(error)


class TwoStores(RuleBasedStateMachine):
    """The same calls go to both stores."""

    def __init__(self, make_window: MakeWindow) -> None:
        super().__init__()
        self.make_window = make_window
        self.folder = tempfile.TemporaryDirectory()
        self.key = StaticKeyProvider(secrets.token_bytes(32))
        self.path = Path(self.folder.name) / "store.db"
        self.clock = FixedClock(START_MS)
        self.store = self.opened()
        self.epochs = [1]
        self.oracle = MemoryStore(clock=self.clock, draw=self.draw)
        self.requests: list[ExchangeRequest] = []
        self.pairs: list[tuple[ExchangeRequest, ExchangeResponse]] = []

    def opened(self) -> SqlCipherStore:
        return SqlCipherStore.open(self.path, self.key, clock=self.clock)

    def draw(self, n: int) -> int:
        """The encrypted store was asked first; the oracle draws what that one did."""
        drawn = self.store.sync_state().epoch - max(self.epochs) - 1
        assert 0 <= drawn < n
        return drawn

    def both(self, call: Callable[[Store], Any]) -> None:
        actual = outcome(lambda: call(self.store))
        assert outcome(lambda: call(self.oracle)) == actual
        assert observed(self.store) == observed(self.oracle)
        epoch = self.oracle.sync_state().epoch
        if epoch != self.epochs[-1]:
            self.epochs.append(epoch)

    @initialize(enrolled=st.sampled_from([True, True, True, False]))
    def enrol(self, enrolled: bool) -> None:
        if enrolled:
            self.both(lambda store: store.put_setting("sync_key", SYNC_KEY))

    @rule(seeds=st.lists(st.integers(0, 5), min_size=1, max_size=3))
    def append(self, seeds: list[int]) -> None:
        self.both(lambda store: store.append_windows([self.make_window(seed) for seed in seeds]))

    @rule(seed=st.integers(0, 5), beats=beat_runs)
    def append_with_beats(self, seed: int, beats: BeatRun) -> None:
        self.both(lambda store: store.append_window(*self.make_window(seed), beats))

    @rule(seeds=st.lists(st.integers(0, 5), max_size=3))
    def append_results(self, seeds: list[int]) -> None:
        self.both(lambda store: store.append_results([self.make_window(seed)[0] for seed in seeds]))

    @rule(beats=beat_runs)
    def append_beats(self, beats: BeatRun) -> None:
        self.both(lambda store: store.append_beats(beats))

    @rule(seeds=st.lists(st.integers(0, 5), max_size=3))
    def acknowledge(self, seeds: list[int]) -> None:
        digests = [self.make_window(seed)[0].segment_digest for seed in seeds]
        self.both(lambda store: store.acknowledge_segments([*digests, b"x" * 32]))

    @rule(row=annotation_rows, epoch=st.integers(0, 99), swap=st.booleans())
    def annotate(self, row: AnnotationRow, epoch: int, swap: bool) -> None:
        target = ResultId(ALIAS, self.epochs[epoch % len(self.epochs)] if swap else 1, row.target.counter)
        named = AnnotationRow(target=target, author=row.author, rhythm=row.rhythm, comment=row.comment)
        self.both(lambda store: store.annotate(named))

    @rule(key=st.sampled_from([SYNC_KEY, SYNC_KEY, b"t" * 32, b""]))
    def change_key(self, key: bytes) -> None:
        self.both(lambda store: store.put_setting("sync_key", key))

    @rule(signal_age=ages, beats_age=ages, results_age=ages, size=st.sampled_from([None, 0, 600]), at_ms=times)
    def retain(
        self, signal_age: int | None, beats_age: int | None, results_age: int | None, size: int | None, at_ms: int
    ) -> None:
        policy = RetentionPolicy(
            signal_max_age_ms=signal_age,
            signal_max_bytes=size,
            beats_max_age_ms=beats_age,
            results_max_age_ms=results_age,
        )
        self.both(lambda store: store.retain(policy, at_ms=at_ms))

    @rule(subject=st.sampled_from(["", "7", "x" * 201, "\ud800"]), at_ms=st.integers(-1, 9))
    def record(self, subject: str, at_ms: int) -> None:
        self.both(lambda store: store.record(AuditAction.VIEWED, subject, at_ms=at_ms))

    @rule(limit=st.integers(0, 4), alias=st.sampled_from([ALIAS, ALIAS, ALIAS, 9]))
    def send(self, limit: int, alias: int) -> None:
        waiting = self.oracle.pending(limit=limit)
        self.requests.append(
            ExchangeRequest(
                device_alias=alias,
                epoch=waiting.epoch,
                results=waiting.results,
                annotations=waiting.annotations,
                cursor=self.oracle.sync_state().cursor,
            )
        )

    @rule(pick=st.integers(0, 99), stray=st.booleans())
    def ask(self, pick: int, stray: bool) -> None:
        epoch = self.epochs[pick % len(self.epochs)] + stray * 7
        self.requests.append(ExchangeRequest(device_alias=ALIAS, epoch=epoch, cursor=self.oracle.sync_state().cursor))

    @rule(
        acknowledged=st.integers(0, 7),
        verdicts=verdicts,
        rows=st.lists(annotation_rows, max_size=3),
        cursor=cursors,
        at_ms=times,
        pick=st.integers(0, 99),
    )
    def receive(
        self,
        acknowledged: int,
        verdicts: list[RowVerdict],
        rows: list[AnnotationRow],
        cursor: Cursor,
        at_ms: int,
        pick: int,
    ) -> None:
        if not self.requests:
            return
        request = self.requests[-1 - pick % len(self.requests) % 3]
        distinct = {verdict.counter: verdict for verdict in verdicts}
        response = ExchangeResponse(
            acknowledged=acknowledged, verdicts=tuple(distinct.values()), annotations=tuple(rows), cursor=cursor
        )
        self.pairs.append((request, response))
        self.both(lambda store: store.apply_exchange(request, response, at_ms=at_ms))

    @invariant()
    def no_word_goes_before_its_result(self) -> None:
        """R9, whatever happened before."""
        annotations = self.oracle.pending(limit=1_000).annotations
        waiting = {
            (stored.epoch, stored.result.counter)
            for stored in self.oracle.results_between(0, 2**60)
            if stored.result.counter > self.oracle._books.acknowledged[stored.epoch]
        }
        assert not waiting & {(row.target.epoch, row.target.counter) for row in annotations}

    @rule(at_ms=times, limit=st.integers(1, 4))
    def settle(self, at_ms: int, limit: int) -> None:
        """One exchange with a server that takes everything."""
        waiting, state = self.oracle.pending(limit=limit), self.oracle.sync_state()
        acknowledged = waiting.results[-1].counter if waiting.results else state.last_counter
        self.exchange(waiting, acknowledged, state.cursor, at_ms)

    @rule(at_ms=times, acknowledged=st.integers(0, 4), history=st.integers(0, 1))
    def lose(self, at_ms: int, acknowledged: int, history: int) -> None:
        """An empty exchange with a server that lost much, as it says or as it does not."""
        waiting, state = self.oracle.pending(limit=0), self.oracle.sync_state()
        cursor = Cursor(state.cursor.shard_epoch + history, state.cursor.commit_seq)
        self.exchange(waiting, acknowledged, cursor, at_ms)

    def exchange(self, waiting: Pending, acknowledged: int, cursor: Cursor, at_ms: int) -> None:
        request = ExchangeRequest(
            device_alias=ALIAS,
            epoch=waiting.epoch,
            results=waiting.results,
            annotations=waiting.annotations,
            cursor=self.oracle.sync_state().cursor,
        )
        response = ExchangeResponse(acknowledged=acknowledged, cursor=cursor)
        self.pairs.append((request, response))
        self.both(lambda store: store.apply_exchange(request, response, at_ms=at_ms))

    @rule(pick=st.integers(0, 99), at_ms=times)
    def receive_again(self, pick: int, at_ms: int) -> None:
        if self.pairs:
            request, response = self.pairs[pick % len(self.pairs)]
            self.both(lambda store: store.apply_exchange(request, response, at_ms=at_ms))

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = self.opened()
        assert observed(self.store) == observed(self.oracle)

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()


@pytest.mark.parametrize("examples", [12, pytest.param(100, marks=pytest.mark.slow)])
def test_both_stores_agree_after_every_step_of_a_random_script(make_window: MakeWindow, examples: int) -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call, unused-ignore]
        lambda: TwoStores(make_window),  # type: ignore[arg-type]  # Hypothesis takes any callable
        settings=settings(max_examples=examples, stateful_step_count=25, deadline=None, database=None),
    )
