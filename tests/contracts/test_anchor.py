"""The Anchor port's acceptance suite, on every adapter and on the double that other tests use."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from einthoven.anchor_file import SLOT_STRIDE_BYTES, FileAnchor
from einthoven.anchor_vault import VaultAnchor
from einthoven.errors import StoreIOError
from einthoven.ports import MAX_ANCHOR_RECORD_BYTES, Anchor
from einthoven.vault_memory import MemoryVault

RECORDS = st.binary(min_size=1, max_size=MAX_ANCHOR_RECORD_BYTES)


class MemoryAnchor:
    """An anchor for tests: remembers nothing beyond the process."""

    def __init__(self) -> None:
        self._record: bytes | None = None

    def read(self) -> bytes | None:
        return self._record

    def write(self, record: bytes, *, durable: bool) -> None:
        if not 1 <= len(record) <= MAX_ANCHOR_RECORD_BYTES:
            raise ValueError("a record is too short or too long")
        self._record = record

    def destroy(self) -> None:
        self._record = None


def in_file(folder: Path) -> Anchor:
    return FileAnchor(folder / "store.db.anchor")


def in_vault(folder: Path) -> Anchor:
    return VaultAnchor(MemoryVault(), "anchor")


def in_memory(folder: Path) -> Anchor:
    return MemoryAnchor()


@pytest.fixture(params=[in_file, in_vault, in_memory])
def anchor(request: pytest.FixtureRequest, tmp_path: Path) -> Anchor:
    made: Callable[[Path], Anchor] = request.param
    return made(tmp_path)


# ---- the port --------------------------------------------------------------------------------------------------------


def test_there_is_no_record_before_the_first(anchor: Anchor) -> None:
    assert anchor.read() is None
    assert anchor.read() is None


@pytest.mark.parametrize("length", [1, 93, MAX_ANCHOR_RECORD_BYTES])
def test_a_durable_record_is_read_back_each_time(anchor: Anchor, length: int) -> None:
    anchor.write(bytes(length), durable=True)
    anchor.write(b"x" * length, durable=True)

    assert anchor.read() == b"x" * length
    assert anchor.read() == b"x" * length


def test_after_a_write_that_need_not_last_there_is_that_record_or_one_before(anchor: Anchor) -> None:
    """A vault that takes milliseconds may leave it at what was durable."""
    anchor.write(b"durable", durable=True)
    written = [b"durable"]
    for number in range(20):
        written.append(b"record %d" % number)
        anchor.write(written[-1], durable=False)
        assert anchor.read() in written

    anchor.write(b"last", durable=True)
    assert anchor.read() == b"last"


@pytest.mark.parametrize("record", [b"", bytes(MAX_ANCHOR_RECORD_BYTES + 1)])
@pytest.mark.parametrize("durable", [False, True])
def test_a_record_over_the_limits_changes_nothing(anchor: Anchor, record: bytes, durable: bool) -> None:
    anchor.write(b"kept", durable=True)

    with pytest.raises(ValueError, match="record"):
        anchor.write(record, durable=durable)

    assert anchor.read() == b"kept"


def test_what_was_destroyed_is_gone_and_can_be_begun_anew(anchor: Anchor) -> None:
    anchor.write(b"before", durable=True)
    anchor.destroy()
    assert anchor.read() is None
    anchor.destroy()

    anchor.write(b"after", durable=True)
    assert anchor.read() == b"after"


def test_what_was_never_written_can_be_destroyed(anchor: Anchor) -> None:
    anchor.destroy()
    assert anchor.read() is None


# ---- the file --------------------------------------------------------------------------------------------------------


def test_the_file_is_private_and_the_only_one(tmp_path: Path) -> None:
    anchor = FileAnchor(tmp_path / "a")
    previous = os.umask(0)
    try:
        anchor.write(b"x", durable=False)
    finally:
        os.umask(previous)
    anchor.write(b"y", durable=False)

    assert list(tmp_path.iterdir()) == [tmp_path / "a"]
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600
    anchor.destroy()
    assert list(tmp_path.iterdir()) == []


def test_another_object_goes_on_where_the_first_left_off(tmp_path: Path) -> None:
    one, two = FileAnchor(tmp_path / "a"), FileAnchor(tmp_path / "a")
    for number in range(9):
        writer, reader = (one, two) if number % 3 else (two, one)
        writer.write(b"%d" % number, durable=number % 2 == 0)
        assert reader.read() == b"%d" % number


def test_a_write_never_changes_the_files_length_or_the_slot_that_counts(tmp_path: Path) -> None:
    path = tmp_path / "a"
    anchor = FileAnchor(path)
    anchor.write(b"0", durable=True)
    for number in range(1, 12):
        before = path.read_bytes()
        anchor.write(b"%d" % number, durable=False)
        after = path.read_bytes()
        changed = {
            at // SLOT_STRIDE_BYTES for at, (old, new) in enumerate(zip(before, after, strict=True)) if old != new
        }
        assert len(changed) == 1
        # The slot that was not written holds the record before, whatever happens to the other.
        torn = bytearray(after)
        start = changed.pop() * SLOT_STRIDE_BYTES
        torn[start : start + SLOT_STRIDE_BYTES] = os.urandom(SLOT_STRIDE_BYTES)
        path.write_bytes(torn)
        assert anchor.read() == b"%d" % (number - 1)
        path.write_bytes(after)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(first=RECORDS, second=RECORDS, cut=st.integers(0, 2**30))
def test_a_write_cut_off_anywhere_leaves_one_record_or_the_other(
    tmp_path: Path, first: bytes, second: bytes, cut: int
) -> None:
    path = tmp_path / "a"
    anchor = FileAnchor(path)
    anchor.write(first, durable=True)
    before = path.read_bytes()
    anchor.write(second, durable=True)
    after = path.read_bytes()
    changed = [at for at, (old, new) in enumerate(zip(before, after, strict=True)) if old != new]

    stop = changed[cut % len(changed)] if changed else 0
    path.write_bytes(after[:stop] + before[stop:])

    assert anchor.read() in (first, second)
    anchor.write(b"next", durable=True)
    assert anchor.read() == b"next"


def test_every_flipped_bit_of_the_record_that_counts_gives_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "a"
    anchor = FileAnchor(path)
    anchor.write(b"before", durable=True)
    old = path.read_bytes()
    anchor.write(b"after", durable=True)
    whole = path.read_bytes()
    used = [at for at, (was, now) in enumerate(zip(old, whole, strict=True)) if was != now]
    for at in range(min(used), max(used) + 1):
        for bit in range(8):
            flipped = bytearray(whole)
            flipped[at] ^= 1 << bit
            path.write_bytes(flipped)
            assert anchor.read() == b"before"


@pytest.mark.parametrize("content", [b"", b"x", bytes(100), b"\xff" * 9_000, bytes(SLOT_STRIDE_BYTES)])
def test_a_file_that_holds_no_record_is_none_and_can_be_written(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    anchor = FileAnchor(tmp_path / "a")
    assert anchor.read() is None

    for record in (b"1", b"2", b"3"):
        anchor.write(record, durable=True)
        assert anchor.read() == record


def test_a_slot_in_the_others_place_does_not_count(tmp_path: Path) -> None:
    """The same bytes copied over the older slot are not a newer record."""
    path = tmp_path / "a"
    anchor = FileAnchor(path)
    anchor.write(b"one", durable=True)
    whole = path.read_bytes()
    path.write_bytes(whole[SLOT_STRIDE_BYTES:].ljust(SLOT_STRIDE_BYTES, b"\0") + bytes(SLOT_STRIDE_BYTES))

    assert anchor.read() is None


def test_a_file_that_vanished_is_made_again(tmp_path: Path) -> None:
    anchor = FileAnchor(tmp_path / "a")
    anchor.write(b"one", durable=True)
    (tmp_path / "a").unlink()
    anchor.write(b"two", durable=False)

    assert anchor.read() == b"two"


def test_what_is_no_plain_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"keep")
    (tmp_path / "link").symlink_to(target)
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "folder", "pipe"):
        anchor = FileAnchor(tmp_path / name)
        with pytest.raises(StoreIOError):
            anchor.read()
        with pytest.raises(StoreIOError):
            anchor.write(b"x", durable=True)

    FileAnchor(tmp_path / "link").destroy()
    assert target.read_bytes() == b"keep"
    assert not (tmp_path / "link").is_symlink()


def test_a_folder_that_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    anchor = FileAnchor(tmp_path / "no" / "a")
    assert anchor.read() is None
    with pytest.raises(StoreIOError, match="can't be written") as refused:
        anchor.write(b"x", durable=True)
    assert "\n" not in str(refused.value)
    anchor.destroy()


def test_what_a_crash_left_half_made_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "a.new").write_bytes(b"half")
    anchor = FileAnchor(tmp_path / "a")
    anchor.write(b"x", durable=True)
    assert anchor.read() == b"x"

    (tmp_path / "a.new").write_bytes(b"half")
    anchor.destroy()
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_need_not_last_waits_for_no_disk(tmp_path: Path) -> None:
    """By processor time of one run: a durable one does the same and a system call that waits."""
    anchor = FileAnchor(tmp_path / "a")
    anchor.write(bytes(93), durable=True)
    spent_s = []
    for _ in range(5):
        started_s = time.process_time()
        for _ in range(200):
            anchor.write(bytes(93), durable=False)
        spent_s.append((time.process_time() - started_s) / 200)

    assert min(spent_s) < 200e-6
