"""Whether a key opens a store's file, and where that file then stands; nothing is written and nothing left behind.

It deliberately unwraps no key and mends nothing.

Invariants:
    1. Whatever the outcome, the file and everything beside it keep their bytes.
    2. A file that was proved is a store of a version that is known, whole in length, and says where it stands.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from sqlcipher3 import dbapi2

from einthoven.errors import StoreDamaged, WrongKey
from einthoven.rollback import StoredState
from einthoven.sqlcipher_connection import DAMAGED_REMEDY, PAGE_BYTES, FileKey, read_unchanged, side_files
from einthoven.sqlcipher_log import LoggedPages
from einthoven.sqlcipher_page_file import FileBytes
from einthoven.sqlcipher_pages import PageCipher
from einthoven.sqlcipher_rows import SqlCipherRows
from einthoven.store_schema import APPLICATION_ID, FIRST_TAGGED_VERSION, check_version

_FIRST_COMMIT = 1


class OtherDatabase(WrongKey):
    """The key opens the file, and it is not ours: there is nothing to mend."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What a file says once its key is proved.

    Attributes:
        version: Of its tables.
        state: Where it stands; ``None`` for version 1, which does not say.
        integrity_key: 32 bytes; empty for version 1.
    """

    version: int
    state: StoredState | None
    integrity_key: bytes


def prove(path: Path, key: FileKey) -> Proof:
    """Open a file for reading only, and ask it where it stands.

    Raises:
        WrongKey: The key does not open it, or it is no store.
        StoreTooNew: A newer version wrote it.
        StoreDamaged: It opens, but what was read is not what was written, or part of it is missing.
        StoreIOError: In one of its other kinds.
        OSError: It can't be looked at.
    """
    log = side_files(path)[0]
    # Half a page at the end is one that was being moved out of the log; without a log, the file was cut off. SQLite
    # sees missing pages by itself but rounds half a page up.
    cut_off = path.stat().st_size % PAGE_BYTES and not (log.exists() and log.stat().st_size)
    proof = read_unchanged(path, key, _reader(path.name))
    if cut_off:
        raise StoreDamaged(f"{path.name} was cut off", DAMAGED_REMEDY)
    return proof


def prove_twice(path: Path, key: FileKey) -> Proof:
    """As ``prove``; what it finds wrong is looked at again, for SQLite calls one failed read damage.

    Raises:
        StoreError: As ``prove``.
        OSError: It can't be looked at.
    """
    try:
        return prove(path, key)
    except (StoreDamaged, WrongKey):
        return prove(path, key)


def state_of(rows: SqlCipherRows) -> StoredState:
    """Where a store stands, and whether anything was written to it.

    Raises:
        StoreDamaged: It does not say.
    """
    (last_counter,) = rows.connection.execute("SELECT ifnull(max(last_counter), 0) FROM epoch").fetchone()
    return replace(rows.state(), pristine=rows.commit_seq <= _FIRST_COMMIT and last_counter == 0)


def pages_prove(path: Path, key: FileKey) -> bool:
    """Whether some page of a file, or of its log, was written under this key: then it is ours, and damaged.

    Raises:
        OSError: It can't be read.
    """
    cipher = PageCipher(key.data_key, key.salt)
    file = FileBytes(path)
    try:
        numbers = range(1, file.n_bytes // PAGE_BYTES + 1)
        return any(cipher.proves(number, file.read_at((number - 1) * PAGE_BYTES, PAGE_BYTES)) for number in numbers)
    finally:
        file.close()


def log_is_whole(path: Path, key: FileKey) -> bool:
    """Whether a file's log is one that a crash may leave; true if there is none.

    SQLite drops a log from its first wrong byte on, and with it commits that were acknowledged.

    Raises:
        OSError: It can't be read.
    """
    try:
        log = FileBytes(side_files(path)[0])
    except FileNotFoundError:
        return True
    try:
        return LoggedPages(log, PageCipher(key.data_key, key.salt).proves).ends_whole
    finally:
        log.close()


def _reader(file_name: str) -> Callable[[dbapi2.Connection], Proof]:
    def read(connection: dbapi2.Connection) -> Proof:
        (application_id,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if application_id != APPLICATION_ID:
            raise OtherDatabase(f"{file_name} is a database of another application", "name another file")
        check_version(version, file_name)
        if version < FIRST_TAGGED_VERSION:
            return Proof(version, None, b"")
        rows = SqlCipherRows(connection)
        return Proof(version, state_of(rows), rows.integrity_key)

    return read
