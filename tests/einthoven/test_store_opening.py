"""Opening a store's files: what opens, what is refused and left as it is, what a crash left, and what is adopted."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlcipher3 import dbapi2
from tests.einthoven.killed_children import killed_at

from einthoven.anchor_file import FileAnchor, anchor_path
from einthoven.errors import (
    KeyUnavailable,
    StoreDamaged,
    StoreIOError,
    StoreTooNew,
    StoreUnsafe,
    WrongKey,
)
from einthoven.file_lock import FileLock
from einthoven.key_provider_file import FileKeyProvider
from einthoven.key_slots import KeySlot, KeySlots, read_slots, slots_path, write_slots
from einthoven.keys import StaticKeyProvider
from einthoven.ports import KeyProvider
from einthoven.sqlcipher_connection import (
    DiskFull,
    FileKey,
    check_build,
    check_encrypted,
    make_file,
    move_log,
    open_reader,
    open_writer,
    read_unchanged,
    side_files,
    translated,
)
from einthoven.sqlcipher_reserve import reserve_path
from einthoven.sqlcipher_rows import SqlCipherRows
from einthoven.store_adoption import adopt_store
from einthoven.store_creating import fresh_key, make_store
from einthoven.store_events import AnchorFailed, DamageQuarantined, ForkReason, StoreEvent, StoreForked, StoreMigrated
from einthoven.store_opening import OpenedFile, open_store_file
from einthoven.store_proving import log_is_whole
from einthoven.store_replacement import discard_prepared, is_decided, prepared_path, replace_store_file
from einthoven.store_schema import APPLICATION_ID, SCHEMA_VERSION

KEYS = StaticKeyProvider(secrets.token_bytes(32))
OTHER_KEYS = StaticKeyProvider(secrets.token_bytes(32))
VERSION_1 = Path(__file__).parents[1] / "vectors" / "stores"
VALUE = b"what was kept, and must be there"


def put(opened: OpenedFile, name: str, value: bytes = VALUE) -> None:
    rows = SqlCipherRows(opened.connection)
    with rows.transaction():
        rows.put("setting", (name, value))
    state = rows.state()
    opened.continuity.committed(state.epoch, state.commit_seq, state.state_digest)


def settings_of(opened: OpenedFile) -> dict[str, bytes]:
    return dict(opened.connection.execute("SELECT name, value FROM setting").fetchall())


def open_store(path: Path, keys: KeyProvider = KEYS, **options: Any) -> tuple[OpenedFile, list[StoreEvent]]:
    events: list[StoreEvent] = []
    return open_store_file(path, keys, report=events.append, **options), events


def settings_and_events(path: Path, keys: KeyProvider = KEYS) -> tuple[dict[str, bytes], list[StoreEvent]]:
    opened, events = open_store(path, keys, create=False)
    with closing(opened):
        return settings_of(opened), events


def folder_bytes(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def raw(path: Path, literal: str) -> dbapi2.Connection:
    connection = dbapi2.connect(str(path), isolation_level=None)
    connection.execute("PRAGMA cipher_log_level = NONE")
    connection.execute(f'PRAGMA key = "{literal}"')
    return connection


def key_of(path: Path, keys: KeyProvider = KEYS) -> FileKey:
    slots = read_slots(path)
    assert slots is not None
    (slot,) = slots.slots
    return FileKey(keys.unwrap(slot.wrapped, slots.store_id), slot.salt)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A closed store with one setting, and ballast enough for several pages."""
    made = tmp_path / "folder" / "store.db"
    opened, _ = open_store(made)
    with closing(opened):
        put(opened, "kept")
        for number in range(40):
            put(opened, f"filling {number}", secrets.token_bytes(900))
    return made


# ---- making ----------------------------------------------------------------------------------------------------------


def test_a_new_store_is_private_and_says_so_to_nobody(tmp_path: Path) -> None:
    path = tmp_path / "new" / "store.db"
    previous = os.umask(0)
    try:
        opened, events = open_store(path)
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
        opened.close()
    finally:
        os.umask(previous)

    names = ["", ".anchor", ".keys", ".lock", "-shm", "-wal"]
    assert modes == {f"store.db{ending}": 0o600 for ending in names}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert events == []
    assert sorted(file.name for file in path.parent.iterdir()) == ["store.db", "store.db.anchor", "store.db.keys"]


def test_the_file_begins_with_the_salt_of_its_only_slot_and_with_no_plaintext(path: Path) -> None:
    slots = read_slots(path)
    assert slots is not None
    assert [slot.salt for slot in slots.slots] == [path.read_bytes()[:16]]
    assert VALUE not in path.read_bytes()


def test_no_two_stores_of_one_provider_share_key_salt_or_name(tmp_path: Path) -> None:
    keys, names = set(), set()
    for number in range(5):
        opened, _ = open_store(tmp_path / f"{number}.db")
        keys |= {opened.key.data_key, opened.key.salt}
        names.add(opened.store_id)
        opened.close()

    assert (len(keys), len(names)) == (10, 5)


def test_hardening_is_in_force_on_every_kind_of_connection(path: Path) -> None:
    opened, _ = open_store(path)
    common = {"synchronous": 2, "temp_store": 2, "secure_delete": 1, "trusted_schema": 0, "cell_size_check": 1}
    with closing(opened):
        for connection, query_only in (
            (opened.connection, 0),
            (opened.connect_reader(), 1),
            (opened.connect_checkpointer(), 0),
        ):
            found = {name: connection.execute(f"PRAGMA {name}").fetchone()[0] for name in common}
            assert found == common
            assert connection.execute("PRAGMA query_only").fetchone() == (query_only,)
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
            with pytest.raises(dbapi2.OperationalError, match="not authorized"):
                connection.execute("SELECT load_extension('x')")
            if connection is not opened.connection:
                connection.close()
        assert opened.connection.execute("PRAGMA wal_autocheckpoint").fetchone() == (0,)


def test_a_reader_sees_commits_and_can_write_nothing(path: Path) -> None:
    opened, _ = open_store(path)
    with closing(opened):
        reader = opened.connect_reader()
        put(opened, "new")
        assert reader.execute("SELECT value FROM setting WHERE name = 'new'").fetchone() == (VALUE,)
        with pytest.raises(dbapi2.OperationalError, match="attempt to write"):
            reader.execute("DELETE FROM setting")
        reader.close()


def test_the_log_grows_until_somebody_moves_it(path: Path) -> None:
    opened, _ = open_store(path)
    log = side_files(path)[0]
    with closing(opened):
        checkpointer = opened.connect_checkpointer()
        for number in range(600):
            put(opened, "x", bytes(4_000) + number.to_bytes(4, "big"))
        assert log.stat().st_size > 1_000 * 4_096
        move_log(checkpointer, path.name)
        assert log.stat().st_size == 0

        reader = opened.connect_reader()
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM setting").fetchone()
        put(opened, "y")
        with pytest.raises(StoreIOError, match="in use"):
            move_log(checkpointer, path.name)
        reader.close()
        checkpointer.close()


# ---- nothing is made or touched where it should not be ---------------------------------------------------------------


def test_without_leave_to_create_nothing_is_made(tmp_path: Path) -> None:
    with pytest.raises(StoreIOError, match="there is no store"):
        open_store(tmp_path / "new" / "store.db", create=False)

    assert list(tmp_path.iterdir()) == []


def test_without_a_key_nothing_is_made(tmp_path: Path) -> None:
    for folder in (tmp_path / "new", tmp_path):
        with pytest.raises(KeyUnavailable):
            open_store(folder / "store.db", FileKeyProvider(tmp_path / "no key"))
        assert list(tmp_path.iterdir()) == []


def test_a_folder_that_can_not_be_made_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreIOError) as refused:
        open_store(tmp_path / "file" / "store.db")
    assert "\n" not in str(refused.value)


def test_a_log_without_its_file_is_not_played_into_a_new_one(path: Path) -> None:
    opened, _ = open_store(path)
    put(opened, "in the log")
    shutil.copy(side_files(path)[0], path.parent / "log")
    opened.close()
    path.unlink()
    slots_path(path).unlink()
    (path.parent / "log").rename(side_files(path)[0])
    before = folder_bytes(path.parent)

    with pytest.raises(StoreIOError, match="left over"):
        open_store(path)

    assert folder_bytes(path.parent) == before


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def cut_to(size: int) -> Callable[[Path], None]:
    return lambda path: os.truncate(path, size)


def random_bytes(path: Path) -> None:
    path.write_bytes(secrets.token_bytes(8_192))


def plaintext_database(path: Path) -> None:
    path.unlink()
    with closing(dbapi2.connect(str(path))) as connection:
        connection.execute("CREATE TABLE t (a)")


def other_application(path: Path) -> None:
    key = key_of(path)
    path.unlink()
    with closing(raw(path, key.literal())) as connection:
        connection.execute("CREATE TABLE t (a)")


def newer(path: Path) -> None:
    with closing(raw(path, key_of(path).literal())) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")


def keys_gone(path: Path) -> None:
    slots_path(path).unlink()


def keys_damaged(path: Path) -> None:
    slots_path(path).write_bytes(bytes(byte ^ 1 for byte in slots_path(path).read_bytes()))


def keys_of_another(path: Path) -> None:
    opened, _ = open_store(path.parent.parent / "other.db")
    opened.close()
    shutil.copy(slots_path(path.parent.parent / "other.db"), slots_path(path))


REFUSED: dict[str, tuple[Callable[[Path], None], type[Exception]]] = {
    "empty": (emptied, WrongKey),
    "cut within the first page": (cut_to(4_000), WrongKey),
    "random": (random_bytes, WrongKey),
    "plaintext": (plaintext_database, WrongKey),
    "other application": (other_application, WrongKey),
    "newer": (newer, StoreTooNew),
    "keys gone": (keys_gone, KeyUnavailable),
    "keys damaged": (keys_damaged, StoreDamaged),
    "keys of another store": (keys_of_another, WrongKey),
}


@pytest.mark.parametrize("create", [False, True])
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_store_is_refused_and_left_byte_for_byte(
    path: Path, name: str, create: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    spoil, error = REFUSED[name]
    spoil(path)
    before = folder_bytes(path.parent)

    with pytest.raises(error) as refused:
        open_store(path, create=create)

    assert folder_bytes(path.parent) == before
    assert "\n" not in str(refused.value)
    assert KEYS.load().hex() not in str(refused.value)
    assert capfd.readouterr() == ("", "")


def test_a_wrong_key_is_refused_in_silence_and_changes_nothing(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = folder_bytes(path.parent)
    with pytest.raises(WrongKey):
        open_store(path, OTHER_KEYS)

    assert folder_bytes(path.parent) == before
    assert capfd.readouterr() == ("", "")
    assert settings_and_events(path)[0]["kept"] == VALUE


def cut_in_mid_page(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 100)


def pages_cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 2 * 4_096)


def first_page_damaged(path: Path) -> None:
    flip(path, 100)


def flip(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))


DAMAGED = [cut_in_mid_page, pages_cut, first_page_damaged]


@pytest.mark.parametrize("spoil", DAMAGED)
def test_a_damaged_file_is_left_alone_where_repair_is_not_wanted(path: Path, spoil: Callable[[Path], None]) -> None:
    spoil(path)
    before = folder_bytes(path.parent)

    with pytest.raises(StoreDamaged, match="damaged"):
        open_store(path, repair=False)

    assert folder_bytes(path.parent) == before


@pytest.mark.parametrize("spoil", DAMAGED)
def test_a_damaged_file_is_repaired_forked_once_and_set_aside(path: Path, spoil: Callable[[Path], None]) -> None:
    spoil(path)
    damaged = path.read_bytes()

    found, events = settings_and_events(path)

    assert found["kept"] == VALUE
    assert [event.reason for event in events if isinstance(event, StoreForked)] == [ForkReason.REPAIRED]
    assert path.with_name("store.db.damaged-1").read_bytes() == damaged
    assert settings_and_events(path) == (found, [])


def test_first_bytes_that_are_damaged_cost_nothing(path: Path) -> None:
    """They are the salt, which the key slot has as well."""
    flip(path, 3)
    found, events = settings_and_events(path)

    assert found["kept"] == VALUE
    assert not [event for event in events if isinstance(event, DamageQuarantined)]


def test_a_log_that_was_damaged_is_salvaged_and_not_dropped(path: Path, tmp_path: Path) -> None:
    """SQLite drops a log whose header is wrong, and with it what was acknowledged."""
    opened, _ = open_store(path)
    put(opened, "only in the log")
    copied = tmp_path / "copied"
    shutil.copytree(path.parent, copied)
    opened.close()
    for file in copied.iterdir():
        shutil.copy2(file, path.parent / file.name)  # in place: the same file, killed with its log
    log = side_files(path)[0]
    assert log_is_whole(path, key_of(path))
    flip(log, 20)
    assert not log_is_whole(path, key_of(path))

    found, events = settings_and_events(path)

    assert found["only in the log"] == VALUE
    assert [event.reason for event in events if isinstance(event, StoreForked)] == [ForkReason.REPAIRED]


def test_a_row_that_is_needed_to_go_on_and_is_damaged_has_the_store_repaired(path: Path) -> None:
    with closing(raw(path, key_of(path).literal())) as connection:
        connection.execute("UPDATE sync SET tag = zeroblob(16)")
    anchor_path(path).unlink()

    found, events = settings_and_events(path)

    assert found["kept"] == VALUE
    assert [event.reason for event in events if isinstance(event, StoreForked)] == [ForkReason.REPAIRED]


def test_a_store_that_can_not_be_made_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="ms since 1970"):
        make_store(tmp_path / "store.db", fresh_key(KEYS), at_ms=2**70)
    assert list(tmp_path.iterdir()) == []


# ---- one at a time ---------------------------------------------------------------------------------------------------


def test_a_store_is_open_once_whatever_it_is_called_and_can_be_opened_again(path: Path) -> None:
    link = path.parent.parent / "link.db"
    link.symlink_to(path)
    opened, _ = open_store(path)
    for name in (path, link, path.parent / ".." / path.parent.name / path.name):
        with pytest.raises(StoreIOError, match="open elsewhere"):
            open_store(name)
    opened.close()
    opened.close()

    again, _ = open_store(link)
    assert again.path == path
    again.close()


def test_a_refusal_gives_the_lock_back(path: Path) -> None:
    with pytest.raises(WrongKey):
        open_store(path, OTHER_KEYS)
    FileLock(path).release()


# ---- keys and files that came apart ----------------------------------------------------------------------------------


def test_a_store_whose_file_is_gone_is_said_aloud_and_its_keys_still_open_it(path: Path, tmp_path: Path) -> None:
    path.rename(tmp_path / "away.db")
    with pytest.raises(StoreIOError, match="is gone"):
        open_store(path, create=False)

    opened, events = open_store(path)
    assert [type(event) for event in events] == [StoreForked]
    assert "kept" not in settings_of(opened)
    opened.close()

    (tmp_path / "away.db").replace(path)
    found, events = settings_and_events(path)
    assert found["kept"] == VALUE
    assert [event.reason for event in events if isinstance(event, StoreForked)] == [ForkReason.ANCHOR_UNREADABLE]
    assert settings_and_events(path) == (found, [])


def test_keys_left_of_another_provider_are_not_overwritten(path: Path) -> None:
    path.unlink()
    before = folder_bytes(path.parent)
    with pytest.raises(WrongKey):
        open_store(path, OTHER_KEYS)
    assert folder_bytes(path.parent) == before


# ---- what a crash left -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_store_whose_making_was_cut_off_anywhere_is_made_or_carried_on(tmp_path: Path) -> None:
    number = 0
    while True:
        number += 1
        path = tmp_path / str(number) / "store.db"
        reached = killed_at(number, lambda path=path: open_store(path))  # type: ignore[misc]

        opened, events = open_store(path)
        put(opened, "kept")
        opened.close()
        assert settings_and_events(path) == ({"kept": VALUE}, [])
        assert events == []
        assert sorted(file.name for file in path.parent.iterdir()) == ["store.db", "store.db.anchor", "store.db.keys"]
        if not reached:
            break
    assert number > 15


def test_what_was_prepared_and_not_decided_is_cleared_away(path: Path) -> None:
    for name in ("store.db.new", "store.db.new-wal", "store.db.new-shm", "store.db.lock", "store.db.keys.new"):
        (path.parent / name).write_bytes(b"half")

    assert settings_and_events(path)[0]["kept"] == VALUE
    assert {file.name for file in path.parent.iterdir()} == {"store.db", "store.db.anchor", "store.db.keys"}


def test_a_wrong_key_clears_nothing_away(path: Path) -> None:
    (path.parent / "store.db.new").write_bytes(b"half")
    before = folder_bytes(path.parent)
    with pytest.raises(WrongKey):
        open_store(path, OTHER_KEYS)
    assert folder_bytes(path.parent) == before


def decided_but_broken(path: Path) -> KeySlots:
    """Slots that name a prepared file which the disk did not keep."""
    slots = read_slots(path)
    assert slots is not None
    salt = secrets.token_bytes(16)
    prepared_path(path).write_bytes(salt + bytes(8_176))
    both = KeySlots(slots.store_id, (*slots.slots, KeySlot(slots.slots[0].wrapped, salt)))
    write_slots(path, both)
    return both


def test_a_prepared_file_that_the_disk_lost_leaves_the_old_one_standing(path: Path) -> None:
    both = decided_but_broken(path)
    assert is_decided(path, both)

    assert settings_and_events(path)[0]["kept"] == VALUE
    left = read_slots(path)
    assert left is not None
    assert left.slots == both.slots[:1]
    assert not prepared_path(path).exists()


def test_a_prepared_file_that_was_lost_with_no_old_one_is_an_error_that_changes_nothing(path: Path) -> None:
    decided_but_broken(path)
    path.unlink()
    before = folder_bytes(path.parent)
    with pytest.raises(WrongKey):
        open_store(path)
    assert folder_bytes(path.parent) == before


def test_a_file_that_still_has_a_log_takes_no_place(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    fresh = fresh_key(KEYS)
    connection = make_file(prepared_path(path), fresh.key)
    connection.execute("CREATE TABLE t (a)")
    with pytest.raises(StoreIOError, match="not complete"):
        replace_store_file(path, fresh.slots)
    assert read_slots(path) is None
    connection.close()
    discard_prepared(path)
    assert list(tmp_path.iterdir()) == []


def test_ballast_is_given_up_where_there_is_no_room_even_to_open(path: Path) -> None:
    """The real thing: the kernel lets no file grow, so the log's index can't be made."""
    reserve_path(path).write_bytes(b"ballast")
    script = (
        "import resource, signal, sys\n"
        "from einthoven.store_opening import open_store_file\n"
        "from einthoven.errors import StoreIOError\n"
        "from einthoven.keys import StaticKeyProvider\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (16_384, 16_384))\n"
        "try: open_store_file(sys.argv[1], StaticKeyProvider(bytes.fromhex(sys.argv[2])))\n"
        "except StoreIOError as error: print(type(error).__name__, error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path), KEYS.load().hex()], text=True, capture_output=True, check=True
    )
    assert done.stdout.startswith("StoreIOError store.db can't be "), done.stdout
    assert not reserve_path(path).exists()
    assert settings_and_events(path)[0]["kept"] == VALUE


# ---- version 1 -------------------------------------------------------------------------------------------------------


def version_1(folder: Path, name: str) -> tuple[Path, StaticKeyProvider, dict[str, Any]]:
    """A store that the first release made, copied to where it may be changed."""
    folder.mkdir(exist_ok=True)
    for source in VERSION_1.glob(f"{name}.db*"):
        shutil.copy(source, folder / source.name.replace(name, "store"))
    told = json.loads((VERSION_1 / f"{name}.json").read_text())
    return folder / "store.db", StaticKeyProvider(bytes.fromhex(told["key"])), told


@pytest.mark.parametrize("name", ["version-1-empty", "version-1", "version-1-log"])
def test_a_store_of_version_1_is_adopted_once_with_all_that_is_in_it(tmp_path: Path, name: str) -> None:
    path, keys, told = version_1(tmp_path / "device", name)

    opened, events = open_store(path, keys)
    assert events == [StoreMigrated(1, SCHEMA_VERSION)]
    bodies = [body.hex() for (body,) in opened.connection.execute("SELECT body FROM result ORDER BY position")]
    assert bodies == [result["row"] for result in told["results"]]
    assert opened.connection.execute("SELECT count(*) FROM segment").fetchone() == (len(told["segments"]),)
    assert opened.key.data_key != keys.load()
    opened.close()

    again, events = open_store(path, keys)
    assert events == []
    again.close()
    assert sorted(file.name for file in path.parent.iterdir()) == ["store.db", "store.db.anchor", "store.db.keys"]
    with pytest.raises(WrongKey):
        read_unchanged(path, FileKey(keys.load(), path.read_bytes()[:16]), lambda connection: None)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["version-1", "version-1-log"])
def test_an_adoption_that_was_cut_off_anywhere_leaves_one_store_and_all_its_rows(tmp_path: Path, name: str) -> None:
    number = 0
    while True:
        number += 1
        path, keys, told = version_1(tmp_path / str(number), name)
        old = {file.name: file.read_bytes() for file in (path, side_files(path)[0]) if file.exists()}
        reached = killed_at(number, lambda path=path, keys=keys: open_store(path, keys))  # type: ignore[misc]
        if read_slots(path) is None:
            # Not decided: the old store is as it was, to the byte.
            assert {file: (path.parent / file).read_bytes() for file in old} == old

        opened, events = open_store(path, keys)
        count = opened.connection.execute("SELECT count(*) FROM result").fetchone()
        assert count == (len(told["results"]),)
        assert not [event for event in events if isinstance(event, StoreForked)]
        opened.close()
        assert sorted(file.name for file in path.parent.iterdir()) == ["store.db", "store.db.anchor", "store.db.keys"]
        if not reached:
            break
    assert number > 15


@pytest.mark.parametrize("in_place", [True, False])
def test_an_old_store_put_back_over_its_successor_forks(tmp_path: Path, in_place: bool) -> None:
    path, keys, told = version_1(tmp_path / "device", "version-1")
    opened, _ = open_store(path, keys)
    put(opened, "written since")
    opened.close()
    if not in_place:
        path.unlink()
    shutil.copy(VERSION_1 / "version-1.db", path)

    opened, events = open_store(path, keys)
    assert [event.reason for event in events if isinstance(event, StoreForked)] == [ForkReason.TURNED_BACK]
    assert opened.connection.execute("SELECT count(*) FROM result").fetchone() == (len(told["results"]),)
    opened.close()
    again, events = open_store(path, keys)
    assert events == []
    again.close()


def test_an_old_store_under_another_key_is_left_alone(tmp_path: Path) -> None:
    path, _, _ = version_1(tmp_path / "device", "version-1-log")
    before = folder_bytes(path.parent)
    with pytest.raises(KeyUnavailable, match="keys is missing"):
        open_store(path, OTHER_KEYS)
    assert folder_bytes(path.parent) == before


class OnlyWraps:
    """A provider whose key never leaves it."""

    destroy_is_final = True

    def wrap(self, data_key: bytes, store_id: bytes) -> bytes:
        return KEYS.wrap(data_key, store_id)

    def unwrap(self, wrapped: bytes, store_id: bytes) -> bytes:
        return KEYS.unwrap(wrapped, store_id)

    def destroy(self) -> None:
        """Nothing is kept."""


def test_a_provider_that_holds_no_raw_key_adopts_nothing_but_opens_what_it_made(tmp_path: Path) -> None:
    path, _, _ = version_1(tmp_path / "device", "version-1")
    with pytest.raises(KeyUnavailable, match="missing"):
        open_store(path, OnlyWraps())

    opened, _ = open_store(tmp_path / "own.db", OnlyWraps())
    opened.close()
    assert settings_and_events(tmp_path / "own.db", OnlyWraps()) == ({}, [])
    flip(tmp_path / "own.db", 100)
    assert settings_and_events(tmp_path / "own.db", OnlyWraps())[0] == {}


def test_an_adoption_without_room_for_a_copy_changes_nothing(tmp_path: Path) -> None:
    path, keys, _ = version_1(tmp_path / "device", "version-1")
    before = folder_bytes(path.parent)
    old_key = FileKey(keys.load(), path.read_bytes()[:16])
    with pytest.raises(StoreIOError, match="no room"):
        adopt_store(path, old_key, fresh_key(keys), FileAnchor(anchor_path(path)), at_ms=0, free=lambda folder: 10_000)
    assert folder_bytes(path.parent) == before


def test_an_adoption_that_fails_leaves_the_old_store_alone(tmp_path: Path) -> None:
    path, keys, _ = version_1(tmp_path / "device", "version-1")
    before = folder_bytes(path.parent)
    old_key = FileKey(keys.load(), path.read_bytes()[:16])
    with pytest.raises(ValueError, match="ms since 1970"):
        adopt_store(path, old_key, fresh_key(keys), FileAnchor(anchor_path(path)), at_ms=2**70)
    assert folder_bytes(path.parent) == before


def test_an_anchor_that_can_not_be_written_does_not_stop_an_adoption(tmp_path: Path) -> None:
    path, keys, told = version_1(tmp_path / "device", "version-1")
    opened, events = open_store(path, keys, anchor=FileAnchor(tmp_path / "nowhere" / "anchor"))
    assert opened.connection.execute("SELECT count(*) FROM result").fetchone() == (len(told["results"]),)
    opened.close()
    assert AnchorFailed in {type(event) for event in events}


def test_a_newer_file_under_the_providers_own_key_is_none_of_ours(path: Path) -> None:
    key = key_of(path)
    slots_path(path).unlink()
    with pytest.raises(KeyUnavailable, match="missing"):
        open_store(path, StaticKeyProvider(key.data_key))


# ---- the build, and errors in our words ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sqlite_version", "cipher_version", "why"),
    [
        ((3, 53, 4), None, "plaintext"),
        ((3, 53, 4), "", "plaintext"),
        ((3, 51, 2), "4.19.0 community", "3.51.3"),
        ((3, 53, 4), "3.4.2", "older than 4"),
        ((3, 53, 4), "unknown", "older than 4"),
    ],
)
def test_a_build_that_is_not_safe_is_refused(
    sqlite_version: tuple[int, ...], cipher_version: str | None, why: str
) -> None:
    with pytest.raises(StoreUnsafe, match=why):
        check_build(sqlite_version, cipher_version)


def test_the_oldest_safe_build_is_accepted() -> None:
    check_build((3, 51, 3), "4.0.0")
    check_build(dbapi2.sqlite_version_info, "4.19.0 community")


def test_a_file_that_is_not_encrypted_with_its_salt_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"SQLite format 3\0" + bytes(4_080))
    with pytest.raises(StoreUnsafe, match="plaintext"):
        check_encrypted(tmp_path / "x", FileKey(secrets.token_bytes(32), secrets.token_bytes(16)))


def test_a_full_disk_can_be_told_from_other_errors_by_whoever_makes_room(path: Path) -> None:
    opened, _ = open_store(path)
    with closing(opened):
        (pages,) = opened.connection.execute("PRAGMA page_count").fetchone()
        opened.connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(DiskFull, match="disk is full"), translated(path.name):
            put(opened, "more", bytes(100_000))
        with pytest.raises(StoreIOError) as other, translated(path.name):
            opened.connection.execute("SELECT * FROM nowhere")
        assert not isinstance(other.value, DiskFull | StoreDamaged)


def test_damage_found_once_open_is_told_with_a_remedy(path: Path) -> None:
    size = path.stat().st_size
    opened, _ = open_store(path)
    with closing(opened):
        for at in range(4_096, size, 4_096):
            flip(path, at + 1_000)
        with pytest.raises(StoreDamaged, match="is damaged"), translated(path.name):
            opened.connection.execute("SELECT sum(length(value)) FROM setting").fetchone()


def test_a_key_is_spelled_with_its_salt_and_never_shown(path: Path) -> None:
    key = key_of(path)
    assert key.literal() == f"x'{key.data_key.hex()}{key.salt.hex()}'"
    assert key.data_key.hex() not in repr(key)
    assert repr(key.data_key) not in repr(key)
    with pytest.raises(ValueError, match="salt"):
        FileKey(key.data_key, b"short").literal()
    with pytest.raises(KeyUnavailable):
        FileKey(b"short", key.salt).literal()


def test_a_reader_or_writer_of_what_is_not_there_is_an_error_and_makes_nothing(tmp_path: Path) -> None:
    key = FileKey(secrets.token_bytes(32), secrets.token_bytes(16))
    for connect in (open_reader, open_writer):
        with pytest.raises(StoreIOError):
            connect(tmp_path / "none.db", key)
    assert list(tmp_path.iterdir()) == []
    assert APPLICATION_ID
