"""Plain SQLite files of many shapes, as pages: what the reader of the format is held to, `sqlite3` being the oracle."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing

from einthoven.sqlite_pages import DamagedPage

MISSING = "was taken away"


class PlainPages:
    """Pages of an unencrypted file in memory; ``damaged`` ones are not given out."""

    def __init__(self, content: bytes, damaged: frozenset[int] = frozenset()) -> None:
        self.content = content
        self.damaged = damaged
        self.page_bytes = int.from_bytes(content[16:18], "big")
        if self.page_bytes == 1:
            self.page_bytes = 65_536
        self.n_pages = self.n_present = len(content) // self.page_bytes
        self.usable_bytes = self.page_bytes - content[20]

    def page(self, number: int) -> bytes:
        if number in self.damaged or not 1 <= number <= self.n_pages:
            raise DamagedPage(number, MISSING)
        return self.content[(number - 1) * self.page_bytes :][: self.usable_bytes]


def plain_file(seed: int, *, page_bytes: int = 4_096, rows: int = 400, longest: int = 9_000) -> bytes:
    """A database with a rowid table, a WITHOUT ROWID table, an index and a freelist."""
    chance = random.Random(seed)
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.execute(f"PRAGMA page_size = {page_bytes}")
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("CREATE TABLE mixed (a INTEGER PRIMARY KEY, b BLOB, c TEXT, d REAL, e)")
        connection.execute("CREATE TABLE keyed (x TEXT, y INTEGER, z BLOB, PRIMARY KEY (y, x)) WITHOUT ROWID")
        connection.execute("CREATE INDEX by_c ON mixed (c)")
        for number in range(rows):
            lengths = (0, 1, 40, 200, longest)
            values = (
                chance.randrange(-(2**63), 2**63) >> chance.randrange(60),
                chance.randbytes(chance.choice(lengths)),
                "é" * chance.randrange(40),
                chance.choice([None, 1.5, 3.0, -0.0, 1e300]),
                chance.choice([None, 0, 1, -1, 127, 2**15, -(2**23), 2**31, 2**47, -(2**63), "x", b"y", 2.5]),
            )
            connection.execute("INSERT OR IGNORE INTO mixed VALUES (?, ?, ?, ?, ?)", values)
            key = chance.randrange(2 ** chance.randrange(1, 62))
            blob = chance.randbytes(chance.choice(lengths))
            connection.execute("INSERT OR IGNORE INTO keyed VALUES (?, ?, ?)", (str(number), key, blob))
        connection.execute("DELETE FROM mixed WHERE a % 3 = 0")
        connection.execute("DELETE FROM keyed WHERE y % 7 = 0")
        return connection.serialize()


def query(content: bytes, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.deserialize(content)
        return connection.execute(sql).fetchall()
