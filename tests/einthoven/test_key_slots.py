"""The file of key slots: read whole or refused, replaced all or nothing, destroyed for good."""

from __future__ import annotations

import hashlib
import os
import resource
import signal
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from einthoven.errors import StoreDamaged, StoreIOError, StoreTooNew
from einthoven.key_slots import (
    BLOCK_BYTES,
    COPIES,
    MAX_SLOTS_FILE_BYTES,
    MAX_WRAPPED_BYTES,
    KeySlot,
    KeySlots,
    decode_file,
    decode_slots,
    destroy_slots,
    encode_file,
    encode_slots,
    read_slots,
    slots_path,
    write_slots,
)

ONE = KeySlots(b"i" * 16, (KeySlot(b"wrapped under the first key", b"s" * 16),))
TWO = KeySlots(b"i" * 16, (*ONE.slots, KeySlot(b"wrapped under the second key", b"t" * 16)))

any_slot = st.builds(KeySlot, st.binary(min_size=1, max_size=MAX_WRAPPED_BYTES), st.binary(min_size=16, max_size=16))
any_slots = st.builds(
    KeySlots,
    st.binary(min_size=16, max_size=16),
    st.lists(any_slot, min_size=1, max_size=2).map(tuple),
)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "ecg.db"


@contextmanager
def files_no_longer_than(n_bytes: int) -> Iterator[None]:
    """What a full disk does: a write beyond is refused."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def with_checksum(body: bytes) -> bytes:
    return body + hashlib.sha256(body).digest()


@given(any_slots)
def test_slots_come_back_as_they_were(slots: KeySlots) -> None:
    content = encode_slots(slots)

    assert decode_slots(content, "x") == slots
    assert len(content) <= MAX_SLOTS_FILE_BYTES


@given(st.binary(max_size=300))
def test_any_bytes_are_slots_or_a_typed_error(content: bytes) -> None:
    for tried in (content, with_checksum(content), with_checksum(encode_slots(ONE)[:20] + content)):
        with pytest.raises((StoreDamaged, StoreTooNew)):
            decode_slots(tried, "x")


@pytest.mark.parametrize("slots", [ONE, TWO], ids=["one", "two"])
def test_every_flipped_bit_and_every_cut_is_damage(slots: KeySlots) -> None:
    content = encode_slots(slots)
    flipped = [
        content[:position] + bytes([content[position] ^ 1 << bit]) + content[position + 1 :]
        for position in range(len(content))
        for bit in range(8)
    ]
    for damaged in [*flipped, *(content[:length] for length in range(len(content))), content + b"\0"]:
        with pytest.raises(StoreDamaged, match=r"ecg\.db\.keys is damaged"):
            decode_slots(damaged, "ecg.db.keys")


@pytest.mark.parametrize("slots", [ONE, TWO], ids=["one", "two"])
def test_a_lost_block_or_a_flipped_bit_costs_one_copy_and_not_the_store(slots: KeySlots) -> None:
    octets = encode_file(slots)
    blocks = range(0, len(octets), BLOCK_BYTES)
    assert len(blocks) >= COPIES
    for start in blocks:
        for filling in (b"\0", b"\xff", b"\x55"):
            lost = octets[:start] + filling * BLOCK_BYTES + octets[start + BLOCK_BYTES :]
            assert decode_file(lost, "x") == slots
    for position in range(len(octets)):
        flipped = octets[:position] + bytes([octets[position] ^ 4]) + octets[position + 1 :]
        assert decode_file(flipped, "x") == slots


def test_with_both_copies_damaged_it_is_damaged() -> None:
    octets = encode_file(ONE)
    half = len(octets) // COPIES
    for damage in (4, 12, 60):
        both = bytearray(octets)
        both[damage] ^= 1
        both[half + damage] ^= 1
        with pytest.raises(StoreDamaged, match=r"ecg\.db\.keys is damaged"):
            decode_file(bytes(both), "ecg.db.keys")


@given(st.binary(max_size=3 * BLOCK_BYTES))
def test_any_file_is_slots_or_a_typed_error(octets: bytes) -> None:
    with pytest.raises((StoreDamaged, StoreTooNew)):
        decode_file(octets, "x")


@pytest.mark.parametrize(
    "change",
    [
        lambda body: b"EINKEYS\r" + body[8:],  # another magic
        lambda body: body[:10] + b"\0" + body[11:],  # no slot
        lambda body: body[:10] + b"\2" + body[11:],  # a slot that is not there
        lambda body: body[:10] + b"\3" + body[11:],
        lambda body: body + b"\0",  # something behind the last slot
        lambda body: body[:27] + b"\0\0" + body[29:],  # an empty wrapped key
        lambda body: body[:27] + b"\xff\xff" + body[29:],  # one that is longer than the file
    ],
)
def test_what_does_not_add_up_is_damage_whatever_the_checksum_says(change: object) -> None:
    body = encode_slots(ONE)[:-32]
    assert callable(change)

    with pytest.raises(StoreDamaged):
        decode_slots(with_checksum(change(body)), "x")


def test_a_newer_layout_is_refused_by_name() -> None:
    body = encode_slots(ONE)[:-32]

    with pytest.raises(StoreTooNew, match="newer version"):
        decode_slots(with_checksum(body[:8] + b"\0\2" + body[10:]), "x")


@pytest.mark.parametrize(
    ("wrapped", "salt"), [(b"", b"s" * 16), (b"w" * (MAX_WRAPPED_BYTES + 1), b"s" * 16), (b"w", b"s" * 15)]
)
def test_a_slot_out_of_bounds_is_an_error_of_the_caller(wrapped: bytes, salt: bytes) -> None:
    with pytest.raises(ValueError, match="bytes, not"):
        KeySlot(wrapped, salt)


@pytest.mark.parametrize(("store_id", "n_slots"), [(b"i" * 15, 1), (b"i" * 16, 0), (b"i" * 16, 3)])
def test_slots_out_of_bounds_are_an_error_of_the_caller(store_id: bytes, n_slots: int) -> None:
    with pytest.raises(ValueError, match="not"):
        KeySlots(store_id, ONE.slots * n_slots)


def test_a_slot_does_not_show_its_wrapped_key() -> None:
    assert "wrapped under" not in repr(TWO)


def test_no_file_is_no_slots(store: Path) -> None:
    assert read_slots(store) is None
    assert list(store.parent.iterdir()) == []


def test_slots_are_written_private_and_alone_and_replaced(store: Path) -> None:
    previous = os.umask(0)
    try:
        for slots in (ONE, TWO, ONE):
            write_slots(store, slots)
            assert read_slots(store) == slots
    finally:
        os.umask(previous)

    assert list(store.parent.iterdir()) == [slots_path(store)]
    assert stat.S_IMODE(slots_path(store).stat().st_mode) == 0o600


def test_what_a_crash_left_half_made_is_not_read_and_not_in_the_way(store: Path) -> None:
    prepared = store.with_name("ecg.db.keys.new")
    prepared.write_bytes(encode_slots(TWO)[:40])
    assert read_slots(store) is None

    write_slots(store, ONE)
    prepared.write_bytes(encode_slots(TWO))

    assert read_slots(store) == ONE
    write_slots(store, TWO)
    assert read_slots(store) == TWO
    assert not prepared.exists()


def test_a_full_disk_leaves_the_slots_that_were_there(store: Path) -> None:
    write_slots(store, ONE)

    with files_no_longer_than(16), pytest.raises(StoreIOError, match=r"ecg\.db\.keys can't be written"):
        write_slots(store, TWO)

    assert read_slots(store) == ONE
    assert list(store.parent.iterdir()) == [slots_path(store)]


def test_a_folder_that_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(StoreIOError, match="can't be written"):
        write_slots(tmp_path / "none" / "ecg.db", ONE)
    (tmp_path / "file").touch()
    with pytest.raises(StoreIOError, match="can't be read"):
        read_slots(tmp_path / "file" / "ecg.db")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("size", [0, 1, MAX_SLOTS_FILE_BYTES + 1, 10_000_000])
def test_a_file_of_another_size_is_damage(store: Path, size: int) -> None:
    with slots_path(store).open("wb") as file:
        file.truncate(size)

    with pytest.raises(StoreDamaged):
        read_slots(store)


def test_a_link_a_folder_and_a_pipe_are_refused(store: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(encode_file(ONE))
    path = slots_path(store)

    path.symlink_to(elsewhere)
    with pytest.raises(StoreIOError):
        read_slots(store)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(StoreIOError, match="not a regular file"):
        read_slots(store)
    path.unlink()
    path.mkdir()
    with pytest.raises(StoreIOError):
        read_slots(store)
    with pytest.raises(StoreIOError):
        write_slots(store, ONE)
    with pytest.raises(StoreIOError):
        destroy_slots(store)


def test_slots_that_were_replaced_are_overwritten_on_the_disk(store: Path) -> None:
    write_slots(store, ONE)
    with slots_path(store).open("rb") as replaced:
        write_slots(store, TWO)

        left = replaced.read()

    assert len(left) == len(encode_file(ONE))
    assert ONE.slots[0].wrapped not in left


def test_a_backup_by_hard_link_keeps_its_bytes_when_slots_are_replaced(store: Path, tmp_path: Path) -> None:
    write_slots(store, ONE)
    backup = tmp_path / "backup"
    backup.hardlink_to(slots_path(store))

    write_slots(store, TWO)

    assert backup.read_bytes() == encode_file(ONE)


def test_destroyed_slots_are_overwritten_and_gone_with_what_a_crash_left(store: Path) -> None:
    write_slots(store, ONE)
    prepared = store.with_name("ecg.db.keys.new")
    prepared.write_bytes(encode_slots(TWO))
    with slots_path(store).open("rb") as first, prepared.open("rb") as second:
        destroy_slots(store)

        left = first.read() + second.read()

    assert b"wrapped under" not in left
    assert list(store.parent.iterdir()) == []
    destroy_slots(store)
    assert read_slots(store) is None


def test_a_disk_that_says_no_is_one_clear_line_and_destroying_goes_on_later(store: Path) -> None:
    write_slots(store, ONE)

    with files_no_longer_than(16), pytest.raises(StoreIOError, match="can't be destroyed"):
        destroy_slots(store)

    destroy_slots(store)
    assert list(store.parent.iterdir()) == []


def test_whenever_the_writer_is_killed_the_old_or_the_new_slots_are_there(store: Path) -> None:
    write_slots(store, ONE)
    seen = set()
    for attempt in range(60):
        child = os.fork()
        if child == 0:
            try:
                while True:
                    write_slots(store, TWO)
                    write_slots(store, ONE)
            finally:
                os._exit(1)
        time.sleep(0.002 + attempt * 0.000_3)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.WTERMSIG(status) == signal.SIGKILL
        seen.add(read_slots(store))

    assert seen <= {ONE, TWO}
    destroy_slots(store)
    assert list(store.parent.iterdir()) == []
