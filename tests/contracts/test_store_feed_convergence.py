"""Random scripts of two devices of a patient, a console and a server that may lose rows: all come to hold the same."""

from __future__ import annotations

import copy
import secrets
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.contracts.exchanges import MakeWindow
from tests.contracts.model_shard import ModelShard

from einthoven.keys import StaticKeyProvider
from einthoven.ports import Store
from einthoven.results import RiskTier
from einthoven.store_memory import MemoryStore
from einthoven.store_rules_feed import all_equal
from einthoven.store_sqlcipher import SqlCipherStore
from einthoven.store_values import RetentionPolicy
from einthoven_protocol.messages import (
    AnnotationRow,
    BucketDigest,
    BucketKind,
    Capability,
    Digest,
    Document,
    ExchangeRequest,
    Register,
    ResultId,
    RowKind,
    Tombstone,
)
from einthoven_protocol.repair import RepairPlan, Standing

START_MS, WINDOW_MS = 1_700_000_000_000, 30_000
ALIASES = (7, 8)
KEYS = {7: b"k" * 32, 8: b"l" * 32}
LIMIT = 3

who = st.integers(0, 1)
steps = st.one_of(
    st.tuples(st.just("append"), who, st.booleans()),
    st.tuples(st.just("say"), who, st.integers(0, 9), st.sampled_from("xyz")),
    st.tuples(st.just("note"), who, st.sampled_from("ab")),
    st.tuples(st.just("delete"), who, st.integers(0, 9)),
    st.tuples(st.just("exchange"), who, st.sampled_from([False, False, True])),
    st.tuples(st.just("exchange"), who, st.just(False)),
    st.tuples(st.just("console says"), st.integers(0, 9), st.sampled_from("xyz")),
    st.tuples(st.just("console notes")),
    st.tuples(st.just("erase"), st.integers(0, 9)),
    st.tuples(st.just("drop"), who),
    st.tuples(st.sampled_from(["decide", "collect", "lose", "back up", "restore"])),
)
A_DELETED_NOTE_AFTER_A_RESTORE = [
    ("back up",),
    ("note", 0, "a"),
    ("note", 0, "b"),
    *[("exchange", 0, False)] * 2,
    ("delete", 0, 0),
    *[("exchange", 0, False)] * 2,
    ("restore",),
]
WORDS_OF_TWO = [
    ("append", 0, False),
    *[("exchange", 0, False)] * 2,
    *[("exchange", 1, False)] * 2,
    ("say", 0, 0, "x"),
    ("say", 1, 0, "y"),
    ("exchange", 0, False),
    ("exchange", 1, False),
]
ALERTS = [*[("append", 0, False)] * 5, ("append", 0, True), *[("exchange", 0, False)] * 2, ("append", 0, True)]
DELETED_AND_COLLECTED = [
    ("append", 0, False),
    *[("exchange", 0, False)] * 2,
    *[("exchange", 1, False)] * 3,
    ("erase", 0),
    ("console notes",),
    ("collect",),
    ("say", 1, 0, "x"),
]


class Play:
    """One script."""

    def __init__(self, stores: list[Store], make_window: MakeWindow) -> None:
        self.stores = stores
        self.make_window = make_window
        self.shard = ModelShard(KEYS)
        self.backup = copy.deepcopy(self.shard)
        self.clock = 0
        self.version = 0
        self.erased: set[ResultId] = set()

    def step(self, name: str, *said: Any) -> None:
        self.clock += 1
        match name, *said:
            case "append", int(at), bool(urgent):
                result, segment = self.make_window(self.clock)
                tier = RiskTier.URGENT if urgent else RiskTier.ROUTINE
                self.stores[at].append_window(replace(result, tier=tier), segment)
            case "say", int(at), int(pick), str(text):
                self.say(at, pick, text)
            case "note", int(at), str(text):
                self.stores[at].add_note("patient", text, at_ms=START_MS + self.clock)
            case "delete", int(at), int(pick):
                self.delete(at, pick)
            case "exchange", int(at), bool(lost):
                self.exchange(at, lost=lost)
            case "console says", int(pick), str(text):
                if self.shard.results:
                    target = sorted(self.shard.results)[pick % len(self.shard.results)]
                    self.shard.write(self.words(target, "clinician", text))
            case "console notes", *_:
                self.shard.add_note("seen", START_MS + self.clock)
            case "erase", int(pick):
                if self.shard.results:
                    target = sorted(self.shard.results)[pick % len(self.shard.results)]
                    self.erased.add(target)
                    self.shard.erase(target)
            case "drop", int(at):
                policy = RetentionPolicy(results_max_age_ms=WINDOW_MS)
                self.stores[at].retain(policy, at_ms=START_MS + WINDOW_MS * self.clock)
            case "decide", *_:
                self.version += 1
                self.shard.decide(
                    Document(name="settings/a", version=self.version, issued_at_ms=1, body=b"{}", signature=b"s")
                )
            case "collect", *_:
                self.shard.collect()
            case "lose", *_:
                self.shard.lose(1)
            case "back up", *_:
                self.backup = copy.deepcopy(self.shard)
            case "restore", *_:
                self.shard = self.shard.restored(self.backup)

    def words(self, target: ResultId, author: str, text: str) -> AnnotationRow:
        return AnnotationRow(
            target=target, author=author, rhythm=Register("", 0), comment=Register(text, self.clock << 16)
        )

    def say(self, at: int, pick: int, text: str) -> None:
        store = self.stores[at]
        known = [
            ResultId(ALIASES[at], stored.epoch, stored.result.counter) for stored in store.results_between(0, 2**60)
        ]
        known += [ResultId(one.device_alias, one.epoch, one.row.counter) for one in store.replicas(0, 2**60)]
        if known:
            store.annotate(self.words(sorted(known)[pick % len(known)], "patient", text))

    def delete(self, at: int, pick: int) -> None:
        store, alias = self.stores[at], ALIASES[at]
        mine = [
            Tombstone(RowKind.NOTE, note.device_alias, note.epoch, note.counter)
            for note in store.notes(0, 2**60)
            if note.device_alias in (alias, 0) and note.author == "patient"
        ]
        if mine:
            store.delete(mine[pick % len(mine)])

    def request(self, at: int) -> ExchangeRequest:
        store, state = self.stores[at], self.stores[at].sync_state()
        waiting = store.pending(limit=LIMIT)
        feeds = bool(state.capabilities & Capability.FEED)
        speaks = feeds and not state.rebaseline
        return ExchangeRequest(
            device_alias=ALIASES[at],
            epoch=waiting.epoch,
            cursor=state.cursor,
            capabilities=int(Capability.FEED),
            owners_known=state.owners,
            results=waiting.results,
            annotations=waiting.annotations if speaks else (),
            annotation_bases=waiting.annotation_bases if speaks else (),
            alerts=waiting.alerts if feeds else (),
            notes=waiting.notes if feeds else (),
            deletions=waiting.deletions if speaks else (),
        )

    def exchange(self, at: int, *, lost: bool) -> bool:
        """Whether another one would bring anything."""
        request = self.request(at)
        response = self.shard.exchange(request)
        if lost:
            return True
        before = self.stores[at].sync_state()
        state = self.stores[at].apply_exchange(request, response, at_ms=START_MS + WINDOW_MS * self.clock)
        again = self.stores[at].apply_exchange(request, response, at_ms=START_MS + WINDOW_MS * self.clock)
        assert again == state, "the same answer changed something twice"
        return response.more or before != state or self.request(at) != request

    def repair(self, at: int) -> None:
        store, alias = self.stores[at], ALIASES[at]
        state = store.sync_state()
        mine = {(one.device_alias, one.kind): one for one in state.digests}
        mine[alias, int(BucketKind.RECORDS)] = BucketDigest(alias, 1, state.digest.count, state.digest.total)
        theirs = {(one.device_alias, one.kind): one for one in state.server_digests}
        for name in sorted({*mine, *theirs}):
            empty = BucketDigest(*name, 0, 0)
            said = theirs.get(name, empty)
            if mine.get(name, empty) != said or store.sync_state().waiting_given:
                self.mend(at, *name, Digest(said.count, said.total))

    def mend(self, at: int, owner: int, kind: int, theirs: Digest) -> None:
        store, alias = self.stores[at], ALIASES[at]
        plan = RepairPlan(alias, owner, kind, theirs)
        while (request := plan.next(self.standing(store, alias, owner, kind))) is not None:
            response = self.shard.repair(request)
            plan.take(response)
            state = store.apply_repair(request, response, at_ms=START_MS)
            assert store.apply_repair(request, response, at_ms=START_MS) == state, "twice changed something"

    def standing(self, store: Store, alias: int, owner: int, kind: int) -> Standing:
        shares, state = store.shares(owner, kind).shares, store.sync_state()
        digests = {(one.device_alias, one.kind): Digest(one.count, one.total) for one in state.digests}
        ours = state.digest if (owner, kind) == (alias, 1) else digests.get((owner, kind), Digest(0, 0))
        assert len(shares) == ours.count
        given, _ = store.to_give(limit=LIMIT) if (owner, kind) == (alias, 1) else ((), ())
        return Standing(shares=shares, ours=ours, session=bytes(16), given=given)

    def settle(self) -> None:
        for _ in range(6):
            for at in range(len(self.stores)):
                rounds = 0
                while self.exchange(at, lost=False):
                    rounds += 1
                    assert rounds < 200, "device and server do not come to an end"
                if not self.stores[at].sync_state().last_digest_equal:
                    self.repair(at)
            if all(self.is_settled(at) for at in range(len(self.stores))):
                return
        raise AssertionError("device and server do not come to an end")

    def is_settled(self, at: int) -> bool:
        state = self.stores[at].sync_state()
        own, others = self.shard.digests(ALIASES[at])
        return not state.waiting and all_equal(state.digest, own, state.digests, others)


@pytest.mark.parametrize("adapter", ["memory", "sqlcipher"])
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(script=st.lists(steps, max_size=25))
@example(script=A_DELETED_NOTE_AFTER_A_RESTORE)
@example(script=WORDS_OF_TWO)
@example(script=ALERTS)
@example(script=DELETED_AND_COLLECTED)
def test_two_devices_and_a_server_come_to_hold_the_same(
    adapter: str, make_window: MakeWindow, script: list[tuple[Any, ...]]
) -> None:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        stores: list[Store] = []
        for alias in ALIASES:
            key = StaticKeyProvider(secrets.token_bytes(32))
            opened: MemoryStore | SqlCipherStore = (
                MemoryStore() if adapter == "memory" else SqlCipherStore.open(Path(folder) / f"{alias}" / "s.db", key)
            )
            stack.callback(opened.close)
            stores.append(opened)
            opened.put_setting("sync_key", KEYS[alias])
        play = Play(stores, make_window)
        for step in script:
            play.step(*step)
        play.settle()

        shard = play.shard
        held = {held.row.started_at_ms for held in shard.results.values()}
        for at, store in enumerate(stores):
            state = store.sync_state()
            assert all_equal(state.digest, shard.digests(ALIASES[at])[0], state.digests, shard.digests(ALIASES[at])[1])
            assert not state.rebaseline
            deleted = ("delete",) in {step[:1] for step in script}
            listed = {(note.device_alias, note.epoch, note.counter) for note in store.notes(0, 2**60)}
            assert listed >= set(shard.notes) or deleted
            if not {("lose",), ("restore",), ("collect",)} & {step[:1] for step in script}:
                here = {stored.result.started_at_ms for stored in store.results_between(0, 2**60)}
                refused = {verdict.counter for verdict in state.refused}
                assert len(here - held) <= len(refused), "a result was lost"
                annotations = {(row.target, row.author): row for row in store.annotations()}
                assert annotations == {name: row.row for name, row in shard.annotations.items()}
