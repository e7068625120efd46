"""Random scripts: both stores agree after every step, and a store and a server end with equal digests."""

from __future__ import annotations

import copy
import secrets
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from einthoven.errors import EinthovenError
from einthoven.keys import StaticKeyProvider
from einthoven.ports import Segment, Store
from einthoven.results import WindowResult
from einthoven.store_memory import MemoryStore
from einthoven.store_sqlcipher import SqlCipherStore
from einthoven_protocol import digests
from einthoven_protocol.merge import merge_annotation
from einthoven_protocol.messages import (
    AnnotationRow,
    Cursor,
    Digest,
    ExchangeRequest,
    ExchangeResponse,
    Register,
    ResultId,
    ResultRow,
    RowVerdict,
)

MakeWindow = Callable[..., tuple[WindowResult, Segment]]
ALIAS = 3
SYNC_KEY = b"s" * 32

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
verdicts = st.lists(st.builds(RowVerdict, st.integers(1, 12), st.integers(0, 3), st.integers(0, 5)), max_size=3)
cursors = st.builds(Cursor, st.integers(0, 2), st.integers(0, 9))


def observed(store: Store) -> object:
    stats = replace(store.stats(), file_bytes=0)
    return (
        list(store.results()),
        list(store.annotations()),
        list(store.annotations(ResultId(ALIAS, 1, 2))),
        store.pending(limit=2),
        store.sync_state(),
        stats,
        store.setting("sync_key"),
    )


def outcome(call: Callable[[], object]) -> object:
    try:
        return call()
    except (EinthovenError, ValueError) as error:
        return type(error)


class TwoStores(RuleBasedStateMachine):
    """The same calls go to both stores; whatever one returns, raises or holds, so does the other."""

    def __init__(self, make_window: MakeWindow) -> None:
        super().__init__()
        self.make_window = make_window
        self.folder = tempfile.TemporaryDirectory()
        self.key = StaticKeyProvider(secrets.token_bytes(32))
        self.path = Path(self.folder.name) / "store.db"
        self.oracle = MemoryStore()
        self.store = SqlCipherStore.open(self.path, self.key)
        self.requests: list[ExchangeRequest] = []
        self.pairs: list[tuple[ExchangeRequest, ExchangeResponse]] = []

    @initialize(enrolled=st.booleans())
    def enrol(self, enrolled: bool) -> None:
        if enrolled:
            self.both(lambda store: store.put_setting("sync_key", SYNC_KEY))

    @rule(seed=st.integers(0, 5))
    def append(self, seed: int) -> None:
        self.both(lambda store: store.append_window(*self.make_window(seed)))

    @rule(row=annotation_rows)
    def annotate(self, row: AnnotationRow) -> None:
        self.both(lambda store: store.annotate(row))

    @rule(key=st.sampled_from([SYNC_KEY, b"t" * 32, b""]))
    def change_key(self, key: bytes) -> None:
        self.both(lambda store: store.put_setting("sync_key", key))

    @rule(limit=st.integers(0, 4), alias=st.sampled_from([ALIAS, ALIAS, ALIAS, 9]))
    def send(self, limit: int, alias: int) -> None:
        waiting = self.oracle.pending(limit=limit)
        request = ExchangeRequest(
            device_alias=alias,
            epoch=1,
            results=waiting.results,
            annotations=waiting.annotations,
            cursor=self.oracle.sync_state().cursor,
        )
        self.requests.append(request)

    @rule(
        acknowledged=st.integers(0, 6),
        verdicts=verdicts,
        rows=st.lists(annotation_rows, max_size=3),
        cursor=cursors,
        at_ms=st.integers(0, 99),
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
        request = self.requests[pick % len(self.requests)]
        distinct = {verdict.counter: verdict for verdict in verdicts}
        response = ExchangeResponse(
            acknowledged=acknowledged, verdicts=tuple(distinct.values()), annotations=tuple(rows), cursor=cursor
        )
        self.pairs.append((request, response))
        self.both(lambda store: store.apply_exchange(request, response, at_ms=at_ms))

    @rule(pick=st.integers(0, 99), at_ms=st.integers(0, 99))
    def receive_again(self, pick: int, at_ms: int) -> None:
        if self.pairs:
            request, response = self.pairs[pick % len(self.pairs)]
            self.both(lambda store: store.apply_exchange(request, response, at_ms=at_ms))

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = SqlCipherStore.open(self.path, self.key, create=False)
        assert observed(self.store) == observed(self.oracle)

    def both(self, call: Callable[[Store], object]) -> None:
        expected = outcome(lambda: call(self.oracle))
        assert outcome(lambda: call(self.store)) == expected
        assert observed(self.store) == observed(self.oracle)

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()


def test_both_stores_agree_after_every_step_of_a_random_script(make_window: MakeWindow) -> None:
    run_state_machine_as_test(
        lambda: TwoStores(make_window),
        settings=settings(max_examples=60, stateful_step_count=25, deadline=None, database=None),
    )


@dataclass
class Server:
    """What the protocol asks of a server, the plain way: a set of results and a feed of annotations."""

    shard_epoch: int = 1
    results: dict[int, ResultRow] = field(default_factory=dict)
    decided: int = 0
    verdict_of: dict[int, RowVerdict] = field(default_factory=dict)
    annotations: dict[tuple[ResultId, str], AnnotationRow] = field(default_factory=dict)
    feed: list[tuple[ResultId, str]] = field(default_factory=list)

    def write(self, row: AnnotationRow) -> None:
        name = (row.target, row.author)
        before = self.annotations.get(name)
        self.annotations[name] = row if before is None else merge_annotation(before, row)
        self.feed.append(name)

    def restored(self, backup: Server) -> Server:
        """What comes back from a backup: an older state, and a new history from there."""
        return replace(copy.deepcopy(backup), shard_epoch=self.shard_epoch + 1)

    def exchange(self, request: ExchangeRequest, refuse: set[int], take: int) -> ExchangeResponse:
        for row in request.results:
            if row.counter == self.decided + 1 and take > 0:
                self.decided, take = row.counter, take - 1
                if row.counter in refuse:
                    self.verdict_of[row.counter] = RowVerdict(row.counter, 2, 1)
                else:
                    self.results[row.counter] = row
        for annotation in request.annotations:
            self.write(annotation)
        since = request.cursor.commit_seq if request.cursor.shard_epoch == self.shard_epoch else 0
        pushed = {row.counter for row in request.results}
        return ExchangeResponse(
            acknowledged=self.decided,
            verdicts=tuple(verdict for counter, verdict in self.verdict_of.items() if counter in pushed),
            annotations=tuple(self.annotations[name] for name in dict.fromkeys(self.feed[since:])),
            cursor=Cursor(self.shard_epoch, len(self.feed)),
            digest=self.digest(),
        )

    def digest(self) -> Digest:
        digest = digests.EMPTY
        for row in self.results.values():
            digest = digests.add(digest, digests.result_sum(SYNC_KEY, ALIAS, 1, row))
        for annotation in self.annotations.values():
            digest = digests.add(digest, digests.annotation_sum(SYNC_KEY, annotation))
        return digest


@dataclass(frozen=True)
class Append:
    seed: int


@dataclass(frozen=True)
class Annotate:
    row: AnnotationRow


@dataclass(frozen=True)
class Clinician:
    row: AnnotationRow


@dataclass(frozen=True)
class Sync:
    """One exchange: rows the server takes, whether its answer is lost, what is written here meanwhile."""

    take: int
    lost: bool
    meanwhile: tuple[AnnotationRow, ...]


@dataclass(frozen=True)
class BackUp:
    pass


@dataclass(frozen=True)
class Restore:
    pass


def exchange(store: Store, server: Server, step: Sync, refuse: set[int]) -> None:
    waiting, state = store.pending(limit=3), store.sync_state()
    request = ExchangeRequest(
        device_alias=ALIAS, epoch=1, results=waiting.results, annotations=waiting.annotations, cursor=state.cursor
    )
    response = server.exchange(request, refuse, step.take)
    for row in step.meanwhile:
        store.annotate(row)
    if not step.lost:
        store.apply_exchange(request, response, at_ms=1)


def run(store: Store, script: list[object], refuse: set[int], make_window: MakeWindow) -> Server:
    """Play a script, then exchange until nothing can be left."""
    server = Server()
    backup = copy.deepcopy(server)
    for step in script:
        match step:
            case Append(seed):
                store.append_window(*make_window(seed))
            case Annotate(row):
                store.annotate(row)
            case Clinician(row):
                server.write(row)
            case Sync():
                exchange(store, server, step, refuse)
            case BackUp():
                backup = copy.deepcopy(server)
            case Restore():
                server = server.restored(backup)
    for _ in range(len(script) + 3):
        exchange(store, server, Sync(take=3, lost=False, meanwhile=()), refuse)
    return server


steps = st.one_of(
    st.builds(Append, st.integers(0, 5)),
    st.builds(Annotate, annotation_rows),
    st.builds(Clinician, annotation_rows),
    st.builds(Sync, st.integers(0, 3), st.booleans(), st.lists(annotation_rows, max_size=2).map(tuple)),
    st.sampled_from([BackUp(), Restore()]),
)


@pytest.mark.parametrize("adapter", ["memory", "sqlcipher"])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(script=st.lists(steps, max_size=20), refuse=st.sets(st.integers(1, 8), max_size=2))
def test_store_and_server_converge_whatever_is_lost(
    adapter: str, make_window: MakeWindow, script: list[object], refuse: set[int]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        key = StaticKeyProvider(secrets.token_bytes(32))
        with MemoryStore() if adapter == "memory" else SqlCipherStore.open(Path(folder) / "s.db", key) as store:
            store.put_setting("sync_key", SYNC_KEY)
            server = run(store, script, refuse, make_window)

            state = store.sync_state()
            assert state.waiting == 0
            assert state.last_digest_equal is True
            assert state.digest == server.digest()
            assert {verdict.counter for verdict in state.refused} == set(server.verdict_of)
            mine = {(row.target, row.author): row for row in store.annotations()}
            for name, row in server.annotations.items():
                # Where a server lost a clinician's later words, they stay here: the device may not send them.
                assert merge_annotation(mine[name], row) == mine[name]
            if Restore() not in script:
                assert mine == server.annotations
