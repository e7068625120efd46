"""The encrypted file: what opens it, what does not, and that a refusal changes nothing."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from sqlcipher3 import dbapi2

from einthoven.errors import KeyUnavailable, StoreDamaged, StoreIOError, StoreTooNew, StoreUnsafe, WrongKey
from einthoven.key_provider_file import FileKeyProvider
from einthoven.key_slots import read_slots
from einthoven.keys import StaticKeyProvider
from einthoven.ports import Segment
from einthoven.results import InconclusiveReason, Quality, Rhythm, RiskTier, WindowResult
from einthoven.segments import segment_digest
from einthoven.sqlcipher_connection import FileKey, check_build
from einthoven.sqlcipher_rows import SqlCipherRows
from einthoven.store_events import ContentDropped, DamageQuarantined
from einthoven.store_schema import SCHEMA_VERSION, position_of
from einthoven.store_sqlcipher import SqlCipherStore
from einthoven.store_values import AuditAction, ContentKind, DropReason
from einthoven_protocol.messages import AnnotationRow, Register, ResultId

KEY = StaticKeyProvider(secrets.token_bytes(32))
OTHER_KEY = StaticKeyProvider(secrets.token_bytes(32))


def window(seed: int, n_samples: int = 3_840) -> tuple[WindowResult, Segment]:
    rng = np.random.default_rng(seed)
    segment = Segment(Fraction(128), rng.integers(-500, 500, n_samples, dtype=np.int32))
    result = WindowResult(
        counter=0,
        started_at_ms=1_700_000_000_000,
        duration_ms=30_000,
        n_steps=30,
        usable_s=30,
        quality=Quality.USABLE,
        rhythm=Rhythm.NORMAL,
        confidence_permille=900,
        logits=(1, 2, 3, 4),
        tier=RiskTier.ROUTINE,
        reason=InconclusiveReason.NONE,
        model_digest=b"m" * 32,
        front_end_version=1,
        segment_digest=segment_digest(segment),
    )
    return result, segment


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A closed store with 40 windows in it."""
    made = tmp_path / "folder" / "store.db"
    with SqlCipherStore.open(made, KEY) as store:
        store.append_windows([window(seed) for seed in range(40)])
    return made


LEFT = {"store.db", "store.db.keys", "store.db.anchor"}


def left_beside(path: Path) -> set[str]:
    return {file.name for file in path.parent.iterdir()}


def folder_bytes(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def raw(path: Path) -> dbapi2.Connection:
    """A connection of somebody who has the data key."""
    slots = read_slots(path)
    assert slots is not None
    slot = slots.slots[-1]
    key = FileKey(KEY.unwrap(slot.wrapped, slots.store_id), slot.salt)
    connection = dbapi2.connect(str(path), isolation_level=None)
    connection.execute("PRAGMA cipher_log_level = NONE")
    connection.execute(f'PRAGMA key = "{key.literal()}"')
    return connection


def killed_in_mid_life(path: Path) -> None:
    """Leave the store as a killed process does: rows in the log that are not in the file."""
    script = (
        "import os, sys; from einthoven.store_sqlcipher import SqlCipherStore; "
        "from einthoven.keys import StaticKeyProvider; "
        "store = SqlCipherStore.open(sys.argv[1], StaticKeyProvider(bytes.fromhex(sys.stdin.read()))); "
        "store.put_setting('kept', b'in the log'); os._exit(9)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], input=KEY.load().hex(), text=True, check=False, capture_output=True
    )
    assert done.returncode == 9, done.stderr


# ---- making and opening ----------------------------------------------------------------------------------------------


def test_a_store_is_private_and_leaves_one_file_when_closed(tmp_path: Path) -> None:
    path = tmp_path / "new" / "store.db"
    previous = os.umask(0)
    try:
        with SqlCipherStore.open(path, KEY) as store:
            store.append_window(*window(1))
            modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    finally:
        os.umask(previous)

    names = ["store.db", "store.db-wal", "store.db-shm", "store.db.lock", "store.db.keys", "store.db.anchor"]
    assert modes == dict.fromkeys(names, 0o600)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert left_beside(path) == LEFT


def test_a_row_survives_closing_and_opening(path: Path) -> None:
    with SqlCipherStore.open(path, KEY, create=False) as store:
        assert store.stats().results == 40
        assert store.append_window(*window(99)).counter == 41


def test_hardening_is_in_force(path: Path) -> None:
    with SqlCipherStore.open(path, KEY) as store:
        connection = store._writer.rows.connection
        pragmas = {
            name: connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "temp_store", "foreign_keys", "secure_delete", "trusted_schema")
        }
        with pytest.raises(dbapi2.OperationalError, match="not authorized"):
            connection.execute("SELECT load_extension('x')")

    assert pragmas == {
        "journal_mode": "wal",
        "synchronous": 2,
        "temp_store": 2,
        "foreign_keys": 1,
        "secure_delete": 1,
        "trusted_schema": 0,
    }


def test_without_leave_to_create_nothing_is_made(tmp_path: Path) -> None:
    with pytest.raises(StoreIOError, match="there is no store"):
        SqlCipherStore.open(tmp_path / "new" / "store.db", KEY, create=False)

    assert list(tmp_path.iterdir()) == []


def test_without_a_key_nothing_is_made(tmp_path: Path) -> None:
    with pytest.raises(KeyUnavailable):
        SqlCipherStore.open(tmp_path / "new" / "store.db", FileKeyProvider(tmp_path / "no key"))

    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_can_not_be_made_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(StoreIOError) as refused:
        SqlCipherStore.open(tmp_path / "file" / "store.db", KEY)

    assert "\n" not in str(refused.value)


def test_what_a_power_cut_left_half_made_is_made_anew(tmp_path: Path) -> None:
    for name in ("store.db.new", "store.db.new-wal", "store.db.lock"):
        (tmp_path / name).write_bytes(b"half")

    with SqlCipherStore.open(tmp_path / "store.db", KEY) as store:
        assert store.stats().results == 0

    assert left_beside(tmp_path / "store.db") == LEFT


def test_a_log_without_its_file_is_not_played_into_a_new_one(path: Path) -> None:
    killed_in_mid_life(path)
    path.unlink()
    before = folder_bytes(path.parent)

    with pytest.raises(StoreIOError, match="left over"):
        SqlCipherStore.open(path, KEY)

    assert {name: before[name] for name in before if name.endswith("-wal")}.items() <= folder_bytes(path.parent).items()
    assert not path.exists()


# ---- what is refused -------------------------------------------------------------------------------------------------


def plaintext_database(path: Path) -> None:
    path.unlink()
    connection = dbapi2.connect(str(path))
    connection.execute("CREATE TABLE t (a)")
    connection.close()


def other_application(path: Path) -> None:
    path.unlink()
    connection = raw(path)
    connection.execute("CREATE TABLE t (a)")
    connection.close()


REFUSED: dict[str, tuple[Callable[[Path], object], type[Exception]]] = {
    "empty": (lambda path: path.write_bytes(b""), WrongKey),
    "one byte": (lambda path: path.write_bytes(b"x"), WrongKey),
    "random": (lambda path: path.write_bytes(secrets.token_bytes(8_192)), WrongKey),
    "text": (lambda path: path.write_bytes(b"rate,sample\n" * 1_000), WrongKey),
    "plaintext SQLite": (plaintext_database, WrongKey),
    "other application": (other_application, WrongKey),
    "first page cut": (lambda path: os.truncate(path, 4_000), WrongKey),
    "first page damaged": (lambda path: damage(path, 100), StoreDamaged),
    "pages cut": (lambda path: os.truncate(path, 3 * 4_096), StoreDamaged),
    "cut in mid-page": (lambda path: os.truncate(path, path.stat().st_size - 100), StoreDamaged),
}


def damage(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


@pytest.mark.parametrize("create", [False, True])
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_store_is_refused_and_left_byte_for_byte(
    path: Path, name: str, create: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    spoil, error = REFUSED[name]
    spoil(path)
    before = folder_bytes(path.parent)

    with pytest.raises(error) as refused:
        SqlCipherStore.open(path, KEY, create=create, repair=False)

    assert folder_bytes(path.parent) == before
    assert "\n" not in str(refused.value)
    assert KEY.load().hex() not in str(refused.value)
    assert capfd.readouterr() == ("", "")


def test_a_wrong_key_is_refused_in_silence_and_changes_nothing(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = folder_bytes(path.parent)

    with pytest.raises(WrongKey, match="the key does not open"):
        SqlCipherStore.open(path, OTHER_KEY)

    assert folder_bytes(path.parent) == before
    assert capfd.readouterr() == ("", "")
    with SqlCipherStore.open(path, KEY) as store:
        assert store.stats().results == 40


def test_a_wrong_key_does_not_touch_the_log_of_a_killed_process_either(path: Path) -> None:
    killed_in_mid_life(path)
    (path.parent / "store.db-shm").unlink()
    before = folder_bytes(path.parent)
    assert "store.db-wal" in before

    with pytest.raises(WrongKey):
        SqlCipherStore.open(path, OTHER_KEY)

    before.pop("store.db.lock", None)
    assert folder_bytes(path.parent) == before
    with SqlCipherStore.open(path, KEY) as store:
        assert store.setting("kept") == b"in the log"


def test_a_first_page_that_was_torn_while_the_log_was_moved_is_taken_from_the_log(path: Path) -> None:
    """A power cut in a checkpoint: the page is half written in the file and whole in the log."""
    with SqlCipherStore.open(path, KEY) as store:
        # Changing the version writes page 1 itself into the log.
        store._writer.rows.connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        store.put_setting("kept", b"x")
        for suffix in ("", "-wal", ".keys", ".anchor"):
            shutil.copy(f"{path}{suffix}", path.parent / f"cut.db{suffix}")
    cut = path.parent / "cut.db"
    with cut.open("r+b") as file:
        file.seek(2_048)
        file.write(b"\0" * 2_048)

    with SqlCipherStore.open(cut, KEY) as store:
        assert store.setting("kept") == b"x"
        assert store.stats().results == 40


def test_a_newer_file_is_refused_and_left_byte_for_byte(path: Path) -> None:
    connection = raw(path)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.execute("CREATE TABLE from_the_future (a)")
    connection.close()
    before = folder_bytes(path.parent)

    with pytest.raises(StoreTooNew, match="update"):
        SqlCipherStore.open(path, KEY)

    assert folder_bytes(path.parent) == before


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


# ---- one writer ------------------------------------------------------------------------------------------------------


def test_a_second_store_in_the_same_process_is_refused_whatever_the_path_is_called(path: Path) -> None:
    link = path.parent.parent / "link.db"
    link.symlink_to(path)
    with SqlCipherStore.open(path, KEY) as store:
        for name in (path, link, path.parent / ".." / path.parent.name / path.name):
            with pytest.raises(StoreIOError, match="open elsewhere"):
                SqlCipherStore.open(name, KEY)
        store.append_window(*window(77))

    SqlCipherStore.open(link, KEY).close()


def test_another_process_is_refused_at_once_with_one_line(path: Path) -> None:
    script = (
        "import sys; from einthoven.store_sqlcipher import SqlCipherStore; from einthoven.errors import StoreError\n"
        "from einthoven.keys import StaticKeyProvider\n"
        "try: SqlCipherStore.open(sys.argv[1], StaticKeyProvider(bytes.fromhex(sys.stdin.read())))\n"
        "except StoreError as error: print(error)"
    )
    with SqlCipherStore.open(path, KEY):
        done = subprocess.run(
            [sys.executable, "-c", script, str(path)],
            input=KEY.load().hex(),
            text=True,
            check=True,
            capture_output=True,
            timeout=30,
        )

    assert done.stdout == "store.db is open elsewhere; close it there first\n"
    assert done.stderr == ""


def test_a_lock_that_a_killed_process_left_does_not_hold(path: Path) -> None:
    killed_in_mid_life(path)
    assert (path.parent / "store.db.lock").exists()

    with SqlCipherStore.open(path, KEY) as store:
        assert store.setting("kept") == b"in the log"


# ---- damage and full disks -------------------------------------------------------------------------------------------


def test_a_damaged_page_is_an_error_of_what_reads_it_only(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    size = path.stat().st_size
    damage(path, size - 3 * 4_096 + 1_000)
    seen: list[str] = []

    with SqlCipherStore.open(path, KEY) as store:
        assert store.setting("nothing") is None
        for seed in range(40):
            result, segment = window(seed)
            try:
                read = store.segment(result.segment_digest)
                assert read is not None
                assert np.array_equal(read.samples_uv, segment.samples_uv)
            except StoreIOError as error:
                seen.append(str(error))

    assert 1 <= len(seen) <= 3
    assert all("store.db" in line and "\n" not in line for line in seen)
    assert capfd.readouterr() == ("", "")


def test_rows_that_somebody_with_the_key_changed_are_damage_and_said_once(path: Path) -> None:
    changed, other = window(1)[0], window(2)[0]
    connection = raw(path)
    connection.execute(
        "UPDATE result SET body = (SELECT body FROM result WHERE position & 255 = 6) WHERE position & 255 = 5"
    )
    connection.execute("UPDATE segment SET first_byte = 0 WHERE digest = ?", (changed.segment_digest,))
    connection.execute("UPDATE setting SET value = x'00' WHERE name = 'kept'")
    connection.execute("INSERT INTO annotation VALUES (1, 1, 1, 'a', x'00', NULL, 1, zeroblob(16))")
    connection.close()
    row = AnnotationRow(target=ResultId(1, 1, 1), author="a", rhythm=Register("", 1), comment=Register("", 1))

    with SqlCipherStore.open(path, KEY) as store:
        for call in (
            lambda: store.result(5),
            lambda: store.segment(changed.segment_digest),
            lambda: store.annotate(row),
        ):
            for _ in range(2):
                with pytest.raises(StoreDamaged, match="not what was written"):
                    call()
        assert [result.counter for result in store.results()] == [*range(1, 5), *range(6, 41)]
        assert store.annotations() == []
        assert store.segment(other.segment_digest) is not None
        events = store.take_events()
        assert {(event.kind, event.place) for event in events if isinstance(event, DamageQuarantined)} == {
            (ContentKind.RESULT, "1:5"),
            (ContentKind.SEGMENT, changed.segment_digest.hex()),
            (ContentKind.ANNOTATION, "1:1:1:a"),
        }
        assert len(events) == 3
        assert store.append_window(*window(60)).counter == 41


def test_rows_with_a_right_tag_that_can_not_be_read_are_damage_too(path: Path) -> None:
    digest = window(3)[0].segment_digest
    with SqlCipherStore.open(path, KEY) as store:

        def write_nonsense(rows: SqlCipherRows) -> None:
            rows.put("result", (position_of(1, 5), 0, bytes(13), bytes(32)))
            row = rows.find("segment", "WHERE digest = ?", (digest,))
            assert row is not None
            rows.put("segment", (*row[:5], row[5] - 1))
            rows.insert("beat_run", (1, 1, 2, 2, b"no beats"))

        store._writer.write(write_nonsense)

        with pytest.raises(StoreDamaged):
            store.result(5)
        with pytest.raises(StoreDamaged):
            store.segment(digest)
        assert store.beats(0, 10) == []
        assert len(store.results()) == 39
        assert len(store.take_events()) == 3


def limit_pages(store: SqlCipherStore, more: int) -> None:
    (pages,) = store._writer.rows.connection.execute("PRAGMA page_count").fetchone()
    store._writer.rows.connection.execute(f"PRAGMA max_page_count = {pages + more}")


def test_on_a_full_disk_the_oldest_signals_make_room_and_no_result_is_lost(path: Path) -> None:
    with SqlCipherStore.open(path, KEY) as store:
        digests = [result.segment_digest for result in store.results()]
        store.acknowledge_segments(digests[20:30])
        limit_pages(store, 2)

        stored = [store.append_window(*window(seed)) for seed in range(100, 140)]

        assert [result.counter for result in store.results()] == list(range(1, 81))
        dropped = [event for event in store.take_events() if isinstance(event, ContentDropped)]
        assert {(event.kind, event.reason) for event in dropped} == {(ContentKind.SEGMENT, DropReason.DISK_FULL)}
        assert dropped[0].unacknowledged < dropped[0].count
        assert store.segment(digests[20]) is None
        assert store.segment(stored[-1].segment_digest) is not None
        actions = [entry.action for entry in store.audit_trail()]
        assert actions.count(AuditAction.DROPPED) == len(dropped)
        assert store.check().sound


def put_settings_until_refused(store: SqlCipherStore) -> None:
    for number in range(100):
        store.put_setting(f"s{number}", bytes(1_000))


def test_a_full_disk_with_nothing_left_to_drop_is_an_error_and_loses_nothing(tmp_path: Path) -> None:
    with SqlCipherStore.open(tmp_path / "store.db", KEY) as store:
        limit_pages(store, 8)
        with pytest.raises(StoreIOError, match="disk is full"):
            put_settings_until_refused(store)
        kept = [store.setting(f"s{number}") for number in range(100)]
        count = kept.index(None)
        assert kept[:count] == [bytes(1_000)] * count
        assert kept[count:] == [None] * (100 - count)
        assert count > 3

        store._writer.rows.connection.execute(f"PRAGMA max_page_count = {2**30}")
        store.put_setting("more", b"x")
        assert store.setting("more") == b"x"
        assert store.check().sound


def test_a_file_that_may_not_grow_is_one_clear_line_and_nothing_is_lost(path: Path) -> None:
    """The real thing: the kernel refuses the write, in a process whose files may not grow."""
    script = (
        "import resource, signal, sys; from einthoven.store_sqlcipher import SqlCipherStore\n"
        "from einthoven.errors import StoreError; from einthoven.keys import StaticKeyProvider\n"
        "store = SqlCipherStore.open(sys.argv[1], StaticKeyProvider(bytes.fromhex(sys.stdin.read())))\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))\n"
        "count = 0\n"
        "try:\n"
        "    while True: store.put_setting(f's{count}', bytes(1_000)); count += 1\n"
        "except StoreError as error: print(count, error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)],
        input=KEY.load().hex(),
        text=True,
        check=True,
        capture_output=True,
        timeout=30,
    )
    count, line = done.stdout.split(" ", 1)

    assert line.startswith("store.db ")
    assert line.count("\n") == 1
    assert done.stderr == ""
    with SqlCipherStore.open(path, KEY) as store:
        assert all(store.setting(f"s{number}") == bytes(1_000) for number in range(int(count)))
        assert store.setting(f"s{int(count) + 1}") is None


def test_an_interrupted_batch_leaves_nothing(path: Path) -> None:
    (good, segment), (_, other) = window(50), window(51)
    with SqlCipherStore.open(path, KEY) as store:
        with pytest.raises(ValueError, match="segment_digest"):
            store.append_windows([(good, segment), (good, other)])

        assert store.stats().results == 40
        assert store.segment(good.segment_digest) is None
        assert store.append_windows([]) == []
