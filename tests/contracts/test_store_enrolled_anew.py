"""The Store port's acceptance suite, rule R10: a device that is enrolled anew, to a server that knows nothing of it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from tests.contracts.exchanges import (
    ALIAS,
    SYNC_KEY,
    MakeWindow,
    annotation,
    conflicts,
    digest_of,
    filled,
    plus,
    push,
    push_together,
)
from tests.contracts.model_server import ModelServer

from einthoven.identity import FORMER_IDENTITY_SETTING, IDENTITY_SETTING, Identity, find_identity, save_identity
from einthoven.keys import StaticKeyProvider
from einthoven.ports import Store
from einthoven.store_events import ForkReason, StoreForked
from einthoven.store_memory import MemoryStore
from einthoven.store_sqlcipher import SqlCipherStore
from einthoven.store_values import RetentionPolicy
from einthoven_protocol import digests
from einthoven_protocol.exchange import check_response
from einthoven_protocol.messages import Cursor, ExchangeResponse, RejectReason, ResultId, RowVerdict, VerdictCode

NEW_KEY = b"n" * 32
LATER_MS = 1_800_000_000_000


def identity(name: str, alias: int) -> Identity:
    return Identity(
        device_id=name,
        device_alias=alias,
        url="https://localhost",
        ca_pem="",
        signing_key=bytes(32),
        tenant="t",
        patient_id="p",
    )


def synced(store: Store, make_window: MakeWindow) -> None:
    """Three results, one refused, with own and others' words, all settled with the first server."""
    filled(store, make_window, 3)
    store.annotate(annotation(1, "me"))
    refusal = (RowVerdict(3, VerdictCode.REJECTED, RejectReason.OUT_OF_RANGE),)
    answer = ExchangeResponse(
        acknowledged=3, verdicts=refusal, annotations=(annotation(2, "clinician"),), cursor=Cursor(1, 9)
    )
    assert store.apply_exchange(push_together(store, annotation(1, "me")), answer, at_ms=5).waiting == 0


def converse(store: Store, server: ModelServer, rounds: int = 20) -> None:
    """Exchange until nothing waits."""
    for _ in range(rounds):
        request = msgspec.structs.replace(push(store, limit=3), device_alias=server.alias)
        response = server.exchange(request)
        check_response(request, response)
        state = store.apply_exchange(request, response, at_ms=LATER_MS)
        if not state.waiting and request.epoch == state.epoch:
            return
    raise AssertionError("device and server do not come to an end")


def test_another_sync_key_makes_everything_wait_again(store: Store, make_window: MakeWindow) -> None:
    synced(store, make_window)

    store.put_setting("sync_key", NEW_KEY)

    state = store.sync_state()
    assert (state.epoch, state.last_counter, state.acknowledged, state.waiting) == (1, 3, 0, 3)
    assert (state.cursor, state.digest, state.refused) == (Cursor(0, 0), digests.EMPTY, ())
    assert (state.last_exchange_ms, state.last_digest_equal) == (None, None)
    assert len(push(store).results) == 3
    assert list(store.annotations()) == [annotation(1, "me"), annotation(2, "clinician")]
    assert store.take_events() == []


def test_all_epochs_wait_again(store: Store, make_window: MakeWindow) -> None:
    old = filled(store, make_window, 2)
    state = store.apply_exchange(push(store), ExchangeResponse(acknowledged=2, verdicts=conflicts(2)), at_ms=1)
    store.apply_exchange(push(store), ExchangeResponse(acknowledged=1), at_ms=1)
    assert store.sync_state().waiting == 0
    again = list(store.results())

    store.put_setting("sync_key", NEW_KEY)

    assert store.sync_state().waiting == 2
    assert push(store).epoch == 1
    store.apply_exchange(push(store), ExchangeResponse(acknowledged=1), at_ms=2)
    expected = plus(digest_of(old[:1], key=NEW_KEY), digest_of(again, epoch=state.epoch, key=NEW_KEY))
    state = store.apply_exchange(push(store), ExchangeResponse(acknowledged=1, digest=expected), at_ms=2)
    assert (state.waiting, state.last_digest_equal) == (0, True)


@pytest.mark.parametrize("keys", [[SYNC_KEY], [b""], [b"", SYNC_KEY]], ids=["same", "none", "none and same"])
def test_the_same_sync_key_begins_nothing_anew(store: Store, make_window: MakeWindow, keys: list[bytes]) -> None:
    """An enrolment that was cut off and finished with the same code brings the same key."""
    synced(store, make_window)
    before = store.sync_state()

    for key in keys:
        store.put_setting("sync_key", key)

    assert store.sync_state() == before


def test_a_first_sync_key_begins_nothing_anew(store: Store, make_window: MakeWindow) -> None:
    store.annotate(annotation(1, "me"))

    store.put_setting("sync_key", SYNC_KEY)

    assert store.pending(limit=1).annotations == (annotation(1, "me"),)


def test_a_key_in_between_that_was_empty_hides_nothing(store: Store, make_window: MakeWindow) -> None:
    synced(store, make_window)

    store.put_setting("sync_key", b"")
    store.put_setting("sync_key", NEW_KEY)

    assert store.sync_state().waiting == 3


def test_another_setting_begins_nothing_anew(store: Store, make_window: MakeWindow) -> None:
    synced(store, make_window)
    before = store.sync_state()

    store.put_setting("identity", NEW_KEY)

    assert store.sync_state() == before


def test_words_under_a_former_name_are_not_sent(store: Store, make_window: MakeWindow) -> None:
    """A server refuses the whole request for them."""
    synced(store, make_window)
    store.annotate(annotation(2, "me", "not yet sent"))

    store.put_setting("sync_key", NEW_KEY)
    store.apply_exchange(push(store), ExchangeResponse(acknowledged=3), at_ms=6)

    assert push(store).annotations == ()
    assert store.sync_state().waiting == 0


def test_what_is_kept_arrives_where_retention_dropped_the_first_rows(store: Store, make_window: MakeWindow) -> None:
    """R8 asks, and gives again what is left."""
    filled(store, make_window, 5)
    newest_dropped_ms = store.results()[1].started_at_ms
    store.apply_exchange(
        push(store), ExchangeResponse(acknowledged=5, cursor=Cursor(1, 9)), at_ms=newest_dropped_ms + 1
    )
    store.retain(RetentionPolicy(results_max_age_ms=0), at_ms=newest_dropped_ms + 1)
    kept_ms = [result.started_at_ms for result in store.results()]
    assert len(kept_ms) == 3
    store.take_events()
    store.put_setting("sync_key", NEW_KEY)
    server = ModelServer(ALIAS + 1, sync_key=NEW_KEY)

    converse(store, server)

    state = store.sync_state()
    assert sorted(row.started_at_ms for row in server.results.values()) == kept_ms
    assert (state.digest, state.last_digest_equal) == (server.digest(), True)
    assert store.take_events() == [StoreForked(1, state.epoch, ForkReason.SERVER_BEHIND)]
    before = (state, dict(server.results))
    converse(store, server, rounds=1)
    assert (store.sync_state(), server.results) == before


def test_own_words_are_said_again_under_the_new_name_where_their_results_are(
    store: Store, make_window: MakeWindow
) -> None:
    save_identity(store, identity("first", ALIAS), SYNC_KEY)
    first, second = ModelServer(ALIAS), ModelServer(4, sync_key=NEW_KEY)
    started_ms = [store.append_window(*make_window(seed)).started_at_ms for seed in range(4)]
    store.annotate(annotation(3, "first", "felt dizzy"))
    first.write(annotation(3, "clinician"))
    converse(store, first)
    store.retain(RetentionPolicy(results_max_age_ms=0), at_ms=started_ms[0] + 1)
    assert len(store.results()) == 3

    save_identity(store, identity("second", 4), NEW_KEY)
    assert push(store).annotations == ()  # R9
    converse(store, second)

    (found,) = second.annotations.values()
    assert (found.row.author, found.row.comment.value) == ("second", "felt dizzy")
    said_of = second.results[found.row.target.epoch, found.row.target.counter]
    assert said_of.started_at_ms == started_ms[2]
    assert store.sync_state().digest == second.digest()
    assert store.setting(FORMER_IDENTITY_SETTING) == b""


@pytest.mark.parametrize("cut_after", range(7))
def test_storing_an_enrolment_that_was_cut_off_is_finished_by_doing_it_again(
    store: Store, make_window: MakeWindow, cut_after: int
) -> None:
    """And between the two identities there is none that could sync by the other's books."""
    save_identity(store, identity("first", ALIAS), SYNC_KEY)
    filled(store, make_window, 1)
    store.annotate(annotation(1, "first"))
    converse(store, ModelServer(ALIAS))

    cut_off = CutOff(store, cut_after)
    try:
        save_identity(cut_off, identity("second", 4), NEW_KEY)  # type: ignore[arg-type]
    except TimeoutError:
        present = find_identity(store)
        if present is not None:
            key = store.setting("sync_key")
            assert (present.device_id, key) in [("first", SYNC_KEY), ("second", NEW_KEY)]
    save_identity(store, identity("second", 4), NEW_KEY)

    server = ModelServer(4, sync_key=NEW_KEY)
    converse(store, server)
    assert [(row.target, row.author) for row in (one.row for one in server.annotations.values())] == [
        (ResultId(4, 1, 1), "second")
    ]
    before = store.sync_state()
    save_identity(store, identity("second", 4), NEW_KEY)
    assert store.sync_state() == before


class CutOff:
    """A store whose process ends after some writes."""

    def __init__(self, store: Store, writes: int) -> None:
        self._store = store
        self._writes = writes

    def __getattr__(self, name: str) -> object:
        if name in ("put_setting", "annotate"):
            if not self._writes:
                raise TimeoutError
            self._writes -= 1
        return getattr(self._store, name)


def test_an_identity_that_can_not_be_read_does_not_keep_from_enrolling_anew(store: Store) -> None:
    store.put_setting(IDENTITY_SETTING, b"\xc1garbage")

    save_identity(store, identity("second", 4), NEW_KEY)

    assert find_identity(store) == identity("second", 4)


def test_both_stores_begin_anew_alike_after_reopening(make_window: MakeWindow, tmp_path: Path) -> None:
    key = StaticKeyProvider(bytes(range(32)))
    memory = MemoryStore()
    encrypted = SqlCipherStore.open(tmp_path / "s.db", key)
    for store in (memory, encrypted):
        synced(store, make_window)
        store.put_setting("sync_key", NEW_KEY)
    encrypted.close()

    with SqlCipherStore.open(tmp_path / "s.db", key) as again:
        assert again.sync_state() == memory.sync_state()
        assert again.pending(limit=9) == memory.pending(limit=9)
        assert again.check().sound


def test_a_signal_that_only_the_former_server_holds_is_not_dropped(store: Store, make_window: MakeWindow) -> None:
    synced(store, make_window)
    digests_here = [result.segment_digest for result in store.results()]
    assert store.acknowledge_segments(digests_here) == 3

    store.put_setting("sync_key", NEW_KEY)
    report = store.retain(RetentionPolicy(signal_max_bytes=0), at_ms=LATER_MS)

    assert report.segments == 0
    assert store.stats().unacknowledged_segments == 3
    assert store.acknowledge_segments(digests_here) == 3
