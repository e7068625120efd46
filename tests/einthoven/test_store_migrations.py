"""Files of older versions with rows in them: every row is there afterwards, byte for byte, or the file is as it was."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from sqlcipher3 import dbapi2

from einthoven.anchor_file import FileAnchor, anchor_path
from einthoven.errors import StoreTooNew
from einthoven.keys import StaticKeyProvider
from einthoven.local_audit import verify
from einthoven.rollback import decode_record, encode_record
from einthoven.segments import decode_segment, segment_digest
from einthoven.sqlcipher_rows import SqlCipherRows
from einthoven.sqlcipher_signals import read_signal
from einthoven.store_copying import check_sums
from einthoven.store_events import ForkReason, StoreForked, StoreMigrated
from einthoven.store_migrations import MIGRATIONS, create_tables, migrate, to_version_2
from einthoven.store_schema import N_TABLES_OF_VERSION_2, SCHEMA_VERSION, TABLES, epoch_and_counter
from einthoven.store_sqlcipher import SqlCipherStore
from einthoven.store_tags import TableSums
from einthoven.store_values import AuditAction, AuditEntry, ContentKind, DamageReason

STORES = Path(__file__).parents[1] / "vectors" / "stores"
NAMES = sorted(path.stem for path in STORES.glob("version-1*.json"))
NAMES_2 = sorted(path.stem for path in STORES.glob("version-2*.json"))
STORE_ID = bytes(range(16))
AT_MS = 1_800_000_000_000

Expected = dict[str, Any]
OldStore = tuple[Path, Expected]


def copied(name: str, folder: Path) -> OldStore:
    for file in STORES.glob(f"{name}.db*"):
        shutil.copy(file, folder / file.name)
    return folder / f"{name}.db", json.loads((STORES / f"{name}.json").read_text())


@pytest.fixture(params=NAMES)
def old(request: pytest.FixtureRequest, tmp_path: Path) -> OldStore:
    return copied(request.param, tmp_path)


@pytest.fixture
def filled(tmp_path: Path) -> OldStore:
    return copied("version-1", tmp_path)


@contextmanager
def opened(store: OldStore) -> Iterator[dbapi2.Connection]:
    path, expected = store
    connection = dbapi2.connect(str(path), isolation_level=None)
    try:
        connection.execute("PRAGMA cipher_log_level = NONE")
        connection.execute(f"PRAGMA key = \"x'{expected.get('raw_key', expected['key'])}'\"")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA secure_delete = ON")
        yield connection
    finally:
        connection.close()


def migrated(connection: dbapi2.Connection) -> SqlCipherRows:
    assert migrate(connection, "store.db", store_id=STORE_ID, at_ms=AT_MS) == 1
    return SqlCipherRows(connection, refuse_damage)


def refuse_damage(table: str, values: object, reason: DamageReason) -> None:
    raise AssertionError((table, values, reason))


def rows_of(connection: dbapi2.Connection) -> dict[str, list[tuple[object, ...]]]:
    names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    return {name: connection.execute(f"SELECT * FROM {name}").fetchall() for (name,) in names}


def test_there_are_stores_of_every_older_version_with_rows_and_with_a_log() -> None:
    assert {"version-1", "version-1-empty", "version-1-log"} <= set(NAMES)
    assert {"version-2", "version-2-empty", "version-2-log"} <= set(NAMES_2)
    for version in (1, 2):
        assert (STORES / f"version-{version}-log.db-wal").stat().st_size > 0
    assert set(MIGRATIONS) == set(range(2, SCHEMA_VERSION + 1))


def test_every_row_is_there_afterwards_byte_for_byte(old: OldStore) -> None:
    expected = old[1]
    with opened(old) as connection:
        rows = migrated(connection)
        results = list(rows.select("result", "ORDER BY position"))
        segments = list(rows.select("segment", "ORDER BY id"))
        bodies = [read_signal(rows, *row[4:]) or b"" for row in segments]
        annotations = list(rows.select("annotation"))
        waiting = list(rows.select("annotation", "WHERE own AND local_body IS NOT known_body"))
        (sync,) = rows.select("sync")
        (epoch,) = rows.select("epoch")
        settings = {name: value.hex() for name, value in rows.select("setting")}
        refused = [list(row[1:]) for row in rows.select("refusal", "ORDER BY epoch, counter")]

    assert [{"row": body.hex(), "segment_digest": digest.hex()} for _, _, body, digest in results] == expected[
        "results"
    ]
    assert [epoch_and_counter(row[0]) for row in results] == [(1, n) for n in range(1, len(results) + 1)]
    assert [row[1] for row in results] == [int(line["row"][10:26], 16) for line in expected["results"]]
    assert {row[1].hex() for row in segments} == set(expected["segments"])
    for (_, digest, acknowledged, *_), body in zip(segments, bodies, strict=True):
        rate, samples_sha256 = expected["segments"][digest.hex()]
        segment = decode_segment(body)
        assert segment_digest(segment) == digest
        assert segment.sampling_rate_hz == Fraction(rate)
        assert sha256(segment.samples_uv.astype("<i4").tobytes()).hexdigest() == samples_sha256
        assert acknowledged == 0
    assert sorted(row[4].hex() for row in annotations) == sorted(expected["annotations"])
    assert sorted(row[4].hex() for row in waiting) == sorted(expected["pending_annotations"])
    assert settings == expected["settings"]
    state = expected["sync"]
    assert epoch == (state["epoch"], len(results), state["acknowledged"], 1)
    assert [*sync[1:4], [sync[4], sync[5].hex()]] == [state["epoch"], *state["cursor"], state["digest"]]
    assert (sync[8], sync[9] if sync[9] is None else bool(sync[9])) == (
        state["last_exchange_ms"],
        state["last_digest_equal"],
    )
    assert refused == state["refused"]


def test_signals_are_kept_in_the_order_of_their_results(filled: OldStore) -> None:
    with opened(filled) as connection:
        rows = migrated(connection)
        starts = [row[3] for row in rows.select("segment", "ORDER BY id")]
        first_start = {digest: started for _, started, _, digest in rows.select("result", "ORDER BY position DESC")}
        by_digest = {row[1]: row[3] for row in rows.select("segment")}

    assert starts == sorted(starts)
    assert len(starts) > 1
    assert by_digest == first_start


def test_tags_sums_and_audit_hold_afterwards(old: OldStore) -> None:
    with opened(old) as connection:
        rows = migrated(connection)
        counted = TableSums()
        for table in TABLES:
            for (tag,) in connection.execute(f"SELECT tag FROM {table.name}"):
                counted.add(table.name, tag)
        entries = [
            AuditEntry(seq=seq, at_ms=at_ms, action=AuditAction(action), subject=subject, entry_hash=entry_hash)
            for seq, at_ms, action, subject, entry_hash in rows.select("audit", "ORDER BY seq")
        ]

        assert counted == rows.sums
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_keys").fetchone() == (1,)
    assert [(entry.action, entry.subject) for entry in entries] == [
        (AuditAction.CREATED, ""),
        (AuditAction.MIGRATED, "1 2"),
        (AuditAction.MIGRATED, "2 3"),
    ]
    assert verify(entries, head=rows.audit_head) is None
    # The tables of version 3 are its first commit: nothing was ever reported as stored in it, so its anchor may be
    # missing.
    assert (rows.store_id, rows.commit_seq) == (STORE_ID, 1)


def test_a_migrated_store_has_the_tables_of_a_new_one(old: OldStore) -> None:
    schema = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name"
    new = dbapi2.connect(":memory:", isolation_level=None)
    create_tables(new, store_id=STORE_ID, at_ms=AT_MS)
    with opened(old) as connection:
        migrated(connection)

        assert connection.execute(schema).fetchall() == new.execute(schema).fetchall()
        for pragma in ("user_version", "application_id"):
            assert connection.execute(f"PRAGMA {pragma}").fetchone() == new.execute(f"PRAGMA {pragma}").fetchone()
    new.close()


def test_a_store_of_the_newest_version_is_left_alone(filled: OldStore) -> None:
    with opened(filled) as connection:
        migrated(connection)
        before = rows_of(connection)

        assert migrate(connection, "store.db", store_id=b"x" * 16, at_ms=AT_MS) == SCHEMA_VERSION
        assert rows_of(connection) == before


def test_a_newer_file_is_refused_untouched(filled: OldStore) -> None:
    with opened(filled) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    before = filled[0].read_bytes()

    with opened(filled) as connection, pytest.raises(StoreTooNew, match="update"):
        migrate(connection, "store.db", store_id=STORE_ID, at_ms=AT_MS)

    assert filled[0].read_bytes() == before


def full_disk(connection: dbapi2.Connection) -> None:
    # Room for some of the new tables and not for all of them.
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages + 20}")


def damaged_row(connection: dbapi2.Connection) -> None:
    """A value that no version could have written: it can't be moved."""
    connection.execute("UPDATE epoch SET acknowledged = last_counter")
    connection.execute("PRAGMA ignore_check_constraints = ON")
    connection.execute("UPDATE epoch SET acknowledged = last_counter + 1")
    connection.execute("PRAGMA ignore_check_constraints = OFF")


@pytest.mark.parametrize("spoil", [full_disk, damaged_row])
def test_one_that_fails_in_the_middle_leaves_version_1_whole(
    filled: OldStore, spoil: Callable[[dbapi2.Connection], None]
) -> None:
    with opened(filled) as connection:
        spoil(connection)
        before = rows_of(connection)

        with pytest.raises(dbapi2.Error):
            migrate(connection, "store.db", store_id=STORE_ID, at_ms=AT_MS)

        assert rows_of(connection) == before
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
        assert connection.execute("PRAGMA foreign_keys").fetchone() == (1,)
        assert connection.execute("PRAGMA cipher_integrity_check").fetchall() == []
    with opened(filled) as connection:
        assert rows_of(connection) == before


def test_migrations_are_each_all_or_nothing(filled: OldStore) -> None:
    def broken(connection: dbapi2.Connection, store_id: bytes, at_ms: int) -> None:
        connection.execute("CREATE TABLE half (x)")
        connection.execute("INSERT INTO nowhere VALUES (1)")

    with opened(filled) as connection:
        with pytest.raises(dbapi2.OperationalError):
            migrate(connection, "store.db", store_id=STORE_ID, at_ms=AT_MS, migrations={2: to_version_2, 3: broken})

        assert connection.execute("PRAGMA user_version").fetchone() == (2,)
        assert "half" not in rows_of(connection)
        assert len(rows_of(connection)["result"]) == len(filled[1]["results"])


def test_a_result_that_can_not_be_read_is_in_the_quarantine_and_its_signal_is_kept(filled: OldStore) -> None:
    with opened(filled) as connection:
        (digest,) = connection.execute("SELECT segment_digest FROM result WHERE counter = 4").fetchone()
        connection.execute("UPDATE result SET body = x'01' WHERE counter = 4")
        rows = migrated(connection)

        assert [row[1:4] for row in rows.select("quarantine")] == [
            (int(ContentKind.RESULT), "1:4", int(DamageReason.ROW_UNREADABLE))
        ]
        assert rows.sums.count("result") == len(filled[1]["results"]) - 1
        assert rows.find("segment", "WHERE digest = ?", (digest,)) is not None
        assert rows.sums.count("segment") == len(filled[1]["segments"])


def test_a_table_that_can_not_be_made_leaves_nothing() -> None:
    connection = dbapi2.connect(":memory:", isolation_level=None)
    with pytest.raises(dbapi2.IntegrityError):
        create_tables(connection, store_id=b"short", at_ms=AT_MS)

    assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
    connection.close()


# ---- version 2 -------------------------------------------------------------------------------------------------------


def plain(value: object) -> object:
    return {"hex": value.hex()} if isinstance(value, bytes) else value


@pytest.fixture(params=NAMES_2)
def second(request: pytest.FixtureRequest, tmp_path: Path) -> OldStore:
    return copied(request.param, tmp_path)


def test_every_row_of_version_2_is_there_afterwards_with_its_tag(second: OldStore) -> None:
    with opened(second) as connection:
        before = {
            table.name: connection.execute(f"SELECT * FROM {table.name} ORDER BY rowid").fetchall()
            for table in TABLES[:N_TABLES_OF_VERSION_2]
        }
        commit_seq, store_id = connection.execute("SELECT commit_seq, store_id FROM store").fetchone()

        assert migrate(connection, "store.db", store_id=STORE_ID, at_ms=AT_MS) == 2

        rows = SqlCipherRows(connection, refuse_damage)
        for name, lines in second[1]["tables"].items():
            keys = ", ".join(next(table.key for table in TABLES if table.name == name))
            found = [[plain(value) for value in row] for row in rows.select(name, f"ORDER BY {keys}")]
            assert (found[:-1] if name == "audit" else found) == lines
            stored = connection.execute(f"SELECT * FROM {name} ORDER BY rowid").fetchall()
            assert stored[: len(before[name])] == before[name]
        trail = list(rows.select("audit", "ORDER BY seq"))
        assert trail[-1][2:4] == (int(AuditAction.MIGRATED), "2 3")
        assert (rows.store_id, rows.commit_seq) == (store_id, commit_seq + 1)
        check_sums(rows)


def test_a_migrated_store_of_version_2_has_the_tables_of_a_new_one(second: OldStore) -> None:
    schema = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name"
    new = dbapi2.connect(":memory:", isolation_level=None)
    create_tables(new, store_id=STORE_ID, at_ms=AT_MS)
    with opened(second) as connection:
        migrate(connection, "store.db", store_id=STORE_ID, at_ms=AT_MS)

        assert connection.execute(schema).fetchall() == new.execute(schema).fetchall()
    new.close()


def anchor_the_copy(path: Path, said: Expected) -> None:
    """Have the anchor expect this copy, as if it were the file that it was written for."""
    anchor = FileAnchor(anchor_path(path))
    with opened((path, said)) as connection:
        (integrity_key,) = connection.execute("SELECT integrity_key FROM store").fetchone()
    record = decode_record(anchor.read(), integrity_key)
    assert record is not None
    anchor.write(encode_record(replace(record, inode=path.stat().st_ino), integrity_key), durable=True)


@pytest.mark.parametrize("name", ["version-2", "version-2-log", "version-2-empty"])
def test_a_store_of_version_2_opens_and_goes_on_where_it_was(tmp_path: Path, name: str) -> None:
    path, said = copied(name, tmp_path)
    keys = StaticKeyProvider(bytes.fromhex(said["key"]))
    anchor_the_copy(path, said)

    with SqlCipherStore.open(path, keys) as store:
        state = store.sync_state()
        events = store.take_events()
        trail = [entry.action for entry in store.audit_trail()]
        sound = store.check().sound
    with SqlCipherStore.open(path, keys) as store:
        again = store.take_events()

    assert events == [StoreMigrated(2, SCHEMA_VERSION)]
    assert again == []
    assert sound
    assert trail[-1] == AuditAction.MIGRATED
    expected = said["state"]
    assert [state.epoch, state.acknowledged, state.last_counter] == [
        expected[field] for field in ("epoch", "acknowledged", "last_counter")
    ]
    assert [state.digest.count, f"{state.digest.total:032x}"] == expected["digest"]
    assert state.waiting == expected["waiting"]


def test_a_store_of_version_2_that_was_turned_back_still_forks(tmp_path: Path) -> None:
    path, said = copied("version-2", tmp_path)
    keys = StaticKeyProvider(bytes.fromhex(said["key"]))

    with SqlCipherStore.open(path, keys) as store:  # the copy is another file than the anchor was written for
        events = store.take_events()

    assert StoreMigrated(2, SCHEMA_VERSION) in events
    assert [event.reason for event in events if isinstance(event, StoreForked)] == [ForkReason.COPIED]
