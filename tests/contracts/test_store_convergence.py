"""Random scripts of a device and a server, either of which may be turned back: they converge, and nothing is lost."""

from __future__ import annotations

import copy
import secrets
import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.contracts.exchanges import ALIAS, SYNC_KEY, MakeWindow, push
from tests.contracts.model_server import ModelServer

from einthoven.keys import StaticKeyProvider
from einthoven.ports import Store
from einthoven.store_memory import MemoryStore
from einthoven.store_sqlcipher import SqlCipherStore
from einthoven.store_values import RetentionPolicy
from einthoven_protocol.exchange import check_response
from einthoven_protocol.merge import merge_annotation
from einthoven_protocol.messages import AnnotationRow, ExchangeRequest, ExchangeResponse, Register, ResultId

START_MS = 1_700_000_000_000
WINDOW_MS = 30_000


@dataclass(frozen=True)
class Append:
    count: int


@dataclass(frozen=True)
class Annotate:
    counter: int
    comment: str
    hlc: int


@dataclass(frozen=True)
class Clinician:
    counter: int
    hlc: int


@dataclass(frozen=True)
class Sync:
    """One exchange: results the server settles, whether its answer is lost, what is written here meanwhile."""

    take: int
    lost: bool
    meanwhile: int


@dataclass(frozen=True)
class Simple:
    name: str


APPEND_AFTER_RESTORE = [
    Append(4),
    Sync(4, False, 0),
    Simple("back up device"),
    Append(3),
    Sync(4, False, 0),
    Simple("restore device"),
    Append(2),
]

SYNC = Sync(4, False, 0)
OWN_WORDS_LOST = [
    Append(2),
    SYNC,
    Simple("back up device"),
    Append(1),
    Annotate(2, "x", 3),
    SYNC,
    Simple("restore device"),
]
WORDS_ON_A_REUSED_COUNTER = [
    Append(2),
    SYNC,
    Simple("back up device"),
    Append(2),
    SYNC,
    Simple("restore device"),
    Append(1),
    Annotate(0, "x", 3),
    SYNC,
]
SERVER_LOSES_A_CLOSED_EPOCH = [*APPEND_AFTER_RESTORE, SYNC, SYNC, SYNC, Simple("restore server")]
SERVER_LOSES_WHAT_WAS_DROPPED = [Append(4), SYNC, SYNC, Simple("drop old results"), Simple("restore server")]

steps = st.one_of(
    st.builds(Append, st.integers(1, 3)),
    st.builds(Annotate, st.integers(0, 3), st.sampled_from("xyz"), st.integers(0, 5)),
    st.builds(Clinician, st.integers(1, 3), st.integers(0, 5)),
    st.builds(Sync, st.integers(0, 4), st.booleans(), st.integers(0, 1)),
    st.sampled_from(
        [
            Simple("back up server"),
            Simple("restore server"),
            Simple("back up device"),
            Simple("restore device"),
            Simple("drop old results"),
        ]
    ),
)


class Device:
    """A store that can be backed up and restored, with all its files, so that it does not notice by itself."""

    def __init__(self, adapter: str, folder: Path) -> None:
        self.folder = folder
        self.key = StaticKeyProvider(secrets.token_bytes(32))
        self.adapter = adapter
        self.store: Store = MemoryStore() if adapter == "memory" else self._open()
        self.store.put_setting("sync_key", SYNC_KEY)
        self.backup: Any = None

    def _open(self) -> SqlCipherStore:
        return SqlCipherStore.open(self.folder / "now" / "s.db", self.key)

    def back_up(self) -> None:
        if isinstance(self.store, MemoryStore):
            self.backup = self.store._books.copy()
        else:
            self._close_and_copy(self.folder / "now", self.folder / "backup")
            self.backup = True

    def restore(self) -> None:
        if self.backup is None:
            return
        if isinstance(self.store, MemoryStore):
            self.store._books = self.backup.copy()
        else:
            self._close_and_copy(self.folder / "backup", self.folder / "now")

    def _close_and_copy(self, source: Path, target: Path) -> None:
        self.store.close()
        inodes = {file.name: file for file in target.glob("*")} if target.exists() else {}
        target.mkdir(exist_ok=True)
        for gone in inodes.keys() - {file.name for file in source.glob("*")}:
            inodes[gone].unlink()
        for file in source.glob("*"):
            # Written in place: the file keeps its inode, as with a restored disk image.
            with file.open("rb") as read, (target / file.name).open("r+b" if file.name in inodes else "wb") as write:
                shutil.copyfileobj(read, write)
                write.truncate()
            (target / file.name).chmod(0o600)
        self.store = self._open()


class Play:
    """One script."""

    def __init__(self, device: Device, server: ModelServer, make_window: MakeWindow) -> None:
        self.device = device
        self.server = server
        self.make_window = make_window
        self.server_backup = copy.deepcopy(server)
        self.appended = 0

    def step(self, step: object) -> None:
        store = self.device.store
        match step:
            case Append(count):
                for _ in range(count):
                    self.append()
            case Annotate(counter, comment, hlc):
                self.annotate(counter, comment, hlc)
            case Clinician(counter, hlc):
                self.server.write(words(ResultId(ALIAS, 1, counter), "clinician", "seen", hlc))
            case Sync(take, lost, meanwhile):
                self.exchange(take, lost=lost, meanwhile=meanwhile)
            case Simple("back up server"):
                self.server_backup = copy.deepcopy(self.server)
            case Simple("restore server"):
                self.server = self.server.restored(self.server_backup)
            case Simple("back up device"):
                self.device.back_up()
            case Simple("restore device"):
                self.device.restore()
            case Simple("drop old results"):
                at_ms = START_MS + WINDOW_MS * self.appended // 2
                store.retain(RetentionPolicy(results_max_age_ms=0), at_ms=at_ms)

    def annotate(self, number: int, comment: str, hlc: int) -> None:
        """Say something of one of the newest results, whichever epoch it was written in, and name it in the words."""
        kept = self.device.store.results_between(0, 2**60)
        if kept:
            stored = kept[-1 - number % len(kept)]
            target = ResultId(ALIAS, stored.epoch, stored.result.counter)
            self.device.store.annotate(words(target, "device", f"{comment} {stored.result.started_at_ms}", hlc))

    def no_words_at_a_strangers_result(self) -> None:
        """R9: what the patient said stands on the server at the result it was said of, or at none."""
        for (target, author), found in self.server.annotations.items():
            result = self.server.results.get((target.epoch, target.counter))
            if author == "device" and result is not None:
                _, _, said_of = found.row.comment.value.partition(" ")
                assert said_of == str(result.started_at_ms), "words stand at another result"

    def append(self) -> None:
        result, segment = self.make_window(self.appended)
        self.appended += 1
        self.device.store.append_window(result, segment)

    def exchange(self, take: int, *, lost: bool = False, meanwhile: int = 0) -> tuple[ExchangeRequest, Any]:
        request = push(self.device.store, limit=3)
        response: ExchangeResponse = self.server.exchange(request, take)
        self.no_words_at_a_strangers_result()
        check_response(request, response)
        for _ in range(meanwhile):
            self.append()
        if not lost:
            self.device.store.apply_exchange(request, response, at_ms=START_MS + WINDOW_MS * self.appended)
        return request, response

    def settle(self) -> None:
        """Exchange until the same request would go out again, as ``syncing`` does."""
        for _ in range(200):
            request, _ = self.exchange(10_000)
            store = self.device.store
            if request.epoch == store.sync_state().epoch and push(store, limit=3) == request:
                return
            if not store.sync_state().waiting and request.epoch == store.sync_state().epoch:
                return
        raise AssertionError("device and server do not come to an end")


def words(target: ResultId, author: str, comment: str, hlc: int) -> AnnotationRow:
    return AnnotationRow(target=target, author=author, rhythm=Register("A", hlc), comment=Register(comment, hlc))


@pytest.mark.parametrize("adapter", ["memory", "sqlcipher"])
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(script=st.lists(steps, max_size=20), refuse=st.sets(st.integers(1, 8), max_size=2))
@example(script=APPEND_AFTER_RESTORE, refuse=set())
@example(script=OWN_WORDS_LOST, refuse=set())
@example(script=WORDS_ON_A_REUSED_COUNTER, refuse=set())
@example(script=SERVER_LOSES_A_CLOSED_EPOCH, refuse=set())
@example(script=SERVER_LOSES_WHAT_WAS_DROPPED, refuse=set())
def test_device_and_server_converge_whatever_is_lost_or_turned_back(
    adapter: str, make_window: MakeWindow, script: list[object], refuse: set[int]
) -> None:
    refused_starts = frozenset(START_MS + WINDOW_MS * seed for seed in refuse)
    with tempfile.TemporaryDirectory() as folder:
        device = Device(adapter, Path(folder))
        play = Play(device, ModelServer(ALIAS, refused_starts), make_window)
        for step in script:
            play.step(step)
        play.settle()
        store, server = device.store, play.server
        device_restored = Simple("restore device") in script
        server_restored = Simple("restore server") in script
        dropped = Simple("drop old results") in script

        state = store.sync_state()
        assert state.waiting == 0
        on_server = Counter(row.started_at_ms for row in server.results.values())
        here = {stored.result.started_at_ms for stored in store.results_between(0, 2**60)}
        assert here <= on_server.keys() | refused_starts, "a result was lost"
        if script.count(Simple("restore device")) <= 1 and not (device_restored and server_restored):
            assert max(on_server.values(), default=1) == 1, "a result was doubled"
        if not device_restored and not (dropped and server_restored):
            assert state.last_digest_equal is True
            assert state.digest == server.digest()
        mine = {(row.target, row.author): row for row in store.annotations()}
        for name, found in server.annotations.items():
            if device_restored and found.origin_epoch == state.epoch:
                # Where only words were lost, nothing shows that the store was turned back, and no server repeats to a
                # device what it said itself in the same epoch; the digests differ.
                continue
            # Where a server lost a clinician's later words, they stay here: the device may not send them.
            assert merge_annotation(mine[name], found.row) == mine[name]
        again, _ = play.exchange(10_000)
        assert (again.results, again.annotations) == ((), ())
        assert store.sync_state().epoch == state.epoch
        store.close()
