"""A new data key, or a new wrapping: what is the same afterwards, what no longer opens, and crashes in between."""

from __future__ import annotations

import secrets
import shutil
from contextlib import closing
from pathlib import Path

import pytest
from tests.einthoven.killed_children import killed_at

from einthoven.anchor_file import FileAnchor, anchor_path
from einthoven.clock import FixedClock
from einthoven.errors import KeyUnavailable, StoreDamaged, StoreIOError, WrongKey
from einthoven.key_slots import KeySlots, read_slots, slots_path
from einthoven.keys import StaticKeyProvider
from einthoven.ports import KeyProvider
from einthoven.sqlcipher_connection import FileKey, open_writer, read_unchanged, side_files
from einthoven.sqlcipher_rows import SqlCipherRows
from einthoven.store_anchoring import Continuity
from einthoven.store_events import StoreEvent
from einthoven.store_opening import OpenedFile, open_store_file
from einthoven.store_proving import prove
from einthoven.store_rekey import rekey, rekey_store, rewrap
from einthoven.store_replacement import discard_undecided, prepared_path
from einthoven.store_sqlcipher import SqlCipherStore
from einthoven.store_values import AuditAction

OLD = StaticKeyProvider(secrets.token_bytes(32))
NEW = StaticKeyProvider(secrets.token_bytes(32))
N_SETTINGS = 60
FILES = ["store.db", "store.db.anchor", "store.db.keys"]


def put(opened: OpenedFile, name: str, value: bytes) -> None:
    rows = SqlCipherRows(opened.connection)
    with rows.transaction():
        rows.put("setting", (name, value))
    state = rows.state()
    opened.continuity.committed(state.epoch, state.commit_seq, state.state_digest)


def made(path: Path) -> Path:
    opened = open_store_file(path, OLD)
    with closing(opened):
        for number in range(N_SETTINGS):
            put(opened, f"{number}", secrets.token_bytes(500))
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return made(tmp_path / "device" / "store.db")


def found(path: Path, keys: KeyProvider) -> tuple[list[tuple[str, bytes]], list[StoreEvent]]:
    events: list[StoreEvent] = []
    opened = open_store_file(path, keys, create=False, report=events.append)
    with closing(opened):
        return opened.connection.execute("SELECT name, value FROM setting ORDER BY name").fetchall(), events


def the_slots(path: Path) -> KeySlots:
    slots = read_slots(path)
    assert slots is not None
    return slots


def key_of(path: Path, keys: KeyProvider = OLD) -> FileKey:
    slots = the_slots(path)
    (slot,) = slots.slots
    return FileKey(keys.unwrap(slot.wrapped, slots.store_id), slot.salt)


def keys_that_open(path: Path, *keys: FileKey) -> list[FileKey]:
    opening = []
    for key in keys:
        try:
            prove(path, key)
        except WrongKey:
            continue
        opening.append(key)
    return opening


def names(path: Path) -> list[str]:
    return sorted(file.name for file in path.parent.iterdir())


# ---- rekeying --------------------------------------------------------------------------------------------------------


def test_a_rekeyed_store_holds_what_it_held_and_the_old_key_opens_nothing(path: Path) -> None:
    before, _ = found(path, OLD)
    old_key, store_id = key_of(path), the_slots(path).store_id
    old_file = path.read_bytes()

    assert rekey_store(path, OLD, clock=FixedClock(77)) == []

    new_key = key_of(path)
    assert found(path, OLD) == (before, [])
    assert the_slots(path).store_id == store_id
    assert (new_key.data_key != old_key.data_key, new_key.salt != old_key.salt) == (True, True)
    assert keys_that_open(path, old_key, FileKey(old_key.data_key, new_key.salt), new_key) == [new_key]
    assert old_key.data_key not in slots_path(path).read_bytes()
    assert names(path) == FILES
    assert not {old_file[at : at + 4_096] for at in range(0, len(old_file), 4_096)} & {
        path.read_bytes()[at : at + 4_096] for at in range(0, path.stat().st_size, 4_096)
    }


def test_it_is_on_the_audit_trail(path: Path) -> None:
    rekey_store(path, OLD, clock=FixedClock(77))
    opened = open_store_file(path, OLD)
    with closing(opened):
        last = opened.connection.execute("SELECT at_ms, action FROM audit ORDER BY seq DESC LIMIT 1").fetchone()
    assert last == (77, AuditAction.REKEYED)


def test_free_space_is_given_back(path: Path) -> None:
    opened = open_store_file(path, OLD)
    with closing(opened):
        rows = SqlCipherRows(opened.connection)
        with rows.transaction():
            for number in range(50):
                rows.put("setting", (f"9{number}", bytes(4_000)))
        with rows.transaction():
            rows.delete_where("setting", "WHERE name > '1'")
    full = path.stat().st_size
    rekey_store(path, OLD)
    assert path.stat().st_size < 0.8 * full


def test_another_provider_takes_over(path: Path) -> None:
    before, _ = found(path, OLD)
    rekey_store(path, OLD, new_key_provider=NEW)

    assert found(path, NEW) == (before, [])
    with pytest.raises(WrongKey):
        found(path, OLD)


def test_it_can_be_done_again_and_again(path: Path) -> None:
    before, _ = found(path, OLD)
    for giver, taker in ((OLD, NEW), (NEW, NEW), (NEW, OLD)):
        rekey_store(path, giver, new_key_provider=taker)
        assert found(path, taker) == (before, [])
    assert names(path) == FILES


def test_an_old_backup_is_still_known_as_one(path: Path, tmp_path: Path) -> None:
    shutil.copytree(path.parent, tmp_path / "backup")
    rekey_store(path, OLD)
    for name in ("store.db", "store.db.keys"):
        shutil.copy(tmp_path / "backup" / name, path.parent / name)

    _, events = found(path, OLD)
    assert [type(event).__name__ for event in events] == ["StoreForked"]


def test_an_old_file_without_its_old_slot_does_not_open(path: Path, tmp_path: Path) -> None:
    shutil.copy(path, tmp_path / "old.db")
    rekey_store(path, OLD)
    shutil.copy(tmp_path / "old.db", path)

    with pytest.raises(WrongKey):
        found(path, OLD)


def closed_for_rekeying(path: Path) -> OpenedFile:
    opened = open_store_file(path, OLD)
    opened.connection.close()
    return opened


def test_an_open_store_goes_on_under_its_new_key(path: Path) -> None:
    before, _ = found(path, OLD)
    opened = closed_for_rekeying(path)
    old_key = opened.key
    rekey(opened, NEW)

    assert keys_that_open(path, old_key, opened.key) == [opened.key]
    opened.connection = open_writer(path, opened.key)
    put(opened, "since", b"then")
    opened.close()
    assert found(path, NEW) == (sorted([*before, ("since", b"then")]), [])


def test_without_room_for_a_second_copy_nothing_is_changed(path: Path) -> None:
    before = path.read_bytes(), slots_path(path).read_bytes()
    opened = closed_for_rekeying(path)
    with pytest.raises(StoreIOError, match="no room for a second copy"):
        rekey(opened, NEW, free=lambda folder: path.stat().st_size)
    assert (path.read_bytes(), slots_path(path).read_bytes()) == before
    opened.close()
    assert names(path) == FILES
    assert found(path, OLD)[1] == []


class Locked:
    """A provider whose key may not be used just now."""

    destroy_is_final = False

    def wrap(self, data_key: bytes, store_id: bytes) -> bytes:
        raise KeyUnavailable("the vault is locked", "unlock it")

    def unwrap(self, wrapped: bytes, store_id: bytes) -> bytes:
        raise KeyUnavailable("the vault is locked", "unlock it")

    def destroy(self) -> None:
        """Nothing is kept."""


def test_without_a_new_wrapping_key_nothing_is_changed(path: Path) -> None:
    before, _ = found(path, OLD)
    with pytest.raises(KeyUnavailable, match="locked"):
        rekey_store(path, OLD, new_key_provider=Locked())
    assert found(path, OLD) == (before, [])
    assert names(path) == FILES


def test_somebody_else_who_reads_stops_it(path: Path) -> None:
    before, _ = found(path, OLD)
    opened = open_store_file(path, OLD)
    reader = opened.connect_reader()
    put(opened, "more", b"so that there is a log")
    opened.connection.close()
    with pytest.raises(StoreIOError, match="in use"):
        rekey(opened, NEW)
    reader.close()
    opened.close()
    assert found(path, OLD)[0] == sorted([*before, ("more", b"so that there is a log")])


class FailingAnchor(FileAnchor):
    """Writes nothing durably once it is told so."""

    fails = False

    def write(self, record: bytes, *, durable: bool) -> None:
        if self.fails:
            raise StoreIOError("no room", "make some")
        super().write(record, durable=durable)


def test_an_anchor_that_can_not_expect_the_new_file_stops_it(path: Path) -> None:
    anchor = FailingAnchor(anchor_path(path))
    events: list[StoreEvent] = []
    opened = open_store_file(path, OLD, anchor=anchor, report=events.append)
    opened.connection.close()
    anchor.fails = True
    with pytest.raises(StoreIOError, match="no room"):
        rekey(opened, NEW)
    assert not prepared_path(path).exists()
    opened.close()
    assert found(path, OLD)[1] == []


def test_a_store_that_lost_rows_is_not_copied_as_if_it_were_whole(path: Path) -> None:
    opened = open_store_file(path, OLD)
    with closing(opened):
        opened.connection.execute("DELETE FROM setting WHERE name = '7'")
    before = path.read_bytes()

    with pytest.raises(StoreDamaged, match="lost rows"):
        rekey_store(path, OLD)

    assert path.read_bytes() == before
    assert names(path) == FILES


def test_a_damaged_page_stops_it_and_changes_nothing(path: Path) -> None:
    opened = open_store_file(path, OLD)
    (root,) = opened.connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'beat_run_started'").fetchone()
    opened.close()
    content = bytearray(path.read_bytes())
    content[(root - 1) * 4_096 + 500] ^= 1
    path.write_bytes(content)

    with pytest.raises(StoreDamaged):
        rekey_store(path, OLD)

    assert path.read_bytes() == bytes(content)
    assert names(path) == FILES


def test_a_disk_that_fails_after_the_decision_keeps_the_old_file_from_being_written(path: Path) -> None:
    """A folder stands where the new file's last step would go: the slots are written, the name is not."""
    opened = closed_for_rekeying(path)
    side_files(path)[2].mkdir()  # a journal that can't be removed
    with pytest.raises(StoreIOError, match="open the store again"):
        rekey(opened, NEW)

    for connect in (opened.connect_writer, opened.connect_reader, opened.connect_checkpointer):
        with pytest.raises(StoreIOError, match="can't be opened"):
            connect()
    opened.close()
    side_files(path)[2].rmdir()
    assert len(found(path, NEW)[0]) == N_SETTINGS
    assert found(path, NEW)[1] == []
    assert names(path) == FILES


def test_a_disk_that_fails_in_the_midst_of_it_does_not_cost_the_open_store(path: Path) -> None:
    """What is in place by then, and under which key, is found out when it is used next."""
    with SqlCipherStore.open(path, OLD) as store:
        assert store.setting("7") is not None
        side_files(path)[2].mkdir()
        for _ in range(2):
            with pytest.raises(StoreIOError):
                store.rekey(NEW)
            with pytest.raises(StoreIOError, match="can't be opened"):
                store.setting("7")
            with pytest.raises(StoreIOError, match="can't be opened"):
                store.put_setting("more", b"1")
        side_files(path)[2].rmdir()
        assert store.setting("7") is not None
        store.put_setting("more", b"1")
        assert store.check().sound
        store.rekey(NEW)
        assert store.take_events() == []
    assert len(found(path, NEW)[0]) == N_SETTINGS + 1
    assert found(path, NEW)[1] == []
    assert set(names(path)) - {"store.db.reserve"} == set(FILES)


def test_slots_that_can_not_be_read_after_a_failed_decision_are_read_later(path: Path) -> None:
    opened = closed_for_rekeying(path)
    slots_file = slots_path(path)
    kept, prepared_slots = slots_file.with_name("kept"), slots_file.with_name(slots_file.name + ".new")
    slots_file.rename(kept)
    prepared_slots.mkdir()  # the decision can't be written, and there is nothing to read
    with pytest.raises(StoreIOError):
        rekey(opened, NEW)
    with pytest.raises(StoreDamaged, match=r"keys of store\.db are gone"):
        opened.connect_writer()
    kept.rename(slots_file)
    prepared_slots.rmdir()
    opened.connection = opened.connect_writer()
    put(opened, "more", b"1")
    opened.close()
    assert len(found(path, OLD)[0]) == N_SETTINGS + 1
    assert found(path, OLD)[1] == []
    assert names(path) == FILES


def test_a_slot_of_the_old_key_that_a_crash_left_is_dropped(path: Path) -> None:
    old = the_slots(path)
    rekey_store(path, OLD)
    new = the_slots(path)
    from einthoven.key_slots import write_slots

    write_slots(path, KeySlots(old.store_id, (*old.slots, *new.slots)))
    assert found(path, OLD)[1] == []
    assert the_slots(path) == new


# ---- crashes ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("taker", [OLD, NEW], ids=["same provider", "another provider"])
def test_cut_off_anywhere_one_key_opens_it_and_nothing_is_lost_or_forked(
    tmp_path: Path, taker: StaticKeyProvider
) -> None:
    source = made(tmp_path / "source" / "store.db")
    before, _ = found(source, OLD)
    number, openers = 0, set()
    while True:
        number += 1
        path = tmp_path / str(number) / "store.db"
        # Moved there, so that it is the file that its anchor knows.
        made_here = made_again(source, path)
        reached = killed_at(number, lambda path=path: rekey_store(path, OLD, new_key_provider=taker))  # type: ignore[misc]

        opening = []
        for keys in (OLD, NEW):
            try:
                held, events = found(path, keys)
            except WrongKey:
                continue
            assert held == before
            assert events == []
            opening.append(keys)
        assert len(opening) == 1, number
        openers.add(id(opening[0]))
        slots = the_slots(path)
        assert len(slots.slots) == 1
        assert names(path) == FILES
        assert made_here
        if not reached:
            break
    assert number > 40
    assert openers == {id(OLD), id(taker)}


def made_again(source: Path, path: Path) -> bool:
    """A copy of a store with an anchor of its own."""
    shutil.copytree(source.parent, path.parent)
    anchor_path(path).unlink()
    key = key_of(path)
    proof = prove(path, key)
    assert proof.state is not None
    from einthoven.rollback import record_of

    record = record_of(proof.state, path.stat().st_ino)
    Continuity(FileAnchor(anchor_path(path)), record, proof.integrity_key, lambda event: None)
    return True


def test_a_failed_preparation_is_kept_only_if_it_was_decided(path: Path) -> None:
    slots = the_slots(path)
    prepared_path(path).write_bytes(bytes(4_096))
    discard_undecided(path)
    assert not prepared_path(path).exists()
    prepared_path(path).write_bytes(slots.slots[0].salt + bytes(4_080))
    discard_undecided(path)
    assert prepared_path(path).exists()


# ---- rewrapping ------------------------------------------------------------------------------------------------------


def test_rewrapping_changes_who_opens_it_and_nothing_else(path: Path) -> None:
    before, _ = found(path, OLD)
    content = path.read_bytes()
    opened = open_store_file(path, OLD)
    key = opened.key
    rewrap(opened, NEW)
    opened.close()

    assert path.read_bytes() == content
    assert key_of(path, NEW) == key
    assert found(path, NEW) == (before, [])
    with pytest.raises(WrongKey):
        found(path, OLD)


def test_rewrapping_that_is_refused_leaves_the_old_wrap(path: Path) -> None:
    opened = open_store_file(path, OLD)
    with closing(opened), pytest.raises(KeyUnavailable):
        rewrap(opened, Locked())
    assert found(path, OLD)[1] == []


@pytest.mark.slow
def test_rewrapping_cut_off_anywhere_leaves_one_wrap_or_the_other(tmp_path: Path) -> None:
    path = made(tmp_path / "device" / "store.db")

    def rewrapped() -> None:
        opened = open_store_file(path, OLD)
        rewrap(opened, NEW)
        opened.close()

    number, openers = 0, set()
    while True:
        number += 1
        reached = killed_at(number, rewrapped)
        opening = []
        for keys in (OLD, NEW):
            try:
                found(path, keys)
            except WrongKey:
                continue
            opening.append(keys)
        (opener,) = opening
        openers.add(id(opener))
        if opener is NEW:
            opened = open_store_file(path, NEW)
            rewrap(opened, OLD)
            opened.close()
        if not reached:
            break
    assert openers == {id(OLD), id(NEW)}
    assert read_unchanged(path, key_of(path), lambda connection: True)
