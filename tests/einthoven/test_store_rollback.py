"""A file that was turned back is known: the rule on its own, every case of it, and real files with their anchors."""

from __future__ import annotations

import itertools
import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from einthoven.anchor_file import FileAnchor, anchor_path
from einthoven.anchor_vault import VaultAnchor
from einthoven.errors import StoreIOError
from einthoven.keys import StaticKeyProvider
from einthoven.ports import MAX_ANCHOR_RECORD_BYTES, Anchor
from einthoven.rollback import (
    CONTINUES,
    RECORD_BYTES,
    AnchorRecord,
    StoredState,
    claimed_record,
    decode_record,
    encode_record,
    highest_known_epoch,
    judge,
    record_of,
)
from einthoven.sqlcipher_rows import SqlCipherRows
from einthoven.store_anchoring import Continuity
from einthoven.store_events import AnchorFailed, ForkReason, StoreEvent, StoreForked
from einthoven.store_opening import OpenedFile, open_store_file
from einthoven.store_rules import EPOCH_STEP_RANGE, next_epoch
from einthoven.vault_memory import MemoryVault
from einthoven_protocol.limits import MAX_EPOCH

KEY = bytes(range(32))
STORE_ID, OTHER_ID = b"s" * 16, b"o" * 16
STATE = StoredState(STORE_ID, epoch=5, highest_epoch=9, commit_seq=100, state_digest=b"d" * 16)
INODE, NEXT_INODE, OTHER_INODE = 11, 22, 33

# ---- the rule --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """One combination of what the file and its record say."""

    seq_ahead: int
    epoch_ahead: int
    same_digest: bool
    inode: int
    expects_next: bool

    @property
    def state(self) -> StoredState:
        digest = STATE.state_digest if self.same_digest else b"e" * 16
        return replace(
            STATE,
            commit_seq=STATE.commit_seq + self.seq_ahead,
            epoch=STATE.epoch + self.epoch_ahead,
            state_digest=digest,
        )

    @property
    def record(self) -> AnchorRecord:
        return record_of(STATE, INODE, NEXT_INODE if self.expects_next else 0)

    @property
    def expected(self) -> ForkReason | None:
        """The invariants, spelled one by one."""
        if self.seq_ahead < 0:
            return ForkReason.TURNED_BACK
        if self.epoch_ahead < 0:
            return ForkReason.DIVERGED
        if self.seq_ahead == 0 and not (self.same_digest and self.epoch_ahead == 0):
            return ForkReason.DIVERGED
        known_inodes = {INODE, NEXT_INODE} if self.expects_next else {INODE}
        return CONTINUES if self.inode in known_inodes else ForkReason.COPIED


ALL_CASES = [
    Case(*values)
    for values in itertools.product(
        (-50, -1, 0, 1, 50), (-2, -1, 0, 1, 2), (True, False), (INODE, NEXT_INODE, OTHER_INODE, 0), (True, False)
    )
]


def test_every_combination_of_file_and_record_is_judged_by_the_rule() -> None:
    seen = set()
    for case in ALL_CASES:
        verdict = judge(case.state, encode_record(case.record, KEY), KEY, case.inode)
        assert verdict is case.expected, case
        seen.add(verdict)
    assert seen == {CONTINUES, ForkReason.TURNED_BACK, ForkReason.DIVERGED, ForkReason.COPIED}


def test_a_crash_between_commit_and_record_never_forks() -> None:
    for ahead in range(1_000):
        later = replace(STATE, commit_seq=STATE.commit_seq + ahead, state_digest=STATE.state_digest)
        assert judge(later, encode_record(record_of(STATE, INODE), KEY), KEY, INODE) is CONTINUES


def test_without_a_record_only_what_was_never_written_to_goes_on() -> None:
    assert judge(STATE, None, KEY, INODE) is ForkReason.ANCHOR_MISSING
    assert judge(replace(STATE, pristine=True), None, KEY, INODE) is CONTINUES


def test_a_record_of_another_store_is_told_from_one_that_is_damaged() -> None:
    foreign = encode_record(replace(record_of(STATE, INODE), store_id=OTHER_ID), b"k" * 32)
    assert judge(STATE, foreign, KEY, INODE) is ForkReason.FOREIGN
    # The same store's name under a code that it did not make is no record of it.
    forged = encode_record(record_of(STATE, INODE), b"k" * 32)
    assert judge(STATE, forged, KEY, INODE) is ForkReason.ANCHOR_UNREADABLE
    # A store that was copied under a new name still has the key: its record is none of this one.
    renamed = encode_record(replace(record_of(STATE, INODE), store_id=OTHER_ID), KEY)
    assert judge(STATE, renamed, KEY, INODE) is ForkReason.FOREIGN
    assert judge(replace(STATE, pristine=True), b"", KEY, INODE) is ForkReason.ANCHOR_UNREADABLE


def test_every_flipped_bit_of_a_record_is_noticed() -> None:
    octets = encode_record(record_of(STATE, INODE, NEXT_INODE), KEY)
    for at in range(len(octets) * 8):
        flipped = bytearray(octets)
        flipped[at // 8] ^= 1 << at % 8
        assert decode_record(bytes(flipped), KEY) is None
        assert judge(STATE, bytes(flipped), KEY, INODE) in (ForkReason.ANCHOR_UNREADABLE, ForkReason.FOREIGN)


@given(octets=st.binary(max_size=MAX_ANCHOR_RECORD_BYTES))
def test_no_bytes_but_ours_are_a_record(octets: bytes) -> None:
    assert decode_record(octets, KEY) is None
    claimed_record(octets)
    assert judge(STATE, octets, KEY, INODE) is not CONTINUES


RECORDS = st.builds(
    AnchorRecord,
    store_id=st.binary(min_size=16, max_size=16),
    epoch=st.integers(0, MAX_EPOCH),
    commit_seq=st.integers(0, 2**63 - 1),
    state_digest=st.binary(min_size=16, max_size=16),
    inode=st.integers(0, 2**64 - 1),
    next_inode=st.integers(0, 2**64 - 1),
)


@given(record=RECORDS, key=st.binary(min_size=32, max_size=32))
def test_a_record_is_read_back_as_it_was_written(record: AnchorRecord, key: bytes) -> None:
    octets = encode_record(record, key)

    assert len(octets) == RECORD_BYTES <= MAX_ANCHOR_RECORD_BYTES
    assert decode_record(octets, key) == claimed_record(octets) == record
    assert decode_record(octets[:-1], key) is decode_record(octets + b"x", key) is None


@pytest.mark.parametrize(
    "spoilt",
    [
        {"store_id": b"short"},
        {"state_digest": b"x" * 17},
        {"epoch": -1},
        {"epoch": 2**32},
        {"commit_seq": -1},
        {"commit_seq": 2**64},
    ],
)
def test_a_field_that_does_not_fit_is_an_error_of_the_caller(spoilt: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="record"):
        encode_record(replace(record_of(STATE, INODE), **spoilt), KEY)  # type: ignore[arg-type]


def test_an_inode_beyond_64_bits_is_still_told_from_others() -> None:
    huge = 2**64 + 11
    octets = encode_record(record_of(STATE, huge), KEY)
    assert judge(STATE, octets, KEY, huge) is CONTINUES
    assert judge(STATE, octets, KEY, huge + 1) is ForkReason.COPIED


@given(
    epoch=st.integers(1, MAX_EPOCH),
    highest=st.integers(1, MAX_EPOCH),
    anchored=st.none() | st.integers(1, MAX_EPOCH),
    draw=st.integers(0, EPOCH_STEP_RANGE - 1),
)
def test_a_new_epoch_is_above_all_that_are_known(epoch: int, highest: int, anchored: int | None, draw: int) -> None:
    state = replace(STATE, epoch=epoch, highest_epoch=highest)
    record = None if anchored is None else replace(record_of(STATE, INODE), epoch=anchored)
    known = max(epoch, highest, anchored or 0)
    assert highest_known_epoch(state, record) == known
    if known == MAX_EPOCH:
        with pytest.raises(StoreIOError, match="no epoch is left"):
            next_epoch(known, lambda below: draw % below)
        return

    found = next_epoch(known, lambda below: draw % below)

    assert known < found <= min(MAX_EPOCH, known + EPOCH_STEP_RANGE)


def test_two_restores_of_one_backup_do_not_meet() -> None:
    assert len({next_epoch(1, secrets.randbelow) for _ in range(200)}) > 190


# ---- keeping up ------------------------------------------------------------------------------------------------------


class WatchedAnchor:
    """Notes what is written and can be made to fail."""

    def __init__(self) -> None:
        self.written: list[tuple[bytes, bool]] = []
        self.fails = False

    def read(self) -> bytes | None:
        return self.written[-1][0] if self.written else None

    def write(self, record: bytes, *, durable: bool) -> None:
        if self.fails:
            raise StoreIOError("no room", "make some")
        self.written.append((record, durable))

    def destroy(self) -> None:
        self.written.clear()


def digest(number: int) -> bytes:
    return number.to_bytes(16, "big")


def continuity(anchor: WatchedAnchor, events: list[StoreEvent]) -> Continuity:
    return Continuity(anchor, record_of(STATE, INODE), KEY, events.append)


def test_the_anchor_is_durable_from_the_start_and_follows_each_commit() -> None:
    anchor, events = WatchedAnchor(), list[StoreEvent]()
    kept = continuity(anchor, events)
    kept.committed(5, 101, digest(1))
    kept.committed(6, 102, digest(2))

    assert [durable for _, durable in anchor.written] == [True, False, False]
    assert decode_record(anchor.read(), KEY) == AnchorRecord(STORE_ID, 6, 102, digest(2), INODE) == kept.record
    assert events == []


def test_a_barrier_makes_the_last_commit_durable_once() -> None:
    anchor = WatchedAnchor()
    kept = continuity(anchor, [])
    kept.barrier()
    assert len(anchor.written) == 1
    kept.committed(5, 101, digest(1))
    kept.barrier()
    kept.barrier()
    kept.close()

    assert [durable for _, durable in anchor.written] == [True, False, True]


def test_closing_makes_the_last_commit_durable() -> None:
    anchor = WatchedAnchor()
    kept = continuity(anchor, [])
    kept.committed(5, 101, digest(1))
    kept.close()

    assert anchor.written[-1][1]
    assert decode_record(anchor.read(), KEY) == kept.record


def test_an_anchor_that_fails_is_said_once_and_stops_what_would_leave_the_device() -> None:
    anchor, events = WatchedAnchor(), list[StoreEvent]()
    kept = continuity(anchor, events)
    anchor.fails = True
    for number in range(1, 4):
        kept.committed(5, 100 + number, digest(number))
        with pytest.raises(StoreIOError, match="nothing is handed out"):
            kept.barrier()
    kept.close()
    assert events == [AnchorFailed("no room; make some")]

    anchor.fails = False
    kept.barrier()
    assert decode_record(anchor.read(), KEY) == replace(record_of(STATE, INODE), commit_seq=103, state_digest=digest(3))
    anchor.fails = True
    kept.committed(5, 104, digest(4))
    assert len(events) == 2


def test_an_anchor_that_fails_at_the_start_does_not_keep_the_store_shut() -> None:
    anchor, events = WatchedAnchor(), list[StoreEvent]()
    anchor.fails = True
    kept = continuity(anchor, events)
    assert len(events) == 1
    with pytest.raises(StoreIOError):
        kept.barrier()


def test_a_commit_that_is_told_twice_or_late_is_not_written_again() -> None:
    anchor = WatchedAnchor()
    kept = continuity(anchor, [])
    kept.committed(5, 103, digest(3))
    kept.committed(5, 103, digest(3))
    kept.committed(5, 102, digest(2))

    assert len(anchor.written) == 2
    assert kept.record.commit_seq == 103


def test_a_file_about_to_be_replaced_is_known_under_both_its_numbers() -> None:
    anchor, events = WatchedAnchor(), list[StoreEvent]()
    kept = continuity(anchor, events)
    kept.moving(NEXT_INODE)
    for inode, verdict in ((INODE, CONTINUES), (NEXT_INODE, CONTINUES), (OTHER_INODE, ForkReason.COPIED)):
        assert judge(STATE, anchor.read(), KEY, inode) is verdict
    assert anchor.written[-1][1]

    after = replace(STATE, commit_seq=101)
    kept.moved(record_of(after, NEXT_INODE))
    for inode, verdict in ((INODE, ForkReason.COPIED), (NEXT_INODE, CONTINUES)):
        assert judge(after, anchor.read(), KEY, inode) is verdict
    assert events == []


def test_a_replacement_that_came_to_nothing_is_forgotten_with_the_next_commit() -> None:
    anchor = WatchedAnchor()
    kept = continuity(anchor, [])
    kept.moving(NEXT_INODE)
    kept.committed(5, 101, digest(1))

    assert kept.record.next_inode == 0


def test_a_replacement_that_can_not_be_noted_does_not_happen() -> None:
    anchor = WatchedAnchor()
    kept = continuity(anchor, [])
    anchor.fails = True
    with pytest.raises(StoreIOError):
        kept.moving(NEXT_INODE)


# ---- real files ------------------------------------------------------------------------------------------------------

KEYS = StaticKeyProvider(secrets.token_bytes(32))


@dataclass
class Device:
    """A store in a folder, and what its openings reported."""

    path: Path
    anchor: Anchor | None = None

    def open(self) -> tuple[OpenedFile, list[StoreEvent]]:
        events: list[StoreEvent] = []
        return open_store_file(self.path, KEYS, anchor=self.anchor, report=events.append), events

    def opened_and_closed(self) -> list[StoreEvent]:
        opened, events = self.open()
        opened.close()
        return events

    def write(self, number: int) -> list[StoreEvent]:
        """Open, commit a setting, close."""
        opened, events = self.open()
        put(opened, number)
        opened.close()
        return events

    def copy_to(self, folder: Path) -> None:
        for file in self.path.parent.iterdir():
            shutil.copy2(file, folder / file.name)

    def restore(self, source: Path, *names: str) -> None:
        """Put files back as a restore does: in place of those that are there."""
        for name in names:
            shutil.copy2(source / name, self.path.parent / name)


def put(opened: OpenedFile, number: int) -> None:
    rows = SqlCipherRows(opened.connection)
    with rows.transaction():
        rows.put("setting", ("number", number.to_bytes(8, "big")))
    state = rows.state()
    opened.continuity.committed(state.epoch, state.commit_seq, state.state_digest)


def epochs(opened: OpenedFile) -> list[int]:
    return [epoch for (epoch,) in opened.connection.execute("SELECT epoch FROM epoch ORDER BY epoch")]


@pytest.fixture
def device(tmp_path: Path) -> Device:
    made = Device(tmp_path / "device" / "store.db")
    made.write(1)
    made.write(2)
    return made


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    folder = tmp_path / "backup"
    folder.mkdir()
    return folder


def reasons(events: list[StoreEvent]) -> list[ForkReason]:
    return [event.reason for event in events if isinstance(event, StoreForked)]


def test_a_store_that_is_only_used_never_forks(device: Device) -> None:
    assert [device.write(number) for number in range(20)] == [[]] * 20
    opened, events = device.open()
    assert (epochs(opened), events) == ([1], [])
    opened.close()


def test_an_old_file_put_back_goes_on_in_a_new_epoch_once(device: Device, backup: Path) -> None:
    device.copy_to(backup)
    device.write(3)
    device.restore(backup, "store.db")

    opened, events = device.open()
    (forked,) = events
    assert isinstance(forked, StoreForked)
    assert (forked.old_epoch, forked.reason) == (1, ForkReason.TURNED_BACK)
    assert epochs(opened) == [1, forked.new_epoch]
    assert opened.connection.execute("SELECT epoch FROM sync").fetchone() == (forked.new_epoch,)
    (subject,) = opened.connection.execute("SELECT subject FROM audit ORDER BY seq DESC LIMIT 1").fetchone()
    assert subject.endswith("turned_back")
    opened.close()
    assert device.opened_and_closed() == []


def test_a_new_epoch_is_above_those_that_only_the_anchor_knows(device: Device, backup: Path) -> None:
    device.copy_to(backup)
    device.write(3)
    known = 1
    for _ in range(3):
        device.restore(backup, "store.db")
        (forked,) = device.opened_and_closed()
        assert isinstance(forked, StoreForked)
        assert forked.new_epoch > known
        known = forked.new_epoch
        device.write(4)


def test_every_commit_of_a_history_is_told_from_the_last(device: Device, tmp_path: Path) -> None:
    for number in range(5):
        shutil.copy2(device.path, tmp_path / f"at-{number}")
        device.write(number)
    for number in range(5):
        shutil.copy2(device.path, tmp_path / "now")
        shutil.copy2(anchor_path(device.path), tmp_path / "anchor")
        shutil.copy2(tmp_path / f"at-{number}", device.path)
        assert reasons(device.opened_and_closed()) == [ForkReason.TURNED_BACK]
        shutil.copy2(tmp_path / "now", device.path)
        shutil.copy2(tmp_path / "anchor", anchor_path(device.path))


def test_a_file_that_went_another_way_is_not_taken_for_the_anchors(device: Device, backup: Path) -> None:
    """Restored elsewhere, written there as often as here, and brought back."""
    device.copy_to(backup)
    device.write(3)
    shutil.copy2(anchor_path(device.path), backup / "anchor")
    device.restore(backup, "store.db", "store.db.anchor")
    device.write(99)
    device.restore(backup, "store.db.anchor")
    shutil.copy2(backup / "anchor", anchor_path(device.path))

    assert reasons(device.opened_and_closed()) == [ForkReason.DIVERGED]


def test_a_copy_is_told_from_the_original_and_the_original_goes_on(device: Device, tmp_path: Path) -> None:
    clone = Device(tmp_path / "clone" / "store.db")
    clone.path.parent.mkdir()
    device.copy_to(clone.path.parent)

    assert reasons(clone.opened_and_closed()) == [ForkReason.COPIED]
    assert clone.opened_and_closed() == device.opened_and_closed() == []


def test_a_file_that_was_moved_is_no_copy(device: Device, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    device.path.parent.rename(moved)

    assert Device(moved / "store.db").opened_and_closed() == []


def test_an_anchor_that_is_gone_forks_a_store_that_was_written_to(device: Device) -> None:
    anchor_path(device.path).unlink()
    assert reasons(device.opened_and_closed()) == [ForkReason.ANCHOR_MISSING]
    assert device.opened_and_closed() == []


def test_an_anchor_that_is_gone_says_nothing_of_a_store_that_was_only_made(tmp_path: Path) -> None:
    device = Device(tmp_path / "store.db")
    device.opened_and_closed()
    anchor_path(device.path).unlink()

    assert device.opened_and_closed() == []


def test_an_anchor_of_rubbish_or_of_another_store_forks(device: Device, tmp_path: Path) -> None:
    FileAnchor(anchor_path(device.path)).write(b"rubbish", durable=True)
    assert reasons(device.opened_and_closed()) == [ForkReason.ANCHOR_UNREADABLE]

    other = Device(tmp_path / "other" / "store.db")
    other.write(1)
    shutil.copy2(anchor_path(other.path), anchor_path(device.path))
    assert reasons(device.opened_and_closed()) == [ForkReason.FOREIGN]


def test_an_anchor_in_a_vault_outlives_a_restored_folder(tmp_path: Path, backup: Path) -> None:
    """The folder is restored whole; what lies in the platform's keeping is not in it."""
    device = Device(tmp_path / "device" / "store.db", VaultAnchor(MemoryVault(), "anchor"))
    device.write(1)
    device.copy_to(backup)
    device.write(2)
    device.restore(backup, *(file.name for file in backup.iterdir()))

    assert reasons(device.opened_and_closed()) == [ForkReason.TURNED_BACK]
    assert not anchor_path(device.path).exists()


def test_a_store_whose_anchor_can_not_be_written_is_open_but_hands_out_nothing(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    device = Device(tmp_path / "device" / "store.db", FileAnchor(tmp_path / "gone" / "anchor"))
    opened, events = device.open()
    shutil.rmtree(tmp_path / "gone")
    for number in range(3):
        put(opened, number)
    with pytest.raises(StoreIOError, match="nothing is handed out"):
        opened.continuity.barrier()
    opened.close()

    assert [type(event) for event in events] == [AnchorFailed]


WRITER = """
import sys
from einthoven.keys import StaticKeyProvider
from einthoven.store_opening import open_store_file
from einthoven.sqlcipher_rows import SqlCipherRows
events = []
opened = open_store_file(sys.argv[1], StaticKeyProvider(bytes.fromhex(sys.stdin.readline())), report=events.append)
print(len(events), flush=True)
rows = SqlCipherRows(opened.connection)
number = 0
while True:
    number += 1
    with rows.transaction():
        rows.put("setting", ("number", number.to_bytes(8, "big")))
    state = rows.state()
    opened.continuity.committed(state.epoch, state.commit_seq, state.state_digest)
    if number == 30:
        print("going", flush=True)
"""


def test_a_process_killed_among_its_commits_forks_nothing(device: Device) -> None:
    for _ in range(5):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(device.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdin is not None
            assert writer.stdout is not None
            writer.stdin.write(KEYS.load().hex() + "\n")
            writer.stdin.flush()
            assert writer.stdout.readline() == "0\n"
            assert writer.stdout.readline() == "going\n"
            os.kill(writer.pid, signal.SIGKILL)
        assert device.opened_and_closed() == []


def log_put_back(device: Device, backup: Path) -> list[str]:
    return ["store.db", "store.db-wal"]


def file_put_back(device: Device, backup: Path) -> list[str]:
    return ["store.db"]


@pytest.mark.parametrize("chosen", [file_put_back, log_put_back])
def test_a_snapshot_of_an_open_store_is_turned_back_as_well(
    device: Device, backup: Path, chosen: Callable[[Device, Path], list[str]]
) -> None:
    """A backup program copied file and log while the store was in use."""
    opened, _ = device.open()
    for number in range(10):
        put(opened, number)
    for name in ("store.db", "store.db-wal"):
        shutil.copy2(device.path.parent / name, backup / name)
    for number in range(10):
        put(opened, number)
    opened.close()
    device.restore(backup, *chosen(device, backup))

    assert reasons(device.opened_and_closed()) == [ForkReason.TURNED_BACK]
