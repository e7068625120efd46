"""Pages of a real SQLCipher file, proved and decrypted one by one, the write-ahead log included."""

from __future__ import annotations

import random
import secrets
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlcipher3 import dbapi2

from einthoven.errors import KeyUnavailable, StoreIOError
from einthoven.sqlcipher_connection import FileKey
from einthoven.sqlcipher_log import FRAME_HEADER_BYTES, HEADER_BYTES, PAGE_BYTES, LoggedPages
from einthoven.sqlcipher_page_file import FileBytes, PageFile
from einthoven.sqlcipher_pages import SQLITE_MAGIC, USABLE_BYTES, CipherPages, PageCipher
from einthoven.sqlite_btree import Lost, Row, walk
from einthoven.sqlite_pages import BytesInMemory, DamagedPage
from einthoven.sqlite_schema_pages import schema_of

FRAME_BYTES = FRAME_HEADER_BYTES + PAGE_BYTES
KEY = secrets.token_bytes(32)


@dataclass(frozen=True)
class Files:
    """A database and its log as bytes."""

    file: bytes
    log: bytes
    rows: list[tuple[int, bytes]]

    @property
    def salt(self) -> bytes:
        return self.file[:16]


def connect(path: Path) -> dbapi2.Connection:
    connection = dbapi2.connect(str(path), isolation_level=None)
    connection.execute("PRAGMA cipher_log_level = NONE")
    connection.execute(f"PRAGMA key = \"x'{KEY.hex()}'\"")
    return connection


def write(connection: dbapi2.Connection, first: int, count: int) -> None:
    connection.execute("BEGIN")
    for number in range(first, first + count):
        connection.execute("INSERT INTO kept VALUES (?, ?)", (number, bytes([number % 256]) * (number * 37 % 9_000)))
    connection.execute("COMMIT")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """40 rows in the file, then 6 transactions of 5 rows in the log, one of which changes old rows."""
    path = tmp_path_factory.mktemp("pages") / "store.db"
    with closing(connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute("CREATE TABLE kept (number INTEGER PRIMARY KEY, content BLOB NOT NULL)")
        write(connection, 0, 40)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        for batch in range(6):
            write(connection, 40 + 5 * batch, 5)
        connection.execute("UPDATE kept SET content = x'00' WHERE number < 3")
        log = path.with_name("store.db-wal").read_bytes()
        rows = connection.execute("SELECT * FROM kept ORDER BY number").fetchall()
        return Files(path.read_bytes(), log, rows)


def pages_of(files: Files, *, file: bytes | None = None, log: bytes | None = None, key: bytes = KEY) -> CipherPages:
    cipher = PageCipher(key, files.salt)
    log = files.log if log is None else log
    logged = LoggedPages(BytesInMemory(log), cipher.proves)
    return CipherPages(BytesInMemory(files.file if file is None else file), cipher, logged)


def rows_of(pages: CipherPages) -> tuple[list[tuple[int | None, object]], list[Lost]]:
    entered: set[int] = set()
    entries, lost = schema_of(pages, entered)
    rows = []
    for entry in entries:
        for found in walk(pages, entry.root, entered):
            if isinstance(found, Row):
                rows.append((found.rowid, found.values[1]))
            else:
                lost.append(found)
    return rows, lost


def test_file_and_log_together_are_what_sqlcipher_reads(files: Files) -> None:
    assert rows_of(pages_of(files)) == (files.rows, [])


def test_without_its_log_the_file_is_as_it_was_before(files: Files) -> None:
    rows, lost = rows_of(pages_of(files, log=b""))
    assert (len(rows), lost) == (40, [])
    assert rows[1][1] != files.rows[1][1]


def test_decrypted_pages_are_a_sqlite_file(files: Files, tmp_path: Path) -> None:
    """The oracle is SQLite itself, which opens the pages with room reserved at their ends."""
    pages = pages_of(files)
    plain = tmp_path / "plain.db"
    content = b"".join(pages.page(number).ljust(PAGE_BYTES, b"\0") for number in range(1, pages.n_pages + 1))
    plain.write_bytes(content[:18] + b"\x01\x01" + content[20:])
    assert content.startswith(SQLITE_MAGIC)
    with closing(sqlite3.connect(plain)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("SELECT * FROM kept ORDER BY number").fetchall() == files.rows


def test_one_wrong_bit_anywhere_in_a_page_is_found(files: Files) -> None:
    chance = random.Random(1)
    cipher = PageCipher(KEY, files.salt)
    for number in range(1, len(files.file) // PAGE_BYTES + 1):
        stored = files.file[(number - 1) * PAGE_BYTES : number * PAGE_BYTES]
        first = 16 if number == 1 else 0
        for place in (first, USABLE_BYTES, PAGE_BYTES - 64, PAGE_BYTES - 1, chance.randrange(first, PAGE_BYTES)):
            flipped = bytearray(stored)
            flipped[place] ^= 1 << chance.randrange(8)
            with pytest.raises(DamagedPage, match=f"page {number} "):
                cipher.decrypt(number, bytes(flipped))


def test_a_page_in_another_place_or_under_another_key_or_salt_is_none(files: Files) -> None:
    cipher = PageCipher(KEY, files.salt)
    second = files.file[PAGE_BYTES : 2 * PAGE_BYTES]
    assert cipher.proves(2, second)
    assert not cipher.proves(3, second)
    assert not cipher.proves(2, bytes(PAGE_BYTES))
    assert not cipher.proves(2, second[:-1])
    assert not cipher.proves(2**32 + 2, second)
    assert not PageCipher(secrets.token_bytes(32), files.salt).proves(2, second)
    assert not PageCipher(KEY, bytes(16)).proves(2, second)


def test_what_is_no_key_or_salt_is_refused() -> None:
    with pytest.raises(KeyUnavailable):
        PageCipher(b"short", bytes(16))
    with pytest.raises(ValueError, match="16 bytes"):
        PageCipher(KEY, b"")


def test_a_wrong_salt_at_the_front_shows_and_spoils_nothing_where_the_right_one_is_known(files: Files) -> None:
    pages = pages_of(files, file=bytes(16) + files.file[16:])
    assert pages.salt_differs(files.salt)
    assert not pages_of(files).salt_differs(files.salt)
    assert rows_of(pages) == (files.rows, [])


def test_pages_that_are_not_there_are_damaged(files: Files) -> None:
    n_pages = len(files.file) // PAGE_BYTES
    cut = pages_of(files, file=files.file[: -PAGE_BYTES - 7], log=b"")
    assert (cut.n_pages, cut.n_present, cut.n_file_bytes) == (n_pages, n_pages - 1, len(files.file) - PAGE_BYTES - 7)
    for number in (n_pages - 1, n_pages):
        with pytest.raises(DamagedPage, match="cut off"):
            cut.page(number)
    for number in (0, n_pages + 1):
        with pytest.raises(DamagedPage, match="does not exist"):
            cut.page(number)


def test_without_page_1_the_file_has_the_pages_that_it_has_room_for(files: Files) -> None:
    pages = pages_of(files, file=bytes(PAGE_BYTES) + files.file[PAGE_BYTES:], log=b"")
    assert pages.n_pages == len(files.file) // PAGE_BYTES


def frames_of(log: bytes) -> int:
    return (len(log) - HEADER_BYTES) // FRAME_BYTES


def test_a_wrong_frame_spoils_its_page_and_no_later_transaction(files: Files) -> None:
    """SQLite would drop everything from that frame on."""
    cipher = PageCipher(KEY, files.salt)
    spoiled = 0
    # The last transaction's frames are left: one that is not whole does not count.
    for frame in range(0, frames_of(files.log) - 12, 2):
        for place in (4, 8, 16):
            log = bytearray(files.log)
            log[HEADER_BYTES + frame * FRAME_BYTES + place] ^= 4
            logged = LoggedPages(BytesInMemory(bytes(log)), cipher.proves)
            assert logged.damaged == ()
            assert rows_of(pages_of(files, log=bytes(log))) == (files.rows, [])
        log = bytearray(files.log)
        log[HEADER_BYTES + frame * FRAME_BYTES + FRAME_HEADER_BYTES + 100] ^= 4
        logged = LoggedPages(BytesInMemory(bytes(log)), cipher.proves)
        rows, lost = rows_of(pages_of(files, log=bytes(log)))
        assert not logged.ends_whole
        assert {place.page for place in lost} <= set(logged.damaged)
        assert set(rows) <= set(files.rows)
        if not logged.damaged:
            # A later frame of the same page is whole.
            assert rows == files.rows
        spoiled += len(logged.damaged)
    assert spoiled > 5


def test_a_last_transaction_that_is_not_whole_was_never_committed(files: Files) -> None:
    logged = LoggedPages(BytesInMemory(files.log[:-1]), PageCipher(KEY, files.salt).proves)
    assert (logged.damaged, logged.header_whole, logged.ends_whole) == ((), True, True)
    rows, lost = rows_of(pages_of(files, log=files.log[:-1]))
    assert lost == []
    assert [number for number, _ in rows] == list(range(70))
    assert rows != files.rows


def last_transaction(log: bytes) -> int:
    """Number of its first frame, from 0."""
    commits = [n for n in range(frames_of(log)) if int.from_bytes(frame_of(log, n)[4:8], "big")]
    return commits[-2] + 1


def frame_of(log: bytes, number: int) -> bytes:
    return log[HEADER_BYTES + number * FRAME_BYTES :][:FRAME_BYTES]


def test_an_old_page_under_a_new_frames_header_is_none_of_the_last_transaction(files: Files) -> None:
    """What a power cut leaves where the log lies over one of an earlier generation: each page proves itself."""
    cipher = PageCipher(KEY, files.salt)
    first = last_transaction(files.log)
    before = pages_of(files, log=files.log[: HEADER_BYTES + first * FRAME_BYTES])
    torn = 0
    for number in range(first, frames_of(files.log)):
        header = frame_of(files.log, number)[:FRAME_HEADER_BYTES]
        page = int.from_bytes(header[:4], "big")
        older = files.file[(page - 1) * PAGE_BYTES : page * PAGE_BYTES]
        if not older:
            continue
        assert cipher.proves(page, older)
        at = HEADER_BYTES + number * FRAME_BYTES
        log = files.log[:at] + header + older + files.log[at + FRAME_BYTES :]
        logged = LoggedPages(BytesInMemory(log), cipher.proves)
        assert (logged.damaged, logged.read_whole) == ((), True)
        assert rows_of(pages_of(files, log=log)) == rows_of(before)
        torn += 1
    assert torn


def test_a_wrong_frame_before_the_last_commit_has_sqlite_drop_what_was_committed(files: Files) -> None:
    cipher = PageCipher(KEY, files.salt)
    assert LoggedPages(BytesInMemory(files.log), cipher.proves).read_whole
    for place in (4, 8, 16, FRAME_HEADER_BYTES + 100):
        log = bytearray(files.log)
        log[HEADER_BYTES + place] ^= 4
        assert not LoggedPages(BytesInMemory(bytes(log)), cipher.proves).read_whole


def test_a_wrong_checksum_right_before_the_last_transaction_does_not_cost_that(files: Files) -> None:
    log = bytearray(files.log)
    log[HEADER_BYTES + (last_transaction(files.log) - 1) * FRAME_BYTES + 16] ^= 1
    assert rows_of(pages_of(files, log=bytes(log))) == (files.rows, [])


class PartlyRead(BytesInMemory):
    """Bytes of which one stretch can't be read."""

    def __init__(self, content: bytes, first: int, end: int) -> None:
        super().__init__(content)
        self._withheld = range(first, end)

    def read_at(self, position: int, n_bytes: int) -> bytes:
        if position < self._withheld.stop and position + n_bytes > self._withheld.start:
            return b""
        return super().read_at(position, n_bytes)


def test_a_frame_that_can_not_be_read_is_no_error_and_costs_no_later_one(files: Files) -> None:
    cipher = PageCipher(KEY, files.salt)
    for number in range(0, last_transaction(files.log), 3):
        at = HEADER_BYTES + number * FRAME_BYTES
        logged = LoggedPages(PartlyRead(files.log, at + 100, at + 200), cipher.proves)
        assert not logged.read_whole
        assert logged.n_pages == LoggedPages(BytesInMemory(files.log), cipher.proves).n_pages
        assert 0 not in logged
    spoiled = bytes([files.log[0] ^ 1]) + files.log[1:]
    assert not LoggedPages(PartlyRead(spoiled, HEADER_BYTES, HEADER_BYTES + 100), cipher.proves).header_whole


def test_a_spoiled_header_of_the_log_does_not_cost_the_log(files: Files) -> None:
    for place in (0, 3, 17, 30):
        log = bytearray(files.log)
        log[place] ^= 1
        logged = LoggedPages(BytesInMemory(bytes(log)), PageCipher(KEY, files.salt).proves)
        assert (logged.header_whole, logged.ends_whole) == (False, False)
        assert rows_of(pages_of(files, log=bytes(log))) == (files.rows, [])
        # Also where the one transaction in it is the last.
        only = next(n for n in range(frames_of(files.log)) if int.from_bytes(frame_of(files.log, n)[4:8], "big"))
        end = HEADER_BYTES + (only + 1) * FRAME_BYTES
        assert rows_of(pages_of(files, log=bytes(log[:end]))) == rows_of(pages_of(files, log=files.log[:end]))


def test_frames_of_an_earlier_generation_do_not_count(files: Files, tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(files.file)
    log_path = tmp_path / "store.db-wal"
    log_path.write_bytes(files.log)
    with closing(connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(RESTART)")
        connection.execute("DELETE FROM kept WHERE number = 69")
        expected = connection.execute("SELECT * FROM kept ORDER BY number").fetchall()
        now = Files(path.read_bytes(), log_path.read_bytes(), expected)
        assert len(now.log) == len(files.log)
        logged = LoggedPages(BytesInMemory(now.log), PageCipher(KEY, now.salt).proves)
        assert 0 < logged.n_frames < 20
        assert logged.ends_whole
        assert rows_of(pages_of(now)) == (expected, [])


def test_a_log_without_a_commit_or_without_anything_says_nothing(files: Files) -> None:
    for log in (b"", b"x" * 31, files.log[:HEADER_BYTES], b"\xff" * 40, files.log[: HEADER_BYTES + FRAME_BYTES - 1]):
        logged = LoggedPages(BytesInMemory(log), lambda _number, _stored: False)
        assert (logged.n_pages, logged.damaged, 1 in logged) == (0, (), False)
        assert logged.stored(1) is None


@given(st.binary(max_size=3 * FRAME_BYTES), st.booleans())
def test_any_log_is_read_without_an_error(noise: bytes, proved: bool) -> None:
    logged = LoggedPages(BytesInMemory(noise), lambda _number, _stored: proved)
    assert len(logged.damaged) <= logged.n_frames <= 3


def test_a_file_that_is_not_there_or_not_to_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(StoreIOError, match=r"store\.db can't be read"):
        PageFile(tmp_path / "store.db")


def test_a_place_of_the_disk_that_can_not_be_read_is_not_there(tmp_path: Path) -> None:
    """A folder opens like a file, and every read of it is refused by the kernel."""
    folder = FileBytes(tmp_path)
    assert folder.read_at(0, 16) == b""
    assert not folder.reads_after_all()
    folder.close()
    folder.close()


def test_a_log_that_can_not_be_opened_is_not_taken_for_none(files: Files, tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(files.file)
    log = tmp_path / "store.db-wal"
    log.symlink_to(log.name)  # opening it is refused by the kernel
    with (
        PageFile(path) as file,
        pytest.raises(StoreIOError, match=r"store\.db-wal can't be read"),
        file.pages(FileKey(KEY, files.salt)),
    ):
        pytest.fail("its log was left out")
