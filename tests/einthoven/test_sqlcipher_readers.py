"""Readers beside a writer, and the log moved behind both: real threads on a real file."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlcipher3 import dbapi2
from tests.einthoven.stored_windows import beats, signal, verdict

from einthoven import sqlcipher_checkpoints
from einthoven.clock import FixedClock
from einthoven.errors import StoreDamaged, StoreIOError
from einthoven.keys import StaticKeyProvider
from einthoven.results import WindowResult
from einthoven.sqlcipher_checkpoints import CEILING_BYTES, CHECKPOINT_BYTES, Checkpointer
from einthoven.sqlcipher_readers import MAX_READERS, ReaderPool
from einthoven.sqlcipher_reserve import RESERVE_BYTES, SCARCE_BYTES, Reserve, reserve_path
from einthoven.store_events import ContentDropped, StoreForked
from einthoven.store_sqlcipher import SqlCipherStore
from einthoven.store_values import AuditAction, ContentKind, DropReason, RetentionPolicy

KEY = StaticKeyProvider(bytes(range(32)))
NOW_MS = 1_800_000_000_000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlCipherStore]:
    with SqlCipherStore.open(tmp_path / "store.db", KEY, clock=FixedClock(NOW_MS)) as opened:
        yield opened


def results(n: int) -> list[WindowResult]:
    return [verdict(signal(10), 1_700_000_000_000 + 30_000 * number) for number in range(n)]


# ---- several readers, one writer -------------------------------------------------------------------------------------


def test_readers_see_whole_commits_while_rows_are_written(store: SqlCipherStore) -> None:
    """Pairs are written in one transaction: whoever reads sees both or none, and never fewer than before."""
    problems: list[BaseException] = []
    done = threading.Event()

    def read() -> None:
        seen = 0
        try:
            while not done.is_set():
                counters = [result.counter for result in store.results(limit=10_000)]
                assert counters == list(range(1, len(counters) + 1))
                assert len(counters) % 2 == 0
                assert len(counters) >= seen
                seen = len(counters)
                state = store.sync_state()
                assert state.last_counter % 2 == 0
                assert state.waiting == state.last_counter
        except BaseException as problem:
            problems.append(problem)
            raise

    readers = [threading.Thread(target=read) for _ in range(MAX_READERS + 2)]
    for thread in readers:
        thread.start()
    windows = [(verdict(one := signal(40, seed=seed)), one) for seed in range(120)]
    for first in range(0, 120, 2):
        store.append_windows(windows[first : first + 2])
    done.set()
    for thread in readers:
        thread.join()

    assert problems == []
    assert store.stats().results == 120
    assert store.check().sound


def test_several_writers_take_turns_and_give_every_counter_once(store: SqlCipherStore) -> None:
    given: list[int] = []

    def write(seed: int) -> None:
        for number in range(15):
            one = signal(20, seed=100 * seed + number)
            given.append(store.append_window(verdict(one), one, beats(1, 2, 3)).counter)

    writers = [threading.Thread(target=write, args=(seed,)) for seed in range(4)]
    for thread in writers:
        thread.start()
    for thread in writers:
        thread.join()

    assert sorted(given) == list(range(1, 61))
    assert store.stats().beats == 180
    assert store.check().sound


def test_a_reader_that_is_slow_does_not_keep_a_writer_waiting(store: SqlCipherStore) -> None:
    store.append_results(results(10))
    with store._readers.lend() as connection:
        assert connection.execute("SELECT count(*) FROM result").fetchone() == (10,)
        store.append_results(results(5))
        # Still its own snapshot; others see the new rows.
        assert connection.execute("SELECT count(*) FROM result").fetchone() == (10,)
        assert store.stats().results == 15


def test_closing_waits_for_readers_and_lets_none_in(store: SqlCipherStore) -> None:
    entered, leave = threading.Event(), threading.Event()

    def read() -> None:
        with store._readers.lend():
            entered.set()
            leave.wait(10)

    reader = threading.Thread(target=read)
    reader.start()
    entered.wait(10)
    closer = threading.Thread(target=store.close)
    closer.start()
    closer.join(0.05)
    assert closer.is_alive()
    leave.set()
    closer.join(10)
    reader.join(10)

    assert not closer.is_alive()
    for call in (store.results, store.take_events, lambda: store.put_setting("a", b"")):
        with pytest.raises(ValueError, match="closed"):
            call()
    store.close()


def test_a_pool_lends_no_more_than_its_limit_and_throws_away_what_met_an_error() -> None:
    made: list[dbapi2.Connection] = []

    def connect() -> dbapi2.Connection:
        made.append(dbapi2.connect(":memory:", isolation_level=None, check_same_thread=False))
        return made[-1]

    pool = ReaderPool(connect)
    with pytest.raises(dbapi2.OperationalError), pool.lend() as one:
        one.execute("SELECT * FROM nowhere")
    with pytest.raises(KeyError), pool.lend():
        raise KeyError
    with pool.lend():
        pass
    assert len(made) == 2

    lent = [pool.lend() for _ in range(MAX_READERS)]
    for context in lent:
        context.__enter__()
    came = threading.Event()

    def wait_for_one() -> None:
        with pool.lend():
            came.set()

    waiting = threading.Thread(target=wait_for_one)
    waiting.start()
    assert not came.wait(0.05)
    lent.pop().__exit__(None, None, None)
    assert came.wait(10)
    waiting.join()
    for context in lent:
        context.__exit__(None, None, None)
    assert len(made) == MAX_READERS + 1
    pool.close()
    pool.close()
    with pytest.raises(dbapi2.ProgrammingError):
        made[-1].execute("SELECT 1")


# ---- the log ---------------------------------------------------------------------------------------------------------


def log_bytes(store: SqlCipherStore) -> int:
    return store._path.with_name(store._path.name + "-wal").stat().st_size


def test_the_log_is_moved_in_the_background_and_stays_small(store: SqlCipherStore) -> None:
    for _ in range(12):
        store.append_results(results(10_000))
        for _ in range(200):
            if store._writer._checkpointer._written_bytes < CHECKPOINT_BYTES:
                break
            time.sleep(0.01)

    assert store.stats().results == 120_000
    # 21 MB went through it.
    assert log_bytes(store) < 12 * 2**20
    assert store._writer._checkpointer.take_problem() is None


def test_a_thread_that_can_not_connect_keeps_its_problem_and_the_writer_moves_the_log_at_the_ceiling() -> None:
    def refuse() -> dbapi2.Connection:
        raise StoreIOError("no", "none")

    before = threading.active_count()
    checkpointer = Checkpointer(refuse)
    assert not checkpointer.note_written(CHECKPOINT_BYTES - 1)
    assert threading.active_count() == before
    checkpointer.pause()
    assert not checkpointer.note_written(CHECKPOINT_BYTES)
    assert checkpointer.note_written(CEILING_BYTES)
    checkpointer.note_moved()
    checkpointer.resume()
    checkpointer.note_written(CHECKPOINT_BYTES)
    for _ in range(500):
        if (problem := checkpointer.take_problem()) is not None:
            break
        time.sleep(0.01)

    assert isinstance(problem, StoreIOError)
    checkpointer.close()
    checkpointer.close()
    assert threading.active_count() == before


def test_beyond_the_ceiling_the_writer_moves_the_log(store: SqlCipherStore) -> None:
    store._writer._checkpointer.pause()
    store.append_results(results(10_000))
    store._writer._checkpointer.note_written(CEILING_BYTES)
    (_, log, moved) = store._writer.rows.connection.execute("PRAGMA wal_checkpoint(NOOP)").fetchone()
    assert moved < log
    store.append_results(results(1))

    (_, log, moved) = store._writer.rows.connection.execute("PRAGMA wal_checkpoint(NOOP)").fetchone()
    assert moved == log
    assert sqlcipher_checkpoints.MOVE_LOG.endswith("(PASSIVE)")


# ---- room ------------------------------------------------------------------------------------------------------------


def windows(store: SqlCipherStore, n: int, n_samples: int = 3_000) -> list[bytes]:
    digests = []
    for number in range(n):
        one = signal(n_samples, seed=number)
        store.append_window(verdict(one, 1_700_000_000_000 + 30_000 * number), one)
        digests.append(verdict(one).segment_digest)
    return digests


def test_a_ceiling_drops_the_oldest_signals_and_the_file_grows_no_further(tmp_path: Path) -> None:
    ceiling = 2**20
    with SqlCipherStore.open(tmp_path / "store.db", KEY, store_max_bytes=ceiling) as store:
        digests = windows(store, 500)
        dropped = [event for event in store.take_events() if isinstance(event, ContentDropped)]

        assert {(event.kind, event.reason) for event in dropped} == {(ContentKind.SEGMENT, DropReason.SIZE)}
        assert store.stats().results == 500
        assert sum(event.count for event in dropped) == 500 - store.stats().segments
        held = [store.segment(digest) is not None for digest in digests]
        assert held == sorted(held)
        assert store.check().sound
    # It looks once in so many bytes.
    assert (tmp_path / "store.db").stat().st_size < ceiling + 2**20


def test_a_policy_keeps_to_its_ceiling_from_then_on_and_says_what_went(store: SqlCipherStore) -> None:
    windows(store, 60)
    report = store.retain(RetentionPolicy(store_max_bytes=320_000), at_ms=NOW_MS)
    (event,) = store.take_events()

    assert isinstance(event, ContentDropped)
    assert (event.count, event.dropped_bytes, event.unacknowledged) == (
        report.segments,
        report.segment_bytes,
        report.unacknowledged_segments,
    )
    assert 0 < report.segments == report.unacknowledged_segments < 60
    assert store.audit_trail()[-1].action is AuditAction.DROPPED
    store.retain(RetentionPolicy(), at_ms=NOW_MS)
    assert store._writer.store_max_bytes == 320_000
    with pytest.raises(ValueError, match="negative"):
        store.retain(RetentionPolicy(store_max_bytes=-1), at_ms=NOW_MS)
    assert store.check().sound


def test_results_that_were_acknowledged_go_from_the_beginning_and_their_epoch_says_so(store: SqlCipherStore) -> None:
    store.append_results(results(10))
    store._writer.write(lambda rows: rows.put("epoch", (1, 10, 6, 1)))
    report = store.retain(RetentionPolicy(results_max_age_ms=0, beats_max_age_ms=0), at_ms=NOW_MS)

    assert report.results == 6
    assert [result.counter for result in store.results()] == [7, 8, 9, 10]
    assert store._writer.rows.current_epoch() == (1, 10, 6, 7)
    assert store.check().sound


def test_ballast_is_there_where_room_is_scarce_and_only_there(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    room = {"bytes": SCARCE_BYTES}
    reserve = Reserve(path, lambda _: room["bytes"])
    assert reserve.make()
    assert not reserve_path(path).exists()

    room["bytes"] = SCARCE_BYTES - 1
    for _ in range(2):
        assert reserve.make()
        assert reserve_path(path).stat().st_size == RESERVE_BYTES
        assert reserve_path(path).stat().st_blocks * 512 >= RESERVE_BYTES
    os.truncate(reserve_path(path), 10)
    assert reserve.make()
    assert reserve_path(path).stat().st_size == RESERVE_BYTES
    assert reserve.free()
    assert not reserve.free()
    room["bytes"] = RESERVE_BYTES - 1
    assert not reserve.make()
    assert list(tmp_path.iterdir()) == []
    room["bytes"] = RESERVE_BYTES
    reserve_path(path).mkdir()
    assert not reserve.make()
    nowhere = Reserve(tmp_path / "nowhere" / "store.db")
    assert not nowhere.make()
    assert nowhere.room_bytes() == 0


FULL_DISK = """
import sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from tests.einthoven.stored_windows import signal, verdict
from einthoven.keys import StaticKeyProvider
from einthoven.store_sqlcipher import SqlCipherStore
from einthoven.store_events import ContentDropped

path = Path(sys.argv[1]) / "store.db"
with SqlCipherStore.open(path, StaticKeyProvider(bytes(range(32)))) as store:
    for number in range(2_500):
        one = signal(3_000, seed=number)
        store.append_window(verdict(one), one)
    events = [event for event in store.take_events() if isinstance(event, ContentDropped)]
    assert events, "the disk never was full"
    stats = store.stats()
    assert stats.results == 2_500, stats
    assert sum(event.count for event in events) == 2_500 - stats.segments
    assert store.segment(verdict(one).segment_digest) is not None
    report = store.check()
    assert report.sound, report
    # What is dropped is what is needed, not all there is.
    assert stats.segment_bytes > 4 * 2**20, stats
print("ok", stats.segments, len(events))
"""


@pytest.mark.slow
def test_on_a_disk_that_is_really_full_the_oldest_signals_make_room(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(disk)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("a small disk can only be mounted by root")
    try:
        done = subprocess.run(
            [sys.executable, "-c", FULL_DISK, str(disk), str(Path(__file__).parents[2])],
            check=False,
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.stdout.startswith("ok"), done.stderr
        assert done.stderr == ""
    finally:
        subprocess.run(["umount", str(disk)], check=True)


# ---- damage, repair and keys while the store is open -----------------------------------------------------------------


def damage_a_page_of_signals(path: Path) -> None:
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size - 2 * 4_096 + 1_000)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 1]))


def test_a_damaged_page_is_found_repaired_and_the_rest_goes_on_under_the_same_object(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with SqlCipherStore.open(path, KEY) as store:
        digests = windows(store, 30)
    damage_a_page_of_signals(path)

    with SqlCipherStore.open(path, KEY) as store:
        failed = 0
        for digest in digests:
            try:
                store.segment(digest)
            except StoreDamaged:
                failed += 1
        assert 1 <= failed <= 3
        assert not store.check().sound

        assert not store.repair().sound

        assert any(isinstance(event, StoreForked) for event in store.take_events())
        assert store.quarantined()
        assert store.stats().results == 30
        assert store.check().sound
        assert store.repair().sound
        assert store.append_results(results(1)) == range(1, 2)
    with SqlCipherStore.open(path, KEY) as store:
        assert not any(isinstance(event, StoreForked) for event in store.take_events())


def test_a_store_is_rekeyed_and_rewrapped_while_others_read(store: SqlCipherStore) -> None:
    digests = windows(store, 5)
    old = store._path.read_bytes()[:16]
    new_key = StaticKeyProvider(bytes(range(1, 33)))
    problems: list[BaseException] = []
    done = threading.Event()

    def read() -> None:
        try:
            while not done.is_set():
                assert len(store.results()) == 5
        except BaseException as problem:
            problems.append(problem)
            raise

    reader = threading.Thread(target=read)
    reader.start()
    store.rekey(KEY)
    store.rewrap(new_key)
    done.set()
    reader.join()

    assert problems == []
    assert store._path.read_bytes()[:16] != old
    assert store.segment(digests[0]) is not None
    assert store.append_results(results(1)) == range(6, 7)
    assert AuditAction.REKEYED in [entry.action for entry in store.audit_trail()]
    store.close()
    with SqlCipherStore.open(store._path, new_key) as again:
        assert again.stats().results == 6
        assert again.take_events() == []


def test_what_the_store_does_is_on_its_audit_trail(store: SqlCipherStore) -> None:
    store.put_setting("a_name", b"a value")
    store.append_results(results(3))
    store.record(AuditAction.VIEWED, "1:2", at_ms=5)

    assert [(entry.action, entry.subject, entry.at_ms) for entry in store.audit_trail()] == [
        (AuditAction.CREATED, "", NOW_MS),
        (AuditAction.SETTING_CHANGED, "a_name", NOW_MS),
        (AuditAction.VIEWED, "1:2", 5),
    ]
    assert store.audit_trail(first_seq=2, limit=1)[0].action is AuditAction.SETTING_CHANGED
